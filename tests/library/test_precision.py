"""Functions in float32 and float64 within units in the last place, on every path: tiny results too."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import here, obtain
from harness.needs import need
from recurray.activations import activation
from recurray.backend import Backend

LEAST = {"float32": -87.3, "float64": -708.3}  # exp of it is nearly the smallest normal number
WITHIN = 4.0  # units in the last place


def spread_out(dtype: str) -> np.ndarray:
    """Numbers whose exponentials are normal, many around 0."""
    rng = np.random.default_rng(0)
    least = LEAST[dtype]
    wide = np.concatenate([np.linspace(least, 60, 900), rng.uniform(-20, 20, 500), 0.01 * rng.standard_normal(100)])
    return np.concatenate([wide, [0.0, least, -17.0, -18.0, -1e-30]]).astype(dtype)


def exact_sigmoid(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a.astype(np.longdouble)))


def assert_precise(found: Any, exact: np.ndarray, dtype: str, within: float = WITHIN) -> None:
    found = np.asarray(found)
    assert found.dtype == dtype
    error = np.abs(found - exact) / np.spacing(np.abs(exact).astype(dtype))
    assert error.max() <= within, (error.max(), found[error.argmax()], exact[error.argmax()])


# Functions by themselves ----------------------------------------------------------------------------------------------


FUNCTIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], float]] = {  # exactly, their slope, and a bound
    "sigmoid": (exact_sigmoid, lambda a: exact_sigmoid(a) * exact_sigmoid(-a), 4),
    "softplus": (lambda a: np.log1p(np.exp(a)), exact_sigmoid, 5),
    "tanh": (np.tanh, lambda a: 1 / np.cosh(a) ** 2, 8),  # which is the libraries' own
    "elu": (lambda a: np.where(a > 0, a, np.expm1(a)), lambda a: np.where(a > 0, 1, np.exp(a)), 4),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_as_precise_where_they_are_tiny(name: str, dtype: str, backend: Backend) -> None:
    function, exact = activation(name), FUNCTIONS[name][0]
    a = spread_out(dtype)
    found = function.forward(backend.asarray(a))
    assert_precise(backend.to_numpy(found), exact(a.astype(np.longdouble)), dtype, FUNCTIONS[name][2])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["sigmoid", "softplus"])
def test_slopes_are_as_precise_where_they_are_tiny(name: str, dtype: str, backend: Backend) -> None:
    """Told from the output, to the left; to the right they are known to the rounding of an output close to 1."""
    function, slope = activation(name), FUNCTIONS[name][1]
    a = spread_out(dtype)
    a = a[a <= 0]
    found = function.derivative(function.forward(backend.asarray(a)))
    assert_precise(backend.to_numpy(found), slope(a.astype(np.longdouble)), dtype, 8)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_sigmoid_of_what_is_not_finite(dtype: str, backend: Backend) -> None:
    a = backend.asarray(np.array([-np.inf, np.inf, np.nan, -1e4, 1e4], dtype))
    np.testing.assert_array_equal(backend.to_numpy(activation("sigmoid").forward(a)), [0, 1, np.nan, 0, 1])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_hard_sigmoid_is_precise_at_its_foot(dtype: str, backend: Backend) -> None:
    a = np.asarray(-3 + np.exp(np.linspace(-12, 1, 200)), dtype)
    found = activation("hard_sigmoid").forward(backend.asarray(a))
    assert_precise(backend.to_numpy(found), (a.astype(np.longdouble) + 3) / 6, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tiny_probabilities_are_precise(dtype: str, backend: Backend) -> None:
    a = np.stack([np.zeros(41), -np.arange(41.0)], axis=-1).astype(dtype)  # what is subtracted from them is exact
    found = backend.to_numpy(rr.Activation("softmax", backend=backend, dtype=dtype)(backend.asarray(a))[0])
    assert_precise(found[:, 1], exact_sigmoid(a[:, 1]), dtype)


# Functions whose slope is told from the input, and others that tend to 0 or to infinity -------------------------------

Number = Any  # mpmath's


def logistic(a: Number) -> Number:
    return 1 / (1 + need("mpmath").exp(-a))


def in_gelu_tanh(a: Number) -> Number:
    """What the logistic function is of there."""
    mpmath = need("mpmath")
    return 2 * mpmath.sqrt(2 / mpmath.pi) * (a + mpmath.mpf("0.044715") * a**3)


# Exactly, the least argument in either precision, and how many units in the last place the error may be. To the left it
# is that of what exp is given, of gelu about a²/2: no more than a rounding of the argument makes.
OF_INPUT: dict[str, tuple[Callable[[Number], Number], tuple[float, float], Callable[[Any], Any]]] = {
    "silu": (lambda a: a * logistic(a), (-83.0, -700.0), lambda a: 4),
    "gelu": (
        lambda a: a * need("mpmath").erfc(-a / need("mpmath").sqrt(2)) / 2,
        (-12.9, -37.4),
        lambda a: 4 + np.where(a < 0, a * a, 0),
    ),
    "gelu_tanh": (
        lambda a: a * logistic(in_gelu_tanh(a)),
        (-9.9, -21.0),
        lambda a: 5 + np.where(a < 0, -4 * (1.6 * a + 0.0714 * a**3), 0),
    ),
    "mish": (
        lambda a: a * need("mpmath").tanh(need("mpmath").log1p(need("mpmath").exp(a))),
        (-83.0, -700.0),
        lambda a: 5,
    ),
    "selu": (
        lambda a: (
            need("mpmath").mpf("1.0507009873554804934193349852946")
            * (a if a > 0 else need("mpmath").mpf("1.6732632423543772848170429916717") * need("mpmath").expm1(a))
        ),
        (-83.0, -700.0),
        lambda a: 4,
    ),
    "exponential": (lambda a: need("mpmath").exp(a), (-83.0, -700.0), lambda a: 3),
}


@cache
def exactly(name: str, dtype: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Arguments, and the function and its slope there, as exact as 80 bits are."""
    mpmath, rng = need("mpmath"), np.random.default_rng(0)
    function, least, _ = OF_INPUT[name]
    low = least[dtype == "float64"]
    tiny = rng.standard_normal(60) * np.exp(rng.uniform(-30, 0, 60))
    a = np.concatenate([rng.uniform(-5, 5, 120), rng.uniform(low, -5, 120), [low], rng.uniform(5, 80, 30), tiny])
    a = a.astype(dtype)
    found = []
    with mpmath.workdps(50):
        for number in a:
            exact = mpmath.mpf(float(number))
            pair = function(exact), mpmath.diff(function, exact)
            found.append([np.longdouble(mpmath.nstr(value, 25)) for value in pair])
    values, slopes = np.array(found).T
    return a, values, slopes


