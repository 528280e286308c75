"""The scan forward: buffers made beforehand, and the loop that is written for the cell run over them.

T time, B batch, S steps of a run, n its rows, I input, H hidden units, R size of the output. A run's buffers are
feature-major, (S, features, n), or (S, features) where n is 1; see `recurray_numpy.names`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recurray.cells.cell import Cell, Draws, Weights
from recurray_numpy.buffers import empty
from recurray_numpy.compiled import Compiled, compiled
from recurray_numpy.plan import Plan
from recurray_numpy.prepared import Prepared, prepare
from recurray_numpy.runs import Run, Runs, cut
from recurray_numpy.writer import FLAG, ROW, Kind

BOOL = np.dtype(bool)
CHUNK = 512 * 1024  # bytes of work space: what stays in the processor's cache


@dataclass(frozen=True)
class ScanCache:
    """All that backward reads."""

    prepared: Prepared
    has_bias: bool
    output_mask: Any  # (R, B), rows by falling length, or None
    runs: Runs
    arrays: list[dict[str, Any]]  # of each run, by the names of the loops
    shape: tuple[int, int, int]  # of the input, (T, B, I)


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
) -> tuple[Any, tuple[Any, ...], ScanCache | None]:
    """Run a cell over time; see `recurray.scan.forward`."""
    ready = compiled(cell)
    prepared = prepare(ready.plan, weights)
    steps, batch, _ = x.shape
    runs = cut(steps, batch, lengths, reverse)
    state = {name: by_length(value, runs) for name, value in zip(cell.states, start, strict=True)}
    mask = None if output_mask is None else by_length(output_mask, runs)
    y = runs.empty((steps, batch, start[0].shape[1]), x.dtype)
    kept = []
    for run in runs:
        drawn = {f"x_{name}": _drawn(value, runs, run, x.dtype) for name, value in (draws or {}).items()}
        arrays = _forward_run(ready, prepared, runs.read(x, run), state, run, keep, drawn, mask)
        runs.write(y, run, arrays["h_next"].reshape(run.steps, -1, run.rows))
        kept.append(arrays)
    end = tuple(by_row(state[name], runs) for name in cell.states)
    cache = ScanCache(prepared, weights.input_bias is not None, mask, runs, kept, x.shape) if keep else None
    return y, end, cache


def _forward_run(
    ready: Compiled,
    prepared: Prepared,
    x: Any,
    state: dict[str, Any],
    run: Run,
    keep: bool,
    drawn: dict[str, Any],
    mask: Any,
) -> dict[str, Any]:
    """Run the loop over x (S, I, n), and bring ``state``, arrays (size, B) by name, to what it is after it."""
    states, dtype, size = ready.plan.cell.states, x.dtype, prepared.size
    vector, projected = run.rows == 1, prepared.projection is not None
    columns = () if vector else (run.rows,)

    arrays = prepared.params_for(run.rows) | drawn
    arrays |= _operand(x, state["h"], run, columns, mask)
    arrays |= _inner_gates(ready.plan, prepared, run.steps, columns, x.dtype, each_step=keep)
    arrays |= _gates(ready.plan, prepared, arrays["operand"], columns, each_step=keep or vector)
    if projected:
        arrays["w_projection"] = np.ascontiguousarray(prepared.projection.T) if vector else prepared.projection
        arrays["output"] = empty(((run.steps,) if keep else ()) + (size, *columns), dtype)
    for name in states[1:]:
        now = state[name][:, : run.rows].reshape(size, *columns)
        if keep:
            trajectory = empty((run.steps + 1, size, *columns), dtype)
            trajectory[0] = now
            arrays |= {f"before_{name}": trajectory[:-1], f"after_{name}": trajectory[1:]}
        else:
            arrays[f"state_{name}"] = now.copy()

    code = ready.forward(training=keep, vector=vector, projected=projected, masked=mask is not None)
    arrays |= {name: work_array(kind, (), size, columns, dtype) for name, kind in code.loop.work.items()}
    arrays |= {name: work_array(kind, (run.steps,), size, columns, dtype) for name, kind in code.kinds.items()}
    chunk = max(1, run.steps)
    if code.ahead.lines:
        chunk = chunk_size((len(code.ahead.work) + len(code.ahead.timed)) * size * run.rows, dtype, run.steps)
        work = {name: work_array(kind, (chunk,), size, columns, dtype) for name, kind in code.ahead.work.items()}
    for first in range(0, run.steps, chunk):
        last = min(run.steps, first + chunk)
        for part in (code.ahead, code.loop):
            if part.lines:
                found = {name: arrays[name] for name in part.shared}
                for name in part.timed:
                    found[name] = arrays[name][first:last] if name in arrays else work[name][: last - first]
                ready.function(part, dtype)(**found)

    for name in states:
        after = "h_next" if name == "h" else f"after_{name}"
        last = arrays[after][-1] if after in arrays else arrays[f"state_{name}"]
        state[name][:, : run.rows] = last.reshape(-1, run.rows)
    if not keep:
        return {"h_next": arrays["h_next"]}
    wanted = {
        "operand",
        "inner_operand",
        "h_prev",
        "h_next",
        "output",
        *(f"before_{name}" for name in states),
        *code.homes.values(),
    }
    return {name: array for name, array in arrays.items() if name in wanted}


def _operand(x: Any, h: Any, run: Run, columns: tuple[int, ...], mask: Any) -> dict[str, Any]:
    """What the products are with: for each step [x; 1; h], h being the output before it, and one more h at the end.

    Where the output is masked on its way there, it is kept apart, unmasked.
    """
    features, output = x.shape[1], len(h)
    one = features + 1
    both = empty((run.steps + 1, one + output, *columns), x.dtype)
    both[:-1, :features] = x.reshape(run.steps, features, *columns)
    both[:, features] = 1
    now = h[:, : run.rows].reshape(output, *columns)
    both[0, one:] = now
    arrays = {"operand": both[:-1], "operand_h": both[:-1, features:], "h_operand": both[:-1, one:]}
    if mask is None:
        return arrays | {"h_prev": both[:-1, one:], "h_next": both[1:, one:]}
    unmasked = empty((run.steps + 1, output, *columns), x.dtype)
    unmasked[0] = now
    arrays["output_mask"] = np.array(mask[:, : run.rows].reshape(output, *columns), order="C")
    both[0, one:] *= arrays["output_mask"]
    return arrays | {"h_prev": unmasked[:-1], "h_next": unmasked[1:], "h_masked": both[1:, one:]}


def _inner_gates(
    plan: Plan, prepared: Prepared, steps: int, columns: tuple[int, ...], dtype: Any, *, each_step: bool
) -> dict[str, Any]:
    """The inner gates' buffers and weights."""
    gates, size = plan.gates.inner, prepared.size
    if not gates:
        return {}
    lead = (steps,) if each_step else ()
    inner = empty((*lead, len(gates) * size, *columns), dtype)
    weight = prepared.inner[:, 1:]
    arrays = {"inner": inner, "w_inner": np.ascontiguousarray(weight if columns else weight.T)}
    arrays["b_inner"] = prepared.inner[:, :1] if columns else prepared.inner[:, 0]
    arrays["inner_operand"] = empty((*lead, size, *columns), dtype)
    for k, gate in enumerate(gates):
        rows = slice(k * size, (k + 1) * size)
        arrays[f"h_{gate}"] = inner[:, rows] if each_step else inner[rows]
    return arrays


