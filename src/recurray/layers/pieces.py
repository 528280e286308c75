"""Rows with gaps and cuts as rows without: the pieces that a recurrent layer runs in their place.

A piece is the valid steps of a row between two cuts, one after the other. So a scan needs to know of lengths alone,
and none of its work is for steps that don't happen. Which steps go where is worked out on the host; the steps
themselves are gathered on the device.

B rows, T steps, P pieces, L steps of the longest piece of a group, G its pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from recurray.arrays import Array, namespace_of, rows, sum_over_rows
from recurray.backend import Backend

States = list[tuple[Array, ...]]  # by direction, of all layers one after another
IsReverse = Callable[[int], bool]

MOST_PADDING = 4  # with it pieces take so many times what they hold; where it were more they are run in groups


@dataclass(frozen=True)
class Steps:
    """Which steps of the rows happen, and where rows are cut; on the host.

    Attributes
    ----------
    lengths : list of int, optional
        How many steps of each row are valid, where these come first; None where all are, or by the mask.
    mask : array of bool, (B, T), optional
        Which steps are valid, where some row's don't come first.
    resets : array of bool, (B, T), optional
        The steps before which a row is cut; None where there are none.
    """

    batch: int
    steps: int
    lengths: list[int] | None
    mask: Any = None
    resets: Any = None

    @classmethod
    def of(cls, batch: int, steps: int, lengths: list[int] | None, mask: Any, resets: Any) -> Self:
        """Of what was checked; a mask is brought to lengths where it says no more than these."""
        if mask is not None:
            counts = mask.sum(axis=1)
            if (mask == (np.arange(steps) < counts[:, None])).all():
                lengths = None if (counts == steps).all() else [int(count) for count in counts]
                mask = None
        return cls(batch, steps, lengths, mask, None if resets is None or not resets.any() else resets)

    @property
    def valid(self) -> Any:
        """Which steps are valid, (B, T)."""
        if self.mask is not None:
            return self.mask
        lengths = np.full(self.batch, self.steps) if self.lengths is None else np.asarray(self.lengths)
        return np.arange(self.steps) < lengths[:, None]

    def ends(self) -> tuple[list[int], list[int]]:
        """Each row's first and last valid step; the last is -1, and the first T, where there is none."""
        if self.mask is None:
            lengths = [self.steps] * self.batch if self.lengths is None else self.lengths
            return [0 if length else self.steps for length in lengths], [length - 1 for length in lengths]
        some = self.mask.any(axis=1)
        first = np.where(some, self.mask.argmax(axis=1), self.steps)
        last = np.where(some, self.steps - 1 - self.mask[:, ::-1].argmax(axis=1), -1)
        return first.tolist(), last.tolist()


@dataclass(frozen=True)
class Group:
    """Pieces that are run together."""

    pieces: slice
    lengths: list[int] | None  # None where all are as long
    shape: tuple[int, int]  # (L, G)
    source: Array | None  # (L G,): where among the rows' steps each comes from; None where these are run as they lie


