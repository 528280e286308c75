"""A stack of layers: the scans of each over the output of the one below.

T time, B batch, I input, R size of a direction's output, D directions. Arrays are time-major: x (T, B, I), y
(T, B, D R).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from recurray.arrays import Array, dropped, namespace_of
from recurray.backend import Backend
from recurray.cells.cell import Cell, Draws, Weights
from recurray.scan import Cache

Ends = list[tuple[Array, ...]]  # by direction, and by layer where it is of all of them


class Direction(NamedTuple):
    """What one direction of a layer is run with; see `recurray.scan.forward`."""

    cell: Cell
    weights: Weights
    start: tuple[Array, ...]
    output_mask: Array | None
    draws: Draws | None


class LayerForward(NamedTuple):
    """What a layer is run with."""

    directions: list[Direction]  # the second, if there is one, from the end
    kept: Array | None  # which elements of its input dropout keeps, (T, B, features)


class LayerBackward(NamedTuple):
    """What a layer's backward reads."""

    caches: list[Cache]  # by direction
    dends: Ends  # the gradients of the final states
    kept: Array | None  # as forward


def forward(
    backend: Backend,
    layers: Iterable[LayerForward],
    x: Array,
    *,
    dropout: float,
    reverse: bool = False,
    **options: Any,
) -> tuple[Array, Ends, list[list[Any]]]:
    """Run layer after layer, each asked for when the one below is done; ``options`` are those of `scan_forward`.

    Where ``reverse``, the first direction runs from the end; the second always does.

    Returns
    -------
    y : array, (T, B, D R)
    ends : list of tuple of array
        The final states by layer and direction, one after another.
    caches : list of list
        By layer and direction.
    """
    ends: Ends = []
    caches: list[list[Any]] = []
    for layer in layers:
        if layer.kept is not None:
            x = dropped(x, layer.kept, dropout)
        ys = []
        caches.append([])
        for direction, own in enumerate(layer.directions):
            y, end, cache = backend.scan_forward(
                own.cell,
                own.weights,
                x,
                own.start,
                reverse=reverse or direction == 1,
                output_mask=own.output_mask,
                draws=own.draws,
                **options,
            )
            ys.append(y)
            ends.append(end)
            caches[-1].append(cache)
        x = ys[0] if len(ys) == 1 else namespace_of(x).concat(ys, axis=-1)
    return x, ends, caches


def backward(
    layers: Sequence[LayerBackward], dy: Array, *, dropout: float
) -> tuple[Array, list[list[tuple[tuple[Array, ...], Weights]]]]:
    """Backward through layer after layer, from the last.

    Returns
    -------
    dx : array, (T, B, I)
    grads : list of list of (tuple of array, Weights)
        By layer and direction the gradients of the start state and of the weights.
    """
    found = []
    for layer in reversed(layers):
        size = dy.shape[2] // len(layer.caches)
        dxs, grads = [], list[tuple[tuple[Array, ...], Weights]]()
        for k, (cache, dend) in enumerate(zip(layer.caches, layer.dends, strict=True)):
            own = dy if len(layer.caches) == 1 else dy[:, :, k * size : (k + 1) * size]
            dx, dstart, dweights = cache.backward(own, dend)
            dxs.append(dx)
            grads.append((dstart, dweights))
        dy = dxs[0] if len(dxs) == 1 else dxs[0] + dxs[1]
        if layer.kept is not None:
            dy = dropped(dy, layer.kept, dropout)
        found.append(grads)
    return dy, found[::-1]
