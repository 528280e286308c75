"""What is written for a cell, once for all calls."""

from __future__ import annotations

from functools import lru_cache

from recurray.cells.cell import Cell
from recurray.program import MEAN, record
from recurray_cupy.backward_step import backward_step, gather, hold, shares_gradients
from recurray_cupy.forward_step import forward_step
from recurray_cupy.kernel import Kernel
from recurray_cupy.launches import Launches, write
from recurray_cupy.recurrence import Recurrence, backward_product, forward_product
from recurray_cupy.saved import Saved, save
from recurray_cupy.tensor_cores import TensorCoreRecurrence


class Compiled:
    """A cell's recorded programs, and the kernels written from them when they are first wanted.

    Attributes
    ----------
    shares_gradients : bool
        Whether each gate's parts from the input and from the output before have one gradient.
    hold, gather : Kernel
        What else runs at each step where the layer's output is projected.
    """

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.recording = record(cell)
        self.shares_gradients = shares_gradients(cell, self.recording.step_backward)
        self.hold = hold()
        self.gather = gather(cell)
        self._saved: dict[bool, Saved] = {}
        self._forward: dict[tuple[bool, bool], Launches] = {}
        self._backward: dict[bool, Launches] = {}
        self._recurrences: dict[tuple[bool | None, str], Recurrence] = {}

    def saved(self, *, projected: bool) -> Saved:
        """Where what the step saves for backward is kept."""
        if projected not in self._saved:
            self._saved[projected] = save(self.cell, self.recording.step, projected=projected)
        return self._saved[projected]

    def forward(self, *, keep: bool, projected: bool) -> Launches:
        """The kernels of a step; see `forward_step`."""
        key = keep, projected
        if key not in self._forward:
            saved = self.saved(projected=projected)
            step = forward_step(self.cell, self.recording.step, saved, keep=keep, projected=projected)
            self._forward[key] = write(step)
        return self._forward[key]

    def backward(self, *, projected: bool) -> Launches:
        """The kernels of a step backward; see `backward_step`."""
        if projected not in self._backward:
            saved = self.saved(projected=projected)
            self._backward[projected] = write(
                backward_step(self.cell, self.recording.step_backward, saved, projected=projected)
            )
        return self._backward[projected]

    def no_recurrence(self, *, projected: bool) -> str | None:
        """Why kernels can't make the recurrent product themselves; None if they can."""
        if not self.cell.outer_gates:
            return "it has no product with the output before"
        if self.cell.inner_gates:
            return "it has a product amid the step"
        if projected:
            return "its output is projected"
        programs = self.recording.step, self.recording.step_backward
        if any(value.operation == MEAN for program in programs for value in program.values):
            return "it takes means over the units"
        return None

    def recurrence(self, *, keep: bool | None, small: str = "") -> Recurrence:
        """A step and its product, in one kernel: forward, keeping every step or not, or backward for None.

        ``small`` is the type of the product's operands, if it isn't that of the arrays; then it is on tensor cores.
        """
        if (keep, small) not in self._recurrences:
            saved, cell = self.saved(projected=False), self.cell
            if keep is None:
                step = backward_step(cell, self.recording.step_backward, saved, projected=False, whole=True)
                product = backward_product(cell, shared=self.shares_gradients)
            else:
                step = forward_step(cell, self.recording.step, saved, keep=keep, projected=False, whole=True)
                product = forward_product(cell)
            backward = keep is None
            self._recurrences[keep, small] = (
                TensorCoreRecurrence(step, product, backward=backward, small=small)
                if small
                else Recurrence(step, product, backward=backward)
            )
        return self._recurrences[keep, small]

    def kernels(self, *, keep: bool, projected: bool) -> list[Kernel]:
        """All kernels that a call wants, its backward included if every step is kept."""
        found = [*self.forward(keep=keep, projected=projected).kernels]
        if keep:
            found += self.backward(projected=projected).kernels
        if projected:
            found += [self.hold, self.gather] if keep else [self.hold]
        return found


@lru_cache(maxsize=256)
def compiled(cell: Cell) -> Compiled:
    """Return what is written for a cell; equal cells share it.

    Raises
    ------
    RecordingError
        The cell's step can't be recorded.
    """
    return Compiled(cell)
