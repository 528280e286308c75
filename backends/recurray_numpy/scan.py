"""The scan on NumPy: preallocated feature-major buffers and the loops written for the cell.

S steps of a run, n its rows, I input, H hidden units, R size of the output, N all steps of all runs together.
Where n is 1 the buffers of a run have no axis for it, and products are with vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from recurray.cells.cell import Cell, Weights
from recurray_numpy.loops import Backward, Code, Forward, backward_loops, forward_loop
from recurray_numpy.plan import Plan
from recurray_numpy.runs import Run, Runs, cut

CHUNK = 512 * 1024  # bytes of work space in backward, to stay in the processor's second-level cache


class Compiled:
    """A cell's plan and its loops, written and compiled when they are first wanted."""

    def __init__(self, cell: Cell) -> None:
        self.plan = Plan(cell)
        self._forward: dict[Any, Forward] = {}
        self._backward: dict[Any, Backward] = {}
        self._functions: dict[Any, Any] = {}

    def forward(self, *, training: bool, vector: bool, projected: bool) -> Forward:
        """The forward loop."""
        key = training, vector, projected
        if key not in self._forward:
            self._forward[key] = forward_loop(self.plan, training=training, vector=vector, projected=projected)
        return self._forward[key]

    def backward(self, *, vector: bool, projected: bool) -> Backward:
        """The parts of backward."""
        key = vector, projected
        if key not in self._backward:
            homes = self.forward(training=True, vector=vector, projected=projected).homes
            self._backward[key] = backward_loops(self.plan, homes, vector=vector, projected=projected)
        return self._backward[key]

    def function(self, code: Code, dtype: Any) -> Any:
        """Compile ``code`` for a dtype."""
        key = id(code), dtype
        if key not in self._functions:
            self._functions[key] = code.compile(dtype)
        return self._functions[key]


_COMPILED: WeakKeyDictionary[Cell, Compiled] = WeakKeyDictionary()


def compiled(cell: Cell) -> Compiled:
    """Return what is compiled for a cell, the same for every call.

    Raises
    ------
    RecordingError
        The cell's step can't be recorded.
    """
    found = _COMPILED.get(cell)
    if found is None:
        found = _COMPILED[cell] = Compiled(cell)
    return found


@dataclass(frozen=True)
class Prepared:
    """A cell's weights as the loops want them; gates in the plan's order."""

    hoisted: Any  # (hoisted gates * H, I + 1)
    merged: Any  # (merged gates * H, I + 1 + R), the logistic gates' rows halved
    apart: Any  # (apart gates * H, 1 + R)
    projection: Any  # (R, H) or None
    params: dict[str, Any]  # "param_u_i": (H, 1)

    @classmethod
    def of(cls, plan: Plan, weights: Weights) -> Prepared:
        """Bring weights into the plan's order, the biases in a column of their own."""
        gates, cell = plan.gates, plan.cell
        into = _blocks(weights.input, cell.input_gates)
        into_bias = _blocks(weights.input_bias, cell.input_gates)
        across = _blocks(weights.recurrent, cell.recurrent_gates)
        across_bias = _blocks(weights.recurrent_bias, cell.recurrent_gates)
        dtype, features = weights.input.dtype, weights.input.shape[1]
        size = weights.input.shape[0] // len(cell.input_gates)
        output = 0 if weights.recurrent is None else weights.recurrent.shape[1]

        def gathered(names: tuple[str, ...], *, x: bool, h: bool) -> Any:
            rows = np.zeros((len(names), size, x * features + 1 + h * output), dtype)
            for k, gate in enumerate(names):
                if x:
                    rows[k, :, :features] = into[gate]
                    if into_bias:
                        rows[k, :, features] += into_bias[gate]
                if h:
                    rows[k, :, -output:] = across[gate]
                    if across_bias:
                        rows[k, :, -output - 1] += across_bias[gate]
                if gate in gates.logistic:
                    rows[k] *= 0.5
            return rows.reshape(len(names) * size, rows.shape[2])

        return cls(
            hoisted=gathered(gates.hoisted, x=True, h=False),
            merged=gathered(gates.merged, x=True, h=True),
            apart=gathered(gates.apart, x=False, h=True),
            projection=None if weights.projection is None else np.ascontiguousarray(weights.projection),
            params={
                f"param_{name}_{row}": weights.pointwise[name][k][:, None]
                for name, row_names in cell.pointwise.items()
                for k, row in enumerate(row_names)
            },
        )


