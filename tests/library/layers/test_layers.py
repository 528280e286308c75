"""What is each layer's own among those around the recurrent ones; `test_every_layer` has what they share."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import assert_all_same, assert_close, assert_same, formulas, host, leaves
from harness.needs import need
from recurray.backend import Backend
from recurray.layers import StatelessLayer


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def flat(backend: Backend, state: Any) -> dict[str, np.ndarray]:
    return host(backend, leaves(state))


# Any number of axes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (3,), (3, 5), (2, 3, 4, 5), (0,), (2, 0, 3)])
@pytest.mark.parametrize(
    "make",
    [
        lambda **options: rr.Linear(4, 2, seed=0, **options),
        lambda **options: rr.LayerNorm(4, **options),
        lambda **options: rr.Activation("log_softmax", **options),
        lambda **options: rr.Activation("tanh", **options),
        lambda **options: rr.Dropout(0.0, **options),
    ],
    ids=["linear", "layer norm", "log_softmax", "tanh", "dropout"],
)
def test_any_number_of_axes(make: Any, shape: tuple[int, ...], backend: Backend) -> None:
    """Each vector along the last axis is taken for itself."""
    layer = make(backend=backend, dtype="float64")
    x = draw(*shape, 4)
    y, _, cache = layer.forward(backend.asarray(x))
    found = backend.to_numpy(y)
    dy = draw(*found.shape, seed=1)
    dx = backend.to_numpy(layer.backward(cache, backend.asarray(dy))[0])
    assert dx.shape == x.shape
    assert found.shape[:-1] == shape
    for place in np.ndindex(shape):
        y_one, _, cache = layer.forward(backend.asarray(x[place].copy()))
        dx_one, _, _ = layer.backward(cache, backend.asarray(dy[place].copy()))
        np.testing.assert_allclose(found[place], backend.to_numpy(y_one), rtol=0, atol=1e-13)
        np.testing.assert_allclose(dx[place], backend.to_numpy(dx_one), rtol=0, atol=1e-13)


# Linear ---------------------------------------------------------------------------------------------------------------


def test_linear_params_start_from_the_seed_on_every_backend(backend: Backend) -> None:
    params = rr.Linear(100, 50, backend=backend, dtype="float64", seed=3).state_dict()
    assert {name: value.shape for name, value in params.items()} == {"weight": (50, 100), "bias": (50,)}
    assert_all_same(params, rr.Linear(100, 50, dtype="float64", seed=3).state_dict())
    assert 0.099 < np.abs(params["weight"]).max() < 0.1
    assert 0.08 < np.abs(params["bias"]).max() < 0.1
    assert abs(params["weight"].mean()) < 0.01


# Embedding ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4), (0,)])
def test_embedding_takes_any_shape(shape: tuple[int, ...], backend: Backend) -> None:
    layer = rr.Embedding(7, 2, backend=backend, dtype="float64", seed=0)
    x = np.random.default_rng(0).integers(7, size=shape)
    y, _, cache = layer.forward(backend.asarray(x))
    assert_close(backend, y, layer.state_dict()["weight"][x], tolerance=0)
    dy = draw(*shape, 2)
    dx, _, grads = layer.backward(cache, backend.asarray(dy))
    assert dx is None
    expected = np.zeros((7, 2))
    for place in np.ndindex(shape):
        expected[x[place]] += dy[place]
    assert_close(backend, grads["weight"], expected, tolerance=1e-14)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_embedding_takes_any_integers(dtype: str, backend: Backend) -> None:
    """Also those that can't count the rows of the table."""
    layer = rr.Embedding(300, 2, backend=backend, dtype="float64", seed=0)
    x = np.array([[1, 44, 127, 44]], dtype=dtype)
    y, _, cache = layer.forward(backend.asarray(x))
    assert_close(backend, y, layer.state_dict()["weight"][x.astype(int)], tolerance=0)
    _, _, grads = layer.backward(cache, backend.asarray(np.ones((1, 4, 2))))
    expected = np.zeros((300, 2))
    expected[[1, 44, 127]] = [[1], [2], [1]]
    assert_close(backend, grads["weight"], expected, tolerance=0)


def test_embedding_starts_normally_distributed(backend: Backend) -> None:
    weight = rr.Embedding(100, 50, backend=backend, dtype="float64", seed=0).state_dict()["weight"]
    assert abs(weight.mean()) < 0.05
    assert weight.std() == pytest.approx(1, abs=0.05)
    assert_same(weight, rr.Embedding(100, 50, dtype="float64", seed=0).state_dict()["weight"])


