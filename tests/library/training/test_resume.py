"""Going on from a checkpoint: in the same bits, from every update; and which files there are meanwhile."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

import recurray as rr

N, T, F, H = 9, 7, 3, 5
RNG = np.random.default_rng(0)
X = RNG.standard_normal((N, T, F)).astype("float32")
TARGET = RNG.standard_normal((N, T, 2)).astype("float32")
LENGTHS = np.array([7, 3, 5, 1, 6, 2, 7, 4, 4])
RAGGED = (
    [row[:n] for row, n in zip(X, LENGTHS, strict=True)],
    [row[:n] for row, n in zip(TARGET, LENGTHS, strict=True)],
)
STREAMS = [(X[:4, :3], TARGET[:4, :3]), (X[:4, 3:5], TARGET[:4, 3:5]), (X[:4, 5:], TARGET[:4, 5:])]


def drawn(rng):
    for _ in range(3):
        picked = rng.integers(0, N, 4)
        yield X[picked], TARGET[picked]


CASES = {
    "arrays": ({"x": X, "target": TARGET, "lengths": LENGTHS}, {"batch_size": 4, "validation": 0.3, "metrics": {}}),
    "ragged": (RAGGED, {"batch_size": 4, "clip_norm": 0.5}),
    "chunks": (
        {"x": X, "target": TARGET, "lengths": LENGTHS},
        {"batch_size": 4, "chunk": 2, "burn_in": 1, "epochs": 2},
    ),
    "accumulated": ((X, TARGET), {"batch_size": 2, "accumulate": 2, "patience": 9}),
    "streams": (STREAMS, {"carry": True}),
    "drawn": (drawn, {"validation": (X, TARGET)}),
    "rows by updates": ((X, TARGET), {"batch_size": 4, "every": 2, "validation": (X, TARGET), "patience": 7}),
}


def made():
    model = rr.Sequential(rr.LSTM(F, H, seed=0), rr.Dropout(0.25), rr.Linear(H, 2, seed=1))
    return model, rr.optim.Adam(model.params, lr=1e-2)


def trained(data, path: Path | None, **options):
    model, optimizer = made()
    history = rr.fit(model, "mse", optimizer, data, **{"epochs": 3, **options}, checkpoint=path)
    return model, optimizer, history


class StopError(Exception):
    pass


class StopAfter:
    """Ends a training as a crash would, after an update."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, run) -> None:
        if run.step == self.step + 1:  # the checkpoint of the update before is there
            raise StopError


def assert_same(found, expected) -> None:
    for one, other in zip((a.state_dict() for a in found[:2]), (a.state_dict() for a in expected[:2]), strict=True):
        for name, value in other.items():
            assert (one[name] == value).all() if name != "settings" else one[name] == value, name
    rows = [[{k: v for k, v in row.items() if k != "seconds"} for row in run[2].rows] for run in (found, expected)]
    assert rows[0] == rows[1]
    assert (found[2].best, found[2].stopped) == (expected[2].best, expected[2].stopped)


@pytest.mark.parametrize("name", CASES)
def test_from_every_update_in_the_same_bits(name: str, tmp_path) -> None:
    data, options = CASES[name]
    expected = trained(data, None, **options)
    path = tmp_path / "run.safetensors"
    for step in range(1, expected[2][-1]["step"]):
        with pytest.raises(StopError):
            trained(data, path, checkpoint_every=1, callbacks=StopAfter(step), overwrite=True, **options)
        assert_same(trained(data, path, resume=True, **options), expected)


def test_more_epochs_go_on_from_a_finished_training(tmp_path) -> None:
    path = tmp_path / "run.safetensors"
    trained((X, TARGET), path, validation=0.3, patience=5)
    found = trained((X, TARGET), path, validation=0.3, patience=5, epochs=6, resume=True)
    assert_same(found, trained((X, TARGET), None, validation=0.3, patience=5, epochs=6))


