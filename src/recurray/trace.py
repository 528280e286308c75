"""Looking inside: every gate and state of a recurrent layer over time, by name.

T time, B batch, H hidden units, R size of the output (H, or the projection's).
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import index
from typing import Any, Protocol, overload

from recurray.arrays import Array, namespace_of
from recurray.backend import Backend
from recurray.cells.cell import Cell
from recurray.scan import ScanCache


class Traceable(Protocol):
    """What a trace needs of a layer: see `recurray.Recurrent`."""

    cells: tuple[Cell, ...]  # by direction
    backend: Backend
    recompute: int | str | None
    batch_first: bool

    def forward(
        self,
        x: Array,
        state: Any = None,
        lengths: Any = None,
        training: bool = True,
        *,
        mask: Any = None,
        resets: Any = None,
        static: Any = None,
    ) -> tuple[Any, Any, Any]:
        """Run the layer and keep what backward needs."""


@dataclass(frozen=True)
class DirectionTrace(Mapping[str, Array]):
    """What one direction of one layer computed: a mapping of names to arrays.

    Attributes
    ----------
    layer : int
        The layer's number.
    reverse : bool
        Whether time ran from the end to the start. The arrays are in the order of the input all the same.
    gates, states : tuple of str
        Which of the names are gates of the cell, and which are states, as they were after each step.
    arrays : mapping of str to array, (batch, time, H)
        All of it; (time, batch, H) where the layer has ``batch_first=False``. Zero where a step isn't valid.
    """

    layer: int
    reverse: bool
    gates: tuple[str, ...]
    states: tuple[str, ...]
    arrays: Mapping[str, Array]

    def __getitem__(self, name: str) -> Array:
        if name not in self.arrays:
            raise KeyError(f"there is no {name!r}; there are {', '.join(map(repr, self.arrays))}")
        return self.arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)

    def __repr__(self) -> str:
        return f"<trace of layer {self.layer}{' in reverse' if self.reverse else ''}: {', '.join(self.arrays)}>"


@dataclass(frozen=True)
class Trace(Sequence[DirectionTrace]):
    """What every layer and direction computed: a sequence in the order of the state's first axis.

    The trace of a layer with one direction can be asked for values by name, as its only part can.

    Attributes
    ----------
    parts : tuple of DirectionTrace
        Layer by layer, the reverse direction after the forward one.
    lengths : tuple of int or None
        How many steps of each row are valid; None where none were given.
    batch_first : bool
        Whether arrays are (batch, time, features) rather than (time, batch, features).
    """

    parts: tuple[DirectionTrace, ...]
    lengths: tuple[int, ...] | None
    batch_first: bool

    @overload
    def __getitem__(self, place: int) -> DirectionTrace: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[DirectionTrace, ...]: ...
    @overload
    def __getitem__(self, place: str) -> Array: ...
    def __getitem__(self, place: int | slice | str) -> Any:
        if isinstance(place, slice):
            return self.parts[place]
        if not isinstance(place, str):
            number = index(place)
            if not -len(self.parts) <= number < len(self.parts):
                raise IndexError(f"there are {len(self.parts)} layers and directions, but no number {number}")
            return self.parts[number]
        if len(self.parts) != 1:
            raise KeyError(f"there are {len(self.parts)} layers and directions: say which, trace[0][{place!r}]")
        return self.parts[0][place]

    def __len__(self) -> int:
        return len(self.parts)

    def __repr__(self) -> str:
        return f"<{', '.join(repr(part).strip('<>') for part in self.parts)}>"


def trace(
    layer: Traceable,
    x: Array,
    state: Any = None,
    lengths: Any = None,
    *,
    mask: Any = None,
    resets: Any = None,
    static: Any = None,
) -> Trace:
    """Run a recurrent layer in inference and return every gate and state over time.

    The layer's own numbers, to rounding, but computed by the reference path, which is slower.

    Parameters
    ----------
    layer : Recurrent
        An `LSTM`, a `GRU` or any other.
    x : array
        The input, of the layer's backend.
    state, lengths, mask, resets, static : optional
        As in the layer's ``forward``.

    Returns
    -------
    Trace
        By layer and direction and name: the gates, the states after each step, and what else the cell saves for
        backward.

    Raises
    ------
    TypeError, ValueError
        ``layer`` isn't recurrent, or an argument is of the wrong kind.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> lstm = rr.LSTM(3, 5, seed=0)
    >>> x = np.ones((2, 7, 3), dtype="float32")
    >>> seen = lstm.trace(x)
    >>> seen[0].gates, seen[0].states
    (('i', 'f', 'g', 'o'), ('h', 'c'))
    >>> seen["f"].shape
    (2, 7, 5)
    >>> bool(np.allclose(seen["h"], lstm(x)[0]))
    True
    """
    if not hasattr(layer, "cells") or not hasattr(layer, "forward"):
        raise TypeError(f"only a recurrent layer has gates to trace, not {type(layer).__name__}")
    slow = copy.copy(layer)
    slow.backend, slow.recompute = Backend(layer.backend.xp, layer.backend.device), None
    slow.backend.steps_together = sys.maxsize  # one chunk, so that all it keeps is in one place
    options = {"mask": mask, "resets": resets, "static": static}
    y, _, cache = slow.forward(x, state, lengths, training=False, **options)
    time = 1 if layer.batch_first else 0
    steps = y.shape[time]
    if not steps:  # what the cell saves is known only after a step: take one that isn't shown
        shape = [1 if axis == time else size for axis, size in enumerate(x.shape)]
        one_step = layer.backend.xp.zeros(shape, dtype=y.dtype, device=layer.backend.device)
        _, _, cache = slow.forward(one_step, state, training=False, static=static)

    def join(groups: list[Array]) -> Array:
        """From what was run together, time-major, to the caller's layout."""
        if cache.pieces is not None:
            return cache.pieces.join(groups, y.shape)
        whole = groups[0][:steps, ...]
        return namespace_of(whole).permute_dims(whole, (1, 0, 2)) if layer.batch_first else whole

    parts = tuple(
        _direction(cell, number, [own.scan for own in direction], join)
        for number, directions in enumerate(zip(*(group.directions for group in cache.groups), strict=True))
        for cell, direction in zip(layer.cells, zip(*directions, strict=True), strict=True)
    )
    return Trace(parts, None if lengths is None else tuple(int(length) for length in lengths), layer.batch_first)


