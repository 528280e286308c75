"""The CuPy backend on the CPU, with a library that stands in for CuPy."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from recurray_cupy import CupyBackend
from recurray_cupy.library import CompilationError


def backend_on(library):
    """The backend, but on the CPU."""
    backend = object.__new__(CupyBackend)
    stream = SimpleNamespace(synchronize=lambda: None, is_capturing=lambda: False)
    cuda = SimpleNamespace(get_current_stream=lambda: stream)
    backend._cupy = SimpleNamespace(ndarray=np.ndarray, asnumpy=np.array, cuda=cuda)
    backend.xp = np
    backend.device, backend.name = HostDevice("cpu"), "cupy"
    backend.library, backend.strategy, backend.compute_dtype = library, "auto", None
    backend._known, backend._refused, backend._warned = {}, set(), set()
    return backend


class HostDevice(str):
    """NumPy's device, which CuPy's way of choosing one may be applied to."""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


class NoCompiler:
    """A library whose compiler refuses some kernels."""

    def __init__(self, library, refused):
        self.library, self.refused = library, refused

    def __getattr__(self, name):
        return getattr(self.library, name)

    def function(self, kernel, dtype):
        if kernel.name.endswith(self.refused):
            raise CompilationError(f"the kernel {kernel.name} doesn't compile: line 1")
        return self.library.function(kernel, dtype)
