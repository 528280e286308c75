"""What the engine has to know of a cell before there are arrays: which products its gates come from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from recurray.cells.cell import Cell
from recurray.recording import Program, Recording, Value, record


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
    recurray.recording.RecordingError
        The cell can't be recorded.
    """
    recording = record(cell)
    sums = _sums(cell, recording)
    alone = [gate for gate in cell.input_gates if gate not in sums]
    apart = [gate for gate in cell.outer_gates if gate not in sums]
    inputs = {gate: k for k, gate in enumerate(cell.input_gates)}
    recurrents = {gate: k for k, gate in enumerate(cell.recurrent_gates)}
    blocks = (
        *(Block(gate, inputs[gate], -1) for gate in alone),
        *(Block(gate, inputs[gate], recurrents[gate]) for gate in sums),
        *(Block(gate, -1, recurrents[gate]) for gate in apart),
    )
    inner = tuple(Block(gate, -1, recurrents[gate]) for gate in cell.inner_gates)
    return Plan(cell, _with_sums(recording.step, sums), recording.step_backward, blocks, inner)


def find(program: Program, name: str) -> int:
    """Return the place of an input, -1 if the program has none of that name."""
    return next((k for k, value in enumerate(program.values) if value.operation == "input" and value.name == name), -1)


def needed(program: Program, results: Iterable[int]) -> set[int]:
    """Return the values that ``results`` need, themselves included."""
    found = set(results)
    for k in reversed(range(len(program.values))):
        if k in found:
            found |= {operand for operand in program.values[k].operands if isinstance(operand, int)}
    return found


def _sums(cell: Cell, recording: Recording) -> tuple[str, ...]:
    """The gates whose two products are only ever added up, forward, and have one gradient, backward."""
    step, outputs = recording.step, recording.step_backward.outputs
    uses = step.uses()
    found = []
    for gate in cell.input_gates:
        if gate not in cell.outer_gates or outputs[f"x.{gate}"] != outputs[f"h.{gate}"]:
            continue
        x, h = find(step, f"x.{gate}"), find(step, f"h.{gate}")
        added = any(value.operation == "add" and set(value.operands) == {x, h} for value in step.values)
        if added and uses[x] == uses[h] == 1 and not {x, h} & set(step.outputs.values()):
            found.append(gate)
    return tuple(found)


def _with_sums(step: Program, gates: tuple[str, ...]) -> Program:
    """The program with an input "z.k" in place of each sum x.k + h.k."""
    values = list(step.values)
    for gate in gates:
        terms = {find(step, f"x.{gate}"), find(step, f"h.{gate}")}
        place = next(k for k, value in enumerate(values) if value.operation == "add" and set(value.operands) == terms)
        values[place] = Value("input", name=f"z.{gate}")
    return replace(step, values=tuple(values))