def _direction(
    cell: Cell, number: int, scans: Sequence[ScanCache], join: Callable[[list[Array]], Array]
) -> DirectionTrace:
    """Put together what the scans have kept of one direction, a scan for each group of what was run together."""
    known = dict.fromkeys(
        (*cell.input_gates, *cell.recurrent_gates, *(k for rows in cell.pointwise.values() for k in rows))
    )
    first = scans[0]
    shape = tuple(first.outputs[0].shape)
    saved = [
        name
        for name, value in first.saved[0]._asdict().items()
        if tuple(getattr(value, "shape", ())) == shape and name not in cell.states
    ]
    gates = tuple(name for name in known if name in saved)
    others = tuple(name for name in saved if name not in gates)

    def over_time(name: str) -> Array:
        groups = []
        for scan in scans:
            values = scan.states[name][1:] if name in cell.states else [getattr(step, name) for step in scan.saved]
            xp = namespace_of(values[0])
            group = xp.stack(values[::-1] if scan.reverse else values)
            if scan.valid is not None:
                group = xp.where(scan.valid, group, xp.zeros_like(group))
            groups.append(group)
        return join(groups)

    names = (*gates, *cell.states, *others)
    return DirectionTrace(number, first.reverse, gates, tuple(cell.states), {name: over_time(name) for name in names})
