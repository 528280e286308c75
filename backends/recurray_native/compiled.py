"""What the engine runs for a cell, once for all calls: its programs forward and backward."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from recurray.cells.cell import Cell
from recurray.lazy import cached_property
from recurray.program import INNER_BACKWARD, Constant, Operand, gates_of, merged_gates, record, with_sums
from recurray_native.program import Code, Kind, Slot, Translation
from recurray_native.structures import Listing, listing_of

ZERO = Constant(0.0)
MOST = 256  # cells that are remembered


class Forward(NamedTuple):
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


class Compiled:
    """A cell's gates in the order of the blocks of the products, and its programs.

    Attributes
    ----------
    gates : Gates
    input_gates, recurrent_gates : list of int
        Which of the cell's gates each block is, -1 if it has no such product; the inner ones have no input gate.
    input_places, recurrent_places : list of int
        Which block each of the cell's gates is.
    """

    def __init__(self, cell: Cell) -> None:
        self.cell, self.recording = cell, record(cell)
        self.reads_output = self.recording.reads_output
        self.states = len(cell.states)
        self.draws = tuple(cell.draws)
        self.pointwise = {name: len(rows) for name, rows in cell.pointwise.items()}
        self.param_rows = [f"params.{name}.{row}" for name, rows in cell.pointwise.items() for row in rows]
        self.gates = gates = gates_of(cell, merged_gates(cell, self.recording))
        self.input_gates = [*map(cell.input_gates.index, gates.of_input), *[-1] * len(gates.apart)]
        recurrents = map(cell.recurrent_gates.index, gates.of_output + gates.inner)
        self.recurrent_gates = [*[-1] * len(gates.hoisted), *recurrents]
        self.input_places = [self.input_gates.index(gate) for gate in range(len(cell.input_gates))]
        self.recurrent_places = [self.recurrent_gates.index(gate) for gate in range(len(cell.recurrent_gates))]
        self.has_recurrent_product = bool(cell.outer_gates)

    @cached_property
    def kept(self) -> tuple[str, ...]:
        """What backward's program reads of what forward computes or is given, by name."""
        names = self.recording.step_backward.inputs_read()
        return tuple(name for name in names if name.startswith(("saved.", "before.")))

    @lru_cache(maxsize=4 * MOST)  # noqa: B019 - as many as the cells that are remembered have
    def forward(self, *, training: bool, means: bool) -> Forward:
        """The step, keeping what backward needs or not; ``means``: each draw is one number rather than an array."""
        kept = self.kept if training else ()
        cell, gates = self.cell, self.gates
        program = with_sums(self.recording.step, gates.merged)
        draws = tuple(f"x.{name}" for name in cell.draws)
        units, packed = (*self.param_rows, *(draws if means else ())), (*(() if means else draws), *kept)
        inputs = {name: Slot(Kind.UNIT, k) for k, name in enumerate(units)}
        inputs |= {f"before.{name}": Slot(Kind.STATE, k) for k, name in enumerate(cell.states)}
        inputs |= {name: Slot(Kind.PACKED, packed.index(name)) for name in draws if not means}
        blocks = [f"x.{gate}" for gate in gates.hoisted] + [f"z.{gate}" for gate in gates.merged]
        blocks += [f"h.{gate}" for gate in gates.apart]
        inputs |= {name: Slot(Kind.GATE, k) for k, name in enumerate(blocks)}
        inner = None
        if gates.inner:
            inner = Slot(Kind.PACKED, len(packed)) if training else Slot(Kind.WIDE, 0)
            packed += ("inner",) if training else ()

        outputs: list[tuple[Operand, Slot]] = [(program.outputs["after.h"], Slot(Kind.OUTPUT, 0))]
        outputs += [(program.outputs[f"after.{name}"], Slot(Kind.STATE, k)) for k, name in enumerate(cell.states) if k]
        for name in kept:
            operand = program.find(name) if name.startswith("before.") else program.outputs[name]
            outputs.append((operand, Slot(Kind.PACKED, packed.index(name))))
        outputs += [(program.outputs["inner"], inner)] if inner is not None and training else []
        code = Translation(
            program, inputs, outputs, params=len(units), gates=self._slots_of_inner(Kind.GATE), inner=inner
        ).code
        return Forward(self._listing(code, params=len(units), terms=0), packed)

    @lru_cache(maxsize=4 * MOST)  # noqa: B019
    def backward(self, *, projected: bool) -> Listing:
        """The step's gradients, the output being projected or not."""
        cell, gates, program = self.cell, self.gates, self.recording.step_backward
        inputs = {name: Slot(Kind.UNIT, k) for k, name in enumerate(self.param_rows)}
        inputs |= {f"d.{name}": Slot(Kind.STATE, k) for k, name in enumerate(cell.states)}
        inputs["d.h"] = Slot(Kind.OUTPUT, 0) if projected else Slot(Kind.STATE, 0)
        inputs |= {name: Slot(Kind.PACKED, k) for k, name in enumerate(self.kept)}

        gradients = [program.outputs[f"x.{gate}"] for gate in gates.of_input]
        gradients += [program.outputs[f"h.{gate}"] for gate in gates.apart]
        inner_gates = self._slots_of_inner(Kind.GRADIENT)
        outputs = [(gradient, Slot(Kind.GRADIENT, k)) for k, gradient in enumerate(gradients)]
        for value in program.values:
            if value.operation == INNER_BACKWARD:
                outputs += zip(value.operands, inner_gates.values(), strict=True)
        first = len(gates.all)
        outputs += [(program.outputs[name], Slot(Kind.GRADIENT, first + k)) for k, name in enumerate(self.param_rows)]
        for k, name in enumerate(cell.states):
            if k or not projected:
                outputs.append((program.outputs.get(f"before.{name}", ZERO), Slot(Kind.STATE, k)))
        inner, terms = Slot(Kind.WIDE, 0) if gates.inner else None, len(self.param_rows)
        code = Translation(program, inputs, outputs, params=terms, gates=inner_gates, inner=inner).code
        return self._listing(code, params=terms, terms=terms)

    def _slots_of_inner(self, kind: Kind) -> dict[str, Slot]:
        """The blocks of the inner gates, which come last."""
        return {gate: Slot(kind, len(self.input_gates) + k) for k, gate in enumerate(self.gates.inner)}

    def _listing(self, code: Code, *, params: int, terms: int) -> Listing:
        blocks = {"input_gates": self.input_gates, "recurrent_gates": self.recurrent_gates}
        return listing_of(code, **blocks, params=params, states=self.states, terms=terms)


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
