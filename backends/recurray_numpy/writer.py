"""Writing a stretch of a recorded program as NumPy calls into buffers that are there already.

What is written is ordinary Python, one ufunc call a line: ``multiply(f, c_prev, t0)``. Values live in places,
which are names of arrays; a place whose value has had its last use is written over where that is allowed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np

from recurray.arrays import WHOLE
from recurray.program import FLAGS, INNER, INNER_BACKWARD, MEAN, Constant, Operand, Program, Value
from recurray_numpy.names import name_of

NAMES = {"abs": "absolute"}  # what NumPy calls otherwise
Kind = str | float  # of a place: one of the following, or the number that a place (H, n) is filled with
SPREAD = "spread"  # an operation of the writer's own: a ROW's number for each unit
FLOATS, FLAG, ROW = "floats", "flags", "rows"  # (H, n), the same of booleans, and (1, n)


def mean_over_units(a: Any, out: Any) -> None:
    """Mean over the units of (..., H, n): (..., 1, n). As a product, which is 4 times as fast as a sum over an axis."""
    np.matmul(_averaging(a.shape[-2], a.dtype), a, out)


@cache
def _averaging(size: int, dtype: Any) -> Any:
    return np.full((1, size), 1 / size, dtype)


def mean_over_vector(a: Any, out: Any) -> None:
    """Mean over the units of (..., H): (..., 1)."""
    np.add.reduce(a, axis=-1, out=out, keepdims=True)
    np.multiply(out, 1 / a.shape[-1], out)


FUNCTIONS = {
    name: getattr(np, name)
    for name in (
        *("absolute", "exp", "expm1", "log", "log1p", "negative", "sqrt", "tanh"),
        *("add", "divide", "maximum", "minimum", "multiply", "subtract"),
        *("greater", "greater_equal", "less", "less_equal", "logical_and"),
        *("clip", "copyto", "dot", "matmul"),
    )
} | {"mean_over_units": mean_over_units, "mean_over_vector": mean_over_vector}


@dataclass
class Stretch:
    """Lines of calls, and what they need."""

    prefix: str  # what the names of its work and its constants begin with
    lines: list[str] = field(default_factory=list)
    places: dict[int, str] = field(default_factory=dict)  # where each value is
    work: dict[str, Kind] = field(default_factory=dict)  # places to be provided, and their kind
    constants: dict[float, str] = field(default_factory=dict)  # their names
    has_inner: bool = False  # whether the inner gates' product is among the lines


class Writer:
    """Writes stretches of one program.

    Parameters
    ----------
    program : Program
    prefix : str
        What the names of the places and constants that it makes begin with.
    vector : bool
        Whether the batch is one row, so that places are vectors.
    masked : bool
        Whether what the inner gates' product is with is multiplied by ``output_mask``.
    rows : iterable of int
        Inputs of the kind ROW.
    """

    def __init__(
        self, program: Program, prefix: str, *, vector: bool, masked: bool = False, rows: Iterable[int] = ()
    ) -> None:
        self.prefix = prefix
        self.vector = vector
        self.masked = masked
        self.values = list(program.values)
        self.own = len(program.values)  # values from here on are the writer's
        self.kinds = kinds(program, rows)

    def write(
        self,
        order: Iterable[int],
        places: Mapping[int, str],
        *,
        reusable: Iterable[str] = (),
        targets: Mapping[int, str] | None = None,
        kept: Iterable[int] = (),
        instead: Mapping[int, Iterable[str]] | None = None,
        onto: Stretch | None = None,
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
        instead : mapping of int to iterable of str
            Places that will do as well as a value's target, if one of the value's operands can be written over there.
        onto : Stretch, optional
            What the calls come after, in one stretch with it.
        """
        order, targets, instead = self._spread(list(order)), dict(targets or {}), instead or {}
        stretch = replace(onto, places=dict(places)) if onto else Stretch(self.prefix, places=dict(places))
        room = _Room(self, stretch, order, set(reusable), {*kept, *targets})
        moves = [(value, target) for value, target in targets.items() if value not in order]  # handed on as they are
        for value in order:
            operation, operands = self.values[value].operation, self.values[value].operands
            name_constant = filled if operation in ("maximum", "minimum") and self.kinds[value] == FLOATS else constant
            names = [
                stretch.places[operand] if isinstance(operand, int) else name_constant(operand.number, stretch)
                for operand in operands
            ]
            in_one_call = operation not in ("where", INNER, INNER_BACKWARD, MEAN)
            if in_one_call:  # elsewhere a later call would read what an earlier one has written over
                room.spend(operands)
            target = targets.get(value)
            if value in instead and in_one_call:
                over = (name for name in names if name in instead[value] and room.may_hold(name, self.kinds[value]))
                target = next(over, target)
            if operation == INNER:
                place = name_of("h", self.values[value].name)
            elif target is not None and not room.is_live(target):
                place = target
            else:
                place = room.find(self.kinds[value], preferred=names if in_one_call else ())
            if target not in (None, place):
                moves.append((value, target))
            if not in_one_call:
                room.spend(operands)
            room.put(value, place, self.kinds[value])
            if operation == "logistic" and self.vector:
                divisor = room.find(FLOATS, preferred=(), beside=place)
                stretch.lines += bounded_logistic(names[0], place, filled(WHOLE, stretch), divisor, stretch)
            elif operation == "logistic":
                stretch.lines += [f"negative({names[0]}, {place})", *logistic(place, stretch)]
            else:
                stretch.lines += self._calls(value, names, place, stretch)
        self._move(moves, stretch)
        stretch.places = {value: place for value, place in stretch.places.items() if value < self.own}
        return stretch

    def _spread(self, order: list[int]) -> list[int]:
        """Let a ROW that is used several times be copied to all units first; return the order with that.

        NumPy takes more than twice as long where one operand has to be repeated.
        """
        if self.vector:
            return order
        uses = Counter(
            operand
            for k in order
            if self.kinds[k] == FLOATS and self.values[k].operation != MEAN
            for operand in self.values[k].operands
            if isinstance(operand, int) and self.kinds[operand] == ROW
        )
        spread: dict[Operand, int] = {}
        result = []
        for k in order:
            if self.kinds[k] == FLOATS:
                for operand in self.values[k].operands:
                    if isinstance(operand, int) and uses[operand] > 1 and operand not in spread:
                        spread[operand] = len(self.values)
                        result.append(len(self.values))
                        self.values.append(Value(SPREAD, (operand,)))
                        self.kinds.append(FLOATS)
                operands = tuple(spread.get(operand, operand) for operand in self.values[k].operands)
                self.values[k] = replace(self.values[k], operands=operands)
            result.append(k)
        return result

    def _move(self, moves: list[tuple[int, str]], stretch: Stretch) -> None:
        """Copy values to their targets; a value that stands where another goes is brought out of the way first."""
        goals = {target for _, target in moves}
        for value, target in moves:
            source = stretch.places[value]
            if source in goals and source != target:
                aside = f"{self.prefix}{len(stretch.work)}"
                stretch.work[aside] = self.kinds[value]
                stretch.lines.append(f"copyto({aside}, {source})")
                stretch.places[value] = aside
        for value, target in moves:
            if stretch.places[value] != target:
                stretch.lines.append(f"copyto({target}, {stretch.places[value]})")
                stretch.places[value] = target

    def _calls(self, k: int, names: list[str], place: str, stretch: Stretch) -> list[str]:
        value = self.values[k]
        operation = value.operation
        if operation == "where":
            condition, chosen, other = names
            if value.operands[1:] == (Constant(1.0), Constant(0.0)):  # writing under a mask takes 10 times as long
                return [f"copyto({place}, {condition})"]
            return [f"copyto({place}, {other})", f"copyto({place}, {chosen}, where={condition})"]
        if operation == SPREAD:
            return [f"copyto({place}, {names[0]})"]
        if operation == MEAN:
            return [f"mean_over_{'vector' if self.vector else 'units'}({names[0]}, {place})"]
        if operation == INNER:  # all inner gates in one product, when the first is wanted
            if stretch.has_inner:
                return []
            stretch.has_inner = True
            operand, lines = names[0], list[str]()
            if self.masked:
                operand, lines = "inner_operand", [f"multiply({operand}, output_mask, inner_operand)"]
            lines.append(f"dot({operand}, w_inner, inner)" if self.vector else f"matmul(w_inner, {operand}, inner)")
            return [*lines, "add(inner, b_inner, inner)"]
        if operation == INNER_BACKWARD:
            rows = [name_of("dh", gate) for gate in value.name.split()]
            copies = [f"copyto({row}, {name})" for row, name in zip(rows, names, strict=True) if name != row]
            product = f"dot(dinner, w_inner, {place})" if self.vector else f"matmul(w_inner, dinner, {place})"
            return [*copies, product, *([f"multiply({place}, output_mask, {place})"] if self.masked else [])]
        if operation in ("maximum", "minimum"):  # NumPy wants their output named
            place = f"out={place}"
        return [f"{NAMES.get(operation, operation)}({', '.join([*names, place])})"]


