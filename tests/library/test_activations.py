"""Activation functions: values, slopes told from the output, names and parameters; alone, as a layer, in a cell."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import recurray as rr
from harness import assert_close, assert_same, here, obtain
from harness.lstm_formulas import FUNCTIONS
from harness.needs import need
from recurray.activations import Elementwise, HardSigmoid, LeakyRelu, Tanh, activation
from recurray.activations.by_name import ALIASES, ELEMENTWISE
from recurray.backend import Backend
from recurray.cells import Cell, CellGradients
from recurray.program import record

# Each function with its default and with other parameters
SPECS: list[Any] = [
    *((name,) for name in ELEMENTWISE),
    ("leaky_relu", 0.3),
    ("leaky_relu", 0.0),
    ("leaky_relu", 1.7),
    ("thresholded_relu", 0.2),
    ("thresholded_relu", -0.4),
    ("elu", 0.5),
    ("elu", 2.0),
    ("elu", 0.0),
    ("elu", -0.7),
    ("leaky_relu", -0.3),
    ("hard_tanh", -0.3, 1.2),
    ("hard_sigmoid", 0.2, 0.5),
    ("hard_sigmoid", -0.4, 0.3),
    ("scaled_tanh", 0.8, 1.3),
    ("scaled_tanh", -0.8, 0.5),
    ("affine", 0.7, -0.2),
    ("affine", -1.5),
    ("affine", 0.0, 0.3),
]
X = np.array([-30.0, -4.0, -3.001, -1.7, -0.6, -0.41, -0.1, -1e-3, 1e-3, 0.1, 0.19, 0.6, 0.99, 1.01, 2.2, 3.001, 25.0])


def value_and_slope(moved: complex) -> tuple[float, float]:
    return moved.real, moved.imag / 1e-30


def test_every_function_is_here() -> None:
    assert set(ELEMENTWISE) == set(FUNCTIONS)
    page = (Path(__file__).parents[2] / "docs" / "mathematics.md").read_text(encoding="utf-8")
    for name in (*ELEMENTWISE, *ALIASES):
        assert re.search(rf"^\|.*\b{name}\b", page, re.MULTILINE), name


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_value_and_slope(spec: Any, backend: Backend) -> None:
    """Against ONNX's formulas, written once more, and their complex-step derivatives."""
    name, *parameters = spec
    moved = [complex(FUNCTIONS[name](complex(number, 1e-30), *parameters)) for number in X]
    function, x = activation(spec), backend.asarray(X)
    y = function.forward(x)
    assert_close(backend, y, np.array([number.real for number in moved]), tolerance=1e-14)
    slope = np.array([number.imag / 1e-30 for number in moved])
    assert_close(backend, function.derivative(function.kept(x, y)), slope, tolerance=1e-13)
    dy = np.random.default_rng(0).standard_normal(X.shape)
    assert_close(backend, function.backward(backend.asarray(dy), function.kept(x, y)), dy * slope, tolerance=1e-13)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_far_out_nothing_overflows(spec: Any) -> None:
    """Values and slopes are right to rounding."""
    name, *parameters = spec
    function = activation(spec)
    for dtype, far in (("float32", 1e4), ("float64", 1e8)):
        x = np.array([-far, -100.0, -89.0, 89.0, 100.0, far], dtype)
        moved = [complex(FUNCTIONS[name](complex(number, 1e-30), *parameters)) for number in x.tolist()]
        with np.errstate(all="raise", under="ignore"):
            y = function.forward(x)
            slope = function.derivative(function.kept(x, y))
        assert y.dtype == slope.dtype == dtype
        rounding = 10 * float(np.finfo(dtype).eps)
        with np.errstate(over="ignore"):  # exponential
            values, slopes = (np.array(part).astype(dtype) for part in zip(*map(value_and_slope, moved), strict=True))
        np.testing.assert_allclose(y, values, rtol=rounding, atol=rounding)
        np.testing.assert_allclose(slope, slopes, rtol=rounding if name == "exponential" else 0, atol=rounding)


