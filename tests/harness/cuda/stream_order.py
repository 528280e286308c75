"""What a GPU may do in another order than the host has asked for it: a fake of CuPy's streams that finds out.

Streams and events have clocks: how far each stream was, as far as one knows that waited for it. Arrays are NumPy's, but
each read, each write and each launch is noted with its stream. It is a mistake

- to read what another stream has written, or to write over what another one reads, without having waited for it;
- to be given memory anew, as CuPy's pool does on the stream it was allocated on, while another stream may use it.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

from recurray import arrays


class Clock(dict[int, int]):
    """How far each stream was."""

    def knows(self, other: Clock) -> bool:
        """Whether all that the other knows is known."""
        return all(self.get(stream, 0) >= tick for stream, tick in other.items())

    def learn(self, other: Clock) -> None:
        """Know all that the other knows, too."""
        for stream, tick in other.items():
            self[stream] = max(tick, self.get(stream, 0))


Region = tuple[int, int]  # from an address to another


class Accesses:
    """Who has accessed which regions of memory."""

    def __init__(self) -> None:
        self.by_region: dict[Region, Clock] = {}

    def note(self, region: Region, tick: Clock) -> None:
        self.by_region.setdefault(region, Clock()).learn(tick)

    def to(self, region: Region) -> Clock:
        """Those of a region."""
        found = Clock()
        for (low, high), clock in self.by_region.items():
            if low < region[1] and region[0] < high:
                found.learn(clock)
        return found

    def all(self) -> Clock:
        found = Clock()
        for clock in self.by_region.values():
            found.learn(clock)
        return found


@dataclass
class Buffer:
    """The memory of an array."""

    home: int  # the stream that it was allocated on
    written: Accesses = field(default_factory=Accesses)
    used: Accesses = field(default_factory=Accesses)


class Order:
    """Who has used which memory when.

    Attributes
    ----------
    current : int
        The stream in use.
    mistakes : list of str
    launches : list of (str, int, Clock)
        Kernels with their stream, and what that knew.
    """

    def __init__(self) -> None:
        self.current = 0
        self.clocks: dict[int, Clock] = {}
        self.mistakes: list[str] = []
        self.launches: list[tuple[str, int, Clock]] = []
        self._buffers: dict[int, Buffer] = {}
        self._freed: dict[int, Clock] = {}

    def clock(self, stream: int) -> Clock:
        return self.clocks.setdefault(stream, Clock())

    def use(self, what: str, reads: Iterable[Any], writes: Iterable[Any] = ()) -> None:
        """Note that the current stream is asked to read and write arrays."""
        read, written = ([(self.buffer(a), byte_bounds(a)) for a in arrays] for arrays in (reads, writes))
        clock = self.clock(self.current)
        for buffer, region in read:
            if not clock.knows(buffer.written.to(region)):
                self.mistakes.append(f"{what} on {self.current} reads what is being written")
        for buffer, region in written:
            if not clock.knows(buffer.used.to(region)):
                self.mistakes.append(f"{what} on {self.current} writes what is being used")
        tick = Clock({self.current: clock.get(self.current, 0) + 1})
        clock.learn(tick)
        for buffer, region in (*read, *written):
            buffer.used.note(region, tick)
        for buffer, region in written:
            buffer.written.note(region, tick)

    def launch(self, name: str, reads: Iterable[Any], writes: Iterable[Any]) -> None:
        """Note a launch."""
        self.use(name, reads, writes)
        self.launches.append((name, self.current, Clock(self.clock(self.current))))

    def buffer(self, a: Any) -> Buffer:
        """The memory of an array; that of a new one is allocated on the current stream."""
        while isinstance(a.base, np.ndarray):
            a = a.base
        if id(a) not in self._buffers:
            if not self.clock(self.current).knows(self._freed.get(self.current, Clock())):
                self.mistakes.append(f"{self.current} is given memory that is being used")
            self._buffers[id(a)] = Buffer(self.current)
            weakref.finalize(a, self._free, id(a))
        return self._buffers[id(a)]

    def _free(self, number: int) -> None:
        buffer = self._buffers.pop(number)
        self._freed.setdefault(buffer.home, Clock()).learn(buffer.used.all())


class FakeCuda:
    """What of ``cupy.cuda`` has to do with streams."""

    class MemoryPool:
        def malloc(self, size: int) -> None:
            raise NotImplementedError

    def __init__(self, order: Order) -> None:
        self.order, self.numbers, self.device = order, count(1), 0
        self.allocator: Any = self.MemoryPool().malloc
        self.runtime = SimpleNamespace(getDevice=lambda: self.device)

    def get_allocator(self) -> Any:
        return self.allocator

    def get_current_stream(self) -> Any:
        return Stream(self, self.order.current)

    def Stream(self, non_blocking: bool = False) -> Any:  # noqa: N802 - CuPy's name
        assert non_blocking  # else the default stream waits for it, and it for the default stream
        return Stream(self, next(self.numbers))

    def Event(self, disable_timing: bool = False) -> Any:  # noqa: N802
        assert disable_timing  # events with times are slower
        return SimpleNamespace(clock=None)


class Stream:
    """A stream of CuPy's."""

    def __init__(self, cuda: FakeCuda, number: int) -> None:
        self._cuda, self.ptr, self._before = cuda, number, [0]

    def __enter__(self) -> Any:
        self._before.append(self._cuda.order.current)
        self._cuda.order.current = self.ptr
        return self

    def __exit__(self, *error: object) -> None:
        self._cuda.order.current = self._before.pop()

    def record(self, event: Any) -> Any:
        event.clock = Clock(self._cuda.order.clock(self.ptr))
        return event

    def wait_event(self, event: Any) -> None:
        self._cuda.order.clock(self.ptr).learn(event.clock)


