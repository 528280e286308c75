"""Cutting a program into segments: what needs a number of all units has to wait until all units are done.

A mean over the units ends a segment, and so does a product amid the step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from recurray.program.ir import MEAN, PRODUCTS, Program, Value


def ends_segment(value: Value) -> bool:
    """Whether a value is known only when all units have finished its operands' segment, and is read in later ones."""
    return value.operation == MEAN or value.operation in PRODUCTS


def earliest_segments(program: Program) -> list[int]:
    """Return the first segment in which each value can be read."""
    found: list[int] = []
    for value in program.values:
        found.append(max((found[operand] for operand in value.reads), default=0) + ends_segment(value))
    return found


def latest_segments(program: Program, wanted: Iterable[int], last: int, fixed: Mapping[int, int]) -> dict[int, int]:
    """Return by value the last segment that is early enough for all that read it.

    Parameters
    ----------
    program : Program
    wanted : iterable of int
        Values, with all that they need.
    last : int
        The segment of what nothing reads.
    fixed : mapping of int to int
        Values whose segment is given.
    """
    found = dict.fromkeys(wanted, last)
    for k in sorted(found, reverse=True):
        found[k] = fixed.get(k, found[k])
        for operand in program.values[k].reads:
            found[operand] = min(found[operand], found[k] - ends_segment(program.values[k]))
    return found
