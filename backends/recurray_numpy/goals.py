"""Goals: pairs of a value and the array that it must end in."""

from __future__ import annotations

from collections.abc import Iterable

from recurray.program import Constant, Operand
from recurray_numpy.writer import Stretch, constant

Copies = list[tuple[Operand, str]]


def targets_of(goals: Iterable[tuple[Operand, str]]) -> tuple[dict[int, str], Copies]:
    """Split pairs of a value and the array that it must end in.

    Returns
    -------
    targets : dict of int to str
        By value its first array.
    copies : list
        The other pairs: constants, and values that have an array already.
    """
    targets: dict[int, str] = {}
    copies: Copies = []
    for value, place in goals:
        if isinstance(value, Constant) or value in targets:
            copies.append((value, place))
        else:
            targets[value] = place
    return targets, copies


def lines_of(copies: Copies, stretch: Stretch) -> list[str]:
    """Write the copies that `targets_of` left."""
    lines = []
    for value, place in copies:
        source = constant(value.number, stretch) if isinstance(value, Constant) else stretch.places[value]
        if source != place:
            lines.append(f"copyto({place}, {source})")
    return lines
