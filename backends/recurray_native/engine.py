"""The scan forward and backward, by the compiled engine.

T time, B batch, N valid rows of all steps, I input, H hidden units, R size of the output. See `c/engine.h`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from ctypes import addressof, byref
from dataclasses import dataclass
from typing import Any

import numpy as np

from recurray.cells.cell import Cell, Draws, Weights
from recurray.recording import RecordingError
from recurray_native import library, threads
from recurray_native.compiled import Compiled, compiled
from recurray_native.rows import Rows, rows
from recurray_native.structures import CTask, Listing, pointers

FLOATS = (np.dtype("float32"), np.dtype("float64"))
ENOUGH = 200_000  # multiplications below which a second thread costs more than it saves


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
    """The compiled engine, as the NumPy backend uses it."""

    name = "native"

    @property
    def description(self) -> str:
        """Which instructions it uses, and how many threads it may use.

        Raises
        ------
        recurray_native.UnavailableError, ValueError
            It can't run here, and why.
        """
        return f"{library.level()}, up to {threads.get_num_threads()} threads"

    def threads(self, count: int) -> AbstractContextManager[None]:
        """Return a context in which it may use ``count`` threads."""
        return threads.limited_threads(count)

    def refuses(self, cell: Cell, weights: Weights, x: Any) -> str | None:
        """Why it can't run a cell on these arrays; None if it can."""
        try:
            compiled(cell)
        except RecordingError as error:
            return str(error)
        if x.dtype not in FLOATS or not x.dtype.isnative:
            return f"it computes in float32 and float64, not {x.dtype}"
        if weights.projection is not None and _reads_output(compiled(cell)):
            return "the cell computes with the output before, element by element, which is projected to another size"
        return None

    def owns(self, cache: Any) -> bool:
        """Whether a cache is this engine's."""
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
        ready, call = compiled(cell), _Call(x.dtype)
        steps, batch, features = x.shape
        valid = rows(steps, batch, lengths, reverse)
        size, outputs = len(weights.input) // len(cell.input_gates), start[0].shape[1]
        count, padded = valid.total, call.padded(size)

        means = [value for value in (draws or {}).values() if isinstance(value, float)]
        program = ready.forward(training=keep, means=bool(means))
        packed = {name: np.empty((count, padded), x.dtype) for name in program.packed}
        for name, value in (draws or {}).items():
            if not means:
                packed[f"x.{name}"][:, :size] = valid.over_time(value)
        kept = {name: packed[name] for name in program.packed if keep and not name.startswith("x.")}
        weights = _contiguous(weights, copy=keep)
        x_rows = valid.over_time(x)
        if keep and np.may_share_memory(x_rows, x):
            x_rows = x_rows.copy()
        y = np.empty((count, outputs), x.dtype)
        has_product, projected = bool(cell.outer_gates), weights.projection is not None
        h_before = np.empty((count, outputs), x.dtype) if keep and has_product else None
        output = np.empty((count, padded), x.dtype) if keep and projected else None
        mask = None if output_mask is None else valid.sorted(output_mask)
        first = [valid.sorted(value) for value in start]
        last = [value.copy() for value in first]

        if count:
            work = count * size * (len(cell.input_gates) * features + len(cell.recurrent_gates) * outputs + 100)
            task = call.task(ready, program.listing, weights, valid, size, outputs, work)
            call.params(
                task, program.listing, [*_param_rows(cell, weights), *(np.full(size, mean, x.dtype) for mean in means)]
            )
            call.states(task, first, last)
            call.arrays(task, x=x_rows, y=y, mask=mask, h_before=h_before, output=output)
            task.packed = call.listed([packed[name] for name in program.packed])
            call.run("recurray_forward", task)
        end = tuple(valid.unsorted(value) for value in last)
        cache = Cache(weights, valid, x_rows, kept, h_before, output, mask) if keep else None
        return valid.from_time(y), end, cache

    def scan_backward(
        self, cell: Cell, cache: Cache, dy: Any, dend: tuple[Any, ...]
    ) -> tuple[Any, tuple[Any, ...], Weights]:
        """Backward through time; see `recurray.scan.backward`."""
        ready, call = compiled(cell), _Call(dy.dtype)
        weights, valid = cache.weights, cache.rows
        size, outputs = len(weights.input) // len(cell.input_gates), dy.shape[2]
        count, padded = len(cache.x), call.padded(size)
        listing = ready.backward_projected if weights.projection is not None else ready.backward

        def made(like: Any) -> Any:
            return None if like is None else np.empty_like(like) if count else np.zeros_like(like)

        dx = np.empty_like(cache.x)
        grads = Weights(made(weights.input), made(weights.recurrent), projection=made(weights.projection))
        terms = len(ready.param_rows)
        sums = np.zeros((ready.blocks.count + ready.blocks.inner + terms, padded), dy.dtype)
        first = [valid.sorted(value) for value in dend]
        last = [value.copy() for value in first]
        if count:
            work = count * size * (len(cell.input_gates) * cache.x.shape[1] + len(cell.recurrent_gates) * outputs + 100)
            task = call.task(ready, listing, weights, valid, size, outputs, work)
            task.terms = terms
            call.params(task, listing, _param_rows(cell, weights))
            call.states(task, first, last)
            call.arrays(task, x=cache.x, dy=valid.over_time(dy), dx=dx, mask=cache.output_mask, sums=sums)
            call.arrays(task, h_before=cache.h_before, output=cache.output, inner_operand=cache.packed.get("inner"))
            call.arrays(
                task, d_input_weight=grads.input, d_recurrent_weight=grads.recurrent, d_projection=grads.projection
            )
            task.packed = call.listed([cache.packed[name] for name in ready.kept])
            call.run("recurray_backward", task)
        dstart = tuple(valid.unsorted(value) for value in last)
        return valid.from_time(dx), dstart, _with_sums(ready, weights, grads, sums[:, :size])


