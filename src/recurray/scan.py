"""The time loop, written once for every cell and every array library: the reference that faster scans must equal.

T time, B batch, I input, H hidden units, R size of the output (H, or the projection's). Arrays are time-major:
x (T, B, I), y (T, B, R); states (B, size).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from recurray.arrays import Array, device_of, namespace_of, product_over_rows, rows, sum_over_rows
from recurray.cells.cell import Cell, Draws, Weights, added, named

__all__ = ["Cache", "Gradients", "Scan", "ScanCache", "backward", "forward"]

Gradients = tuple[Array, tuple[Array, ...], Weights]  # of the input, of the start states and of the weights


class Cache(Protocol):
    """What a scan keeps, and how it goes backward. It can be used again, copied and pickled."""

    def backward(self, dy: Array, dend: tuple[Array, ...]) -> Gradients:
        """Backward through time; see `recurray.scan.backward`."""


Scan = Callable[..., tuple[Array, tuple[Array, ...], Cache | None]]  # a function like `forward`


@dataclass(frozen=True)
class ScanCache:
    """All that backward reads. Lists are in the order of the loop, which runs from the end where ``reverse``."""

    cell: Cell
    weights: Weights
    x: Array  # (T, B, I), padding zeroed
    states: dict[str, list[Array]]  # T + 1 arrays (B, size) each; the first is the start state
    outputs: list[Array]  # T arrays (B, H): the cell's h, before any projection
    saved: list[Any]  # T named tuples of arrays (B, H)
    inner: list[Array]  # T arrays (B, H): what the inner gates' product is with; empty if there are none
    valid: Array | None  # (T, B, 1): whether the step is within the row's length
    reverse: bool
    output_mask: Array | None  # (B, R)

    def backward(self, dy: Array, dend: tuple[Array, ...]) -> Gradients:
        """Backward through time; see `backward`."""
        return backward(self, dy, dend)


def forward(
    cell: Cell,
    weights: Weights,
    x: Array,
    start: tuple[Array, ...],
    *,
    lengths: Sequence[int] | None = None,
    reverse: bool = False,
    keep: bool = True,
    draws: Draws | None = None,
    output_mask: Array | None = None,
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
    draws : mapping of str to array, (T, B, H), or float
        The cell's draws, or in inference their mean.
    output_mask : array, (B, R), optional
        What the output, and what the inner gates' product is with, is multiplied by on its way into the recurrent
        product, the same at each step.

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
    draws = draws or {}
    valid = None if lengths is None else valid_steps(lengths, steps, like=x)[:, :, None]
    if valid is not None:
        x = xp.where(valid, x, xp.zeros_like(x))  # padding may hold anything, NaN included
    x_gates = rows(x) @ weights.input.T  # every step in one product
    x_gates = xp.reshape(x_gates, (steps, batch, x_gates.shape[-1]))
    if weights.input_bias is not None:
        x_gates = x_gates + weights.input_bias
    outer, inner = (_of_gates(cell, weights, gates) for gates in (cell.outer_gates, cell.inner_gates))
    params = _pointwise(cell, weights)

    now = dict(zip(cell.states, start, strict=True))
    states = {name: [value] for name, value in now.items()}
    outputs, saved, inners, ys = [], [], [], []
    for t in reversed(range(steps)) if reverse else range(steps):
        before = named(cell.states)(**now)
        x_t = _split(cell.input_gates, x_gates[t, ...])
        x_t |= {name: value if isinstance(value, float) else value[t, ...] for name, value in draws.items()}
        x_t = named(tuple(x_t))(**x_t)
        h_t = {}
        if outer is not None:
            h_t = _split(cell.outer_gates, _affine(_masked(before.h, output_mask), *outer))
        if inner is not None:
            inners.append(_masked(cell.inner(x_t, named(tuple(h_t))(**h_t), before, params), output_mask))
            h_t |= _split(cell.inner_gates, _affine(inners[-1], *inner))
        after, saved_t = cell.step(x_t, named(tuple(h_t))(**h_t), before, params)
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
    cache = ScanCache(cell, weights, x, states, outputs, saved, inners, valid, reverse, output_mask) if keep else None
    return y, end, cache


def backward(cache: ScanCache, dy: Array, dend: tuple[Array, ...]) -> Gradients:
    """Backward through time.

    Parameters
    ----------
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

    Raises
    ------
    ValueError
        ``dy`` has another shape.
    """
    cell, weights, x, valid, reverse = cache.cell, cache.weights, cache.x, cache.valid, cache.reverse
    xp = namespace_of(x)
    steps = x.shape[0]
    params = _pointwise(cell, weights)
    outer, inner = (_of_gates(cell, weights, gates) for gates in (cell.outer_gates, cell.inner_gates))

    carried = dict(zip(cell.states, dend, strict=True))
    check_dy(dy, (*x.shape[:2], carried["h"].shape[1]))
    da_x, da_outer, da_inner, dprojected = [], [], [], []  # gradients of the products, by step
    dparams = {name: [list[Array]() for _ in own] for name, own in cell.pointwise.items()}  # by param, row and step
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
        if inner is not None:
            da_inner.append(_join(cell.inner_gates, grads.h))
            d_inner = _masked(da_inner[-1] @ inner[0], cache.output_mask)
            grads = added(grads, cell.inner_backward(d_inner, cache.saved[k], before, params))

        da_x.append(_join(cell.input_gates, grads.x))
        dbefore = {name: grads.before.get(name, xp.zeros_like(carried[name])) for name in cell.states}
        if outer is not None:
            da_outer.append(_join(cell.outer_gates, grads.h))
            dbefore["h"] = dbefore["h"] + _masked(da_outer[-1] @ outer[0], cache.output_mask)
        for name, row_names in cell.pointwise.items():
            for of_steps, row in zip(dparams[name], row_names, strict=True):
                of_steps.append(sum_over_rows(grads.params[name][row]))
        if valid is not None:
            dbefore = {name: xp.where(valid[t, ...], dbefore[name], carried[name]) for name in cell.states}
        carried = dbefore

    # What is summed over time is summed here, in one product over all T * B rows. The lists run against the loop.
    da_x = rows(_stack(da_x if reverse else da_x[::-1], like=_row(x, weights.input)))
    dweights = Weights(
        input=product_over_rows(da_x, rows(x)),
        input_bias=None if weights.input_bias is None else bias_gradient(weights.input_bias, da_x, steps),
        pointwise={
            name: xp.stack(
                [sum_over_rows(_stack(of_steps, like=row)) for of_steps, row in zip(by_row, given, strict=True)]
            )
            for (name, by_row), given in zip(dparams.items(), params, strict=True)
        },
    )
    if weights.recurrent is not None:
        blocks: dict[str, Array] = {}
        bias_blocks: dict[str, Array] = {}
        h_prev = [_masked(h, cache.output_mask) for h in cache.states["h"][:steps]]
        for gates, part, da, operands in (
            (cell.outer_gates, outer, da_outer, h_prev),
            (cell.inner_gates, inner, da_inner, cache.inner),
        ):
            if part is not None:
                da = rows(_stack(da[::-1], like=_row(x, part[0])))
                product = product_over_rows(da, rows(_stack(operands, like=dend[0])))
                blocks |= _split_rows(gates, product)
                bias_blocks |= _split_rows(gates, sum_over_rows(da))
        recurrent = xp.concat([blocks[gate] for gate in cell.recurrent_gates], axis=0)
        bias = xp.concat([bias_blocks[gate] for gate in cell.recurrent_gates], axis=0)
        dweights = replace(
            dweights, recurrent=recurrent, recurrent_bias=None if weights.recurrent_bias is None else bias
        )
    if weights.projection is not None:
        projected = rows(_stack(dprojected[::-1], like=dend[0]))
        outputs = rows(_stack(cache.outputs, like=_row(x, weights.projection.T)))
        dweights = replace(dweights, projection=product_over_rows(projected, outputs))
    dx = xp.reshape(da_x @ weights.input, x.shape)
    return dx, tuple(carried[name] for name in cell.states), dweights


def check_dy(dy: Array, shape: tuple[int, ...]) -> None:
    """Refuse a gradient of the output that isn't of the output's shape: of one too long, part would be ignored."""
    if tuple(dy.shape) != shape:
        raise ValueError(f"dy must have the shape {shape}, not {tuple(dy.shape)}")


def bias_gradient(bias: Array, da: Array, steps: int) -> Array:
    """The gradient of a bias, (n,), or of each row of the batch, (B, n): the sum over time of da (T * B, n)."""
    by_row = bias.ndim == 2
    return sum_over_rows(namespace_of(da).reshape(da, (steps, *bias.shape)) if by_row else da)


def valid_steps(lengths: Sequence[int], steps: int, like: Array) -> Array:
    """Whether each step is within its row's length, (T, B), an array of the library and on the device of ``like``."""
    xp, device = namespace_of(like), device_of(like)
    time = xp.reshape(xp.arange(steps, device=device), (steps, 1))
    return time < xp.reshape(xp.asarray(lengths, dtype=time.dtype, device=device), (1, len(lengths)))


