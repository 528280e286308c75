"""From a recorded program to the instructions of the vector machine (`c/engine.h` says what they are).

Values get stages. A mean over the units, or a product amid the step, needs all units of a row, so what depends on it
runs in the next stage. Within a stage, values live in registers, tiles that stay in the processor's first-level cache;
what a later stage reads is kept for all rows and units.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple, cast

from recurray.program import (
    INNER,
    INNER_BACKWARD,
    MEAN,
    Constant,
    Operand,
    Program,
    Registers,
    Value,
    earliest_segments,
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
    *("multiply_add", "subtract_product", "multiply_three", "add_up", "spread"),
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


@dataclass
class Code:
    """What the vector machine runs.

    Attributes
    ----------
    slots : list of Slot
    instructions : list of Instruction
    stage_ends : list of int
        Where in the instructions each stage ends.
    tiles, wides, sums : int
        How many places of these kinds there are.
    constants : list of float
        The numbers whose slots are units after the cell's own params.
    inner_stage, inner_slot : int
        After which stage the inner gates' product is made, and the slot that it is with, or backward goes to.
    """

    slots: list[Slot] = field(default_factory=list)
    instructions: list[Instruction] = field(default_factory=list)
    stage_ends: list[int] = field(default_factory=list)
    tiles: int = 0
    wides: int = 0
    sums: int = 0
    constants: list[float] = field(default_factory=list)
    inner_stage: int = -1
    inner_slot: int = 0


def translate(
    program: Program,
    inputs: Mapping[str, Slot],
    outputs: Iterable[tuple[Operand, Slot]],
    *,
    params: int,
    gates: Mapping[str, Slot],
    inner: Slot | None = None,
) -> Code:
    """Translate a program.

    Parameters
    ----------
    program : Program
    inputs : mapping of str to Slot
        Where its inputs are, by name.
    outputs : iterable of (operand, Slot)
        What must be where at the end. A slot may be an input's STATE, which is written over after its last use.
    params : int
        How many slots of the kind UNIT are the cell's own.
    gates : mapping of str to Slot
        The inner gates: forward where their products are, backward where the gradients of these must be.
    inner : Slot, optional
        Where what the inner gates' product is with must be, or where it goes backward; by itself if omitted.
    """
    return _Translation(program, inputs, list(outputs), params, gates, inner).code


def fused(program: Program, results: Iterable[int]) -> Program:
    """Make one operation of a product and the only operation that reads it, where the machine has one for both."""
    kept = program.needed(results)
    uses = Counter(operand for k in kept for operand in program.values[k].operands)
    uses.update(results)
    stage, values = earliest_segments(program), list(program.values)

    def product(operand: Operand, reader: int) -> tuple[Operand, ...] | None:
        if isinstance(operand, Constant) or values[operand].operation != "multiply":
            return None
        return values[operand].operands if uses[operand] == 1 and stage[operand] == stage[reader] else None

    for k in sorted(kept):
        value = values[k]
        if value.operation not in FUSED:
            continue
        first, second = value.operands
        if (factors := product(second, k)) is not None:
            values[k] = Value(FUSED[value.operation], (*factors, first))
        elif value.operation != "subtract" and (factors := product(first, k)) is not None:
            values[k] = Value(FUSED[value.operation], (*factors, second))
    return Program(tuple(values), program.outputs)


class _Translation:
    def __init__(
        self,
        program: Program,
        inputs: Mapping[str, Slot],
        outputs: list[tuple[Operand, Slot]],
        params: int,
        gates: Mapping[str, Slot],
        inner: Slot | None,
    ) -> None:
        results = [operand for operand, _ in outputs if isinstance(operand, int)]
        program = fused(program, results)
        self.values, self.params, self.gates = program.values, params, gates
        self.code = Code()
        self.numbers: dict[Slot, int] = {}
        self.order = sorted(program.needed(results))
        self.stages = earliest_segments(program)  # in which each value can be read
        self.last = max((self.stages[k] for k in self.order), default=0)
        self.early: list[tuple[int, Slot]] = []  # inputs to be copied before anything is written over
        self.ends: list[list[tuple[Operand, Slot]]] = [[] for _ in range(self.last + 1)]  # copies at the end of stages
        self.sums: dict[int, Slot] = {}  # of the means
        self.homes = {k: inputs[self.values[k].name] for k in self.order if self._is(k, "input")}
        self._place_inner(inner)
        self._place_outputs(outputs)
        self._place_in_states()
        self._place_wide()
        for stage in range(self.last + 1):
            _Stage(self, stage).write()
            self.code.stage_ends.append(len(self.code.instructions))
        if inner is not None and self.code.inner_stage >= 0:
            self.code.inner_slot = self.number(inner)
        self.code.slots = list(self.numbers)

    def _is(self, value: int, *operations: str) -> bool:
        return self.values[value].operation in operations

    def computed_in(self, value: int) -> int:
        """The stage that computes a value; for a mean that is the sum."""
        return self.stages[value] - self._is(value, MEAN)

    # Where values live that are not in a register of their stage alone

    def _place(self, operand: Operand, slot: Slot, stage: int) -> None:
        """Have a value in a slot by the end of a stage: it is computed there, or copied if it is elsewhere."""
        if isinstance(operand, Constant) or operand in self.homes or self._is(operand, MEAN):
            self.ends[stage].append((operand, slot))
        else:
            self.homes[operand] = slot

    def _place_inner(self, inner: Slot | None) -> None:
        place = cast(Slot, inner)  # where there are inner gates there is one
        for value in self.order:
            if self._is(value, INNER, INNER_BACKWARD):
                first = self.code.inner_stage < 0  # all inner gates come from one product
                self.code.inner_stage = stage = self.stages[value] - 1
                operands, name = self.values[value].operands, self.values[value].name
                if self._is(value, INNER):
                    self.homes[value] = self.gates[name]
                    if first:
                        self._place(operands[0], place, stage)
                else:
                    self.homes[value] = place
                    for operand, gate in zip(operands, name.split(), strict=True):
                        self._place(operand, self.gates[gate], stage)
        if inner is not None and inner.kind == Kind.WIDE:
            self.code.wides = inner.index + 1

    def _place_outputs(self, outputs: list[tuple[Operand, Slot]]) -> None:
        taken = {slot for slots in self.ends for _, slot in slots}
        taken |= {slot for value, slot in self.homes.items() if not self._is(value, "input")}
        for operand, slot in outputs:
            if slot.kind != Kind.STATE and slot in taken:
                continue  # what has to do with the inner gates is placed by now
            if slot.kind == Kind.STATE:
                self.ends[self.last].append((operand, slot))
            elif isinstance(operand, int) and self._is(operand, "input"):
                self.early.append((operand, slot))
            else:
                self._place(operand, slot, self.last)

    def _place_in_states(self) -> None:
        """What the last stage computes can go to a state at once, if nothing reads the state thereafter."""
        occupants = {slot: value for value, slot in self.homes.items()}
        for operand, slot in list(self.ends[self.last]):
            if slot.kind != Kind.STATE or isinstance(operand, Constant) or operand in self.homes:
                continue
            occupant = occupants.get(slot)
            readers = [k for k in self.order if occupant in self.values[k].operands]
            is_copied = any(other == occupant for other, _ in self.ends[self.last])
            is_safe = occupant is None or (max(readers, default=-1) <= operand and not is_copied)
            if self.stages[operand] == self.last and not self._is(operand, MEAN) and is_safe:
                self.homes[operand] = slot
                self.ends[self.last].remove((operand, slot))

    def _place_wide(self) -> None:
        """What a later stage reads."""
        for value in self.order:
            readers = [self.computed_in(k) for k in self.order if value in self.values[k].operands]
            readers += [stage for stage, copies in enumerate(self.ends) for operand, _ in copies if operand == value]
            is_read_later = any(stage > self.computed_in(value) for stage in readers)
            if value not in self.homes and not self._is(value, MEAN) and is_read_later:
                self.homes[value] = Slot(Kind.WIDE, self.code.wides)
                self.code.wides += 1

    # What a stage needs to write instructions

    def number(self, slot: Slot) -> int:
        """The number of a slot."""
        return self.numbers.setdefault(slot, len(self.numbers))

    def constant(self, number: float) -> Slot:
        """The slot of a constant."""
        if number not in self.code.constants:
            self.code.constants.append(number)
        return Slot(Kind.UNIT, self.params + self.code.constants.index(number))

    def emit(self, operation: str, to: Slot, operands: list[Slot]) -> None:
        """Write an instruction."""
        a, b, c = ([self.number(slot) for slot in operands] + [0, 0, 0])[:3]
        self.code.instructions.append(Instruction(OPERATIONS.index(operation), self.number(to), a, b, c))


class _Stage:
    """A stage being written: which value is in which register."""

    def __init__(self, whole: _Translation, stage: int) -> None:
        self.whole = whole
        self.copies = whole.ends[stage]
        self.early = [] if stage else whole.early
        skipped = ("input", INNER, INNER_BACKWARD)
        self.order = [k for k in whole.order if whole.computed_in(k) == stage and not whole._is(k, *skipped)]
        self.registers = Registers[Slot]()
        operands = [operand for k in self.order for operand in whole.values[k].operands]
        self.registers.expect([*operands, *(operand for operand, _ in self.copies)])

    def write(self) -> None:
        """Write all instructions."""
        for value, slot in self.early:
            self.whole.emit("copy", slot, [self.read(value)])
        for value in self.order:
            operation, operands = self.whole.values[value].operation, self.whole.values[value].operands
            slots = [self.read(operand) for operand in operands]
            if operation == MEAN:
                to = self.whole.sums[value] = Slot(Kind.SUM, self.whole.code.sums)
                self.whole.code.sums += 1
                self.whole.emit("add_up", to, slots)
                self.registers.spend(operands)
                continue
            self.registers.spend(operands)
            if value in self.whole.homes:
                to = self.whole.homes[value]
            else:
                to = self.registers.places[value] = self.tile()
            self.whole.emit(operation, to, slots)
        self.copy()

    def tile(self) -> Slot:
        """A register that is free."""
        return self.registers.take(self._new_tile)

    def _new_tile(self) -> Slot:
        self.whole.code.tiles += 1
        return Slot(Kind.TILE, self.whole.code.tiles - 1)

    def read(self, operand: Operand) -> Slot:
        """Where an operand is; a mean is first spread over the units."""
        if isinstance(operand, Constant):
            return self.whole.constant(operand.number)
        places = self.registers.places
        if operand in self.whole.sums and operand not in places:
            places[operand] = self.tile()
            self.whole.emit("spread", places[operand], [self.whole.sums[operand]])
        return places[operand] if operand in places else self.whole.homes[operand]

    def copy(self) -> None:
        """Copy values to their places."""
        copies = [(self.read(operand), slot) for operand, slot in self.copies]
        for source, slot in parallel_copy(copies, aside=lambda source: self.tile()):
            self.whole.emit("copy", slot, [source])
