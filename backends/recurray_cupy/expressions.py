"""An operation of a recorded program as C++ text."""

from __future__ import annotations

import math
import re

from recurray.program import ELEMENTWISE, FLAGS, MEAN, Program

FORMS = {
    "negative": "-{}",
    "abs": "fabs({})",
    "add": "{} + {}",
    "subtract": "{} - {}",
    "multiply": "{} * {}",
    "divide": "{} / {}",
    "greater": "{} > {}",
    "greater_equal": "{} >= {}",
    "less": "{} < {}",
    "less_equal": "{} <= {}",
    "logical_and": "{} && {}",
    "where": "{} ? {} : {}",
}


def expression(operation: str, operands: list[str]) -> str:
    """Return an elementwise operation on operands, which are names or literals."""
    if operation in FORMS:
        return FORMS[operation].format(*operands)
    return f"{operation}({', '.join(operands)})"  # the others have their C++ names, or are in the prelude


def literal(number: float) -> str:
    """Return a number as text.

    Examples
    --------
    >>> literal(0.5), literal(float("-inf"))
    ('(real)0.5', '(-INFINITE)')
    """
    if math.isnan(number):
        return "(INFINITE - INFINITE)"
    if math.isinf(number):
        return "INFINITE" if number > 0 else "(-INFINITE)"
    return f"(real){number!r}"


def identifier(name: str) -> str:
    """Return ``name``, any Python identifier, with ASCII letters alone; no two names become the same.

    Examples
    --------
    >>> identifier("w_1"), identifier("ω")
    ('w_1', 'U969_')
    """
    return re.sub(r"[^A-TV-Za-z0-9_]", lambda found: f"U{ord(found.group())}_", name)


def flags_of(program: Program) -> set[int]:
    """Return the values that are truth values."""
    return {k for k, value in enumerate(program.values) if value.operation in FLAGS}


def rows_of(program: Program, inputs: set[int]) -> set[int]:
    """Return the values that are the same for all units of a row; ``inputs`` are the inputs among them."""
    found = set(inputs)
    for k, value in enumerate(program.values):
        if value.operation == MEAN or (
            value.operation in ELEMENTWISE and value.reads and found.issuperset(value.reads)
        ):
            found.add(k)
    return found
