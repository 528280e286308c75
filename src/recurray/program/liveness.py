"""Liveness: which values are still to be read, and whose places may be used again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Generic, TypeVar

from recurray.program.ir import Operand, Value, is_value

Place = TypeVar("Place", bound=Hashable)


class Registers(Generic[Place]):
    """Places for the values of a segment, made as they are wanted, and used again after a value's last use.

    Parameters
    ----------
    values : sequence of Value
        A program's.
    order : iterable of int
        Those that the segment computes.
    later : iterable of Operand
        Further uses, after the segment's own operations.
    """

    def __init__(self, values: Sequence[Value], order: Iterable[int], later: Iterable[Operand] = ()) -> None:
        self.uses_left = Counter(operand for k in order for operand in values[k].reads)
        self.uses_left.update(filter(is_value, later))
        self.places: dict[int, Place] = {}  # of values
        self.free: list[Place] = []  # the place that was given back last comes last

    def take(self, make: Callable[[], Place], fits: Callable[[Place], bool] = lambda place: True) -> Place:
        """Return the place given back last that fits, else a new one."""
        found = next((place for place in reversed(self.free) if fits(place)), None)
        if found is None:
            return make()
        self.free.remove(found)
        return found

    def spend(self, operands: Iterable[Operand]) -> None:
        """Note that operands have been used once more; after the last use their places are free."""
        for operand in filter(is_value, operands):
            self.uses_left[operand] -= 1
            if not self.uses_left[operand] and operand in self.places:
                self.free.append(self.places[operand])


def parallel_copy(copies: Iterable[tuple[Place, Place]], aside: Callable[[Place], Place]) -> list[tuple[Place, Place]]:
    """Order copies, pairs of a source and a target, so that none writes over what another has still to read.

    ``aside(source)`` returns a further place that a source is brought to first, where it stands in another's way.

    Examples
    --------
    >>> parallel_copy([("a", "b"), ("b", "a")], aside=lambda source: f"{source}'")
    [('a', "a'"), ('b', "b'"), ("a'", 'b'), ("b'", 'a')]
    """
    copies = [(source, target) for source, target in copies if source != target]
    targets = {target for _, target in copies}
    moved = {source: aside(source) for source, _ in copies if source in targets}
    return [*moved.items(), *((moved.get(source, source), target) for source, target in copies)]
