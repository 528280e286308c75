"""What is written for a cell, once for all calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache, wraps
from typing import Any

from recurray.cells.cell import Cell
from recurray.program import record
from recurray_cupy.backward_step import backward_step, gather, shares_gradients
from recurray_cupy.forward_step import Saved, forward_step, hand_on, save
from recurray_cupy.kernel import Kernel
from recurray_cupy.kernels import element_kernel, row_kernel
from recurray_cupy.segments import Segments
from recurray_cupy.step import Step, identifier

MOST_CELLS = 256


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
    input_gates, recurrent_gates, outer_gates, inner_gates : tuple of str
        The cell's, which takes longer to say them.
    states, gradients, params : dict of str to str
        By the cell's names of its states and params the kernels' names, of states also that of the gradient.
    shares_gradients : bool
        Whether each gate's parts from the input and from the output before have one gradient.
    """

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.recording = record(cell)
        self.input_gates, self.recurrent_gates = cell.input_gates, cell.recurrent_gates
        self.outer_gates, self.inner_gates = cell.outer_gates, cell.inner_gates
        self.states = {name: f"state_{identifier(name)}" for name in cell.states}
        self.gradients = {name: f"d_{identifier(name)}" for name in cell.states}
        self.params = {name: f"param_{identifier(name)}" for name in cell.pointwise}
        self.shares_gradients = shares_gradients(cell, self.recording.step_backward)
        self._saved: dict[bool, Saved] = {}
        self._forward: dict[tuple[bool, bool, str], Launches] = {}
        self._backward: dict[tuple[bool, str], Launches] = {}

    def saved(self, *, projected: bool) -> Saved:
        """Where what the step saves for backward is kept."""
        if projected not in self._saved:
            self._saved[projected] = save(self.cell, self.recording.step, projected=projected)
        return self._saved[projected]

    def rounds(self, rounded_to: str, *, projected: bool) -> str:
        """What the kernels round to, if operands of products are rounded: nothing if there are no products."""
        return rounded_to if self.recurrent_gates or projected else ""

    def hand_on(self, rounded_to: str) -> Kernel:
        """What else runs at each step forward where the output is projected; see `recurray_cupy.forward_step`."""
        return hand_on(rounded_to if self.outer_gates else "")

    def gather(self, rounded_to: str) -> Kernel:
        """What else runs at each step backward where the layer's output is projected."""
        return gather(self.cell, rounded_to)

    def forward_step(self, *, keep: bool, projected: bool = False, **options: Any) -> Step:
        """The step forward; see `recurray_cupy.forward_step`."""
        saved = self.saved(projected=projected)
        return forward_step(self.cell, self.recording.step, saved, keep=keep, projected=projected, **options)

    def backward_step(self, *, projected: bool = False, **options: Any) -> Step:
        """The step backward; see `recurray_cupy.backward_step`."""
        saved = self.saved(projected=projected)
        return backward_step(self.cell, self.recording.step_backward, saved, projected=projected, **options)

    def forward(self, *, keep: bool, projected: bool, rounded_to: str = "") -> Launches:
        """The kernels of a step forward, which round operands that are ``rounded_to`` a type."""
        key = keep, projected, rounded_to
        if key not in self._forward:
            rounds = self.rounds(rounded_to, projected=projected)
            self._forward[key] = write(self.forward_step(keep=keep, projected=projected, rounded_to=rounds))
        return self._forward[key]

    def backward(self, *, projected: bool, rounded_to: str = "") -> Launches:
        """The kernels of a step backward, which round the gates' gradients if operands are."""
        key = projected, rounded_to
        if key not in self._backward:
            rounds = rounded_to if self.recurrent_gates else ""
            self._backward[key] = write(self.backward_step(projected=projected, rounded_to=rounds))
        return self._backward[key]

    def kernels(self, *, keep: bool, projected: bool, rounded_to: str = "") -> list[Kernel]:
        """All kernels that a call wants, its backward included if every step is kept."""
        found = [*self.forward(keep=keep, projected=projected, rounded_to=rounded_to).kernels]
        if keep:
            found += self.backward(projected=projected, rounded_to=rounded_to).kernels
        if projected:
            found += [self.hand_on(rounded_to), self.gather(rounded_to)] if keep else [self.hand_on(rounded_to)]
        return found


def by_identity(function: Callable[..., Any]) -> Callable[..., Any]:
    """Remember what a function returns for a cell, which to hash would take longer than a launch."""
    known: dict[int, tuple[Cell, Any]] = {}

    @wraps(function)
    def found(cell: Cell) -> Any:
        here = known.get(id(cell))
        if here is None:
            if len(known) >= MOST_CELLS:
                known.clear()
            here = known[id(cell)] = cell, function(cell)
        return here[1]

    return found


@by_identity
@lru_cache(maxsize=MOST_CELLS)
def compiled(cell: Cell) -> Compiled:
    """Return what is written for a cell; equal cells share it.

    Raises
    ------
    RecordingError
        The cell's step can't be recorded.
    """
    return Compiled(cell)
