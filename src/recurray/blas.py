"""The BLAS behind NumPy: which kernels it runs, how to have it run the best that the CPU has, and its threads.

OpenBLAS, which NumPy's wheels bring, chooses its kernels once, when NumPy is loaded, by the CPU's model. Of a CPU that
it doesn't know it may use half the width. Importing this module loads no NumPy, so that `use_best_kernels` can come
first.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Blas", "advice", "cpu_has_avx512", "in_use", "limited", "use_best_kernels"]

VARIABLE = "OPENBLAS_CORETYPE"  # by which OpenBLAS is told what kernels to use
WITH_AVX512 = "SkylakeX"  # OpenBLAS names kernels for the first CPU they were written for
_WITHOUT_AVX512 = ("Haswell", "Zen", "Excavator", "Sandybridge", "Nehalem", "Prescott")
_FLAGS = {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}  # what those kernels are compiled for
_CPUINFO = Path("/proc/cpuinfo")
_NAMES = {"openblas": "OpenBLAS", "mkl": "MKL", "blis": "BLIS"}


class Blas(NamedTuple):
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


def use_best_kernels() -> str | None:
    """Have NumPy's OpenBLAS use its AVX-512 kernels, in a process that hasn't loaded NumPy yet, where the CPU has them.

    Worth it where ``recurray info`` advises it; elsewhere OpenBLAS finds them by itself. It sets the environment
    variable ``OPENBLAS_CORETYPE``, of this process and of those that it starts from then on.

    Returns
    -------
    str or None
        The kernels that were asked for. None where nothing was changed: the CPU has no AVX-512 or the system doesn't
        say (only Linux does), or the variable is set already.

    Raises
    ------
    RuntimeError
        NumPy is loaded: its BLAS has chosen, and can't be told any more.

    Examples
    --------
    First of all in a program, ahead of anything that imports NumPy:

    >>> from recurray.blas import use_best_kernels
    >>> use_best_kernels()  # doctest: +SKIP
    'SkylakeX'
    >>> import numpy as np
    >>> import recurray as rr
    """
    if "numpy" in sys.modules:
        raise RuntimeError(
            "use_best_kernels() must be called before NumPy is loaded, and it is loaded already: call it first of all "
            f"in the program, or set {VARIABLE}={WITH_AVX512} before Python starts"
        )
    if os.environ.get(VARIABLE) or not cpu_has_avx512():
        return None
    os.environ[VARIABLE] = WITH_AVX512
    return WITH_AVX512


def cpu_has_avx512() -> bool:
    """Tell whether the CPU has the AVX-512 instructions that OpenBLAS uses; False where the system doesn't say."""
    try:
        text = _CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return False
    flags = next((line.partition(":")[2] for line in text.splitlines() if line.startswith("flags")), "")
    return set(flags.split()) >= _FLAGS


def in_use() -> Blas:
    """Return the BLAS that NumPy uses; its kernels and threads are known where threadpoolctl is installed.

    Examples
    --------
    >>> from recurray import blas
    >>> len(blas.in_use().name) > 0
    True
    """
    import numpy as np

    config: Any = np.show_config(mode="dicts")
    built = config.get("Build Dependencies", {}).get("blas", {})
    as_built = Blas(str(built.get("name", "unknown BLAS")), str(built.get("version", "")))
    if find_spec("threadpoolctl") is None:
        return as_built
    from threadpoolctl import threadpool_info

    loaded = [pool for pool in threadpool_info() if pool.get("user_api") == "blas"]
    if not loaded:
        return as_built
    # Other packages bring their own; NumPy's lies beside it or, shared by all, is the first one loaded.
    own = next((pool for pool in loaded if "numpy" in str(pool.get("filepath", ""))), loaded[0])
    internal = str(own.get("internal_api", ""))
    version = str(own.get("version") or "")
    return Blas(_NAMES.get(internal, internal), version, own.get("architecture"), own.get("num_threads"))


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """Return a context in which NumPy's BLAS uses ``threads`` threads, in the whole process.

    One is best where products are small or other programs run too: several wait for the slowest of them at each
    product. The last bits of a product may depend on it.

    Parameters
    ----------
    threads : int
        At least 1.

    Raises
    ------
    ImportError
        threadpoolctl isn't installed.
    ValueError
        ``threads`` is something else.

    Examples
    --------
    >>> from recurray import blas
    >>> with blas.limited(1):
    ...     blas.in_use().threads
    1
    """
    if find_spec("threadpoolctl") is None:
        raise ImportError(
            "limiting the BLAS's threads needs threadpoolctl, which is missing: pip install threadpoolctl"
        )
    from threadpoolctl import threadpool_limits

    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ValueError(f"threads must be a whole number of at least 1, not {threads!r}")
    with threadpool_limits(threads, user_api="blas"):
        yield


def advice() -> str | None:
    """Return what to do where NumPy's OpenBLAS runs slower kernels than the CPU is able to.

    Returns
    -------
    str or None
        None where there is nothing to do, or where the kernels or what the CPU has aren't known.
    """
    kernels = in_use().kernels
    if kernels not in _WITHOUT_AVX512 or not cpu_has_avx512():
        return None
    return (
        f"this CPU has AVX-512, but NumPy's OpenBLAS runs its {kernels} kernels, which don't use it: set "
        f"{VARIABLE}={WITH_AVX512} before Python starts, or call recurray.blas.use_best_kernels() before NumPy is "
        "loaded, for products up to twice as fast in batches (not for single rows)"
    )
