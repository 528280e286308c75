"""A batch cut in time: each piece is run with the state that the one before left.

T steps of a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from recurray.messages import in_words
from recurray.training.batch import BY_STEP, Batch


class Piece(NamedTuple):
    """What is run at once.

    Attributes
    ----------
    batch : Batch
        The steps.
    number : int
        Which batch of the epoch they are of, from 1 on.
    fresh : bool
        Whether they begin with the model's own start state.
    warm_up : bool
        Whether they only carry the state on: no loss, no gradient.
    """

    batch: Batch
    number: int
    fresh: bool
    warm_up: bool = False

    @property
    def idle(self) -> bool:
        """Whether another rank has all rows of it."""
        whole = self.batch.whole
        return whole is not None and not whole.own


@dataclass(frozen=True)
class Cut:
    """How batches are cut.

    Attributes
    ----------
    chunk : int or None
        Steps to a piece; None for rows as they are.
    burn_in : int
        The first steps of each row, which only warm the state up.
    carry : bool
        Whether a batch goes on where the one before ended.
    batch_first : bool
        The model's layout.
    """

    chunk: int | None
    burn_in: int
    carry: bool
    batch_first: bool

    @property
    def carries(self) -> bool:
        """Whether a state goes from piece to piece."""
        return self.carry or self.chunk is not None or self.burn_in > 0

    def pieces(self, batches: Iterable[Batch]) -> Iterator[Piece]:
        """Return the pieces of an epoch's batches."""
        for number, batch in enumerate(batches, 1):
            fresh = number == 1 or not self.carry
            if self.chunk is None and not self.burn_in:
                yield Piece(batch, number, fresh)
                continue
            yield from self._of(batch, number, fresh)

    def _of(self, batch: Batch, number: int, fresh: bool) -> Iterator[Piece]:
        axis = 1 if self.batch_first else 0
        if batch.x.ndim < 2:
            raise ValueError(f"chunk and burn_in need x with an axis of time, not {in_words(batch.x.shape)}")
        steps = batch.x.shape[axis]
        begin = self.burn_in if fresh else 0
        if begin >= steps > 0:
            raise ValueError(f"burn_in must be below the steps of a row, but is {self.burn_in} of {steps}")
        by_step = batch.target.ndim > axis and batch.target.shape[axis] == steps
        if self.chunk is not None and not by_step:
            raise ValueError(
                f"chunk needs a target for each step: target must have {steps} steps like x, "
                f"not {in_words(batch.target.shape)}"
            )
        if begin:
            yield Piece(self._part(batch, 0, begin, by_step), number, fresh, warm_up=True)
            fresh = False
        longest = steps if batch.lengths is None else int(batch.lengths.max(initial=0))
        if batch.whole is not None and batch.whole.steps is not None:
            longest = batch.whole.steps  # as many pieces on each rank
        for start in range(begin, max(begin + 1, longest), self.chunk or max(1, steps)):
            yield Piece(self._part(batch, start, min(start + (self.chunk or steps), steps), by_step), number, fresh)
            fresh = False

    def _part(self, batch: Batch, begin: int, end: int, by_step: bool) -> Batch:
        """Steps from ``begin`` to ``end``."""
        which: Any = (slice(None), slice(begin, end)) if self.batch_first else (slice(begin, end),)
        parts: dict[str, Any] = {"x": batch.x[(*which, ...)]}
        for name in BY_STEP:
            flags = getattr(batch, name)
            parts[name] = None if flags is None else flags[which]
        if by_step:
            parts["target"] = batch.target[(*which, ...)]
            if batch.target_mask is not None:
                parts["target_mask"] = batch.target_mask[which]
        if batch.lengths is not None:
            parts["lengths"] = np.clip(batch.lengths - begin, 0, end - begin)
        return batch._replace(**parts)