def _blocks(weight: Any, gates: tuple[str, ...]) -> dict[str, Any]:
    return {} if weight is None else dict(zip(gates, weight.reshape(len(gates), -1, *weight.shape[1:]), strict=True))


@dataclass(frozen=True)
class ScanCache:
    """All that backward reads."""

    weights: Weights
    runs: Runs
    arrays: list[dict[str, Any]]  # of each run, by the names of the loops
    shape: tuple[int, int, int]  # of the input, (T, B, I)


def forward(
    cell: Cell,
    weights: Weights,
    x: Any,
    start: tuple[Any, ...],
    *,
    lengths: Sequence[int] | None,
    reverse: bool,
    keep: bool,
) -> tuple[Any, tuple[Any, ...], ScanCache | None]:
    """Run a cell over time; see `recurray.scan.forward`."""
    ready = compiled(cell)
    prepared = Prepared.of(ready.plan, weights)
    steps, batch, _ = x.shape
    runs = cut(steps, batch, lengths, reverse)
    output = start[0].shape[1]
    state = {name: _sorted(value, runs) for name, value in zip(cell.states, start, strict=True)}
    y = np.empty((steps, batch, output), x.dtype) if runs.order is None else np.zeros((steps, batch, output), x.dtype)
    arrays = []
    for run in runs:
        kept = _run_forward(ready, prepared, weights, runs.read(x, run), state, run, keep)
        runs.write(y, run, kept["h_next"].reshape(run.steps, output, run.rows))
        if keep:
            arrays.append(kept)
    end = tuple(_unsorted(state[name], runs) for name in cell.states)
    return y, end, ScanCache(weights, runs, arrays, x.shape) if keep else None


