"""Formulas that treat each number of their arrays by itself, as an optimizer's step does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from recurray.arrays import Array
from recurray.cells.cell import named

Arrays = Mapping[str, Array]
Formula = Callable[[Arrays, Any], Arrays]  # of arrays by name, and numbers as attributes; returns its results by name


class Elementwise(Protocol):
    """What runs a formula; see `Backend.elementwise`."""

    def __call__(
        self, numbers: Mapping[str, float], given: Sequence[Arrays], out: Sequence[Arrays] | None = None
    ) -> Sequence[Arrays]:
        """Return the results for each of several sets of arrays.

        Parameters
        ----------
        numbers : mapping of str to float
            The formula's numbers.
        given : sequence of mapping of str to array
            Its arrays, all of one dtype and those of a set of one shape.
        out : sequence of mapping of str to array, optional
            Where the results of each set are to be, all of them: contiguous arrays of one axis, as the given ones are
            then. A result may be written over the array that was given by the same name, and over no other. Only a
            backend that is `in_place` takes them.
        """


def reference(formula: Formula, arrays: Sequence[str], numbers: Sequence[str]) -> Elementwise:
    """Return what runs a formula as it stands, on arrays of any library."""
    names = tuple(numbers)
    make = named(names)

    def run(
        numbers: Mapping[str, float], given: Sequence[Arrays], out: Sequence[Arrays] | None = None
    ) -> Sequence[Arrays]:
        values = make(*(numbers[name] for name in names))
        return [formula(own, values) for own in given]

    return run
