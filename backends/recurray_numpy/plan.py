"""Small calls of one shape in inference: the buffers and the functions of a scan, with the arrays in place.

The arithmetic is that of `recurray_numpy.scan.forward`. T time, B batch, I input, R size of a direction's output, D
directions, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recurray.cells.cell import Cell, Weights
from recurray_numpy import prepared as weights_in_order
from recurray_numpy.calls import quietly
from recurray_numpy.forward import fill, lay_out, work_space
from recurray_numpy.forward_loop import forward_loop
from recurray_numpy.gate_order import order_of
from recurray_numpy.names import name_of
from recurray_numpy.prepared import Prepared
from recurray_numpy.runs import cut
from recurray_numpy.scan import PREPARE_FROM
from recurray_numpy.step import is_own


class StackPlan:
    """A stack of layers; see `recurray.backend.Plan`.

    Parameters
    ----------
    cells : sequence of Cell
        By direction.
    weights : sequence of Weights
        By layer and direction.
    shape : tuple of int
        Of the input, (T, B, I).
    reverse : bool
        Whether the first direction runs from the end.

    Raises
    ------
    RecordingError
        A cell's step can't be recorded.
    """

    def __init__(
        self, cells: Sequence[Cell], weights: Sequence[Weights], shape: tuple[int, int, int], *, reverse: bool
    ) -> None:
        steps, batch, _ = shape
        self.directions, self.dtype = len(cells), weights[0].input.dtype
        self.scans = [
            _Scan(cells[place % len(cells)], own, steps, batch, reverse=reverse or place % len(cells) == 1)
            for place, own in enumerate(weights)
        ]
        sizes = [self.scans[0].sizes[name] for name in cells[0].states]
        self.shapes = [(len(self.scans), batch, size) for size in sizes]
        self.zeros = tuple(np.zeros(shape, self.dtype) for shape in self.shapes)
        self.outputs = sizes[0]
        self.y_shape = (steps, batch, self.directions * self.outputs)

    def bind(self, weights: Sequence[Weights]) -> None:
        """Take the weights."""
        for scan, own in zip(self.scans, weights, strict=True):
            scan.take(own)

    def __call__(self, x: Any, before: tuple[Any, ...] | None) -> tuple[Any, tuple[Any, ...]]:
        """Run layer after layer."""
        before = self.zeros if before is None else before
        after = tuple([np.empty(shape, self.dtype) for shape in self.shapes])
        y = x
        for place, scan in enumerate(self.scans):
            direction = place % self.directions
            if direction == 0:
                x, y = y, np.empty(self.y_shape, self.dtype)
            own = y[:, :, direction * self.outputs : (direction + 1) * self.outputs] if self.directions > 1 else y
            scan.run(x, [value[place] for value in before], [value[place] for value in after], own)
        return y, after


class _Scan:
    """A direction of a layer."""

    def __init__(self, cell: Cell, weights: Weights, steps: int, batch: int, *, reverse: bool) -> None:
        self.runs, self.cell = cut(steps, batch, None, reverse), cell
        self.the_run, vector = self.runs.runs[0], self.runs.vector
        self.as_they_lie = vector and steps < PREPARE_FROM
        order = order_of(cell)
        self.gates = order.gates_for(vector=vector)
        self.code = forward_loop(
            order,
            training=False,
            vector=vector,
            as_they_lie=self.as_they_lie,
            projected=weights.projection is not None,
            masked=False,
        )
        self.arrays: dict[str, Any] = {}
        self.calls: list[tuple[Any, dict[str, Any]]] = []
        self.take(weights)
        size, dtype = self.prepared.size, weights.input.dtype
        self.sizes = dict.fromkeys(cell.states, size)
        if weights.projection is not None:
            self.sizes["h"] = len(weights.projection)
        self.arrays = lay_out(
            self.code, self.prepared, self.own, self.runs, self.the_run, cell.draws, masked=False, keep=False
        )
        ahead = self.code.ahead
        columns = self.arrays["operand"].shape[2:]
        work = work_space(ahead.work_of_steps, (steps,), size, columns, dtype)
        parts = (ahead, self.code.loop) if ahead.calls else (self.code.loop,)
        self.calls = [part.bound(dtype, self.arrays, work, slice(0, steps)) for part in parts]

    def take(self, weights: Weights) -> None:
        """Bring the weights into the order and form that the loop wants."""
        self.prepared = Prepared(self.cell, self.gates, weights, self.as_they_lie)
        own = weights_in_order.for_forward(self.prepared, vector=self.runs.vector)
        own |= weights_in_order.pointwise(self.prepared, self.the_run.rows, vector=self.runs.vector)
        self.own = {name: array for name, array in own.items() if array is not None}
        own_arrays = (is_own(array, weights) for array in self.own.values() if array.size)
        self.copied = weights.kept is None and not all(own_arrays)
        self.arrays |= self.own
        for _, found in self.calls:
            found |= {name: self.own[name] for name in self.own.keys() & found.keys()}

    def run(self, x: Any, before: list[Any], after: list[Any], y: Any) -> None:
        """Run over ``x`` (T, B, I) from states (B, size); fill those after it, and the output."""
        if self.copied:
            self.take(self.prepared.weights)  # which may have been written to
        arrays, runs, run = self.arrays, self.runs, self.the_run
        states = self.cell.states
        state = {name: value.T for name, value in zip(states, before, strict=True)}
        fill(self.prepared, arrays, runs.read(x, run), state, None)
        with quietly():
            for function, found in self.calls:
                function(**found)
        after_h = arrays["after_h"].reshape(run.steps, -1, run.rows)
        runs.write(y, run, after_h)
        for name, value in zip(states, after, strict=True):
            now = after_h[-1] if name == "h" else arrays[name_of("state", name)]
            value[...] = now.reshape(-1, run.rows).T
