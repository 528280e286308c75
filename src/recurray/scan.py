"""The time loop, written once for every cell and every array library: the reference that faster scans must equal.

T time, B batch, I input, H hidden units, R size of the output (H, or the projection's). Arrays are time-major:
x (T, B, I), y (T, B, R); states (B, size).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from recurray.arrays import Array, device_of, namespace_of, rows
from recurray.cells.cell import Cell, Weights, named


@dataclass(frozen=True)
class ScanCache:
    """All that backward reads. Lists are in the order of the loop, which runs from the end where ``reverse``."""

    weights: Weights
    x: Array  # (T, B, I), padding zeroed
    states: dict[str, list[Array]]  # T + 1 arrays (B, size) each; the first is the start state
    outputs: list[Array]  # T arrays (B, H): the cell's h, before any projection
    saved: list[Any]  # T named tuples of arrays (B, H)
    valid: Array | None  # (T, B, 1): whether the step is within the row's length
    reverse: bool


def forward(
    cell: Cell,
    weights: Weights,
    x: Array,
    start: tuple[Array, ...],
    *,
    lengths: Sequence[int] | None,
    reverse: bool,
    keep: bool,
) -> tuple[Array, tuple[Array, ...], ScanCache | None]:
    """Run ``cell`` over time.

    Parameters
    ----------
    cell : Cell
    weights : Weights
    x : array, (T, B, I)
    start : tuple of array
        The start state: an array (B, size) for each of the cell's states.
    lengths : sequence of int, (B,), optional
        How many steps of each row are valid.
    reverse : bool
        Whether time runs backwards, from each row's last valid step.
    keep : bool
        Whether to return a cache.

    Returns
    -------
    y : array, (T, B, R)
        The output; zero past a row's length.
    end : tuple of array
        The states after each row's last step; the start state where a row has none.
    cache : ScanCache or None
    """
    xp = namespace_of(x)
    steps, batch, _ = x.shape
    valid = None if lengths is None else valid_steps(lengths, x)
    if valid is not None:
        x = xp.where(valid, x, xp.zeros_like(x))  # padding may hold anything, NaN included
    x_gates = _affine(rows(x), weights.input, weights.input_bias)  # every step in one product
    x_gates = xp.reshape(x_gates, (steps, batch, x_gates.shape[-1]))
    params = _pointwise(cell, weights)

    now = dict(zip(cell.states, start, strict=True))
    states = {name: [value] for name, value in now.items()}
    outputs, saved, ys = [], [], []
    for t in reversed(range(steps)) if reverse else range(steps):
        x_t = _split(cell.input_gates, x_gates[t, ...])
        h_t = None if weights.recurrent is None else _affine(now["h"], weights.recurrent, weights.recurrent_bias)
        after, saved_t = cell.step(x_t, _split(cell.recurrent_gates, h_t), named(cell.states)(**now), params)
        output = y = after["h"]
        if weights.projection is not None:
            y = output @ weights.projection.T
        after = after | {"h": y}
        if valid is not None:
            after = {name: xp.where(valid[t, ...], after[name], now[name]) for name in cell.states}
            y = xp.where(valid[t, ...], y, xp.zeros_like(y))
        now = after
        ys.append(y)
        if keep:
            outputs.append(output)
            saved.append(named(tuple(saved_t))(**saved_t))
            for name in cell.states:
                states[name].append(now[name])
    y = _stack(ys[::-1] if reverse else ys, like=start[0])
    end = tuple(now[name] for name in cell.states)
    return y, end, ScanCache(weights, x, states, outputs, saved, valid, reverse) if keep else None


def backward(
    cell: Cell, cache: ScanCache, dy: Array, dend: tuple[Array, ...]
) -> tuple[Array, tuple[Array, ...], Weights]:
    """Backward through time.

    Parameters
    ----------
    cell : Cell
    cache : ScanCache
        What `forward` returned.
    dy : array, (T, B, R)
        The gradient of the output; what it holds past a row's length is ignored.
    dend : tuple of array
        The gradients of the final states.

    Returns
    -------
    dx : array, (T, B, I)
    dstart : tuple of array
        The gradients of the start states.
    grads : Weights
        The gradients of the weights.
    """
    weights, x, valid, reverse = cache.weights, cache.x, cache.valid, cache.reverse
    xp = namespace_of(x)
    steps = x.shape[0]
    params = _pointwise(cell, weights)

    carried = dict(zip(cell.states, dend, strict=True))
    da_x, da_h, dprojected = [], [], []  # gradients of the products, by step
    dparams = {name: [xp.zeros_like(row) for row in getattr(params, name)] for name in cell.pointwise}
    for k in reversed(range(steps)):
        t = steps - 1 - k if reverse else k
        d = carried | {"h": carried["h"] + dy[t, ...]}
        if valid is not None:
            d = {name: xp.where(valid[t, ...], value, xp.zeros_like(value)) for name, value in d.items()}
        if weights.projection is not None:
            dprojected.append(d["h"])
            d["h"] = d["h"] @ weights.projection
        before = named(cell.states)(**{name: cache.states[name][k] for name in cell.states})
        grads = cell.step_backward(named(cell.states)(**d), cache.saved[k], before, params)

        da_x.append(_join(cell.input_gates, grads.x))
        dbefore = {name: grads.before.get(name, xp.zeros_like(carried[name])) for name in cell.states}
        if weights.recurrent is not None:
            da_h.append(_join(cell.recurrent_gates, grads.h))
            dbefore["h"] = dbefore["h"] + da_h[-1] @ weights.recurrent
        for name, row_names in cell.pointwise.items():
            dparams[name] = [
                total + xp.sum(grads.params[name][row], axis=0)
                for total, row in zip(dparams[name], row_names, strict=True)
            ]
        if valid is not None:
            dbefore = {name: xp.where(valid[t, ...], dbefore[name], carried[name]) for name in cell.states}
        carried = dbefore

    # What is summed over time is summed here, in one product over all T * B rows. The lists run against the loop.
    da_x = rows(_stack(da_x if reverse else da_x[::-1], like=_row(x, weights.input)))
    dweights = Weights(
        input=da_x.T @ rows(x),
        input_bias=None if weights.input_bias is None else xp.sum(da_x, axis=0),
        pointwise={name: xp.stack(value) for name, value in dparams.items()},
    )
    if weights.recurrent is not None:
        da_h = rows(_stack(da_h[::-1], like=_row(x, weights.recurrent)))
        h_prev = rows(_stack(cache.states["h"][:steps], like=dend[0]))
        bias = None if weights.recurrent_bias is None else xp.sum(da_h, axis=0)
        dweights = replace(dweights, recurrent=da_h.T @ h_prev, recurrent_bias=bias)
    if weights.projection is not None:
        projected = rows(_stack(dprojected[::-1], like=dend[0]))
        outputs = rows(_stack(cache.outputs, like=_row(x, weights.projection.T)))
        dweights = replace(dweights, projection=projected.T @ outputs)
    dx = xp.reshape(da_x @ weights.input, x.shape)
    return dx, tuple(carried[name] for name in cell.states), dweights


def valid_steps(lengths: Sequence[int], x: Array) -> Array:
    """Whether each step is within its row's length, (T, B, 1), on the device of x (T, B, I)."""
    xp = namespace_of(x)
    steps, batch, _ = x.shape
    device = device_of(x)
    time = xp.reshape(xp.arange(steps, device=device), (steps, 1, 1))
    return time < xp.reshape(xp.asarray(lengths, dtype=time.dtype, device=device), (1, batch, 1))


