"""The scan forward and backward, by the compiled engine.

T time, B batch, N valid rows of all steps, I input, H hidden units, R size of the output. See `c/engine.h`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from ctypes import addressof, byref, c_char
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from recurray.cells.cell import Cell, Draws, Weights
from recurray.recording import RecordingError
from recurray_native import library, threads
from recurray_native.compiled import Compiled, compiled
from recurray_native.rows import Rows, rows
from recurray_native.structures import CTask, Listing, pointers

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
    packed: dict[str, Any]  # (N, H) padded
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
        ready, call, dtype = compiled(cell), _Call(self.level, x.dtype), x.dtype
        steps, batch, _ = x.shape
        valid = rows(steps, batch, lengths, reverse)
        size, outputs = len(weights.input) // len(cell.input_gates), start[0].shape[1]
        count, padded = valid.total, call.padded(size)

        means = [value for value in draws.values() if isinstance(value, float)] if draws else []
        program = ready.forward(training=keep, means=bool(means))
        packed = _side_by_side(program.packed, count, padded, dtype)
        if draws and not means:
            for name, value in draws.items():
                packed[f"x.{name}"][:, :size] = valid.over_time(value)
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

        if count:
            task = call.task(ready, program.listing, weights, valid, size, outputs)
            call.params(task, program.listing, [*_param_rows(weights), *(np.full(size, mean, dtype) for mean in means)])
            call.states(task, first, last)
            call.arrays(task, x=x_rows, y=y, mask=mask, h_before=h_before, output=output)
            task.packed = call.listed(packed.values())
            call.run("recurray_forward", task)
        end = tuple(valid.unsorted(value) for value in last)
        if not keep:
            return valid.from_time(y), end, None
        kept = {name: packed[name] for name in (*ready.kept, "inner") if name in packed}
        return valid.from_time(y), end, Cache(weights, valid, x_rows, kept, h_before, output, mask)

    def scan_backward(
        self, cell: Cell, cache: Cache, dy: Any, dend: tuple[Any, ...]
    ) -> tuple[Any, tuple[Any, ...], Weights]:
        """Backward through time; see `recurray.scan.backward`."""
        ready, call = compiled(cell), _Call(self.level, dy.dtype)
        weights, valid = cache.weights, cache.rows
        size, outputs = len(weights.input) // len(cell.input_gates), dy.shape[2]
        listing = ready.backward_projected if weights.projection is not None else ready.backward
        made = np.empty_like if valid.total else np.zeros_like

        dx = np.empty_like(cache.x)
        d_input = made(weights.input)
        d_recurrent = None if weights.recurrent is None else made(weights.recurrent)
        d_projection = None if weights.projection is None else made(weights.projection)
        terms = len(ready.param_rows)
        sums = np.zeros((ready.blocks.count + ready.blocks.inner + terms, call.padded(size)), dy.dtype)
        first = [valid.sorted(value) for value in dend]
        last = [value.copy() for value in first]
        if valid.total:
            task = call.task(ready, listing, weights, valid, size, outputs)
            task.terms = terms
            call.params(task, listing, _param_rows(weights))
            call.states(task, first, last)
            call.arrays(task, x=cache.x, dy=valid.over_time(dy), dx=dx, mask=cache.output_mask, sums=sums)
            call.arrays(task, h_before=cache.h_before, output=cache.output, inner_operand=cache.packed.get("inner"))
            call.arrays(task, d_input_weight=d_input, d_recurrent_weight=d_recurrent, d_projection=d_projection)
            task.packed = call.listed([cache.packed[name] for name in ready.kept])
            call.run("recurray_backward", task)
        dstart = tuple(valid.unsorted(value) for value in last)
        of_input, of_recurrent, pointwise = _sums_by_use(ready, weights, sums[:, :size])
        grads = Weights(d_input, d_recurrent, of_input, of_recurrent, d_projection, pointwise)
        return valid.from_time(dx), dstart, grads


class _Call:
    """A task being filled in, and all that its pointers point to."""

    def __init__(self, level: str, dtype: Any) -> None:
        self.level = level
        self.is_double = dtype == FLOATS[1]
        self.kept: list[Any] = []

    def padded(self, size: int) -> int:
        """Size rounded up to whole vectors."""
        lanes = library.lanes(self.level, self.is_double)
        return -(-size // lanes) * lanes

    def at(self, a: Any) -> int:
        """The address of a contiguous array, which is kept until the call is over."""
        if a is None:
            return 0
        self.kept.append(a)
        try:
            return addressof(c_char.from_buffer(a))  # which refuses what isn't contiguous
        except TypeError:  # it isn't to be written to; this takes seven times as long
            if not a.flags.c_contiguous:
                raise
            address: int = a.ctypes.data
            return address

    def listed(self, arrays: Any) -> int:
        """The address of the arrays' addresses."""
        found = pointers([self.at(a) for a in arrays])
        self.kept.append(found)
        return addressof(found)

    def task(self, ready: Compiled, listing: Listing, weights: Weights, valid: Rows, size: int, outputs: int) -> CTask:
        """A task with sizes, weights and program."""
        blocks, features = ready.blocks, weights.input.shape[1]
        operations = (
            valid.total * size * (len(ready.input_places) * features + len(ready.recurrent_places) * outputs + 100)
        )
        task = CTask(
            *(len(valid.counts), valid.shape[1], valid.total, features, size, outputs),
            _thread_count(operations, valid),
            *valid.addresses,
            *(blocks.count, blocks.inner, 0, addressof(blocks.input_gate), addressof(blocks.recurrent_gate)),
            *(self.at(weights.input), self.at(weights.input_bias)),
            *(self.at(weights.recurrent), self.at(weights.recurrent_bias), self.at(weights.projection)),
        )
        task.program = listing.program
        return task

    def params(self, task: CTask, listing: Listing, found: list[Any]) -> None:
        """The cell's own params, by row, and the program's constants."""
        if found:
            task.params, task.param = len(found), self.listed(found)
        task.constants, task.constant = len(listing.constants), addressof(listing.constants)

    def states(self, task: CTask, first: list[Any], last: list[Any]) -> None:
        """Where states, or their gradients, come from and go to."""
        task.states, task.first, task.last = len(first), self.listed(first), self.listed(last)

    def arrays(self, task: CTask, **found: Any) -> None:
        """Arrays by the fields of the task."""
        for name, a in found.items():
            if a is not None:
                setattr(task, name, self.at(a))

    def run(self, function: str, task: CTask) -> None:
        """Do the task."""
        failed = getattr(library.library(), function)(library.number(self.level), self.is_double, byref(task))
        if failed:
            raise MemoryError("the engine couldn't get the memory that it works in")


def _thread_count(operations: int, valid: Rows) -> int:
    wanted = threads.get_num_threads()
    if operations < ENOUGH:
        return 1
    if valid.shape[1] >= wanted * ROWS_EACH:
        return wanted
    return max(1, min(wanted, operations // len(valid.counts) // ENOUGH_A_STEP))


def _side_by_side(names: Sequence[str], count: int, padded: int, dtype: Any) -> dict[str, Any]:
    """Arrays (N, H) padded, in one block: large blocks come in large pages, which takes a fraction of the time."""
    return dict(zip(names, np.empty((len(names), count, padded), dtype), strict=True)) if names else {}


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
