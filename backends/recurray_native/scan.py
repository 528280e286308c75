"""The scan forward and backward, by the compiled engine.

T time, B batch, N valid rows of all steps, I input, H hidden units, R size of the output. See `c/engine.h`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from ctypes import byref
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recurray.cells.cell import Cell, Draws, Weights
from recurray.scan import Gradients
from recurray_native import arguments, library, threads
from recurray_native.arguments import FLOATS
from recurray_native.compiled import Compiled, compiled
from recurray_native.rows import Rows, in_order, rows
from recurray_native.structures import CTask, Listing, address, tables
from recurray_numpy.buffers import empty

ENOUGH = 200_000  # multiplications of a call below which a second thread costs more than it saves
ENOUGH_A_STEP = (
    50_000  # the same of a step, for each thread, where threads share rows and wait for each other at each step
)
NO_MEMORY = "the engine couldn't get the memory that it works in"
LEAST_ROWS = 512  # rows that the engine has room for at least
LARGE = 16 << 20  # bytes; blocks somewhat larger are given back to the system and cleared anew each time
LANES = 64  # more than a vector has
BOUNDARY = 64  # bytes, on which the engine's arrays are
ROWS_EACH = 12  # rows from which a thread has some of its own, on all levels


@dataclass(frozen=True)
class Cache:
    """All that backward reads. Rows are by falling length; arrays over time hold the valid rows alone.

    It is forward alone that makes one, of arrays that belong together. Nobody may write to these before backward.
    """

    cell: Cell
    level: str  # the instruction set
    sizes: tuple[int, int]  # H, R
    weights: Weights  # these and x are the caller's arrays, or copies where they aren't in the order wanted
    rows: Rows
    x: Any  # (N, I)
    packed: Any  # (arrays, N, H) padded, by the step's program
    h_before: Any  # (N, R), what the recurrent product was with; None if there is none
    output: Any  # (N, H) padded, where it is projected
    output_mask: Any  # (B, R), or None

    def backward(self, dy: Any, dend: tuple[Any, ...]) -> Gradients:
        """Backward through time; see `recurray.scan.backward`."""
        return backward(self, dy, dend)


def forward(
    level: str,
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
    """Run a cell over time by an instruction set; see `recurray.scan.forward`.

    Raises
    ------
    ValueError, TypeError
        An array isn't of the size or the dtype that the others imply.
    MemoryError
        The arrays are too large to work on.
    """
    arguments.check_input(x)
    ready, dtype = compiled(cell), x.dtype
    steps, batch, features = x.shape
    size, outputs = arguments.check_weights(ready, weights, features, batch, dtype)
    arguments.check_states("start", start, ready, batch, size, outputs, dtype)
    if output_mask is not None:
        arguments.check_array("output_mask", output_mask, (batch, outputs), dtype)
    drawn = arguments.draws_in_order(ready, draws, (steps, batch, size), dtype)
    valid = rows(steps, batch, lengths, reverse)
    count, padded = valid.total, _padded(level, size, dtype)

    means = drawn if drawn and isinstance(drawn[0], float) else []
    program = ready.forward(training=keep, means=bool(means))
    packed = _empty((len(program.packed), count, padded), dtype)  # in one: large blocks come in large pages
    if not means:
        for k, value in enumerate(drawn):  # which come first
            packed[k, :, :size] = valid.over_time(value)
    weights = contiguous(weights)
    by_row = arguments.is_by_row(weights.input_bias)
    bias = valid.sorted(weights.input_bias) if by_row else weights.input_bias
    x_rows = valid.over_time(x)
    y = np.empty((count, outputs), dtype)
    h_before = _empty((count, outputs), dtype) if keep and ready.has_recurrent_product else None
    output = _empty((count, padded), dtype) if keep and weights.projection is not None else None
    mask = None if output_mask is None else valid.sorted(output_mask)
    first = [valid.sorted(value) for value in start]
    last = [value.copy() for value in first]
    params = [*param_rows(ready, weights), *(np.full(size, mean, dtype) for mean in means)]

    if count:
        task, _ = begun(ready, program.listing, valid, features, size, outputs)
        fill(task, input_weight=weights.input, input_bias=bias, recurrent_weight=weights.recurrent)
        task.bias_row = bias.shape[1] if bias is not None and by_row else 0
        fill(task, recurrent_bias=weights.recurrent_bias, projection=weights.projection)
        fill(task, x=x_rows, y=y, mask=mask, h_before=h_before, output=output)
        fill(task, ready=ready_weights(level, dtype, task, weights))
        _run("recurray_forward", level, dtype, task, params, first, last, _addresses(packed))
    end = tuple([valid.unsorted(value) for value in last])
    y = valid.from_time(y)
    cache = (
        Cache(cell, level, (size, outputs), weights, valid, x_rows, packed, h_before, output, mask) if keep else None
    )
    return y, end, cache


def backward(cache: Cache, dy: Any, dend: tuple[Any, ...]) -> Gradients:
    """Backward through time; see `recurray.scan.backward`.

    Raises
    ------
    ValueError, TypeError
        The weights aren't as forward had them, or a gradient isn't of the size or the dtype of what it is of.
    MemoryError
        The arrays are too large to work on.
    """
    ready, dtype = compiled(cache.cell), cache.x.dtype
    _check_cache(ready, cache)
    weights, valid, features = cache.weights, cache.rows, cache.x.shape[1]
    size, outputs = cache.sizes
    padded = _padded(cache.level, size, dtype)
    arguments.check_array("dy", dy, (*valid.shape, outputs), dtype)
    arguments.check_states("dend", dend, ready, valid.shape[1], size, outputs, dtype)
    is_projected = weights.projection is not None
    made = np.empty_like if valid.total else np.zeros_like

    dx = np.empty_like(cache.x)
    dy = valid.over_time(dy)
    d_input = made(weights.input)
    d_recurrent = None if weights.recurrent is None else made(weights.recurrent)
    d_projection = made(weights.projection) if is_projected else None
    columns = len(ready.gates.all) + len(ready.param_rows)
    sums = np.zeros((columns, padded), dtype)
    by_row = arguments.is_by_row(weights.input_bias)
    sums_by_row = np.zeros((valid.shape[1], len(ready.input_places), padded), dtype) if by_row else None
    first = [valid.sorted(value) for value in dend]
    last = [value.copy() for value in first]
    if valid.total:
        listing = ready.backward(projected=is_projected)
        task, _ = begun(ready, listing, valid, features, size, outputs)
        fill(task, input_weight=weights.input, recurrent_weight=weights.recurrent, projection=weights.projection)
        fill(task, x=cache.x, dy=dy, dx=dx, mask=cache.output_mask, sums=sums, sums_by_row=sums_by_row)
        task.bias_row = int(by_row)
        fill(task, h_before=cache.h_before, output=cache.output)
        fill(task, d_input_weight=d_input, d_recurrent_weight=d_recurrent, d_projection=d_projection)
        packed = _addresses(cache.packed)
        if ready.gates.inner:
            task.inner_operand = packed.pop()  # which comes last
        kept = packed[len(packed) - len(ready.kept) :]
        _run("recurray_backward", cache.level, dtype, task, param_rows(ready, weights), first, last, kept)
    dstart = tuple([valid.unsorted(value) for value in last])
    of_input, of_recurrent, pointwise = _sums_by_use(ready, weights, sums[:, :size])
    if sums_by_row is not None:
        of_rows = sums_by_row[:, :, :size].take(ready.input_places, axis=1)
        of_input = valid.unsorted(of_rows.reshape(len(of_rows), len(ready.input_places) * size))
    grads = Weights(d_input, d_recurrent, of_input, of_recurrent, d_projection, pointwise)
    return valid.from_time(dx), dstart, grads


def _check_cache(ready: Compiled, cache: Cache) -> None:
    """Refuse a cache whose weights changed, or whose instruction set doesn't run here."""
    library.chosen_level(cache.level)
    sizes = arguments.check_weights(ready, cache.weights, cache.x.shape[1], cache.rows.shape[1], cache.x.dtype)
    if sizes != cache.sizes:
        raise ValueError(f"the weights must be as forward had them, of {cache.sizes} units and outputs, not {sizes}")


