"""A scan in parts, each of which is kept for backward or computed again then.

Each part is a scan of its own, of the same number of steps but for the last in time, and the gradients of the weights
are summed part by part, from the end of the loop to its start. Where parts begin and end doesn't depend on what is
kept, so computing again changes no bit.

T time, B batch, R size of the output. Arrays are time-major, (T, B, features).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from recurray.arrays import Array, namespace_of
from recurray.cells.cell import Cell, Draws, Weights
from recurray.scan import ScanBackward, ScanForward, check_dy


@dataclass(frozen=True)
class PartsCache:
    """All that backward reads, of stretches of parts in the order of the loop."""

    scan: Any  # a function of a part, the state before it, and whether to keep; None where all parts are kept
    stretches: list[list[slice]]  # the steps of each part
    kept: list[list[Any]]  # what the scan of each part has kept; or nothing, and then
    starts: list[tuple[Array, ...]]  # the states before each stretch


def forward(
    scan: ScanForward,
    steps_of_part: int,
    cell: Cell,
    weights: Weights,
    x: Array,
    start: tuple[Array, ...],
    *,
    lengths: Sequence[int] | None = None,
    keep: bool = True,
    draws: Draws | None = None,
    reverse: bool = False,
    recompute: int | None = None,
    **options: Any,
) -> tuple[Array, tuple[Array, ...], Any]:
    """Run ``scan``, a function like `recurray.scan.forward`, in parts of so many steps.

    The other parameters are those of `Backend.scan_forward`; ``recompute`` is rounded up to whole parts. Where one part
    is all, the result is the scan's own, cache and all.
    """
    steps = x.shape[0]
    if steps <= steps_of_part:
        return scan(cell, weights, x, start, lengths=lengths, keep=keep, draws=draws, reverse=reverse, **options)

    def scan_part(part: slice, state: tuple[Array, ...], keep: bool) -> tuple[Array, tuple[Array, ...], Any]:
        return scan(
            cell,
            weights,
            x[part, ...],
            state,
            lengths=None if lengths is None else [min(max(n, part.start), part.stop) - part.start for n in lengths],
            reverse=reverse,
            keep=keep,
            draws={k: draw if isinstance(draw, float) else draw[part, ...] for k, draw in (draws or {}).items()},
            **options,
        )

    parts = [slice(first, min(first + steps_of_part, steps)) for first in range(0, steps, steps_of_part)]
    if reverse:
        parts.reverse()
    again = keep and recompute is not None
    together = -(-recompute // steps_of_part) if keep and recompute is not None else len(parts)
    stretches = [parts[first : first + together] for first in range(0, len(parts), together)]
    state, ys, starts = start, [], []
    kept: list[list[Any]] = []
    for stretch in stretches:
        starts.append(state)
        kept.append([])
        for part in stretch:
            y, state, cache = scan_part(part, state, keep and not again)
            ys.append(y)
            if keep and not again:
                kept[-1].append(cache)
    y = namespace_of(x).concat(ys[::-1] if reverse else ys, axis=0)
    return y, state, PartsCache(scan_part if again else None, stretches, kept, starts) if keep else None


def backward(
    scan_backward: ScanBackward, cell: Cell, cache: PartsCache, dy: Array, dend: tuple[Array, ...]
) -> tuple[Array, tuple[Array, ...], Weights]:
    """Run ``scan_backward``, a function like `recurray.scan.backward`, in parts."""
    steps = max(part.stop for stretch in cache.stretches for part in stretch)
    check_dy(dy, (steps, *dy.shape[1:]))
    dxs: list[tuple[int, Array]] = []
    total: Any = None
    for stretch, kept, state in reversed(list(zip(cache.stretches, cache.kept, cache.starts, strict=True))):
        caches = list(kept)
        for part in stretch[len(caches) :]:
            _, state, again = cache.scan(part, state, True)
            caches.append(again)
        for part in reversed(stretch):
            dx, dend, grads = scan_backward(cell, caches.pop(), dy[part, ...], dend)
            dxs.append((part.start, dx))
            total = grads if total is None else _sum(total, grads)
    dx = namespace_of(dy).concat([dx for _, dx in sorted(dxs, key=lambda pair: pair[0])], axis=0)
    return dx, dend, total


def _sum(first: Weights, second: Weights) -> Weights:
    """Add up the gradients of the weights, field by field."""
    sums: dict[str, Any] = {}
    for field in fields(first):
        a, b = getattr(first, field.name), getattr(second, field.name)
        if field.name == "pointwise":
            sums["pointwise"] = {name: a[name] + b[name] for name in a}
        else:
            sums[field.name] = None if a is None else a + b
    return Weights(**sums)
