"""Small calls of one shape in inference: the engine's tasks, with all filled in, from one to the next.

T time, B batch, I input, R size of a direction's output, D directions, L layers.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from ctypes import addressof, c_int64, c_void_p
from functools import partial
from typing import Any

import numpy as np

from recurray.backend import Stack
from recurray.cells.cell import Cell, Weights
from recurray_native import arguments, library
from recurray_native.affine import check_affine
from recurray_native.arguments import FLOATS
from recurray_native.compiled import compiled
from recurray_native.rows import rows
from recurray_native.scan import (
    NO_MEMORY,
    begun,
    contiguous,
    fill,
    filled,
    may_share,
    param_rows,
    ready_weights,
    thread_count,
)
from recurray_native.structures import POINTER_CODE, POINTER_SIZE, CChain, CTask, address
from recurray_numpy.buffers import memory_of

QUICK = 100_000  # multiplications, about, that other threads may wait for: some microseconds


class LayersPlan:
    """Layers one after the other; see `recurray.backend.ChainPlan`.

    Parameters
    ----------
    level : str
        The instruction set.
    stacks : sequence of Stack
        The layers.
    shape : tuple of int
        Of the input, (T, B, I).

    Raises
    ------
    ValueError
        A layer isn't of the size of the output before.
    """

    def __init__(self, level: str, stacks: Sequence[Stack], shape: tuple[int, int, int]) -> None:
        self.level, self.dtype = level, stacks[0].weights[0].input.dtype
        self.links: list[_Scan | _Product] = []
        self.y = self.x = np.empty(shape, self.dtype)
        self.zeros: tuple[Any, ...] = ()
        self.before: tuple[Any, ...] = ()
        self.after: tuple[Any, ...] = ()
        for stack in stacks:
            self._add_scans(stack) if stack.cells else self._add_product(stack.weights[0])
        self.starts_from(zeros=True)
        self.shared = [link for link in self.links if isinstance(link, _Scan) and link.may_share]
        self.ready: list[Any] | None = None
        weights = [own for stack in stacks for own in stack.weights]
        self.bind(weights)
        held = [vars(link.held[0]) for link in self.links]
        self.nbytes = memory_of([vars(self), *map(vars, self.links), held], weights)

    def _add_scans(self, stack: Stack) -> None:
        """The layers and directions of a recurrent layer."""
        steps, batch, features = self.y.shape
        directions, scans = len(stack.cells), list[_Scan]()
        ready = compiled(stack.cells[0])
        _, outputs = arguments.check_weights(ready, stack.weights[0], features, batch, self.dtype)
        for first in range(0, len(stack.weights), directions):
            x, self.y = self.y, np.empty((steps, batch, directions * outputs), self.dtype)
            scans += [
                _Scan(self.level, cell, stack.weights[first + k], x, self.y, k, reverse=stack.reverse or k == 1)
                for k, cell in enumerate(stack.cells)
            ]
        sizes = [scans[0].size if k else outputs for k in range(ready.states)]
        shapes = [(len(scans), batch, size) for size in sizes]
        of_states = [tuple(make(shape, self.dtype) for shape in shapes) for make in (np.zeros, np.empty, np.empty)]
        for place, scan in enumerate(scans):
            scan.lay(*([value[place] for value in values] for values in of_states))
        zeros, before, after = of_states
        self.zeros, self.before, self.after = self.zeros + zeros, self.before + before, self.after + after
        self.links += scans

    def _add_product(self, weights: Weights) -> None:
        x, (steps, batch, _) = self.y, self.y.shape
        self.y = np.empty((steps, batch, len(weights.input)), self.dtype)
        self.links.append(_Product(weights, x, self.y))

    def starts_from(self, *, zeros: bool) -> None:
        """Have the tasks begin with zeros, or with the state given."""
        self.from_zeros = zeros
        for link in self.links:
            link.starts_from(zeros=zeros)

    def bind(self, weights: Sequence[Weights]) -> None:
        """Take the weights."""
        for link, own in zip(self.links, weights, strict=True):
            link.take(own)
        ready = [link.task.ready for link in self.links]
        if ready != self.ready:
            self._prepare()
            self.ready = ready
        self.copied = [link for link in self.links if link.copied]

    def _prepare(self) -> None:
        """Lay out the tasks' work space for all calls, where one thread does them."""
        tasks = array(POINTER_CODE, [addressof(link.task) for link in self.links])
        at, number, is_double = tasks.buffer_info()[0], library.number(self.level), self.dtype == FLOATS[1]
        if self.shared:
            self.held: Any = tasks
            self.call = partial(_run_each, *map(c_int64, (number, is_double, len(tasks))), c_void_p(at))
            return
        rooms = [filled(library.library().recurray_prepare, number, is_double, link.task) for link in self.links]
        places = array(POINTER_CODE, map(address, rooms))
        chain = CChain(number, is_double, len(tasks), at, places.buffer_info()[0])
        self.held = tasks, rooms, places, chain
        operations = sum(link.operations for link in self.links)
        self.call = partial(library.runner(holds=operations <= QUICK), c_void_p(addressof(chain)))

    @property
    def run(self) -> Callable[[], object]:
        """What runs all layers."""
        return self.renewed if self.copied or self.shared else self.call

    def renewed(self) -> None:
        """Run with what another call may find changed: weights that were copied, how many threads there are."""
        for link in self.copied:
            link.take(link.weights)
        for scan in self.shared:
            scan.task.threads = thread_count(scan.operations, scan.valid)
        self.call()


