"""NVRTC, the CUDA compiler that CuPy uses, called by itself: it needs no GPU (``pip install nvidia-cuda-nvrtc``)."""

from __future__ import annotations

import ctypes
import ctypes.util
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# What CuPy 14 gives it, besides the architecture; see `cupy.cuda.compiler`.
OPTIONS = ("-std=c++17", "-ftz=true", "--device-as-default-execution-space")


@cache
def library() -> Any:
    """The library, None if it isn't here."""
    found = [ctypes.util.find_library("nvrtc")]
    spec = find_spec("nvidia")
    for folder in spec.submodule_search_locations or () if spec else ():
        found += map(str, Path(folder).glob("c*/lib/libnvrtc.so.*"))
    for name in filter(None, found):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def compiled(source: str, architecture: str) -> bytes:
    """Compile ``source`` for an architecture, "sm_90" for one, to a cubin; the compiler's messages are the error."""
    return _compiled(source, architecture)[0]


def registers_of(source: str, architecture: str) -> dict[str, int]:
    """The registers that each kernel in ``source`` has, after asserting that none of them puts any into memory."""
    _, report = _compiled(source, architecture, "--ptxas-options=-v")
    names = re.findall(r"Compiling entry function '(\w+)'", report)
    stacks = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", report)
    registers = re.findall(r"Used (\d+) registers", report)
    assert len(names) == len(registers) <= len(stacks), report  # some have helpers, which have a stack of their own
    assert set(stacks) == {("0", "0", "0")}, report
    return dict(zip(names, map(int, registers), strict=True))


def _compiled(source: str, architecture: str, *more: str) -> tuple[bytes, str]:
    nvrtc = library()
    program = ctypes.c_void_p()
    given = (source.encode(), b"kernels.cu", 0, None, None)
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), *given) == 0
    options = [option.encode() for option in (*OPTIONS, f"-arch={architecture}", *more)]
    code = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    log = _read(nvrtc, "ProgramLog", program).rstrip(b"\0").decode()
    assert code == 0, log
    assert "warning" not in log, log
    cubin = _read(nvrtc, "CUBIN", program)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return cubin, log


def _read(nvrtc: Any, what: str, program: Any) -> bytes:
    size = ctypes.c_size_t()
    assert getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size)) == 0
    text = ctypes.create_string_buffer(size.value)
    assert getattr(nvrtc, f"nvrtcGet{what}")(program, text) == 0
    return text.raw