def _affine(a: Array, weight: Array, bias: Array | None) -> Array:
    product = a @ weight.T
    return product if bias is None else product + bias


def _split(gates: tuple[str, ...], a: Array | None) -> Any:
    """(B, gates * H) -> a named tuple of (B, H)."""
    if a is None:
        return named(())()
    size = a.shape[-1] // len(gates)
    return named(gates)(*(a[..., k * size : (k + 1) * size] for k in range(len(gates))))


def _join(gates: tuple[str, ...], parts: Mapping[str, Array]) -> Array:
    """By gate (B, H) -> (B, gates * H)."""
    values = [parts[gate] for gate in gates]
    return namespace_of(values[0]).concat(values, axis=-1)


def _pointwise(cell: Cell, weights: Weights) -> Any:
    """The cell's own params as a named tuple of named tuples of rows (H,)."""
    by_name = {
        name: named(row_names)(*(weights.pointwise[name][k, ...] for k in range(len(row_names))))
        for name, row_names in cell.pointwise.items()
    }
    return named(tuple(by_name))(**by_name)


def _row(x: Array, weight: Array) -> Array:
    """An array (B, rows of the weight): what `_stack` takes the shape from when there are no steps."""
    return namespace_of(x).zeros((x.shape[1], weight.shape[0]), dtype=x.dtype, device=device_of(x))


def _stack(arrays: list[Array], like: Array) -> Array:
    """Stack along a new first axis; of no arrays make one of shape (0, *like.shape)."""
    xp = namespace_of(like)
    return xp.stack(arrays) if arrays else xp.stack([like])[:0, ...]
