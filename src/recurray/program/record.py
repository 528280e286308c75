"""Recording a cell: called once with symbolic arrays, its step becomes a program of elementwise operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from recurray.cells.cell import Cell, named
from recurray.cells.contract import checked_gradients, checked_step
from recurray.cells.wrapper import WrapperCell
from recurray.program.ir import (
    BINARY,
    COMPARISON,
    INNER,
    INNER_BACKWARD,
    MEAN,
    TERNARY,
    UNARY,
    Constant,
    Operand,
    Program,
    Value,
)

_OF_NUMPY = {name: name for name in (*BINARY[:3], *COMPARISON)} | {"true_divide": "divide", "divide": "divide"}


class RecordingError(TypeError):
    """A cell's step does something other than elementwise arithmetic on its arguments."""


@dataclass(frozen=True)
class Recording:
    """What a cell does.

    Attributes
    ----------
    step : Program
        Inputs "x.<gate or draw>", "h.<outer gate>", "before.<state>", "params.<name>.<row>"; outputs "after.<state>",
        "saved.<name>", and "inner" where there are inner gates.
    step_backward : Program
        Inputs "d.<state>", "saved.<name>", "before.<state>", "params.<name>.<row>"; outputs as `CellGradients`:
        "x.<gate>", "h.<gate>", "before.<state>", "params.<name>.<row>".
    """

    step: Program
    step_backward: Program

    @property
    def reads_output(self) -> bool:
        """Whether a step, forward or backward, computes with the output before it unit by unit, as inner gates do."""
        programs = self.step, self.step_backward
        outputs = {*self.step.outputs, *self.step_backward.outputs}
        return any("before.h" in program.inputs_read() for program in programs) or bool({"inner", "before.h"} & outputs)


@lru_cache(maxsize=256)
def record(cell: Cell) -> Recording:
    """Record what ``cell`` does.

    Raises
    ------
    RecordingError
        The cell branches on values, reduces, indexes, or calls a function that isn't elementwise.
    ValueError
        What the cell returns doesn't have the names that the cell declares.
    """
    if isinstance(cell, WrapperCell):  # so that an error names the cell that it is about
        try:
            record(cell.cell)
        except RecordingError as error:
            raise RecordingError(f"in {type(cell.cell).__name__}, {error}") from None
    tape = Tape()
    before, params = tape.inputs("before", cell.states), _params(tape, cell)
    x = tape.inputs("x", (*cell.input_gates, *cell.draws))
    h = tape.inputs("h", cell.outer_gates)
    inner = {}
    if cell.inner_gates:
        inner["inner"] = cell.inner(x, h, before, params)
        products = {gate: tape.add(Value(INNER, (tape.operand(inner["inner"]),), gate)) for gate in cell.inner_gates}
        h = named((*cell.outer_gates, *cell.inner_gates))(*h, *products.values())
    after, saved = checked_step(cell, x, h, before, params)
    step = tape.program({"after": after, "saved": saved, "": inner})

    tape = Tape()
    d, kept = tape.inputs("d", cell.states), tape.inputs("saved", tuple(saved))
    before, params = tape.inputs("before", cell.states), _params(tape, cell)

    def through_inner(dh: Mapping[str, Any]) -> Symbol:
        operands = tuple(tape.operand(dh[gate]) for gate in cell.inner_gates)
        return tape.add(Value(INNER_BACKWARD, operands, gates=cell.inner_gates))

    grads = checked_gradients(cell, d, kept, before, params, through_inner)
    outputs = {"x": grads.x, "h": grads.h, "before": grads.before}
    outputs |= {f"params.{name}": rows for name, rows in grads.params.items()}
    return Recording(step, tape.program(outputs))


def record_formula(
    formula: Callable[[Mapping[str, Any], Any], Mapping[str, Any]], arrays: Sequence[str], numbers: Sequence[str]
) -> Program:
    """Record a formula of arrays by name and of numbers, see `recurray.elementwise`.

    Returns
    -------
    program : Program
        Inputs "arrays.<name>" and "numbers.<name>"; outputs by the formula's own names.

    Raises
    ------
    RecordingError
        The formula isn't elementwise.
    """
    tape = Tape()
    given = tape.inputs("arrays", tuple(arrays))._asdict()
    return tape.program({"": formula(given, tape.inputs("numbers", tuple(numbers)))})


def _params(tape: Tape, cell: Cell) -> Any:
    rows = (tape.inputs(f"params.{name}", row_names) for name, row_names in cell.pointwise.items())
    return named(tuple(cell.pointwise))(*rows)