def _empty(shape: tuple[int, ...], dtype: Any) -> Any:
    """An array that may hold anything, in memory of former calls where the system would have to clear much of it."""
    return (empty if math.prod(shape) * dtype.itemsize >= LARGE else np.empty)(shape, dtype)


def _padded(level: str, size: int, dtype: Any) -> int:
    """Size rounded up to whole vectors."""
    lanes = library.lanes(level, dtype == FLOATS[1])
    return -(-size // lanes) * lanes


def _run(
    function: str,
    level: str,
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
    failed = getattr(library.library(), function)(library.number(level), dtype == FLOATS[1], byref(task))
    del held
    if failed:
        raise MemoryError(NO_MEMORY)


def begun(ready: Compiled, listing: Listing, valid: Rows, features: int, size: int, outputs: int) -> tuple[CTask, int]:
    """A task with its program and sizes, and how many multiplications it is, about."""
    arguments.check_work_space(valid.shape[1] + LEAST_ROWS, size + features + outputs + LANES)
    task = listing.begin()
    task.steps, (_, task.batch), task.rows = len(valid.counts), valid.shape, valid.total
    task.features, task.units, task.outputs, task.y_row = features, size, outputs, outputs
    task.counts, task.offsets, task.lengths, task.ends = valid.addresses()
    products = len(ready.input_places) * features + len(ready.recurrent_places) * outputs
    operations = valid.total * size * (products + 100)
    task.threads = thread_count(operations, valid)
    return task, operations


def fill(task: CTask, **arrays: Any) -> None:
    """Give a task the addresses of arrays, which the caller holds, by its fields."""
    for name, a in arrays.items():
        if a is not None:
            setattr(task, name, address(a))


def ready_weights(level: str, dtype: Any, task: CTask, weights: Weights) -> Any:
    """A frozen layer's weights in the engine's order, made once; None where the weights may change."""
    own = replace(weights, kept=weights.kept_matrices) if arguments.is_by_row(weights.input_bias) else weights
    if own.kept is None:
        return None
    return own.once(("recurray_native", level), lambda: _packed(library.number(level), dtype == FLOATS[1], task))


def _packed(level: int, is_double: bool, task: CTask) -> Any:
    return filled(library.library().recurray_pack, level, is_double, task)


def filled(function: Any, level: int, is_double: bool, task: CTask) -> Any:
    """The room that a function fills for a task, once it has said how much it takes: an array of bytes."""
    size = function(level, is_double, byref(task), None)
    room = np.empty(size + BOUNDARY, np.uint8)
    found = room[-address(room) % BOUNDARY :]
    if size and not function(level, is_double, byref(task), address(found)):
        raise MemoryError(NO_MEMORY)
    return found


def _addresses(packed: Any) -> list[int]:
    """The addresses of the arrays in a block of them."""
    if not len(packed):
        return []
    at = address(packed)
    return [at + k * packed.strides[0] for k in range(len(packed))]


def thread_count(operations: int, valid: Rows) -> int:
    """How many threads a task of so many multiplications is worth."""
    if not may_share(operations, valid):
        return 1
    wanted = threads.get_num_threads()
    if valid.shape[1] >= wanted * ROWS_EACH:
        return wanted
    return max(1, min(wanted, operations // len(valid.counts) // ENOUGH_A_STEP))


def may_share(operations: int, valid: Rows) -> bool:
    """Whether a task is worth two threads, where there are so many."""
    enough_a_step = operations >= 2 * ENOUGH_A_STEP * len(valid.counts)
    return operations >= ENOUGH and (enough_a_step or valid.shape[1] >= 2 * ROWS_EACH)


def param_rows(ready: Compiled, weights: Weights) -> list[Any]:
    """The rows of the cell's own params, in the cell's order."""
    return [row for name in ready.pointwise for row in weights.pointwise[name]]


def contiguous(weights: Weights) -> Weights:
    """The weights, each contiguous."""
    return Weights(
        in_order(weights.input),
        _in_order(weights.recurrent),
        _in_order(weights.input_bias),
        _in_order(weights.recurrent_bias),
        _in_order(weights.projection),
        {name: in_order(a) for name, a in weights.pointwise.items()},
        weights.kept,
        weights.kept_matrices,
    )


def _in_order(a: Any) -> Any:
    return None if a is None else in_order(a)


def _sums_by_use(ready: Compiled, weights: Weights, sums: Any) -> tuple[Any, Any, dict[str, Any]]:
    """From sums (blocks and terms, H) over all rows to the gradients of both biases, and of the cell's own params."""
    of_input = None if weights.input_bias is None else sums.take(ready.input_places, axis=0).ravel()
    of_recurrent = None if weights.recurrent_bias is None else sums.take(ready.recurrent_places, axis=0).ravel()
    pointwise = {}
    first = len(ready.gates.all)
    for name, names in ready.cell.pointwise.items():
        pointwise[name] = sums[first : first + len(names)].copy()
        first += len(names)
    return of_input, of_recurrent, pointwise
