"""Launching a kernel again and again on the same arrays, step after step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recurray_cupy.kernel import Kernel, grid_of
from recurray_cupy.library import Library
from recurray_cupy.parts import Part


class Launcher:
    """A kernel with all its arguments but the step.

    Kernels get the arrays of all steps and find a step's part themselves: making a view of each array for each step
    would take the host longer than the step takes the GPU.

    Parameters
    ----------
    library : Library
    kernel : Kernel
    arrays : mapping of str to array, part, address, number or None
        By the names of the arguments; None for a null pointer.
    dtype : str
        "float32" or "float64".
    batch, units : int
        What a launch is over, both above 0.
    reverse : bool
        Whether time runs from the end.
    first : int
        See `recurray_cupy.kernel.INTEGERS`.
    shape, function : optional
        Of the launch, where it isn't a thread for each element or a block for each row; see `Library.shaped`.
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
        function: Any = None,
        integers: Mapping[str, int] | None = None,
    ) -> None:
        given = {**arrays, "batch": batch, "units": units, "reverse": reverse, "first": first, "start": 0}
        if integers is not None:
            given.update(integers)
        if shape is None:
            function = library.function(kernel, dtype)
            blocks, threads = grid_of(kernel.by_row, batch, units)
        else:
            blocks, threads = shape.blocks, shape.threads
        values = [given[name] for name in kernel.given]
        self._launch = library.bound(function, blocks, threads, packed(library, kernel, dtype, values), values)

    def __call__(self, start: int, steps: int = 1) -> None:
        """Launch it for ``steps`` steps from the step ``start``."""
        self._launch(start, steps)


def packed(library: Library, kernel: Kernel, dtype: str, values: Sequence[Any]) -> bytes:
    """Pack a kernel's arguments but for the last, the number of steps, into 8 bytes each; see `Kernel.packing`.

    Raises
    ------
    ValueError
        An array isn't contiguous.
    """
    count = kernel.arrays
    numbers = []
    for k, value in enumerate(values[:count]):
        if type(value) is Part:
            numbers.append(value.address)
        elif value is None:
            numbers.append(0)
        elif type(value) is int:
            numbers.append(value)
        elif value.flags.c_contiguous:
            numbers.append(library.address(value))
        else:
            raise ValueError(f"{kernel.given[k]} isn't contiguous")
    return kernel.packing(dtype).pack(*numbers, *values[count:])
