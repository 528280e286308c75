"""The ways in which a recurrence can run, from the fastest to the slowest, and the rule that chooses one.

=============  ======================================================================================================
"persistent"   one launch for all steps; the weights of the recurrent product stay in the GPU's shared memory
"step"         the same kernel, one launch a step; launched as a CUDA graph where the same arrays come again
"fused"        the library's product and a kernel for the cell, each step; all steps in one launch where no unit waits
               for another's output
"reference"    the library's own functions, `recurray.scan`
=============  ======================================================================================================

A strategy that can't run a cell or a size leaves it to the next. Which comes first may be left to a rule, which
estimates what a step takes by each.
"""

from __future__ import annotations

from dataclasses import dataclass

from recurray.cells.cell import Cell
from recurray_cupy.compiled import Way
from recurray_cupy.costs import step_by_library
from recurray_cupy.library import Device, DoesNotFitError, Library
from recurray_cupy.persistent import Recurrence, Whole, estimate, recurrence_of, why_not

PERSISTENT, STEP, FUSED, REFERENCE = STRATEGIES = ("persistent", "step", "fused", "reference")
WHOLE = {PERSISTENT: Whole(resident=True), STEP: Whole(resident=False)}  # they make the recurrent product themselves
DEFAULT, AUTO = "default", "auto"
# Among which the rule chooses. Where blocks wait for each other, a mistake in their barrier would show on a GPU alone:
# once `tests/gpu_check.py` has passed on one, `WAITING` holds for both. This is the one place that says so.
WAITING = {DEFAULT: False, AUTO: True}


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
    """Return ``strategy`` if it is one, or one that leaves it to the rule."""
    known = (*WAITING, *STRATEGIES)
    if strategy not in known:
        raise ValueError(f"strategy must be one of {', '.join(map(repr, known))}, not {strategy!r}")
    return strategy


def strategies_for(strategy: str, call: Call, device: Device) -> tuple[str, ...]:
    """Return the strategies to try, in this order, where the user has asked for ``strategy``.

    1. What needs no product with the output before is "fused", all steps in one launch. So is an empty batch.
    2. A strategy that the user has asked for comes first, and after it the slower ones.
    3. Left to the rule it is the one that is estimated to take the least time: by "auto" any, by "default" one in which
       no block waits for another.
    """
    first = FUSED
    if call.cell.outer_gates and call.shape[1] and call.units:
        if strategy in WAITING:
            found = estimates(call, device, waiting=WAITING[strategy])
            first = min(found, key=lambda name: found[name], default=FUSED)
        else:
            first = strategy
    return STRATEGIES[STRATEGIES.index(first) :]


def estimates(call: Call, device: Device, *, waiting: bool) -> dict[str, float]:
    """Estimate the microseconds of a step by each strategy that can do it, ``waiting``: those whose blocks wait too.

    Empty where no kernel can make the product itself, and there is nothing to choose.
    """
    recurrence = call.recurrence
    if recurrence is None:
        return {}
    batch, units, found = call.shape[1], call.units, {}
    for name, whole in WHOLE.items():
        one = estimate(recurrence, batch, units, call.dtype, device, resident=whole.resident)
        if one is not None and (waiting or not one[1]):
            found[name] = one[0]
    itemsize = 4 if call.dtype == "float32" else 8
    found[FUSED] = step_by_library(recurrence.work(batch, units, itemsize), device)
    return found


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
