"""The scan backward, in chunks of steps that stay in the processor's cache.

T time, B batch, S steps of a run, n its rows, I input, H hidden units, R size of the output; N all steps of all rows
of all runs. Buffers are as in `recurray_numpy.forward`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from recurray.cells.cell import Cell, Weights
from recurray_numpy.buffers import empty
from recurray_numpy.code import Code
from recurray_numpy.compiled import Compiled, compiled
from recurray_numpy.forward import ScanCache, by_length, by_row, chunk_size, work_array
from recurray_numpy.plan import Gates
from recurray_numpy.prepared import in_cells_order
from recurray_numpy.runs import Run, put_columns
from recurray_numpy.writer import FLOATS


@dataclass(frozen=True)
class Columns:
    """What the weights' gradients are products of, the steps of all runs side by side."""

    dgates: Any  # (gates * H, N): hoisted, merged, apart, inner
    operand: Any  # (I + 1 + R, N): [x; 1; h]
    inner: Any  # (H, N): what the inner gates' product is with, or None
    dprojected: Any  # (R, N), or None
    output: Any  # (H, N), or None


def backward(cell: Cell, cache: ScanCache, dy: Any, dend: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...], Weights]:
    """Backward through time; see `recurray.scan.backward`."""
    ready, runs = compiled(cell), cache.runs
    gates, size = ready.plan.gates, cache.prepared.size
    dstate = {name: by_length(value, runs) for name, value in zip(cell.states, dend, strict=True)}
    columns = _columns(gates, cache, output=dy.shape[2], dtype=dy.dtype)
    sums = {(name, row): np.zeros(size, dy.dtype) for name, names in cell.pointwise.items() for row in names}
    for run, part, arrays in zip(*(reversed(each) for each in (runs.runs, runs.parts(), cache.arrays)), strict=True):
        here = Columns(*(None if a is None else a[:, part] for a in vars(columns).values()))
        _backward_run(ready, cache, arrays, runs.read(dy, run), dstate, run, here, sums)

    dx = _input_gradient(gates, cache, columns.dgates)
    grads = _weight_gradients(cell, gates, cache, columns)
    pointwise = {name: np.stack([sums[name, row] for row in names]) for name, names in cell.pointwise.items()}
    return dx, tuple(by_row(dstate[name], runs) for name in cell.states), Weights(**grads, pointwise=pointwise)


def _columns(gates: Gates, cache: ScanCache, *, output: int, dtype: Any) -> Columns:
    """Gather what forward has kept, and make room for the rest."""
    prepared, runs = cache.prepared, cache.runs
    projected = prepared.projection is not None

    def joined(name: str, features: int) -> Any:
        return runs.joined([arrays[name] for arrays in cache.arrays], features, dtype)

    return Columns(
        dgates=runs.side_by_side(len(gates.all) * prepared.size, dtype),
        operand=joined("operand", prepared.features + 1 + output),
        inner=joined("inner_operand", prepared.size) if gates.inner else None,
        dprojected=runs.side_by_side(output, dtype) if projected else None,
        output=joined("output", prepared.size) if projected else None,
    )


def _backward_run(
    ready: Compiled,
    cache: ScanCache,
    arrays: dict[str, Any],
    dy: Any,
    dstate: dict[str, Any],
    run: Run,
    into: Columns,
    sums: dict[tuple[str, str], Any],
) -> None:
    """Run backward over dy (S, R, n): fill ``into``, add to ``sums``, bring ``dstate`` to what it is before the run."""
    states, prepared = ready.plan.cell.states, cache.prepared
    vector, projected = run.rows == 1, prepared.projection is not None
    masked = cache.output_mask is not None
    code = ready.backward(vector=vector, projected=projected, masked=masked)
    rows = run.rows
    carried = {"dh" if name == "h" else f"d_{name}": dstate[name][:, :rows] for name in states}
    carried = {name: np.array(value[:, 0] if vector else value, order="C") for name, value in carried.items()}
    shared = carried | prepared.params_for(rows)
    w_hidden = prepared.recurrent()
    shared["w_hidden"] = w_hidden if vector else np.ascontiguousarray(w_hidden.T)
    w_inner = prepared.inner[:, 1:]
    shared["w_inner"] = np.ascontiguousarray(w_inner if vector else w_inner.T)
    if masked:
        mask = cache.output_mask[:, :rows]
        shared["output_mask"] = np.array(mask[:, 0] if vector else mask, order="C")
    if projected:
        shared["w_projection"] = prepared.projection if vector else np.ascontiguousarray(prepared.projection.T)
    work = _work_space(ready, code.ahead, code.loop, code.after, dy, run, prepared.size, shared)

    def call(part: Code, first: int, last: int) -> None:
        found = {name: shared[name] for name in part.shared}
        for name in part.timed:
            steps = arrays[name][first:last] if name in arrays else work[name][: last - first]
            found[name] = steps[::-1] if part.is_loop else steps
        ready.function(part, dy.dtype)(**found)

    chunk = len(work["dy"])
    totals = {place: np.zeros((prepared.size, rows), dy.dtype) for place in code.sums}  # over the steps
    for last in range(run.steps, 0, -chunk):
        first = max(0, last - chunk)
        here, columns = slice(last - first), slice(first * rows, last * rows)
        work["dy"][here] = dy[first:last].reshape(work["dy"][here].shape)
        call(code.ahead, first, last)
        call(code.loop, first, last)
        call(code.after, first, last)
        put_columns(into.dgates[:, columns], work["dgates"][here])
        if projected:
            put_columns(into.dprojected[:, columns], work["dprojected"][here])
        for place, name in code.sums.items():
            terms = arrays[name][first:last] if name in arrays else work[name][here]
            totals[place] += terms.reshape(last - first, prepared.size, rows).sum(axis=0)
    for place, total in totals.items():
        sums[place] += total.sum(axis=1)
    for name in states:
        dstate[name][:, :rows] = carried["dh" if name == "h" else f"d_{name}"].reshape(-1, rows)