def _run_forward(
    ready: Compiled, prepared: Prepared, weights: Weights, x: Any, state: dict[str, Any], run: Run, keep: bool
) -> dict[str, Any]:
    """Run the loop over x (S, I, n) from ``state``, by name (size, B), which is brought to the state after it."""
    gates, cell, dtype = ready.plan.gates, ready.plan.cell, x.dtype
    steps, features, rows = x.shape
    vector, projected = rows == 1, prepared.projection is not None
    output = state["h"].shape[0]
    size = weights.input.shape[0] // len(cell.input_gates)
    columns = () if vector else (rows,)

    operand = np.empty((steps + 1, features + 1 + output, *columns), dtype)  # [x; 1; h], h being that before the step
    operand[:steps, :features] = x.reshape(steps, features, *columns)
    operand[:, features] = 1
    operand[0, features + 1 :] = state["h"][:, :rows].reshape(output, *columns)
    hoisted = (
        np.matmul(operand[:steps, : features + 1], prepared.hoisted.T)
        if vector
        else (np.matmul(prepared.hoisted, operand[:steps, : features + 1]))
    )
    each_step = keep or vector
    stepwise = np.empty(((steps,) if each_step else ()) + (len(gates.of_output) * size, *columns), dtype)
    merged = len(gates.merged) * size
    if vector:
        np.matmul(operand[:steps, : features + 1], prepared.merged[:, : features + 1].T, stepwise[:, :merged])
        stepwise[:, merged:] = prepared.apart[:, 0]
    lead = (slice(None),) if each_step else ()
    arrays = {
        "operand": operand[:steps],
        "operand_h": operand[:steps, features:],
        "h_prev": operand[:steps, features + 1 :],
        "h_next": operand[1:, features + 1 :],
        "rows": stepwise,
        "merged": stepwise[(*lead, slice(merged))],
        "apart": stepwise[(*lead, slice(merged, None))],
        "logistic_rows": stepwise[(*lead, slice(len(gates.logistic) * size))],
        "activated_rows": stepwise[(*lead, slice(len(gates.logistic + gates.tanh) * size))],
        "w_merged": prepared.merged,
        "w_apart": prepared.apart,
    }
    arrays |= {f"x_{gate}": hoisted[:, k * size : (k + 1) * size] for k, gate in enumerate(gates.hoisted)}
    for k, gate in enumerate(gates.of_output):
        kind = "z" if gate in gates.merged else "h"
        arrays[f"{kind}_{gate}"] = stepwise[(*lead, slice(k * size, (k + 1) * size))]
    if vector:
        arrays["w_hidden"] = np.ascontiguousarray(
            np.concatenate([prepared.merged[:, features + 1 :], prepared.apart[:, 1:]]).T
        )
        arrays["product"] = np.empty(stepwise.shape[1:], dtype)
    if projected:
        arrays["w_projection"] = np.ascontiguousarray(prepared.projection.T) if vector else prepared.projection
        arrays["output"] = np.empty((steps, size, *columns) if keep else (size, *columns), dtype)
    for name in cell.states[1:]:
        now = state[name][:, :rows].reshape(size, *columns)
        if keep:
            trajectory = np.empty((steps + 1, size, *columns), dtype)
            trajectory[0] = now
            arrays |= {f"before_{name}": trajectory[:steps], f"after_{name}": trajectory[1:]}
        else:
            arrays[f"state_{name}"] = now.copy()
    arrays |= _params(prepared, vector)

    code = ready.forward(training=keep, vector=vector, projected=projected)
    _provide(arrays, code.loop, (size, *columns), steps, dtype)
    ready.function(code.loop, dtype)(**{name: arrays[name] for name in (*code.loop.timed, *code.loop.shared)})

    state["h"][:, :rows] = operand[steps, features + 1 :].reshape(output, rows)
    for name in cell.states[1:]:
        after = arrays[f"after_{name}"][-1] if keep else arrays[f"state_{name}"]
        state[name][:, :rows] = after.reshape(size, rows)
    if not keep:
        return {"h_next": arrays["h_next"]}
    wanted = {
        "operand",
        "h_prev",
        "h_next",
        "output",
        *(f"before_{name}" for name in cell.states),
        *code.homes.values(),
    }
    return {name: array for name, array in arrays.items() if name in wanted}


