"""The scan forward: buffers made beforehand, and the loop that is written for the cell run over them.

T time, B batch, S steps of a run, n its rows, I input, H hidden units, R size of the output. A run's buffers are
feature-major, (S, features, n), or (S, features) where the batch is a single row; see `recurray_numpy.names`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from recurray.cells.cell import Draws
from recurray_numpy.buffers import empty
from recurray_numpy.calls import FLAG, ROW, Bound, Kind, bounds, carry_out, negation, quietly
from recurray_numpy.forward_loop import Forward
from recurray_numpy.names import name_of
from recurray_numpy.prepared import Prepared, pointwise
from recurray_numpy.runs import Run, Runs

BOOL = np.dtype(bool)
CHUNK_BYTES = 2 * 1024 * 1024  # bytes of work space: what a cache holds, and yet several steps
TOGETHER = 64  # steps of a single row whose products with the input are one


def run_forward(
    code: Forward,
    prepared: Prepared,
    shared: dict[str, Any],
    x: Any,
    state: dict[str, Any],
    runs: Runs,
    run: Run,
    draws: Draws,
    mask: Any,
    *,
    keep: bool,
) -> dict[str, Any]:
    """Run the loop over a run, and bring ``state``, arrays (size, B) by name, to what it is after it.

    Returns what backward reads, or without ``keep`` the output alone.
    """
    states, dtype = prepared.cell.states, x.dtype
    shared = shared | pointwise(prepared, run.rows, vector=runs.vector)
    arrays = lay_out(code, prepared, shared, runs, run, draws, masked=mask is not None, keep=keep)
    if prepared.bias_by_row:
        for name in ("bias_hoisted", "bias_merged"):
            arrays[name] = np.ascontiguousarray(shared[name][:, : run.rows])
    size, vector, columns = prepared.size, runs.vector, arrays["operand"].shape[2:]
    of_x, of_states = places_to_fill(prepared, arrays)
    of_x[...] = runs.read(x, run)
    for name, place in of_states.items():
        place[...] = state[name][:, : run.rows]
    if mask is not None:
        arrays["output_mask"] = np.array(mask[:, : run.rows].reshape(-1, *columns), order="C")
        np.multiply(arrays["before_h"][0], arrays["output_mask"], arrays["masked"][0])
    carry_out(products_ahead(prepared, arrays))

    chunk, ahead = run.steps, code.ahead
    if ahead.calls:
        numbers = (len(ahead.work_of_steps) + len(ahead.timed)) * size * run.rows
        chunk = min(chunk, chunk_of(numbers, dtype, vector=vector))
    work = work_space(ahead.work_of_steps, (chunk,), size, columns, dtype)
    with quietly():
        for first in range(0, run.steps, max(1, chunk)):
            for part in (ahead, code.loop) if ahead.calls else (code.loop,):
                part.run(dtype, arrays, work, slice(first, min(run.steps, first + chunk)))

    for name in states:
        after = name_of("after", name)
        last_one = arrays[after][-1] if after in arrays else arrays[name_of("state", name)]
        state[name][:, : run.rows] = last_one.reshape(-1, run.rows)
    wanted = {"after_h"}
    if keep:
        wanted |= {"operand", "inner_operand", "output", *(name_of("before", name) for name in states)}
        wanted |= {array.name for array in code.homes.values()}
    return {name: array for name, array in arrays.items() if name in wanted}


def lay_out(
    code: Forward,
    prepared: Prepared,
    shared: dict[str, Any],
    runs: Runs,
    run: Run,
    draws: Draws,
    *,
    masked: bool,
    keep: bool,
) -> dict[str, Any]:
    """Make a run's arrays, by name, but for the weights and the work space of many steps."""
    states, dtype, size, vector = prepared.cell.states, prepared.weights.input.dtype, prepared.size, runs.vector
    projection = prepared.weights.projection
    output = size if projection is None else len(projection)
    columns = () if vector else (run.rows,)

    arrays = shared | {name_of("x", name): _drawn(value, runs, run, columns, dtype) for name, value in draws.items()}
    arrays |= _operand(run.steps, prepared.features, output, columns, dtype, masked=masked)
    arrays |= _gates(prepared, run.steps, columns, dtype, each_step=keep)
    arrays |= code.joint.arrays((run.steps,) if keep else (), size, columns, dtype)
    if projection is not None:
        arrays["output"] = empty(((run.steps,) if keep else ()) + (size, *columns), dtype)
    for name in states[1:]:
        if keep:
            trajectory = empty((run.steps + 1, size, *columns), dtype)
            arrays |= {name_of("before", name): trajectory[:-1], name_of("after", name): trajectory[1:]}
        else:
            arrays[name_of("state", name)] = empty((size, *columns), dtype)
    arrays |= work_space(code.loop.work, (), size, columns, dtype)
    return arrays | work_space(code.saved, (run.steps,), size, columns, dtype)


