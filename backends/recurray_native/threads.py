"""How many threads the engine uses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from recurray import environment

MOST = 64

_chosen: int | None = None


def set_num_threads(count: int | None) -> None:
    """Set how many threads the engine may use; None for what the environment or the machine says.

    Examples
    --------
    >>> import recurray_native
    >>> recurray_native.set_num_threads(2)
    >>> recurray_native.get_num_threads()
    2
    >>> recurray_native.set_num_threads(None)
    """
    global _chosen
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
        raise ValueError(f"the number of threads must be a whole number of at least 1, or None, not {count!r}")
    _chosen = count


def get_num_threads() -> int:
    """How many threads the engine may use: as set, else as the environment says, ``RECURRAY_NUM_THREADS`` or else
    ``OMP_NUM_THREADS``, else the processors that this process may run on; 64 at most.
    """
    chosen = _chosen  # read once, as another thread may set it
    if chosen is not None:
        return min(chosen, MOST)
    return min(environment.num_threads() or _processors(), MOST)


@contextmanager
def limited_threads(count: int) -> Iterator[None]:
    """Return a context in which the engine may use ``count`` threads."""
    global _chosen
    before = _chosen
    set_num_threads(count)
    try:
        yield
    finally:
        _chosen = before


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
