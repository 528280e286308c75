"""Params set by hand: one check for every layer, before any work."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import Case, Given, assert_all_same, forward, give, here, host, layer_for, obtain, problem, results
from harness.cases import CASES
from harness.needs import need
from recurray.backend import Backend

FEW = here("numpy", "device1", "torch", "cupy")  # one check for all: another library's arrays go by other rules
WITH_PARAMS = [case for case in CASES if problem(case).params]


def own_params(layer: rr.Layer, name: str) -> tuple[Any, str]:
    """The dict of the layer that a param belongs to, and its name there."""
    if not isinstance(layer, rr.Sequential):
        return layer.params, name
    place, _, own = name.partition(".")
    return own_params(layer.layers[int(place)], own)


def other_library(backend: Backend) -> Backend:
    return obtain("array-api-strict" if backend.name != "array_api_strict" else "numpy")


Spoil = Callable[[Backend, np.ndarray], Any]
WRONG: dict[str, tuple[Spoil, type[Exception], str]] = {
    "that broadcasts": (
        lambda backend, a: backend.asarray(a[..., :1] if a.ndim == 1 else a[:1]),
        ValueError,
        "must have the shape",
    ),
    "of more axes": (lambda backend, a: backend.asarray(a[None]), ValueError, "must have the shape"),
    "longer": (lambda backend, a: backend.asarray(np.concatenate([a, a])), ValueError, "must have the shape"),
    "of no axes": (lambda backend, a: backend.asarray(a.sum()), ValueError, "must have the shape"),
    "float32": (lambda backend, a: backend.asarray(a, "float32"), TypeError, "must be float64, not "),
    "integers": (lambda backend, a: backend.asarray(a.astype(int)), TypeError, "must be float64, not "),
    "a list": (lambda backend, a: a.tolist(), TypeError, "must be float64, not (list|float)"),
    "None": (lambda backend, a: None, TypeError, "must be float64, not NoneType"),
    "another library's": (
        lambda backend, a: other_library(backend).asarray(a),
        TypeError,
        "must be (float64, not |an array of the backend)",
    ),
}


def attempts(layer: rr.Layer, arrays: Given) -> dict[str, Callable[[], Any]]:
    """All that reads params."""
    return {
        "call": lambda: layer(arrays.x, arrays.state, **arrays.which),
        "forward": lambda: layer.forward(arrays.x, arrays.state, **arrays.which),
        "state_dict": layer.state_dict,
        "astype": lambda: layer.astype("float32"),
    }


def assert_refused(layer: rr.Layer, arrays: Given, error: type[Exception], words: str, how_many: int = 4) -> None:
    for attempt in [*attempts(layer, arrays).values()][:how_many]:
        with pytest.raises(error, match=words):
            attempt()


@pytest.mark.parametrize("backend", FEW, indirect=True)
@pytest.mark.parametrize("case", WITH_PARAMS, ids=str)
def test_a_wrong_param_is_refused(case: Case, backend: Backend) -> None:
    """Each of them, whatever is wrong with it; loading params makes it good again."""
    given = problem(case)
    layer = layer_for(case, given, backend)
    arrays, right, expected = give(layer, given), layer.state_dict(), host(backend, results(layer, given))
    for place, (name, value) in enumerate(right.items()):
        params, own = own_params(layer, name)
        for spoil, error, words in WRONG.values():
            kept = params[own]
            params[own] = spoil(backend, value)
            if words == "must have the shape" and params[own].shape == kept.shape:
                continue
            assert_refused(layer, arrays, error, rf"the param '(\d\.)*{re.escape(own)}' {words}", 1 if place else 4)
            params[own] = kept
    for name in right:
        params, own = own_params(layer, name)
        params[own] = None
    layer.load_state_dict(right)
    assert_all_same(host(backend, results(layer, given)), expected)


@pytest.mark.parametrize("backend", FEW, indirect=True)
@pytest.mark.parametrize("case", WITH_PARAMS, ids=str)
def test_a_deleted_param_and_one_too_many_are_named(case: Case, backend: Backend) -> None:
    given = problem(case)
    layer = layer_for(case, given, backend)
    arrays, right, expected = give(layer, given), layer.state_dict(), host(backend, results(layer, given))
    for name in right:
        params, own = own_params(layer, name)
        kept = params.pop(own)
        words = rf"the params' names don't fit the layer: missing '(\d\.)*{re.escape(own)}'"
        assert_refused(layer, arrays, ValueError, words)
        assert repr(layer)
        assert layer.param_count() == sum(value.size for value in right.values())
        params["weight_of_another"] = kept
        words += "; unknown '.*weight_of_another'" if not isinstance(layer, rr.Sequential) else ""
        assert_refused(layer, arrays, ValueError, words)
        params[own] = params["weight_of_another"]
        if not isinstance(layer, rr.Sequential):
            assert_refused(layer, arrays, ValueError, "unknown 'weight_of_another'")
        del params["weight_of_another"], params[own]
        layer.load_state_dict(right)
    assert_all_same(host(backend, results(layer, given)), expected)


@pytest.mark.parametrize("engine", here("numpy", "native"))
@pytest.mark.parametrize("state_given", [False, True])
def test_single_steps(engine: str, state_given: bool) -> None:
    """The short way takes no other params either."""
    layer = rr.LSTM(2, 3, backend=obtain(engine), seed=0)
    x = np.ones((1, 1, 2), "float32")
    state = layer(x)[1] if state_given else None
    for change, words in (
        (lambda params: params.pop("bias_hh_l0"), "missing 'bias_hh_l0'"),
        (lambda params: params.update(more=params["bias_hh_l0"]), "unknown 'more'"),
        (lambda params: params.update(bias_hh_l0=np.zeros(1, "float32")), "the param 'bias_hh_l0' must have the shape"),
    ):
        changed = copy.deepcopy(layer)
        for _ in range(4):
            changed(x, state)
        change(changed.params)
        for _ in range(3):
            with pytest.raises(ValueError, match=words):
                changed(x, state)


@pytest.mark.parametrize("wrong", [None, [], 3, "text"])
def test_params_that_are_no_mapping(wrong: Any) -> None:
    for layer, x in (
        (rr.Linear(2, 3, seed=0), np.ones((4, 2), "float32")),
        (rr.LSTM(2, 3, seed=0), np.ones((1, 1, 2), "float32")),
        (rr.Embedding(2, 3, seed=0), np.ones(4, int)),
    ):
        expected, right = layer(x)[0], layer.state_dict()
        layer.params = wrong
        for call in (layer, layer.forward, lambda x, layer=layer: layer.state_dict()):
            with pytest.raises(TypeError, match=r"layer\.params must be a mapping of names to arrays, not "):
                call(x)
        layer.load_state_dict(right)
        np.testing.assert_array_equal(layer(x)[0], expected)


def test_params_of_another_device() -> None:
    strict = need("array_api_strict")
    backend, other = rr.get_backend(strict), rr.get_backend(strict, strict.Device("device1"))
    for layer, name in ((rr.Linear(2, 3, backend=backend), "bias"), (rr.GRU(2, 3, backend=backend), "bias_ih_l0")):
        layer.params[name] = other.asarray(layer.params[name])
        with pytest.raises(
            ValueError, match=f"the param '{name}' must be on the device .*CPU_DEVICE.*not on .*device1"
        ):
            layer(backend.asarray(np.ones((1, 5, 2), "float32")))


def test_a_sequentials_params_are_its_layers() -> None:
    model = rr.Sequential(rr.Linear(2, 3, seed=0), rr.Linear(3, 1, seed=1))
    right = model.state_dict()
    with pytest.raises(TypeError, match="a layer's params can be replaced but not deleted"):
        del model.params["0.weight"]
    with pytest.raises(KeyError, match=r"there is no param '2\.weight'"):
        model.params["2.weight"] = right["0.weight"]
    model.params = {name: value + 1 for name, value in right.items()}
    np.testing.assert_array_equal(model.layers[1].params["bias"], right["1.bias"] + 1)
    with pytest.raises(ValueError, match=r"the params' names don't fit the layer: missing '1\.weight'"):
        model.params = {name: value for name, value in right.items() if name != "1.weight"}


def test_sizes_that_no_memory_can_hold() -> None:
    for make in (
        lambda: rr.LSTM(2**40, 2**40),
        lambda: rr.LSTM(1, 2**30),
        lambda: rr.GRU(2**62, 1),
        lambda: rr.Linear(2**50, 1),
        lambda: rr.Embedding(2**60, 8),
        lambda: rr.LayerNorm(2**50),
    ):
        with pytest.raises(ValueError, match=r"these sizes make the param '\w+' too large for any memory: \(\d+,"):
            make()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_cache_of_another_backend_or_precision_is_refused(case: Case) -> None:
    given = problem(case)
    layer = layer_for(case, given, obtain("numpy"))
    arrays = give(layer, given)
    others = [layer_for(case, given, obtain("numpy"), "float32"), layer_for(case, given, obtain("array-api-strict"))]
    for other in others:
        *_, cache = forward(other, give(other, given))
        fields = cache if isinstance(cache, tuple) else vars(cache).values()
        in_cache = [str(value.dtype) for value in fields if hasattr(value, "dtype")]
        numbers = [dtype for dtype in in_cache if "float" in dtype]  # without any, all precisions have one cache
        if isinstance(layer, rr.Recurrent) or (in_cache if other.backend.name != "numpy" else numbers):
            with pytest.raises(ValueError, match=r"cache must be of a layer (on|with) .*: it is another layer's"):
                layer.backward(cache, arrays.dy, arrays.dstate)


def test_a_cache_of_another_size_is_refused() -> None:
    x = np.ones((4, 3), "float32")
    for layer, other in ((rr.Linear(2, 5), rr.Linear(3, 5)), (rr.LayerNorm(2), rr.LayerNorm(3))):
        y, _, cache = other.forward(x)
        with pytest.raises(ValueError, match=r"cache must be of a layer with a weight of the shape .*: it is another"):
            layer.backward(cache, y)


def test_a_layer_whose_states_have_a_type_of_their_own_can_be_pickled_after_a_call() -> None:
    layer = rr.Recurrent(rr.cells.SLSTMCell(), 2, 3, seed=0)
    x = np.ones((2, 5, 2), "float32")
    y, state = layer(x)
    other, end = pickle.loads(pickle.dumps((layer, state)))
    np.testing.assert_array_equal(other(x)[0], y)
    other(x, end)
