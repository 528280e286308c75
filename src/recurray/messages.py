"""What checks share: how errors and warnings show what they are about, and what a number is."""

from __future__ import annotations

import sys
from math import isfinite
from numbers import Real
from typing import Any

LONGEST = 80


def shown(value: Any) -> str:
    """Return a value as an error shows it: in one line, not a long one.

    Examples
    --------
    >>> shown("text")
    "'text'"
    >>> shown(10**10000)
    'an integer of 33220 bits'
    """
    try:
        text = " ".join(repr(value).split())
    except Exception:  # an integer of too many digits, or whatever a class of a user's does
        text = f"an integer of {value.bit_length()} bits" if isinstance(value, int) else f"a {type(value).__name__}"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def outside_constructors() -> int:
    """Return the ``stacklevel`` of a warning that is about the call of a constructor, for whoever is called by it."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and (frame.f_code.co_name == "__init__" or level == 1):
        frame, level = frame.f_back, level + 1
    return level


def finite_number(name: str, value: Any) -> float:
    """Check a number that float64 can hold."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, not {type(value).__name__} {shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if not isfinite(number):
        raise ValueError(f"{name} must be a finite number, not {shown(value)}")
    return number
