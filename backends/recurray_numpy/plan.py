"""Small calls of one shape in inference: the buffers and the functions of a scan, with the arrays in place.

The arithmetic is that of `recurray_numpy.scan.forward`. T time, B batch, I input, R size of a direction's output, D
directions, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from recurray.cells.cell import Cell, Weights
from recurray_numpy.buffers import memory_of
from recurray_numpy.calls import Bound, carry_out, quietly
from recurray_numpy.forward import lay_out, places_to_fill, products_ahead, work_space
from recurray_numpy.forward_loop import forward_loop
from recurray_numpy.gate_order import order_of
from recurray_numpy.prepared import Prepared, as_they_lie_for, in_order, pointwise
from recurray_numpy.runs import cut


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
        self.dtype, directions = weights[0].input.dtype, len(cells)
        self.scans = [
            _Scan(cells[place % directions], own, steps, batch, reverse=reverse or place % directions == 1)
            for place, own in enumerate(weights)
        ]
        outputs = self.scans[0].y.shape[2]
        for place, scan in enumerate(self.scans[:-directions]):
            part = slice(place % directions * outputs, (place % directions + 1) * outputs)
            above = self.scans[(place // directions + 1) * directions :][:directions]
            scan.hand_on = [partial(np.copyto, other.x[:, :, part], scan.y) for other in above]
        self.directions, self.outputs = directions, outputs
        self.shapes = [(len(self.scans), batch, value.shape[1]) for value in self.scans[0].after]
        self.zeros = tuple(np.zeros(shape, self.dtype) for shape in self.shapes)
        self.y_shape = (steps, batch, directions * outputs)
        self.nbytes = memory_of([vars(self), *map(vars, self.scans)], weights)

    def bind(self, weights: Sequence[Weights]) -> None:
        """Take the weights."""
        for scan, own in zip(self.scans, weights, strict=True):
            scan.take(own)

    def __call__(self, x: Any, before: tuple[Any, ...] | None) -> tuple[Any, tuple[Any, ...]]:
        """Run layer after layer."""
        before = self.zeros if before is None else before
        after = tuple([np.empty(shape, self.dtype) for shape in self.shapes])
        y = np.empty(self.y_shape, self.dtype)
        for scan in self.scans[: self.directions]:
            np.copyto(scan.x, x)
        with quietly():
            for scan, first, last in zip(self.scans, zip(*before, strict=True), zip(*after, strict=True), strict=True):
                scan.run(first, last)
        if self.directions == 1:
            np.copyto(y, self.scans[-1].y)
        else:
            for k, scan in enumerate(self.scans[-self.directions :]):
                np.copyto(y[:, :, k * self.outputs : (k + 1) * self.outputs], scan.y)
        return y, after


class _Scan:
    """A direction of a layer.

    Attributes
    ----------
    x, y : array
        Where the input is put, (T, B, I), and where the output is then, (T, B, R).
    before, after : list of array
        The same of the states, (B, size) each.
    hand_on : list of function
        What is done with the output.
    """

    def __init__(self, cell: Cell, weights: Weights, steps: int, batch: int, *, reverse: bool) -> None:
        self.hand_on: list[Bound] = []
        self._vector = batch == 1
        order, as_they_lie = order_of(cell), self._vector and as_they_lie_for(steps, weights)
        options = {"vector": self._vector, "projected": weights.projection is not None}
        self._code = forward_loop(order, training=False, as_they_lie=as_they_lie, masked=False, **options)
        self._prepared = Prepared(cell, order.gates_for(vector=self._vector), weights, as_they_lie)
        runs = cut(steps, batch, None, reverse)
        self._arrays = arrays = lay_out(
            self._code, self._prepared, {}, runs, runs.runs[0], cell.draws, masked=False, keep=False
        )
        ahead, columns = self._code.ahead, arrays["operand"].shape[2:]
        self._work = work_space(ahead.work_of_steps, (steps,), self._prepared.size, columns, weights.input.dtype)

        of_x, of_states = places_to_fill(self._prepared, arrays)
        after_h = arrays["after_h"].reshape(steps, -1, batch)
        self.x, self.y = (a[:: -1 if reverse else 1].transpose(0, 2, 1) for a in (of_x, after_h))
        self.before = [place.T for place in of_states.values()]
        self.after = [after_h[-1].T, *self.before[1:]]
        self.take(weights)

    def take(self, weights: Weights) -> None:
        """Use other weights, of the same form."""
        code, arrays, prepared = self._code, self._arrays, replace(self._prepared, weights=weights)
        own, rows, vector = in_order(prepared, vector=self._vector), len(self.x[0]), self._vector
        calls = list(own.calls)
        arrays |= own.arrays | pointwise(prepared, rows, vector=vector, calls=calls if weights.kept is None else None)
        self._calls = calls + products_ahead(prepared, arrays)
        for part in (code.ahead, code.loop) if code.ahead.calls else (code.loop,):
            dtype, steps = weights.input.dtype, slice(0, len(self.x))
            self._calls.append(part.bound(dtype, arrays, self._work, steps, often=True))

    def run(self, before: Sequence[Any], after: Sequence[Any]) -> None:
        """Run over what was put into ``x``; fill the states after it."""
        for place, value in zip(self.before, before, strict=True):
            np.copyto(place, value)
        carry_out(self._calls)
        for place, value in zip(self.after, after, strict=True):
            np.copyto(value, place)
        carry_out(self.hand_on)
