"""What isn't a layer, on every backend: losses, optimizers, schedules, clipping, plots, states on disk, bad input.

NumPy's results, which other tests compare with independent ones, are what the others must give.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import assert_close
from harness.needs import need
from recurray.backend import Backend

RNG = np.random.default_rng(5)
NUMBERS, OTHERS = 3 * RNG.standard_normal((2, 3, 4)), RNG.standard_normal((2, 3, 4))
SHARES = RNG.random((2, 3, 4))
SHARES /= SHARES.sum(axis=-1, keepdims=True)
CLASSES = RNG.integers(4, size=(2, 3))

LOSSES: dict[str, tuple[Any, Any, Any, dict[str, Any]]] = {
    "mse": (rr.losses.mse, NUMBERS, OTHERS, {}),
    "mae": (rr.losses.mae, NUMBERS, OTHERS, {}),
    "huber": (rr.losses.huber, NUMBERS, OTHERS, {"delta": 0.7}),
    "binary cross-entropy": (rr.losses.binary_cross_entropy, SHARES, SHARES[::-1], {}),
    "binary cross-entropy from logits": (rr.losses.binary_cross_entropy, NUMBERS, SHARES, {"from_logits": True}),
    "cross-entropy": (rr.losses.cross_entropy, NUMBERS, CLASSES, {}),
    "cross-entropy of shares": (rr.losses.cross_entropy, NUMBERS, SHARES, {}),
    "negative log-likelihood": (rr.losses.nll, np.log(SHARES), CLASSES, {}),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str, reduction: str, dtype: str, backend: Backend) -> None:
    loss, prediction, target, options = LOSSES[name]
    goal = backend.asarray(target.copy(), dtype if target.dtype.kind == "f" else None)
    value, gradient = loss(backend.asarray(prediction, dtype), goal, reduction, **options)
    expected = loss(prediction, target, reduction, **options)
    assert_close(backend, value, expected[0], dtype=dtype)
    assert_close(backend, gradient, expected[1], dtype=dtype)


OPTIMIZERS: dict[str, dict[str, Any]] = {
    "SGD": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1, "nesterov": True},
    "Adam": {"lr": 0.1, "weight_decay": 0.1, "amsgrad": True},
    "AdamW": {"lr": 0.1, "weight_decay": 0.1, "amsgrad": True},
    "NAdam": {"lr": 0.1, "weight_decay": 0.1, "momentum_decay": 0.5},
    "RMSprop": {"lr": 0.1, "weight_decay": 0.1, "momentum": 0.6, "centered": True},
    "Adagrad": {"lr": 0.1, "weight_decay": 0.1, "lr_decay": 0.2, "initial_accumulator_value": 0.4},
    "Adadelta": {"lr": 0.1, "weight_decay": 0.1, "rho": 0.6},
}
SHAPES = {"weight": (3, 4), "bias": (5,), "one": ()}


def optimized(name: str, backend: Backend, dtype: str) -> dict[str, Any]:
    """Params after steps by a schedule, with clipped gradients; halfway another optimizer goes on from the state."""
    rng = np.random.default_rng(0)

    def draw() -> dict[str, Any]:
        return {key: backend.asarray(rng.standard_normal(shape), dtype) for key, shape in SHAPES.items()}

    params = draw()
    kind, options = getattr(rr.optim, name), OPTIMIZERS[name]
    schedule = rr.schedules.Cosine(0.1, 7, warmup=2)
    optimizer, norms = kind(params, **options), []
    for step in range(6):
        if step == 3:
            saved = optimizer.state_dict()
            assert all(isinstance(value, np.ndarray | dict) for value in saved.values())
            optimizer = kind(params, **options)
            optimizer.load_state_dict(saved)
        optimizer.lr = schedule(step)
        grads, norm = rr.optim.clip_grad_norm(draw(), 2.0)
        norms.append(norm)
        optimizer.step(grads)
    return params | {f"norm {step}": norm for step, norm in enumerate(norms)}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name: str, dtype: str, backend: Backend) -> None:
    found, expected = (optimized(name, each, dtype) for each in (backend, rr.get_backend("numpy")))
    for key, value in expected.items():
        assert_close(backend, found[key], value, dtype=dtype)


def test_gates_are_drawn(backend: Backend) -> None:
    matplotlib = need("matplotlib")
    matplotlib.use("agg")
    layer = rr.LSTM(3, 4, num_layers=2, bidirectional=True, backend=backend, dtype="float64", seed=0)
    x = np.random.default_rng(1).standard_normal((2, 5, 3))
    figure = rr.plot.gates(layer.trace(backend.asarray(x)))
    same = rr.LSTM(3, 4, num_layers=2, bidirectional=True, backend="numpy", dtype="float64", seed=0)
    expected = rr.plot.gates(same.trace(x))
    assert len(figure.axes) == len(expected.axes)
    for axes, wanted in zip(figure.axes, expected.axes, strict=True):
        for line, other in zip(axes.get_lines(), wanted.get_lines(), strict=True):
            np.testing.assert_allclose(line.get_ydata(), other.get_ydata(), atol=1e-11)


def test_params_and_states_go_through_a_file(backend: Backend, tmp_path: Path) -> None:
    safetensors = need("safetensors.numpy")
    layer = rr.LSTM(3, 4, num_layers=2, proj_size=2, backend=backend, seed=0)
    x = backend.asarray(np.random.default_rng(1).standard_normal((2, 5, 3)), "float32")
    y, state = layer(x)
    kept = {"h": backend.to_numpy(state.h), "c": backend.to_numpy(state.c)}
    safetensors.save_file(layer.state_dict() | kept, tmp_path / "all.safetensors")
    loaded = safetensors.load_file(tmp_path / "all.safetensors")
    for place in (backend, rr.get_backend("numpy")):
        other = rr.LSTM(3, 4, num_layers=2, proj_size=2, backend=place, seed=1)
        h, c = (place.asarray(loaded.pop(name) if place is not backend else loaded[name]) for name in ("h", "c"))
        other.load_state_dict({name: value for name, value in loaded.items() if name not in "hc"})
        again, _ = other(place.asarray(backend.to_numpy(x)))
        assert_close(place, again, backend.to_numpy(y), dtype="float32")
        wanted = layer(x, state)[0]
        assert_close(
            place,
            other(place.asarray(backend.to_numpy(x)), rr.State(h, c))[0],
            backend.to_numpy(wanted),
            dtype="float32",
        )


def lstm(backend: Backend) -> rr.LSTM:
    return rr.LSTM(3, 4, backend=backend, seed=0)


WRONG: dict[str, tuple[Callable[[Backend, Any], Any], type[Exception], str]] = {
    "features": (
        lambda b, x: lstm(b)(x[..., :2]),
        ValueError,
        r"x must have the shape \(batch, time, 3\), not \(2, 5, 2\)",
    ),
    "axes": (lambda b, x: lstm(b)(x[0, ...]), ValueError, r"x must have the shape \(batch, time, 3\), not \(5, 3\)"),
    "integers": (lambda b, x: lstm(b)(b.xp.astype(x, b.xp.int64)), TypeError, "x must be floating-point numbers, not "),
    "booleans": (lambda b, x: lstm(b)(x > 0), TypeError, "x must be floating-point numbers, not "),
    "a list": (
        lambda b, x: lstm(b)([[[1.0, 2.0, 3.0]]]),
        TypeError,
        "x must be an array of the backend .*, not .*list; convert",
    ),
    "no array": (lambda b, x: lstm(b)(None), TypeError, "x must be an array of the backend"),
    "lengths' count": (lambda b, x: lstm(b)(x, lengths=[5]), ValueError, r"lengths must have the shape \(2,\)"),
    "lengths' size": (
        lambda b, x: lstm(b)(x, lengths=[6, 1]),
        ValueError,
        "between 0 and the 5 time steps, but row 0 has 6",
    ),
    "state's rows": (
        lambda b, x: lstm(b)(
            x, rr.State(b.asarray(np.zeros((1, 3, 4)), "float32"), b.asarray(np.zeros((1, 2, 4)), "float32"))
        ),
        ValueError,
        r"state.h must have the shape \(1, 2, 4\), not \(1, 3, 4\)",
    ),
    "dy's steps": (lambda b, x: _back(b, x, lambda y: y[:, 1:, :]), ValueError, r"dy must have the shape \(2, 5, 4\)"),
    "another cache": (
        lambda b, x: rr.GRU(3, 4, backend=b).backward(lstm(b).forward(x)[2], x),
        ValueError,
        "cache must be of a layer with cell",
    ),
    "no cache": (lambda b, x: lstm(b).backward(None, x), TypeError, "cache must be what forward returned"),
    "a param's shape": (
        lambda b, x: _with_param(b, x, lambda p: p[1:]),
        ValueError,
        "the param 'bias_ih_l0' must have the shape",
    ),
    "an index": (
        lambda b, x: rr.Embedding(3, 4, backend=b)(b.asarray(np.array([[0, 3]]))),
        ValueError,
        "x must be between 0 and 2, but goes from 0 to 3",
    ),
    "a target's shape": (lambda b, x: rr.losses.mse(x, x[:1, ...]), ValueError, "shape"),
    "a target's kind": (lambda b, x: rr.losses.cross_entropy(x, x[..., 0]), (TypeError, ValueError), "target"),
    "gradients' names": (lambda b, x: rr.optim.SGD(lstm(b).params, lr=0.1).step({}), ValueError, "grad"),
}


def _back(backend: Backend, x: Any, change: Callable[[Any], Any]) -> None:
    layer = lstm(backend)
    y, _, cache = layer.forward(x)
    layer.backward(cache, change(y))


def _with_param(backend: Backend, x: Any, change: Callable[[Any], Any]) -> None:
    layer = lstm(backend)
    layer.params["bias_ih_l0"] = change(layer.params["bias_ih_l0"])
    layer(x)


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named(name: str, backend: Backend) -> None:
    call, error, words = WRONG[name]
    x = backend.asarray(np.zeros((2, 5, 3)), "float32")
    with pytest.raises(error, match=words):
        call(backend, x)
