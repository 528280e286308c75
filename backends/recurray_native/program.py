"""From a recorded program to the instructions of the vector machine (`c/engine.h` says what they are).

Each segment of the program runs for all rows and units before the next. Within a segment, values live in registers,
tiles that stay in the processor's first-level cache; what a later segment reads is kept for all rows and units.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple, cast

from recurray.program import (
    INNER,
    MEAN,
    PRODUCTS,
    Constant,
    Operand,
    Program,
    Registers,
    Value,
    earliest_segments,
    is_value,
    parallel_copy,
)


class Kind(IntEnum):
    """Where an operand is; `enum Kind` of the engine."""

    TILE = 0
    WIDE = 1
    GATE = 2
    STATE = 3
    OUTPUT = 4
    PACKED = 5
    UNIT = 6
    SUM = 7
    GRADIENT = 8


OPERATIONS = (
    *("copy", "negative", "abs", "sqrt", "exp", "expm1", "log", "log1p", "tanh", "logistic"),
    *("add", "subtract", "multiply", "divide", "maximum", "minimum"),
    *("greater", "greater_equal", "less", "less_equal", "logical_and", "where"),
    *("multiply_add", "subtract_product", "multiply_three", "add_products", "subtract_ratio", "add_root"),
    *("add_product_of_three", "subtract_ratio_to_root"),
    *("add_up", "spread"),
)
# An operation, and what it is where one operand is a product: a b + c, c - a b, a b c.
FUSED = {"add": "multiply_add", "subtract": "subtract_product", "multiply": "multiply_three"}


@dataclass(frozen=True)
class Slot:
    """An operand: a kind of place, and which of that kind."""

    kind: Kind
    index: int


class Instruction(NamedTuple):
    """An operation from slots to a slot, all by number."""

    operation: int
    to: int
    a: int
    b: int
    c: int
    d: int
    e: int


@dataclass
class Code:
    """What the vector machine runs.

    Attributes
    ----------
    slots : list of Slot
    instructions : list of Instruction
    segment_ends : list of int
        Where in the instructions each segment ends.
    tiles, wides, sums : int
        How many places of these kinds there are.
    constants : list of float
        The numbers whose slots are units after the cell's own params.
    inner_segment, inner_slot : int
        After which segment the inner gates' product is made, and the slot that it is with, or backward goes to.
    """

    slots: list[Slot] = field(default_factory=list)
    instructions: list[Instruction] = field(default_factory=list)
    segment_ends: list[int] = field(default_factory=list)
    tiles: int = 0
    wides: int = 0
    sums: int = 0
    constants: list[float] = field(default_factory=list)
    inner_segment: int = -1
    inner_slot: int = 0


def fused(program: Program, results: Iterable[Operand]) -> Program:
    """Join what one operation alone reads with that, in one segment.

    That is products, a b + c, c - a b, a b c, a b + c d, a b + c d e; ratios of them, d - a b / c; roots, sqrt(a) + b;
    and d - a b / (sqrt(c) + e).
    """
    kept = program.needed(results)
    uses = Counter([*(operand for k in kept for operand in program.values[k].operands), *results])
    segment, values = earliest_segments(program), list(program.values)

    def joined(operand: Operand, reader: int, operation: str = "multiply") -> tuple[Operand, ...] | None:
        if isinstance(operand, Constant) or values[operand].operation != operation:
            return None
        return values[operand].operands if uses[operand] == 1 and segment[operand] == segment[reader] else None

    for k in sorted(kept):
        value = values[k]
        if value.operation not in FUSED:
            continue
        first, second = value.operands
        if (factors := joined(second, k)) is not None:
            others = joined(first, k) if value.operation == "add" else None
            values[k] = Value(
                *(("add_products", factors + others) if others else (FUSED[value.operation], (*factors, first)))
            )
        elif value.operation != "subtract" and (factors := joined(first, k)) is not None:
            three = joined(second, k, "multiply_three") if value.operation == "add" else None
            values[k] = Value(
                *(("add_product_of_three", factors + three) if three else (FUSED[value.operation], (*factors, second)))
            )
        elif value.operation == "subtract" and (ratio := joined(second, k, "divide")) is not None:
            if (factors := joined(ratio[0], k)) is not None:
                root = joined(ratio[1], k, "add_root")
                values[k] = Value(
                    *(
                        ("subtract_ratio_to_root", (*factors, root[0], first, root[1]))
                        if root
                        else ("subtract_ratio", (*factors, ratio[1], first))
                    )
                )
        elif value.operation == "add" and (root := joined(first, k, "sqrt")) is not None:
            values[k] = Value("add_root", (*root, second))
    return Program(tuple(values), program.outputs)


class Translation:
    """The translation of a program, `code`.

    Parameters
    ----------
    program : Program
    inputs : mapping of str to Slot
        Where its inputs are, by name.
    outputs : list of (operand, Slot)
        What must be where at the end. A slot may be an input's STATE, which is written over after its last use.
    params : int
        How many slots of the kind UNIT are the cell's own.
    gates : mapping of str to Slot
        The inner gates: forward where their products are, backward where the gradients of these must be.
    inner : Slot, optional
        The inner product's operand; backward, that operand's gradient. A place of its own if omitted.
    """

    def __init__(
        self,
        program: Program,
        inputs: Mapping[str, Slot],
        outputs: list[tuple[Operand, Slot]],
        *,
        params: int,
        gates: Mapping[str, Slot],
        inner: Slot | None = None,
    ) -> None:
        results = [operand for operand, _ in outputs]
        program = fused(program, results)
        self.values, self.params, self.gates = program.values, params, gates
        self.code = Code()
        self.numbers: dict[Slot, int] = {}
        self.order = sorted(program.needed(results))
        self.segments = earliest_segments(program)  # in which each value can be read
        self.last = max((self.segments[k] for k in self.order), default=0)
        self.early: list[tuple[Operand, Slot]] = []  # inputs to be copied before anything is written over
        self.ends: list[list[tuple[Operand, Slot]]] = [[] for _ in range(self.last + 1)]  # copies that end segments
        self.sums: dict[int, Slot] = {}  # of the means
        self.homes = {k: inputs[self.values[k].name] for k in self.order if self._is(k, "input")}
        self._place_inner(inner)
        self._place_outputs(outputs)
        self._place_in_states()
        self._place_wide()
        for segment in range(self.last + 1):
            self._write(segment)
        if inner is not None and self.code.inner_segment >= 0:
            self.code.inner_slot = self._number(inner)
        self.code.slots = list(self.numbers)

    def _is(self, value: int, *operations: str) -> bool:
        return self.values[value].operation in operations

    def _computed_in(self, value: int) -> int:
        """The segment that computes a value; for a mean that is the sum."""
        return self.segments[value] - self._is(value, MEAN)

    # Where values live that are not in a register of their segment alone

    def _place(self, operand: Operand, slot: Slot, segment: int) -> None:
        """Have a value in a slot by the end of a segment: it is computed there, or copied if it is elsewhere."""
        if isinstance(operand, Constant) or operand in self.homes or self._is(operand, MEAN):
            self.ends[segment].append((operand, slot))
        else:
            self.homes[operand] = slot

    def _place_inner(self, inner: Slot | None) -> None:
        place = cast(Slot, inner)  # where there are inner gates there is one
        for value in self.order:
            if self._is(value, *PRODUCTS):
                first = self.code.inner_segment < 0  # all inner gates come from one product
                self.code.inner_segment = segment = self.segments[value] - 1
                operands = self.values[value].operands
                if self._is(value, INNER):
                    self.homes[value] = self.gates[self.values[value].name]
                    if first:
                        self._place(operands[0], place, segment)
                else:
                    self.homes[value] = place
                    for operand, gate in zip(operands, self.values[value].gates, strict=True):
                        self._place(operand, self.gates[gate], segment)
        if inner is not None and inner.kind == Kind.WIDE:
            self.code.wides = inner.index + 1

    def _place_outputs(self, outputs: list[tuple[Operand, Slot]]) -> None:
        taken = {slot for slots in self.ends for _, slot in slots}
        taken |= {slot for value, slot in self.homes.items() if not self._is(value, "input")}
        for operand, slot in outputs:
            if slot.kind == Kind.STATE:
                self.ends[self.last].append((operand, slot))
            elif slot in taken:  # what has to do with the inner gates is placed by now
                continue
            elif is_value(operand) and self._is(operand, "input"):
                self.early.append((operand, slot))
            else:
                self._place(operand, slot, self.last)

    def _place_in_states(self) -> None:
        """What the last segment computes can go to a state at once, if nothing reads the state thereafter."""
        occupants = {slot: value for value, slot in self.homes.items()}
        for operand, slot in list(self.ends[self.last]):
            if slot.kind != Kind.STATE or isinstance(operand, Constant) or operand in self.homes:
                continue
            occupant = occupants.get(slot)
            readers = [k for k in self.order if occupant in self.values[k].operands]
            is_copied = any(other == occupant for other, _ in self.ends[self.last])
            is_safe = occupant is None or (max(readers, default=-1) <= operand and not is_copied)
            if self.segments[operand] == self.last and not self._is(operand, MEAN) and is_safe:
                self.homes[operand] = slot
                self.ends[self.last].remove((operand, slot))

    def _place_wide(self) -> None:
        """What a later segment reads."""
        for value in self.order:
            readers = [self._computed_in(k) for k in self.order if value in self.values[k].operands]
            readers += [s for s, copies in enumerate(self.ends) for operand, _ in copies if operand == value]
            is_read_later = any(segment > self._computed_in(value) for segment in readers)
            if value not in self.homes and not self._is(value, MEAN) and is_read_later:
                self.homes[value] = Slot(Kind.WIDE, self.code.wides)
                self.code.wides += 1

    # Instructions

    def _write(self, segment: int) -> None:
        """Write a segment's instructions."""
        skipped = ("input", *PRODUCTS)
        order = [k for k in self.order if self._computed_in(k) == segment and not self._is(k, *skipped)]
        operands = [operand for k in order for operand in self.values[k].operands]
        self.registers = Registers[Slot]()
        self.registers.expect([*operands, *(operand for operand, _ in self.ends[segment])])
        for operand, slot in [] if segment else self.early:
            self._emit("copy", slot, [self._read(operand)])
        for k in order:
            operation, slots = self.values[k].operation, [self._read(operand) for operand in self.values[k].operands]
            self.registers.spend(self.values[k].operands)
            if operation == MEAN:
                operation, to = "add_up", Slot(Kind.SUM, self.code.sums)
                self.sums[k] = to
                self.code.sums += 1
            else:
                to = self.homes[k] if k in self.homes else self._tile_for(k)
            self._emit(operation, to, slots)
        copies = [(self._read(operand), slot) for operand, slot in self.ends[segment]]
        for source, slot in parallel_copy(copies, aside=lambda source: self._tile()):
            self._emit("copy", slot, [source])
        self.code.segment_ends.append(len(self.code.instructions))

    def _emit(self, operation: str, to: Slot, operands: list[Slot]) -> None:
        """Write an instruction."""
        a, b, c, d, e = ([self._number(slot) for slot in operands] + [0] * 5)[:5]
        self.code.instructions.append(Instruction(OPERATIONS.index(operation), self._number(to), a, b, c, d, e))

    def _number(self, slot: Slot) -> int:
        """The number of a slot."""
        return self.numbers.setdefault(slot, len(self.numbers))

    def _read(self, operand: Operand) -> Slot:
        """Where an operand is; a mean is first spread over the units."""
        if isinstance(operand, Constant):
            if operand.number not in self.code.constants:
                self.code.constants.append(operand.number)
            return Slot(Kind.UNIT, self.params + self.code.constants.index(operand.number))
        if operand in self.sums and operand not in self.registers.places:
            self._emit("spread", self._tile_for(operand), [self.sums[operand]])
        return self.registers.places[operand] if operand in self.registers.places else self.homes[operand]

    def _tile_for(self, value: int) -> Slot:
        """Put a value into a register that is free."""
        self.registers.put(value, self._tile())
        return self.registers.places[value]

    def _tile(self) -> Slot:
        """A register that is free."""

        def make() -> Slot:
            self.code.tiles += 1
            return Slot(Kind.TILE, self.code.tiles - 1)

        return self.registers.take(make)