def backward(cell: Cell, cache: ScanCache, dy: Any, dend: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...], Weights]:
    """Backward through time; see `recurray.scan.backward`."""
    ready = compiled(cell)
    gates, weights, runs = ready.plan.gates, cache.weights, cache.runs
    prepared = Prepared.of(ready.plan, weights)
    dtype = dy.dtype
    steps, batch, features = cache.shape
    size = weights.input.shape[0] // len(cell.input_gates)
    output = dend[0].shape[1]
    count = sum(run.steps * run.rows for run in runs)
    dstate = {name: _sorted(value, runs) for name, value in zip(cell.states, dend, strict=True)}

    of_input, of_output = len(gates.of_input) * size, len(gates.of_output) * size
    hoisted = len(gates.hoisted) * size
    w_hidden = np.concatenate([prepared.merged[:, features + 1 :], prepared.apart[:, 1:]])  # (of_output, R)
    w_hidden[: len(gates.logistic) * size] *= 2  # exact: the rows were halved for the forward activation
    sums = {(name, row): np.zeros(size, dtype) for name, names in cell.pointwise.items() for row in names}
    # Everything of all runs side by side, for one product each: the gates' gradients, [x; 1; h], the projection's.
    dgates = np.empty((hoisted + of_output, count), dtype)
    operands = np.empty((features + 1 + output, count), dtype)
    dprojected = np.empty((output, count), dtype) if prepared.projection is not None else None
    outputs = np.empty((size, count), dtype) if prepared.projection is not None else None
    dx = (np.empty if runs.order is None else np.zeros)((steps, batch, features), dtype)

    end = count
    for run, arrays in zip(reversed(runs.runs), reversed(cache.arrays), strict=True):
        first = end - run.steps * run.rows
        part = slice(first, end)
        _side_by_side(operands[:, part], arrays["operand"], run)
        if outputs is not None:
            _side_by_side(outputs[:, part], arrays["output"], run)
        _run_backward(
            ready,
            prepared,
            w_hidden,
            arrays,
            runs.read(dy, run),
            dstate,
            run,
            size,
            dgates[:, part],
            None if dprojected is None else dprojected[:, part],
            sums,
        )
        end = first

    w_input = np.concatenate([prepared.hoisted[:, :features], prepared.merged[:, :features]])
    w_input[hoisted : hoisted + len(gates.logistic) * size] *= 2
    dx_rows = np.matmul(dgates[:of_input].T, w_input)  # (N, I)
    first = 0
    for run in runs:
        rows = dx_rows[first : first + run.steps * run.rows].reshape(run.steps, run.rows, features)
        runs.write(dx, run, rows.transpose(0, 2, 1))
        first += run.steps * run.rows

    dinput = np.matmul(dgates[:of_input], operands[: features + 1].T)  # (of_input, I + 1)
    grads = {
        "input": _in_order(dinput[:, :features], gates.of_input, cell.input_gates),
        "input_bias": None
        if weights.input_bias is None
        else _in_order(dinput[:, features], gates.of_input, cell.input_gates),
    }
    if weights.recurrent is not None:
        drecurrent = np.matmul(dgates[hoisted:], operands[features:].T)  # (of_output, 1 + R)
        grads["recurrent"] = _in_order(drecurrent[:, 1:], gates.of_output, cell.recurrent_gates)
        if weights.recurrent_bias is not None:
            grads["recurrent_bias"] = _in_order(drecurrent[:, 0], gates.of_output, cell.recurrent_gates)
    if dprojected is not None:
        grads["projection"] = np.matmul(dprojected, outputs.T)
    pointwise = {name: np.stack([sums[name, row] for row in names]) for name, names in cell.pointwise.items()}
    dstart = tuple(_unsorted(dstate[name], runs) for name in cell.states)
    return dx, dstart, Weights(**grads, pointwise=pointwise)


