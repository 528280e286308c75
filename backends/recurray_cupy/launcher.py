"""Launching a kernel again and again on the same arrays, step after step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recurray_cupy.kernel import Kernel, grid_of
from recurray_cupy.library import Library


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
        given: dict[str, Any]
        given = {"batch": batch, "units": units, "reverse": reverse, "first": first, "start": 0, **(integers or {})}
        if shape is None:
            function = library.function(kernel, dtype)
            blocks, threads = grid_of(kernel.by_row, batch, units)
        else:
            function = library.shaped(kernel, dtype, shape, cooperative=cooperative)
            blocks, threads = shape.blocks, shape.threads
        values = values_of(kernel, {**arrays, **given})
        self._launch = library.bound(function, blocks, threads, packed(library, kernel, dtype, values), values)

    def __call__(self, start: int, steps: int = 1) -> None:
        """Launch it for ``steps`` steps from the step ``start``."""
        self._launch(start, steps)


def values_of(kernel: Kernel, given: Mapping[str, Any]) -> list[Any]:
    """Return a kernel's arguments but for the last, the number of steps, in their order.

    Raises
    ------
    ValueError
        An array isn't contiguous.
    """
    values = [given[name] for name, _ in kernel.given]
    for (name, is_array), value in zip(kernel.given, values, strict=True):
        if is_array and not (value is None or isinstance(value, int) or value.flags.c_contiguous):
            raise ValueError(f"{name} isn't contiguous")
    return values


def packed(library: Library, kernel: Kernel, dtype: str, values: list[Any]) -> bytes:
    """Pack a kernel's arguments, each into 8 bytes; see `Kernel.packing`."""
    address = library.address
    numbers = [
        (0 if value is None else value if isinstance(value, int) else address(value)) if is_array else value
        for (_, is_array), value in zip(kernel.given, values, strict=True)
    ]
    return kernel.packing(dtype).pack(*numbers)
