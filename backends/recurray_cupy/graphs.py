"""Launches that come again and again with the same arguments, as CUDA graphs."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable

Work = Callable[[], None]

MOST = 128  # graphs that are kept


class Graphs:
    """Graphs of launches, by what tells them apart.

    A graph has its arguments' addresses in it, so it is good for these alone. An array library that hands out the same
    memory again, as CuPy's pool does to a loop that makes arrays of the same sizes in the same order, makes them
    worth while: the second time work comes with the same key it is captured, from the third time on replayed.

    Parameters
    ----------
    capture : callable
        From work, which launches kernels and does nothing else, to what replays it.
    """

    def __init__(self, capture: Callable[[Work], Work]) -> None:
        self._capture = capture
        self._known: OrderedDict[Hashable, Work | None] = OrderedDict()
        self._works = True

    def run(self, key: Hashable, work: Work) -> None:
        """Do the work; once work with this key has been captured, replay it."""
        if not self._works:
            work()
            return
        replay = self._known.get(key)
        if replay is None and key in self._known:
            try:
                replay = self._capture(work)
            except Exception as error:  # whatever it is, the work can be done without
                self._works = False
                self._known.clear()
                warnings.warn(
                    f"steps are launched one by one: they can't be captured as a graph: {error}", stacklevel=2
                )
        if self._works:
            self._known[key] = replay
            self._known.move_to_end(key)
            if len(self._known) > MOST:
                self._known.popitem(last=False)
        (replay or work)()
