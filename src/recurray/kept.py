"""What is kept for later calls: work space and copies that can be made again, in no more than so many bytes."""

from __future__ import annotations

import os
from collections.abc import Hashable
from threading import RLock  # noqa: TID251 - taken anew in a child
from typing import Any, Generic, TypeVar
from weakref import ref

from recurray import environment

MOST = environment.kept_bytes(128 * 1024 * 1024)  # of all that is kept together
LEAST = 4096  # bytes that an entry counts at least: what stands around its arrays

Value = TypeVar("Value")

_everywhere: dict[int, ref[Kept[Any]]] = {}


class _Total:
    """The bytes of all entries that there are, those in use among them, and how many have been made."""

    def __init__(self) -> None:
        self.nbytes = self.made = 0
        self.begin()

    def begin(self) -> None:
        """Take a lock that nobody holds: another thread may have held it when this process was forked."""
        self._lock = RLock()  # an entry may go in the midst of a count, so one thread can take it twice

    def count(self, nbytes: int) -> None:
        """Add to it."""
        with self._lock:
            self.nbytes += nbytes
            self.made += nbytes > 0


total = _Total()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=total.begin)


class Entry(Generic[Value]):
    """A value that is kept by a key, and how many bytes it holds.

    Attributes
    ----------
    used : int
        How many entries had been made when it was used last.
    """

    __slots__ = ("key", "nbytes", "used", "value")

    def __init__(self, key: Hashable, value: Value, nbytes: int) -> None:
        self.key, self.value, self.nbytes = key, value, 0
        total.count(nbytes + LEAST)
        self.nbytes, self.used = nbytes + LEAST, total.made

    def __del__(self) -> None:
        total.count(-self.nbytes)


class Kept(Generic[Value]):
    """Values by key. All of this class together keep at most `MOST` bytes: what was used longest ago goes first.

    May be used by several threads. A value that one thread alone may use it takes out of the list, and puts back.

    Attributes
    ----------
    lists : dict of list of Entry
        By key.

    Examples
    --------
    >>> kept = Kept()
    >>> kept.put("a", 3, nbytes=0)
    >>> kept.get("a"), kept.get("b")
    (3, None)
    """

    def __init__(self) -> None:
        self.lists: dict[Hashable, list[Entry[Value]]] = {}
        number = id(self)
        _everywhere[number] = ref(self, lambda _: _everywhere.pop(number, None))

    def __len__(self) -> int:
        return sum(map(len, list(self.lists.values())))

    def __reduce__(self) -> Any:  # for copies too
        return type(self), ()

    def list_for(self, entry: Entry[Value]) -> list[Entry[Value]]:
        """Make room for an entry and return the list to put it in; one that nobody keeps where it is too large."""
        if entry.nbytes > MOST:
            return []
        if total.nbytes > MOST:
            make_room()
        return self.lists.setdefault(entry.key, [])

    def put(self, key: Hashable, value: Value, nbytes: int) -> None:
        """Keep a value."""
        entry = Entry(key, value, nbytes)
        self.list_for(entry).append(entry)

    def get(self, key: Hashable) -> Value | None:
        """Return what is kept by a key; None if there is nothing."""
        try:
            entry = self.lists[key][-1]
        except (KeyError, IndexError):
            return None
        entry.used = total.made
        return entry.value


def make_room() -> None:
    """Let go of what was used longest ago: so much that there is room for some time."""
    found = [
        (entry.used, entries, entry)
        for kept in _all()
        for entries in list(kept.lists.values())
        for entry in tuple(entries)
    ]
    found.sort(key=lambda each: each[0])
    excess = total.nbytes - MOST * 3 // 4
    for _, entries, entry in found:
        if excess <= 0:
            break
        try:
            entries.remove(entry)
        except ValueError:  # another thread has taken it
            continue
        excess -= entry.nbytes
    for kept in _all():
        for key in [key for key, entries in list(kept.lists.items()) if not entries]:
            kept.lists.pop(key, None)


def release() -> None:
    """Let go of all that isn't in use."""
    for kept in _all():
        kept.lists.clear()


def _all() -> list[Kept[Any]]:
    return [kept for each in list(_everywhere.values()) if (kept := each()) is not None]
