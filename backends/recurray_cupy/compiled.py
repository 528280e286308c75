"""What is written for a cell, once for all calls."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from recurray.cells.cell import Cell
from recurray.program import record
from recurray_cupy.backward_step import backward_step, gather, shares_gradients
from recurray_cupy.forward_step import Saved, forward_step, hold, save
from recurray_cupy.kernel import Kernel
from recurray_cupy.kernels import element_kernel, row_kernel
from recurray_cupy.segments import Segments
from recurray_cupy.step import Step


@dataclass(frozen=True)
class Launches:
    """The launches of a step.

    Attributes
    ----------
    kernels : tuple of Kernel
        One, or two with a product between them.
    work, work_rows : int
        How many arrays (B, H) and (B,) they hand numbers on in.
    """

    kernels: tuple[Kernel, ...]
    work: int
    work_rows: int


def write(step: Step) -> Launches:
    """Write the kernels of a step."""
    segments = Segments(step)
    kernels = []
    for k, launch in enumerate(segments.launches):
        name = step.name if len(segments.launches) == 1 else f"{step.name}_{k + 1}"
        if segments.by_row(launch):
            kernels.append(row_kernel(name, segments, launch))
        else:
            (s,) = launch
            kernels.append(element_kernel(name, segments, s))
    return Launches(tuple(kernels), len(segments.work), len(segments.work_rows))


class Way(Enum):
    """Which way through time the steps go, and what of them is kept."""

    INFERENCE = "forward, keeping nothing"
    TRAINING = "forward, keeping every step"
    BACKWARD = "backward"


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

    def saved(self, *, projected: bool) -> Saved:
        """Where what the step saves for backward is kept."""
        if projected not in self._saved:
            self._saved[projected] = save(self.cell, self.recording.step, projected=projected)
        return self._saved[projected]

    def forward_step(self, *, keep: bool, projected: bool = False, whole: bool = False) -> Step:
        """The step forward; see `recurray_cupy.forward_step`."""
        saved = self.saved(projected=projected)
        return forward_step(self.cell, self.recording.step, saved, keep=keep, projected=projected, whole=whole)

    def backward_step(self, *, projected: bool = False, whole: bool = False) -> Step:
        """The step backward; see `recurray_cupy.backward_step`."""
        saved = self.saved(projected=projected)
        return backward_step(self.cell, self.recording.step_backward, saved, projected=projected, whole=whole)

    def forward(self, *, keep: bool, projected: bool) -> Launches:
        """The kernels of a step forward."""
        key = keep, projected
        if key not in self._forward:
            self._forward[key] = write(self.forward_step(keep=keep, projected=projected))
        return self._forward[key]

    def backward(self, *, projected: bool) -> Launches:
        """The kernels of a step backward."""
        if projected not in self._backward:
            self._backward[projected] = write(self.backward_step(projected=projected))
        return self._backward[projected]

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