class Tracked(np.ndarray):
    """An array of which every use is noted."""

    order: Order

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = (), **options: Any) -> Any:
        plain = {"out": tuple(map(_plain, out))} if out else {}
        return self.noted(ufunc.__name__, getattr(ufunc, method)(*map(_plain, inputs), **plain, **options), inputs, out)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        return self.noted(function.__name__, function(*_plain(args), **_plain(options)), (args, options))

    def noted(self, what: str, result: Any, inputs: Any, out: Any = ()) -> Any:
        """Note what has been done, and return the result as such an array."""
        return _noted(type(self), what, result, inputs, out)

    def __setitem__(self, key: Any, value: Any) -> None:
        part = self[key]
        is_view = isinstance(part, np.ndarray) and np.may_share_memory(part, self)
        self.order.use("setitem", _arrays(value), [part if is_view else self])
        np.asarray(self)[key] = _plain(value)

    def dot(self, other: Any, out: Any = None) -> Any:
        return np.matmul(self, other, out=out)

    def copy(self, order: Any = "C") -> Any:
        return self.noted("copy", np.asarray(self).copy(), [self])

    def astype(self, dtype: Any, *rest: Any, **options: Any) -> Any:
        return self.noted("astype", np.asarray(self).astype(dtype), [self])

    def sum(self, axis: Any = None, *rest: Any, **options: Any) -> Any:
        return self.noted("sum", np.asarray(self).sum(axis=axis), [self])


_treatment = arrays._treatment
# The library takes such arrays for its backend's own, not for a subclass of them, which it would view.
arrays._treatment = lambda kind: None if issubclass(kind, Tracked) else _treatment(kind)  # type: ignore[assignment]


class TrackedNamespace:
    """NumPy, with such arrays."""

    def __init__(self, order: Order) -> None:
        self.kind = type("Tracked", (Tracked,), {"order": order})

    def __getattr__(self, name: str) -> Any:
        function = getattr(np, name)
        if not callable(function) or isinstance(function, type):
            return function

        def called(*args: Any, **options: Any) -> Any:
            result = function(*_plain(args), **_plain(options))
            return _noted(self.kind, name, result, (args, options), options.get("out", ()))

        return called


def _noted(kind: type[Tracked], what: str, result: Any, inputs: Any, out: Any = ()) -> Any:
    if not isinstance(result, np.ndarray):
        return result
    written, arrays = _arrays(out), _arrays(inputs)
    is_view = any(np.may_share_memory(result, a) for a in arrays) and not written
    tracked = result.view(kind)
    if not is_view:
        kind.order.use(what, arrays, written or [tracked])
    return written[0] if written else tracked


def _arrays(a: Any) -> list[Any]:
    """The tracked arrays in something."""
    if isinstance(a, Tracked):
        return [a]
    if isinstance(a, dict):
        a = tuple(a.values())
    return [each for part in a for each in _arrays(part)] if isinstance(a, list | tuple) else []


def _plain(a: Any) -> Any:
    """It with NumPy's own arrays."""
    if isinstance(a, Tracked):
        return np.asarray(a)
    if isinstance(a, dict):
        return {name: _plain(value) for name, value in a.items()}
    return type(a)(map(_plain, a)) if type(a) in (list, tuple) else a