@dataclass(frozen=True)
class Pieces:
    """How rows become pieces, and the way back.

    Front and back are a row's ends in time. A piece is at one if no cut is between: it begins with the row's start
    state there, or ends with the row's final state, by the direction of the loop. All others begin with the layer's own
    start.
    """

    groups: list[Group]
    batch_first: bool
    cut: bool  # whether any row is
    row: Array  # (P,): the row of each piece
    front_piece: Array  # (B,): each row's piece that is the first in time
    back_piece: Array  # (B,)
    at_front: Array  # (P, 1) of bool
    at_back: Array
    front_joined: Array  # (B, 1) of bool: whether the row's first piece is at its front
    back_joined: Array
    valid: Array | None  # (B T, 1) of bool, as the rows' steps lie; None where the pieces are run as these lie
    place: Array | None  # (B T,): where each step is among the pieces', group after group
    has_zero: bool  # whether that is, for steps that aren't valid, a place past a piece's end, where all is zero

    @classmethod
    def of(cls, steps: Steps, backend: Backend, *, batch_first: bool) -> Pieces | None:
        """Return the pieces of rows; None where the rows will do as they are."""
        if steps.mask is None and steps.resets is None:
            return None
        plan = _plan(steps)
        order, groups = _grouped(plan.lengths, most=MOST_PADDING * steps.batch * steps.steps)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        together = len(groups) == 1  # in their own order
        piece, step = plan.piece if together else rank[plan.piece], plan.place  # of each valid step, and where in it
        lies = plan.at if batch_first else plan.time * steps.batch + plan.row_of_step
        whole = together and len(order) == steps.batch and bool((step == plan.time).all())
        row = plan.row[order]

        zero = _past_an_end(plan.lengths[order], groups)
        place = np.full(steps.batch * steps.steps, zero or 0, dtype=np.int64)
        made, taken = [], 0
        for first, stop in groups:
            lengths = plan.lengths[order[first:stop]]
            longest, count = steps.steps if whole else max(1, int(lengths.max())), stop - first
            source = np.zeros(longest * count, dtype=np.int64)
            here = slice(None) if together else (piece >= first) & (piece < stop)
            within = step[here] * count + piece[here] - first
            source[within] = lies[here]
            place[lies[here]] = taken + within
            taken += longest * count
            made.append(
                Group(
                    slice(first, stop),
                    None if (lengths == longest).all() else lengths.tolist(),
                    (longest, count),
                    None if whole else backend.asarray(source),
                )
            )
        front, back = rank[plan.front], rank[plan.back]
        numbers = np.arange(len(order))
        valid = (steps.valid if batch_first else steps.valid.T).flatten()[:, None]  # no view of the caller's mask
        on = backend.asarray
        return cls(
            groups=made,
            batch_first=batch_first,
            cut=steps.resets is not None,
            row=on(row),
            front_piece=on(front),
            back_piece=on(back),
            at_front=on(((front[row] == numbers) & plan.front_joined[row])[:, None]),
            at_back=on(((back[row] == numbers) & plan.back_joined[row])[:, None]),
            front_joined=on(plan.front_joined[:, None]),
            back_joined=on(plan.back_joined[:, None]),
            valid=None if whole else on(valid),
            place=None if whole else on(place),
            has_zero=zero is not None,
        )

    def split(self, a: Array) -> list[Array]:
        """Rows in the caller's layout -> by group their pieces, (L, G, features)."""
        xp = namespace_of(a)
        if self.valid is None:
            return [xp.permute_dims(a, (1, 0, 2)) if self.batch_first else a]
        flat = rows(a)
        return [xp.reshape(xp.take(flat, own.source, axis=0), (*own.shape, a.shape[2])) for own in self.groups]

    def join(self, parts: list[Array], shape: tuple[int, ...]) -> Array:
        """The inverse of `split`, to the caller's layout, of this ``shape``; zero where a step isn't valid."""
        xp = namespace_of(parts[0])
        if self.valid is None:
            return xp.permute_dims(parts[0], (1, 0, 2)) if self.batch_first else parts[0]
        flat = [rows(part) for part in parts]
        steps = xp.take(flat[0] if len(flat) == 1 else xp.concat(flat, axis=0), self.place, axis=0)
        if not self.has_zero:
            steps = xp.where(self.valid, steps, xp.zeros_like(steps))
        return xp.reshape(steps, (*shape[:2], steps.shape[1]))

    def by_piece(self, a: Array) -> Array:
        """What each row has, (B, n) -> what each piece has, (P, n)."""
        return namespace_of(a).take(a, self.row, axis=0)

    def rows_in_groups(self, arrays: Sequence[Array]) -> list[tuple[Array, ...]]:
        """What each row has, (B, n) -> by group what each piece has."""
        return self._in_groups([self.by_piece(a) for a in arrays])

    def sums_by_row(self, groups: Sequence[tuple[Array, ...]], backend: Backend, batch: int) -> tuple[Array, ...]:
        """Back through `rows_in_groups`: the sums over each row's pieces."""
        return tuple(backend.sum_rows(a, self.row, batch) for a in self._of_groups(groups))

    def runs(
        self, x: Array, given: States, own: States, is_reverse: IsReverse
    ) -> list[tuple[Array, States, list[int] | None]]:
        """What each group is run with: its input, its start states and its lengths.

        Parameters
        ----------
        x : array
            In the caller's layout.
        given, own : list of tuple of array
            Of each direction of each layer the rows' start states, (B, n), and the layer's own, (1, n).
        is_reverse : function
            Whether a direction, by its number, runs from the end.
        """
        starts = list(map(list, zip(*self._starts(given, own, is_reverse), strict=True)))
        lengths = [group.lengths for group in self.groups]
        return list(zip(self.split(x), starts, lengths, strict=True))

    def _starts(self, given: States, own: States, is_reverse: IsReverse) -> Iterator[list[tuple[Array, ...]]]:
        for number, (states, own_states) in enumerate(zip(given, own, strict=True)):
            if self.as_rows:
                yield [states]
                continue
            xp, at = namespace_of(self.row), self.at_back if is_reverse(number) else self.at_front
            pairs = zip(states, own_states, strict=True)
            pieces = [xp.where(at, self.by_piece(a), b) for a, b in pairs]
            yield self._in_groups(pieces)

    def starts_backward(
        self, d: list[States], down: States | None, is_reverse: IsReverse
    ) -> tuple[States, States | None]:
        """From the gradients of the groups' start states those of the rows', and ``down`` with the layer's own."""
        if self.as_rows:
            return d[0], down
        found, own = [], []
        for number, groups in enumerate(zip(*d, strict=True)):
            xp, reverse = namespace_of(self.row), is_reverse(number)
            at, joined, piece = (
                (self.at_back, self.back_joined, self.back_piece)
                if reverse
                else (self.at_front, self.front_joined, self.front_piece)
            )
            pieces = self._of_groups(groups)
            found.append(tuple(_where(joined, xp.take(value, piece, axis=0)) for value in pieces))
            own.append(tuple(sum_over_rows(_where(~at, value)) for value in pieces))
        sums = own if down is None else [_sums(*pair) for pair in zip(own, down, strict=True)]
        return found, sums

    def ends(self, groups: list[States], own: States, is_reverse: IsReverse) -> States:
        """The rows' final states by direction, from those of the groups and from the layer's own."""
        if self.as_rows:
            return groups[0]
        found = []
        for number, (of_groups, own_states) in enumerate(zip(zip(*groups, strict=True), own, strict=True)):
            xp, reverse = namespace_of(self.row), is_reverse(number)
            joined, piece = (self.front_joined, self.front_piece) if reverse else (self.back_joined, self.back_piece)
            pairs = zip(self._of_groups(of_groups), own_states, strict=True)
            found.append(tuple(xp.where(joined, xp.take(a, piece, axis=0), b) for a, b in pairs))
        return found

    def runs_backward(
        self, dy: Array, dends: States, is_reverse: IsReverse
    ) -> tuple[list[tuple[Array, States]], States | None]:
        """What backward of each group is given, and the gradients of the layer's own start where rows end with it."""
        dys = self.split(dy)
        if self.as_rows:
            return [(dys[0], dends)], None
        by_direction, down = [], []
        for number, d in enumerate(dends):
            at, joined = (self.at_front, self.front_joined) if is_reverse(number) else (self.at_back, self.back_joined)
            by_direction.append(self._in_groups([_where(at, self.by_piece(value)) for value in d]))
            down.append(tuple(sum_over_rows(_where(~joined, value)) for value in d))
        by_group = list(map(list, zip(*by_direction, strict=True)))
        return list(zip(dys, by_group, strict=True)), down

    @property
    def as_rows(self) -> bool:
        """Whether pieces are rows, each with its row's states."""
        return not self.cut and len(self.groups) == 1

    def _in_groups(self, pieces: Sequence[Array]) -> list[tuple[Array, ...]]:
        return [tuple(a[group.pieces, :] for a in pieces) for group in self.groups]

    def _of_groups(self, groups: Sequence[tuple[Array, ...]]) -> tuple[Array, ...]:
        if len(groups) == 1:
            return groups[0]
        return tuple(namespace_of(values[0]).concat(values, axis=0) for values in zip(*groups, strict=True))