def _run_backward(
    ready: Compiled,
    prepared: Prepared,
    w_hidden: Any,
    arrays: dict[str, Any],
    dy: Any,
    dstate: dict[str, Any],
    run: Run,
    size: int,
    dgates: Any,
    dprojected: Any,
    sums: dict[tuple[str, str], Any],
) -> None:
    """Run backward over a run: from dy (S, R, n) and ``dstate`` to dgates (gates * H, S * n), in chunks of steps."""
    gates, cell, dtype = ready.plan.gates, ready.plan.cell, dy.dtype
    steps, output, rows = dy.shape
    vector, projected = rows == 1, prepared.projection is not None
    columns = () if vector else (rows,)
    code = ready.backward(vector=vector, projected=projected)
    parts = (code.ahead, code.loop, code.after)
    hoisted = len(gates.hoisted) * size

    carried = {"dh" if name == "h" else f"d_{name}": _columns(dstate[name], rows, vector) for name in cell.states}
    work = {name for part in parts for name in part.timed if name[0] in "ab" and name[1:].isdigit()}
    work |= {name for name in code.loop.timed if name.startswith("kept")}
    step_bytes = dtype.itemsize * rows * (size * len(work) + dgates.shape[0] + output)
    chunk = max(1, min(steps, CHUNK // step_bytes))

    dgates_chunk = np.empty((chunk, dgates.shape[0], *columns), dtype)
    shared = (
        carried | _params(prepared, vector) | {"w_hidden": w_hidden if vector else np.ascontiguousarray(w_hidden.T)}
    )
    shared["direct"] = np.empty((output, *columns), dtype)
    chunked = {name: np.empty((chunk, size, *columns), dtype) for name in sorted(work)}
    chunked |= {"drows": dgates_chunk[:, hoisted:], "dy": np.empty((chunk, output, *columns), dtype)}
    for k, gate in enumerate(gates.hoisted):
        chunked[f"dx_{gate}"] = dgates_chunk[:, k * size : (k + 1) * size]
    for k, gate in enumerate(gates.of_output):
        kind = "dz" if gate in gates.merged else "dh"
        chunked[f"{kind}_{gate}"] = dgates_chunk[:, hoisted + k * size : hoisted + (k + 1) * size]
    if projected:
        shared["d_output"] = np.empty((size, *columns), dtype)
        shared["w_projection"] = prepared.projection if vector else np.ascontiguousarray(prepared.projection.T)
        chunked["dprojected"] = np.empty((chunk, output, *columns), dtype)
    _provide(shared, code.loop, (size, *columns), steps, dtype)
    for part in (code.ahead, code.after):
        for name in part.flags:
            chunked[name] = np.empty((chunk, size, *columns), bool)
        for name in part.temporaries:
            chunked.setdefault(name, np.empty((chunk, size, *columns), dtype))

    def call(part: Code, first: int, last: int) -> None:
        found = {name: shared[name] for name in part.shared}
        for name in part.timed:
            timed = arrays[name][first:last] if name in arrays else chunked[name][: last - first]
            found[name] = timed[::-1] if part is code.loop else timed
        ready.function(part, dtype)(**found)

    grouped = dgates.reshape(dgates.shape[0], steps, rows)
    last = steps
    while last > 0:
        first = max(0, last - chunk)
        here = slice(0, last - first)
        chunked["dy"][here] = dy[first:last].reshape(-1, output, *columns)
        call(code.ahead, first, last)
        call(code.loop, first, last)
        call(code.after, first, last)
        grouped[:, first:last] = dgates_chunk[here].reshape(last - first, -1, rows).transpose(1, 0, 2)
        if projected:
            into = dprojected.reshape(output, steps, rows)
            into[:, first:last] = chunked["dprojected"][here].reshape(last - first, output, rows).transpose(1, 0, 2)
        for place, name in code.sums.items():
            values = arrays[name][first:last] if name in arrays else chunked[name][here]
            sums[place] += values.reshape(last - first, size, rows).sum(axis=(0, 2))
        last = first
    for name in cell.states:
        dstate[name][:, :rows] = carried["dh" if name == "h" else f"d_{name}"].reshape(-1, rows)


# Arrays ----------------------------------------------------------------------------------------------------------------


def _sorted(state: Any, runs: Runs) -> Any:
    """(B, size) -> a copy (size, B), rows by falling length."""
    return np.array((state if runs.order is None else state[runs.order]).T, order="C")


def _unsorted(state: Any, runs: Runs) -> Any:
    """The inverse of `_sorted`."""
    result = np.empty(state.shape[::-1], state.dtype)
    result[slice(None) if runs.order is None else runs.order] = state.T
    return result


def _columns(state: Any, rows: int, vector: bool) -> Any:
    """A contiguous copy of the first rows of the batch, (size, n), or (size,)."""
    return np.array(state[:, 0] if vector else state[:, :rows], order="C")


def _params(prepared: Prepared, vector: bool) -> dict[str, Any]:
    return {name: value[:, 0] if vector else value for name, value in prepared.params.items()}


def _provide(arrays: dict[str, Any], code: Code, shape: tuple[int, ...], steps: int, dtype: Any) -> None:
    """Add the arrays that a loop wants and nobody has made."""
    for name in code.shared:
        if name not in arrays:
            arrays[name] = np.empty(shape, bool if name in code.flags else dtype)
    for name in code.timed:
        if name.startswith("saved_"):
            arrays[name] = np.empty((steps, *shape), dtype)


def _side_by_side(into: Any, array: Any, run: Run) -> None:
    """(S, n features, rows) -> (features, S * rows)."""
    features = into.shape[0]
    into.reshape(features, run.steps, run.rows)[...] = array.reshape(run.steps, features, run.rows).transpose(1, 0, 2)


def _in_order(grad: Any, gates: tuple[str, ...], wanted: tuple[str, ...]) -> Any:
    """Bring the gates' blocks of rows from the plan's order into the cell's."""
    blocks = grad.reshape(len(gates), -1, *grad.shape[1:])
    return np.concatenate([blocks[gates.index(gate)] for gate in wanted])
