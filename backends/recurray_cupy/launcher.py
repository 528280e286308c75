"""Launching a kernel again and again on the same arrays, step after step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recurray_cupy.kernel import Kernel, grid_of
from recurray_cupy.library import Library

NULL = np.uintp(0)  # None would be no pointer at all to CuPy, not a null pointer
INTEGER = np.int32


class Launcher:
    """A kernel with all its arguments but the step.

    Kernels get the arrays of all steps and find a step's part themselves: making a view of each array for each step
    would take the host longer than the step takes the GPU.

    Parameters
    ----------
    library : Library
    kernel : Kernel
    arrays : mapping of str to array, address, number or None
        By the names of the arguments; None for a null pointer.
    dtype : str
        "float32" or "float64".
    batch, units : int
        What a launch is over, both above 0.
    reverse : bool
        Whether time runs from the end.
    first : int
        See `recurray_cupy.kernel.INTEGERS`.
    shape : optional
        Of the launch, where it isn't a thread for each element or a block for each row; see `Library.shaped`.
    cooperative : bool
        Whether its blocks wait for each other.
    integers : mapping of str to int, optional
        Further arguments.

    Raises
    ------
    ValueError
        An array isn't contiguous: a kernel would read and write elsewhere.
    """

    def __init__(
        self,
        library: Library,
        kernel: Kernel,
        arrays: Mapping[str, Any],
        *,
        dtype: str,
        batch: int,
        units: int,
        reverse: bool,
        first: int = 0,
        shape: Any = None,
        cooperative: bool = False,
        integers: Mapping[str, int] | None = None,
    ) -> None:
        given = {"batch": batch, "units": units, "reverse": reverse, "first": first, **(integers or {})}
        if shape is None:
            self.function = library.function(kernel, dtype)
            blocks, threads = grid_of(kernel.by_row, batch, units)
        else:
            self.function = library.shaped(kernel, dtype, shape, cooperative=cooperative)
            blocks, threads = shape.blocks, shape.threads
        self.grid, self.block = (blocks,), (threads,)
        arguments: list[Any] = []
        for argument in kernel.arguments[:-2]:  # without start and steps
            if argument.name in given:
                arguments.append(INTEGER(given[argument.name]))
                continue
            value = arrays[argument.name]
            if not argument.is_array:
                arguments.append(np.dtype(dtype).type(value))
            elif value is None:
                arguments.append(NULL)
            elif isinstance(value, np.uintp):
                arguments.append(value)
            elif not value.flags.c_contiguous:
                raise ValueError(f"{argument.name} isn't contiguous")
            else:
                arguments.append(value)
        self.arguments = tuple(arguments)

    def __call__(self, start: int, steps: int = 1) -> None:
        """Launch it for ``steps`` steps from the step ``start``."""
        self.function(self.grid, self.block, (*self.arguments, INTEGER(start), INTEGER(steps)))
