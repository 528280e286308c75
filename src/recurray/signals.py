"""Being asked to stop: Ctrl-C, and the signals that end a process or its terminal."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found] # the module signal's own functions take 8 us, to make enums
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

ALL = ("SIGINT", "SIGTERM", "SIGHUP")


class StopRequest:
    """Notes, while it is entered, that a signal asked to stop, so that work can end where it is safe.

    A second signal doesn't wait: it raises KeyboardInterrupt. Signals that the process was started to ignore
    (``nohup``) stay ignored, and those of a program that Python is embedded in stay the program's.

    Parameters
    ----------
    names : sequence of str
        The signals; those that the system has are used.

    Attributes
    ----------
    received : bool
        Whether a signal has come.
    """

    def __init__(self, names: Sequence[str] = ALL) -> None:
        self.received = False
        self._names = names
        self._former: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python doesn't allow it
            for name in self._names:
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._former[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            raise KeyboardInterrupt
        self.received = True


@contextmanager
def held_back() -> Iterator[None]:
    """Let Ctrl-C wait until the block is left.

    Only in the main thread is it noticed at all, so elsewhere there is nothing to do. Nor is there where a program that
    Python is embedded in has a handler of its own, which Python couldn't put back.
    """
    if threading.current_thread() is not threading.main_thread() or _signal.getsignal(signal.SIGINT) is None:
        yield
        return
    noted: list[tuple[int, FrameType | None]] = []
    former = _signal.signal(signal.SIGINT, lambda number, frame: noted.append((number, frame)))
    try:
        yield
    finally:
        _signal.signal(signal.SIGINT, former)
        if noted and callable(former):
            former(*noted[0])
