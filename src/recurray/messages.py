"""How errors and warnings show what they are about."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import EllipsisType
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


def kind_of(value: Any) -> str:
    """Return a value's library and type in words."""
    return f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}"


def in_words(shape: Sequence[int | str | EllipsisType]) -> str:
    """Return a shape as it is written: (2, time, 3)."""
    parts = ["..." if part is ... else str(part) for part in shape]
    return f"({', '.join(parts)}{',' if len(shape) == 1 else ''})"
