"""Memory for arrays that is used again once nobody has it any more.

The operating system hands out memory page by page, cleared, as it is first written to: for arrays as large as a
sequence's gates that takes longer than computing what goes into them. So blocks of memory are kept when the arrays
in them have gone, and handed out again. An array, or a view of it, that somebody still has keeps its block.
"""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Iterable
from functools import cache, partial
from threading import RLock  # noqa: TID251 - taken anew in a child
from typing import Any

import numpy as np

from recurray import environment
from recurray.cells.cell import Weights

LEAST = 64 * 1024  # bytes; what is smaller is left to NumPy
MOST = environment.kept_bytes(512 * 1024 * 1024)  # that are kept
VIEW = 112  # bytes of an array apart from its numbers


class Buffers:
    """Blocks of memory, lent to arrays. May be used by several threads; a forked child begins with none.

    Parameters
    ----------
    most : int
        How many bytes are kept, at most, for nobody. What is in use isn't counted.

    Examples
    --------
    >>> import numpy as np
    >>> buffers = Buffers()
    >>> a = buffers.empty((1000, 100), np.dtype("float32"))
    >>> address = a.ctypes.data
    >>> a = a[:10]  # a view keeps the block
    >>> buffers.kept
    0
    >>> del a
    >>> buffers.kept >= 400_000
    True
    >>> buffers.empty((100, 1000), np.dtype("float32")).ctypes.data == address
    True
    """

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self._begin()
        if hasattr(os, "register_at_fork"):
            own = weakref.ref(self)  # as what is registered stays for ever

            def begin_anew() -> None:
                buffers = own()
                if buffers is not None:
                    buffers._begin()

            os.register_at_fork(after_in_child=begin_anew)

    def _begin(self) -> None:
        """Keep nothing, with a lock that nobody holds: another thread of the parent may have held it at a fork."""
        self.kept = 0
        self._free: dict[int, list[Any]] = {}  # by size in bytes
        # Blocks come back whenever an array goes, so in the midst of what follows too: hence a lock that one thread
        # can take twice.
        self._lock = RLock()

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Make an array that may hold anything, like `numpy.empty`."""
        wanted = math.prod(shape) * dtype.itemsize
        if wanted < LEAST:
            return np.empty(shape, dtype)
        size = _rounded(wanted)
        with self._lock:
            blocks = self._free.get(size)
            block = blocks.pop() if blocks else None
            if block is not None:
                self.kept -= size
        if block is None:
            block = np.empty(size, np.uint8)
        return np.asarray(_Loan(self, block))[:wanted].view(dtype).reshape(shape)

    def take_back(self, block: Any) -> None:
        """Keep a block for the next array; where that would be too much, let all others go."""
        with self._lock:
            if self.kept + block.nbytes > self.most:
                self.release()
            if block.nbytes <= self.most:
                self._free.setdefault(block.nbytes, []).append(block)
                self.kept += block.nbytes

    def release(self) -> None:
        """Give all memory back that no array has."""
        with self._lock:
            self._free.clear()
            self.kept = 0


class _Loan:
    """What an array in a block has as its base, so that the block comes back when the array and its views have gone."""

    buffers: Buffers | None = None  # where a signal breaks off before it is set, the block is left to Python

    def __init__(self, buffers: Buffers, block: Any) -> None:
        self.block = block
        self.__array_interface__ = block.__array_interface__
        self.buffers = buffers

    def __del__(self) -> None:
        if self.buffers is not None:
            self.buffers.take_back(self.block)


def _rounded(size: int) -> int:
    """A size up to an eighth larger, so that blocks serve arrays of nearly equal size, as ragged batches have."""
    step = 1 << max(12, size.bit_length() - 4)
    return -(-size // step) * step


BUFFERS = Buffers()  # all of the backend's
empty = BUFFERS.empty


def copied(a: Any) -> Any:
    """Return a contiguous copy of an array."""
    result = empty(a.shape, a.dtype)
    result[...] = a
    return result


def memory_of(value: Any, weights: Iterable[Weights] = ()) -> int:
    """About how many bytes the arrays in ``value`` have, in containers and arguments too, but not the weights'."""
    seen: set[int] = set()
    for own in weights:
        _memory_of(vars(own), seen)
    return _memory_of(value, seen)


def _memory_of(value: Any, seen: set[int]) -> int:
    if id(value) in seen:
        return 0
    if isinstance(value, np.ndarray):
        seen.add(id(value))
        return VIEW + (value.nbytes if value.base is None else _memory_of(value.base, seen))
    if isinstance(value, _Loan):
        return _memory_of(value.block, seen)
    if isinstance(value, partial):
        return _memory_of(value.args, seen) + _memory_of(value.keywords, seen)
    if isinstance(value, dict | list | tuple):
        return sum(_memory_of(each, seen) for each in (value.values() if isinstance(value, dict) else value))
    return 0


def trim() -> None:
    """Have the C library give memory that was freed back to the system, where it keeps some: glibc does."""
    release = _malloc_trim()
    if release is not None:
        release(0)


@cache
def _malloc_trim() -> Any:
    from ctypes import CDLL

    try:
        return CDLL(None).malloc_trim  # of what this process has loaded
    except (AttributeError, OSError, TypeError):  # another C library; on Windows CDLL(None) is a TypeError
        return None
