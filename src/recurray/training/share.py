"""Which rows of a batch a rank has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


class Whole(NamedTuple):
    """What a rank knows of a batch of which it has a share of the rows."""

    rows: int
    own: int  # of these
    steps: int | None  # of the longest row by its length; None where rows have no lengths


def _compare_nothing(facts: Mapping[str, Any]) -> None:
    pass


@dataclass(frozen=True)
class Share:
    """A rank's rows: all, where it is alone.

    Attributes
    ----------
    rank, size : int
        This rank's number, and how many there are.
    check_same : callable
        Refuses what differs between ranks; all have to call it.
    """

    rank: int = 0
    size: int = 1
    check_same: Callable[[Mapping[str, Any]], None] = _compare_nothing

    def of(self, begin: int, end: int) -> slice:
        """Of the places from ``begin`` to ``end``, this rank's."""
        count = end - begin
        return slice(begin + count * self.rank // self.size, begin + count * (self.rank + 1) // self.size)

    def whole(self, rows: int, lengths: Any) -> Whole | None:
        """What is known of a batch with so many rows; None where this rank has all of them."""
        if self.size == 1:
            return None
        own = self.of(0, rows)
        return Whole(rows, own.stop - own.start, None if lengths is None else int(lengths.max(initial=0)))


ALONE = Share()
