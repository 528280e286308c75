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

from dataclasses import dataclass

from recurray.cells.cell import Cell
from recurray_cupy.compiled import Way
from recurray_cupy.library import Device, DoesNotFitError, Library
from recurray_cupy.persistent import Recurrence, Whole, pays, recurrence_of, why_not

PERSISTENT, STEP, FUSED, REFERENCE = STRATEGIES = ("persistent", "step", "fused", "reference")
WHOLE = {PERSISTENT: Whole(resident=True), STEP: Whole(resident=False)}  # they make the recurrent product themselves
AUTO = "auto"


@dataclass(frozen=True)
class Call:
    """What the strategy of a scan depends on."""

    cell: Cell
    dtype: str
    shape: tuple[int, int]  # steps and rows
    units: int
    projected: bool
    way: Way
    rounded_to: str  # what the products' operands are rounded to; empty if they aren't

    @property
    def recurrence(self) -> Recurrence | None:
        """The step with its product; None where no kernel can make that itself, or where there are no elements."""
        if not (all(self.shape) and self.units) or why_not(self.cell, projected=self.projected) is not None:
            return None
        return recurrence_of(self.cell, self.way, self.rounded_to)


def check_strategy(strategy: str) -> str:
    """Return ``strategy`` if it is one, or "auto"."""
    if strategy not in (AUTO, *STRATEGIES):
        raise ValueError(f"strategy must be one of {', '.join(map(repr, (AUTO, *STRATEGIES)))}, not {strategy!r}")
    return strategy


def strategies_for(strategy: str, call: Call, device: Device) -> tuple[str, ...]:
    """Return the strategies to try, in this order, where the user has asked for ``strategy``.

    1. What needs no product with the output before is "fused", all steps in one launch. So is an empty batch.
    2. A strategy that the user has asked for comes first, and after it the slower ones.
    3. Left to the rule, "auto", it is "persistent" if there is a layout for the sizes that is estimated to take less
       time than the library's product and a launch for the cell; else "fused".
    """
    first = FUSED
    if call.cell.outer_gates and call.shape[1] and call.units:
        if strategy != AUTO:
            first = strategy
        elif (found := call.recurrence) is not None and pays(found, call.shape[1], call.units, call.dtype, device):
            first = PERSISTENT
    return STRATEGIES[STRATEGIES.index(first) :]


def prepare(library: Library, strategy: str, call: Call) -> None:
    """Compile what a strategy needs but for the kernels of "fused".

    Raises
    ------
    DoesNotFitError, CompilationError
        The strategy can't do it.
    """
    whole = WHOLE.get(strategy)
    if whole is None:
        return
    why = why_not(call.cell, projected=call.projected)
    if why is not None:
        raise DoesNotFitError(why)
    if call.recurrence is not None:
        whole.ready(library, call.recurrence, dtype=call.dtype, batch=call.shape[1], units=call.units)