def _affine(a: Array, weight: Array, bias: Array | None) -> Array:
    product = a @ weight.T
    return product if bias is None else product + bias


def _masked(a: Array, mask: Array | None) -> Array:
    return a if mask is None else a * mask


def _of_gates(cell: Cell, weights: Weights, gates: tuple[str, ...]) -> tuple[Array, Array | None] | None:
    """The rows of the recurrent weight, and of its bias, that belong to ``gates``; None if there are none."""
    if not gates or weights.recurrent is None:
        return None
    if gates == cell.recurrent_gates:
        return weights.recurrent, weights.recurrent_bias
    xp = namespace_of(weights.recurrent)
    parts = []
    for a in (weights.recurrent, weights.recurrent_bias):
        blocks = None if a is None else _split_rows(cell.recurrent_gates, a)
        parts.append(None if blocks is None else xp.concat([blocks[gate] for gate in gates], axis=0))
    return parts[0], parts[1]


def _split(gates: tuple[str, ...], a: Array) -> dict[str, Array]:
    """(B, gates * H) -> by gate (B, H)."""
    size = a.shape[-1] // len(gates)
    return {gate: a[..., k * size : (k + 1) * size] for k, gate in enumerate(gates)}


def _split_rows(gates: tuple[str, ...], a: Array) -> dict[str, Array]:
    """(gates * H, ...) -> by gate (H, ...)."""
    size = a.shape[0] // len(gates)
    return {gate: a[k * size : (k + 1) * size, ...] for k, gate in enumerate(gates)}


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
