"""The ways in which a recurrence can run, from the fastest to the slowest, and the rule that chooses one.

=============  ======================================================================================================
"persistent"   one launch for all steps; the weights of the recurrent product stay in the GPU's shared memory
"step"         the same kernel, one launch a step; launched as a CUDA graph where the same arrays come again
"fused"        the library's product and a kernel for the cell, each step; all steps in one launch where no unit waits
               for another's output
"reference"    the library's own functions, `recurray.scan`
=============  ======================================================================================================

A strategy that can't run a cell or a size leaves it to the next.
"""

from __future__ import annotations

from recurray.cells.cell import Cell
from recurray_cupy.layout import Device, clocks_by_library, layout_for
from recurray_cupy.prelude import REALS
from recurray_cupy.recurrence import Recurrence

PERSISTENT, STEP, FUSED, REFERENCE = STRATEGIES = ("persistent", "step", "fused", "reference")
WHOLE = (PERSISTENT, STEP)  # their kernels make the recurrent product themselves
AUTO = "auto"


def check_strategy(strategy: str) -> str:
    """Return ``strategy`` if it is one, or "auto"."""
    if strategy not in (AUTO, *STRATEGIES):
        raise ValueError(f"strategy must be one of {', '.join(map(repr, (AUTO, *STRATEGIES)))}, not {strategy!r}")
    return strategy


def strategies_for(
    strategy: str,
    cell: Cell,
    recurrence: Recurrence | None,
    batch: int,
    units: int,
    dtype: str,
    device: Device,
) -> tuple[str, ...]:
    """Return the strategies to try, in this order.

    1. What needs no product with the output before is "fused", all steps in one launch. So is an empty batch.
    2. A strategy that the user has asked for comes first, and after it the slower ones.
    3. Left to the rule, it is "persistent" if there is a layout for the sizes that is estimated to take less time than
       the library's product and a launch for the cell; else "fused".

    Parameters
    ----------
    strategy : str
        What the user has asked for: "auto" or one of `STRATEGIES`.
    cell : Cell
    recurrence : Recurrence or None
        The step with its product; None where no kernel can make that itself, or where there are no elements.
    batch, units, dtype
        Of the recurrence.
    device : Device
    """
    if not (cell.outer_gates and batch and units):
        return STRATEGIES[STRATEGIES.index(FUSED) :]
    if strategy != AUTO:
        return STRATEGIES[STRATEGIES.index(strategy) :]
    if recurrence is None:
        return STRATEGIES[STRATEGIES.index(FUSED) :]
    work = recurrence.work(batch, units, ITEMSIZE[dtype])
    layout = layout_for(work, device, resident=True)
    if layout is None or layout.clocks > clocks_by_library(work, device):
        return STRATEGIES[STRATEGIES.index(FUSED) :]
    return STRATEGIES


ITEMSIZE = dict(zip(REALS, (4, 8), strict=True))
