"""CuPy as a backend."""

from __future__ import annotations

import sys
import warnings
from functools import partial
from typing import Any

from recurray import parts
from recurray.backend import Backend, BackendUnavailableError
from recurray.cells.cell import Cell, Weights
from recurray.recording import RecordingError
from recurray_cupy.backward import backward
from recurray_cupy.compiled import compiled
from recurray_cupy.forward import ScanCache, forward
from recurray_cupy.library import CompilationError, CupyLibrary, Library
from recurray_cupy.prelude import REALS
from recurray_cupy.sum_rows import sum_rows

INSTALL = (
    'install CuPy for your CUDA driver: pip install "recurray[cupy13]" (CUDA 13) or '
    'pip install "recurray[cupy12]" (CUDA 12)'
)


class CupyBackend(Backend):
    """CuPy on one CUDA device.

    Cells are recorded, and kernels written from them: one launch for a step forward, one for a step backward; see
    `recurray_cupy.forward`. A cell that can't be recorded, or whose kernels don't compile, runs by the reference
    path, after a warning. Work is queued on CuPy's current stream and returns before it is done, as CuPy's own
    functions do.

    This has not been run on a GPU yet. Its kernels were compiled for GPUs, and run, with all that surrounds them, as
    C++ on a CPU.

    Parameters
    ----------
    device : int, optional
        The device's number; CuPy's current device if omitted.

    Raises
    ------
    BackendUnavailableError
        CuPy isn't installed, or no CUDA device answers.
    """

    steps_together = 512

    def __init__(self, device: int | None = None) -> None:
        try:
            import cupy
        except ImportError as error:
            raise BackendUnavailableError(f"CuPy can't be imported ({error}); {INSTALL}") from error
        try:
            count = cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise BackendUnavailableError(
                f"CuPy {cupy.__version__} is installed, but no CUDA device answers ({error}); "
                "check with nvidia-smi that a driver runs and is new enough"
            ) from error
        if count == 0:
            raise BackendUnavailableError(f"CuPy {cupy.__version__} is installed, but this machine has no CUDA device")
        if device is not None and not 0 <= device < count:
            raise BackendUnavailableError(f"there is no CUDA device {device}; this machine has {count}")
        from array_api_compat import cupy as namespace

        self._cupy = cupy
        self.name = "cupy"
        self.xp = namespace
        self.device = cupy.cuda.Device() if device is None else cupy.cuda.Device(device)
        self.library: Library = CupyLibrary()
        self._slow: set[tuple[Cell, str]] = set()  # what has been warned of

    def asarray(self, x: Any, dtype: str | None = None) -> Any:
        """Return ``x`` (an array of any library, a list, a number) as a CuPy array on this backend's device."""
        with self.device:
            if self.owns(x) and not self.on_device(x):
                return self._cupy.array(x, dtype=dtype)  # from device to device
            return super().asarray(x, dtype)

    def owns(self, a: Any) -> bool:
        """Tell whether ``a`` is a CuPy array (on whatever device)."""
        return isinstance(a, self._cupy.ndarray)

    def to_numpy(self, a: Any) -> Any:
        """Return a NumPy copy of ``a``."""
        return self._cupy.asnumpy(a) if self.owns(a) else super().to_numpy(a)

    def synchronize(self) -> None:
        """Wait until the current stream of this backend's device has done what it was given."""
        with self.device:
            self._cupy.cuda.get_current_stream().synchronize()

    def release_memory(self) -> None:
        """Give back the memory that CuPy's memory pool keeps for later arrays."""
        with self.device:
            self._cupy.get_default_memory_pool().free_all_blocks()

    def scan_forward(
        self, cell: Cell, weights: Weights, x: Any, start: tuple[Any, ...], **options: Any
    ) -> tuple[Any, tuple[Any, ...], Any]:
        """Run a cell over time; see `recurray.scan.forward`."""
        with self.device:
            if self._has_kernels(cell, weights, str(x.dtype), keep=options.get("keep", True)):
                together = self.steps_together if options.get("recompute") else sys.maxsize
                return parts.forward(partial(forward, self.library), together, cell, weights, x, start, **options)
            return super().scan_forward(cell, weights, x, start, **options)

    def scan_backward(
        self, cell: Cell, cache: Any, dy: Any, dend: tuple[Any, ...]
    ) -> tuple[Any, tuple[Any, ...], Weights]:
        """Backward through time; see `recurray.scan.backward`."""
        with self.device:
            if isinstance(cache, ScanCache):
                return backward(self.library, cell, cache, dy, dend)
            return super().scan_backward(cell, cache, dy, dend)

    def _has_kernels(self, cell: Cell, weights: Weights, dtype: str, *, keep: bool) -> bool:
        """Compile a cell's kernels, those of backward too if it is to follow; warn, once, if there are none."""
        if (cell, dtype) in self._slow:
            return False
        try:
            if dtype not in REALS:
                raise CompilationError(f"there are kernels for {' and '.join(REALS)}, not for {dtype}")
            for kernel in compiled(cell).kernels(keep=keep, projected=weights.projection is not None):
                self.library.function(kernel, dtype)
        except (RecordingError, CompilationError) as error:
            self._slow.add((cell, dtype))
            warnings.warn(f"{type(cell).__name__} runs slowly, by the reference path: {error}", stacklevel=4)
            return False
        return True

    def sum_rows(self, values: Any, index: Any, count: int) -> Any:
        """Add up the rows of ``values`` by ``index``, without atomic additions: equal calls give equal bits."""
        with self.device:
            if str(values.dtype) in REALS:
                return sum_rows(self.library, values, index, count)
            return super().sum_rows(values, index, count)
