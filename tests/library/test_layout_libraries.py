"""The loops that layouts are tested by, beside the libraries themselves, where somebody has installed them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.layout_formulas import FORMULAS
from harness.needs import need

pytestmark = pytest.mark.long

T, B, F, H = 6, 3, 4, 5


def drawn(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {name: rng.uniform(-1, 1, shape).astype("float32") for name, shape in shapes.items()}


def agrees(name: str, arrays: dict[str, Any], x: Any, y: Any, h: Any = None, c: Any = None) -> None:
    zeros = np.zeros((x.shape[1], H))
    expected = FORMULAS[name](arrays, x, zeros if h is None else h, zeros if c is None else c)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5)


X = np.random.default_rng(1).standard_normal((T, B, F)).astype("float32")
STATES = np.random.default_rng(2).standard_normal((2, B, H)).astype("float32")


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_dynet(kind: str) -> None:
    dynet = need("dynet")
    params = dynet.ParameterCollection()
    maker = {"lstm": dynet.VanillaLSTMBuilder, "gru": dynet.GRUBuilder, "rnn": dynet.SimpleRNNBuilder}[kind]
    names = {
        "lstm": ("x2i", "h2i", "bi"),
        "gru": ("x2z", "h2z", "bz", "x2r", "h2r", "br", "x2h", "h2h", "bh"),
        "rnn": ("x2h", "h2h", "hb"),
    }[kind]
    builder = maker(1, F, H, params)
    (own,) = builder.get_parameters()
    arrays = drawn({name: param.shape() for name, param in zip(names, own, strict=True)})
    for name, param in zip(names, own, strict=True):
        param.set_value(arrays[name])
    dynet.renew_cg()
    outputs = builder.initial_state().transduce([dynet.inputVector(step) for step in X[:, 0]])
    agrees(f"dynet.{kind}", arrays, X[:, :1], np.stack([output.npvalue() for output in outputs])[:, None])


def test_thinc() -> None:
    ops = need("thinc.api").NumpyOps()
    arrays = drawn({"LSTM": (4 * H * F + 4 * H + 4 * H * H + 4 * H,)})
    zeros = np.zeros((1, 1, H), "float32")
    sizes = np.full(T, B, dtype="i")
    y = ops.lstm_forward_inference(arrays["LSTM"], zeros, zeros, X.reshape(T * B, F), sizes)
    agrees("thinc.lstm", arrays, X, y.reshape(T, B, H))


@pytest.mark.parametrize(("kind", "cell"), [("lstm", "LSTMCell"), ("gru", "GRUCell"), ("rnn", "SimpleCell")])
def test_flax(kind: str, cell: str) -> None:
    linen, jax = need("flax").linen, need("jax")
    made = getattr(linen, cell)(features=H)
    state = (STATES[1], STATES[0]) if kind == "lstm" else STATES[0]
    shapes = jax.eval_shape(lambda: made.init(jax.random.key(0), state, X[0]))["params"]
    arrays = drawn({f"{part}/{name}": own[name].shape for part, own in shapes.items() for name in own})
    params: dict[str, Any] = {part: {name: arrays[f"{part}/{name}"] for name in own} for part, own in shapes.items()}
    outputs = []
    for step in X:
        state, y = made.apply({"params": params}, state, step)
        outputs.append(np.asarray(y))
    agrees(f"flax.{kind}", arrays, X, np.stack(outputs), *STATES)


@pytest.mark.parametrize(("kind", "name"), [("lstm", "LSTM"), ("gru", "GRU"), ("rnn", "SimpleRNN")])
def test_paddle(kind: str, name: str) -> None:
    paddle = need("paddle")
    layer = getattr(paddle.nn, name)(F, H, time_major=True)
    own = {key: value for key, value in layer.state_dict().items() if key.endswith("_l0")}
    arrays = drawn({key: tuple(value.shape) for key, value in own.items()})
    for key, value in own.items():
        value.set_value(arrays[key])
    h, c = (paddle.to_tensor(state[None]) for state in STATES)
    y, _ = layer(paddle.to_tensor(X), (h, c) if kind == "lstm" else h)
    agrees(f"paddle.{kind}", arrays, X, y.numpy(), *STATES)