@pytest.mark.parametrize(
    "name",
    [
        *("tanh", "sigmoid", "relu", "leaky_relu", "elu", "softplus", "softsign", "hardsigmoid", "relu6", "hardtanh"),
        *("selu", "silu", "hardswish", "gelu", "gelu_tanh", "mish"),
    ],
)
def test_defaults_are_those_of_pytorch(name: str) -> None:
    torch = need("torch")
    function = getattr(torch.nn.functional, name, None) or getattr(torch, name, None)
    if name == "gelu_tanh":
        function = partial(torch.nn.functional.gelu, approximate="tanh")
    x = torch.tensor(X, requires_grad=True)
    y = function(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    ours = activation(name)
    np.testing.assert_allclose(ours.forward(X), y.detach().numpy(), rtol=0, atol=1e-8)
    np.testing.assert_allclose(ours.derivative(ours.kept(X, ours.forward(X))), slope.numpy(), rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("spec", "slope"),
    [
        ("relu", 0.0),
        (("leaky_relu", 0.3), 0.3),
        (("elu", 0.5), 0.5),
        (("thresholded_relu", 0.0), 0.0),
        (("hard_sigmoid", 0.5, 0.0), 0.0),
        (("hard_sigmoid", 0.5, 1.0), 0.0),
    ],
    ids=str,
)
def test_slope_at_a_corner(spec: Any, slope: float) -> None:
    """All of these have their corner at 0."""
    function = activation(spec)
    assert function.derivative(function.kept(np.zeros(1), function.forward(np.zeros(1)))).item() == slope


def test_scaled_tanh_takes_1_to_1() -> None:
    np.testing.assert_allclose(activation("scaled_tanh").forward(np.array([-1.0, 1.0])), [-1.0, 1.0], atol=1e-4)


# Properties ----------------------------------------------------------------------------------------------------------

FALL_SOMEWHERE = ("silu", "hard_silu", "gelu", "gelu_tanh", "mish")
FALLS = [("elu", -0.7), ("leaky_relu", -0.3), ("hard_sigmoid", -0.4, 0.3), ("affine", -1.5), ("scaled_tanh", -0.8, 0.5)]
FALLS += [("thresholded_relu", -0.4)]
NUMBERS = st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=40)


@pytest.mark.parametrize(
    "spec", [spec for spec in SPECS if spec[0] not in FALL_SOMEWHERE and spec not in FALLS], ids=str
)
@given(numbers=NUMBERS, near=st.floats(0, 1, width=32))
@settings(max_examples=30, deadline=None)
def test_what_rises_rises_in_float32(spec: Any, numbers: list[float], near: float) -> None:
    """Within two units in the last place, where the arguments are close together too; no slope is below 0 by more."""
    function = activation(spec)
    x = np.sort(np.array([*numbers, *(near * 1e-6 * number + 1 for number in numbers)], np.float32))
    y = function.forward(x)
    down = np.float32(-np.inf)
    assert (y[1:] >= np.nextafter(np.nextafter(y[:-1], down), down)).all()
    assert (function.derivative(function.kept(x, y)) >= -2 * np.finfo(np.float32).eps).all()


