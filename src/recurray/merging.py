"""Gates whose two products a recorded step only ever adds up, so that one product will do for both.

The sum x.k + h.k then stands in the program as the input "z.k".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from recurray.cells.cell import Cell
from recurray.recording import Program, Recording, Value


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


def merged_gates(cell: Cell, recording: Recording) -> tuple[str, ...]:
    """Return the gates whose two products are only ever added up, forward, and have one gradient, backward."""
    step, outputs = recording.step, recording.step_backward.outputs
    uses = step.uses()
    merged = []
    for gate in cell.input_gates:
        if gate not in cell.outer_gates or outputs[f"x.{gate}"] != outputs[f"h.{gate}"]:
            continue
        x, h = find(step, f"x.{gate}"), find(step, f"h.{gate}")
        added = any(value.operation == "add" and set(value.operands) == {x, h} for value in step.values)
        if added and uses[x] == uses[h] == 1 and not {x, h} & set(step.outputs.values()):
            merged.append(gate)
    return tuple(merged)


def with_sums(step: Program, merged: tuple[str, ...]) -> Program:
    """Return the program with an input "z.k" in place of each sum x.k + h.k."""
    values = list(step.values)
    for gate in merged:
        terms = {find(step, f"x.{gate}"), find(step, f"h.{gate}")}
        place = next(k for k, value in enumerate(values) if value.operation == "add" and set(value.operands) == terms)
        values[place] = Value("input", name=f"z.{gate}")
    return replace(step, values=tuple(values))
