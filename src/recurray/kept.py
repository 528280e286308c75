"""What is kept for later calls: work space and copies that can be made again, in no more than so many bytes."""

from __future__ import annotations

import os
from collections.abc import Hashable
from itertools import count
from threading import RLock  # noqa: TID251 - taken anew in a child
from typing import Any, Generic, TypeVar
from weakref import ref

from recurray import environment

MOST = environment.kept_bytes(128 * 1024 * 1024)  # of all that is kept together
LEAST = 4096  # bytes that an entry counts at least: what stands around its arrays

Value = TypeVar("Value")

_clock = count(1)
_everywhere: dict[int, ref[Kept[Any]]] = {}


class _Total:
    """The bytes of all entries that there are, those in use among them."""

    def __init__(self) -> None:
        self.nbytes = 0
        self.begin()

    def begin(self) -> None:
        """Take a lock that nobody holds: another thread may have held it when this process was forked."""
        self._lock = RLock()  # an entry may go in the midst of a count, so one thread can take it twice

    def count(self, nbytes: int) -> None:
        """Add to it."""
        with self._lock:
            self.nbytes += nbytes


_total = _Total()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_total.begin)


class Entry(Generic[Value]):
    """A value that is kept by a key, and how many bytes it holds."""

    __slots__ = ("key", "nbytes", "used", "value")

    def __init__(self, key: Hashable, value: Value, nbytes: int) -> None:
        self.key, self.value, self.used, self.nbytes = key, value, 0, 0
        _total.count(nbytes + LEAST)
        self.nbytes = nbytes + LEAST

    def __del__(self) -> None:
        _total.count(-self.nbytes)


class Kept(Generic[Value]):
    """Values by key. All of this class together keep at most `MOST` bytes: what was used longest ago goes first.

    May be used by several threads: what one has taken is its own until it is given back.

    Examples
    --------
    >>> kept = Kept()
    >>> kept.take("a") is None
    True
    >>> kept.give(Entry("a", "work space", nbytes=10))
    >>> kept.take("a").value, kept.take("a")
    ('work space', None)
    >>> kept.put("b", 3, nbytes=0)
    >>> kept.get("b"), kept.get("b")
    (3, 3)
    """

    def __init__(self) -> None:
        self._free: dict[Hashable, list[Entry[Value]]] = {}
        number = id(self)
        _everywhere[number] = ref(self, lambda _: _everywhere.pop(number, None))

    def __len__(self) -> int:
        return sum(map(len, list(self._free.values())))

    def __reduce__(self) -> Any:  # for copies too
        return type(self), ()

    def take(self, key: Hashable) -> Entry[Value] | None:
        """Return what is kept by a key, which is kept no longer; None if there is nothing."""
        try:
            return self._free[key].pop()
        except (KeyError, IndexError):
            return None

    def give(self, entry: Entry[Value]) -> None:
        """Keep an entry."""
        entry.used = next(_clock)
        try:
            self._free[entry.key].append(entry)
        except KeyError:
            self._free.setdefault(entry.key, []).append(entry)
        if _total.nbytes > MOST:
            make_room()

    def get(self, key: Hashable) -> Value | None:
        """Return what is kept by a key, and goes on being so; None if there is nothing."""
        try:
            entry = self._free[key][-1]
        except (KeyError, IndexError):
            return None
        entry.used = next(_clock)
        return entry.value

    def put(self, key: Hashable, value: Value, nbytes: int) -> None:
        """Keep a value."""
        self.give(Entry(key, value, nbytes))


def make_room() -> None:
    """Let go of what is too large, then of what was used longest ago: a quarter, so that it is done now and then."""
    found = [
        (entry.used, entries, entry)
        for kept in _all()
        for entries in list(kept._free.values())
        for entry in tuple(entries)
    ]
    found.sort(key=lambda each: (each[2].nbytes <= MOST, each[0]))
    excess = _total.nbytes - MOST
    for used, entries, entry in found:
        if excess <= (0 if used == found[-1][0] else -MOST // 4):
            break
        try:
            entries.remove(entry)
        except ValueError:  # another thread has taken it
            continue
        excess -= entry.nbytes
    for kept in _all():
        for key in [key for key, entries in list(kept._free.items()) if not entries]:
            kept._free.pop(key, None)


def release() -> None:
    """Let go of all that isn't in use."""
    for kept in _all():
        kept._free.clear()


def _all() -> list[Kept[Any]]:
    return [kept for each in list(_everywhere.values()) if (kept := each()) is not None]
