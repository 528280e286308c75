"""The compiled engine: the NumPy backend, whose scans run in C where they can."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from recurray import chunks
from recurray.backend import ChainPlan, Plan, Stack
from recurray.cells.cell import Cell, Weights
from recurray.elementwise import Elementwise, Formula
from recurray.lazy import cached_property
from recurray.program import RecordingError
from recurray.scan import Cache
from recurray_native import affine, library, scan, threads
from recurray_native.arguments import FLOATS, PROJECTED
from recurray_native.compiled import compiled
from recurray_native.elementwise import NativeElementwise
from recurray_native.plan import LayersPlan
from recurray_numpy import NumpyBackend

TOGETHER = 512  # steps that are run in one call


class Engine(NumpyBackend):
    """The NumPy backend with the compiled engine, which runs what it doesn't refuse.

    Parameters
    ----------
    device, engine
        As in `recurray_numpy.NumpyBackend`.
    level : str, optional
        The instruction set to use, one of `recurray_native.library.levels`; by default what the environment variable
        ``RECURRAY_NATIVE_LEVEL`` names, else the best that the processor has.
    """

    engine = "native"

    def __init__(self, device: Any = None, engine: str | None = None, *, level: str | None = None) -> None:
        super().__init__(device)
        self._wanted = level

    @cached_property
    def level(self) -> str:
        """The instruction set in use.

        Raises
        ------
        recurray_native.UnavailableError, ValueError
            The compiled part isn't there, or the instruction set asked for isn't one that runs here.
        """
        return library.chosen_level(self._wanted)

    @property
    def description(self) -> str:
        """Which instructions it uses, and how many threads it may use; raises what `level` does."""
        return f"{self.level}, up to {threads.get_num_threads()} threads"

    def threads(self, count: int) -> AbstractContextManager[None]:
        """Return a context in which it may use ``count`` threads."""
        return threads.limited_threads(count)

    def release_memory(self) -> None:
        """Give back the memory that is kept for later calls."""
        library.release_memory()
        super().release_memory()

    def refuses(self, cell: Cell, weights: Weights, x: Any) -> str | None:
        """Return why the engine can't run a cell on these arrays, None if it can."""
        try:
            ready = compiled(cell)
        except RecordingError as error:
            return str(error)
        if x.dtype not in FLOATS:
            return f"it computes in float32 and float64, not {x.dtype}"
        if weights.projection is not None and ready.reads_output:
            return PROJECTED
        return None

    def scan_forward(
        self, cell: Cell, weights: Weights, x: Any, start: tuple[Any, ...], **options: Any
    ) -> tuple[Any, tuple[Any, ...], Cache | None]:
        """Run a cell over time; see `recurray.scan.forward`."""
        if self.refuses(cell, weights, x) is not None:
            return super().scan_forward(cell, weights, x, start, **options)
        run = partial(scan.forward, self.level)
        return chunks.forward(run, TOGETHER, cell, weights, x, start, **options)

    def elementwise(self, formula: Formula, arrays: Sequence[str], numbers: Sequence[str]) -> Elementwise:
        """Return what runs a formula number by number; see `recurray.backend.Backend.elementwise`."""
        return NativeElementwise(self.level, formula, arrays, numbers)

    def plan(
        self, cells: Sequence[Cell], weights: Sequence[Weights], shape: tuple[int, int, int], *, reverse: bool
    ) -> Plan | None:
        """Return NumPy's plan where the engine refuses all, `plan_chain` being for the rest; see `Backend.plan`."""
        if type(self).scan_forward is not Engine.scan_forward:
            return None  # a class that runs scans in another way
        refused = [self.refuses(cell, own, own.input) for cell, own in zip(cells, weights, strict=False)]
        if None in refused:
            return None
        return self.plan_of_numpy(cells, weights, shape, reverse=reverse)

    def plan_chain(self, stacks: Sequence[Stack], shape: tuple[int, int, int]) -> ChainPlan | None:
        """Return a plan for small calls of layers one after the other; see `recurray.backend.Backend.plan_chain`."""
        if type(self).scan_forward is not Engine.scan_forward or type(self).affine is not Engine.affine:
            return None  # a class that runs layers in another way
        for stack in stacks:
            own = stack.weights[0]
            if not stack.cells and not affine.is_small(shape[0] * shape[1], own.input):
                return None
            if any(
                self.refuses(*each, own.input) is not None for each in zip(stack.cells, stack.weights, strict=False)
            ):
                return None
        return LayersPlan(self.level, stacks, shape)

    def affine(self, x: Any, weight: Any, bias: Any) -> Any:
        """Return ``x @ weight.T + bias``; see `recurray.backend.Backend.affine`."""
        if not affine.is_small(len(x), weight):
            return super().affine(x, weight, bias)
        return affine.affine(self.level, x, weight, bias)
