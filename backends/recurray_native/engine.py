"""The scan forward and backward, by the compiled engine.

T time, B batch, N valid rows of all steps, I input, H hidden units, R size of the output. See `c/engine.h`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from ctypes import byref
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from recurray.cells.cell import Cell, Draws, Weights
from recurray.recording import RecordingError
from recurray_native import library, threads
from recurray_native.compiled import Compiled, compiled
from recurray_native.rows import Rows, rows
from recurray_native.structures import CTask, Listing, address, tables

FLOATS = (np.dtype("float32"), np.dtype("float64"))
ENOUGH = 200_000  # multiplications of a call below which a second thread costs more than it saves
ENOUGH_A_STEP = (
    50_000  # the same of a step, for each thread, where threads share rows and wait for each other at each step
)
ROWS_EACH = 12  # rows from which a thread has some of its own, on all levels


@dataclass(frozen=True)
class Cache:
    """All that backward reads. Rows are by falling length; arrays over time hold the valid rows alone."""

    weights: Weights  # copies
    rows: Rows
    x: Any  # (N, I)
    packed: Any  # (arrays, N, H) padded, by the step's program
    h_before: Any  # (N, R), what the recurrent product was with; None if there is none
    output: Any  # (N, H) padded, where it is projected
    output_mask: Any  # (B, R), or None


class Engine:
    """The compiled engine, as the NumPy backend uses it.

    Parameters
    ----------
    level : str, optional
        The instruction set to use, one of `recurray_native.library.levels`; by default what the environment variable
        ``RECURRAY_NATIVE_LEVEL`` names, else the best that the processor has.
    """

    name = "native"

    def __init__(self, level: str | None = None) -> None:
        self._wanted = level

    @cached_property
    def level(self) -> str:
        """The instruction set in use.

        Raises
        ------
        recurray_native.UnavailableError, ValueError
            The compiled part isn't there, or there is no such instruction set here.
        """
        return library.chosen_level(self._wanted)

    @property
    def description(self) -> str:
        """Which instructions it uses, and how many threads it may use; raises what `level` does."""
        return f"{self.level}, up to {threads.get_num_threads()} threads"

    def threads(self, count: int) -> AbstractContextManager[None]:
        """Return a context in which it may use ``count`` threads."""
        return threads.limited_threads(count)

    def refuses(self, cell: Cell, weights: Weights, x: Any) -> str | None:
        """Return why it can't run a cell on these arrays, None if it can."""
        try:
            ready = compiled(cell)
        except RecordingError as error:
            return str(error)
        if x.dtype not in FLOATS:
            return f"it computes in float32 and float64, not {x.dtype}"
        if weights.projection is not None and ready.reads_output:
            return "the cell computes with the output before, element by element, which is projected to another size"
        return None

    def owns(self, cache: Any) -> bool:
        """Tell whether a cache is this engine's."""
        return isinstance(cache, Cache)

    def scan_forward(
        self,
        cell: Cell,
        weights: Weights,
        x: Any,
        start: tuple[Any, ...],
        *,
        lengths: Sequence[int] | None = None,
        reverse: bool = False,
        keep: bool = True,
        draws: Draws | None = None,
        output_mask: Any = None,
    ) -> tuple[Any, tuple[Any, ...], Cache | None]:
        """Run a cell over time; see `recurray.scan.forward`."""
        ready, dtype = compiled(cell), x.dtype
        steps, batch, features = x.shape
        valid = rows(steps, batch, lengths, reverse)
        count, size, outputs = valid.total, len(weights.input) // len(cell.input_gates), start[0].shape[1]
        padded = self._padded(size, dtype)

        means = [value for value in draws.values() if isinstance(value, float)] if draws else []
        program = ready.forward(training=keep, means=bool(means))
        packed = np.empty((len(program.packed), count, padded), dtype)  # in one: large blocks come in large pages
        if draws and not means:
            for name, value in draws.items():
                packed[program.packed.index(f"x.{name}"), :, :size] = valid.over_time(value)
        weights = _contiguous(weights, copy=keep)
        x_rows = valid.over_time(x)
        if keep and x_rows is not x and x_rows.base is not None:
            x_rows = x_rows.copy()  # what becomes of x mustn't matter
        y = np.empty((count, outputs), dtype)
        h_before = np.empty((count, outputs), dtype) if keep and ready.has_recurrent_product else None
        output = np.empty((count, padded), dtype) if keep and weights.projection is not None else None
        mask = None if output_mask is None else valid.sorted(output_mask)
        first = [valid.sorted(value) for value in start]
        last = [value.copy() for value in first]
        params = [*_param_rows(weights), *(np.full(size, mean, dtype) for mean in means)]

        if count:
            task = _begun(ready, program.listing, valid, features, size, outputs)
            _fill(task, input_weight=weights.input, input_bias=weights.input_bias, recurrent_weight=weights.recurrent)
            _fill(task, recurrent_bias=weights.recurrent_bias, projection=weights.projection)
            _fill(task, x=x_rows, y=y, mask=mask, h_before=h_before, output=output)
            self._run("recurray_forward", dtype, task, params, first, last, _addresses(packed))
        end = tuple([valid.unsorted(value) for value in last])
        y = valid.from_time(y)
        return y, end, Cache(weights, valid, x_rows, packed, h_before, output, mask) if keep else None

    def scan_backward(
        self, cell: Cell, cache: Cache, dy: Any, dend: tuple[Any, ...]
    ) -> tuple[Any, tuple[Any, ...], Weights]:
        """Backward through time; see `recurray.scan.backward`."""
        ready, dtype = compiled(cell), dy.dtype
        weights, valid = cache.weights, cache.rows
        features, outputs = cache.x.shape[1], dy.shape[2]
        size = len(weights.input) // len(cell.input_gates)
        is_projected = weights.projection is not None
        made = np.empty_like if valid.total else np.zeros_like

        dx = np.empty_like(cache.x)
        dy = valid.over_time(dy)
        d_input = made(weights.input)
        d_recurrent = None if weights.recurrent is None else made(weights.recurrent)
        d_projection = made(weights.projection) if is_projected else None
        columns = ready.blocks.count + ready.blocks.inner + len(ready.param_rows)
        sums = np.zeros((columns, self._padded(size, dtype)), dtype)
        first = [valid.sorted(value) for value in dend]
        last = [value.copy() for value in first]
        if valid.total:
            listing = ready.backward_projected if is_projected else ready.backward
            task = _begun(ready, listing, valid, features, size, outputs)
            _fill(task, input_weight=weights.input, recurrent_weight=weights.recurrent, projection=weights.projection)
            _fill(task, x=cache.x, dy=dy, dx=dx, mask=cache.output_mask, sums=sums)
            _fill(task, h_before=cache.h_before, output=cache.output)
            _fill(task, d_input_weight=d_input, d_recurrent_weight=d_recurrent, d_projection=d_projection)
            packed = _addresses(cache.packed)
            if ready.blocks.inner:
                task.inner_operand = packed.pop()  # which comes last
            kept = packed[len(packed) - len(ready.kept) :]
            self._run("recurray_backward", dtype, task, _param_rows(weights), first, last, kept)
        dstart = tuple([valid.unsorted(value) for value in last])
        of_input, of_recurrent, pointwise = _sums_by_use(ready, weights, sums[:, :size])
        grads = Weights(d_input, d_recurrent, of_input, of_recurrent, d_projection, pointwise)
        return valid.from_time(dx), dstart, grads

    def _padded(self, size: int, dtype: Any) -> int:
        """Size rounded up to whole vectors."""
        lanes = library.lanes(self.level, dtype == FLOATS[1])
        return -(-size // lanes) * lanes

    def _run(
        self,
        function: str,
        dtype: Any,
        task: CTask,
        params: list[Any],
        first: list[Any],
        last: list[Any],
        packed: list[int],
    ) -> None:
        """Do a task, given what it has lists of; the caller holds all arrays."""
        held = tables(
            task,
            param=[address(a) for a in params],
            first=[address(a) for a in first],
            last=[address(a) for a in last],
            packed=packed,
        )
        failed = getattr(library.library(), function)(library.number(self.level), dtype == FLOATS[1], byref(task))
        del held
        if failed:
            raise MemoryError("the engine couldn't get the memory that it works in")


def _begun(ready: Compiled, listing: Listing, valid: Rows, features: int, size: int, outputs: int) -> CTask:
    """A task with its program and sizes."""
    task = listing.begin()
    task.steps, (_, task.batch), task.rows = len(valid.counts), valid.shape, valid.total
    task.features, task.units, task.outputs = features, size, outputs
    task.counts, task.offsets, task.lengths, task.ends = valid.addresses
    products = len(ready.input_places) * features + len(ready.recurrent_places) * outputs
    task.threads = _thread_count(valid.total * size * (products + 100), valid)
    return task


def _fill(task: CTask, **arrays: Any) -> None:
    """Give a task the addresses of arrays, which the caller holds, by its fields."""
    for name, a in arrays.items():
        if a is not None:
            setattr(task, name, address(a))


def _addresses(packed: Any) -> list[int]:
    """The addresses of the arrays in a block of them."""
    if not len(packed):
        return []
    at = address(packed)
    return [at + k * packed.strides[0] for k in range(len(packed))]


def _thread_count(operations: int, valid: Rows) -> int:
    if operations < ENOUGH:
        return 1
    wanted = threads.get_num_threads()
    if valid.shape[1] >= wanted * ROWS_EACH:
        return wanted
    return max(1, min(wanted, operations // len(valid.counts) // ENOUGH_A_STEP))


def _param_rows(weights: Weights) -> list[Any]:
    return [row for rows_of_param in weights.pointwise.values() for row in rows_of_param]


def _contiguous(weights: Weights, *, copy: bool) -> Weights:
    """The weights, each contiguous; copies, if what becomes of them mustn't matter."""
    brought = _copy if copy else _as_contiguous
    return Weights(
        brought(weights.input),
        brought(weights.recurrent),
        brought(weights.input_bias),
        brought(weights.recurrent_bias),
        brought(weights.projection),
        {name: brought(a) for name, a in weights.pointwise.items()},
    )


def _copy(a: Any) -> Any:
    return None if a is None else a.copy()


def _as_contiguous(a: Any) -> Any:
    return a if a is None or a.flags.c_contiguous else np.ascontiguousarray(a)


def _sums_by_use(ready: Compiled, weights: Weights, sums: Any) -> tuple[Any, Any, dict[str, Any]]:
    """From sums (blocks and terms, H) over all rows to the gradients of both biases, and of the cell's own params."""
    of_input = None if weights.input_bias is None else sums[ready.input_places].reshape(-1)
    of_recurrent = None if weights.recurrent_bias is None else sums[ready.recurrent_places].reshape(-1)
    pointwise = {}
    first = ready.blocks.count + ready.blocks.inner
    for name, names in ready.cell.pointwise.items():
        pointwise[name] = sums[first : first + len(names)].copy()
        first += len(names)
    return of_input, of_recurrent, pointwise
