"""Liveness: which values are still to be read, and whose places may be used again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

from recurray.program.ir import Operand, is_value

Place = TypeVar("Place", bound=Hashable)


class Registers(Generic[Place]):
    """Places of values: made as they are wanted, and used again after a value's last use.

    Attributes
    ----------
    places : dict of int to Place
        Where each value is.
    free : list of Place
        What may be taken; the place that was given back last comes last.
    """

    def __init__(self, places: dict[int, Place] | None = None) -> None:
        self.places = places or {}
        self.free: list[Place] = []
        self._uses_left = Counter[int]()

    def expect(self, operands: Iterable[Operand]) -> None:
        """Say which operands will be read, each as often as it comes."""
        self._uses_left = Counter(filter(is_value, operands))

    def take(self, make: Callable[[], Place], fits: Callable[[Place], bool] = lambda place: True) -> Place:
        """Return the place given back last that fits, else a new one."""
        found = next((place for place in reversed(self.free) if fits(place)), None)
        if found is None:
            return make()
        self.free.remove(found)
        return found

    def put(self, value: int, place: Place) -> None:
        """Note that a place holds a value."""
        self.places[value] = place
        if place in self.free:
            self.free.remove(place)

    def spend(self, operands: Iterable[Operand]) -> None:
        """Note that operands have been read once more; after the last time their places are free."""
        for operand in filter(is_value, operands):
            self._uses_left[operand] -= 1
            if not self._uses_left[operand] and operand in self.places:
                self.free.append(self.places[operand])

    def is_live(self, place: Place) -> bool:
        """Whether a place holds a value that will still be read."""
        return any(at == place and self._uses_left[value] > 0 for value, at in self.places.items())


def parallel_copy(copies: Iterable[tuple[Place, Place]], aside: Callable[[Place], Place]) -> list[tuple[Place, Place]]:
    """Order copies, pairs of a source and a target, so that none writes over what another has still to read.

    Where they go round in a circle, a source is brought to a further place first, ``aside(source)``.

    Examples
    --------
    >>> parallel_copy([("a", "b"), ("b", "c")], aside=lambda source: "spare")
    [('b', 'c'), ('a', 'b')]
    >>> parallel_copy([("a", "b"), ("b", "a")], aside=lambda source: "spare")
    [('a', 'spare'), ('b', 'a'), ('spare', 'b')]
    """
    left = [(source, target) for source, target in copies if source != target]
    ordered = []
    while left:
        read = {source for source, _ in left}
        free = next((copy for copy in left if copy[1] not in read), None)
        if free is None:
            first = left[0][0]
            ordered.append((first, aside(first)))
            left = [(ordered[-1][1] if source == first else source, target) for source, target in left]
        else:
            ordered.append(free)
            left.remove(free)
    return ordered
