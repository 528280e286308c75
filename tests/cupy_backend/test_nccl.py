"""Gradients by NCCL, with a stand-in for it: two threads that share a device."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import obtain
from harness.needs import need
from harness.ranks import ThreadRank, in_threads

pytestmark = pytest.mark.gpu


class StandIn:
    """NCCL's module, whose ranks meet as threads do."""

    available = 1
    NCCL_FLOAT32, NCCL_FLOAT64, NCCL_SUM = 7, 8, 0

    def __init__(self, cupy: Any) -> None:
        self.cupy, self.own = cupy, threading.local()

    def get_unique_id(self) -> tuple[int, ...]:
        return (1, 2, 3)

    def NcclCommunicator(self, size: int, told: tuple[int, ...], rank: int) -> Any:  # noqa: N802
        assert told == (1, 2, 3)
        assert (size, rank) == (self.own.control.size, self.own.control.rank)
        return self

    def allReduce(self, sent: int, got: int, count: int, kind: int, op: int, stream: int) -> None:  # noqa: N802
        dtype = np.dtype("float32" if kind == self.NCCL_FLOAT32 else "float64")
        assert (sent, op) == (got, self.NCCL_SUM)
        memory = self.cupy.cuda.UnownedMemory(got, count * dtype.itemsize, self)
        flat = self.cupy.ndarray((count,), dtype, self.cupy.cuda.MemoryPointer(memory, 0))
        control = self.own.control
        flat[:] = self.cupy.asarray(sum(control._meeting.exchange(control.rank, flat.get())))


def test_gradients_on_the_device_are_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    obtain("cupy")  # where a device answers
    cupy = need("cupy")
    stand_in = StandIn(cupy)
    monkeypatch.setattr(cupy.cuda, "nccl", stand_in, raising=False)
    monkeypatch.setitem(__import__("sys").modules, "cupy.cuda.nccl", stand_in)  # type: ignore[arg-type]

    def work(rank: ThreadRank) -> dict[str, Any]:
        stand_in.own.control = rank
        communicator = rr.parallel.NCCLCommunicator(rank, bucket_size=64)
        assert (communicator.rank, communicator.size) == (rank.rank, 2)
        assert communicator.sums([1.0]) == [2.0]
        own = rank.rank + 1.0
        host = communicator.total({"n": np.full(3, own)}, 0.5)
        assert (host["n"] == 1.5).all()
        grads = {
            "w": cupy.full((3, 5), own),
            "b": cupy.full(4, own, "float32"),
            "none": cupy.zeros((0, 2)),
            "nan": cupy.full(2, own if rank.rank else float("nan")),
        }
        found = communicator.total(grads, float(rank.rank))
        assert all(isinstance(value, cupy.ndarray) for value in found.values())
        return {name: value.get() for name, value in found.items()}

    for found in in_threads(2, work):
        assert not isinstance(found, BaseException), found
        assert (found["w"] == 2).all()
        assert (found["nan"] == 2).all()
        assert (found["b"] == 2).all()
        assert found["b"].dtype == np.float32
        assert (found["w"].shape, found["none"].shape) == ((3, 5), (0, 2))
