"""A stack of layers: the scans of each over the output of the one below.

T time, B batch, I input, R size of a direction's output, D directions. Arrays are time-major: x (T, B, I), y
(T, B, D R).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

from recurray.arrays import Array, namespace_of
from recurray.cells.cell import Cell, Draws, Weights
from recurray.scan import ScanBackward, ScanForward

Together = Callable[[Sequence[Callable[[], Any]]], list[Any]]
Dropout = Callable[[Array, slice], Array]  # of some steps, and which steps of all they are


class Direction(NamedTuple):
    """What one direction of a layer is run with; see `recurray.scan.forward`."""

    weights: Weights
    start: tuple[Array, ...]
    output_mask: Array | None
    draws: Draws | None


class LayerForward(NamedTuple):
    """What a layer is run with."""

    directions: list[Direction]  # the second, if there is one, from the end
    dropout: Dropout | None  # of the layer's input


class LayerBackward(NamedTuple):
    """What a layer's backward reads."""

    caches: list[Any]  # by direction
    dends: list[tuple[Array, ...]]  # the gradients of the final states, by direction
    dropout: Dropout | None  # of the gradient of the layer's input


Forward = tuple[Array, list[tuple[Array, ...]], list[list[Any]]]
Backward = tuple[Array, list[list[tuple[tuple[Array, ...], Weights]]]]


def forward(
    scan_forward: ScanForward, together: Together, cell: Cell, layers: Iterable[LayerForward], x: Array, **options: Any
) -> Forward:
    """Run layer after layer; see `Backend.stack_forward`."""
    ends: list[tuple[Array, ...]] = []
    caches: list[list[Any]] = []
    for layer in layers:
        if layer.dropout is not None:
            x = layer.dropout(x, slice(0, x.shape[0]))
        done = together(
            [
                partial(
                    scan_forward,
                    cell,
                    own.weights,
                    x,
                    own.start,
                    reverse=direction == 1,
                    output_mask=own.output_mask,
                    draws=own.draws,
                    **options,
                )
                for direction, own in enumerate(layer.directions)
            ]
        )
        ys = [y for y, _, _ in done]
        ends += [end for _, end, _ in done]
        caches.append([cache for _, _, cache in done])
        x = ys[0] if len(ys) == 1 else namespace_of(x).concat(ys, axis=-1)
    return x, ends, caches


def backward(
    scan_backward: ScanBackward, together: Together, cell: Cell, layers: Sequence[LayerBackward], dy: Array
) -> Backward:
    """Backward through layer after layer, from the last; see `Backend.stack_backward`."""
    found = []
    for layer in reversed(layers):
        size = dy.shape[2] // len(layer.caches)
        parts = [dy[:, :, k * size : (k + 1) * size] for k in range(len(layer.caches))]
        done = together(
            [
                partial(scan_backward, cell, cache, part, dend)
                for cache, part, dend in zip(layer.caches, parts, layer.dends, strict=True)
            ]
        )
        dy = done[0][0] if len(done) == 1 else done[0][0] + done[1][0]
        if layer.dropout is not None:
            dy = layer.dropout(dy, slice(0, dy.shape[0]))
        found.append([(dstart, grads) for _, dstart, grads in done])
    return dy, found[::-1]
