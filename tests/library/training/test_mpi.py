"""Ranks that are processes, started by mpiexec: they equal one, and end together whatever happens to one of them."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import numpy as np
import pytest

import recurray as rr
from harness.needs import needs
from harness.ranks import Ranks
from library.training.parallel_program import STEPS, problem
from recurray.training import checkpoint

PROGRAM = Path(__file__).with_name("parallel_program.py")

pytestmark = [pytest.mark.slow, needs("mpi4py"), needs("mpiexec"), needs("POSIX")]


@pytest.mark.parametrize("size", [2, 3])
def test_ranks_equal_one_process(size: int, tmp_path: Path) -> None:
    code, said = Ranks(size, PROGRAM, "train", tmp_path).ended()
    assert code == 0, said
    model, optimizer, data = problem()
    history = rr.fit(model, "mse", optimizer, data, steps=STEPS, batch_size=10, validation=0.1, clip_norm=1.0)
    found = [dict(np.load(tmp_path / f"rank{rank}.npz")) for rank in range(size)]
    for name, value in found[0].items():
        for other in found[1:]:
            np.testing.assert_array_equal(value, other[name])
    np.testing.assert_allclose(found[0].pop("loss"), history["validation_loss"], rtol=1e-9)
    for name, value in model.state_dict().items():
        np.testing.assert_allclose(found[0][name], value, rtol=1e-8, atol=1e-10)


def test_ranks_that_differ_are_refused(tmp_path: Path) -> None:
    code, said = Ranks(2, PROGRAM, "differ", tmp_path).ended()
    assert code == 3, said
    for rank in (0, 1):
        assert f"rank {rank}: ValueError: the ranks differ in the param '1.weight'" in said


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("kill", ("",)),  # mpiexec's words
        ("raise", ("OSError: the disk of this rank is full", "rank 1 of 2 failed, and all are ended")),
        ("hang", ("ParallelError: rank 0 of 2 has waited 1 s for the others",)),
    ],
)
def test_one_rank_ends_all(what: str, words: tuple[str, ...], tmp_path: Path) -> None:
    code, said = Ranks(2, PROGRAM, what, tmp_path).ended(30)
    assert code != 0
    assert said.strip()
    for word in words:
        assert word in said
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("signals_arrive")
def test_an_interrupt_leaves_a_checkpoint(tmp_path: Path) -> None:
    ranks = Ranks(2, PROGRAM, "interrupt", tmp_path)
    began = time.monotonic()
    while not (tmp_path / "begun").exists() and time.monotonic() - began < 30:
        time.sleep(0.05)
    ranks.process.send_signal(signal.SIGINT)
    code, said = ranks.ended(30)
    assert code != 0, said
    path = tmp_path / "run.safetensors"
    step = checkpoint.read(path)[2]["step"]
    assert step >= 7
    model, optimizer, data = problem()
    options = {"batch_size": 10, "validation": 0.1, "clip_norm": 1.0, "progress": False}
    rr.fit(model, "mse", optimizer, data, steps=step + 3, resume=path, **options)
    whole, optimizer, data = problem()
    rr.fit(whole, "mse", optimizer, data, steps=step + 3, **options)
    for name, value in whole.state_dict().items():
        np.testing.assert_allclose(model.state_dict()[name], value, rtol=1e-8, atol=1e-10)
