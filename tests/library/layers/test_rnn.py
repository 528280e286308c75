"""The simple recurrent network: what is its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import assert_all_same, here, obtain
from recurray.cells import RNNCell, ZoneoutCell

I, H, B, T = 3, 4, 5, 7  # noqa: E741


EVERYTHING: dict[str, Any] = {
    "num_layers": 2,
    "bidirectional": True,
    "dropout": 0.3,
    "recurrent_dropout": 0.2,
    "weight_dropout": 0.2,
    "zoneout_h": 0.3,
    "learned_state": True,
    "recurrent_init": "orthogonal",
}


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu", ("leaky_relu", 0.1), {"name": "elu", "alpha": 0.5}])
@pytest.mark.parametrize("platform", here("numpy", "reference"))
def test_gradients_with_every_option(nonlinearity: Any, platform: str) -> None:
    layer = rr.RNN(I, H, nonlinearity=nonlinearity, backend=obtain(platform), seed=0, **EVERYTHING)
    report = rr.check_gradients(layer, batch=3, lengths=[5, 0, 2], samples=3)
    assert report.ok, f"\n{report}"


def test_every_option_arrives() -> None:
    layer = rr.RNN(I, H, bias=False, nonlinearity="relu", batch_first=False, dtype="float64", seed=0, **EVERYTHING)
    for name, value in {"bias": False, "nonlinearity": "relu", "batch_first": False, **EVERYTHING}.items():
        assert f" {name}={value!r}," in repr(layer)
    assert layer.cell == ZoneoutCell(RNNCell("relu"), zoneout_h=0.3)
    other = rr.RNN(I, H, bias=False, nonlinearity="relu", params=layer.params, **EVERYTHING)
    assert_all_same(other.astype("float64").state_dict(), layer.astype("float32").astype("float64").state_dict())


def test_streaming() -> None:
    rnn = rr.RNN(I, H, 2, dtype="float64", seed=0)
    x = np.random.default_rng(0).standard_normal((B, T, I))
    stream = rr.Streaming(rnn)
    ys = [stream(x[:, first:last]) for first, last in ((0, 3), (3, 3), (3, 4), (4, 7))]
    np.testing.assert_allclose(np.concatenate(ys, axis=1), rnn(x)[0], rtol=0, atol=1e-13)


def test_representation() -> None:
    assert repr(rr.RNN(I, H, nonlinearity="relu", bias=False)).startswith("RNN(3, 4, nonlinearity='relu', bias=False,")
    assert "nonlinearity=('leaky_relu', 0.1)" in repr(rr.RNN(I, H, nonlinearity={"name": "leaky_relu", "alpha": 0.1}))
    assert "nonlinearity" not in repr(rr.RNN(I, H))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"nonlinearity": "sinus"}, ValueError, "nonlinearity must be one of 'tanh', .*'relu', .*, not 'sinus'"),
        ({"nonlinearity": None}, ValueError, "nonlinearity must be one of"),
        ({"nonlinearity": "softmax"}, ValueError, "nonlinearity must be one of"),
        ({"zoneout_h": -0.1}, ValueError, "zoneout_h must be at least 0 and below 1, not -0.1"),
        ({"num_layers": 1.5}, TypeError, "num_layers must be an integer, not float 1.5"),
    ],
)
def test_what_is_refused(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        rr.RNN(I, H, **options)
