"""All kernels of a step."""

from __future__ import annotations

from dataclasses import dataclass

from recurray_cupy.elements import element_kernel
from recurray_cupy.kernel import Kernel
from recurray_cupy.rows import row_kernel
from recurray_cupy.step import Step
from recurray_cupy.stretches import Stretches


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
    stretches = Stretches(step)
    launches = stretches.schedule.launches()
    kernels = []
    for k, launch in enumerate(launches):
        name = step.name if len(launches) == 1 else f"{step.name}_{k + 1}"
        if stretches.by_row(launch):
            kernels.append(row_kernel(name, stretches, launch))
        else:
            (s,) = launch
            kernels.append(element_kernel(name, stretches, s))
    return Launches(tuple(kernels), len(stretches.work), len(stretches.work_rows))
