"""What tests start on several ranks: a training, with what is to happen amid it named on the command line."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import recurray as rr

STEPS = 100


def problem(seed: int = 1) -> tuple[rr.Sequential, Any, dict[str, Any]]:
    """A model, its optimizer and ragged data; a last batch with fewer rows than three ranks."""
    rng = np.random.default_rng(5)
    x, target = rng.standard_normal((22, 7, 3)), rng.standard_normal((22, 7, 2))
    model = rr.Sequential(rr.LSTM(3, 5, seed=0, dtype="float64"), rr.Linear(5, 2, seed=seed, dtype="float64"))
    data = {"x": x, "target": target, "lengths": rng.integers(1, 8, 22)}
    return model, rr.optim.Adam(model.params, lr=1e-2), data


def main(what: str, folder: Path) -> int:
    """Train; write what each rank has found."""
    from mpi4py import MPI

    rank, size = MPI.COMM_WORLD.Get_rank(), MPI.COMM_WORLD.Get_size()
    model, optimizer, data = problem(seed=1 + rank * (what == "differ"))
    options: dict[str, Any] = {"steps": STEPS, "batch_size": 10, "validation": 0.1, "clip_norm": 1.0}

    class Happens:
        def on_step(self, run: rr.Run) -> None:
            if run.step == 7 and rank == size - 1:
                if what == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                if what == "raise":
                    raise OSError("the disk of this rank is full")
                if what == "hang":
                    time.sleep(600)
            if what == "interrupt":
                if run.step == 7:
                    (folder / "begun").touch()
                time.sleep(0.01)

    communicator: Any = MPI.COMM_WORLD
    if what == "hang":
        communicator = rr.parallel.MPICommunicator(timeout=1)
    elif what == "train":  # several buckets, one of them not full
        communicator = rr.parallel.MPICommunicator(bucket_size=1000)
        check(communicator)
    elif what == "interrupt":
        options |= {"steps": 10_000, "checkpoint": folder / "run.safetensors"}
    try:
        history = rr.fit(model, "mse", optimizer, data, callbacks=[Happens()], communicator=communicator, **options)
    except (ValueError, KeyboardInterrupt) as error:
        print(f"rank {rank}: {type(error).__name__}: {error}", flush=True)
        return 3
    np.savez(folder / f"rank{rank}.npz", loss=history["validation_loss"], **model.state_dict())
    return 0


def check(communicator: rr.parallel.MPICommunicator) -> None:
    """What a communicator promises, each by itself."""
    rank, size = communicator.rank, communicator.size
    total = size * (size + 1) / 2
    assert communicator.sums([rank + 1.0, 1.0]) == [total, size]
    assert communicator.gather(b"x" * rank) == [b"x" * each for each in range(size)]
    assert communicator.gather(b"") == [b""] * size
    assert communicator.broadcast(f"from {rank}".encode()) == b"from 0"
    communicator.barrier()
    arrays = {
        "b": np.full((3, 700), rank + 1.0),
        "a": np.float32([rank + 1]),
        "none": np.zeros((0, 2)),
        "scalar": np.asarray(2.0),
    }
    found = communicator.total(arrays, 0.5)
    for name, value in arrays.items():
        assert found[name].dtype == value.dtype
        assert found[name].shape == value.shape
    assert (found["b"] == total / 2).all()
    assert (found["a"] == total / 2).all()
    assert found["scalar"] == size
    arrays["b"] = np.full((3, 700), np.nan if rank == 0 else 1.0)
    assert (communicator.total(arrays, float(rank > 0))["b"] == size - 1).all()  # NaN that doesn't count
    for wrong, error in (({"comm": 3}, TypeError), ({"timeout": 0}, ValueError), ({"bucket_size": 0}, ValueError)):
        try:
            rr.parallel.MPICommunicator(**wrong)
        except error:
            continue
        raise AssertionError(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
