"""Small calls of one shape in inference: the engine's tasks, with all filled in but where arrays are.

T time, B batch, I input, R size of a direction's output, D directions, L layers.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from ctypes import byref
from typing import Any

import numpy as np

from recurray.cells.cell import Cell, Weights
from recurray_native import arguments, library
from recurray_native.arguments import FLOATS
from recurray_native.compiled import compiled
from recurray_native.rows import in_order, rows
from recurray_native.scan import ENOUGH, NO_MEMORY, begun, contiguous, fill, param_rows, thread_count
from recurray_native.structures import POINTER_CODE, POINTER_SIZE, address


class StackPlan:
    """A stack of layers; see `recurray.backend.Plan`.

    Parameters
    ----------
    level : str
        The instruction set.
    cells : sequence of Cell
        By direction.
    weights : sequence of Weights
        By layer and direction.
    shape : tuple of int
        Of the input, (T, B, I).
    reverse : bool
        Whether the first direction runs from the end.
    """

    def __init__(
        self,
        level: str,
        cells: Sequence[Cell],
        weights: Sequence[Weights],
        shape: tuple[int, int, int],
        *,
        reverse: bool,
    ) -> None:
        steps, batch, features = shape
        directions, self.dtype = len(cells), weights[0].input.dtype
        self.layers: list[list[_Scan]] = []
        for first in range(0, len(weights), directions):
            own = [
                _Scan(level, cell, weights[first + k], (steps, batch, features), self.dtype, reverse=reverse or k == 1)
                for k, cell in enumerate(cells)
            ]
            self.layers.append(own)
            features = own[0].outputs * directions
        self.scans = [scan for own in self.layers for scan in own]
        sizes = [scan.size if k else scan.outputs for scan in self.scans[:1] for k in range(len(cells[0].states))]
        self.shapes = [(len(self.scans), batch, size) for size in sizes]
        self.strides = [batch * size * self.dtype.itemsize for size in sizes]
        self.zeros = tuple(np.zeros(shape, self.dtype) for shape in self.shapes)
        self.y_shape = (steps, batch, self.scans[0].outputs)
        # What directions and layers hand on; nobody sees it, so it is kept.
        self.between = [np.empty((steps, batch, features), self.dtype) for _ in self.layers[:-1]]
        self.of_directions = [np.empty(self.y_shape, self.dtype) for _ in cells]

    def bind(self, weights: Sequence[Weights]) -> None:
        """Take the weights."""
        for scan, own in zip(self.scans, weights, strict=True):
            scan.take(own)

    def __call__(self, x: Any, before: tuple[Any, ...] | None) -> tuple[Any, tuple[Any, ...]]:
        """Run layer after layer."""
        x = in_order(x)
        before = self.zeros if before is None else tuple([in_order(value) for value in before])
        after = tuple([np.empty(shape, self.dtype) for shape in self.shapes])
        firsts, lasts = [address(value) for value in before], [address(value) for value in after]
        y = x
        for number, own in enumerate(self.layers):
            at, ys = address(y), self.of_directions
            of_layer = self.between[number] if number < len(self.between) else None
            if len(own) == 1:
                y = np.empty(self.y_shape, self.dtype) if of_layer is None else of_layer
                ys = [y]
            for scan, to in zip(own, ys, strict=True):
                scan.run(at, address(to), firsts, lasts)
                for k, stride in enumerate(self.strides):
                    firsts[k] += stride
                    lasts[k] += stride
            if len(own) > 1:
                y = np.concatenate(ys, axis=2, out=of_layer)
        return y, after


class _Scan:
    """A direction of a layer."""

    def __init__(
        self, level: str, cell: Cell, weights: Weights, shape: tuple[int, int, int], dtype: Any, *, reverse: bool
    ) -> None:
        steps, batch, features = shape
        self.ready, self.dtype, self.features, self.valid = (
            compiled(cell),
            dtype,
            features,
            rows(steps, batch, None, reverse),
        )
        self.size, self.outputs = arguments.check_weights(self.ready, weights, features, batch, dtype)
        means = arguments.draws_in_order(self.ready, cell.draws, (steps, batch, self.size), dtype)
        self.means = [np.full(self.size, mean, dtype) for mean in means]
        listing = self.ready.forward(training=False, means=bool(means)).listing
        self.task, self.operations = begun(self.ready, listing, self.valid, features, self.size, self.outputs)
        params, self.states = len(self.ready.param_rows) + len(means), len(cell.states)
        self.table = array(POINTER_CODE, [0] * (params + 2 * self.states))
        at = self.table.buffer_info()[0]
        self.task.param, self.task.first = at, at + params * POINTER_SIZE
        self.task.last = at + (params + self.states) * POINTER_SIZE
        self.table_of_first, self.table_of_last = params, params + self.states
        self.call = library.library().recurray_forward
        self.given = library.number(level), dtype == FLOATS[1], byref(self.task)

    def take(self, weights: Weights) -> None:
        """Have the task read the weights where they are, or a copy where they aren't in the order wanted."""
        arguments.check_weights(self.ready, weights, self.features, self.valid.shape[1], self.dtype)
        self.weights, read = weights, contiguous(weights)
        fill(self.task, input_weight=read.input, input_bias=read.input_bias, projection=read.projection)
        fill(self.task, recurrent_weight=read.recurrent, recurrent_bias=read.recurrent_bias)
        rows = [*param_rows(self.ready, read), *self.means]
        for k, row in enumerate(rows):
            self.table[k] = address(row)
        self.held = read, rows  # while their addresses are in use
        pairs = zip(_arrays(weights), _arrays(read), strict=True)
        self.copied = weights.kept is None and not all(a is b for a, b in pairs)

    def run(self, x: int, y: int, firsts: list[int], lasts: list[int]) -> None:
        """Run over the input that is at an address; the caller holds all arrays."""
        if self.copied:
            self.take(self.weights)  # which may have been written to
        task, table = self.task, self.table
        task.x, task.y = x, y
        first, last = self.table_of_first, self.table_of_last
        for k in range(self.states):
            table[first + k], table[last + k] = firsts[k], lasts[k]
        if self.operations >= ENOUGH:
            task.threads = thread_count(self.operations, self.valid)
        if self.call(*self.given):
            raise MemoryError(NO_MEMORY)


def _arrays(weights: Weights) -> list[Any]:
    own = [weights.input, weights.recurrent, weights.input_bias, weights.recurrent_bias, weights.projection]
    return own + list(weights.pointwise.values())