def _run_each(*given: Any) -> None:
    if library.library().recurray_forward_each(*given):
        raise MemoryError(NO_MEMORY)


class _Product:
    """A product with the weights: a task from ``x`` to ``y``."""

    def __init__(self, weights: Weights, x: Any, y: Any) -> None:
        self.between = x, y  # held, while their addresses are in use
        (steps, batch, self.features), (*_, outputs) = x.shape, y.shape
        self.task = CTask(rows=steps * batch, features=self.features, outputs=outputs, x=address(x), y=address(y))
        self.operations, self.dtype = steps * batch * outputs * self.features, x.dtype
        check_affine(weights.input, weights.input_bias, self.features, self.dtype)

    def starts_from(self, *, zeros: bool) -> None:
        """It has no state."""

    def take(self, weights: Weights) -> None:
        """Have the task read the weights where they are, or a copy where they aren't in order."""
        check_affine(weights.input, weights.input_bias, self.features, self.dtype)
        self.weights, self.held = weights, (contiguous(weights),)
        fill(self.task, input_weight=self.held[0].input, input_bias=self.held[0].input_bias)
        self.copied = weights.kept is None and not is_same(weights, self.held[0])


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
        self.may_share = may_share(self.operations, self.valid)

    def at(self, place: int) -> int:
        """The address of a place in the table."""
        return self.table.buffer_info()[0] + place * POINTER_SIZE

    def lay(self, zeros: list[Any], before: list[Any], after: list[Any]) -> None:
        """Take where states are found, and put."""
        for k, value in enumerate((*zeros, *before, *after)):
            self.table[self.params + k] = address(value)
        self.zeros, self.before = self.at(self.params), self.at(self.params + self.states)
        self.task.last = self.at(self.params + 2 * self.states)

    def starts_from(self, *, zeros: bool) -> None:
        """Begin with zeros, or with the state given."""
        self.task.first = self.zeros if zeros else self.before

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
        self.copied = kept is None and not is_same(weights, read)


def is_same(weights: Weights, other: Weights) -> bool:
    """Whether the arrays are the same."""
    return all(a is b for a, b in zip(_arrays(weights), _arrays(other), strict=True))


def _arrays(weights: Weights) -> list[Any]:
    own = [weights.input, weights.recurrent, weights.input_bias, weights.recurrent_bias, weights.projection]
    return own + list(weights.pointwise.values())
