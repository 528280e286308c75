"""The compiled part: loading it, and the choice of an instruction set."""

from __future__ import annotations

import ctypes
from ctypes import c_char_p, c_int, c_int64, c_size_t, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

from recurray import environment
from recurray_native import limits
from recurray_native.structures import CChain, CElementwise, CInstruction, CTask

NAMES = ("librecurray_native.so", "librecurray_native.dylib", "librecurray_native.dll")
MOST = 64 * 1024 * 1024  # bytes of the block that is kept, as in c/memory.c


class UnavailableError(RuntimeError):
    """The compiled part isn't there, or isn't this version's."""


@cache
def library() -> Any:
    """The shared library.

    Raises
    ------
    UnavailableError
        It isn't there.
    """
    for name in NAMES:
        path = Path(__file__).with_name(name)
        if path.exists():
            found = _declared(ctypes.CDLL(str(path)))  # which releases the interpreter's lock while it runs
            limits.register()
            return found
    raise UnavailableError(f"{Path(__file__).parent} holds none of {', '.join(NAMES)}: the package isn't installed")


def _declared(found: Any) -> Any:
    found.recurray_task_size.restype = c_size_t
    size = found.recurray_task_size()
    wanted = sum(map(ctypes.sizeof, (CTask, CElementwise, CInstruction, CChain)))
    if size != wanted:
        raise UnavailableError(f"the library is another version's: its structures have {size} bytes, not {wanted}")
    found.recurray_level.restype = c_char_p
    found.recurray_level.argtypes = [c_int64]
    found.recurray_runs_here.restype = c_int
    found.recurray_runs_here.argtypes = [c_int64]
    found.recurray_lanes.restype = c_int64
    found.recurray_lanes.argtypes = [c_int64, c_int64]
    for name, result in (("recurray_forward", c_int), ("recurray_backward", c_int), ("recurray_elementwise", None)):
        function = getattr(found, name)
        function.restype = result
        function.argtypes = [c_int64, c_int64, c_void_p]
    found.recurray_apply.restype = None
    found.recurray_apply.argtypes = [c_int64, c_int64, c_int64, c_int64, c_void_p, c_void_p]
    found.recurray_forward_each.restype = c_int
    found.recurray_forward_each.argtypes = [c_int64, c_int64, c_int64, c_void_p]
    for name in ("recurray_pack", "recurray_prepare"):
        function = getattr(found, name)
        function.restype = c_size_t
        function.argtypes = [c_int64, c_int64, c_void_p, c_void_p]
    found.recurray_affine.restype = None
    found.recurray_affine.argtypes = [*[c_int64] * 5, *[c_void_p] * 4]
    most = environment.kept_bytes(MOST)
    if most < MOST:
        found.recurray_limit_memory(c_size_t(most))
    return found


@cache
def runner(*, holds: bool) -> Any:
    """What runs a `CChain`, given its address; the interpreter's lock is released meanwhile unless it ``holds`` it."""
    own = library()
    found = (ctypes.PyDLL if holds else ctypes.CDLL)(own._name, handle=own._handle)["recurray_run"]
    found.restype = None  # and no types of arguments, which would be looked at in each call
    return found


@cache
def _numbers() -> dict[str, int]:
    """The numbers that the library knows instruction sets by, best first."""
    numbers: dict[str, int] = {}
    while (name := library().recurray_level(len(numbers))) is not None:
        numbers[name.decode()] = len(numbers)
    return numbers


@cache
def levels() -> tuple[str, ...]:
    """The instruction sets that are compiled in and run on this machine, best first."""
    return tuple(name for name, number in _numbers().items() if library().recurray_runs_here(number))


def chosen_level(wanted: str | None) -> str:
    """The instruction set to use: what is wanted, else what the environment variable names, else the best one.

    Raises
    ------
    ValueError
        What is wanted doesn't run here.
    """
    if wanted is None:
        return environment.native_level(levels()) or levels()[0]
    if wanted not in levels():
        raise ValueError(f"the instruction set must be one of {', '.join(levels())} here, not {wanted!r}")
    return wanted


def number(name: str) -> int:
    """The number that the library knows an instruction set by."""
    return _numbers()[name]


@cache
def lanes(name: str, is_double: bool) -> int:
    """How many numbers an instruction set's vector has."""
    return int(library().recurray_lanes(number(name), is_double))


def release_memory() -> None:
    """Free the block that is kept for the work space of later calls."""
    release = library().recurray_release_memory
    release.restype = None
    release()