@pytest.mark.parametrize("padding_idx", [0, 3, -1])
def test_embedding_of_padding_is_pytorchs(padding_idx: int, backend: Backend) -> None:
    torch = need("torch")
    layer = rr.Embedding(7, 2, padding_idx=padding_idx, backend=backend, dtype="float64", seed=0)
    weight = layer.state_dict()["weight"]
    assert_same(weight[padding_idx], np.zeros(2))
    others = np.arange(7) != padding_idx % 7
    assert_same(weight[others], rr.Embedding(7, 2, dtype="float64", seed=0).state_dict()["weight"][others])
    other = torch.nn.Embedding(7, 2, padding_idx=padding_idx, dtype=torch.float64)
    assert np.all(other.weight.detach().numpy()[padding_idx] == 0)
    assert other.padding_idx == layer.padding_idx
    weight[padding_idx] = 3.0  # what is given is as it is
    layer.load_state_dict(weight_of := {"weight": weight})
    other.load_state_dict({"weight": torch.tensor(weight)})
    x, dy = np.random.default_rng(0).integers(7, size=(4, 9)), draw(4, 9, 2)
    expected = other(torch.tensor(x))
    expected.backward(torch.tensor(dy))
    dy[x == padding_idx % 7] = np.nan
    for made in (
        layer,
        copy.deepcopy(layer),
        rr.Embedding(7, 2, padding_idx=padding_idx, backend=backend, dtype="float64", params=weight_of),
    ):
        y, _, cache = made.forward(backend.asarray(x))
        assert_close(backend, y, expected.detach().numpy(), tolerance=0)
        _, _, grads = made.backward(cache, backend.asarray(dy))
        assert_close(backend, grads["weight"], other.weight.grad.numpy(), tolerance=1e-14)


def test_embedding_of_padding_is_saved_shown_and_checked(tmp_path: Path) -> None:
    layer = rr.Embedding(3, 2, padding_idx=-1, seed=0)
    assert "padding_idx=2" in repr(layer)
    rr.save(layer, tmp_path / "model.safetensors")
    again = rr.load(tmp_path / "model.safetensors")
    assert again.padding_idx == layer.to(dtype="float64").padding_idx == 2
    assert_same(again.state_dict()["weight"], layer.state_dict()["weight"])
    assert rr.check_gradients(rr.Sequential(layer, rr.LSTM(2, 3, seed=0))).ok
    for wrong in (3, -4):
        with pytest.raises(ValueError, match="padding_idx must be a row of the table, from -3 to 2, not"):
            rr.Embedding(3, 2, padding_idx=wrong)
    with pytest.raises(TypeError, match="padding_idx must be an integer"):
        rr.Embedding(3, 2, padding_idx=1.0)


# Dropout --------------------------------------------------------------------------------------------------------------


def test_dropout_drops_and_scales(backend: Backend) -> None:
    """As many as it should; what is kept is scaled up so that the mean stays; the gradient is dropped alike."""
    layer = rr.Dropout(0.3, backend=backend, dtype="float64", seed=0)
    y, _, cache = layer.forward(backend.asarray(np.full((100, 200), 7.0)))
    y = backend.to_numpy(y)
    assert_same(np.unique(y), np.array([0.0, 7.0 / 0.7]))
    assert np.mean(y == 0) == pytest.approx(0.3, abs=0.015)
    assert y.mean() == pytest.approx(7, rel=0.02)
    dy = draw(100, 200)
    dx, _, grads = layer.backward(cache, backend.asarray(dy))
    assert_close(backend, dx, np.where(y == 0, 0, dy / 0.7))
    assert grads == {}


def test_dropout_draws_the_same_on_every_backend(backend: Backend) -> None:
    x = draw(3, 4, 5)
    for dtype in ("float64", "float32"):
        layer, expected = (rr.Dropout(0.5, backend=b, dtype=dtype, seed=8) for b in (backend, None))
        for _ in range(2):
            assert_close(backend, layer.forward(backend.asarray(x))[0], expected.forward(x)[0], dtype=dtype)


