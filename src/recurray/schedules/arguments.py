"""What schedules are given, checked, and what they return."""

from __future__ import annotations

import math
from typing import Any

from recurray import checks
from recurray.messages import shown


def check_numbers(schedule: Any, *names: str) -> None:
    """Check the schedule's attributes of these names: finite numbers, none negative. Make them Python floats."""
    for name in names:
        value = getattr(schedule, name)
        number = checks.number(name, value)
        if not 0.0 <= number < math.inf:
            raise ValueError(f"{name} must be at least 0 and finite, not {shown(value)}")
        object.__setattr__(schedule, name, number)


def check_size(schedule: Any, name: str, least: int = 1) -> None:
    """Check one of the schedule's attributes: a number of steps. Make it a Python integer, that knows no overflow."""
    object.__setattr__(schedule, name, checks.size(name, getattr(schedule, name), least))


def power(factor: float, count: int) -> float:
    """``factor`` to the power of a count of any size; infinity where that is beyond the largest number."""
    try:
        return float(factor ** min(count, 10**300))
    except OverflowError:
        return math.inf


def rate(lr: float, step: int) -> float:
    """Check a learning rate."""
    if not lr < math.inf:
        raise ValueError(f"the learning rate of step {step} must be finite, not {lr!r}: a factor above 1 has run away")
    return lr


def count(step: Any) -> int:
    """Check a count of steps."""
    return checks.size("step", step, least=0, most=None)  # a run may be as long as it likes
