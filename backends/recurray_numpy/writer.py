"""Writing a stretch of a recorded program as NumPy calls into buffers that are there already.

What is written is ordinary Python, one ufunc call a line: ``multiply(f, c_prev, t0)``. Values live in places,
which are names of arrays; a place whose value has had its last use is written over where that is allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from recurray.recording import FLAGS, Constant, Operand, Program

NAMES = {"abs": "absolute"}  # what NumPy calls otherwise
FUNCTIONS = {
    name: getattr(np, name)
    for name in (
        "absolute", "add", "copyto", "divide", "dot", "exp", "expm1", "greater", "greater_equal", "less", "less_equal",
        "log", "log1p", "logical_and", "matmul", "maximum", "minimum", "multiply", "negative", "sqrt", "subtract", "tanh",
    )
}  # fmt: skip


@dataclass
class Stretch:
    """Lines of calls, and what they need."""

    lines: list[str] = field(default_factory=list)
    places: dict[int, str] = field(default_factory=dict)  # where each value is
    temporaries: list[str] = field(default_factory=list)  # places of floats to be provided
    flags: list[str] = field(default_factory=list)  # places of booleans to be provided
    constants: dict[float, str] = field(default_factory=dict)  # their names


class Writer:
    """Writes stretches of one program.

    Parameters
    ----------
    program : Program
    prefix : str
        What the names of the temporaries begin with.
    """

    def __init__(self, program: Program, prefix: str) -> None:
        self.program = program
        self.prefix = prefix

    def write(
        self,
        order: Iterable[int],
        places: Mapping[int, str],
        *,
        reusable: Iterable[str] = (),
        targets: Mapping[int, str] | None = None,
        kept: Iterable[int] = (),
    ) -> Stretch:
        """Write the calls that compute the values ``order``.

        Parameters
        ----------
        order : iterable of int
            Which values, in an order in which each needs only earlier ones.
        places : mapping of int to str
            Where the values that are there already are.
        reusable : iterable of str
            Places that may be written over once their value has had its last use.
        targets : mapping of int to str
            Where values must be at the end. A target may be the place of an earlier value; that value is then
            written over only after its last use.
        kept : iterable of int
            Values that must still be where they are at the end.
        """
        order, targets = list(order), dict(targets or {})
        kept = set(kept) | set(targets)
        stretch = Stretch(places=dict(places))
        reusable = set(reusable)
        left = self._uses_within(order)
        holder = {place: value for value, place in places.items()}  # the last value that each place holds
        moves: list[tuple[int, str]] = []

        def is_live(place: str) -> bool:
            return place in holder and (left.get(holder[place], 0) > 0 or holder[place] in kept)

        for value in order:
            operation = self.program.values[value].operation
            operands = self.program.values[value].operands
            for operand in {operand for operand in operands if isinstance(operand, int)}:
                left[operand] -= sum(operand == other for other in operands if isinstance(other, int))
            dead = [stretch.places[operand] for operand in operands if isinstance(operand, int)]
            dead = [place for place in dead if place in reusable and not is_live(place)]
            target = targets.get(value)
            # `where` is two calls: what the second reads must not be written over by the first.
            in_the_way = operation == "where" and target in [
                stretch.places[operand] for operand in operands[:2] if isinstance(operand, int)
            ]
            if target is not None and not is_live(target) and not in_the_way:
                place = target
            else:
                if target is not None:
                    moves.append((value, target))  # for now elsewhere
                if operation in FLAGS:
                    place = self._new(stretch.flags, f"{self.prefix}_flag", reusable, is_live)
                elif operation != "where" and any(place not in stretch.flags for place in dead):
                    place = next(place for place in dead if place not in stretch.flags)
                else:
                    place = self._new(stretch.temporaries, self.prefix, reusable, is_live)
            names = [self._name(operand, stretch) for operand in operands]
            stretch.lines += _calls(operation, names, place, stretch)
            stretch.places[value] = place
            holder[place] = value
        moves += [(value, target) for value, target in targets.items() if value not in order]  # handed on as they are
        self._move(moves, stretch)
        return stretch

    def _move(self, moves: list[tuple[int, str]], stretch: Stretch) -> None:
        """Copy values to their targets; a value that stands where another goes is brought out of the way first."""
        goals = {target for _, target in moves}
        for value, target in moves:
            source = stretch.places[value]
            if source in goals and source != target:
                stretch.temporaries.append(f"{self.prefix}{len(stretch.temporaries)}")
                stretch.lines.append(f"copyto({stretch.temporaries[-1]}, {source})")
                stretch.places[value] = stretch.temporaries[-1]
        for value, target in moves:
            if stretch.places[value] != target:
                stretch.lines.append(f"copyto({target}, {stretch.places[value]})")
                stretch.places[value] = target

    def _uses_within(self, order: list[int]) -> dict[int, int]:
        left: dict[int, int] = {}
        for value in order:
            for operand in self.program.values[value].operands:
                if isinstance(operand, int):
                    left[operand] = left.get(operand, 0) + 1
        return left

    @staticmethod
    def _new(pool: list[str], prefix: str, reusable: set[str], is_live: Any) -> str:
        for place in pool:
            if not is_live(place):
                return place
        pool.append(f"{prefix}{len(pool)}")
        reusable.add(pool[-1])
        return pool[-1]

    @staticmethod
    def _name(operand: Operand, stretch: Stretch) -> str:
        if isinstance(operand, Constant):
            return constant(operand.number, stretch)
        return stretch.places[operand]


def constant(number: float, stretch: Stretch) -> str:
    """Return the name of a constant, an array of no dimensions: NumPy takes that faster than a Python number."""
    return stretch.constants.setdefault(number, f"constant{len(stretch.constants)}")


def _calls(operation: str, names: list[str], place: str, stretch: Stretch) -> list[str]:
    if operation == "logistic":  # 0.5 tanh(0.5 a) + 0.5, which never overflows
        half = constant(0.5, stretch)
        return [
            f"multiply({names[0]}, {half}, {place})",
            f"tanh({place}, {place})",
            f"multiply({place}, {half}, {place})",
            f"add({place}, {half}, {place})",
        ]
    if operation == "where":
        condition, chosen, other = names
        return [f"copyto({place}, {other})", f"copyto({place}, {chosen}, where={condition})"]
    return [f"{NAMES.get(operation, operation)}({', '.join([*names, place])})"]
