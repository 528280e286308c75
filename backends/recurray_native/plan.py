"""What the engine has to know of a cell before there are arrays: which products its gates come from."""

from __future__ import annotations

from dataclasses import dataclass

from recurray.cells.cell import Cell
from recurray.program import Program, gates_of, merged_gates, record, with_sums


@dataclass(frozen=True)
class Block:
    """A block of H columns of the products: a gate, with the rows of the weights that make it.

    Attributes
    ----------
    gate : str
    input, recurrent : int
        Which of the cell's input gates and recurrent gates it is; -1 if it has no such product.
    """

    gate: str
    input: int
    recurrent: int


@dataclass(frozen=True)
class Plan:
    """A cell's programs and blocks.

    Attributes
    ----------
    cell : Cell
    step, step_backward : Program
        In `step` the inputs "z.k" stand for sums x.k + h.k that are never used apart.
    blocks : tuple of Block
        First those with a product with the input alone, then the sums, then those with the output before alone.
    inner : tuple of Block
        Those whose product is with what the cell computes in the step.
    """

    cell: Cell
    step: Program
    step_backward: Program
    blocks: tuple[Block, ...]
    inner: tuple[Block, ...]


def plan(cell: Cell) -> Plan:
    """Plan a cell.

    Raises
    ------
    recurray.program.RecordingError
        The cell can't be recorded.
    """
    recording = record(cell)
    sums = merged_gates(cell, recording)
    gates = gates_of(cell, sums)
    inputs = {gate: k for k, gate in enumerate(cell.input_gates)}
    recurrents = {gate: k for k, gate in enumerate(cell.recurrent_gates)}
    blocks = (
        *(Block(gate, inputs[gate], -1) for gate in gates.hoisted),
        *(Block(gate, inputs[gate], recurrents[gate]) for gate in gates.merged),
        *(Block(gate, -1, recurrents[gate]) for gate in gates.apart),
    )
    inner = tuple(Block(gate, -1, recurrents[gate]) for gate in gates.inner)
    return Plan(cell, with_sums(recording.step, sums), recording.step_backward, blocks, inner)
