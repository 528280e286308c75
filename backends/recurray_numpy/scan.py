"""The scan: a batch cut into runs, and each run forward, and backward from the last.

T time, B batch, R size of the output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recurray.cells.cell import Cell, Draws, Weights
from recurray.scan import Gradients, check_dy
from recurray_numpy import prepared as weights_in_order
from recurray_numpy.backward import numbers, run_backward
from recurray_numpy.backward_loops import backward_loops
from recurray_numpy.forward import TOGETHER, by_length, by_row, chunk_of, run_forward
from recurray_numpy.forward_loop import Forward, forward_loop
from recurray_numpy.gate_order import order_of
from recurray_numpy.prepared import Prepared, as_they_lie_for, in_order
from recurray_numpy.products import Products
from recurray_numpy.runs import Run, Runs, cut


@dataclass(frozen=True)
class ScanCache:
    """All that backward reads."""

    prepared: Prepared
    output_mask: Any  # (R, B), rows by falling length, or None
    runs: Runs
    kept: list[Any]  # of each run, its arrays by the names of the loops; or the states before it, to compute them again
    x: Any  # (T, B, I), and
    draws: Draws  # where runs are computed again
    shape: tuple[int, int, int]  # of the input

    def backward(self, dy: Any, dend: tuple[Any, ...]) -> Gradients:
        """Backward through time; see `recurray.scan.backward`."""
        return backward(self, dy, dend)


def forward(
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
    recompute: int | None = None,
) -> tuple[Any, tuple[Any, ...], ScanCache | None]:
    """Run a cell over time; see `recurray.scan.forward`."""
    steps, batch, _ = x.shape
    draws = draws or {}
    if recompute is not None:
        recompute = -(-recompute // TOGETHER) * TOGETHER if keep else None
    runs = cut(steps, batch, lengths, reverse, every=recompute)
    as_they_lie = runs.vector and as_they_lie_for(steps, weights)
    order, keep_all = order_of(cell), keep and not recompute
    options = {"vector": runs.vector, "projected": weights.projection is not None, "masked": output_mask is not None}
    prepared = Prepared(cell, order.gates_for(vector=runs.vector), weights, as_they_lie)
    code = forward_loop(order, training=keep_all, as_they_lie=as_they_lie, bias_by_row=prepared.bias_by_row, **options)
    shared = _for_forward(prepared, runs)
    state = {name: by_length(value, runs) for name, value in zip(cell.states, start, strict=True)}
    mask = None if output_mask is None else by_length(output_mask, runs)
    y = runs.empty((steps, batch, start[0].shape[1]), x.dtype)
    kept = []
    for run in runs:
        if recompute:
            kept.append({name: value.copy() for name, value in state.items()})
        arrays = run_forward(code, prepared, shared, x, state, runs, run, draws, mask, keep=keep_all)
        runs.write(y, run, arrays["after_h"].reshape(run.steps, -1, run.rows))
        if keep_all:
            kept.append(arrays)
    end = tuple(by_row(state[name], runs) for name in cell.states)
    if not keep:
        return y, end, None
    return y, end, ScanCache(prepared, mask, runs, kept, x if recompute else None, draws if recompute else {}, x.shape)


def backward(cache: ScanCache, dy: Any, dend: tuple[Any, ...]) -> Gradients:
    """Backward through time; see `recurray.scan.backward`."""
    prepared, runs, cell = cache.prepared, cache.runs, cache.prepared.cell
    check_dy(dy, (*cache.shape[:2], dend[cell.states.index("h")].shape[1]))
    size, dtype, vector = prepared.size, dy.dtype, runs.vector
    options = {
        "vector": vector,
        "projected": prepared.weights.projection is not None,
        "masked": cache.output_mask is not None,
    }
    order = order_of(cell)
    code = backward_loops(order, **options)
    code_again = forward_loop(
        order, training=True, as_they_lie=prepared.as_they_lie, bias_by_row=prepared.bias_by_row, **options
    )
    most = max((run.rows for run in runs), default=1)
    chunk = chunk_of(numbers(code, prepared, dy.shape[2]) * most, dtype, vector=vector)

    dx = runs.empty(cache.shape, dtype)
    products = Products(prepared, runs, dx, most=chunk)
    dstate = {name: by_length(value, runs) for name, value in zip(cell.states, dend, strict=True)}
    weights = weights_in_order.for_backward(prepared, vector=vector)
    totals = {place: np.zeros(size) for place in code.sums}  # over the steps and the rows of the batch; in double
    for_forward = None if cache.x is None else _for_forward(prepared, runs)
    for run, arrays in zip(reversed(runs.runs), reversed(cache.kept), strict=True):
        if for_forward is not None:
            arrays = _again(code_again, cache, for_forward, run, arrays)
        run_backward(
            code,
            prepared,
            cache.output_mask,
            arrays,
            runs.read(dy, run),
            dstate,
            run,
            weights,
            chunk,
            products,
            totals,
            vector=vector,
        )

    grads = products.gradients()
    none = np.zeros(size, dtype)
    pointwise = {
        name: np.stack([totals.get((name, row), none) for row in names]).astype(dtype)
        for name, names in cell.pointwise.items()
    }
    return dx, tuple(by_row(dstate[name], runs) for name in cell.states), Weights(**grads, pointwise=pointwise)


def _for_forward(prepared: Prepared, runs: Runs) -> dict[str, Any]:
    """The weights that forward reads, and rows' own biases."""
    arrays = in_order(prepared, vector=runs.vector).filled()
    if prepared.bias_by_row:
        arrays = arrays | weights_in_order.biases_by_row(prepared, by_length(prepared.weights.input_bias, runs))
    return arrays


def _again(
    code: Forward, cache: ScanCache, weights: dict[str, Any], run: Run, before: dict[str, Any]
) -> dict[str, Any]:
    """Compute a run once more from the states before it, and return what backward reads."""
    state = {name: value.copy() for name, value in before.items()}
    return run_forward(
        code, cache.prepared, weights, cache.x, state, cache.runs, run, cache.draws, cache.output_mask, keep=True
    )
