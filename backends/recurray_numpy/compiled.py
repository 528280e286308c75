"""What is written for a cell, once for all calls."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from recurray.cells.cell import Cell
from recurray_numpy.backward_loops import Backward, backward_loops
from recurray_numpy.forward_loop import Forward, forward_loop
from recurray_numpy.gate_order import GateOrder


class Compiled:
    """The order of a cell's gates, and its loops, written when they are first wanted."""

    def __init__(self, cell: Cell) -> None:
        self.order = GateOrder(cell)
        self._forward: dict[Any, Forward] = {}
        self._backward: dict[Any, Backward] = {}

    def forward(self, **options: bool) -> Forward:
        """Return the parts of forward; see `forward_loop`."""
        key = tuple(sorted(options.items()))
        if key not in self._forward:
            self._forward[key] = forward_loop(self.order, **options)
        return self._forward[key]

    def backward(self, **options: bool) -> Backward:
        """Return the parts of backward; see `backward_loops`."""
        key = tuple(sorted(options.items()))
        if key not in self._backward:
            forward = self.forward(training=True, as_they_lie=False, **options)
            self._backward[key] = backward_loops(self.order, forward, **options)
        return self._backward[key]


@lru_cache(maxsize=256)
def compiled(cell: Cell) -> Compiled:
    """Return what is written for a cell; equal cells share it.

    Raises
    ------
    RecordingError
        The cell's step can't be recorded.
    """
    return Compiled(cell)
