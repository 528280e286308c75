"""Running the kernels that make the recurrent product themselves."""

from __future__ import annotations

from typing import Any

import numpy as np

from recurray_cupy.kernel import Kernel
from recurray_cupy.launcher import Launcher
from recurray_cupy.layout import Layout, layout_for
from recurray_cupy.library import DoesNotFitError, Library
from recurray_cupy.recurrence import Recurrence


def run_recurrence(
    library: Library,
    recurrence: Recurrence,
    arrays: dict[str, Any],
    *,
    persistent: bool,
    dtype: str,
    batch: int,
    units: int,
    reverse: bool,
    start: int,
    steps: int,
    first: int = 0,
    skip: int = -1,
) -> None:
    """Run ``steps`` steps from the step ``start``, in one launch if ``persistent``, else in one each.

    Parameters
    ----------
    library : Library
    recurrence : Recurrence
    arrays : dict
        By the names of the kernel's arguments.
    dtype, batch, units, reverse, first
        See `Launcher`.
    skip : int
        The step that has no product, -1 if there is none.

    Raises
    ------
    DoesNotFitError
        There is no layout for the device, or not all of its blocks can be on the GPU at once.
    CompilationError
        The kernel doesn't compile.
    """
    layout, kernel = ready(library, recurrence, persistent=persistent, dtype=dtype, batch=batch, units=units)
    waiting = _waiting(layout, persistent) and steps > 1
    arrays = arrays | {"fault": library.fault, "skip": skip}
    arrays["arrivals"] = library.xp.zeros((32 * layout.row_groups,), dtype=np.uint32) if waiting else None
    options: dict[str, Any] = {"dtype": dtype, "batch": batch, "units": units, "reverse": reverse, "first": first}
    launch = Launcher(library, kernel, arrays, layout=layout, cooperative=waiting, **options)
    if persistent:
        launch(start, steps)
    else:
        stride = -1 if recurrence.backward != reverse else 1
        library.repeat(launch, range(start, start + stride * steps, stride))


def ready(
    library: Library, recurrence: Recurrence, *, persistent: bool, dtype: str, batch: int, units: int
) -> tuple[Layout, Kernel]:
    """Choose the layout and compile the kernel; raises what `run_recurrence` does."""
    work = recurrence.work(batch, units, np.dtype(dtype).itemsize)
    layout = layout_for(work, library.device(), resident=persistent)
    if layout is None:
        whole = "the shared memory of the whole GPU" if persistent else "a block's shared memory, even one unit's"
        raise DoesNotFitError(f"the weights of {units} units, in {dtype}, don't fit into {whole}")
    kernel = recurrence.kernel(layout.tile, layout.threads)
    library.laid_out(kernel, dtype, layout, cooperative=_waiting(layout, persistent))
    return layout, kernel


def _waiting(layout: Layout, persistent: bool) -> bool:
    """Whether blocks wait for each other."""
    return persistent and layout.unit_groups > 1
