"""A ragged batch as the engine wants it: rows by falling length, and over time only what is valid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from recurray.kept import Kept
from recurray_native.structures import address


@dataclass(frozen=True)
class Rows:
    """The valid rows of each step, in the order of the loop. N: all of them.

    Attributes
    ----------
    shape : tuple of int
        Of the batch: (T, B).
    order : array of int, (B,), or None
        The rows by falling length; None where all steps are valid.
    places : array of int, (N,), or None
        Where in (T * B) each valid row is.
    counts, offsets : array of int64, (steps,)
        How many rows each step of the loop has, and the first of them; steps without any are left out.
    lengths, ends : array of int64, (B,)
        By row in ``order``: its length, and after which step of the loop it is done.
    total : int
        N.
    """

    shape: tuple[int, int]
    order: Any
    places: Any
    counts: Any
    offsets: Any
    lengths: Any
    ends: Any
    total: int = field(init=False)
    _together: Any = field(init=False)  # the last four arrays in one, as taking an address costs half a microsecond

    def __post_init__(self) -> None:
        names = ("counts", "offsets", "lengths", "ends")
        arrays = [getattr(self, name) for name in names]
        together = np.concatenate(arrays)
        cuts = np.cumsum([len(array) for array in arrays])
        for name, part in zip(names, np.split(together, cuts[:-1]), strict=True):
            object.__setattr__(self, name, part)
        object.__setattr__(self, "total", int(self.counts.sum()))
        object.__setattr__(self, "_together", together)

    def addresses(self) -> tuple[int, int, int, int]:
        """Where counts, offsets, lengths and ends are, for as long as this object is.

        They are found anew at each call: a copy of this object, also in another process, has arrays of its own.
        """
        counts = address(self._together)
        offsets = counts + self.counts.nbytes
        lengths = offsets + self.offsets.nbytes
        return counts, offsets, lengths, lengths + self.lengths.nbytes

    def over_time(self, a: Any) -> Any:
        """(T, B, n) -> (N, n), contiguous."""
        if self.places is None:
            return in_order(a).reshape(-1, a.shape[2])
        if a.flags.c_contiguous:
            return a.reshape(-1, a.shape[2])[self.places]
        steps, rows = np.divmod(self.places, self.shape[1])
        return in_order(a[steps, rows])

    def from_time(self, a: Any) -> Any:
        """The inverse of `over_time`, zero where there is padding."""
        if self.places is None:
            return a.reshape(*self.shape, a.shape[1])
        result = np.zeros((self.shape[0] * self.shape[1], a.shape[1]), a.dtype)
        result[self.places] = a
        return result.reshape(*self.shape, a.shape[1])

    def sorted(self, a: Any) -> Any:
        """(B, n) in the rows' order, contiguous."""
        return in_order(a if self.order is None else a[self.order])

    def unsorted(self, a: Any) -> Any:
        """The inverse of `sorted`."""
        if self.order is None:
            return a
        result = np.empty_like(a)
        result[self.order] = a
        return result


def in_order(a: Any) -> Any:
    """Return an array, or a copy if it isn't contiguous or its numbers aren't where the processor wants them."""
    flags = a.flags
    return a if flags.carray or (flags.c_contiguous and flags.aligned) else np.array(a, order="C")


def rows(steps: int, batch: int, lengths: Sequence[int] | None, reverse: bool) -> Rows:
    """Say which rows are valid at which steps.

    Raises
    ------
    ValueError, TypeError
        The lengths aren't one whole number from 0 to ``steps`` for each row.

    Examples
    --------
    >>> found = rows(5, 3, [2, 5, 2], reverse=False)
    >>> found.order.tolist(), found.counts.tolist(), found.offsets.tolist()
    ([1, 0, 2], [3, 3, 1, 1, 1], [0, 3, 6, 7, 8])
    """
    if lengths is None:
        return _full(steps, batch, reverse)
    order, by_row = _sorted(lengths, batch, steps)
    if not batch or by_row[-1] == steps:
        return _full(steps, batch, reverse)
    steps_used = int(by_row[0])
    valid = np.arange(steps_used)[:, None] < by_row[None, :]  # (steps, B)
    counts = valid.sum(axis=1, dtype=np.int64)
    offsets = np.cumsum(counts) - counts
    step, row = np.nonzero(valid)
    ends = np.full(batch, steps_used, np.int64) if reverse else by_row
    if reverse:
        counts, offsets = np.ascontiguousarray(counts[::-1]), np.ascontiguousarray(offsets[::-1])
    return Rows((steps, batch), order, step * batch + order[row], counts, offsets, by_row, ends)


def _sorted(lengths: Sequence[int], batch: int, steps: int) -> tuple[Any, Any]:
    """The rows by falling length, and the lengths in that order."""
    given = np.asarray(lengths)
    if given.shape != (batch,):
        raise ValueError(f"lengths must have the shape ({batch},), one for each row, not {given.shape}")
    if batch and given.dtype.kind not in "iu":
        raise TypeError(f"lengths must be whole numbers, not {given.dtype}")
    whole = given.astype(np.int64)
    order = np.argsort(-whole, kind="stable")
    by_row = whole[order]
    if batch and not 0 <= by_row[-1] <= by_row[0] <= steps:
        raise ValueError(f"lengths must be from 0 to the {steps} steps, not from {given.min()} to {given.max()}")
    return order, by_row


_kept: Kept[Rows] = Kept()


def _full(steps: int, batch: int, reverse: bool) -> Rows:
    key = steps, batch, reverse
    found = _kept.get(key)
    if found is None:
        steps_used = steps if batch else 0
        counts = np.full(steps_used, batch, np.int64)
        offsets = np.arange(steps_used, dtype=np.int64) * batch
        lengths = np.full(batch, steps, np.int64)
        found = Rows((steps, batch), None, None, counts, offsets[:: -1 if reverse else 1], lengths, lengths)
        _kept.put(key, found, found._together.nbytes)
    return found
