"""The recorded program: a straight line of elementwise operations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeGuard

UNARY = ("negative", "abs", "sqrt", "exp", "expm1", "log", "log1p", "tanh", "logistic")
BINARY = ("add", "subtract", "multiply", "divide", "maximum", "minimum")
COMPARISON = ("greater", "greater_equal", "less", "less_equal", "logical_and")  # their results are for `where` alone
TERNARY = ("where",)
ELEMENTWISE = frozenset((*UNARY, *BINARY, *COMPARISON, *TERNARY))
FLAGS = frozenset(COMPARISON)
SIGNS = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/"}  # as a program is printed
# What isn't elementwise:
MEAN = "mean_over_units"  # of one operand; one number for each row of the batch
INNER = "inner"  # the product of an inner gate, named by `Value.name`, with the operand
INNER_BACKWARD = "inner_backward"  # the gradients of the inner gates' products, the operands, taken back through it
PRODUCTS = (INNER, INNER_BACKWARD)


@dataclass(frozen=True)
class Constant:
    """A number in a program. A class of its own, because 1.0 would equal the index 1."""

    number: float


Operand = int | Constant  # an int is the index of a value


def is_value(operand: Operand | None) -> TypeGuard[int]:
    """Whether an operand is a value, not a constant."""
    return isinstance(operand, int)


def values_of(operands: Iterable[Operand]) -> set[int]:
    """Return the values among operands."""
    return set(filter(is_value, operands))


@dataclass(frozen=True)
class Value:
    """One value of a program: an input by its name, or an operation on earlier values and constants."""

    operation: str  # "input" or one of the words above
    operands: tuple[Operand, ...] = ()
    name: str = ""  # of an input or an inner gate
    gates: tuple[str, ...] = ()  # of INNER_BACKWARD: whose gradients the operands are

    @property
    def reads(self) -> list[int]:
        """The values among its operands, as often as they are there."""
        return list(filter(is_value, self.operands))


@dataclass(frozen=True)
class Program:
    """A straight line of elementwise operations.

    Attributes
    ----------
    values : tuple of Value
        In an order in which each needs only earlier ones; an int operand is a place in this tuple.
    outputs : dict of str to Operand
        The results by dotted name.

    Examples
    --------
    >>> from recurray.cells import RNNCell
    >>> from recurray.program import record
    >>> print(record(RNNCell()).step)
    v3 = x.a + h.a
    v4 = tanh(v3)
    after.h = v4
    saved.y = v4
    """

    values: tuple[Value, ...]
    outputs: Mapping[str, Operand]

    def __str__(self) -> str:
        lines = [f"v{k} = {self._expression(self.values[k])}" for k in self.computed()]
        return "\n".join(lines + [f"{name} = {self._word(operand)}" for name, operand in self.outputs.items()])

    def _expression(self, value: Value) -> str:
        words = [self._word(operand) for operand in value.operands]
        if value.operation in SIGNS:
            return f" {SIGNS[value.operation]} ".join(words)
        gates = " ".join([value.name, *value.gates]).strip()
        return f"{value.operation}({', '.join(words)})" + (f"  # {gates}" if gates else "")

    def _word(self, operand: Operand) -> str:
        if isinstance(operand, Constant):
            return repr(operand.number)
        return self.values[operand].name if self.values[operand].operation == "input" else f"v{operand}"

    def find(self, name: str) -> int:
        """Return the index of an input, -1 if the program has none of that name."""
        return next((k for k, value in enumerate(self.values) if value.operation == "input" and value.name == name), -1)

    def inputs_of(self, group: str) -> dict[str, int]:
        """Return the inputs "<group>.<name>" by name."""
        names = {value.name: k for k, value in enumerate(self.values) if value.operation == "input"}
        return {name.removeprefix(f"{group}."): k for name, k in names.items() if name.startswith(f"{group}.")}

    def outputs_of(self, group: str) -> dict[str, Operand]:
        """Return the outputs "<group>.<name>" by name."""
        return {name.removeprefix(f"{group}."): a for name, a in self.outputs.items() if name.startswith(f"{group}.")}

    def uses(self) -> list[int]:
        """Return how many operands refer to each value."""
        counts = [0] * len(self.values)
        for value in self.values:
            for operand in value.reads:
                counts[operand] += 1
        return counts

    def inputs_read(self) -> list[str]:
        """Return the names of the inputs that an operation reads, or that are outputs as they are."""
        used = values_of(self.outputs.values()).union(*(value.reads for value in self.values))
        return [value.name for k, value in enumerate(self.values) if value.operation == "input" and k in used]

    def read_by(self, values: Iterable[int]) -> set[int]:
        """Return the values that ``values`` read."""
        return {operand for k in values for operand in self.values[k].reads}

    def computed(self) -> list[int]:
        """Return the values that are no inputs, in order."""
        return [k for k, value in enumerate(self.values) if value.operation != "input"]

    def needed(self, results: Iterable[Operand]) -> set[int]:
        """Return the values that ``results`` need, themselves included."""
        found = values_of(results)
        for k in reversed(range(len(self.values))):
            if k in found:
                found.update(self.values[k].reads)
        return found

    def dependents(self, sources: Iterable[int]) -> set[int]:
        """Return the values that depend on ``sources``, themselves included."""
        found = set(sources)
        for k, value in enumerate(self.values):
            if not found.isdisjoint(value.reads):
                found.add(k)
        return found
