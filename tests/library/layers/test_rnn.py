"""The simple recurrent network: what is its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import assert_all_same, obtain
from harness.cases import EVERYTHING
from harness.recurrent_node import chosen, run
from recurray.cells import RNNCell, ZoneoutCell

I, H, B, T = 3, 4, 5, 7  # noqa: E741


@pytest.mark.parametrize("seed", range(40))
def test_random_models_of_onnxruntime(seed: int) -> None:
    """Any activation, another in the other direction, a clip, ragged rows, start states."""
    rng = np.random.default_rng(seed)
    directions, batch, steps = (int(n) for n in rng.integers(1, (3, B, T)))
    activations = [chosen(rng) for _ in range(directions)]
    options: dict[str, Any] = {"nonlinearity": activations[0], "gate_clip": [None, 0.4, 1.5][rng.integers(3)]}
    if directions == 2:
        options |= {"bidirectional": True, "reverse_activations": {"nonlinearity": activations[1]}}
    layer = rr.RNN(I, H, batch_first=False, seed=seed, **options)
    params = layer.state_dict()
    stacked = [
        [params[f"{name}_l0{'_reverse' * k}"] for k in range(directions)]
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    ]
    w, r, b, b_h = map(np.stack, stacked)
    x, h = (rng.standard_normal(shape).astype("f") for shape in ((steps, batch, I), (directions, batch, H)))
    lengths = rng.integers(1, steps + 1, batch).astype(np.int32)
    arrays = {"X": x, "W": w, "R": r, "B": np.concatenate([b, b_h], axis=1), "lengths": lengths, "h0": h}
    direction = ("forward", "bidirectional")[directions - 1]
    expected, end_expected = run(
        *("RNN", arrays, tuple(arrays), ("y", "h"), activations),
        hidden_size=H,
        direction=direction,
        clip=layer.gate_clip,
    )
    y, end = layer(x, rr.State(h), lengths)
    y = y.reshape(steps, batch, directions, H).swapaxes(1, 2)
    for found, wanted in ((y, expected), (end.h, end_expected)):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * max(1.0, float(np.abs(wanted).max())))


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu", ("leaky_relu", 0.1), {"name": "elu", "alpha": 0.5}, "mish"])
def test_gradients_with_every_option(nonlinearity: Any) -> None:
    others = {"gate_clip": 0.9, "reverse_activations": {"nonlinearity": "gelu"}}
    layer = rr.RNN(I, H, nonlinearity=nonlinearity, backend=obtain("numpy"), seed=0, **EVERYTHING, **others)
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
        ({"gate_clip": -1}, ValueError, "gate_clip must be None or a number above 0, not -1"),
        ({"zoneout_h": -0.1}, ValueError, "zoneout_h must be at least 0 and below 1, not -0.1"),
        ({"num_layers": 1.5}, TypeError, "num_layers must be an integer, not float 1.5"),
    ],
)
def test_what_is_refused(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        rr.RNN(I, H, **options)
