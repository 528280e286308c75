"""The ways in which a recurrence can run, from the fastest to the slowest, and the rule that chooses one.

=============  ======================================================================================================
"persistent"   one launch for all steps; the weights of the recurrent product stay in the GPU's shared memory
"step"         the same kernel, one launch a step; launched as a CUDA graph where the same arrays come again
"fused"        the library's product and a kernel for the cell, each step; all steps in one launch where no unit waits
               for another's output
"reference"    the library's own functions, `recurray.scan`
=============  ======================================================================================================

A stage that can't run a cell or a size leaves it to the next.
"""

from __future__ import annotations

from recurray.cells.cell import Cell
from recurray_cupy.plan import Device, clocks_by_library, plan_for
from recurray_cupy.prelude import REALS
from recurray_cupy.recurrence import Recurrence

PERSISTENT, STEP, FUSED, REFERENCE = STAGES = ("persistent", "step", "fused", "reference")
WHOLE = (PERSISTENT, STEP)  # their kernels make the recurrent product themselves
AUTO = "auto"


def check_stage(stage: str) -> str:
    """Return ``stage`` if it is one, or "auto"."""
    if stage not in (AUTO, *STAGES):
        raise ValueError(f"stage must be one of {', '.join(map(repr, (AUTO, *STAGES)))}, not {stage!r}")
    return stage


def stages_for(
    stage: str,
    cell: Cell,
    recurrence: Recurrence | None,
    batch: int,
    units: int,
    dtype: str,
    device: Device,
) -> tuple[str, ...]:
    """Return the stages to try, in this order.

    1. What needs no product with the output before is "fused", all steps in one launch. So is an empty batch.
    2. A stage that the user has asked for comes first, and after it the slower ones.
    3. Left to the rule, it is "persistent" if there is a layout for the sizes that is estimated to take less time than
       the library's product and a launch for the cell; else "fused".

    Parameters
    ----------
    stage : str
        What the user has asked for: "auto" or one of `STAGES`.
    cell : Cell
    recurrence : Recurrence or None
        The step with its product; None where no kernel can make that itself, or where there are no elements.
    batch, units, dtype
        Of the recurrence.
    device : Device
    """
    if not (cell.outer_gates and batch and units):
        return STAGES[STAGES.index(FUSED) :]
    if stage != AUTO:
        return STAGES[STAGES.index(stage) :]
    if recurrence is None:
        return STAGES[STAGES.index(FUSED) :]
    work = recurrence.work(batch, units, ITEMSIZE[dtype])
    plan = plan_for(work, device, resident=True)
    if plan is None or plan.clocks > clocks_by_library(work, device):
        return STAGES[STAGES.index(FUSED) :]
    return STAGES


ITEMSIZE = dict(zip(REALS, (4, 8), strict=True))
