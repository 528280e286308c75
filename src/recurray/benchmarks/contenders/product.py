"""The machine's own matrix product: what the layers' time is measured against."""

from __future__ import annotations

import numpy as np

import recurray as rr
from recurray.benchmarks.contenders.base import Job

SIZE = 1024
FLOPS = 2 * SIZE**3


def product(backend: rr.Backend, dtype: str) -> Job:
    """Return the product of two square matrices of 1024 rows, by the backend's own ``matmul``."""
    xp = backend.xp
    a = backend.asarray(np.random.default_rng(0).standard_normal((SIZE, SIZE)), dtype)
    result = xp.empty_like(a)

    def call() -> object:
        return xp.matmul(a, a, out=result)  # NumPy's and CuPy's; into the same memory, so that none is fetched anew

    return Job(call, lambda results: {"product": backend.to_numpy(results)}, synchronize=backend.synchronize)
