"""What is written and compiled for a cell, once for all calls."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from recurray.cells.cell import Cell
from recurray_numpy.backward_loops import Backward, backward_loops
from recurray_numpy.code import Code
from recurray_numpy.forward_loop import Forward, forward_loop
from recurray_numpy.plan import Plan


class Compiled:
    """A cell's plan, and its loops, written and compiled when they are first wanted."""

    def __init__(self, cell: Cell) -> None:
        self.plan = Plan(cell)
        self._forward: dict[Any, Forward] = {}
        self._backward: dict[Any, Backward] = {}
        self._functions: dict[Any, Callable[..., None]] = {}

    def forward(self, *, training: bool, **options: bool) -> Forward:
        """The forward loop; see `forward_loop`."""
        key = training, *sorted(options.items())
        if key not in self._forward:
            self._forward[key] = forward_loop(self.plan, training=training, **options)
        return self._forward[key]

    def backward(self, **options: bool) -> Backward:
        """The parts of backward; see `backward_loops`."""
        key = tuple(sorted(options.items()))
        if key not in self._backward:
            self._backward[key] = backward_loops(
                self.plan, self.forward(training=True, as_they_lie=False, **options), **options
            )
        return self._backward[key]

    def function(self, code: Code, dtype: Any) -> Callable[..., None]:
        """The function that ``code`` is the text of, for arrays of ``dtype``."""
        key = code, dtype
        if key not in self._functions:
            self._functions[key] = code.compile(dtype)
        return self._functions[key]


@lru_cache(maxsize=256)
def compiled(cell: Cell) -> Compiled:
    """Return what is compiled for a cell; equal cells share it.

    Raises
    ------
    RecordingError
        The cell's step can't be recorded.
    """
    return Compiled(cell)
