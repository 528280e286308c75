"""What a test needs besides recurray, NumPy and pytest: where that isn't there the test is skipped.

`needs` marks a test, `need` stands in one.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")  # or importing Keras imports TensorFlow


def _nvrtc() -> bool:
    from harness.cuda import nvrtc

    return nvrtc.library() is not None


def _disassembler() -> bool:
    from harness.cuda import nvrtc

    return None not in (nvrtc.tool("nvdisasm"), nvrtc.tool("cuobjdump"))


def _emulated() -> bool:
    import cupy

    return cupy.cuda.runtime.getDeviceProperties(0)["name"].startswith(b"CUDA on CPU")


def _mpiexec() -> bool:
    from harness.ranks import mpiexec

    return mpiexec() is not None


# Beside packages, which go by the names that they are imported by: whether it is here, and what is said where it isn't.
NEEDS: dict[str, tuple[Callable[[], bool], str]] = {
    "g++": (lambda: shutil.which("g++") is not None, "g++, which compiles kernels for the CPU, is not installed"),
    "gcc": (lambda: shutil.which("gcc") is not None, "gcc, which compiles a part of the engine, is not installed"),
    "nvcc": (lambda: shutil.which("nvcc") is not None, "nvcc, the CUDA compiler, is not installed"),
    "NVRTC": (_nvrtc, "NVRTC, CUDA's compiler at run time, is not installed: pip install nvidia-cuda-nvrtc"),
    "nvdisasm": (
        _disassembler,
        "NVIDIA's disassemblers are not installed: pip install nvidia-cuda-nvdisasm nvidia-cuda-cuobjdump",
    ),
    "emulated device": (_emulated, "this GPU is a real one: only an emulated one tells what it does"),
    "POSIX": (lambda: os.name == "posix", "this system isn't POSIX: it has other signals, pipes, files and limits"),
    "fork": (lambda: hasattr(os, "fork"), "this system has no fork"),
    "Linux": (lambda: sys.platform == "linux", "this system isn't Linux"),
    "/proc": (
        lambda: Path("/proc/self/task").exists(),
        "this system has no /proc, as Linux has",
    ),
    "/dev/full": (lambda: Path("/dev/full").exists(), "this system has no /dev/full, a device that is always full"),
    "glibc": (lambda: platform.libc_ver()[0] == "glibc", "the C library isn't glibc, which gives small blocks back"),
    "mpiexec": (_mpiexec, "mpiexec, which starts the ranks of MPI, is not installed"),
    "root": (lambda: hasattr(os, "getuid") and os.getuid() == 0, "only root may give files away"),
}

needs = pytest.mark.needs
needs_compiler, needs_nvcc, needs_nvrtc = needs("g++"), needs("nvcc"), needs("NVRTC")


def need(name: str) -> Any:
    """Skip the test, or the rest of the module, where this isn't here; where it is a package, import and return it."""
    if name not in NEEDS:
        reason = not_installed(name)
        return absent(name, reason) if reason else import_module(name)
    here, reason = NEEDS[name]
    return None if here() else absent(name, reason)


def not_installed(name: str) -> str | None:
    """What is said where a package isn't installed; None if it is."""
    package = name.partition(".")[0]
    return None if find_spec(package) else f"{package.replace('_', '-')} is not installed"


def absent(name: str, reason: str) -> NoReturn:
    """Skip, or fail if this must be here."""
    if name in listed("RECURRAY_TEST_REQUIRE"):
        pytest.fail(f"{name} must be here (RECURRAY_TEST_REQUIRE), but: {reason}", pytrace=False)
    pytest.skip(reason, allow_module_level=True)


def listed(variable: str) -> tuple[str, ...]:
    """The names in a variable of the environment, with commas between them."""
    return tuple(name.strip() for name in os.environ.get(variable, "").split(",") if name.strip())
