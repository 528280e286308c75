"""A scan in chunks of time, each of which is kept for backward or computed again then.

Each chunk is a scan of its own, of the same number of steps but for the last in time, and the gradients of the weights
are summed chunk by chunk, from the end of the loop to its start. Where chunks begin and end doesn't depend on what is
kept, so computing again changes no bit.

T time, B batch, R size of the output. Arrays are time-major, (T, B, features).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recurray.arrays import Array, namespace_of
from recurray.cells.cell import Cell, Draws, Weights
from recurray.scan import Cache, Gradients, Scan, check_dy


@dataclass(frozen=True)
class Chunked:
    """A scan, and what all of its chunks are run with."""

    scan: Scan
    cell: Cell
    weights: Weights
    x: Array
    lengths: Sequence[int] | None
    draws: Draws
    options: Mapping[str, Any]

    def run(
        self, chunk: slice, start: tuple[Array, ...], *, keep: bool
    ) -> tuple[Array, tuple[Array, ...], Cache | None]:
        """Run a chunk from the state before it."""
        lengths = self.lengths
        if lengths is not None:
            lengths = [min(max(n, chunk.start), chunk.stop) - chunk.start for n in lengths]
        draws = {name: draw if isinstance(draw, float) else draw[chunk, ...] for name, draw in self.draws.items()}
        x = self.x[chunk, ...]
        return self.scan(self.cell, self.weights, x, start, lengths=lengths, keep=keep, draws=draws, **self.options)


@dataclass(frozen=True)
class ChunksCache:
    """All that backward reads, of groups of chunks in the order of the loop."""

    again: Chunked | None  # what chunks are computed again with; None where all are kept
    groups: list[list[slice]]  # the steps of each chunk
    kept: list[list[Cache]]  # what each chunk has kept; or nothing, and then
    starts: list[tuple[Array, ...]]  # the states before each group

    def backward(self, dy: Array, dend: tuple[Array, ...]) -> Gradients:
        """Backward through time; see `recurray.scan.backward`."""
        steps = max(chunk.stop for group in self.groups for chunk in group)
        check_dy(dy, (steps, *dy.shape[1:]))
        dxs: list[tuple[int, Array]] = []
        total: Weights | None = None
        for group, kept, state in reversed(list(zip(self.groups, self.kept, self.starts, strict=True))):
            caches = list(kept) if self.again is None else _caches(self.again, group, state)
            for chunk in reversed(group):
                dx, dend, grads = caches.pop().backward(dy[chunk, ...], dend)
                dxs.append((chunk.start, dx))
                total = grads if total is None else total + grads
        assert total is not None  # noqa: S101 - there are chunks
        dx = namespace_of(dy).concat([dx for _, dx in sorted(dxs, key=lambda pair: pair[0])], axis=0)
        return dx, dend, total


def forward(
    scan: Scan,
    steps_of_chunk: int,
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
) -> tuple[Array, tuple[Array, ...], Cache | None]:
    """Run ``scan``, a function like `recurray.scan.forward`, in chunks of so many steps.

    The other parameters are those of `Backend.scan_forward`; ``recompute`` is rounded up to whole chunks. Where one
    chunk is all, the result is the scan's own, cache and all.
    """
    options |= {"reverse": reverse}
    steps = x.shape[0]
    if steps <= steps_of_chunk:
        return scan(cell, weights, x, start, lengths=lengths, keep=keep, draws=draws, **options)

    chunked = Chunked(scan, cell, weights, x, lengths, draws or {}, options)
    chunks = [slice(first, min(first + steps_of_chunk, steps)) for first in range(0, steps, steps_of_chunk)]
    if reverse:
        chunks.reverse()
    again = keep and recompute is not None
    together = -(-recompute // steps_of_chunk) if keep and recompute is not None else len(chunks)
    groups = [chunks[first : first + together] for first in range(0, len(chunks), together)]
    state, ys, starts = start, [], []
    kept: list[list[Cache]] = []
    for group in groups:
        starts.append(state)
        kept.append([])
        for chunk in group:
            y, state, cache = chunked.run(chunk, state, keep=keep and not again)
            ys.append(y)
            if cache is not None:
                kept[-1].append(cache)
    y = namespace_of(x).concat(ys[::-1] if reverse else ys, axis=0)
    return y, state, ChunksCache(chunked if again else None, groups, kept, starts) if keep else None


def _caches(again: Chunked, group: Sequence[slice], state: tuple[Array, ...]) -> list[Cache]:
    """Run a group of chunks once more, and return what each keeps."""
    caches = []
    for chunk in group:
        _, state, cache = again.run(chunk, state, keep=True)
        assert cache is not None  # noqa: S101
        caches.append(cache)
    return caches
