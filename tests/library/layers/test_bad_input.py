"""What can't be right is refused before any work, in words that name what was given and what was expected."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import assert_all_same, here, obtain
from harness.needs import need
from recurray.backend import Backend

B, T, I, H = 3, 5, 2, 4  # noqa: E741


class NoWork(Backend):
    """The reference path, except that a scan is a failure of the test."""

    def __init__(self) -> None:
        super().__init__(np)
        self.working = False

    def scan_forward(self, *args: Any, **kwargs: Any) -> Any:
        assert self.working, "work was begun"
        y, end, cache = super().scan_forward(*args, **kwargs)
        return y, end, IdleCache(self, cache)


@dataclass
class IdleCache:
    """A cache, except that backward is a failure of the test."""

    backend: NoWork
    cache: Any

    def backward(self, *args: Any) -> Any:
        assert self.backend.working, "work was begun"
        return self.cache.backward(*args)


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def state(h: Any = (2, B, H), c: Any = (2, B, H)) -> rr.State:
    """From shapes, or from arrays."""
    return rr.State(*(zeros(*part) if isinstance(part, tuple) else part for part in (h, c)))


X, DY = zeros(B, T, I), zeros(B, T, H)


def lstm(backend: Any = None, **options: Any) -> rr.LSTM:
    return rr.LSTM(I, H, 2, backend=backend, seed=0, **options)


# Calls ----------------------------------------------------------------------------------------------------------------

BAD_CALLS = {
    "one axis": ({"x": zeros(I)}, ValueError, r"x must have the shape \(batch, time, 2\), not \(2,\)"),
    "two axes": ({"x": zeros(T, I)}, ValueError, r"x must have the shape \(batch, time, 2\), not \(5, 2\)"),
    "four axes": ({"x": zeros(1, B, T, I)}, ValueError, r"\(batch, time, 2\), not \(1, 3, 5, 2\)"),
    "features": ({"x": zeros(B, T, 3)}, ValueError, r"x must have the shape \(batch, time, 2\), not \(3, 5, 3\)"),
    "integers": ({"x": X.astype(int)}, TypeError, "x must be floating-point numbers, not int64"),
    "booleans": ({"x": X.astype(bool)}, TypeError, "x must be floating-point numbers, not bool"),
    "complex": ({"x": X.astype(complex)}, TypeError, "x must be floating-point numbers, not complex128"),
    "text array": ({"x": X.astype(str)}, TypeError, "x must be floating-point numbers, not <U"),
    "objects": ({"x": X.astype(object)}, TypeError, "x must be floating-point numbers, not object"),
    "list": ({"x": X.tolist()}, TypeError, r"x must be an array of the backend 'numpy', not builtins.list; convert it"),
    "text": ({"x": "text"}, TypeError, r"x must be an array of the backend 'numpy', not builtins.str"),
    "nothing": ({"x": None}, TypeError, r"x must be an array of the backend 'numpy', not builtins.NoneType"),
    "tuple": (
        {"state": (zeros(2, B, H), zeros(2, B, H))},
        TypeError,
        r"state must be a recurray.State or None, not tuple",
    ),
    "array as state": ({"state": zeros(2, B, H)}, TypeError, r"state must be a recurray.State or None, not ndarray"),
    "no c": (
        {"state": rr.State(zeros(2, B, H))},
        TypeError,
        "state.c must be an array, not None: this layer carries h, c",
    ),
    "no h": (
        {"state": rr.State(None, zeros(2, B, H))},
        TypeError,
        "state.h must be an array, not None: this layer carries h, c",
    ),
    "h of two axes": ({"state": state(h=(B, H))}, ValueError, r"state.h must have the shape \(2, 3, 4\), not \(3, 4\)"),
    "layers of h": (
        {"state": state(h=(1, B, H))},
        ValueError,
        r"state.h must have the shape \(2, 3, 4\), not \(1, 3, 4\)",
    ),
    "batch of h": (
        {"state": state(h=(2, 1, H))},
        ValueError,
        r"state.h must have the shape \(2, 3, 4\), not \(2, 1, 4\)",
    ),
    "size of c": (
        {"state": state(c=(2, B, 1))},
        ValueError,
        r"state.c must have the shape \(2, 3, 4\), not \(2, 3, 1\)",
    ),
    "integers in c": (
        {"state": state(c=np.zeros((2, B, H), int))},
        TypeError,
        "state.c must be floating-point numbers, not int64",
    ),
    "number of lengths": (
        {"lengths": [1, 2]},
        ValueError,
        r"lengths must have the shape \(3,\), one for each row, not \(2,\)",
    ),
    "shape of lengths": ({"lengths": [[1, 2, 3]]}, ValueError, r"lengths must have the shape \(3,\).*not \(1, 3\)"),
    "one length": ({"lengths": 3}, ValueError, r"lengths must have the shape \(3,\)"),
    "too long": ({"lengths": [1, 6, 2]}, ValueError, "between 0 and the 5 time steps, but row 1 has 6"),
    "negative": ({"lengths": [1, 5, -1]}, ValueError, "between 0 and the 5 time steps, but row 2 has -1"),
    "fractions": ({"lengths": [1.0, 2.0, 3.0]}, TypeError, "lengths must be integers, not float64"),
    "boolean lengths": ({"lengths": [True, False, True]}, TypeError, "lengths must be integers, not bool"),
    "text lengths": ({"lengths": ["1", "2", "3"]}, TypeError, "lengths must be integers, not <U1"),
}


@pytest.mark.parametrize("bad", BAD_CALLS)
def test_calls(bad: str) -> None:
    changed, error, words = BAD_CALLS[bad]
    layer, given = lstm(NoWork()), {"x": X} | changed
    with pytest.raises(error, match=words):
        layer(**given)
    with pytest.raises(error, match=words):
        layer.forward(**given)


@pytest.mark.parametrize("rng", [0, np.random.RandomState(0), np.random], ids=["int", "RandomState", "module"])
def test_generators(rng: Any) -> None:
    for layer in (lstm(NoWork()), rr.Dropout()):
        with pytest.raises(TypeError, match=r"rng must be a numpy.random.Generator, not (int|RandomState|module)"):
            layer.forward(X, rng=rng)


def test_time_first() -> None:
    layer = lstm(NoWork(), batch_first=False)
    with pytest.raises(ValueError, match=r"x must have the shape \(time, batch, 2\), not \(5, 3, 1\)"):
        layer(zeros(T, B, 1))
    with pytest.raises(ValueError, match=r"lengths must have the shape \(3,\)"):
        layer(zeros(T, B, I), lengths=[1] * T)


# Backward -------------------------------------------------------------------------------------------------------------

BAD_GRADIENTS = {
    "axes": ({"dy": zeros(B, H)}, ValueError, r"dy must have the shape \(3, 5, 4\), not \(3, 4\)"),
    "batch": ({"dy": zeros(1, T, H)}, ValueError, r"dy must have the shape \(3, 5, 4\), not \(1, 5, 4\)"),
    "steps": ({"dy": zeros(B, 4, H)}, ValueError, r"dy must have the shape \(3, 5, 4\), not \(3, 4, 4\)"),
    "features": ({"dy": zeros(B, T, I)}, ValueError, r"dy must have the shape \(3, 5, 4\), not \(3, 5, 2\)"),
    "integers": ({"dy": DY.astype(int)}, TypeError, "dy must be floating-point numbers, not int64"),
    "list": ({"dy": DY.tolist()}, TypeError, "dy must be an array of the backend 'numpy', not builtins.list"),
    "number": ({"dy": 1.0}, TypeError, "dy must be an array of the backend 'numpy', not builtins.float"),
    "tuple": ({"dstate": (DY, DY)}, TypeError, r"dstate must be a recurray.State or None, not tuple"),
    "h": ({"dstate": state(h=(2, 1, H))}, ValueError, r"dstate.h must have the shape \(2, 3, 4\), not \(2, 1, 4\)"),
    "c": ({"dstate": state(c=(2, B))}, ValueError, r"dstate.c must have the shape \(2, 3, 4\), not \(2, 3\)"),
    "no cache": ({"cache": None}, TypeError, "cache must be what forward returned, a RecurrentCache, not NoneType"),
    "another's cache": (
        {"cache": (1, 2)},
        TypeError,
        "cache must be what forward returned, a RecurrentCache, not tuple",
    ),
}


@pytest.mark.parametrize("bad", BAD_GRADIENTS)
def test_backward(bad: str) -> None:
    changed, error, words = BAD_GRADIENTS[bad]
    backend = NoWork()
    layer = lstm(backend)
    backend.working = True
    _, _, cache = layer.forward(X)
    backend.working = False
    with pytest.raises(error, match=words):
        layer.backward(**({"cache": cache, "dy": DY} | changed))


@pytest.mark.parametrize(
    "layer", [rr.Linear(2, 2), rr.LayerNorm(2), rr.Activation("tanh"), rr.Merge("mul"), rr.Last(), rr.Embedding(3, 2)]
)
def test_backward_of_the_other_layers(layer: rr.Layer) -> None:
    x = np.zeros((B, T), int) if isinstance(layer, rr.Embedding) else zeros(B, T, 2)
    y, _, cache = layer.forward(x)
    for wrong in (None, (1,), lstm().forward(X)[2]):
        with pytest.raises(TypeError, match=r"cache must be what forward returned, a \w+Cache, not "):
            layer.backward(wrong, y)
    with pytest.raises(ValueError, match=r"dy must have the shape .*, not \(7, 7\)"):
        layer.backward(cache, zeros(7, 7))
    with pytest.raises(TypeError, match="dy must be floating-point numbers, not int64"):
        layer.backward(cache, y.astype(int))


def test_backward_of_dropout() -> None:
    layer = rr.Dropout()
    for wrong in ((1,), "text", lstm().forward(X)[2]):
        with pytest.raises(TypeError, match="cache must be what forward returned"):
            layer.backward(wrong, X)


# The other layers' input ----------------------------------------------------------------------------------------------

OTHERS: dict[str, Any] = {
    "linear": (rr.Linear(2, 3), zeros(4, 3), ValueError, r"x must have the shape \(..., 2\), not \(4, 3\)"),
    "linear, a number": (rr.Linear(2, 3), zeros(), ValueError, r"x must have the shape \(..., 2\), not \(\)"),
    "linear, integers": (
        rr.Linear(2, 3),
        np.zeros((4, 2), int),
        TypeError,
        "x must be floating-point numbers, not int64",
    ),
    "layer norm": (rr.LayerNorm(2), zeros(4, 3), ValueError, r"x must have the shape \(..., 2\), not \(4, 3\)"),
    "merge of an odd size": (
        rr.Merge("sum"),
        zeros(4, 3),
        ValueError,
        "x must have two halves along its last axis, not 3 features",
    ),
    "merge, a number": (rr.Merge("sum"), zeros(), ValueError, r"x must have the shape \(..., features\), not \(\)"),
    "last": (rr.Last(), zeros(4, 3), ValueError, r"x must have the shape \(batch, time, features\), not \(4, 3\)"),
    "softmax": (
        rr.Activation("softmax"),
        zeros(),
        ValueError,
        r"at least one element .* for softmax, not the shape \(\)",
    ),
    "softmax of nothing": (
        rr.Activation("softmax"),
        zeros(3, 0),
        ValueError,
        r"x must have at least one element along its last axis for softmax, not the shape \(3, 0\)",
    ),
    "activation": (
        rr.Activation("tanh"),
        [1.0],
        TypeError,
        "x must be an array of the backend 'numpy', not builtins.list",
    ),
    "dropout": (rr.Dropout(), np.zeros(3, complex), TypeError, "x must be floating-point numbers, not complex128"),
    "embedding, floats": (rr.Embedding(3, 2), zeros(4), TypeError, "x must be integers, not float32"),
    "embedding, booleans": (rr.Embedding(3, 2), np.zeros(4, bool), TypeError, "x must be integers, not bool"),
    "embedding, list": (
        rr.Embedding(3, 2),
        [1, 2],
        TypeError,
        "x must be an array of the backend 'numpy', not builtins.list",
    ),
    "embedding, high": (
        rr.Embedding(3, 2),
        np.array([1, 3]),
        ValueError,
        "x must be between 0 and 2, but goes from 1 to 3",
    ),
    "embedding, low": (
        rr.Embedding(3, 2),
        np.array([-1, 0]),
        ValueError,
        "x must be between 0 and 2, but goes from -1 to 0",
    ),
}


@pytest.mark.parametrize("bad", OTHERS)
def test_other_layers(bad: str) -> None:
    layer, x, error, words = OTHERS[bad]
    with pytest.raises(error, match=words):
        layer(x)
    with pytest.raises(error, match=words):
        layer.forward(x)


@pytest.mark.parametrize("layer", [rr.Linear(2, 2), rr.LayerNorm(2), rr.Activation("tanh"), rr.Dropout()])
def test_states_for_layers_that_carry_none(layer: rr.Layer) -> None:
    with pytest.raises(ValueError, match=rf"state must be None: {type(layer).__name__} carries no state, got State"):
        layer(zeros(3, 2), state())
    y, _, cache = layer.forward(zeros(3, 2))
    with pytest.raises(ValueError, match=rf"dstate must be None: {type(layer).__name__} carries no state"):
        layer.backward(cache, y, state())


def test_states_for_last() -> None:
    last = rr.Last()
    for wrong in (state(), zeros(1, B, I), (zeros(1, B, I),)):
        with pytest.raises(TypeError, match=r"state must be a recurray.State with h alone or None, not "):
            last(X, wrong)
    with pytest.raises(ValueError, match=r"state.h must have the shape \(1, 3, 2\), not \(1, 3, 4\)"):
        last(X, rr.State(zeros(1, B, H)))
    y, _, cache = last.forward(X)
    with pytest.raises(ValueError, match=r"dstate.h must have the shape \(1, 3, 2\), not \(1, 1, 2\)"):
        last.backward(cache, y, rr.State(zeros(1, 1, I)))
    with pytest.raises(ValueError, match="row 0 has 6"):
        last(X, lengths=[6, 1, 1])


def test_sequential() -> None:
    with pytest.raises(ValueError, match="a Sequential needs at least one layer"):
        rr.Sequential()
    with pytest.raises(TypeError, match="layer 1 must be a recurray layer, not function"):
        rr.Sequential(rr.Last(), zeros)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"one dtype, but layer 0 \(LSTM\) has float32, layer 1 \(Last\) float64; "):
        rr.Sequential(lstm(), rr.Last(dtype="float64"))
    reference = rr.get_backend(np)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"one backend, but layer 0 \(LSTM\) has .*, layer 1 \(Last\) .*; "):
        rr.Sequential(lstm(), rr.Last(backend=reference))
    with pytest.raises(ValueError, match="all layers must have one batch_first, but layer 1 has False, layer 2 True"):
        rr.Sequential(rr.Dropout(), rr.Sequential(lstm(batch_first=False)), rr.Last())
    model = rr.Sequential(lstm(), rr.Last())
    with pytest.raises(ValueError, match="state must be a tuple with an entry for each of the 2 layers, not State"):
        model(X, state())  # has two entries as well
    for wrong in ([None, None], (None,), (None, None, None)):
        with pytest.raises(ValueError, match="state must be a tuple with an entry for each of the 2 layers, not "):
            model(X, wrong)
    y, _, cache = model.forward(X)
    with pytest.raises(
        ValueError, match="dstate must be a tuple with an entry for each of the 2 layers, not 1 entries"
    ):
        model.backward(cache, y, (None,))
    with pytest.raises(ValueError, match="cache must be of 2 layers, but is of 1"):
        model.backward(rr.Sequential(lstm()).forward(X)[2], y)
    with pytest.raises(TypeError, match="cache must be what forward returned, a SequentialCache, not NoneType"):
        model.backward(None, y)


@pytest.mark.parametrize("platform", here("numpy", "native", "reference", "cupy"))
@pytest.mark.parametrize("steps", [5, 150, 600])  # in one part and in several
def test_a_gradient_of_the_wrong_length_is_refused_by_the_scan_itself(steps: int, platform: str) -> None:
    backend = obtain(platform)

    def there(*shape: int) -> Any:
        return backend.asarray(zeros(*shape))

    start, layer = (there(B, H), there(B, H)), rr.LSTM(I, H, backend=backend, seed=0)
    _, _, cache = backend.scan_forward(layer.cell, layer.weights()[0], there(steps, B, I), start)
    for wrong in (steps + 1, steps - 1):
        with pytest.raises(ValueError, match=rf"dy must have the shape \({steps}, 3, 4\), not \({wrong}, 3, 4\)"):
            cache.backward(there(wrong, B, H), start)


# Constructors ---------------------------------------------------------------------------------------------------------

BAD_OPTIONS: dict[str, Any] = {
    "no features": (lambda: rr.LSTM(0, 3), ValueError, "input_size must be at least 1, not 0"),
    "no units": (lambda: rr.LSTM(2, 0), ValueError, "hidden_size must be at least 1, not 0"),
    "negative": (lambda: rr.DiagonalLSTM(2, -3), ValueError, "hidden_size must be at least 1, not -3"),
    "no layers": (lambda: rr.LSTM(2, 3, 0), ValueError, "num_layers must be at least 1, not 0"),
    "fraction": (lambda: rr.LSTM(2.0, 3), TypeError, "input_size must be an integer, not float 2.0"),
    "text": (lambda: rr.LSTM("2", 3), TypeError, "input_size must be an integer, not str '2'"),
    "boolean": (lambda: rr.LSTM(True, 3), TypeError, "input_size must be an integer, not True"),
    "bidirectional": (
        lambda: rr.LSTM(2, 3, bidirectional=1),
        TypeError,
        "bidirectional must be True or False, not int 1",
    ),
    "bias": (lambda: rr.LSTM(2, 3, bias=None), TypeError, "bias must be True or False, not NoneType None"),
    "bias of text": (lambda: rr.LSTM(2, 3, bias="no"), TypeError, "bias must be True or False, not str 'no'"),
    "batch_first": (
        lambda: rr.DiagonalLSTM(2, 3, batch_first=0),
        TypeError,
        "batch_first must be True or False, not int 0",
    ),
    "dropout 1": (lambda: rr.LSTM(2, 3, dropout=1.0), ValueError, "dropout must be at least 0 and below 1, not 1.0"),
    "dropout -": (lambda: rr.Dropout(-0.1), ValueError, "p must be at least 0 and below 1, not -0.1"),
    "dropout nan": (lambda: rr.Dropout(float("nan")), ValueError, "p must be at least 0 and below 1, not nan"),
    "dropout text": (lambda: rr.Dropout("0.5"), TypeError, "p must be a number, not str '0.5'"),
    "proj_size": (lambda: rr.LSTM(2, 3, proj_size=3), ValueError, "proj_size must be below hidden_size 3, not 3"),
    "projection": (
        lambda: rr.DiagonalLSTM(2, 3, projection="each"),
        ValueError,
        "projection must be one of 'shared', 'per_gate', not 'each'",
    ),
    "dtype": (
        lambda: rr.LSTM(2, 3, dtype="float16"),
        ValueError,
        "dtype must be one of 'float32', 'float64', not 'float16'",
    ),
    "dtype int": (lambda: rr.Linear(2, 3, dtype=int), ValueError, "dtype must be one of 'float32', 'float64', not "),
    "seed": (lambda: rr.LSTM(2, 3, seed=-1), ValueError, "seed must be None, a non-negative integer or a sequence"),
    "seed text": (
        lambda: rr.LSTM(2, 3, seed="one"),
        TypeError,
        "seed must be None, a non-negative integer or a sequence",
    ),
    "forget_bias": (lambda: rr.LSTM(2, 3, forget_bias="1"), TypeError, "forget_bias must be a number, not str '1'"),
    "forget_bias without bias": (
        lambda: rr.LSTM(2, 3, bias=False, forget_bias=1),
        ValueError,
        "forget_bias needs bias=True",
    ),
    "mode": (lambda: rr.Merge("concat"), ValueError, "mode must be one of 'sum', 'ave', 'mul', not 'concat'"),
    "eps": (lambda: rr.LayerNorm(2, eps=0), ValueError, "eps must be above 0, not 0"),
    "activation": (
        lambda: rr.Activation("TANH"),
        ValueError,
        "name must be one of 'tanh', 'sigmoid', 'relu', .*, not 'TANH'",
    ),
    "linear": (lambda: rr.Linear(2, 0), ValueError, "out_features must be at least 1, not 0"),
    "embedding": (lambda: rr.Embedding(0, 2), ValueError, "num_embeddings must be at least 1, not 0"),
    "backend": (
        lambda: rr.LSTM(2, 3, backend="nunpy"),
        ValueError,
        "there is no backend 'nunpy'; the installed ones are .*'numpy'",
    ),
    "backend number": (lambda: rr.LSTM(2, 3, backend=3), TypeError, "backend must be a name, .* not int 3"),
}


@pytest.mark.parametrize("bad", BAD_OPTIONS)
def test_constructors(bad: str) -> None:
    make, error, words = BAD_OPTIONS[bad]
    with pytest.raises(error, match=words):
        make()


# Params ---------------------------------------------------------------------------------------------------------------


def spoilt(params: dict[str, Any], kind: str) -> Any:
    name = next(reversed(params))
    if kind == "missing":
        return {other: value for other, value in params.items() if other != name}
    if kind == "unknown":
        return params | {"weight_ih_l9": params[name]}
    if kind == "another layer's":
        return rr.Linear(2, 3).state_dict()
    if kind == "list of pairs":
        return list(params.items())
    value = params[name]
    return params | {
        name: {
            "shape": value[:-1],
            "axes": value[None],
            "integers": value.astype(int),
            "complex": value.astype(complex),
            "text": "text",
            "nothing": None,
        }[kind]
    }


BAD_PARAMS = {
    "missing": (ValueError, r"the params' names don't fit the layer: missing '.*'"),
    "unknown": (ValueError, r"the params' names don't fit the layer: unknown 'weight_ih_l9'"),
    "another layer's": (ValueError, r"missing '.*, '.*; unknown 'bias', 'weight'"),
    "list of pairs": (TypeError, "params must be a mapping of names to arrays, not list"),
    "shape": (ValueError, r"the param '.*' must have the shape .*\d+.*, not \(\d+,( \d+)?\)"),
    "axes": (ValueError, r"the param '.*' must have the shape .*\d+.*, not \(1, \d+(, \d+)?\)"),
    "integers": (TypeError, "the param '.*' must be floating-point numbers, not int64"),
    "complex": (TypeError, "the param '.*' must be floating-point numbers, not complex128"),
    "text": (TypeError, "the param '.*' must be floating-point numbers, not <U4"),
    "nothing": (TypeError, "the param '.*' must be floating-point numbers, not object"),
}


@pytest.mark.parametrize("kind", BAD_PARAMS)
def test_params(kind: str, backend: Backend) -> None:
    """Then no param is changed, not even those that come before the wrong one."""
    error, words = BAD_PARAMS[kind]
    options: dict[str, Any] = {"backend": backend, "seed": 0}
    for layer in (
        rr.LSTM(2, 3, **options),
        rr.DiagonalLSTM(2, 3, **options),
        rr.Sequential(rr.LSTM(2, 3, **options), rr.Sequential(rr.Linear(3, 2, **options))),
    ):
        before = layer.state_dict()
        moved = {name: value + 1 for name, value in before.items()}
        with pytest.raises(error, match=words):
            layer.load_state_dict(spoilt(moved, kind))
        assert_all_same(layer.state_dict(), before)


def test_params_in_the_constructor() -> None:
    params = rr.LSTM(2, 3).state_dict()
    for make in (
        lambda given: rr.LSTM(2, 3, params=given),
        lambda given: rr.DiagonalLSTM(2, 3, params=given),
        lambda given: rr.Linear(2, 3, params=given),
        lambda given: rr.LayerNorm(2, params=given),
        lambda given: rr.Embedding(2, 3, params=given),
    ):
        with pytest.raises(ValueError, match="the params' names don't fit the layer"):
            make(params | {"more": np.ones(2)})


# Arrays of another backend --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", here("numpy", "array-api-strict", "torch", "jax", "cupy"))
def test_arrays_of_another_library(other: str, backend: Backend) -> None:
    """Refused in every place, with the line that converts them; that line then works."""
    foreign = obtain(other)
    if foreign.xp is backend.xp:
        pytest.skip("both backends take arrays of the same library")
    layer, words = (
        lstm(backend),
        rf"must be an array of the backend '{backend.name}', not .*; convert it with layer.backend.asarray\(",
    )
    x, dy, h = (backend.asarray(a) for a in (X, DY, zeros(2, B, H)))
    wrong = foreign.asarray(zeros(2, B, H))
    with pytest.raises(TypeError, match=f"^x {words}x"):
        layer(foreign.asarray(X))
    with pytest.raises(TypeError, match=rf"^state.h {words}state.h"):
        layer(x, rr.State(wrong, h))
    with pytest.raises(TypeError, match=rf"^state.c {words}state.c"):
        layer(x, rr.State(h, wrong))
    _, _, cache = layer.forward(x)
    with pytest.raises(TypeError, match=f"^dy {words}dy"):
        layer.backward(cache, foreign.asarray(DY))
    with pytest.raises(TypeError, match=rf"^dstate.c {words}dstate.c"):
        layer.backward(cache, dy, rr.State(h, wrong))
    for small in (rr.Linear(2, 3, backend=backend), rr.Last(backend=backend), rr.Activation("tanh", backend=backend)):
        with pytest.raises(TypeError, match=f"^x {words}x"):
            small(foreign.asarray(X))
    with pytest.raises(TypeError, match=f"^x {words}x"):
        rr.Embedding(3, 2, backend=backend)(foreign.asarray(np.zeros((2, 2), int)))
    y, _ = layer(layer.backend.asarray(foreign.asarray(X)))
    assert backend.owns(y)


def test_arrays_on_another_device() -> None:
    strict = need("array_api_strict")
    cpu, device1 = rr.get_backend(strict), rr.get_backend(strict, strict.Device("device1"))
    names = ("CPU_DEVICE", "device1")
    for own, other, (own_name, other_name) in ((cpu, device1, names), (device1, cpu, names[::-1])):
        layer = lstm(own)

        def words(argument: str, name: str = own_name, other: str = other_name) -> str:
            return (
                rf"^{argument} must be on the device array_api_strict.Device\('{name}'\) of the backend "
                rf"'array_api_strict', not on array_api_strict.Device\('{other}'\); "
                rf"move it with layer.backend.asarray\({argument}\)"
            )

        with pytest.raises(ValueError, match=words("x")):
            layer(other.asarray(X))
        with pytest.raises(ValueError, match=words("state.h")):
            layer(own.asarray(X), rr.State(*(other.asarray(zeros(2, B, H)) for _ in "hc")))
        _, _, cache = layer.forward(own.asarray(X))
        with pytest.raises(ValueError, match=words("dy")):
            layer.backward(cache, other.asarray(DY))
        y, _ = layer(layer.backend.asarray(other.asarray(X)))
        assert own.on_device(y)


def test_params_may_come_from_any_backend(backend: Backend) -> None:
    """Loading is the one place where arrays cross; lists of numbers are taken too."""
    source = rr.LSTM(2, 3, seed=1)
    for given in (
        dict(rr.LSTM(2, 3, backend=backend, seed=1).params),
        {k: v.tolist() for k, v in source.params.items()},
    ):
        for layer in (rr.LSTM(2, 3), rr.LSTM(2, 3, backend=backend)):
            layer.load_state_dict(given)
            assert_all_same(layer.state_dict(), source.state_dict())
            assert all(layer.backend.owns(value) for value in layer.params.values())


def test_lengths_may_come_from_any_backend(backend: Backend) -> None:
    layer = lstm()
    expected = layer(X + 1, lengths=[1, 5, 0])[0]
    found = layer(X + 1, lengths=backend.asarray(np.array([1, 5, 0])))[0]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: rr.LSTM(I, H, 2), "num_layers 1, but is of one with 2"),
        (lambda: rr.LSTM(I, H, bidirectional=True), "directions 1, but is of one with 2"),
        (lambda: rr.LSTM(I, H + 1), f"hidden_size {H}, but is of one with {H + 1}"),
        (lambda: rr.LSTM(I, H, proj_size=2), "proj_size 0, but is of one with 2"),
        (lambda: rr.LSTM(I, H, bias=False), "bias True, but is of one with False"),
        (lambda: rr.LSTM(I, H, peepholes=True), r"cell LSTMCell\(.*, but is of one with LSTMCell\(peepholes=True"),
        (lambda: rr.GRU(I, H), r"cell LSTMCell\(.*, but is of one with GRUCell"),
        (lambda: rr.LSTM(I, H, dtype="float64"), "dtype float32, but is of one with float64"),
        (lambda: rr.LSTM(I, H, backend=np), "backend <recurray backend 'numpy'.*>, but is of one with <.*reference"),
    ],
)
def test_a_cache_of_another_layer_is_refused(other: Any, message: str) -> None:
    y, _, cache = other().forward(X)
    with pytest.raises(ValueError, match=f"cache must be of a layer with {message}"):
        rr.LSTM(I, H, backend="numpy", seed=0).backward(cache, y)


def test_a_cache_of_an_equal_layer_will_do() -> None:
    for layer in (lstm(), rr.Recurrent(rr.cells.SLSTMCell(), I, H, seed=0)):
        y, _, cache = layer.forward(X)
        assert_all_same(copy.deepcopy(layer).backward(copy.deepcopy(cache), y)[2], layer.backward(cache, y)[2])


@pytest.mark.parametrize("steps", [1, 5])
def test_a_param_that_was_replaced_by_something_else_is_refused(backend: Backend, steps: int) -> None:
    x = backend.asarray(np.ones((1, steps, I), "float32"))
    for name, wrong, error, message in (
        ("weight_hh_l0", lambda a: backend.asarray(a, "float64"), TypeError, "must be float32, not .*float64"),
        (
            "bias_ih_l0",
            lambda a: backend.asarray(a[:3], "float32"),
            ValueError,
            r"must have the shape \(16,\), not \(3,\)",
        ),
        ("weight_ih_l0", lambda a: a.tolist(), TypeError, "must be float32, not list"),
    ):
        layer = rr.LSTM(I, H, backend=backend, seed=0)
        layer(x), layer(x), layer(x)
        layer.params[name] = wrong(backend.to_numpy(layer.params[name]))
        for call in (layer, layer.forward):
            with pytest.raises(error, match=f"the param '{name}' {message}"):
                call(x)
            with pytest.raises(error, match=f"the param '{name}' {message}"):
                call(x)


def test_params_of_half_precision_are_loaded_without_a_warning() -> None:
    layer = lstm()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer.load_state_dict({name: value.astype("float16") for name, value in layer.state_dict().items()})


def test_a_layer_in_two_places_is_refused() -> None:
    layer = rr.Linear(3, 3, seed=0)
    with pytest.raises(ValueError, match="layer 1 stands in an earlier place too"):
        rr.Sequential(layer, layer)


def test_numbers_that_are_not_finite_are_refused() -> None:
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="must be a finite number"):
            rr.LayerNorm(3, eps=value)
        with pytest.raises(ValueError, match="must be a finite number"):
            rr.LSTM(3, 4, forget_bias=value)


def test_lengths_of_several_dimensions_are_refused() -> None:
    with pytest.raises(TypeError, match="lengths must be one integer for each row"):
        lstm()(X, lengths=[[1, 2], [3]])


def test_params_too_large_for_float32_are_refused() -> None:
    layer = rr.Linear(3, 1, bias=False, seed=0)
    before = layer.state_dict()
    with pytest.raises(ValueError, match="'weight' has 1e\\+39, which is too large for float32"):
        layer.load_state_dict({"weight": np.array([[1e39, 0.0, 0.0]])})
    np.testing.assert_array_equal(layer.params["weight"], before["weight"])
