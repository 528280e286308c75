"""The products that a cell's gates come from: a gate whose two products are only ever added up needs one, not two."""

from __future__ import annotations

from dataclasses import dataclass, replace

from recurray.cells.cell import Cell
from recurray.lazy import cached_property
from recurray.program.ir import Program, Value
from recurray.program.record import Recording


@dataclass(frozen=True)
class Gates:
    """A cell's gates by the product that they come from.

    Attributes
    ----------
    hoisted : tuple of str
        From the input alone: all steps' products can be made at once.
    merged : tuple of str
        From the input and the output before, whose products are only ever added up: one product for both.
    apart : tuple of str
        From the output before alone. A gate whose two products aren't merged is both hoisted and apart.
    inner : tuple of str
        From what the cell computes in the step.
    """

    hoisted: tuple[str, ...]
    merged: tuple[str, ...]
    apart: tuple[str, ...]
    inner: tuple[str, ...]

    @cached_property
    def of_input(self) -> tuple[str, ...]:
        """All gates with a product with the input."""
        return self.hoisted + self.merged

    @cached_property
    def of_output(self) -> tuple[str, ...]:
        """All gates with a product with the output before."""
        return self.merged + self.apart

    @cached_property
    def all(self) -> tuple[str, ...]:
        """All products' gates."""
        return self.hoisted + self.merged + self.apart + self.inner


def gates_of(cell: Cell, merged: tuple[str, ...]) -> Gates:
    """Return a cell's gates, of which ``merged`` are to be merged, in the cell's order."""
    return Gates(
        hoisted=tuple(gate for gate in cell.input_gates if gate not in merged),
        merged=merged,
        apart=tuple(gate for gate in cell.outer_gates if gate not in merged),
        inner=cell.inner_gates,
    )


def merged_gates(cell: Cell, recording: Recording) -> tuple[str, ...]:
    """Return the gates whose two products are only ever added up, forward, and have one gradient, backward."""
    step, uses = recording.step, recording.step.uses()
    merged = []
    for gate in cell.input_gates:
        if gate not in cell.outer_gates or not has_one_gradient(gate, recording.step_backward):
            continue
        x, h = step.find(f"x.{gate}"), step.find(f"h.{gate}")
        added = any(value.operation == "add" and set(value.operands) == {x, h} for value in step.values)
        if added and uses[x] == uses[h] == 1 and not {x, h} & set(step.outputs.values()):
            merged.append(gate)
    return tuple(merged)


def has_one_gradient(gate: str, step_backward: Program) -> bool:
    """Whether a gate's two products have the same gradient."""
    return step_backward.outputs[f"x.{gate}"] == step_backward.outputs[f"h.{gate}"]


def with_sums(step: Program, merged: tuple[str, ...]) -> Program:
    """Return the program with an input "z.k" in place of each sum x.k + h.k of a merged gate."""
    values = list(step.values)
    for gate in merged:
        terms = {step.find(f"x.{gate}"), step.find(f"h.{gate}")}
        place = next(k for k, value in enumerate(values) if value.operation == "add" and set(value.operands) == terms)
        values[place] = Value("input", name=f"z.{gate}")
    return replace(step, values=tuple(values))
