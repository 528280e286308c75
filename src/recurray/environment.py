"""The environment variables that recurray reads: their names, what each may say, and what one says that can't be read.

Values are read without regard to case. One that can't be read, and a name that nothing reads, is never passed over in
silence: the first time a warning says what was expected.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from functools import cache

BACKEND = "RECURRAY_BACKEND"
KEPT_MIB = "RECURRAY_KEPT_MIB"
NATIVE = "RECURRAY_NATIVE"
NATIVE_LEVEL = "RECURRAY_NATIVE_LEVEL"
NUM_THREADS = "RECURRAY_NUM_THREADS"
OMP_NUM_THREADS = "OMP_NUM_THREADS"  # OpenMP's

_OF_BLAS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", OMP_NUM_THREADS)

_PREFIX = "RECURRAY_"
_TESTS = "RECURRAY_TEST_"  # the tests read these
_NAMES = (BACKEND, KEPT_MIB, NATIVE, NATIVE_LEVEL, NUM_THREADS)
_SWITCH = {"1": True, "on": True, "yes": True, "true": True, "0": False, "off": False, "no": False, "false": False}

_warned: set[tuple[str, str]] = set()  # names and values


def backend(known: Sequence[str]) -> str | None:
    """The backend that ``RECURRAY_BACKEND`` names, as it is spelled in ``known`` if it is there; None if it is empty.

    A backend that isn't known is left to `recurray.get_backend`, which refuses it.
    """
    text = _text(BACKEND)
    return next((name for name in known if name.lower() == text.lower()), text or None)


def native() -> bool:
    """Whether a compiled engine may run where one is installed: unless ``RECURRAY_NATIVE`` says 0, off, no or false."""
    text = _text(NATIVE)
    if text and text.lower() not in _SWITCH:
        _warn(NATIVE, text, f"one of {', '.join(_SWITCH)}", "a compiled engine is used where one is installed")
    return _SWITCH.get(text.lower(), True)


def native_level(known: Sequence[str]) -> str | None:
    """The one of the instruction sets ``known`` that ``RECURRAY_NATIVE_LEVEL`` names; None if it names none of them."""
    text = _text(NATIVE_LEVEL)
    if text and text.lower() not in known:
        _warn(NATIVE_LEVEL, text, f"one that runs on this machine: {', '.join(known)}", f"{known[0]} is used")
    return text.lower() if text.lower() in known else None


def kept_bytes(most: int) -> int:
    """How many bytes may be kept for later calls, of a kind of which it is ``most`` unless ``RECURRAY_KEPT_MIB`` says
    less.

    This is read as recurray is imported; of the names that nothing reads what is read later tells.
    """
    text = os.environ.get(KEPT_MIB, "").strip()
    if not text:
        return most
    if not (text.isdecimal() and len(text) < 20):
        _warn(KEPT_MIB, text, "a whole number", f"{most // 2**20} MiB of a kind are kept at most")
        return most
    return min(most, int(text) * 2**20)


def num_threads() -> int | None:
    """How many threads ``RECURRAY_NUM_THREADS``, or else ``OMP_NUM_THREADS``, allows; None if neither is a number."""
    return _num_threads(os.environ.get(NUM_THREADS, ""), os.environ.get(OMP_NUM_THREADS, ""))


def blas_threads() -> bool:
    """Whether a variable says how many threads a BLAS is to have."""
    return any(os.environ.get(name) for name in _OF_BLAS)


@cache  # as it is asked for at each call of an engine
def _num_threads(own: str, openmp: str) -> int | None:
    if (count := _count(own)) is not None:
        return count
    if own.strip():
        _warn(NUM_THREADS, own, "a whole number of at least 1", "it is as if it weren't set")
    return _count(openmp.partition(",")[0])  # it may be a list, by level


def _count(text: str) -> int | None:
    digits = text.strip()
    return int(digits) if digits.isdecimal() and len(digits) < 20 and int(digits) > 0 else None


def _text(name: str) -> str:
    """What a variable says, empty if it isn't set; with a look at the names of all others."""
    for other in os.environ:
        if other.startswith(_PREFIX) and not other.startswith(_TESTS) and other not in _NAMES:
            _warn(other, os.environ[other], f"one of the variables {', '.join(_NAMES)}", "nothing reads it")
    return os.environ.get(name, "").strip()


def _warn(name: str, text: str, expected: str, result: str) -> None:
    if (name, text) not in _warned:
        _warned.add((name, text))
        warnings.warn(f"{name}={text!r}: expected {expected}; {result}", stacklevel=2)