def _gates(
    plan: Plan, prepared: Prepared, operand: Any, columns: tuple[int, ...], *, each_step: bool
) -> dict[str, Any]:
    """The gates' buffers, filled with what is computed for all steps at once, and the weights for what isn't."""
    gates, size, one = plan.gates, prepared.size, prepared.features + 1
    x = operand[:, :one]  # with the 1 for the bias
    stepwise = empty(((len(x),) if each_step else ()) + (len(gates.of_output) * size, *columns), x.dtype)
    merged = len(gates.merged) * size
    if columns:
        hoisted = np.matmul(prepared.hoisted, x, out=empty((len(x), len(prepared.hoisted), x.shape[2]), x.dtype))
        arrays = {"w_merged": prepared.merged, "w_apart": prepared.apart}
    else:
        hoisted = np.matmul(x, prepared.hoisted.T, out=empty((len(x), len(prepared.hoisted)), x.dtype))
        np.matmul(x, prepared.merged[:, :one].T, out=stepwise[:, :merged])
        stepwise[:, merged:] = prepared.apart[:, 0]
        across = np.concatenate([prepared.merged[:, one:], prepared.apart[:, 1:]])
        arrays = {"w_hidden": np.ascontiguousarray(across.T), "product": np.empty(stepwise.shape[1:], x.dtype)}

    def rows(first: int, last: int) -> Any:
        return stepwise[:, first:last] if each_step else stepwise[first:last]

    arrays |= {"stepwise": stepwise, "merged": rows(0, merged), "apart": rows(merged, len(gates.of_output) * size)}
    arrays |= {"logistic": rows(0, prepared.halved), "activated": rows(0, len(gates.logistic + gates.tanh) * size)}
    for k, gate in enumerate(gates.hoisted):
        arrays[f"x_{gate}"] = hoisted[:, k * size : (k + 1) * size]
    for k, gate in enumerate(gates.of_output):
        arrays[f"{'z' if gate in gates.merged else 'h'}_{gate}"] = rows(k * size, (k + 1) * size)
    return arrays


def chunk_size(numbers: int, dtype: Any, steps: int) -> int:
    """How many steps of so many numbers each are worked on at a time."""
    return max(1, min(steps, CHUNK // int(numbers * dtype.itemsize)))


def work_array(kind: Kind, lead: tuple[int, ...], size: int, columns: tuple[int, ...], dtype: Any) -> Any:
    """Make work space of a kind, with the axes ``lead`` in front."""
    array = empty((*lead, 1 if kind == ROW else size, *columns), BOOL if kind == FLAG else dtype)
    if isinstance(kind, float):
        array.fill(kind)
    return array


def _drawn(value: Any, runs: Runs, run: Run, dtype: Any) -> Any:
    """A cell's draws for a run, (S, H, n), or their mean with one number for all."""
    columns = () if run.rows == 1 else (run.rows,)
    if isinstance(value, float):
        return np.broadcast_to(np.asarray(value, dtype), (run.steps, 1, *(1 for _ in columns)))
    part = runs.read(value, run)
    return np.array(part.reshape(run.steps, -1, *columns), order="C")


def by_length(state: Any, runs: Runs) -> Any:
    """(B, size) -> a copy (size, B), rows by falling length."""
    return np.array((state if runs.order is None else state[runs.order]).T, order="C")


def by_row(state: Any, runs: Runs) -> Any:
    """The inverse of `by_length`."""
    result = np.empty(state.shape[::-1], state.dtype)
    result[slice(None) if runs.order is None else runs.order] = state.T
    return result