def _work_space(
    ready: Compiled, ahead: Code, loop: Code, after: Code, dy: Any, run: Run, size: int, shared: dict[str, Any]
) -> dict[str, Any]:
    """Make the arrays that backward works in: for a chunk of steps here, for one step in ``shared``."""
    gates, dtype = ready.plan.gates, dy.dtype
    output, rows = dy.shape[1:]
    columns = () if rows == 1 else (rows,)
    of_chunk = ahead.work | after.work | {name: FLOATS for name in loop.timed if name.startswith("kept")}
    features = (len(of_chunk) + len(gates.all)) * size + output
    chunk = chunk_size(features * rows, dtype, run.steps)

    work = {name: work_array(kind, (chunk,), size, columns, dtype) for name, kind in of_chunk.items()}
    work |= {name: empty((chunk, output, *columns), dtype) for name in ("dy", "dprojected")}
    dgates = work["dgates"] = empty((chunk, len(gates.all) * size, *columns), dtype)
    names = [f"dx_{gate}" for gate in gates.hoisted] + [f"dz_{gate}" for gate in gates.merged]
    names += [f"dh_{gate}" for gate in gates.apart + gates.inner]
    work |= {name: dgates[:, k * size : (k + 1) * size] for k, name in enumerate(names)}
    hoisted, of_output = len(gates.hoisted) * size, len(gates.of_output) * size
    work |= {"dstepwise": dgates[:, hoisted : hoisted + of_output], "dinner": dgates[:, hoisted + of_output :]}
    shared |= {name: work_array(kind, (), size, columns, dtype) for name, kind in loop.work.items()}
    shared |= {"d_output": np.empty((size, *columns), dtype), "direct": np.empty((output, *columns), dtype)}
    return work


def _input_gradient(gates: Gates, cache: ScanCache, dgates: Any) -> Any:
    """The gradient of x (T, B, I), zero in the padding."""
    runs = cache.runs
    dgates = dgates[: len(gates.of_input) * cache.prepared.size]
    steps = empty((dgates.shape[1], cache.shape[2]), dgates.dtype)
    np.matmul(dgates.T, cache.prepared.of_input(), out=steps)  # (N, I)
    dx = runs.empty(cache.shape, dgates.dtype)
    for run, part in zip(runs, runs.parts(), strict=True):
        runs.write(dx, run, steps[part].reshape(run.steps, run.rows, -1).transpose(0, 2, 1))
    return dx


def _weight_gradients(cell: Cell, gates: Gates, cache: ScanCache, columns: Columns) -> dict[str, Any]:
    """The weights' gradients, by field of `Weights`, each matrix with its bias from one product over all steps."""
    size, features = cache.prepared.size, cache.prepared.features
    dx_gates = columns.dgates[: len(gates.of_input) * size]
    dinput = in_cells_order(np.matmul(dx_gates, columns.operand[: features + 1].T), gates.of_input, cell.input_gates)
    grads = {"input": dinput[:, :features], "input_bias": dinput[:, features] if cache.has_bias else None}
    if cell.recurrent_gates:
        first, last = len(gates.hoisted) * size, len(gates.hoisted + gates.of_output) * size
        product = np.matmul(columns.dgates[first:last], columns.operand[features:].T)  # (gates * H, 1 + R)
        if gates.inner:
            dinner = columns.dgates[last:]
            product = np.concatenate(
                [product, np.column_stack([dinner.sum(axis=1), np.matmul(dinner, columns.inner.T)])]
            )
        drecurrent = in_cells_order(product, gates.of_output + gates.inner, cell.recurrent_gates)
        grads |= {"recurrent": drecurrent[:, 1:], "recurrent_bias": drecurrent[:, 0] if cache.has_bias else None}
    if columns.dprojected is not None:
        grads["projection"] = np.matmul(columns.dprojected, columns.output.T)
    return {name: None if grad is None else np.ascontiguousarray(grad) for name, grad in grads.items()}
