"""An optimizer's hyperparameters, checked whenever they are set; the checks return numbers as Python floats.

A Python float takes on the precision of the arrays that it multiplies; a ``numpy.float64`` would turn float32
params into float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from recurray import checks
from recurray.messages import shown

Kind = TypeVar("Kind")


class Setting(Generic[Kind]):
    """A checked attribute: whatever is assigned is stored as ``check(name, value)`` returns it."""

    def __init__(self, check: Callable[[str, Any], Kind]) -> None:
        self.check = check

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __set__(self, instance: object, value: Any) -> None:
        vars(instance)[self.name] = self.check(self.name, value)

    if TYPE_CHECKING:  # without it Python finds what is stored by itself, faster

        def __get__(self, instance: object, owner: type) -> Kind: ...


def not_negative(name: str, value: Any) -> float:
    """Check a finite number of at least 0."""
    number = checks.number(name, value)
    if not 0.0 <= number < math.inf:
        raise ValueError(f"{name} must be at least 0 and finite, not {shown(value)}")
    return number


def count(name: str, value: Any) -> int:
    """Check a number of steps."""
    return checks.size(name, value, least=0)


def decay(name: str, value: Any) -> float:
    """Check what a running mean keeps of its old value at each step: at least 0 and below 1."""
    number = checks.number(name, value)
    if not 0.0 <= number < 1.0:
        raise ValueError(f"{name} must be at least 0 and below 1, not {shown(value)}")
    return number


def decays(name: str, values: Any) -> tuple[float, float]:
    """Check a pair of them."""
    try:
        first, second = values
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be two numbers, not {shown(values)}") from None
    return decay(f"{name}[0]", first), decay(f"{name}[1]", second)
