"""Checks of numbers and words that users hand in: each raises an error that names what was given and expected."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Iterable, Sequence
from typing import Any, TypeGuard

from recurray.messages import shown

__all__ = [
    "are_several",
    "bound",
    "choice",
    "finite",
    "flag",
    "float_dtype",
    "integer",
    "number",
    "probability",
    "size",
]

DTYPES = ("float32", "float64")
FLOAT32_MAX = 3.4028234663852886e38
MOST = 2**63 - 1  # that an axis can have


def recompute(value: Any) -> int | str | None:
    """Check how many steps apart states are kept."""
    if value is None or (isinstance(value, str) and value == "sqrt"):
        return value
    if not isinstance(value, (str, bool)):
        try:
            steps = operator.index(value)
        except TypeError:
            steps = 0
        if steps > 0:
            return steps
    raise ValueError(f"recompute must be None, 'sqrt' or a positive integer, not {shown(value)}")


def integer(name: str, value: Any) -> int:
    """Check an integer."""
    if isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, not {shown(value)}")
    try:
        return int(operator.index(value))
    except TypeError:
        raise TypeError(f"{name} must be an integer, not {type(value).__name__} {shown(value)}") from None


def size(name: str, value: Any, least: int = 1, most: int | None = MOST) -> int:
    """Check a size: an integer from ``least`` to ``most``, or without an end."""
    number = integer(name, value)
    if number < least:
        raise ValueError(f"{name} must be at least {least}, not {shown(number)}")
    if most is not None and number > most:
        raise ValueError(f"{name} must be at most {most}, not {shown(number)}")
    return number


def probability(name: str, value: Any) -> float:
    """Check the probability that something is dropped: at least 0 and below 1."""
    value = number(name, value)
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, not {shown(value)}")
    return float(value)


def number(name: str, value: Any) -> float:
    """Check a real number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, not {type(value).__name__} {shown(value)}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} must be a finite number that float64 can hold, not {shown(value)}") from None


def finite(name: str, value: Any) -> float:
    """Check a real number that is neither infinite nor NaN."""
    value = number(name, value)
    if not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, not {shown(value)}")
    return float(value)


def bound(name: str, value: Any) -> float | None:
    """Check the bound that something is clamped to: a number above 0, or None."""
    if value is None:
        return None
    if (number := finite(name, value)) <= 0:
        raise ValueError(f"{name} must be None or a number above 0, not {shown(value)}")
    return number


def flag(name: str, value: Any) -> bool:
    """Check an option that is on or off."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {type(value).__name__} {shown(value)}")
    return value


def choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """Check an option that is one of several words."""
    if not isinstance(value, str) or value not in choices:
        known = ", ".join(repr(known) for known in choices)
        raise ValueError(f"{name} must be one of {known}, not {shown(value)}")
    return str(value)


def are_several(value: Any) -> TypeGuard[Iterable[Any]]:
    """Whether a value can be gone through; neither a text nor an array without axes, which says that it can be."""
    return isinstance(value, Iterable) and not isinstance(value, str) and getattr(value, "ndim", 1) != 0


def float_dtype(value: Any) -> str:
    """Check a layer's dtype; NumPy's and other libraries' dtype objects are taken by their name."""
    names = (getattr(value, "__name__", None), getattr(value, "name", None))
    name = next((name for name in (*names, value) if isinstance(name, str)), None) or shown(value)
    name = name.rpartition(".")[2]
    if name not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(map(repr, DTYPES))}, not {shown(value)}")
    return name