def assert_exact(name: str, a: np.ndarray, y: Any, slope: Any, dtype: str) -> None:
    _, values, slopes = exactly(name, dtype)
    bound = np.broadcast_to(OF_INPUT[name][2](a.astype(float)), a.shape)
    error = np.abs(y - values) / np.spacing(np.abs(values).astype(dtype))
    worst = (error / bound).argmax()
    assert (error <= bound).all(), (a[worst], error[worst], bound[worst])
    # A slope that passes 0 is known to the rounding of what is added up in it.
    allowed = 2 * bound * np.maximum(np.abs(slopes), np.where(np.abs(a) < 5, 0.5, 0)) * np.finfo(dtype).eps
    if name == "selu":  # told from the output
        allowed = np.maximum(allowed, 4 * np.finfo(dtype).eps)
    worst = (np.abs(slope - slopes) / allowed).argmax()
    assert (np.abs(slope - slopes) <= allowed).all(), (a[worst], slope[worst], slopes[worst])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OF_INPUT)
def test_functions_are_exact_to_a_few_units(name: str, dtype: str, backend: Backend) -> None:
    a = exactly(name, dtype)[0]
    function, x = activation(name), backend.asarray(a)
    y = function.forward(x)
    slope = function.derivative(function.kept(x, y))
    assert_exact(name, a, backend.to_numpy(y), backend.to_numpy(slope), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OF_INPUT)
def test_functions_in_a_layer_are_exact_to_a_few_units(name: str, dtype: str, backend: Backend) -> None:
    """The bias is the argument: of one step of one row, and of a batch, whose gradient is the sum of its rows'."""
    a = exactly(name, dtype)[0]
    layer = rr.RNN(1, len(a), nonlinearity=name, backend=backend, dtype=dtype, seed=0)
    zeros_but(layer, bias_ih_l0=a)
    for batch in (1, 4):
        y, _, cache = layer.forward(backend.asarray(np.zeros((batch, 1, 1), dtype)))
        grads = layer.backward(cache, backend.asarray(np.ones((batch, 1, len(a)), dtype)))[2]
        slope = backend.to_numpy(grads["bias_ih_l0"]) / batch
        assert_exact(name, a, backend.to_numpy(y)[-1, 0], slope, dtype)


