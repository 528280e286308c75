"""Pieces of work at the same time, each on a CUDA stream of its own: the directions of a layer, the layers of a stack.

The first piece stays on the current stream, and each of the others goes to a stream beside it:

    fork    the streams beside wait for what the current stream has been given so far
    join    the current stream waits for what the streams beside it have been given

Both by events, for which the host doesn't wait. Before the fork and after the join there is the current stream alone.
Pieces that don't depend on each other need nothing else, see `Streams.together`. Where they do, as a layer does on the
one below, each is cut into parts, and a part waits for the same part of the piece before, see `Streams.wave`:

    stream 0    part 0 | part 1 | part 2 | ...
    stream 1             part 0 | part 1 | part 2 | ...
    stream 2                      part 0 | part 1 | part 2 | ...

Memory needs nothing more, because CuPy's pool hands out what has been freed to the stream alone that it was allocated
on, and each stream beside belongs to one current stream:

- What a piece of work allocates and frees again stays on its own stream.
- What it is given, by the caller or by the piece before, is held until the join. Whoever gets its memory then comes
  after the join.
- What it returns has memory of its stream, which hands that out again after the next fork at the earliest, and so after
  all that the current stream has been given until then.

Other allocators follow other rules. With them the pieces of work run one after another on the current stream.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

Result = TypeVar("Result")


class Streams:
    """The streams beside each current stream.

    Parameters
    ----------
    cuda : module
        ``cupy.cuda``.
    """

    def __init__(self, cuda: Any) -> None:
        self._cuda = cuda
        self._beside: dict[tuple[int, int, int], list[Any]] = {}  # by device, thread and current stream
        self._now = threading.local()

    @property
    def count(self) -> int:
        """How many pieces of work this thread is giving to the GPU at the same time; 1 outside `together`."""
        return len(getattr(self._now, "streams", ())) or 1

    def together(self, works: Sequence[Callable[[], Result]]) -> list[Result]:
        """Do pieces of work that don't depend on each other, and return their results in order."""
        if len(works) < 2 or not self.can_fork():
            return [work() for work in works]
        results = []
        with self._forked(len(works)) as streams:
            for stream, work in zip(streams, works, strict=True):
                with stream:
                    results.append(work())
        return results

    def wave(self, pieces: Sequence[Iterator[None]]) -> None:
        """Do pieces of work that yield after each of their parts, equally many, and may do more after the last.

        A part may read what the same part of the piece before has made. What that is has to be held until this returns.
        """
        with self._forked(len(pieces)) as streams:
            going = True
            while going:
                done = None  # the same part of the piece before
                for stream, piece in zip(streams, pieces, strict=True):
                    with stream:
                        if done is not None:
                            stream.wait_event(done)
                        going = next(piece, self) is not self
                    done = self._event(stream) if going else None

    def wait_for_others(self) -> None:
        """Let what comes on the current stream wait for what other pieces of work have been given so far."""
        current = self._cuda.get_current_stream()
        for stream in getattr(self._now, "streams", ()):
            if stream.ptr != current.ptr:
                current.wait_event(self._event(stream))

    def can_fork(self) -> bool:
        """Whether work can go to several streams; no rule for memory is known where it can't."""
        if self.count > 1:
            return False
        pool = getattr(self._cuda.get_allocator(), "__self__", None)
        return isinstance(pool, self._cuda.MemoryPool)

    def _streams_beside(self, current: Any, count: int) -> list[Any]:
        key = self._cuda.runtime.getDevice(), threading.get_ident(), current.ptr
        found = self._beside.setdefault(key, [])
        while len(found) < count:
            found.append(self._cuda.Stream(non_blocking=True))  # it waits for the default stream by events alone
        return found[:count]

    def _event(self, stream: Any) -> Any:
        return stream.record(self._cuda.Event(disable_timing=True))

    @contextmanager
    def _forked(self, count: int) -> Iterator[list[Any]]:
        """Fork the current stream to so many, itself among them, and join them."""
        current = self._cuda.get_current_stream()
        beside = self._streams_beside(current, count - 1)
        fork = self._event(current)
        for stream in beside:
            stream.wait_event(fork)
        self._now.streams = [current, *beside]
        try:
            yield self._now.streams
        finally:  # whatever has been given to a stream is waited for, even if it isn't all
            self._now.streams = ()
            for stream in beside:
                current.wait_event(self._event(stream))
