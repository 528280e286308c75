"""Layers whose params nobody changes: the bits of the layer that they were made of, and no way to change them."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import Case, assert_all_same, give, here, host, layer_for, named, obtain, problem
from harness.cases import CASES, OPTIONS
from recurray.backend import Backend

SHAPES = [(1, 1), (1, 7), (3, 1), (4, 6), (2, 120)]  # rows and steps; the last goes the long way


def called(layer: rr.Layer, *given: Any, **which: Any) -> dict[str, Any]:
    y, end = layer(*given, **which)
    return host(layer.backend, {"y": y} | named("end", end))


def assert_same_calls(layer: rr.Layer, other: rr.Layer, *given: Any, **which: Any) -> None:
    expected = called(layer, *given, **which)
    for _ in range(2):
        assert_all_same(called(other, *given, **which), expected)


def lstm(backend: Backend, **options: Any) -> tuple[rr.LSTM, Any]:
    """A layer, and an input."""
    layer = rr.LSTM(3, 5, backend=backend, dtype="float64", seed=0, **options)
    return layer, backend.asarray(np.random.default_rng(1).standard_normal((2, 6, 3)))


@pytest.mark.parametrize("platform", here("numpy", "native", "cupy"))
@pytest.mark.parametrize("case", [*CASES, *OPTIONS], ids=str)
def test_it_gives_the_layers_bits(case: Case, platform: str) -> None:
    layer = layer_for(case, problem(case), obtain(platform), "float32")
    given = give(layer, problem(case))
    frozen = layer.frozen()
    assert_same_calls(layer, frozen, given.x, given.state, **given.which)
    assert_same_calls(layer, frozen, given.x, None, **given.which)


@pytest.mark.parametrize("platform", here("numpy", "native", "cupy"))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("hidden", [5, 70])
def test_calls_of_all_sizes(platform: str, dtype: str, hidden: int) -> None:
    rng = np.random.default_rng(0)
    for kind, options in [(rr.LSTM, {"num_layers": 2}), (rr.GRU, {"bidirectional": True}), (rr.LSTM, {"proj_size": 3})]:
        layer = kind(3, hidden, backend=obtain(platform), dtype=dtype, seed=0, **options)
        frozen = layer.frozen()
        for rows, steps in SHAPES:
            x = layer.backend.asarray(rng.standard_normal((rows, steps, 3)), dtype)
            assert_same_calls(layer, frozen, x)
            assert_same_calls(layer, frozen, x, layer(x)[1])
            assert_same_calls(layer, frozen, x, lengths=[steps] * (rows - 1) + [(steps + 1) // 2])


@pytest.mark.parametrize("platform", here("numpy", "native", "cupy"))
def test_rows_with_biases_of_their_own(platform: str) -> None:
    """Those of a call aren't the next one's."""
    layer, _ = lstm(obtain(platform), static_size=2, num_layers=2, bidirectional=True)
    frozen: Any = layer.frozen()
    for rows, steps in [(2, 6), (1, 7), (9, 2), (2, 6)]:
        rng = np.random.default_rng(rows)
        x, static = rng.standard_normal((rows, steps, 3)), rng.standard_normal((rows, 2))
        assert_same_calls(layer, frozen, layer.backend.asarray(x), static=layer.backend.asarray(static))
    kept = [own.kept_matrices for own in frozen._layer._fixed_weights]
    assert [bool(own) for own in kept] == [platform == "native"] * 2 + [False] * 2  # the first layer's, and once


def test_it_stays_as_it_is(backend: Backend) -> None:
    layer, x = lstm(backend)
    frozen, expected = layer.frozen(), called(layer, x)
    assert_all_same(called(frozen, x), expected)
    layer.load_state_dict({name: value + 1 for name, value in layer.state_dict().items()})
    assert_all_same(called(frozen, x), expected)
    for name in frozen.params:
        with pytest.raises(TypeError, match="frozen layer's params can't be changed"):
            frozen.params[name] = frozen.params[name] + 1
        with pytest.raises(TypeError, match="can't be changed"):
            del frozen.params[name]
        with suppress(TypeError, ValueError):  # arrays that can't be protected are copies
            frozen.params[name][...] = 7
    for change in (lambda: frozen.load_state_dict(frozen.state_dict()), lambda: setattr(frozen, "params", {})):
        with pytest.raises((TypeError, ValueError), match=r"can't be changed|names don't fit"):
            change()
    assert_all_same(called(frozen, x), expected)
    assert_all_same(called(frozen.trainable(), x), expected)


@pytest.mark.parametrize("platform", here("numpy", "native"))
def test_params_written_in_place_are_the_trainable_layers_alone(platform: str) -> None:
    layer, x = lstm(obtain(platform), bidirectional=True)
    frozen, expected = layer.frozen(), called(layer, x)
    assert_all_same(called(frozen, x), expected)
    for value in layer.params.values():
        value[...] += 1
    assert_all_same(called(frozen, x), expected)
    with pytest.raises(ValueError, match="read-only"):
        frozen.params["weight_hh_l0"][0, 0] = 1
    thawed = frozen.trainable()
    thawed.params["weight_hh_l0"][0, 0] += 1
    assert np.abs(thawed(x)[0] - expected["y"]).max() > 0


def test_it_refuses_to_be_trained() -> None:
    layer, x = lstm(rr.get_backend("numpy"))
    frozen = layer.frozen()
    y, _, cache = layer.forward(x)
    for refused in (
        lambda: frozen.forward(x),
        lambda: frozen.forward(x, training=False),
        lambda: frozen.backward(cache, np.ones_like(y)),
        lambda: rr.Sequential(frozen, rr.Linear(5, 2, backend="numpy", dtype="float64")).forward(x),
        lambda: rr.check_gradients(frozen),
    ):
        with pytest.raises(TypeError, match=r"a frozen LSTM is for inference alone: call it"):
            refused()


def test_optimizers_refuse_its_params() -> None:
    """At once: amid a step some of the others would have been replaced."""
    frozen, model = rr.LSTM(3, 5, seed=0).frozen(), rr.Model(inner=rr.Sequential(rr.LSTM(3, 5, seed=0).frozen()))
    both = rr.Sequential(model, rr.Linear(5, 2, seed=0))
    for params, name in ((frozen.params, ""), (both.params, "0.inner.0."), (both.frozen().params, "0.inner.0.")):
        with pytest.raises(TypeError, match=f"the param '{name}bias_hh_l0' is a frozen layer's"):
            rr.optim.SGD(params)
    optimizer = rr.optim.SGD(both.params, groups={"0.*": {"frozen": True}})
    optimizer.step({"1.weight": np.ones((2, 5), "float32"), "1.bias": np.ones(2, "float32")})
    with pytest.raises(TypeError, match=r"by groups=\{'0.inner.0.bias_hh_l0': \{'frozen': True\}\}"):
        optimizer.groups = {}


@pytest.mark.parametrize("platform", here("numpy", "native", "reference"))
def test_copies_are_frozen_too(platform: str, tmp_path: Path) -> None:
    backend = obtain(platform)
    layer, x = lstm(backend)
    model = rr.Sequential(layer, rr.Last(), rr.Linear(5, 2, dtype="float64", backend=backend, seed=1))
    frozen, expected = model.frozen(), called(model, x)
    assert_all_same(called(frozen, x), expected)
    for other in (copy.copy(frozen), copy.deepcopy(frozen), pickle.loads(pickle.dumps(frozen)), frozen.to()):
        assert type(other) is type(frozen)
        assert repr(other) == repr(frozen)
        assert_all_same(called(other, x), expected)
        with pytest.raises(TypeError, match="frozen Sequential"):
            other.forward(x)
        with pytest.raises(ValueError, match="read-only"):
            other.params["2.bias"][...] = 0
    assert frozen.frozen() is frozen
    rr.save(frozen, tmp_path / "model.safetensors")
    again = rr.load(tmp_path / "model.safetensors", backend)
    assert type(again) is rr.Sequential
    assert type(again.layers[0]) is rr.LSTM
    assert_all_same(called(again, x), expected)
    again.forward(x)
    in_float32 = frozen.astype("float32")
    assert in_float32(x)[0].dtype == "float32"


def test_it_has_the_layers_attributes() -> None:
    layer, x = lstm(rr.get_backend("numpy"), num_layers=2, batch_first=False)
    frozen = layer.frozen()
    assert (frozen.hidden_size, frozen.num_layers, frozen.batch_first, frozen.recurrent) == (5, 2, False, True)
    assert frozen.state_type is rr.State
    assert {"hidden_size", "params", "trainable"} <= set(dir(frozen))
    assert frozen.param_count() == layer.param_count()
    assert frozen.state_dict().keys() == layer.state_dict().keys()
    np.testing.assert_array_equal(frozen.trace(x)[0]["i"], layer.trace(x)[0]["i"])
    with pytest.raises(AttributeError, match="nothing_such"):
        frozen.nothing_such  # noqa: B018
    assert not rr.LSTM(2, 3, bidirectional=True).frozen().streamable


def test_its_options_stay() -> None:
    frozen = lstm(obtain("numpy"))[0].frozen()
    with pytest.raises(AttributeError, match="a frozen LSTM stays as it is: change batch_first of the layer"):
        frozen.batch_first = False
    frozen.note = "of the user's own"
    assert frozen.note == "of the user's own"
    assert frozen.batch_first


@pytest.mark.parametrize("platform", here("numpy", "native"))
def test_a_stream_of_it(platform: str) -> None:
    layer, x = lstm(obtain(platform))
    model = rr.Sequential(layer, rr.Linear(5, 2, dtype="float64", backend=layer.backend, seed=1))
    of_model, of_frozen = rr.Streaming(model), rr.Streaming(model.frozen())
    for t in range(6):
        np.testing.assert_array_equal(of_frozen(x[:, t : t + 1]), of_model(x[:, t : t + 1]))
    np.testing.assert_array_equal(of_frozen.state[0].c, of_model.state[0].c)
    half = of_frozen.to(dtype="float32")
    assert half(x[:, :1]).dtype == "float32"


class Twice(rr.Model):
    """A model that says itself how its layers run, with a cache."""

    def forward(
        self, x: Any, state: Any = None, lengths: Any = None, training: bool = True, rng: Any = None
    ) -> tuple[Any, Any, Any]:
        y, end, first = self.lstm.forward(x, state, lengths, training, rng)
        y, _, second = self.dropout.forward(y, training=training, rng=rng)
        z, _, third = self.output.forward(y)
        return z, end, (first, second, third)


def test_a_model_and_params_that_are_tied() -> None:
    layer, x = lstm(rr.get_backend("numpy"))
    model = Twice(lstm=layer, dropout=rr.Dropout(0.5), output=rr.Linear(5, 3, dtype="float64", seed=1))
    frozen = model.frozen()
    assert_same_calls(model, frozen, x)
    assert_same_calls(model, copy.deepcopy(frozen), x)
    _, _, cache = frozen.lstm.forward(x)
    assert cache is None
    with pytest.raises(TypeError, match="frozen Twice"):
        frozen.forward(x)
    tied = rr.Sequential(rr.Embedding(7, 5), rr.GRU(5, 5), rr.Linear(5, 7), tie={"2.weight": "0.weight"})
    words = np.arange(6).reshape(2, 3)
    assert_same_calls(tied, tied.frozen(), words)
    again = pickle.loads(pickle.dumps(tied.frozen()))
    assert again.param_count() == tied.param_count()
    assert_same_calls(tied, again, words)
    assert again.trainable().tie == {"2.weight": "0.weight"}


def test_errors_are_the_layers() -> None:
    layer, x = lstm(rr.get_backend("numpy"))
    frozen = layer.frozen()
    for wrong in ((x[:, :, :2],), (x, (1, 2)), (x.astype(int),)):
        with pytest.raises((TypeError, ValueError)) as expected:
            layer(*wrong)
        with pytest.raises(expected.type) as found:
            frozen(*wrong)
        assert str(found.value) == str(expected.value)


@pytest.mark.parametrize("platform", here("numpy", "native"))
def test_threads_share_it(platform: str) -> None:
    rng = np.random.default_rng(0)
    layer = rr.LSTM(8, 32, 2, backend=obtain(platform), seed=0)
    inputs = rng.standard_normal((8, 60, 1, 2, 8)).astype("float32")

    def run(model: rr.Layer, steps: Any) -> Any:
        state = None
        for x in steps:
            y, state = model(x, state)
        return y

    alone = [run(layer, steps) for steps in inputs]
    frozen = layer.frozen()
    with ThreadPoolExecutor(8) as pool:
        np.testing.assert_array_equal(list(pool.map(lambda steps: run(frozen, steps), inputs)), alone)


def test_what_is_made_of_weights_is_kept_only_where_they_stay() -> None:
    weights = lstm(rr.get_backend("numpy"))[0].weights()[0]
    made: list[int] = []
    for _ in range(2):
        weights.once("it", lambda: made.append(0) or made)
    fixed = replace(weights, kept={})
    for _ in range(2):
        assert fixed.once("it", lambda: made.append(0) or made) is made
    assert len(made) == 3