@pytest.mark.parametrize("spec", SPECS, ids=str)
@given(x=st.floats(-20, 20))
@settings(max_examples=40, deadline=None)
def test_slopes_are_those_of_differences(spec: Any, x: float) -> None:
    """At any number that isn't close to a corner."""
    function, step = activation(spec), 1e-6 * max(1.0, abs(x))
    y = function.forward(np.array([x - step, x, x + step]))
    slopes = function.derivative(function.kept(np.array([x - step, x, x + step]), y))
    assume(x != 0 and abs(slopes[2] - slopes[0]) <= 1e-4 * max(1.0, abs(slopes[1])))  # else a corner is between them
    assert (y[2] - y[0]) / (2 * step) == pytest.approx(slopes[1], rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("name", FALL_SOMEWHERE[:-1])
@given(numbers=NUMBERS)
@settings(max_examples=30, deadline=None)
def test_gated_inputs_on_both_sides_of_0(name: str, numbers: list[float]) -> None:
    """What x F(x) lets through of x and holds back of -x is all of x, as F(-x) is 1 - F(x); so with the slopes."""
    function = activation(name)
    for dtype in (np.float32, np.float64):
        x = np.array(numbers, dtype)
        np.testing.assert_allclose(function.forward(x) - function.forward(-x), x, rtol=2 * np.finfo(dtype).eps)
        slopes = function.derivative(x) + function.derivative(-x)
        np.testing.assert_allclose(slopes[x != 0], 1, rtol=2 * np.finfo(dtype).eps)


# Names and parameters ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_function_tells_what_it_is(spec: Any) -> None:
    function = activation(spec)
    assert activation(function) is function
    assert activation(function.spec) == function
    assert hash(activation(function.spec)) == hash(function)
    assert isinstance(function.spec, str if len(spec) == 1 else tuple)


def test_functions_compare_by_value() -> None:
    made = [activation(spec) for spec in SPECS]
    for one, other in itertools.combinations(made, 2):
        assert one != other


def test_ways_to_name_a_function() -> None:
    expected = LeakyRelu(0.1)
    for spec in (("leaky_relu", 0.1), ["leaky_relu", 0.1], {"name": "leaky_relu", "alpha": 0.1}, expected):
        assert activation(spec) == expected
    assert activation("tanh") == activation(("tanh",)) == activation({"name": "tanh"}) == Tanh()
    assert activation({"name": "hard_sigmoid", "beta": 0.4}) == HardSigmoid(beta=0.4)
    assert activation(("leaky_relu", np.float32(0.5))) == LeakyRelu(0.5)


def test_other_names() -> None:
    """The same functions, with the parameters of the library whose name it is; given ones take their places."""
    assert activation("linear") == activation("identity")
    assert activation("swish").spec == "silu"
    assert activation("HardSigmoid") == HardSigmoid(0.2, 0.5) == activation(("hard_sigmoid", 0.2, 0.5))  # Keras 2's too
    assert activation("hard_sigmoid") == HardSigmoid(1 / 6, 0.5)  # Keras 3's and PyTorch's
    assert activation(("HardSigmoid", 0.3)) == HardSigmoid(0.3, 0.5)
    assert activation({"name": "HardSigmoid", "beta": 0.4}) == HardSigmoid(0.2, 0.4)
    assert activation(("LeakyRelu", 0.2)).spec == ("leaky_relu", 0.2)
    for name, (own, *parameters) in ALIASES.items():
        assert name not in ELEMENTWISE
        layer, other = rr.Activation(name), rr.Activation(own, **dict(zip(("alpha", "beta"), parameters, strict=False)))
        assert layer.function == other.function
        assert repr(layer) == repr(other)


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        ("sinus", ValueError, "act must be one of 'tanh', 'sigmoid', 'relu', .*, 'identity', not 'sinus'"),
        ("TANH", ValueError, "act must be one of .*, not 'TANH'"),
        ("Softmax", ValueError, "act must be one of .*, not 'Softmax'"),
        (None, ValueError, "act must be one of .*, not None"),
        (3, ValueError, "act must be one of .*, not 3"),
        ((), ValueError, r"act must be one of .*, not \(\)"),
        ({}, ValueError, "act must be one of .*, not None"),
        (([],), ValueError, r"act must be one of .*, not \[\]"),
        ({"alpha": 1.0}, ValueError, "act must be one of .*, not None"),
        ("log_softmax", ValueError, "act must be one of .*, not 'log_softmax'"),
        (("tanh", 1.0), ValueError, r"act 'tanh' has the parameters \(none\), not 1 of them"),
        (("elu", 1.0, 2.0), ValueError, "act 'elu' has the parameters alpha, not 2 of them"),
        ({"name": "elu", "beta": 1.0}, ValueError, "act 'elu' has the parameters alpha, not 'beta'"),
        (("elu", "1"), TypeError, "alpha of elu must be a number, not str '1'"),
        (("elu", True), TypeError, "alpha of elu must be a number, not bool True"),
        (("affine", 1.0, float("nan")), ValueError, "beta of affine must be a finite number, not nan"),
        (("hard_tanh", 1.0), ValueError, "alpha of hard_tanh must be below beta 1.0, not 1.0"),
        (("swish", 1.0), ValueError, r"act 'swish' has the parameters \(none\), not 1 of them"),
        (("scaled_tanh", 0.0), ValueError, "alpha of scaled_tanh must not be 0"),
    ],
    ids=str,
)
def test_what_is_no_activation(spec: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        activation(spec, "act")


# As a layer ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_the_layer(spec: Any, backend: Backend) -> None:
    name, *values = spec
    parameters = dict(zip(("alpha", "beta"), values, strict=False))
    layer = rr.Activation(name, backend=backend, dtype="float64", **parameters)
    assert rr.check_gradients(layer).ok
    assert layer.name == name
    words = "".join(f", {key}={value!r}" for key, value in parameters.items())
    assert repr(layer).startswith(f"Activation({name!r}{words}, backend=")
    x = backend.asarray(X)
    assert_same(backend.to_numpy(layer(x)[0]), backend.to_numpy(activation(spec).forward(x)))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "tanh", "alpha": 1.0}, r"name 'tanh' has the parameters \(none\), not 'alpha'"),
        ({"name": "softmax", "beta": 1.0}, r"name 'softmax' has the parameters \(none\), not 'beta'"),
        ({"name": "hard_tanh", "beta": -1.0}, "alpha of hard_tanh must be below beta -1.0, not -1.0"),
        ({"name": "sinus"}, "name must be one of 'tanh', .*'softmax', 'log_softmax', not 'sinus'"),
    ],
    ids=str,
)
def test_bad_layers(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        rr.Activation(**arguments)


# In a cell -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OneGate(Cell):
    """A cell of nothing but an activation."""

    function: Elementwise

    input_gates = ("a",)

    def step(self, x: Any, h: Any, before: Any, params: Any) -> Any:
        a = x.a + 0.5 * before.h
        y = self.function.forward(a)
        return {"h": y}, {"kept": self.function.kept(a, y)}

    def step_backward(self, d: Any, saved: Any, before: Any, params: Any) -> CellGradients:
        da = self.function.backward(d.h, saved.kept)
        return CellGradients(x={"a": da}, h={}, before={"h": 0.5 * da})


@pytest.mark.parametrize("platform", here("numpy", "reference", "cupy"))
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_in_a_cell(spec: Any, platform: str) -> None:
    """It can be recorded, so that it runs as fast as the rest, and what is made of the record computes it."""
    cell = OneGate(activation(spec))
    record(cell)
    backend, rng = obtain(platform), np.random.default_rng(0)
    x, dy = 2 * rng.standard_normal((2, 3, 4, 5))  # T, B, H for each
    layer = rr.Recurrent(cell, 5, 5, bias=False, batch_first=False, backend=backend, dtype="float64")
    layer.load_state_dict({"weight_ih_l0": np.eye(5)})
    y, _, cache = layer.forward(backend.asarray(x))
    dx = layer.backward(cache, backend.asarray(dy))[0]

    name, *parameters = spec

    def f(a: Any) -> Any:
        return np.vectorize(lambda number: complex(FUNCTIONS[name](number, *parameters)))(a)

    h, expected, carried = np.zeros((4, 5)), [], np.zeros((4, 5))
    for x_t in x:
        h = f(x_t + 0.5 * h).real
        expected.append(h)
    assert_close(backend, y, np.stack(expected))
    before, dx_expected = [np.zeros((4, 5)), *expected], np.empty_like(x)
    for t in reversed(range(len(x))):
        dx_expected[t] = (dy[t] + carried) * f(x[t] + 0.5 * before[t] + 1e-30j).imag / 1e-30
        carried = 0.5 * dx_expected[t]
    assert_close(backend, dx, dx_expected)