def test_dropout_from_a_given_generator(backend: Backend) -> None:
    """The layer's own isn't touched by it, and not by inference."""
    layer, x = rr.Dropout(0.5, backend=backend, dtype="float64", seed=8), backend.asarray(draw(3, 4, 5))
    before = layer.rng.bit_generator.state
    first, second = (layer.forward(x, rng=np.random.default_rng(1))[0] for _ in range(2))
    assert_same(backend.to_numpy(first), backend.to_numpy(second))
    other = layer.forward(x, rng=np.random.default_rng(2))[0]
    assert not np.array_equal(backend.to_numpy(first), backend.to_numpy(other))
    layer(x)
    layer.forward(x, training=False)
    copy = layer.astype("float32")
    copied = backend.to_numpy(copy.forward(x)[0])
    assert layer.rng.bit_generator.state == before
    assert_same(copied, backend.to_numpy(layer.forward(x)[0]).astype(np.float32))


def test_dropout_can_be_saved_and_resumed() -> None:
    layer, x = rr.Dropout(0.5, dtype="float64", seed=8), draw(3, 4, 5)
    first = layer.forward(x)[0]
    saved = layer.rng.bit_generator.state
    second = layer.forward(x)[0]
    assert not np.array_equal(first, second)
    other = rr.Dropout(0.5, dtype="float64", seed=0)
    other.rng.bit_generator.state = saved
    assert_same(other.forward(x)[0], second)


@pytest.mark.parametrize(("p", "training"), [(0.5, False), (0.0, True)])
def test_dropout_that_drops_nothing(p: float, training: bool, backend: Backend) -> None:
    layer, x = rr.Dropout(p, backend=backend, dtype="float64"), draw(3, 4)
    y, _, cache = layer.forward(backend.asarray(x), training=training)
    assert_close(backend, y, x, tolerance=0)
    assert_close(backend, layer.backward(cache, backend.asarray(2 * x))[0], 2 * x, tolerance=0)
    assert_close(backend, layer(backend.asarray(x))[0], x, tolerance=0)


def test_each_dropout_of_a_model_draws_its_own(backend: Backend) -> None:
    options: dict[str, Any] = {"backend": backend, "dtype": "float64"}
    model = rr.Sequential(rr.Dropout(0.5, seed=0, **options), rr.Dropout(0.5, seed=1, **options))
    y = backend.to_numpy(model.forward(backend.asarray(np.ones((100, 100))), rng=np.random.default_rng(0))[0])
    assert np.mean(y == 0) == pytest.approx(0.75, abs=0.02)
    assert_same(np.unique(y), np.array([0.0, 4.0]))


# LayerNorm ------------------------------------------------------------------------------------------------------------


def test_layer_norm_starts_as_plain_normalisation(backend: Backend) -> None:
    layer = rr.LayerNorm(5, backend=backend, dtype="float64")
    assert_all_same(layer.state_dict(), {"weight": np.ones(5), "bias": np.zeros(5)})
    y = backend.to_numpy(layer(backend.asarray(1000 + 50 * draw(20, 5)))[0])
    np.testing.assert_allclose(y.mean(axis=-1), 0, atol=1e-12)
    np.testing.assert_allclose(y.std(axis=-1), 1, atol=1e-4)


@pytest.mark.parametrize("eps", [1e-5, 0.5])
def test_layer_norm_of_what_does_not_vary(eps: float, backend: Backend) -> None:
    """Finite, and with the eps that was asked for."""
    layer = rr.LayerNorm(3, eps=eps, backend=backend, dtype="float64")
    with np.errstate(all="raise"):
        y, _, cache = layer.forward(backend.asarray(np.full((2, 3), 4.0)))
        dx, _, _ = layer.backward(cache, backend.asarray(np.array([[1.0, 0.0, -1.0]] * 2)))
    assert_close(backend, y, np.zeros((2, 3)))
    assert_close(backend, dx, np.array([[1.0, 0.0, -1.0]] * 2) / np.sqrt(eps))


# Activation -----------------------------------------------------------------------------------------------------------


PYTORCH_FUNCTIONS = {
    "tanh": ("tanh", {}),
    "sigmoid": ("sigmoid", {}),
    "relu": ("relu", {}),
    "leaky_relu": ("leaky_relu", {}),
    "thresholded_relu": ("threshold", {"threshold": 1, "value": 0}),
    "elu": ("elu", {}),
    "softplus": ("softplus", {"threshold": 500}),
    "softsign": ("softsign", {}),
    "hard_sigmoid": ("hardsigmoid", {}),
    "relu6": ("relu6", {}),
    "hard_tanh": ("hardtanh", {}),
    "selu": ("selu", {}),
    "silu": ("silu", {}),
    "hard_silu": ("hardswish", {}),
    "gelu": ("gelu", {}),
    "gelu_tanh": ("gelu", {"approximate": "tanh"}),
    "mish": ("mish", {}),
    "softmax": ("softmax", {"dim": -1}),
    "log_softmax": ("log_softmax", {"dim": -1}),
}


