"""CuPy as a backend."""

from __future__ import annotations

from typing import Any

from recurray.backend import Backend, BackendUnavailableError

INSTALL = (
    'install CuPy for your CUDA driver: pip install "recurray[cupy13]" (CUDA 13) or '
    'pip install "recurray[cupy12]" (CUDA 12)'
)


class CupyBackend(Backend):
    """CuPy on one CUDA device.

    Work is queued on CuPy's current stream and returns before it is done, as CuPy's own functions do.

    Parameters
    ----------
    device : int, optional
        The device's number; CuPy's current device if omitted.

    Raises
    ------
    BackendUnavailableError
        CuPy isn't installed, or no CUDA device answers.
    """

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

    def scan_forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the reference scan with this backend's device as the current one."""
        with self.device:
            return super().scan_forward(*args, **kwargs)

    def scan_backward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the reference scan backward with this backend's device as the current one."""
        with self.device:
            return super().scan_backward(*args, **kwargs)

    def sum_rows(self, values: Any, index: Any, count: int) -> Any:
        """Add up the rows of ``values`` by ``index``, without atomic additions: equal calls give equal bits."""
        with self.device:
            return super().sum_rows(values, index, count)
