"""Adding up rows by an index: what the gradient of an embedding is."""

from __future__ import annotations

from typing import Any

import numpy as np

from recurray_cupy.kernel import Kernel, kernel
from recurray_cupy.launcher import Launcher
from recurray_cupy.library import Library


def sum_rows(library: Library, values: Any, index: Any, count: int) -> Any:
    """Add up the rows of ``values`` (N, n) by ``index`` (N,): result[k] = sum of values[index == k], (count, n).

    Rows are sorted by their index, and one thread adds up each element in the order in which the rows stood: no
    atomic additions, so equal calls give equal bits. The sums are Kahan's, whose error doesn't grow with N.
    """
    xp = library.xp
    features = values.shape[1]
    result = xp.zeros((count, features), dtype=values.dtype)
    if not (len(index) and count and features):
        return result
    index = index.astype(np.int64)
    order = xp.argsort(index, kind="stable").astype(np.int64)
    arrays = {
        "values": xp.ascontiguousarray(values),
        "order": order,
        "ends": xp.searchsorted(index[order], xp.arange(count, dtype=np.int64), side="right").astype(np.int64),
        "sums_of_rows": result,
    }
    launch = Launcher(
        library, sum_rows_kernel(), arrays, dtype=str(values.dtype), batch=count, units=features, reverse=False
    )
    launch(0)
    return result


def sum_rows_kernel() -> Kernel:
    """Write the kernel: ``order`` (N,) are the rows sorted by index, ``ends`` (count,) where each index ends in it."""
    lines = [
        "const long long e = (long long)blockIdx.x * blockDim.x + threadIdx.x;",
        "if (e >= (long long)batch * units) return;",
        "const long long k = e / units, u = e - k * units;",
        "real total = 0, excess = 0;  // of the total: what rounding has added to it",
        "for (long long p = k ? ends[k - 1] : 0; p < ends[k]; ++p) {",
        "    const real term = values[order[p] * units + u] - excess, sum = total + term;",
        "    excess = (sum - total) - term;",
        "    total = sum;",
        "}",
        "sums_of_rows[e] = total;",
    ]
    return kernel("sum_rows", lines, {"sums_of_rows"})