@pytest.mark.parametrize("name", PYTORCH_FUNCTIONS)
def test_activation_is_that_of_pytorch(name: str) -> None:
    """In value and gradient, also far from zero and at the corners."""
    torch = need("torch")
    function, arguments = PYTORCH_FUNCTIONS[name]
    x = np.array([[-1000.0, -30.0, -3.0, -1e-3], [0.0, -0.0, 1e-3, 1.0], [3.0, 20.0, 30.0, 1000.0]])
    given = torch.tensor(x, requires_grad=True)
    expected = getattr(torch.nn.functional, function)(given, **arguments)
    dy = draw(3, 4)
    expected.backward(torch.tensor(dy))
    layer = rr.Activation(name, dtype="float64")
    with np.errstate(all="raise", under="ignore"):  # exp(-1000) is zero
        y, _, cache = layer.forward(x)
        dx, _, _ = layer.backward(cache, dy)
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-12, atol=1e-15)
    rounding = 1e-7 if name == "hard_sigmoid" else 1e-12  # PyTorch's slope of 1/6 is single precision
    np.testing.assert_allclose(dx, given.grad.numpy(), rtol=rounding, atol=1e-15)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", formulas.ACTIVATIONS)
def test_activation_of_large_numbers(name: str, dtype: str, backend: Backend) -> None:
    x = np.array([[-1e4, 1e4, -90.0, 90.0, 0.0]])
    layer = rr.Activation(name, backend=backend, dtype=dtype)
    with np.errstate(all="raise", under="ignore"):
        y, _, cache = layer.forward(backend.asarray(x))
        dx, _, _ = layer.backward(cache, backend.asarray(np.ones((1, 5))))
    for found in (y, dx):  # infinite is an exponential that is too large, and its slope, alone
        value = backend.to_numpy(found)
        too_large = (name == "exponential") & (x > np.log(np.finfo(dtype).max))
        assert np.array_equal(~np.isfinite(value), too_large)
        assert not np.isnan(value).any()


# Last -----------------------------------------------------------------------------------------------------------------


def test_last_of_an_lstm_is_its_final_state(backend: Backend) -> None:
    """With rows of length 0 too, whose final state is the start state."""
    options: dict[str, Any] = {"backend": backend, "dtype": "float64"}
    lstm, last = rr.LSTM(2, 3, seed=0, **options), rr.Last(**options)
    start = rr.State(backend.asarray(draw(1, 4, 3)), backend.asarray(draw(1, 4, 3, seed=1)))
    for lengths in (None, [3, 0, 5, 1], [0, 0, 0, 0]):
        y, end = lstm(backend.asarray(draw(4, 5, 2)), start, lengths)
        found, carried = last(y, rr.State(start.h), lengths)
        assert_same(backend.to_numpy(found), backend.to_numpy(end.h)[0])
        assert_same(backend.to_numpy(carried.h), backend.to_numpy(end.h))


# Sequential -----------------------------------------------------------------------------------------------------------


def model(backend: Any = None, dtype: str = "float64") -> rr.Sequential:
    options: dict[str, Any] = {"backend": backend, "dtype": dtype}
    return rr.Sequential(
        rr.LSTM(2, 3, bias=False, seed=0, **options),
        rr.Sequential(rr.LayerNorm(3, **options), rr.LSTM(3, 4, bias=False, seed=1, **options)),
        rr.Last(**options),
        rr.Linear(4, 2, seed=2, **options),
    )


NAMES = ["0.weight_ih_l0", "0.weight_hh_l0", "1.0.weight", "1.0.bias", "1.1.weight_ih_l0", "1.1.weight_hh_l0"]
NAMES += ["3.weight", "3.bias"]


