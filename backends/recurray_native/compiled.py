"""What the engine runs for a cell, once for all calls: its programs forward and backward."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from recurray.cells.cell import Cell
from recurray.lazy import cached_property
from recurray.program import INNER_BACKWARD, Constant, Operand, record
from recurray_native.plan import Plan, plan
from recurray_native.program import Kind, Slot, translate
from recurray_native.structures import Blocks, Listing, blocks_of, listing_of

ZERO = Constant(0.0)
MOST = 256  # cells that are remembered


@dataclass(frozen=True)
class Forward:
    """The step's program.

    Attributes
    ----------
    listing : Listing
    packed : tuple of str
        Names of the arrays over time that it reads and writes, by their index: draws, what is kept, and "inner", what
        the inner gates' product was with.
    """

    listing: Listing
    packed: tuple[str, ...]


class CacheForm(NamedTuple):
    """What the sizes in a cache come from, and the meaning of its arrays: cells that agree can use each other's.

    Attributes
    ----------
    input_gates, recurrent_gates : tuple of int
        Which block of the products each gate of the weights makes.
    inner_blocks : int
        How many of the last blocks are of inner gates.
    states : tuple of str
    params : tuple of (str, int)
        The cell's own params, and how many rows they have.
    kept : tuple of str
        The arrays over time that backward reads.
    """

    input_gates: tuple[int, ...]
    recurrent_gates: tuple[int, ...]
    inner_blocks: int
    states: tuple[str, ...]
    params: tuple[tuple[str, int], ...]
    kept: tuple[str, ...]


class Compiled:
    """A cell's plan and programs."""

    def __init__(self, cell: Cell) -> None:
        self.plan: Plan = plan(cell)
        self.cell = cell
        self.states = len(cell.states)
        self.draws = tuple(cell.draws)
        self.pointwise = {name: len(rows) for name, rows in cell.pointwise.items()}
        self.param_rows = [f"params.{name}.{row}" for name, rows in cell.pointwise.items() for row in rows]
        self.blocks: Blocks = blocks_of(self.plan)
        blocks = self.plan.blocks + self.plan.inner
        inputs, recurrents = [block.input for block in blocks], [block.recurrent for block in blocks]
        self.input_places = [inputs.index(gate) for gate in range(len(cell.input_gates))]  # of gates among blocks
        self.recurrent_places = [recurrents.index(gate) for gate in range(len(cell.recurrent_gates))]
        self.input_columns = np.array(self.input_places, np.intp)
        self.recurrent_columns = np.array(self.recurrent_places, np.intp)
        self.has_recurrent_product = bool(cell.outer_gates)
        self._forward: dict[tuple[bool, bool], Forward] = {}

    @cached_property
    def reads_output(self) -> bool:
        """Whether the step computes with the output before, unit by unit."""
        return record(self.cell).reads_output

    @cached_property
    def cache_form(self) -> CacheForm:
        """What a cache for this cell has."""
        return CacheForm(
            input_gates=tuple(self.input_places),
            recurrent_gates=tuple(self.recurrent_places),
            inner_blocks=self.blocks.inner,
            states=self.cell.states,
            params=tuple(self.pointwise.items()),
            kept=self.kept,
        )

    @cached_property
    def kept(self) -> tuple[str, ...]:
        """What backward's program reads of what forward computes or is given, by name."""
        names = self.plan.step_backward.inputs_read()
        return tuple(name for name in names if name.startswith(("saved.", "before.")))

    def forward(self, *, training: bool, means: bool) -> Forward:
        """The step, keeping what backward needs or not; ``means``: each draw is one number rather than an array."""
        key = training, means
        if key not in self._forward:
            self._forward[key] = self._translate_step(self.kept if training else (), training, means)
        return self._forward[key]

    def _translate_step(self, kept: tuple[str, ...], training: bool, means: bool) -> Forward:
        cell, program = self.cell, self.plan.step
        draws = tuple(f"x.{name}" for name in cell.draws)
        units, packed = (*self.param_rows, *(draws if means else ())), (*(() if means else draws), *kept)
        inputs = {name: Slot(Kind.UNIT, k) for k, name in enumerate(units)}
        inputs |= {f"before.{name}": Slot(Kind.STATE, k) for k, name in enumerate(cell.states)}
        inputs |= {name: Slot(Kind.PACKED, packed.index(name)) for name in draws if not means}
        for k, block in enumerate(self.plan.blocks):
            kind = "z" if min(block.input, block.recurrent) >= 0 else "h" if block.input < 0 else "x"
            inputs[f"{kind}.{block.gate}"] = Slot(Kind.GATE, k)
        inner_gates = {
            block.gate: Slot(Kind.GATE, len(self.plan.blocks) + k) for k, block in enumerate(self.plan.inner)
        }
        inner = None
        if self.plan.inner:
            inner = Slot(Kind.PACKED, len(packed)) if training else Slot(Kind.WIDE, 0)
            packed += ("inner",) if training else ()
        inner_outputs = [(program.outputs["inner"], inner)] if inner is not None and training else []

        outputs: list[tuple[Operand, Slot]] = [(program.outputs["after.h"], Slot(Kind.OUTPUT, 0))]
        outputs += [(program.outputs[f"after.{name}"], Slot(Kind.STATE, k)) for k, name in enumerate(cell.states) if k]
        for name in kept:
            operand = program.find(name) if name.startswith("before.") else program.outputs[name]
            outputs.append((operand, Slot(Kind.PACKED, packed.index(name))))
        outputs += inner_outputs
        code = translate(program, inputs, outputs, params=len(units), gates=inner_gates, inner=inner)
        listing = listing_of(code, self.blocks, params=len(units), states=len(cell.states), terms=0)
        return Forward(listing, packed)

    @cached_property
    def backward(self) -> Listing:
        """The step's gradients, the output not being projected."""
        return self._backward(projected=False)

    @cached_property
    def backward_projected(self) -> Listing:
        """The step's gradients where the output is projected."""
        return self._backward(projected=True)

    def _backward(self, *, projected: bool) -> Listing:
        cell, program = self.cell, self.plan.step_backward
        outputs_of = program.outputs
        inputs = {name: Slot(Kind.UNIT, k) for k, name in enumerate(self.param_rows)}
        inputs |= {f"d.{name}": Slot(Kind.STATE, k) for k, name in enumerate(cell.states)}
        inputs["d.h"] = Slot(Kind.OUTPUT, 0) if projected else Slot(Kind.STATE, 0)
        inputs |= {name: Slot(Kind.PACKED, k) for k, name in enumerate(self.kept)}

        outputs: list[tuple[Operand, Slot]] = []
        for k, block in enumerate(self.plan.blocks):
            name = f"x.{block.gate}" if block.input >= 0 else f"h.{block.gate}"
            outputs.append((outputs_of[name], Slot(Kind.GRADIENT, k)))
        first = len(self.plan.blocks)
        inner_gates = {block.gate: Slot(Kind.GRADIENT, first + k) for k, block in enumerate(self.plan.inner)}
        for value in program.values:
            if value.operation == INNER_BACKWARD:
                outputs += zip(value.operands, inner_gates.values(), strict=True)
        first += len(self.plan.inner)
        outputs += [(outputs_of[name], Slot(Kind.GRADIENT, first + k)) for k, name in enumerate(self.param_rows)]
        for k, name in enumerate(cell.states):
            if k or not projected:
                outputs.append((outputs_of.get(f"before.{name}", ZERO), Slot(Kind.STATE, k)))
        inner = Slot(Kind.WIDE, 0) if self.plan.inner else None
        terms = len(self.param_rows)
        code = translate(program, inputs, outputs, params=terms, gates=inner_gates, inner=inner)
        return listing_of(code, self.blocks, params=terms, states=len(cell.states), terms=terms)


_recent: dict[int, tuple[Cell, Compiled]] = {}  # by id, as a cell's hash takes longer than all else of a short call


def compiled(cell: Cell) -> Compiled:
    """Return what is compiled for a cell; equal cells share it.

    Raises
    ------
    recurray.program.RecordingError
        The cell can't be recorded.
    """
    found = _recent.get(id(cell))
    if found is None or found[0] is not cell:
        if len(_recent) >= MOST:
            _recent.clear()
        found = _recent[id(cell)] = cell, _compiled(cell)
    return found[1]


@lru_cache(maxsize=MOST)
def _compiled(cell: Cell) -> Compiled:
    return Compiled(cell)
