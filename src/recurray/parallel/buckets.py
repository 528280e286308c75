"""Gradients joined into few large arrays, so that ranks exchange few messages."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from recurray.arrays import Array


@dataclass(frozen=True)
class Bucket:
    """Arrays of one dtype that travel together.

    Attributes
    ----------
    names : list of str
        In the order in which they lie.
    length : int
        Numbers in all of them.
    """

    names: list[str]
    length: int

    def places(self, arrays: Mapping[str, Array]) -> Iterator[tuple[str, slice]]:
        """Return where each array lies."""
        begin = 0
        for name in self.names:
            end = begin + math.prod(arrays[name].shape)
            yield name, slice(begin, end)
            begin = end


def buckets_of(arrays: Mapping[str, Array], limit: int) -> list[Bucket]:
    """Join arrays in the order of their names, to at most ``limit`` bytes where one alone isn't larger.

    Examples
    --------
    >>> import numpy as np
    >>> from recurray.parallel.buckets import buckets_of
    >>> [bucket.names for bucket in buckets_of({"a": np.zeros(3), "c": np.zeros(9), "b": np.zeros(2)}, 64)]
    [['a', 'b'], ['c']]
    """
    found: list[Bucket] = []
    filling: dict[Any, tuple[list[str], int]] = {}
    for name in sorted(arrays):
        array = arrays[name]
        kind, length = str(array.dtype), math.prod(array.shape)
        names, held = filling.get(kind, ([], 0))
        if names and (held + length) * (8 if kind.endswith("64") else 4) > limit:
            found.append(Bucket(names, held))
            names, held = [], 0
        filling[kind] = ([*names, name], held + length)
    return found + [Bucket(names, held) for names, held in filling.values() if held]