def test_sequential_is_its_layers_one_by_one(backend: Backend) -> None:
    """With each layer's own state going in and coming out, and the same backwards."""
    together = model(backend)
    first, (norm, second), last, linear = (
        layer.layers if isinstance(layer, rr.Sequential) else layer for layer in together.layers
    )
    lengths = [4, 0, 5]

    def state(size: int, seed: int) -> rr.State:
        return rr.State(*(backend.asarray(draw(1, 3, size, seed=seed + k)) for k in range(2)))

    start = (state(3, 0), (None, state(4, 2)), rr.State(backend.asarray(draw(1, 3, 4))), None)
    dend = (state(3, 4), (None, state(4, 6)), None, None)
    x, dy = backend.asarray(draw(3, 5, 2)), backend.asarray(draw(3, 2))
    y, end, cache = together.forward(x, start, lengths)
    dx, dstart, grads = together.backward(cache, dy, dend)

    a, end_0, cache_0 = first.forward(x, start[0], lengths)
    b, _, cache_1 = norm.forward(a)
    c, end_1, cache_2 = second.forward(b, start[1][1], lengths)
    d, end_2, cache_3 = last.forward(c, start[2], lengths)
    y_apart, _, cache_4 = linear.forward(d)
    dd, _, grads_4 = linear.backward(cache_4, dy)
    dc, dstart_2, _ = last.backward(cache_3, dd)
    db, dstart_1, grads_2 = second.backward(cache_2, dc, dend[1][1])
    da, _, grads_1 = norm.backward(cache_1, db)
    dx_apart, dstart_0, grads_0 = first.backward(cache_0, da, dend[0])

    expected = {"y": y_apart, "dx": dx_apart}
    for place, own in (("0.", grads_0), ("1.0.", grads_1), ("1.1.", grads_2), ("3.", grads_4)):
        expected |= {place + name: value for name, value in own.items()}
    assert_all_same(host(backend, {"y": y, "dx": dx} | grads), host(backend, expected))
    assert_all_same(flat(backend, end), flat(backend, (end_0, (None, end_1), end_2, None)))
    assert_all_same(flat(backend, dstart), flat(backend, (dstart_0, (None, dstart_1), dstart_2, None)))


def test_a_nested_sequential_keeps_time_first(backend: Backend) -> None:
    """With as many rows as steps no shape tells which axis is time."""
    options: dict[str, Any] = {"batch_first": False, "backend": backend, "dtype": "float64"}
    lstm = rr.LSTM(2, 3, seed=0, **options)
    nested = rr.Sequential(rr.Sequential(rr.Sequential(lstm), rr.Dropout(backend=backend, dtype="float64")))
    x, dy, lengths = backend.asarray(draw(4, 4, 2)), backend.asarray(draw(4, 4, 3)), [1, 4, 2, 0]
    y, _, cache = nested.forward(x, lengths=lengths, training=False)
    dx, _, grads = nested.backward(cache, dy)
    y_apart, _, cache = lstm.forward(x, lengths=lengths)
    dx_apart, _, grads_apart = lstm.backward(cache, dy)
    expected = {"y": y_apart, "dx": dx_apart} | {f"0.0.0.{name}": value for name, value in grads_apart.items()}
    assert_all_same(host(backend, {"y": y, "dx": dx} | grads), host(backend, expected))


def test_a_sequential_tells_its_layout() -> None:
    assert rr.Sequential(rr.Dropout(), rr.Sequential(rr.Last(batch_first=False))).batch_first is False
    assert rr.Sequential(rr.Sequential(rr.Dropout()), rr.LSTM(2, 3)).batch_first is True
    assert rr.Sequential(rr.Dropout()).batch_first is None


def test_sequential_params_are_the_layers_own() -> None:
    """Named by place, read and written through, in one order everywhere."""
    together = model()
    assert list(together.params) == list(together.state_dict()) == NAMES
    assert len(together.params) == len(NAMES)
    assert together.params["3.weight"] is together.layers[3].params["weight"]
    new = np.ones((16, 3))
    together.params["1.1.weight_ih_l0"] = new
    assert together.layers[1].layers[1].params["weight_ih_l0"] is new
    assert together.param_count() == sum(value.size for value in together.state_dict().values())
    for unknown in ("weight", "9.weight", "3.weights", "x.weight", "2.weight", "-1.weight", 3):
        assert unknown not in together.params
        with pytest.raises(KeyError):
            together.params[unknown]
        with pytest.raises(KeyError):
            together.params[unknown] = new
    with pytest.raises(TypeError, match="can be replaced but not deleted"):
        del together.params["3.weight"]


def test_sequential_knows_whether_it_can_be_streamed() -> None:
    assert model().streamable
    both_ways = rr.LSTM(2, 2, bidirectional=True)
    assert not rr.Sequential(rr.LSTM(2, 2), rr.Sequential(both_ways)).streamable