class _Room:
    """Which places hold values that are still wanted, while a stretch is written."""

    def __init__(self, writer: Writer, stretch: Stretch, order: list[int], reusable: set[str], kept: set[int]) -> None:
        self.prefix = writer.prefix
        self.stretch = stretch
        self.reusable = reusable
        self.kept = kept
        self.holder = {place: value for value, place in stretch.places.items()}
        self.kinds = {place: writer.kinds[value] for value, place in stretch.places.items()}
        operands = (operand for value in order for operand in writer.values[value].operands)
        self.uses_left = Counter(operand for operand in operands if isinstance(operand, int))

    def spend(self, operands: Iterable[Operand]) -> None:
        """Note that operands have been used once more."""
        self.uses_left.subtract(operand for operand in operands if isinstance(operand, int))

    def is_live(self, place: str) -> bool:
        """Whether the value in a place is still wanted."""
        value = self.holder.get(place)
        return value is not None and (self.uses_left[value] > 0 or value in self.kept)

    def find(self, kind: str, *, preferred: Iterable[str], beside: str = "") -> str:
        """Find a place of a kind that may be written: a preferred one, one that has been in use, or a new one.

        It is another than ``beside``.
        """
        for place in [*preferred, *self.stretch.work]:
            if place != beside and self.may_hold(place, kind):
                return place
        place = f"{self.prefix}{len(self.stretch.work)}"
        self.stretch.work[place] = self.kinds[place] = kind
        self.reusable.add(place)
        return place

    def may_hold(self, place: str, kind: str) -> bool:
        """Whether a place may be written over with a value of a kind."""
        return place in self.reusable and self.kinds.get(place) == kind and not self.is_live(place)

    def put(self, value: int, place: str, kind: str) -> None:
        """Note that a place holds a value."""
        self.stretch.places[value] = place
        self.holder[place] = value
        self.kinds.setdefault(place, kind)