class _Call:
    """A task being filled in, and all that its pointers point to."""

    def __init__(self, dtype: Any) -> None:
        self.level = library.level()
        self.is_double = dtype == FLOATS[1]
        self.kept: list[Any] = []

    def padded(self, size: int) -> int:
        """Size rounded up to whole vectors."""
        lanes = library.lanes(self.level, self.is_double)
        return -(-size // lanes) * lanes

    def at(self, a: Any) -> int:
        """The address of an array, which is kept until the call is over."""
        if a is None:
            return 0
        if not a.flags.c_contiguous:
            raise ValueError("the engine takes contiguous arrays alone")
        self.kept.append(a)
        return int(a.ctypes.data)

    def listed(self, arrays: Sequence[Any]) -> int:
        """The address of the arrays' addresses."""
        found = pointers([self.at(a) for a in arrays])
        self.kept.append(found)
        return addressof(found)

    def task(
        self, ready: Compiled, listing: Listing, weights: Weights, valid: Rows, size: int, outputs: int, work: int
    ) -> CTask:
        """A task with sizes, weights and program."""
        blocks = ready.blocks
        steps, count = len(valid.counts), valid.total
        task = CTask(
            *(steps, valid.shape[1], count, weights.input.shape[1], size, outputs),
            1 if work < ENOUGH else threads.get_num_threads(),
            *(self.at(a) for a in (valid.counts, valid.offsets, valid.lengths, valid.ends)),
            *(blocks.count, blocks.inner, 0, addressof(blocks.input_gate), addressof(blocks.recurrent_gate)),
            *(self.at(a) for a in (weights.input, weights.input_bias, weights.recurrent, weights.recurrent_bias)),
            self.at(weights.projection),
        )
        task.program = listing.program
        return task

    def params(self, task: CTask, listing: Listing, found: list[Any]) -> None:
        """The cell's own params, by row, and the program's constants."""
        task.params, task.param = len(found), self.listed(found)
        task.constants, task.constant = len(listing.constants), addressof(listing.constants)

    def states(self, task: CTask, first: list[Any], last: list[Any]) -> None:
        """Where states, or their gradients, come from and go to."""
        task.states, task.first, task.last = len(first), self.listed(first), self.listed(last)

    def arrays(self, task: CTask, **found: Any) -> None:
        """Arrays by the fields of the task."""
        for name, a in found.items():
            setattr(task, name, self.at(a))

    def run(self, function: str, task: CTask) -> None:
        """Do the task."""
        failed = getattr(library.library(), function)(library.number(self.level), self.is_double, byref(task))
        if failed:
            raise MemoryError("the engine couldn't get the memory that it works in")


def _reads_output(ready: Compiled) -> bool:
    program = ready.plan.step
    used = {operand for value in program.values for operand in value.operands} | set(program.outputs.values())
    return bool(ready.plan.inner) or any(
        value.name == "before.h" and k in used for k, value in enumerate(program.values) if value.operation == "input"
    )


def _param_rows(cell: Cell, weights: Weights) -> list[Any]:
    return [weights.pointwise[name][k] for name, names in cell.pointwise.items() for k in range(len(names))]


def _contiguous(weights: Weights, *, copy: bool) -> Weights:
    """The weights, each contiguous; copies, if what becomes of them must not matter."""

    def brought(a: Any) -> Any:
        return None if a is None else np.array(a, order="C") if copy else np.ascontiguousarray(a)

    return Weights(
        brought(weights.input),
        brought(weights.recurrent),
        brought(weights.input_bias),
        brought(weights.recurrent_bias),
        brought(weights.projection),
        {name: brought(a) for name, a in weights.pointwise.items()},
    )


def _with_sums(ready: Compiled, weights: Weights, grads: Weights, sums: Any) -> Weights:
    """The gradients of the weights, with those that are sums (blocks and terms, H) over all rows."""
    plan, cell = ready.plan, ready.cell
    blocks = plan.blocks + plan.inner
    of_input = [next(k for k, b in enumerate(blocks) if b.input == gate) for gate in range(len(cell.input_gates))]
    of_output = [
        next(k for k, b in enumerate(blocks) if b.recurrent == gate) for gate in range(len(cell.recurrent_gates))
    ]
    pointwise = {}
    first = len(blocks)
    for name, names in cell.pointwise.items():
        pointwise[name] = sums[first : first + len(names)].copy()
        first += len(names)
    return Weights(
        grads.input,
        grads.recurrent,
        None if weights.input_bias is None else sums[of_input].reshape(-1),
        None if weights.recurrent_bias is None else sums[of_output].reshape(-1),
        grads.projection,
        pointwise,
    )
