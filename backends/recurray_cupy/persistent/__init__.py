"""Kernels that make the recurrent product themselves, for all steps in one launch, or for one step.

    kernel     writes such a kernel around a step; its fixed text is in recurrence.cuh, and in tensor_cores.cuh for
               operands rounded to float16 or bfloat16
    layout     divides the units and rows among the blocks of the launch

`recurray_cupy.strategies` alone imports this.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary, proxy

import numpy as np

from recurray.cells.cell import Cell
from recurray_cupy.compiled import Way
from recurray_cupy.kernel import Kernel
from recurray_cupy.launcher import Launcher
from recurray_cupy.library import Device, DoesNotFitError, Library
from recurray_cupy.persistent.kernel import INTEGERS, Plan, Recurrence, recurrence_of, why_not
from recurray_cupy.persistent.layout import Layout, clocks_by_library, layout_for

__all__ = ["Plan", "Recurrence", "Whole", "pays", "recurrence_of", "why_not"]


@dataclass(frozen=True)
class Whole:
    """Steps by kernels that make the product themselves.

    Attributes
    ----------
    resident : bool
        Whether all steps are one launch, in which the weights stay in shared memory; else each is one.
    """

    resident: bool

    def ready(
        self, library: Library, recurrence: Recurrence, *, dtype: str, batch: int, units: int
    ) -> tuple[Layout, Kernel]:
        """Choose the layout and compile the kernel.

        Raises
        ------
        DoesNotFitError
            There is no layout for the device, or not all of its blocks can be on the GPU at once.
        CompilationError
            The kernel doesn't compile.
        """
        work = recurrence.work(batch, units, np.dtype(dtype).itemsize)
        layout = layout_for(work, library.device(), resident=self.resident)
        if layout is None:
            room = "the shared memory of the whole GPU" if self.resident else "a block's shared memory, even one unit's"
            raise DoesNotFitError(f"the weights of {units} units, in {dtype}, don't fit into {room}")
        kernel = (
            recurrence.kernel_of(Plan(batch, units, layout))
            if library.plans
            else recurrence.kernel(layout.tile, layout.threads)
        )
        library.shaped(kernel, dtype, layout, cooperative=self._waits(layout))
        return layout, kernel

    def run(
        self,
        library: Library,
        cell: Cell,
        arrays: dict[str, Any],
        *,
        way: Way,
        rounded_to: str,
        start: int,
        steps: int,
        skip: int = -1,
        **options: Any,
    ) -> None:
        """Run ``steps`` steps from the step ``start``; raises what `ready` does.

        Parameters
        ----------
        library : Library
        cell : Cell
        arrays : dict
            By the names of the kernel's arguments.
        way, rounded_to
            See `recurrence_of`.
        skip : int
            The step that has no product, -1 if there is none.
        options
            See `Launcher`.
        """
        recurrence = recurrence_of(cell, way, rounded_to)
        sizes = {name: options[name] for name in ("dtype", "batch", "units")}
        layout, kernel = self.ready(library, recurrence, **sizes)
        waiting = self._waits(layout) and steps > 1
        arrivals = library.xp.zeros((32 * layout.row_groups,), dtype=np.uint32) if waiting else None
        arrays = arrays | {"fault": library.fault, "arrivals": arrivals}
        integers = {name: skip if name == "skip" else getattr(layout, name) for name in INTEGERS}
        options |= {"shape": layout, "cooperative": waiting, "integers": integers}
        launch = Launcher(library, kernel, arrays, **options)
        if self.resident:
            launch(start, steps)
            return
        stride = -1 if recurrence.step.backward != options["reverse"] else 1
        graphs_of(library).repeat(launch, range(start, start + stride * steps, stride))

    def _waits(self, layout: Layout) -> bool:
        """Whether blocks wait for each other."""
        return self.resident and layout.unit_groups > 1


def pays(recurrence: Recurrence, batch: int, units: int, dtype: str, device: Device) -> bool:
    """Whether one launch for all steps is estimated to take less time than the library's products."""
    work = recurrence.work(batch, units, np.dtype(dtype).itemsize)
    layout = layout_for(work, device, resident=True)
    return layout is not None and layout.clocks <= clocks_by_library(work, device)


# Graphs ---------------------------------------------------------------------------------------------------------------

Work = Callable[[], None]

MOST = 128  # graphs that are kept


class Graphs:
    """Launches that come again and again with the same arguments, as CUDA graphs.

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

    def repeat(self, launch: Launcher, starts: range) -> None:
        """Launch a step after another."""

        def all_steps() -> None:
            for start in starts:
                launch(start)

        self.run((launch.function, starts, *map(_identity, launch.arguments)), all_steps)

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


_GRAPHS: WeakKeyDictionary[Any, Graphs] = WeakKeyDictionary()


def graphs_of(library: Library) -> Graphs:
    """Return the graphs of a library's launches."""
    if library not in _GRAPHS:
        weak = proxy(library)  # or the library would be held for ever
        _GRAPHS[library] = Graphs(lambda work: weak.captured(work))
    return _GRAPHS[library]


def _identity(argument: Any) -> Any:
    """What tells an argument of a kernel from others: an array's address, a number's type and value."""
    return argument.data.ptr if hasattr(argument, "data") and hasattr(argument.data, "ptr") else str(argument)
