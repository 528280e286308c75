"""How many processors this process may use: what it is bound to, and what a container's quota leaves of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from math import ceil, inf
from pathlib import Path, PurePosixPath

__all__ = ["usable"]

_CGROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def usable() -> int:
    """Return how many processors' worth of work this process may do at a time, 1 at least.

    Those that it may run on, unless its control group has a quota of fewer (``docker run --cpus``); of a quota that is
    no whole number, the next one above.

    Examples
    --------
    >>> from recurray import processors
    >>> processors.usable() >= 1
    True
    """
    return max(1, min(_allowed(), ceil(min(_quota(), 2**20))))


def _allowed() -> int:
    """The processors that this process may run on, or what Python was told to count (``-X cpu_count``)."""
    if hasattr(os, "process_cpu_count"):  # Python 3.13
        return os.process_cpu_count() or 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache  # files are read once: the engine asks at each call
def _quota() -> float:
    """The least quota, in processors, of this process's control group and of those around it; infinite without one."""
    return min(_quotas(_OWN, _CGROUPS), default=inf)


def _quotas(own: Path, mounted: Path) -> Iterator[float]:
    """The quotas of the groups that a file as /proc/self/cgroup names, of version 2 and of version 1."""
    for line in _text(own).splitlines():
        _, controllers, path = ([*line.split(":", 2), "", ""])[:3]
        if not controllers:  # version 2 has one hierarchy, without names
            for folder in _folders(mounted, path):
                quota, _, period = _text(folder / "cpu.max").partition(" ")
                yield _share(quota, period)
        elif "cpu" in controllers.split(","):
            for folder in _folders(mounted / "cpu", path):
                yield _share(_text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us"))


def _folders(root: Path, path: str) -> Iterator[Path]:
    """A group's folder and those around it. In a container the path may be the host's, and only the root be there."""
    parts = [part for part in PurePosixPath(path).parts if part not in ("/", "..")]
    for count in range(len(parts), -1, -1):
        yield root.joinpath(*parts[:count])


def _share(quota: str, period: str) -> float:
    """The processors that a quota is; no number, as "max" and -1, stands for no limit."""
    if quota.strip().isdecimal() and period.strip().isdecimal() and int(quota) > 0 and int(period) > 0:
        return int(quota) / int(period)
    return inf


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:  # there is none on this system
        return ""
