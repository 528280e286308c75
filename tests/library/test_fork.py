"""A process that forks while its threads compute: the child computes too, whatever they were in the midst of."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import here, obtain
from harness.needs import needs
from harness.processes import in_child
from recurray.lazy import cached_property
from recurray_numpy.buffers import BUFFERS, Buffers

pytestmark = [
    needs("fork"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


@contextmanager
def meanwhile(*works: Callable[[], Any]) -> Iterator[None]:
    """Run each of ``works`` again and again in a thread, with threads taking turns a hundred times as often."""
    ended = threading.Event()

    def again_and_again(work: Callable[[], Any]) -> None:
        while not ended.is_set():
            work()

    threads = [threading.Thread(target=again_and_again, args=(work,)) for work in works]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)


@contextmanager
def inside(begun: threading.Event, go_on: threading.Event, work: Callable[[], Any]) -> Iterator[None]:
    """Run ``work`` in a thread up to where it sets ``begun`` and waits for ``go_on``."""
    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(30)
    try:
        yield
    finally:
        go_on.set()
        thread.join()


def training(backend: Any) -> Callable[[], None]:
    """A call whose arrays come from the pool of buffers.

    Its products are too small for OpenBLAS to share among threads: by itself it hangs where a process forks amid that.
    """
    layer = rr.LSTM(5, 16, backend=backend, seed=0)
    x = np.ones((4, 20, 5), np.float32)
    dy = np.ones((4, 20, 16), np.float32)

    def work() -> None:
        _, _, cache = layer.forward(x)
        layer.backward(cache, dy)

    return work


def test_a_fork_amid_the_pool_of_buffers():
    begun, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with BUFFERS._lock:
            begun.set()
            go_on.wait()

    with inside(begun, go_on, hold):
        in_child(lambda: BUFFERS.empty((1000, 1000), np.dtype("float32")), seconds=10)


def test_the_child_has_a_pool_of_its_own():
    mine = Buffers()
    array = mine.empty((1000, 100), np.dtype("float32"))
    array[...] = 1
    del array
    assert mine.kept

    def work() -> None:
        assert mine.kept == 0  # what the parent keeps it would have to copy page by page
        array = mine.empty((1000, 100), np.dtype("float32"))
        array[...] = 2
        del array
        assert mine.kept

    in_child(work)
    assert (mine.empty((1000, 100), np.dtype("float32")) == 1).all()


def test_a_fork_amid_something_computed_once():
    begun, go_on = threading.Event(), threading.Event()

    class Slow:
        @cached_property
        def value(self) -> int:
            if threading.current_thread() is not threading.main_thread():
                begun.set()
                go_on.wait()
            return 5

    one, other = Slow(), Slow()
    with inside(begun, go_on, lambda: one.value):
        in_child(lambda: (one.value, other.value))
    assert one.value == other.value == 5
    assert isinstance(Slow.value, cached_property)


@pytest.mark.parametrize("name", here("numpy", "native", "reference"))
@pytest.mark.parametrize("forks", [6, pytest.param(100, marks=pytest.mark.slow)])
def test_forks_while_threads_compute(name, forks):
    work = training(obtain(name))
    work()
    array = BUFFERS.empty((300, 300), np.dtype("float32"))

    def use_the_pool() -> None:
        for _ in range(20):
            BUFFERS.empty((300, 300), np.dtype("float32"))

    with meanwhile(work, use_the_pool):
        for _ in range(forks):
            in_child(work)
    del array