def places_to_fill(prepared: Prepared, arrays: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Where in a run's arrays its input goes, (S, I, n), and the states before it, (size, n) each."""
    of_states = {}
    for name in prepared.cell.states:
        before = name_of("before", name)
        of_states[name] = arrays[before][0] if before in arrays else arrays[name_of("state", name)]
    of_x = arrays["operand"][:, : prepared.features]
    if of_x.ndim == 3:
        return of_x, of_states
    return of_x[..., None], {name: place[:, None] for name, place in of_states.items()}


def _operand(
    steps: int, features: int, output: int, columns: tuple[int, ...], dtype: Any, *, masked: bool
) -> dict[str, Any]:
    """What the products are with: for each step [x; 1; h], h being the output before it, and one more h at the end.

    Where the output is masked on its way there, it is kept apart, unmasked.
    """
    one = features + 1
    both = empty((steps + 1, one + output, *columns), dtype)
    both[:, features] = 1
    arrays = {"operand": both[:-1], "operand_h": both[:-1, features:]}
    h, after = both[:-1, one:], both[1:, one:]
    if not masked:
        return arrays | {"before_h": h, "after_h": after}
    unmasked = empty((steps + 1, output, *columns), dtype)
    return arrays | {"before_h": unmasked[:-1], "after_h": unmasked[1:], "masked": h, "masked_after": after}


def _gates(prepared: Prepared, steps: int, columns: tuple[int, ...], dtype: Any, *, each_step: bool) -> dict[str, Any]:
    """The gates' buffers."""
    gates, size = prepared.gates, prepared.size
    lead = (steps,) if each_step else ()
    stepwise = empty((*lead, len(gates.of_output) * size, *columns), dtype)
    hoisted = empty((steps, len(gates.hoisted) * size, *columns), dtype)
    inner = empty((*lead, len(gates.inner) * size, *columns), dtype)
    arrays = {name: empty((*lead, size, *columns), dtype) for name in gates.aside.values()}
    if gates.inner:
        arrays |= {"inner": inner, "inner_operand": empty((*lead, size, *columns), dtype)}
    if not columns:
        from_input = stepwise if each_step else empty((steps, len(stepwise)), dtype)
        arrays |= {"from_input": from_input, "product": np.empty(from_input.shape[1], dtype)}
    if prepared.as_they_lie:
        arrays |= bounds(len(gates.logistic_block) * size, dtype)
    arrays["hoisted"] = hoisted
    return arrays | gates.blocks_of(hoisted, stepwise, inner, size, columns=len(columns))


def products_ahead(prepared: Prepared, arrays: dict[str, Any]) -> list[Bound]:
    """Return what computes the products that are made for all steps at once."""
    gates, size, operand, hoisted = prepared.gates, prepared.size, arrays["operand"], arrays["hoisted"]
    x = operand[:, : prepared.features]
    calls = list[Bound]()
    if operand.ndim == 3:
        if gates.hoisted:
            with_one = operand[:, : prepared.features + 1]  # for the bias
            calls.append(partial(np.matmul, arrays["w_hoisted"], with_one, hoisted))
            if prepared.bias_by_row:
                calls.append(partial(np.add, hoisted, arrays["bias_hoisted"], hoisted))
        return calls
    from_input, count = arrays["from_input"], len(gates.merged) * size
    merged, apart = from_input[:, :count], from_input[:, count:]
    for block, members, into in (("hoisted", gates.hoisted, hoisted), ("merged", gates.merged, merged)):
        if not members:
            continue
        for first in range(0, len(x), TOGETHER):
            part = slice(first, first + TOGETHER)
            calls.append(partial(np.matmul, x[part], arrays[f"w_{block}"], into[part]))
        if arrays[f"b_{block}"] is not None:
            calls.append(partial(np.add, into, arrays[f"b_{block}"], into))
    if gates.apart:
        calls.append(partial(np.copyto, apart, 0 if arrays["b_apart"] is None else arrays["b_apart"]))
    if not prepared.as_they_lie:
        logistic = [merged[:, gates.rows((gate,), size)] for gate in gates.logistic]
        calls += [negation(part, part) for part in logistic]
    return calls


def chunk_of(numbers: int, dtype: Any, *, vector: bool) -> int:
    """How many steps of so many numbers each are worked on at a time: a power of two."""
    most = TOGETHER if vector else 16
    fit = CHUNK_BYTES // max(1, numbers * int(dtype.itemsize))
    return min(most, 1 << max(0, fit.bit_length() - 1))


def work_space(
    kinds: Mapping[str, Kind], lead: tuple[int, ...], size: int, columns: tuple[int, ...], dtype: Any
) -> dict[str, Any]:
    """Make arrays of their kinds, by name, with the axes ``lead`` in front."""
    arrays = {}
    for name, kind in kinds.items():
        arrays[name] = empty((*lead, 1 if kind == ROW else size, *columns), BOOL if kind == FLAG else dtype)
        if isinstance(kind, float):
            arrays[name].fill(kind)
    return arrays


def _drawn(value: Any, runs: Runs, run: Run, columns: tuple[int, ...], dtype: Any) -> Any:
    """A cell's draws for a run, (S, H, n), or their mean with one number for all."""
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
