"""Kernels that make the recurrent product themselves, for all steps in one launch, or for one step.

    of_cell       a cell's kernels, or why it has none
    recurrence    writes such a kernel around a step; its fixed text is in recurrence.cuh
    tensor_cores  likewise, for operands rounded to float16 or bfloat16, with tensor_cores.cuh
    product       what is multiplied by what
    elements      how a thread goes through the units and rows for which it computes the cell
    waiting       how blocks wait for each other
    layout        divides the units and rows among the blocks of the launch
    plan          a layout and sizes that are constants of a kernel

`recurray_cupy.strategies` alone imports this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from recurray.cells.cell import Cell
from recurray_cupy.compiled import Way
from recurray_cupy.costs import Work, microseconds, step_by_launch
from recurray_cupy.graphs import launch_steps
from recurray_cupy.kernel import Kernel
from recurray_cupy.launcher import Launcher
from recurray_cupy.library import Device, DoesNotFitError, Library
from recurray_cupy.persistent.layout import Layout, layout_for
from recurray_cupy.persistent.of_cell import recurrence_of, why_not
from recurray_cupy.persistent.plan import INTEGERS, Plan
from recurray_cupy.persistent.recurrence import Recurrence
from recurray_cupy.products import rounded

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
        if rounded_to:
            arrays["weight"] = _rounded_weights(library, recurrence, arrays["weight"])
            alone = steps == 1 or not self.resident
            arrays["handed"] = _handed(library, recurrence, arrays, start + options["reverse"], alone=alone)
        integers = {name: skip if name == "skip" else getattr(layout, name) for name in INTEGERS}
        options |= {"shape": layout, "cooperative": waiting, "integers": integers}
        if self.resident:
            Launcher(library, kernel, arrays, **options)(start, steps)
            return
        stride = -1 if recurrence.step.backward != options["reverse"] else 1
        launch_steps(library, kernel, arrays, range(start, start + stride * steps, stride), **options)

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


def _rounded_weights(library: Library, recurrence: Recurrence, weight: Any) -> Any:
    """Round the weights to what the kernel reads: (parts * H, depth), with zeros up to a depth of sixteens."""
    a = library.xp.ascontiguousarray(weight.T) if recurrence.step.backward else weight
    bits = rounded(library, a, recurrence.rounded_to)
    rows, depth = bits.shape
    if depth % 16 == 0:
        return bits
    result = library.xp.zeros((rows, 16 * -(-depth // 16)), dtype=np.uint16)
    result[:, :depth] = bits
    return result


def _handed(library: Library, recurrence: Recurrence, arrays: dict[str, Any], first: int, *, alone: bool) -> Any:
    """Make the array in which steps hand on what is rounded; with the state before the first step, if it is ``alone``.

    With several steps in a launch the kernel rounds that state.
    """
    product, (_, batch, units) = recurrence.product, arrays["state_h"].shape
    depth = product.gates * units
    handed = library.xp.zeros((2, batch, 16 * -(-depth // 16)), dtype=np.uint16)
    if alone and not recurrence.step.backward:
        before, mask = arrays["state_h"][first], arrays["mask"]
        before = before if mask is None else before * mask
        handed[first % 2, :, :depth] = rounded(library, before, recurrence.rounded_to)
    return handed


def estimate(
    recurrence: Recurrence, batch: int, units: int, dtype: str, device: Device, *, resident: bool
) -> tuple[float, bool] | None:
    """Estimate the microseconds of a step, all steps in one launch if ``resident``, else each one.

    With it comes whether blocks wait for each other; None where there is no layout.
    """
    layout = layout_for(recurrence.work(batch, units, np.dtype(dtype).itemsize), device, resident=resident)
    if layout is None:
        return None
    if resident:
        return microseconds(layout.clocks, device), layout.unit_groups > 1
    return step_by_launch(layout.clocks, device), False
