"""Ranks that are processes of MPI, by mpi4py."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from recurray import checks, install
from recurray.arrays import Array, device_of, namespace_of, to_numpy
from recurray.messages import kind_of, shown
from recurray.parallel.buckets import buckets_of
from recurray.parallel.communicator import Communicator, ParallelError, Serial

_MIB = 2**20
_SPIN = 0.002  # seconds of waiting after which a rank sleeps between two looks
_GRACE = 2.0  # seconds that a rank which has failed gives the others to fail too


class MPICommunicator(Communicator):
    """The ranks of an MPI communicator, each a process that mpiexec has started.

    Nothing waits for ever: a rank that the others don't answer within ``timeout`` ends all of them, with a message,
    and so does one that fails alone. All ranks make it, in the same place.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm, optional
        ``MPI.COMM_WORLD`` if omitted.
    timeout : float
        Seconds that a rank waits for others: more than one ever needs for what others wait for, a checkpoint say.
    bucket_size : int
        Bytes of gradients to a message, about.

    Raises
    ------
    ModuleNotFoundError
        mpi4py isn't installed.
    TypeError, ValueError
        ``comm`` isn't a communicator of mpi4py, or a number is out of its range.

    Examples
    --------
    >>> import recurray as rr
    >>> communicator = rr.parallel.MPICommunicator()  # doctest: +SKIP
    >>> history = rr.fit(model, "mse", optimizer, data, epochs=9, communicator=communicator)  # doctest: +SKIP
    """

    def __init__(self, comm: Any = None, *, timeout: float = 600.0, bucket_size: int = 4 * _MIB) -> None:
        try:
            from mpi4py import MPI
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(f"mpi4py is not installed: {install.with_extra('mpi')}") from error
        comm = MPI.COMM_WORLD if comm is None else comm
        if not isinstance(comm, MPI.Intracomm):
            raise TypeError(f"comm must be a communicator of mpi4py, not {kind_of(comm)} {shown(comm)}")
        self._timeout = checks.number("timeout", timeout)
        if not self._timeout > 0:
            raise ValueError(f"timeout must be above 0, not {shown(timeout)}")
        self._bucket_size = checks.size("bucket_size", bucket_size)
        self._mpi = MPI
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        self._comm, made = comm.Idup()  # its own, so that nobody else's messages are taken for its
        self._wait([made])
        self._failures, made = comm.Idup()
        self._wait([made])

    def sums(self, numbers: Sequence[float]) -> list[float]:
        """See `Communicator.sums`."""
        import numpy as np

        out = np.array(numbers, np.float64)
        self._wait([self._comm.Iallreduce(self._mpi.IN_PLACE, out, op=self._mpi.SUM)])
        return [float(number) for number in out]

    def total(self, arrays: Mapping[str, Array], share: float) -> dict[str, Array]:
        """See `Communicator.total`; a bucket travels while the next is filled."""
        import numpy as np

        hosts = {name: to_numpy(value) for name, value in arrays.items()}
        sent = []
        for bucket in buckets_of(hosts, self._bucket_size):
            flat = np.empty(bucket.length, hosts[bucket.names[0]].dtype)
            for name, place in bucket.places(hosts):
                if share:
                    np.multiply(hosts[name].reshape(-1), flat.dtype.type(share), out=flat[place])
                else:
                    flat[place] = 0
            sent.append((bucket, flat, self._comm.Iallreduce(self._mpi.IN_PLACE, flat, op=self._mpi.SUM)))
        self._wait([request for _, _, request in sent])
        found = {name: flat[place] for bucket, flat, _ in sent for name, place in bucket.places(hosts)}
        return {name: _like(value, found.get(name), hosts[name].shape) for name, value in arrays.items()}

    def gather(self, text: bytes) -> list[bytes]:
        """See `Communicator.gather`."""
        import numpy as np

        lengths = np.zeros(self.size, np.int64)
        self._wait([self._comm.Iallgather(np.array([len(text)], np.int64), lengths)])
        longest = int(lengths.max())
        if not longest:
            return [b""] * self.size
        own, all_of_them = np.zeros(longest, np.uint8), np.empty((self.size, longest), np.uint8)
        own[: len(text)] = np.frombuffer(text, np.uint8)
        self._wait([self._comm.Iallgather(own, all_of_them)])
        return [row[:length].tobytes() for row, length in zip(all_of_them, lengths, strict=True)]

    def failed(self, error: BaseException) -> None:
        """Return if all ranks fail within a few seconds, each then raises its own; else end all of them."""
        if not isinstance(error, ParallelError) and self._answered([self._failures.Ibarrier()], _GRACE):
            return
        traceback.print_exception(error, file=sys.stderr)
        print(f"rank {self.rank} of {self.size} failed, and all are ended", file=sys.stderr, flush=True)  # noqa: T201
        self._comm.Abort(1)

    def close(self) -> None:
        """Give back what it holds of MPI; on all ranks, which have no more use for it."""
        self._comm.Free()
        self._failures.Free()

    def _wait(self, requests: Sequence[Any]) -> None:
        if not self._answered(requests, self._timeout):
            raise ParallelError(
                f"rank {self.rank} of {self.size} has waited {self._timeout:g} s for the others: one hangs, has ended, "
                "or does something else; MPICommunicator(timeout=) says how long it may take"
            )

    def _answered(self, requests: Sequence[Any], seconds: float) -> bool:
        """Wait; tell whether all has come."""
        began = time.monotonic()
        while not self._mpi.Request.Testall(requests):
            waited = time.monotonic() - began
            if waited > seconds:
                return False
            if waited > _SPIN:
                time.sleep(1e-4)
            elif hasattr(os, "sched_yield"):
                os.sched_yield()
        return True


def _like(value: Array, found: Any, shape: Any) -> Array:
    """An array of the host as one of the library and on the device of ``value``."""
    if found is None:  # an array without numbers
        return value
    xp = namespace_of(value)
    array = found.reshape(shape)
    if hasattr(value, "__array_interface__") and type(value) is type(array):
        return array
    return xp.asarray(array, dtype=value.dtype, device=device_of(value))


def as_communicator(value: Any) -> Communicator:
    """Return a `Communicator`: None is one that is alone, one of mpi4py becomes an `MPICommunicator`.

    Raises
    ------
    TypeError
        It is something else.

    Examples
    --------
    >>> import recurray as rr
    >>> rr.parallel.as_communicator(None).size
    1
    """
    if value is None:
        return Serial()
    if isinstance(value, Communicator):
        return value
    if type(value).__module__.partition(".")[0] == "mpi4py":
        return MPICommunicator(value)
    raise TypeError(f"communicator must be one of recurray.parallel or of mpi4py, not {kind_of(value)} {shown(value)}")