class Tape:
    """Collects values; equal operations on equal operands are one value."""

    def __init__(self) -> None:
        self.values: dict[Value, int] = {}

    def add(self, value: Value) -> Symbol:
        """Return what stands for a value."""
        return Symbol(self, self.values.setdefault(value, len(self.values)))

    def inputs(self, group: str, names: tuple[str, ...]) -> Any:
        """Return a group of inputs, as a cell gets it."""
        return named(names)(*(self.add(Value("input", name=f"{group}.{name}")) for name in names))

    def operand(self, thing: Any) -> Operand:
        """Return what a symbol or a number is in the program."""
        if isinstance(thing, Symbol):
            if thing.tape is not self:
                raise RecordingError("a value from another call was used: a cell must keep nothing between calls")
            return thing.index
        if isinstance(thing, (int, float)) and not isinstance(thing, bool):
            return Constant(float(thing))
        raise RecordingError(f"a step may combine its arguments with numbers alone, not with {type(thing).__name__}")

    def program(self, outputs: Mapping[str, Mapping[str, Any]]) -> Program:
        """Return all that was recorded, with outputs by group and name."""
        found = {
            f"{group}.{name}".removeprefix("."): self.operand(value)
            for group, members in outputs.items()
            for name, value in members.items()
        }
        return Program(tuple(self.values), found)


class Symbol:
    """Stands for an array while a cell is recorded."""

    __slots__ = ("index", "tape")

    def __array_ufunc__(self, ufunc: Any, method: str, *operands: Any, **options: Any) -> Any:
        """Take arithmetic with NumPy's numbers, and refuse its functions, which would tie the cell to NumPy."""
        if ufunc.__name__ in _OF_NUMPY and method == "__call__" and not options:
            return _apply(_OF_NUMPY[ufunc.__name__], *operands)
        raise _foreign(f"numpy.{ufunc.__name__}")

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        raise _foreign(f"numpy.{function.__name__}")

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise _foreign(f"torch.{getattr(function, '__name__', function)}")

    def __float__(self) -> float:
        raise _foreign("a function of Python's numbers")

    __int__ = __index__ = __complex__ = __float__

    def __len__(self) -> int:
        raise RecordingError("a step is elementwise arithmetic: it can't ask for an array's length")

    def __iter__(self) -> Any:
        raise RecordingError("a step is elementwise arithmetic: it can't iterate over an array")

    def __init__(self, tape: Tape, index: int) -> None:
        self.tape = tape
        self.index = index

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return SYMBOLIC

    def __bool__(self) -> bool:
        raise RecordingError("a step can't branch on values: use where(condition, a, b)")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise RecordingError(f"a step is elementwise arithmetic: it can't use an array's {name!r}")

    def __getitem__(self, key: Any) -> Any:
        raise RecordingError("a step is elementwise arithmetic: it can't index")

    def __neg__(self) -> Symbol:
        return _apply("negative", self)

    def __abs__(self) -> Symbol:
        return _apply("abs", self)

    def __pow__(self, exponent: Any) -> Symbol:
        if exponent != 2:
            raise RecordingError(f"of the powers a step may use ** 2 alone, not ** {exponent!r}")
        return _apply("multiply", self, self)


def _foreign(function: str) -> RecordingError:
    return RecordingError(
        f"a step can't call {function}: use arithmetic, recurray.arrays.tanh and sigmoid, "
        "and the functions of recurray.arrays.namespace_of(a)"
    )


def _apply(operation: str, *operands: Any) -> Symbol:
    tape = next(operand.tape for operand in operands if isinstance(operand, Symbol))
    return tape.add(Value(operation, tuple(tape.operand(operand) for operand in operands)))


def _function(operation: str) -> Callable[..., Any]:
    return lambda *operands: _apply(operation, *operands)


def _clip(a: Symbol, least: Any, most: Any) -> Symbol:
    if least is not None:
        a = _apply("maximum", a, least)
    return a if most is None else _apply("minimum", a, most)


class _Namespace:
    """The functions of the array API that a step may use."""

    def __init__(self) -> None:
        for name in (*UNARY, *BINARY, *COMPARISON, *TERNARY, MEAN):
            setattr(self, name, _function(name))
        self.clip = self.clamp = _clip
        self.square = lambda a: _apply("multiply", a, a)
        self.zeros_like = lambda a: 0.0
        self.ones_like = lambda a: 1.0

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # Python's own questions
            raise AttributeError(name)
        if name == "sigmoid":
            raise RecordingError("use recurray.arrays.sigmoid")
        raise RecordingError(f"a step is elementwise arithmetic: it can't call {name!r}")


SYMBOLIC = _Namespace()

for _method, _operation in {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "divide",
    "gt": "greater",
    "ge": "greater_equal",
    "lt": "less",
    "le": "less_equal",
    "and": "logical_and",
}.items():
    setattr(Symbol, f"__{_method}__", lambda self, other, operation=_operation: _apply(operation, self, other))
    if _operation in BINARY:
        setattr(Symbol, f"__r{_method}__", lambda self, other, operation=_operation: _apply(operation, other, self))