def test_schedules_that_remember_are_resumed(tmp_path) -> None:
    class Halve:
        def __init__(self) -> None:
            self.lr = 0.01

        def observe(self, value: float) -> float:
            self.lr /= 2
            return self.lr

        def state_dict(self) -> dict[str, float]:
            return {"lr": self.lr}

        def load_state_dict(self, state) -> None:
            self.lr = state["lr"]

    path = tmp_path / "run.safetensors"
    trained((X, TARGET), path, schedule=Halve())
    found = trained((X, TARGET), path, schedule=Halve(), epochs=6, resume=True)
    assert_same(found, trained((X, TARGET), None, schedule=Halve(), epochs=6))
    assert found[2]["lr"][-1] == 0.01 / 32


def test_which_files_there_are(tmp_path) -> None:
    path = tmp_path / "run.safetensors"
    model, _, history = trained((X, TARGET), path, batch_size=3, validation=0.3, checkpoint_every=1, keep=3)
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == [
        "run.best.safetensors", "run.safetensors", "run.step-4.safetensors", "run.step-5.safetensors",
        "run.step-6.safetensors",
    ]  # fmt: skip
    last = rr.load(path).state_dict()
    assert all((last[name] == value).all() for name, value in model.state_dict().items())
    best = rr.load(tmp_path / "run.best.safetensors")
    value = rr.losses.mse(best(X)[0], TARGET)[0]
    assert history.best == int(np.argmin(history["validation_loss"]))
    assert np.isfinite(value)


@pytest.mark.usefixtures("signals_arrive")
def test_ctrl_c_leaves_a_good_checkpoint(tmp_path) -> None:
    path = tmp_path / "run.safetensors"

    class Interrupt:
        def on_step(self, run) -> None:
            if run.step == 2:
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match=r"after 2 updates; .*run\.safetensors goes on from there"):
        trained((X, TARGET), path, batch_size=4, callbacks=Interrupt())
    assert_same(trained((X, TARGET), path, batch_size=4, resume=True), trained((X, TARGET), None, batch_size=4))


def test_what_diverges_leaves_the_checkpoint_before(tmp_path) -> None:
    path = tmp_path / "run.safetensors"
    calls = []

    def loss(prediction, target, mask=None):
        calls.append(1)
        value, dy = rr.losses.mse(prediction, target)
        return (value * np.float32("nan") if len(calls) == 8 else value), dy

    model, optimizer = made()
    with pytest.raises(rr.TrainingError):
        rr.fit(model, loss, optimizer, (X, TARGET), epochs=3, batch_size=3, checkpoint=path)
    assert all(np.isfinite(value).all() for value in rr.load(path).state_dict().values())


def test_files_of_others_are_left_alone(tmp_path) -> None:
    path = tmp_path / "run.safetensors"
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        trained((X, TARGET), path)
    with pytest.raises(rr.FormatError):
        trained((X, TARGET), path, resume=True)
    assert path.read_bytes() == b"mine"
    rr.save(made()[0], path)
    with pytest.raises(rr.FormatError, match="holds no training to go on with"):
        trained((X, TARGET), path, resume=True)
    with pytest.raises(FileNotFoundError):
        trained((X, TARGET), tmp_path / "new.safetensors", resume=tmp_path / "none.safetensors")
    with pytest.raises(OSError, match=r"[Nn]o such"):
        trained((X, TARGET), tmp_path / "none" / "new.safetensors")


def test_checkpoints_of_others_are_refused(tmp_path) -> None:
    path = tmp_path / "run.safetensors"
    trained((X, TARGET), path)
    before = path.read_bytes()
    model = rr.Sequential(rr.LSTM(F, H + 1, seed=0), rr.Dropout(0.25), rr.Linear(H + 1, 2))
    with pytest.raises(ValueError, match=r"another model: 0\.weight_ih_l0 is \(20, 3\) there and \(24, 3\) here"):
        rr.fit(model, "mse", rr.optim.Adam(model.params), (X, TARGET), epochs=9, checkpoint=path, resume=True)
    model, _ = made()
    with pytest.raises(ValueError, match="that of the optimizer 'Adam', not of SGD"):
        rr.fit(model, "mse", rr.optim.SGD(model.params), (X, TARGET), epochs=9, checkpoint=path, resume=True)
    with pytest.raises(ValueError, match=r"other options, .* chunk=3, not None"):
        trained((X, TARGET), path, resume=True, epochs=9, chunk=3)
    with pytest.raises(ValueError, match=r"other options, .* data="):
        trained((X[:5], TARGET[:5]), path, resume=True, epochs=9)
    assert path.read_bytes() == before
