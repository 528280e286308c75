"""The kernels of a cell, and why it may have none."""

from __future__ import annotations

from functools import lru_cache

from recurray.cells.cell import Cell
from recurray.program import MEAN
from recurray_cupy.compiled import Way, compiled
from recurray_cupy.persistent.product import backward_product, forward_product
from recurray_cupy.persistent.recurrence import Recurrence
from recurray_cupy.persistent.tensor_cores import TensorCoreRecurrence


@lru_cache(maxsize=1024)
def why_not(cell: Cell, *, projected: bool) -> str | None:
    """Return why kernels can't make a cell's recurrent product themselves; None if they can."""
    if not cell.outer_gates:
        return "it has no product with the output before"
    if cell.inner_gates:
        return "it has a product amid the step"
    if projected:
        return "its output is projected"
    recording = compiled(cell).recording
    programs = recording.step, recording.step_backward
    if any(value.operation == MEAN for program in programs for value in program.values):
        return "it takes means over the units"
    return None


@lru_cache(maxsize=1024)
def recurrence_of(cell: Cell, way: Way, rounded_to: str = "") -> Recurrence:
    """Return a step and its product, in one kernel.

    ``rounded_to`` is the type of the product's operands, if it isn't that of the arrays; then it is on tensor cores.
    """
    code = compiled(cell)
    if way is Way.BACKWARD:
        step, product = code.backward_step(whole=True), backward_product(cell, shared=code.shares_gradients)
    else:
        step, product = code.forward_step(keep=way is Way.TRAINING, whole=True), forward_product(cell)
    return TensorCoreRecurrence(step, product, rounded_to=rounded_to) if rounded_to else Recurrence(step, product)
