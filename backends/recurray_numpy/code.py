"""The text of a function that is written for a cell."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from recurray_numpy.names import is_called
from recurray_numpy.writer import FUNCTIONS, Kind, Stretch


@dataclass(frozen=True, eq=False)
class Code:
    """A function on arrays that it is given by name.

    Attributes
    ----------
    lines : tuple of str
        Its body, or the body of its loop over time.
    timed : tuple of str
        The arrays with the steps along the first axis; a loop takes them apart.
    shared : tuple of str
        The arrays that are the same for every step.
    work : dict of str to kind
        Which of the arrays are mere work space, and their kind.
    constants : dict of float to str
        Numbers by the names that stand for them.
    is_loop : bool
        Whether the lines are for one step, rather than for all steps at once.
    """

    lines: tuple[str, ...]
    timed: tuple[str, ...]
    shared: tuple[str, ...]
    work: dict[str, Kind]
    constants: dict[float, str]
    is_loop: bool

    @property
    def names(self) -> tuple[str, ...]:
        """All arrays that it wants."""
        return self.timed + self.shared

    def text(self) -> str:
        """The function as Python text."""
        bound = [*FUNCTIONS, *self.constants.values()]
        arguments = [*self.names, *(f"{name}={name}" for name in bound)]  # as locals they are found fastest
        body = list(self.lines) or ["pass"]
        if self.is_loop:
            arrays = ", ".join(self.timed)
            body = [f"for {arrays}, in zip({arrays}):", *(f"    {line}" for line in body)]
        return "\n".join([f"def function({', '.join(arguments)}):", *(f"    {line}" for line in body)])

    def compile(self, dtype: Any) -> Callable[..., None]:
        """Return the function, for arrays of ``dtype``."""
        known: dict[str, Any] = dict(FUNCTIONS)
        known |= {name: np.asarray(number, dtype) for number, name in self.constants.items()}
        found: dict[str, Any] = {}
        exec(compile(self.text(), "<written for a recorded cell>", "exec"), known, found)  # noqa: S102 - our own text
        function: Callable[..., None] = found["function"]
        return function


def quietly() -> Any:
    """A context in which no warning comes of exp(-a) for a gate that is closed for good, or open."""
    return np.errstate(over="ignore", under="ignore")


def as_loop(lines: Iterable[str], stretch: Stretch, shared: Iterable[str]) -> Code:
    """Make the lines a loop over time; ``shared`` are the arrays, of those that the lines name, that aren't timed."""
    return _code(lines, stretch, {*shared, *stretch.work}, is_loop=True)


def at_once(stretch: Stretch) -> Code:
    """Make a stretch a function on arrays of many steps."""
    return _code(stretch.lines, stretch, set(), is_loop=False)


def _code(lines: Iterable[str], stretch: Stretch, shared: set[str], *, is_loop: bool) -> Code:
    lines = tuple(lines)
    known = {*FUNCTIONS, *stretch.constants.values(), "out", "where"}
    mentioned: dict[str, None] = {}  # in the order in which they come
    for line in lines:
        words = line.translate(str.maketrans("(),=", "    ")).split()
        mentioned |= dict.fromkeys(word for word in words if word not in known)
    is_shared = {name: name in shared or is_called(name, "param", "state") for name in mentioned}
    return Code(
        lines=lines,
        timed=tuple(name for name in mentioned if not is_shared[name]),
        shared=tuple(name for name in mentioned if is_shared[name]),
        work=stretch.work,
        constants=stretch.constants,
        is_loop=is_loop,
    )