def test_sequential_has_no_gradient_to_give_below_an_embedding() -> None:
    table = rr.Sequential(rr.Embedding(5, 2, seed=0))
    _, _, cache = table.forward(np.array([[1, 2]]))
    assert table.backward(cache, np.ones((1, 2, 2), np.float32))[0] is None


def test_sequential_repr_shows_each_layer() -> None:
    lines = repr(model()).splitlines()
    assert lines[0] == "Sequential("
    assert lines[1].startswith("    0: LSTM(2, 3, bias=False, backend='numpy'")
    assert lines[3].startswith("        0: LayerNorm(3, ")
    assert lines[-1] == f")  # {model().param_count():,} params"


def test_reprs_show_what_was_asked_for() -> None:
    for layer, start in (
        (rr.Linear(3, 2, bias=False), "Linear(3, 2, bias=False, backend='numpy', dtype='float32')  # 6 params"),
        (rr.Embedding(5, 2), "Embedding(5, 2, backend="),
        (rr.Dropout(0.25), "Dropout(0.25, backend="),
        (rr.LayerNorm(3, eps=0.1), "LayerNorm(3, eps=0.1, backend="),
        (rr.Activation("relu"), "Activation('relu', backend="),
        (rr.Merge("ave"), "Merge('ave', backend="),
        (rr.Last(batch_first=False), "Last(batch_first=False, backend="),
    ):
        assert repr(layer).startswith(start)


@pytest.mark.parametrize("first", ["linear", "embedding"])
def test_sequential_ignores_padding_below_and_above_a_recurrent_layer(first: str, backend: Backend) -> None:
    """Time-wise layers know no lengths: NaN, or an integer out of range, must not get into or out of them."""
    below = rr.Linear(3, 4, backend=backend, dtype="float64", seed=0)
    if first == "embedding":
        below = rr.Embedding(5, 4, backend=backend, dtype="float64", seed=0)
    lstm = rr.LSTM(4, 3, backend=backend, dtype="float64", seed=1)
    model = rr.Sequential(below, lstm, rr.Linear(3, 2, backend=backend, dtype="float64", seed=2))
    rng = np.random.default_rng(3)
    x = rng.integers(0, 5, (2, 6)) if first == "embedding" else rng.standard_normal((2, 6, 3))
    dy = rng.standard_normal((2, 6, 2))
    results = []
    for padding in (0, -7 if first == "embedding" else np.nan):
        x[1, 4:] = padding
        dy[1, 4:] = np.nan if padding else 0.0
        y, _, cache = model.forward(backend.asarray(x), lengths=[6, 4])
        dx, _, grads = model.backward(cache, backend.asarray(dy))
        results.append([y, *grads.values()] + ([] if dx is None else [dx]))
    for clean, padded in zip(*results, strict=True):
        assert np.isfinite(backend.to_numpy(padded)).all()
        assert_same(backend.to_numpy(padded), backend.to_numpy(clean))
    assert not backend.to_numpy(results[1][0])[1, 4:].any()


def test_a_copy_of_a_layer_is_its_own() -> None:
    """copy.deepcopy keeps the best model, say."""
    model = rr.Sequential(rr.LSTM(3, 4, dropout=0.0, seed=0), rr.Linear(4, 2, seed=1))
    other = copy.deepcopy(model)
    before = model.state_dict()
    for name in other.params:
        other.params[name] = other.params[name] + 1
    assert other.backend is model.backend
    for name, value in model.state_dict().items():
        assert_same(value, before[name])
        assert_same(other.state_dict()[name], value + 1)


def test_repr_of_a_layer_that_is_made_with_an_array() -> None:
    class Shifted(StatelessLayer):
        def __init__(self, by: Any = None, times: int = 1, *, backend: Any = None, dtype: Any = None) -> None:
            self.by, self.times = by, times
            self.runs_on(backend, dtype)
            self.params = {}

        def apply(self, x: Any, lengths: Any, training: bool, rng: Any) -> Any:
            return x + self.times * self.by, None

        def apply_backward(self, cache: Any, dy: Any) -> Any:
            return dy, {}

        def random_input(self, rng: Any, batch: int, steps: int) -> Any:
            return rng.standard_normal((batch, steps, 2))

    layer = Shifted(np.ones(2), backend="numpy")
    assert repr(layer) == "Shifted(by=array([1., 1.]), backend='numpy', dtype='float32')  # 0 params"
    assert repr(Shifted(times=2, backend="numpy")).startswith("Shifted(times=2, backend")
