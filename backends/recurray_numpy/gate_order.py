"""The order of a cell's gates in the NumPy backend, by the products that they come from.

S steps of a run, n rows of the batch in it, I input, H hidden units, R size of the output. Arrays are feature-major,
(steps, features, rows), so that gates are contiguous blocks of rows and BLAS multiplies fastest. Gates stand in
four blocks, each with its product:

    hoisted   from the input alone: one product for all steps, ahead of the loop
    merged    x.k + h.k, never used apart: one product a step with [x; 1; h]
    apart     from the output before alone: one product a step with [1; h]
    inner     from what the cell computes in the step: one product amid the step with that

Among the merged gates, those whose only use is the logistic function come first, then those whose only use is tanh:
calls for a block serve all its gates. As 1 / (1 + exp(-a)) the logistic function takes three, in place, if the weights
of its gates have their sign changed, which is exact.

For a single row gates keep the order of the weights' rows as far as they can: bringing them into another, there and
back, takes as long as a hundred steps. There the logistic block goes from the first logistic gate to the last, and
if there is a tanh gate in between, its result goes elsewhere before. A few steps of a single row use the weights as
they lie, and exp(a) / (1 + exp(a)): see `recurray_numpy.prepared.as_they_lie_for`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from recurray import program
from recurray.cells.cell import Cell
from recurray.lazy import cached_property
from recurray_numpy.names import name_of


@dataclass(frozen=True)
class Gates(program.Gates):
    """A cell's gates by the product that they come from, in the order of the rows here."""

    activated: tuple[str, ...]  # those of the merged gates, side by side, that are logistic or tanh
    logistic: tuple[str, ...]  # those of these that are logistic

    @cached_property
    def hyperbolic(self) -> tuple[str, ...]:
        """The activated gates that are tanh."""
        return tuple(gate for gate in self.activated if gate not in self.logistic)

    @cached_property
    def logistic_block(self) -> tuple[str, ...]:
        """The merged gates from the first logistic one to the last."""
        places = [self.merged.index(gate) for gate in self.logistic]
        return self.merged[min(places) : max(places) + 1] if places else ()

    def rows(self, gates: tuple[str, ...], size: int) -> slice:
        """Where merged gates that stand side by side do so."""
        first = self.merged.index(gates[0]) * size if gates else 0
        return slice(first, first + len(gates) * size)

    @cached_property
    def aside(self) -> dict[str, str]:
        """The tanh gates that stand among logistic ones, and the arrays that their results go to."""
        return {gate: name_of("tanh", gate) for gate in self.hyperbolic if gate in self.logistic_block}

    @cached_property
    def hoisted_names(self) -> tuple[str, ...]:
        """The arrays of the hoisted gates."""
        return tuple(name_of("x", gate) for gate in self.hoisted)

    @cached_property
    def stepwise_names(self) -> tuple[str, ...]:
        """The arrays of the gates with a product with the output before."""
        return tuple(name_of("z", gate) for gate in self.merged) + tuple(name_of("h", gate) for gate in self.apart)

    @cached_property
    def inner_names(self) -> tuple[str, ...]:
        """The arrays of the inner gates."""
        return tuple(name_of("h", gate) for gate in self.inner)

    @cached_property
    def gradient_names(self) -> tuple[str, ...]:
        """The arrays of all gates' gradients, block by block."""
        from_input = [name_of("dx", gate) for gate in self.hoisted] + [name_of("dz", gate) for gate in self.merged]
        return (*from_input, *(name_of("dh", gate) for gate in self.apart + self.inner))

    def blocks_of(self, hoisted: Any, stepwise: Any, inner: Any, size: int, *, columns: int) -> dict[str, Any]:
        """Return by name gates' arrays and blocks of them: parts of three arrays, which have ``columns`` last axes."""
        rest = (slice(None),) * columns
        merged = len(self.merged) * size
        arrays = {"stepwise": stepwise}
        for name, rows in (
            ("merged", slice(merged)),
            ("apart", slice(merged, None)),
            ("logistic", self.rows(self.logistic_block, size)),
            ("hyperbolic", self.rows(self.hyperbolic, size)),
        ):
            arrays[name] = stepwise[(..., rows, *rest)]
        names_of = (self.hoisted_names, hoisted), (self.stepwise_names, stepwise), (self.inner_names, inner)
        for names, block in names_of:
            arrays |= {name: block[(..., slice(k * size, (k + 1) * size), *rest)] for k, name in enumerate(names)}
        return arrays


class GateOrder:
    """A cell's programs, and the order of its gates.

    Attributes
    ----------
    gates, row_gates : Gates
        For a batch and for a single row.
    step, step_backward : Program
        The cell's programs; in `step` the inputs "z.k" stand for the merged sums.
    activated : dict of int to str
        The values of `step` that the joint activation computes, and their gates.
    """

    def __init__(self, cell: Cell) -> None:
        recording = program.record(cell)
        self.cell = cell
        self.step_backward = recording.step_backward
        merged = program.merged_gates(cell, recording)
        self.step = program.with_sums(recording.step, merged)
        self.activated: dict[int, str] = {}
        kinds: dict[str, list[str]] = {"logistic": [], "tanh": [], "other": []}
        for gate in merged:
            value, operation = self._first_use(gate)
            kinds[operation].append(gate)
            if operation != "other":
                self.activated[value] = gate
        activated = (*kinds["logistic"], *kinds["tanh"])
        by_product = program.gates_of(cell, (*activated, *kinds["other"]))
        self.gates = Gates(**vars(by_product), activated=activated, logistic=tuple(kinds["logistic"]))
        in_order = tuple(gate for gate in merged if gate in activated)
        first = merged.index(in_order[0]) if in_order else 0
        together = merged[first : first + len(in_order)] == in_order
        self.row_gates = replace(
            self.gates, merged=merged if together else (*in_order, *kinds["other"]), activated=in_order
        )

    def gates_for(self, *, vector: bool) -> Gates:
        """The gates in the order for a batch, or for a single row."""
        return self.row_gates if vector else self.gates

    def _first_use(self, gate: str) -> tuple[int, str]:
        """The value and the kind of a merged gate's only use, if that is an activation whose result stays a gate."""
        place = self.step.find(f"z.{gate}")
        users = [k for k, value in enumerate(self.step.values) if place in value.operands]
        if len(users) == 1 and place not in self.step.outputs.values():
            operation = self.step.values[users[0]].operation
            is_state = any(self.step.outputs[f"after.{state}"] == users[0] for state in self.cell.states)
            if operation in ("logistic", "tanh") and not is_state:
                return users[0], operation
        return place, "other"


@lru_cache(maxsize=256)
def order_of(cell: Cell) -> GateOrder:
    """Return the order of a cell's gates; equal cells share it, and all that is written for it.

    Raises
    ------
    RecordingError
        The cell's step can't be recorded.
    """
    return GateOrder(cell)
