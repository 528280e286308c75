"""The norm of several arrays together, as clipping gradients needs it: a launch for each, and one sum."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from recurray_cupy.kernel import ELEMENT_OF_GRID, Body, Kernel
from recurray_cupy.launcher import Launcher
from recurray_cupy.library import Library
from recurray_cupy.step import Array, Place

PARTS = 4096  # threads for an array, each of which adds up every so many of its squares


def norm(library: Library, arrays: Sequence[Any]) -> Any:
    """Return the root of the sum of the squares of all numbers in arrays of float32, 0-d; the host waits for nothing.

    Squares are added up in double, in which none of float32 is too large or too small, and in the same order each time.
    """
    xp = library.xp
    sums = xp.empty((len(arrays), PARTS), dtype=xp.float64)
    options: dict[str, Any] = {"dtype": "float32", "batch": 1, "units": PARTS, "reverse": False}
    for array, own in zip(arrays, sums, strict=True):
        given = {"values": xp.ascontiguousarray(array), "sums_of_squares": own}
        Launcher(library, squares_kernel(), given, integers={"count": array.size}, **options)(0)
    return xp.sqrt(sums.sum()).astype(xp.float32)


@cache
def squares_kernel() -> Kernel:
    """Write the kernel: each thread's sum of the squares of every n-th of the ``count`` ``values``."""
    body = Body()
    lines = [
        *ELEMENT_OF_GRID,
        "double total = 0;",
        "for (long long i = e; i < count; i += n) {",
        f"    const double value = {body.load(Place(Array('values'), 'i', ''))};",
        "    total += value * value;",
        "}",
        f"{body.store(Array('sums_of_squares', 'double').element())} = total;",
    ]
    return Kernel("sums_of_squares", tuple(lines), body.arguments("count"))
