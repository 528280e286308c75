"""Small calls of one shape in inference: the engine's tasks, with all filled in but where arrays are.

T time, B batch, I input, R size of a direction's output, D directions, L layers.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from ctypes import addressof, c_int64, c_void_p
from typing import Any

import numpy as np

from recurray.cells.cell import Cell, Weights
from recurray_native import arguments, library
from recurray_native.arguments import FLOATS
from recurray_native.compiled import compiled
from recurray_native.rows import rows
from recurray_native.scan import (
    NO_MEMORY,
    begun,
    contiguous,
    fill,
    may_share,
    param_rows,
    ready_weights,
    thread_count,
)
from recurray_native.structures import POINTER_CODE, POINTER_SIZE, address
from recurray_numpy.buffers import memory_of


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
        _, outputs = arguments.check_weights(compiled(cells[0]), weights[0], features, batch, self.dtype)
        self.scans: list[_Scan] = []
        self.y = self.x = np.empty(shape, self.dtype)
        for first in range(0, len(weights), directions):
            x, self.y = self.y, np.empty((steps, batch, directions * outputs), self.dtype)
            self.scans += [
                _Scan(level, cell, weights[first + k], x, self.y, k, reverse=reverse or k == 1)
                for k, cell in enumerate(cells)
            ]
        sizes = [self.scans[0].size if k else outputs for k in range(len(cells[0].states))]
        shapes = [(len(self.scans), batch, size) for size in sizes]
        self.zeros = tuple(np.zeros(shape, self.dtype) for shape in shapes)
        self.before = tuple(np.empty(shape, self.dtype) for shape in shapes)
        self.after = tuple(np.empty(shape, self.dtype) for shape in shapes)
        for place, scan in enumerate(self.scans):
            scan.lay(*([value[place] for value in values] for values in (self.zeros, self.before, self.after)))
        self.starts_from(zeros=True)
        tasks = array(POINTER_CODE, [addressof(scan.task) for scan in self.scans])
        self.held = tasks
        numbers = map(c_int64, (library.number(level), self.dtype == FLOATS[1], len(tasks)))
        self.given = *numbers, c_void_p(tasks.buffer_info()[0])
        self.call = library.library()[
            "recurray_forward_each"
        ]  # anew, without types that would be looked at in each call
        self.shared = [scan for scan in self.scans if may_share(scan.operations, scan.valid)]
        self.bind(weights)
        held = [vars(scan.held[0]) for scan in self.scans]
        self.nbytes = memory_of([vars(self), *map(vars, self.scans), held], weights)

    def starts_from(self, *, zeros: bool) -> None:
        """Have the tasks begin with zeros, or with the state given."""
        self.from_zeros = zeros
        for scan in self.scans:
            scan.task.first = scan.zeros if zeros else scan.before

    def bind(self, weights: Sequence[Weights]) -> None:
        """Take the weights."""
        for scan, own in zip(self.scans, weights, strict=True):
            scan.take(own)
        self.copied = [scan for scan in self.scans if scan.copied]

    def renew(self) -> None:
        """Bring up to date what another call may find changed: weights that were copied, how many threads there are."""
        for scan in self.copied:
            scan.take(scan.weights)
        for scan in self.shared:
            scan.task.threads = thread_count(scan.operations, scan.valid)

    def __call__(self, x: Any, before: tuple[Any, ...] | None) -> tuple[Any, tuple[Any, ...]]:
        """Run layer after layer."""
        self.x[...] = x
        if before is not None:
            for own, value in zip(self.before, before, strict=True):
                own[...] = value
        if self.from_zeros is not (before is None):
            self.starts_from(zeros=before is None)
        if self.copied or self.shared:
            self.renew()
        if self.call(*self.given):
            raise MemoryError(NO_MEMORY)
        return self.y.copy(), tuple([value.copy() for value in self.after])


class _Scan:
    """A direction of a layer: a task from ``x`` to its part of ``y``."""

    def __init__(
        self, level: str, cell: Cell, weights: Weights, x: Any, y: Any, direction: int, *, reverse: bool
    ) -> None:
        (steps, batch, self.features), self.dtype, self.level = x.shape, x.dtype, level
        self.between = x, y  # held, while their addresses are in use
        self.ready, self.valid = compiled(cell), rows(steps, batch, None, reverse)
        self.size, self.outputs = arguments.check_weights(self.ready, weights, self.features, batch, self.dtype)
        means = arguments.draws_in_order(self.ready, cell.draws, (steps, batch, self.size), self.dtype)
        self.means = [np.full(self.size, mean, self.dtype) for mean in means]
        listing = self.ready.forward(training=False, means=bool(means)).listing
        self.task, self.operations = begun(self.ready, listing, self.valid, self.features, self.size, self.outputs)
        self.task.x, self.task.y_row = address(x), y.shape[2]
        self.task.y = address(y) + direction * self.outputs * self.dtype.itemsize
        self.params, self.states = len(self.ready.param_rows) + len(means), len(cell.states)
        self.table = array(POINTER_CODE, [0] * (self.params + 3 * self.states))
        self.task.param = self.at(0)

    def at(self, place: int) -> int:
        """The address of a place in the table."""
        return self.table.buffer_info()[0] + place * POINTER_SIZE

    def lay(self, zeros: list[Any], before: list[Any], after: list[Any]) -> None:
        """Take where states are found, and put."""
        for k, value in enumerate((*zeros, *before, *after)):
            self.table[self.params + k] = address(value)
        self.zeros, self.before = self.at(self.params), self.at(self.params + self.states)
        self.task.last = self.at(self.params + 2 * self.states)

    def take(self, weights: Weights) -> None:
        """Have the task read the weights where they are, or a copy where they aren't in the order wanted."""
        arguments.check_weights(self.ready, weights, self.features, self.valid.shape[1], self.dtype)
        self.weights, read = weights, contiguous(weights)
        fill(self.task, input_weight=read.input, input_bias=read.input_bias, projection=read.projection)
        fill(self.task, recurrent_weight=read.recurrent, recurrent_bias=read.recurrent_bias)
        rows = [*param_rows(self.ready, read), *self.means]
        for k, row in enumerate(rows):
            self.table[k] = address(row)
        kept = ready_weights(self.level, self.dtype, self.task, read)
        fill(self.task, ready=kept)
        self.held = read, rows, kept  # while their addresses are in use
        pairs = zip(_arrays(weights), _arrays(read), strict=True)
        self.copied = kept is None and not all(a is b for a, b in pairs)


def _arrays(weights: Weights) -> list[Any]:
    own = [weights.input, weights.recurrent, weights.input_bias, weights.recurrent_bias, weights.projection]
    return own + list(weights.pointwise.values())
