"""How many threads the engine uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from recurray import environment, processors

MOST = 64

_chosen: int | None = None


def set_num_threads(count: int | None) -> None:
    """Set how many threads the engine may use; None for what the environment or the machine says.

    ``threadpoolctl.threadpool_limits`` sets the same number.

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
    ``OMP_NUM_THREADS``, else the processors that this process may run on or that its container's quota is worth; 64 at
    most.
    """
    chosen = _chosen  # read once, as another thread may set it
    return min(chosen if chosen is not None else _unset(), MOST)


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


def _unset() -> int:
    return environment.num_threads() or processors.usable()


def restore(count: int) -> None:
    """Set a number of threads for somebody who sets what was there before without knowing whether it had been set."""
    set_num_threads(None if count == min(_unset(), MOST) else count)