def _where(which: Array, a: Array) -> Array:
    xp = namespace_of(a)
    return xp.where(which, a, xp.zeros_like(a))


def _sums(first: tuple[Array, ...], second: tuple[Array, ...]) -> tuple[Array, ...]:
    return tuple(a + b for a, b in zip(first, second, strict=True))


@dataclass(frozen=True)
class _Plan:
    """Pieces in the order of rows and time: S valid steps, one row after the other."""

    at: Any  # (S,): where each lies among the rows' steps, row after row
    row_of_step: Any  # (S,)
    time: Any  # (S,)
    piece: Any  # (S,)
    place: Any  # (S,): which step of its piece
    row: Any  # (P,)
    lengths: Any  # (P,)
    front: Any  # (B,): the first of the row's pieces; each row has one at least, if of no steps
    back: Any  # (B,)
    front_joined: Any  # (B,)
    back_joined: Any


def _plan(steps: Steps) -> _Plan:
    """Cut the rows: between two valid steps if there is a reset at the second, or between them."""
    batch, total, valid = steps.batch, steps.steps, steps.valid
    at, counts = np.flatnonzero(valid), np.count_nonzero(valid, axis=1)
    row = np.repeat(np.arange(batch), counts)
    some = counts > 0
    first_of_row = (np.cumsum(counts) - counts)[some]
    begins, front_joined, back_joined = first_of_row, np.ones(batch, dtype=bool), np.ones(batch, dtype=bool)
    if steps.resets is not None:
        cuts = np.cumsum(steps.resets, axis=1)  # up to each step
        part = cuts.reshape(-1)[at]
        begins = np.flatnonzero(np.diff(part + row * (total + 1), prepend=-1))
        all_cuts = cuts[:, -1]
        front_joined, back_joined = all_cuts == 0, all_cuts == 0
        front_joined[some] = part[first_of_row] == 0
        back_joined[some] = part[first_of_row + counts[some] - 1] == all_cuts[some]

    lengths_of_some = np.diff(begins, append=len(at))
    pieces = np.maximum(np.bincount(row[begins], minlength=batch), 1)
    front = np.cumsum(pieces) - pieces
    numbers = np.arange(len(begins)) + np.cumsum(~some)[row[begins]]  # of the pieces that have steps
    lengths = np.zeros(int(pieces.sum()), dtype=np.int64)
    lengths[numbers] = lengths_of_some
    return _Plan(
        at=at,
        row_of_step=row,
        time=at - row * total,
        piece=np.repeat(numbers, lengths_of_some),
        place=np.arange(len(at)) - np.repeat(begins, lengths_of_some),
        row=np.repeat(np.arange(batch), pieces),
        lengths=lengths,
        front=front,
        back=front + pieces - 1,
        front_joined=front_joined,
        back_joined=back_joined,
    )