def kinds(program: Program, rows: Iterable[int] = ()) -> list[str]:
    """Return the kind of place that each value wants; ``rows`` are the inputs that are ROW."""
    rows = set(rows)
    found: list[str] = []
    for k, value in enumerate(program.values):
        kinds_of_operands = {found[operand] for operand in value.operands if isinstance(operand, int)}
        if value.operation in FLAGS:
            found.append(FLAG)
        elif value.operation == MEAN or k in rows or kinds_of_operands == {ROW}:
            found.append(ROW)
        else:
            found.append(FLOATS)
    return found


def constant(number: float, stretch: Stretch) -> str:
    """Return the name of a constant, an array of no dimensions: NumPy takes that faster than a Python number."""
    return stretch.constants.setdefault(number, f"{stretch.prefix}_constant{len(stretch.constants)}")


def logistic(place: str, stretch: Stretch) -> list[str]:
    """Write 1 / (1 + exp(-a)) for what is -a; exp overflows where that is far above 0, as it should."""
    one = constant(1.0, stretch)
    return [f"exp({place}, {place})", f"add({place}, {one}, {place})", f"divide({one}, {place}, {place})"]


def bounded_logistic(a: str, to: str, most: str, divisor: str, stretch: Stretch) -> list[str]:
    """Write exp(a) / (1 + exp(a)), with an a of at most ``most``, so that nothing overflows.

    For single rows: leaving overflows aside takes longer than the further call. ``divisor`` is work space.
    """
    return [
        f"minimum({a}, {most}, out={to})",
        f"exp({to}, {to})",
        f"add({to}, {constant(1.0, stretch)}, {divisor})",
        f"divide({to}, {divisor}, {to})",
    ]


def bounds(rows: int, dtype: Any, prefix: str = "") -> dict[str, Any]:
    """Make the arrays (rows,) that `bounded_logistic` wants beside what it is of."""
    return {f"{prefix}most": np.full(rows, WHOLE, dtype), f"{prefix}divisor": np.empty(rows, dtype)}


def filled(number: float, stretch: Stretch) -> str:
    """Return the name of an array full of a constant, which NumPy's maximum and minimum take 3 times as fast."""
    name = f"{stretch.prefix}_filled{number!r}".replace("-", "m").replace(".", "_").replace("+", "")
    stretch.work[name] = number
    return name
