"""Kernels that make the recurrent product themselves, for all steps in one launch, or for one step.

    of_cell       a cell's kernels, or why it has none
    recurrence    writes such a kernel around a step; its fixed text is in recurrence.cuh
    tensor_cores  likewise, for operands rounded to float16 or bfloat16, with tensor_cores.cuh
    product       what is multiplied by what
    elements      how a thread goes through the units and rows for which it computes the cell
    ahead         what is asked for a step ahead
    waiting       how blocks wait for each other
    layout        divides the units and rows among the blocks of the launch
    plan          a layout and sizes that are constants of a kernel

`recurray_cupy.strategies` alone imports this.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from recurray.cells.cell import Cell
from recurray_cupy.compiled import Compiled, Way
from recurray_cupy.costs import Work, early, microseconds, step_by_launch
from recurray_cupy.graphs import launch_steps
from recurray_cupy.kernel import Kernel
from recurray_cupy.launcher import Launcher
from recurray_cupy.library import Device, DoesNotFitError, Library
from recurray_cupy.persistent.layout import Layout, layout_for
from recurray_cupy.persistent.of_cell import recurrence_of, why_not
from recurray_cupy.persistent.plan import INTEGERS, Plan
from recurray_cupy.persistent.recurrence import Recurrence
from recurray_cupy.products import BITS, round_rows

WORD = np.dtype(np.uint32)

__all__ = ["Plan", "Recurrence", "Whole", "estimate", "recurrence_of", "why_not"]


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
        layout, kernel = self._layout(work, library, holding=library.plans), None
        if library.plans:
            kernel = recurrence.kernel_of(Plan(batch, units, layout))
        if kernel is None:  # that for all layouts, in which no weights are in registers
            layout = self._layout(work, library, holding=False)
            kernel = recurrence.kernel(layout.tile, layout.threads)
        launched = kernel if self.resident else kernel.by_table
        library.shaped(launched, dtype, layout, cooperative=self._waits(layout))
        return layout, kernel

    def run(
        self,
        library: Library,
        code: Compiled,
        arrays: dict[str, Any],
        *,
        way: Way,
        rounded_to: str,
        once: Callable[[Any, Callable[[], Any]], Any],
        start: int,
        steps: int,
        skip: int = -1,
        **options: Any,
    ) -> None:
        """Run ``steps`` steps from the step ``start``; raises what `ready` does.

        Parameters
        ----------
        library : Library
        code : Compiled
        arrays : dict
            By the names of the kernel's arguments.
        way, rounded_to
            See `recurrence_of`.
        once : callable
            Keeps what is made of a frozen layer's weights; see `recurray.cells.Weights.once`.
        skip : int
            The step that has no product, -1 if there is none.
        options
            See `Launcher`.
        """
        alone = steps == 1 or not self.resident
        sizes = options["dtype"], options["batch"], options["units"]

        def make() -> _Made:
            return self._made(library, code.cell, way, rounded_to, *sizes, alone=alone)

        key = id(code), self.resident, way, rounded_to, alone, *sizes
        made: _Made = library.kept(key, make, code)
        arrivals = library.zeros(WORD, (32 * made.layout.row_groups,)) if made.waits else None
        arrays = arrays | {"fault": library.fault, "arrivals": arrivals}
        if rounded_to:
            kept = "whole", way, rounded_to, library.queue()
            weight = arrays["weight"]
            arrays["weight"] = once(kept, lambda: _rounded_weights(library, made.recurrence, weight))
            arrays["handed"] = _handed(library, made.recurrence, arrays, start + options["reverse"], alone=alone)
        options |= {"shape": made.layout, "function": made.function, "integers": made.integers | {"skip": skip}}
        if self.resident:
            Launcher(library, made.kernel, arrays, **options)(start, steps)
            return
        stride = -1 if made.recurrence.step.backward != options["reverse"] else 1
        launch_steps(library, made.kernel, arrays, range(start, start + stride * steps, stride), **options)

    def _made(
        self,
        library: Library,
        cell: Cell,
        way: Way,
        rounded_to: str,
        dtype: str,
        batch: int,
        units: int,
        *,
        alone: bool,
    ) -> _Made:
        """What all calls of these sizes have in common, ``alone``: each step is a launch."""
        recurrence = recurrence_of(cell, way, rounded_to)
        layout, kernel = self.ready(library, recurrence, dtype=dtype, batch=batch, units=units)
        waits = self._waits(layout) and not alone
        launched = kernel if self.resident else kernel.by_table
        function = library.shaped(launched, dtype, layout, cooperative=waits)
        integers = {name: getattr(layout, name) for name in INTEGERS if name != "skip"}
        return _Made(recurrence, layout, kernel, function, waits, integers)

    def _layout(self, work: Work, library: Library, *, holding: bool) -> Layout:
        layout = layout_for(work, library.device(), resident=self.resident, holding=holding)
        if layout is None:
            room = "the shared memory of the whole GPU" if self.resident else "a block's shared memory, even one unit's"
            kind = {4: "float32", 8: "float64"}[work.itemsize]
            raise DoesNotFitError(f"the weights of {work.units} units, in {kind}, don't fit into {room}")
        return layout

    def _waits(self, layout: Layout) -> bool:
        """Whether blocks wait for each other."""
        return self.resident and layout.unit_groups > 1


class _Made(NamedTuple):
    """What launches of one size have in common."""

    recurrence: Recurrence
    layout: Layout
    kernel: Kernel
    function: Any  # by `Library.shaped`
    waits: bool  # whether blocks wait for each other
    integers: dict[str, int]  # arguments of the kernel


def _rounded_weights(library: Library, recurrence: Recurrence, weight: Any) -> Any:
    """Round the weights to what the kernel reads: (parts * H, depth), with zeros up to a depth of sixteens."""
    backward = recurrence.step.backward
    rows, depth = weight.shape[:: -1 if backward else 1]
    result = library.part(BITS, (rows, sixteens(depth)))
    round_rows(library, weight, result, recurrence.rounded_to, turned=backward)
    return result


def _handed(library: Library, recurrence: Recurrence, arrays: dict[str, Any], first: int, *, alone: bool) -> Any:
    """Make the array in which steps hand on what is rounded; with the state before the first step, if it is ``alone``.

    With several steps in a launch the kernel rounds that state.
    """
    product, (_, batch, units) = recurrence.product, arrays["state_h"].shape
    handed = library.zeros(BITS, (2, batch, sixteens(product.gates * units)))
    if alone and not recurrence.step.backward:
        before, mask = arrays["state_h"][first], arrays["mask"]
        if mask is not None:
            before = library.array(before) * mask
        round_rows(library, before, handed[first % 2], recurrence.rounded_to)
    return handed


def sixteens(depth: int) -> int:
    """A depth up to a multiple of what a tensor core takes at a time."""
    return 16 * -(-depth // 16)


def estimate(
    recurrence: Recurrence, batch: int, units: int, dtype: str, device: Device, *, resident: bool
) -> tuple[float, bool] | None:
    """Estimate the microseconds of a step, all steps in one launch if ``resident``, else each one.

    With it comes whether blocks wait for each other; None where there is no layout.
    """
    work = recurrence.work(batch, units, np.dtype(dtype).itemsize)
    layout = layout_for(work, device, resident=resident)
    if layout is None:
        return None
    waits = resident and layout.unit_groups > 1
    clocks = layout.clocks + early(work, layout.block_units * layout.block_rows, waits)
    return (microseconds if resident else step_by_launch)(clocks, device), waits