def _past_an_end(lengths: Any, groups: list[tuple[int, int]]) -> int | None:
    """A place among the groups' steps, one after another, that is past the end of its piece; None if there is none.

    Examples
    --------
    A piece of 4 steps, and then two of 2 and 1, padded to 2: the last of all is free.

    >>> _past_an_end(np.array([4, 2, 1]), [(0, 1), (1, 3)])
    7
    """
    taken = 0
    for first, stop in groups:
        own, count = lengths[first:stop], stop - first
        longest = max(1, int(own.max()))
        if own.min() < longest:
            return taken + (longest - 1) * count + int(own.argmin())
        taken += longest * count
    return None


def _grouped(lengths: Any, most: int) -> tuple[Any, list[tuple[int, int]]]:
    """Put pieces into an order, and that into groups.

    One group will do, and pieces then stay in their order, if it holds ``most`` steps where all are padded.
    Else the longest come first, and a group ends where padding would make it `MOST_PADDING` times its steps.
    """
    count = len(lengths)
    if count * int(lengths.max()) <= most:
        return np.arange(count), [(0, count)]
    order = np.argsort(-lengths, kind="stable")
    groups, first, total = [], 0, 0
    in_order = [max(1, int(length)) for length in lengths[order]]
    for number, length in enumerate(in_order):
        total += length
        if in_order[first] * (number + 1 - first) > MOST_PADDING * total:
            groups.append((first, number))
            first, total = number, length
    return order, [*groups, (first, count)]
