"""Training on every backend: as on NumPy, with all options together, and resumed in the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurray as rr

N, T, F, H = 7, 6, 3, 5
RNG = np.random.default_rng(0)
X, TARGET = RNG.standard_normal((N, T, F)), RNG.standard_normal((N, T, 2))
LENGTHS = np.array([6, 3, 5, 1, 6, 2, 4])
MASK, RESETS = RNG.random((N, T)) < 0.8, RNG.random((N, T)) < 0.2
RAGGED = (
    [row[:n] for row, n in zip(X, LENGTHS, strict=True)],
    [row[:n] for row, n in zip(TARGET, LENGTHS, strict=True)],
)
STATIC = RNG.standard_normal((N, 2))
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "chunks of rows with lengths": (
        {"x": X, "target": TARGET, "lengths": LENGTHS, "static": STATIC},
        {"chunk": 2, "burn_in": 1, "clip_value": 0.5, "clip_norm": 0.3},
    ),
    "gaps and cuts": (
        {"x": X, "target": TARGET, "mask": MASK, "resets": RESETS, "static": STATIC},
        {
            "accumulate": 2,
            "validation": 0.3,
            "metrics": {"error": lambda y, t, mask=None: rr.losses.mae(y, t, mask=mask)[0]},
        },
    ),
    "ragged": ({"x": RAGGED[0], "target": RAGGED[1], "static": STATIC}, {"patience": 3}),
}


def trained(backend: Any, name: str, *, epochs: int = 2, **options: Any) -> tuple[Any, rr.History]:
    data, more = CASES[name]
    common = {"backend": backend, "dtype": "float64"}
    model = rr.Sequential(
        rr.LSTM(F, H, seed=0, static_size=2, **common), rr.Dropout(0.25), rr.Linear(H, 2, seed=1, **common)
    )
    optimizer = rr.optim.Adam(model.params, lr=1e-2)
    return model, rr.fit(model, "mse", optimizer, data, epochs=epochs, batch_size=3, **more, **options)


@pytest.mark.parametrize("name", CASES)
def test_as_on_numpy(backend: Any, name: str) -> None:
    model, history = trained(backend, name)
    expected, table = trained("numpy", name)
    for param, value in expected.state_dict().items():
        np.testing.assert_allclose(model.state_dict()[param], value, rtol=1e-9, atol=1e-12, err_msg=param)
    for column in set(table.columns) - {"seconds"}:
        np.testing.assert_allclose(history[column], table[column], rtol=1e-9, err_msg=column)


def test_resumed_in_the_same_bits(backend: Any, tmp_path: Path) -> None:
    name = "chunks of rows with lengths"
    path = tmp_path / "run.safetensors"

    def end(run: rr.Run) -> None:
        if run.step == 4:
            run.stop()

    class Stop:
        def on_step(self, run: rr.Run) -> None:
            end(run)

    trained(backend, name, checkpoint=path, callbacks=Stop())
    model, _ = trained(backend, name, checkpoint=path, resume=True)
    expected, _ = trained(backend, name)
    assert all((model.state_dict()[param] == value).all() for param, value in expected.state_dict().items())


def test_not_finite_is_noticed(backend: Any) -> None:
    model = rr.LSTM(F, 2, backend=backend)
    target = np.where(np.arange(N)[:, None, None] == 3, np.inf, TARGET)
    batches = [
        tuple(backend.asarray(a[rows].astype("float32")) for a in (X, target)) for rows in (slice(3), slice(3, None))
    ]
    with pytest.raises(rr.TrainingError, match=r"the loss became inf.* in epoch 1, batch 2"):
        rr.fit(model, "mse", rr.optim.SGD(model.params), batches, epochs=1)
