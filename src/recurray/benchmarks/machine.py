"""What a measurement was made on, and by which command."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from recurray import blas, processors

_BLAS_VARIABLES = ("OPENBLAS_CORETYPE", "MKL_ENABLE_INSTRUCTIONS", "BLIS_ARCH_TYPE")


def cpu_name() -> str:
    """Return the CPU's name as the system knows it.

    Examples
    --------
    >>> from recurray.benchmarks import machine
    >>> len(machine.cpu_name()) > 0
    True
    """
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        text = ""
    for line in text.splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "unknown CPU"


def load() -> str:
    """Return how many cores' worth of work the system had in the last minute, and a warning if it was too much."""
    try:
        value = os.getloadavg()[0]
    except (AttributeError, OSError):  # Windows has none
        return "unknown"
    return f"{value:.1f}" + (": the machine is busy, times will be noisy" if value > processors.usable() / 2 else "")


def command(words: Sequence[str]) -> str:
    """Return the command that makes this measurement: its words, after the variables that the BLAS's speed is set by.

    Examples
    --------
    >>> from recurray.benchmarks import machine
    >>> machine.command(["bench", "--sizes", "32, 100, 128, 256"])  # doctest: +SKIP
    "OPENBLAS_CORETYPE=SkylakeX recurray bench --sizes '32, 100, 128, 256'"
    """
    variables = [f"{name}={shlex.quote(os.environ[name])}" for name in _BLAS_VARIABLES if os.environ.get(name)]
    return " ".join([*variables, "recurray", shlex.join(words)])


def package_version(name: str) -> str | None:
    """Return the version of an installed package without importing it, None where it isn't installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def facts() -> dict[str, str]:
    """Return what a measurement made now and here depends on, by short names, in the order to show it.

    Examples
    --------
    >>> from recurray.benchmarks import machine
    >>> list(machine.facts())[:9]
    ['date', 'recurray', 'CPU', 'cores', 'load', 'system', 'Python', 'NumPy', 'BLAS']
    """
    return {
        "date": datetime.now().astimezone().isoformat(sep=" ", timespec="minutes"),
        "recurray": package_version("recurray") or "unknown",
        "CPU": cpu_name(),
        "cores": str(processors.usable()),
        "load": load(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "BLAS": str(blas.in_use()),
    } | ({} if (advice := blas.advice()) is None else {"advice": advice})
