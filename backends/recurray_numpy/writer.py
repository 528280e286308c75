"""Writing a stretch of a recorded program as NumPy calls into buffers that are there already.

What is written is ordinary Python, one ufunc call a line: ``multiply(f, c_prev, t0)``. Values live in places,
which are names of arrays; a place whose value has had its last use is written over where that is allowed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from recurray.recording import FLAGS, Constant, Operand, Program

NAMES = {"abs": "absolute"}  # what NumPy calls otherwise
FUNCTIONS = {
    name: getattr(np, name)
    for name in (
        *("absolute", "exp", "expm1", "log", "log1p", "negative", "sqrt", "tanh"),
        *("add", "divide", "maximum", "minimum", "multiply", "subtract"),
        *("greater", "greater_equal", "less", "less_equal", "logical_and"),
        *("copyto", "dot", "matmul"),
    )
}


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
        stretch = Stretch(places=dict(places))
        room = _Room(self, stretch, order, set(reusable), {*kept, *targets})
        moves = [(value, target) for value, target in targets.items() if value not in order]  # handed on as they are
        for value in order:
            operation, operands = self.program.values[value].operation, self.program.values[value].operands
            names = [
                constant(operand.number, stretch) if isinstance(operand, Constant) else stretch.places[operand]
                for operand in operands
            ]
            in_two_calls = operation == "where"  # what the second reads, the first must not write over
            if not in_two_calls:
                room.spend(operands)
            target = targets.get(value)
            if target is not None and not room.is_live(target):
                place = target
            else:
                place = room.find(flag=operation in FLAGS, preferred=() if in_two_calls else names)
                if target is not None:
                    moves.append((value, target))
            if in_two_calls:
                room.spend(operands)
            room.put(value, place)
            stretch.lines += _calls(operation, names, place, stretch)
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


class _Room:
    """Which places hold values that are still wanted, while a stretch is written."""

    def __init__(self, writer: Writer, stretch: Stretch, order: list[int], reusable: set[str], kept: set[int]) -> None:
        self.prefix = writer.prefix
        self.stretch = stretch
        self.reusable = reusable
        self.kept = kept
        self.holder = {place: value for value, place in stretch.places.items()}
        operands = (operand for value in order for operand in writer.program.values[value].operands)
        self.uses_left = Counter(operand for operand in operands if isinstance(operand, int))

    def spend(self, operands: Iterable[Operand]) -> None:
        """Note that operands have been used once more."""
        self.uses_left.subtract(operand for operand in operands if isinstance(operand, int))

    def is_live(self, place: str) -> bool:
        """Whether the value in a place is still wanted."""
        value = self.holder.get(place)
        return value is not None and (self.uses_left[value] > 0 or value in self.kept)

    def find(self, *, flag: bool, preferred: Iterable[str]) -> str:
        """Find a place that may be written: a preferred one, one that has been in use, or a new one."""
        pool = self.stretch.flags if flag else self.stretch.temporaries
        others = self.stretch.temporaries if flag else self.stretch.flags
        for place in preferred:
            if place in self.reusable and place not in others and not flag and not self.is_live(place):
                return place
        for place in pool:
            if not self.is_live(place):
                return place
        pool.append(f"{self.prefix}_flag{len(pool)}" if flag else f"{self.prefix}{len(pool)}")
        self.reusable.add(pool[-1])
        return pool[-1]

    def put(self, value: int, place: str) -> None:
        """Note that a place holds a value."""
        self.stretch.places[value] = place
        self.holder[place] = value


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
    if operation in ("maximum", "minimum"):  # NumPy wants their output named
        place = f"out={place}"
    return [f"{NAMES.get(operation, operation)}({', '.join([*names, place])})"]
