"""NVRTC, the CUDA compiler that CuPy uses, called by itself: it needs no GPU (``pip install nvidia-cuda-nvrtc``)."""

from __future__ import annotations

import ctypes
import ctypes.util
import re
import shutil
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


@cache
def tool(name: str) -> str | None:
    """Where one of NVIDIA's disassemblers is; None if it isn't here."""
    spec = find_spec("nvidia")
    for folder in spec.submodule_search_locations or () if spec else ():
        for found in Path(folder).glob(f"c*/bin/{name}"):
            return str(found)
    return shutil.which(name)


def version() -> tuple[int, int]:
    """The library's version, 13 and 1 for one."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    assert library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)) == 0
    return major.value, minor.value


def compiled(source: str, architecture: str) -> bytes:
    """Compile ``source`` for an architecture, "sm_90" for one, to a cubin; the compiler's messages are the error."""
    return _compiled(source, architecture)[0]


def resources_of(source: str, architecture: str) -> dict[str, tuple[int, int]]:
    """The registers of each kernel in ``source``, and the bytes that don't fit into them and go to memory."""
    _, report = _compiled(source, architecture, "--ptxas-options=-v")
    found = {}
    for text in report.split("Compiling entry function '")[1:]:
        spilled = re.search(r"bytes stack frame, (\d+) bytes spill stores", text)
        registers = re.search(r"Used (\d+) registers", text)
        assert spilled is not None, text
        assert registers is not None, text
        found[text.partition("'")[0]] = int(registers[1]), int(spilled[1])
    return found


def ptx_of(source: str, architecture: str) -> str:
    """Compile ``source`` for an architecture, "compute_90" for one, to PTX."""
    return _compiled(source, architecture, what="PTX")[0].rstrip(b"\0").decode()


def _compiled(source: str, architecture: str, *more: str, what: str = "CUBIN") -> tuple[bytes, str]:
    nvrtc = library()
    program = ctypes.c_void_p()
    given = (source.encode(), b"kernels.cu", 0, None, None)
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), *given) == 0
    options = [option.encode() for option in (*OPTIONS, f"-arch={architecture}", *more)]
    code = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    log = _read(nvrtc, "ProgramLog", program).rstrip(b"\0").decode()
    assert code == 0, log
    assert "warning" not in log, log
    result = _read(nvrtc, what, program)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return result, log


def _read(nvrtc: Any, what: str, program: Any) -> bytes:
    size = ctypes.c_size_t()
    assert getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size)) == 0
    text = ctypes.create_string_buffer(size.value)
    assert getattr(nvrtc, f"nvrtcGet{what}")(program, text) == 0
    return text.raw
