"""What a measurement was made on: the CPU, the BLAS behind NumPy and the kernels it runs."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

# OpenBLAS names its kernels for the first CPU they were written for; these have no AVX-512 instructions.
_WITHOUT_AVX512 = ("Haswell", "Zen", "Excavator", "Sandybridge", "Nehalem", "Prescott")

_BLAS_VARIABLES = ("OPENBLAS_CORETYPE", "MKL_ENABLE_INSTRUCTIONS", "BLIS_ARCH_TYPE")


@dataclass(frozen=True)
class Blas:
    """The library that NumPy's products run on.

    Attributes
    ----------
    name, version : str
        As the library calls itself; empty where that isn't known.
    kernels : str or None
        The CPU that the kernels in use were written for, None where that isn't known.
    threads : int or None
        How many threads it uses, None where that isn't known.
    """

    name: str
    version: str = ""
    kernels: str | None = None
    threads: int | None = None

    def __str__(self) -> str:
        named = f"{self.name} {self.version}".strip()
        return f"{named} with {self.kernels} kernels" if self.kernels else named


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


def cpu_has_avx512() -> bool:
    """Tell whether the CPU has AVX-512 instructions, by what NumPy found when it was imported."""
    config: Any = np.show_config(mode="dicts")
    extensions = config.get("SIMD Extensions", {})
    names = [*extensions.get("baseline", ()), *extensions.get("found", ())]
    return any(name == "X86_V4" or name.startswith("AVX512") for name in names)


def usable_cores() -> int:
    """Return how many of the machine's cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load() -> str:
    """Return how many cores' worth of work the system had in the last minute, and a warning if it was too much."""
    try:
        value = os.getloadavg()[0]
    except (AttributeError, OSError):  # Windows has none
        return "unknown"
    return f"{value:.1f}" + (": the machine is busy, times will be noisy" if value > usable_cores() / 2 else "")


def blas() -> Blas:
    """Return the BLAS that NumPy uses; its kernels and threads are known where threadpoolctl is installed."""
    config: Any = np.show_config(mode="dicts")
    built = config.get("Build Dependencies", {}).get("blas", {})
    fallback = Blas(str(built.get("name", "unknown BLAS")), str(built.get("version", "")))
    if find_spec("threadpoolctl") is None:
        return fallback
    from threadpoolctl import threadpool_info

    found = [pool for pool in threadpool_info() if pool.get("user_api") == "blas"]
    if not found:
        return fallback
    # Other packages bring their own; NumPy's lies beside it or, shared by all, is the first one loaded.
    own = next((pool for pool in found if "numpy" in str(pool.get("filepath", ""))), found[0])
    names = {"openblas": "OpenBLAS", "mkl": "MKL", "blis": "BLIS"}
    internal = str(own.get("internal_api", ""))
    return Blas(
        names.get(internal, internal), str(own.get("version") or ""), own.get("architecture"), own.get("num_threads")
    )


def blas_kernels() -> str | None:
    """Return which kernels NumPy's BLAS runs ("Haswell", "SkylakeX", ...), None where that isn't known."""
    return blas().kernels


def kernel_advice(kernels: str | None = None, avx512: bool | None = None) -> str | None:
    """Return what to do where OpenBLAS runs slower kernels than the CPU is able to.

    Parameters
    ----------
    kernels : str, optional
        The kernels in use; those of this process if omitted.
    avx512 : bool, optional
        Whether the CPU has AVX-512; asked of this machine if omitted.

    Returns
    -------
    str or None
        None where there is nothing to do, or the kernels aren't known.

    Examples
    --------
    >>> from recurray.benchmarks import machine
    >>> machine.kernel_advice("SkylakeX", avx512=True) is None
    True
    >>> print(machine.kernel_advice("Haswell", avx512=True))
    This CPU has AVX-512, but NumPy's OpenBLAS runs its Haswell kernels, which don't use it: set OPENBLAS_CORETYPE=SkylakeX before Python starts, for products up to twice as fast in batches (not for single rows).
    """  # noqa: E501
    kernels = blas_kernels() if kernels is None else kernels
    avx512 = cpu_has_avx512() if avx512 is None else avx512
    if not avx512 or kernels not in _WITHOUT_AVX512:
        return None
    return (
        f"This CPU has AVX-512, but NumPy's OpenBLAS runs its {kernels} kernels, which don't use it: set "
        "OPENBLAS_CORETYPE=SkylakeX before Python starts, for products up to twice as fast in batches (not for "
        "single rows)."
    )


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
    >>> list(machine.facts())
    ['date', 'recurray', 'CPU', 'cores', 'load', 'system', 'Python', 'NumPy', 'BLAS']
    """
    return {
        "date": datetime.now().astimezone().isoformat(sep=" ", timespec="minutes"),
        "recurray": package_version("recurray") or "unknown",
        "CPU": cpu_name(),
        "cores": str(usable_cores()),
        "load": load(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "BLAS": str(blas()),
    }
