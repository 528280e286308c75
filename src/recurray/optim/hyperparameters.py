"""Checks of an optimizer's hyperparameters; each returns the number as a Python float.

A Python float takes on the precision of the arrays that it multiplies; a ``numpy.float64`` would turn float32
params into float64.
"""

from __future__ import annotations

import math
from typing import Any

from recurray import checks


def not_negative(name: str, value: Any) -> float:
    """Check a finite number of at least 0."""
    number = checks.number(name, value)
    if not 0.0 <= number < math.inf:
        raise ValueError(f"{name} must be at least 0 and finite, not {value!r}")
    return number


def decay(name: str, value: Any) -> float:
    """Check what a running mean keeps of its old value at each step: at least 0 and below 1."""
    number = checks.number(name, value)
    if not 0.0 <= number < 1.0:
        raise ValueError(f"{name} must be at least 0 and below 1, not {value!r}")
    return number


def decays(name: str, values: Any) -> tuple[float, float]:
    """Check a pair of them."""
    try:
        first, second = values
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be two numbers, not {values!r}") from None
    return decay(f"{name}[0]", first), decay(f"{name}[1]", second)