ENDS = [np.inf, -np.inf, np.nan, 0.0, 1e38, -1e38]
AT_ENDS: dict[str, tuple[list[float], list[float]]] = {  # values and slopes
    **dict.fromkeys(("silu", "gelu", "gelu_tanh"), ([np.inf, 0, np.nan, 0, 1e38, 0], [1, 0, np.nan, 0.5, 1, 0])),
    "mish": ([np.inf, 0, np.nan, 0, 1e38, 0], [1, 0, np.nan, 0.6, 1, 0]),
    "exponential": ([np.inf, 0, np.nan, 1, np.inf, 0], [np.inf, 0, np.nan, 1, np.inf, 0]),
    "hard_silu": ([np.inf, 0, np.nan, 0, 1e38, 0], [1, 0, np.nan, 0.5, 1, 0]),
    "relu6": ([6, 0, np.nan, 0, 6, 0], [0] * 6),
    "hard_tanh": ([1, -1, np.nan, 0, 1, -1], [0, 0, 0, 1, 0, 0]),
    "softsign": ([1, -1, np.nan, 0, 1, -1], [0, 0, np.nan, 1, 0, 0]),
    "tanh": ([1, -1, np.nan, 0, 1, -1], [0, 0, np.nan, 1, 0, 0]),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", AT_ENDS)
def test_functions_at_their_ends(name: str, dtype: str, backend: Backend) -> None:
    """What isn't finite, 0, and what is nearly too large, without a warning; in a layer what is finite."""
    a, (values, slopes) = np.array(ENDS, dtype), AT_ENDS[name]
    function, x = activation(name), backend.asarray(a)
    y = function.forward(x)
    slope = function.derivative(function.kept(x, y))
    np.testing.assert_allclose(backend.to_numpy(y), values, rtol=1e-6)
    np.testing.assert_allclose(backend.to_numpy(slope), slopes, rtol=1e-6)
    finite = np.isfinite(a) & np.isfinite(values)
    layer = rr.RNN(1, int(finite.sum()), nonlinearity=name, backend=backend, dtype=dtype, seed=0)
    zeros_but(layer, bias_ih_l0=a[finite])
    y, _, cache = layer.forward(backend.asarray(np.zeros((2, 1, 1), dtype)))
    slope = layer.backward(cache, backend.asarray(np.ones(y.shape, dtype)))[2]["bias_ih_l0"]
    np.testing.assert_allclose(backend.to_numpy(y)[1, 0], np.array(values)[finite], rtol=1e-6)
    np.testing.assert_allclose(backend.to_numpy(slope) / 2, np.array(slopes)[finite], rtol=1e-6)


# Gates ----------------------------------------------------------------------------------------------------------------


def zeros_but(layer: Any, **params: np.ndarray) -> None:
    zeros = {name: np.zeros_like(value) for name, value in layer.state_dict().items()}
    layer.load_state_dict(zeros | {name: np.asarray(value, layer.dtype) for name, value in params.items()})


def by_gate(**gates: Any) -> np.ndarray:
    """The rows of i f g o: where the input gate is all that isn't open or closed, c after a step is that gate."""
    rows = np.broadcast_arrays(gates["i"], -1e4, 1e4, 1e4)
    return np.stack(rows)


def lstm(a: np.ndarray, backend: Backend, dtype: str, **options: Any) -> Any:
    layer = rr.LSTM(1, len(a), backend=backend, dtype=dtype, seed=0, **options)
    zeros_but(layer, bias_ih_l0=by_gate(i=a).reshape(-1))
    return layer, "bias_ih_l0"


def diagonal_lstm(a: np.ndarray, backend: Backend, dtype: str) -> Any:
    layer = rr.DiagonalLSTM(1, len(a), backend=backend, dtype=dtype, seed=0)
    zeros_but(layer, b=by_gate(i=a))
    return layer, "b"


LAYERS: dict[str, Callable[..., Any]] = {
    "lstm": lstm,
    "with peepholes": lambda *given: lstm(*given, peepholes=True),
    "with clipped gates": lambda *given: lstm(*given, gate_clip=1e5),
    "diagonal": diagonal_lstm,
}
FORMS = {"a step": (1, 1), "a few steps": (1, 5), "many steps": (1, 140), "a batch": (3, 5)}


def sizes(form: str, backend: Backend) -> tuple[int, int]:
    """Rows and steps: many where they are computed some at a time."""
    batch, steps = FORMS[form]
    return batch, steps if backend.name == "numpy" else min(steps, 10)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gates_are_as_precise_where_they_are_tiny(kind: str, form: str, dtype: str, backend: Backend) -> None:
    a = spread_out(dtype)[::7]
    layer, biases = LAYERS[kind](a, backend, dtype)
    batch, steps = sizes(form, backend)
    x = backend.asarray(np.zeros((batch, steps, 1), dtype))
    exact = exact_sigmoid(a)
    state = None
    for _ in range(3):  # the second call may go another way
        _, state = layer(x, state)
        assert_precise(backend.to_numpy(state.c)[0, -1], exact, dtype)
    _, end, cache = layer.forward(x)
    assert_precise(backend.to_numpy(end.c)[0, -1], exact, dtype)

    dend = rr.State(backend.xp.zeros_like(end.h), backend.xp.ones_like(end.c))
    y = backend.xp.zeros_like(layer(x)[0])
    found = backend.to_numpy(layer.backward(cache, y, dend)[2][biases]).reshape(4, -1)[0]
    slope = batch * exact * exact_sigmoid(-a)
    left = a <= 0  # to the right the slope is told from a rounded 1
    assert_precise(found[left], slope[left], dtype, 12)
    np.testing.assert_allclose(found, slope.astype(float), rtol=0, atol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_update_gate_of_a_gru_too(form: str, dtype: str, backend: Backend) -> None:
    a = spread_out(dtype)[::7]
    layer = rr.GRU(1, len(a), backend=backend, dtype=dtype, seed=0)
    zeros_but(layer, bias_ih_l0=np.concatenate([np.zeros_like(a), a, np.zeros_like(a)]))
    batch, steps = sizes(form, backend)
    steps = min(steps, 1) if form != "many steps" else steps
    rows = np.zeros((batch, steps, 1), dtype)
    start = rr.State(backend.asarray(np.ones((1, batch, len(a)), dtype)))
    for _ in range(3):
        y, _ = layer(backend.asarray(rows), start)
        assert_precise(backend.to_numpy(y)[-1, 0], exact_sigmoid(a), dtype)  # the state before, times the gate


# What that is for -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [-16.0, -17.0, -18.0, -30.0])
@pytest.mark.parametrize("platform", here("numpy", "native", "reference", "torch"))
def test_a_long_memory_is_the_same_however_it_is_computed(bias: float, platform: str) -> None:
    """With an input gate all but closed, c is a sum of tiny contributions."""
    backend, size, steps = obtain(platform), 8, 150
    rng = np.random.default_rng(1)
    x = rng.standard_normal((1, steps, 3))
    ends, grads = {}, {}
    for dtype in ("float64", "float32"):
        layer = rr.LSTM(3, size, backend=backend, dtype=dtype, seed=0)
        params = layer.state_dict()
        params["bias_ih_l0"][:size] = bias
        params["bias_ih_l0"][size : 2 * size] = 10.0
        layer.load_state_dict(params)
        given = backend.asarray(x.astype(dtype))
        y, end, cache = layer.forward(given)
        ends[dtype] = backend.to_numpy(end.c)
        _, _, of_params = layer.backward(cache, backend.xp.ones_like(y), None)
        grads[dtype] = backend.to_numpy(of_params["bias_ih_l0"])[:size]
    np.testing.assert_allclose(ends["float32"], ends["float64"], rtol=1e-4, atol=1e-6 * np.abs(ends["float64"]).max())
    np.testing.assert_allclose(
        grads["float32"], grads["float64"], rtol=1e-4, atol=1e-5 * np.abs(grads["float64"]).max()
    )
    streamed = rr.Streaming(layer)
    for t in range(steps):
        streamed(given[:, t : t + 1, :])
    found = backend.to_numpy(streamed.state.c)
    np.testing.assert_allclose(found, ends["float64"], rtol=1e-4, atol=1e-6 * np.abs(ends["float64"]).max())
