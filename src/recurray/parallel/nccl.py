"""Gradients of GPUs by NCCL, all else by another communicator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recurray import checks
from recurray.arrays import Array
from recurray.messages import kind_of, shown
from recurray.parallel.buckets import buckets_of
from recurray.parallel.communicator import Communicator


class NCCLCommunicator(Communicator):
    """Ranks that have a GPU each, whose gradients stay on the GPUs; the rest goes by ``control``.

    It hasn't run on a GPU yet. Each rank chooses its device first: ``cupy.cuda.Device(number).use()``.

    Parameters
    ----------
    control : Communicator
        By which the ranks find each other and exchange all that is small: an `MPICommunicator`.
    bucket_size : int
        Bytes of gradients to a message, about.

    Raises
    ------
    TypeError
        ``control`` isn't a communicator.
    ModuleNotFoundError
        CuPy isn't installed.
    RuntimeError
        CuPy doesn't find NCCL, on this rank or on another.
    """

    def __init__(self, control: Communicator, *, bucket_size: int = 16 * 2**20) -> None:
        if not isinstance(control, Communicator):
            raise TypeError(f"control must be a Communicator, not {kind_of(control)} {shown(control)}")
        self._bucket_size = checks.size("bucket_size", bucket_size)
        self._control, self.rank, self.size = control, control.rank, control.size
        import cupy

        try:
            from cupy.cuda import nccl

            here = bool(nccl.available)
        except ImportError:
            here = False
        if control.sums([float(here)])[0] < self.size:
            where = "another rank" if here else "this rank"
            raise RuntimeError(f"CuPy doesn't find NCCL on {where}: pip install nvidia-nccl-cu13, or -cu12")
        import pickle

        told = control.broadcast(pickle.dumps(nccl.get_unique_id()) if self.rank == 0 else b"")
        self._cupy, self._nccl = cupy, nccl
        self._comm: Any = nccl.NcclCommunicator(self.size, pickle.loads(told), self.rank)  # noqa: S301 - from rank 0

    def sums(self, numbers: Sequence[float]) -> list[float]:
        """See `Communicator.sums`."""
        return self._control.sums(numbers)

    def total(self, arrays: Mapping[str, Array], share: float) -> dict[str, Array]:
        """See `Communicator.total`; it waits for no kernel, all is in the order of the current stream."""
        xp = self._cupy
        if not all(isinstance(value, xp.ndarray) for value in arrays.values()):
            return self._control.total(arrays, share)  # of another backend
        found = dict(arrays)
        stream = xp.cuda.get_current_stream().ptr
        for bucket in buckets_of(arrays, self._bucket_size):
            dtype = arrays[bucket.names[0]].dtype
            flat = xp.zeros(bucket.length, dtype)
            for name, place in bucket.places(arrays):
                if share:
                    xp.multiply(arrays[name].reshape(-1), dtype.type(share), out=flat[place])
                found[name] = flat[place].reshape(arrays[name].shape)
            kind = self._nccl.NCCL_FLOAT64 if dtype == xp.float64 else self._nccl.NCCL_FLOAT32
            self._comm.allReduce(flat.data.ptr, flat.data.ptr, flat.size, kind, self._nccl.NCCL_SUM, stream)
        return found

    def gather(self, text: bytes) -> list[bytes]:
        """See `Communicator.gather`."""
        return self._control.gather(text)

    def failed(self, error: BaseException) -> None:
        """See `Communicator.failed`."""
        self._control.failed(error)
