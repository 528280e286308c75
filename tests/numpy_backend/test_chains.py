"""Layers one after the other whose small calls are made together: the bits of each layer called alone."""

from __future__ import annotations

import copy
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import here, leaves, obtain
from recurray import kept

PLATFORMS = here("numpy", "native")
SHAPES = [(1, 1), (1, 3), (4, 1), (2, 2), (3, 5)]  # rows and steps; the last are too many for the engine's product


def model_on(platform: str, name: str, dtype: str = "float32", *, batch_first: bool = True) -> rr.Sequential:
    """A model; all of them take 3 features."""
    own: dict[str, Any] = {"backend": obtain(platform), "dtype": dtype}
    recurrent = own | {"batch_first": batch_first}
    layers: list[rr.Layer] = {
        "one": lambda: [rr.LSTM(3, 35, seed=0, **recurrent), rr.Linear(35, 19, seed=1, **own)],
        "no bias": lambda: [rr.LSTM(3, 5, bias=False, seed=0, **recurrent), rr.Linear(5, 2, bias=False, seed=1, **own)],
        "several": lambda: [
            rr.Linear(3, 6, seed=2, **own),
            rr.GRU(6, 5, 2, seed=0, **recurrent),
            rr.Dropout(0.5),
            rr.LSTM(5, 7, seed=3, **recurrent),
            rr.Linear(7, 2, seed=4, **own),
        ],
        "both directions": lambda: [
            rr.LSTM(3, 5, bidirectional=True, seed=0, **recurrent),
            rr.Linear(10, 4, seed=1, **own),
        ],
        "projected": lambda: [
            rr.LSTM(3, 8, 2, proj_size=4, seed=0, **recurrent),
            rr.RNN(4, 3, reverse=True, seed=5, **recurrent),
        ],
    }[name]()
    return rr.Sequential(*layers)


MODELS = ["one", "no bias", "several", "both directions", "projected"]


def one_by_one(model: rr.Layer, x: Any, state: Any) -> tuple[Any, tuple[Any, ...]]:
    """The model's layers, each by itself, the long way."""
    ends = []
    for layer, start in zip(model.layers, state or [None] * len(model.layers), strict=True):  # type: ignore[attr-defined]
        x, end, _ = layer.forward(x, start, training=False)
        ends.append(end)
    return x, tuple(ends)


def numbers(y: Any, state: Any) -> dict[str, Any]:
    return {
        "y": y,
        **{f"{place} {name}": value for place, end in enumerate(state) for name, value in leaves(end).items()},
    }


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert value.dtype == expected[name].dtype
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def inputs(model: rr.Sequential, rows: int, steps: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """An input, and a state that isn't zero."""
    shape = (steps, rows, 3) if model.batch_first is False else (rows, steps, 3)
    x = rng.standard_normal(shape).astype(model.dtype)
    return x, model(rng.standard_normal(shape).astype(model.dtype))[1]


def is_together(model: Any) -> bool:
    return bool(len(model._plans._kept))


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("name", MODELS)
def test_the_bits_are_those_of_the_layers(platform: str, name: str) -> None:
    rng = np.random.default_rng(0)
    for dtype, batch_first in (("float32", True), ("float64", False)):
        model = model_on(platform, name, dtype, batch_first=batch_first)
        frozen: Any = model.frozen()
        for rows, steps in SHAPES:
            x, state = inputs(model, rows, steps, rng)
            before = copy.deepcopy((x, state))
            for start in (state, None, state):
                expected = numbers(*one_by_one(model, x, start))
                if platform == "numpy" and (rows, steps) == (1, 1):  # its single step sums in another order
                    expected = numbers(*frozen(x, start))
                for called in (model, frozen, model):
                    assert_same(numbers(*called(x, start)), expected)
            np.testing.assert_equal(before, (x, state))
        assert is_together(model) == is_together(frozen._layer) == (platform == "native")


@pytest.mark.parametrize("platform", PLATFORMS)
def test_params_are_read_as_they_are(platform: str) -> None:
    rng = np.random.default_rng(1)
    model = model_on(platform, "one", "float64")
    x, state = inputs(model, 1, 2, rng)
    frozen, first = model.frozen(), model(x, state)[0]
    changes = [
        lambda: model.params.update({"1.bias": model.params["1.bias"] + 1}),
        lambda: model.layers[1].params["weight"].__imul__(2),
        lambda: model.layers[0].params.update({"weight_hh_l0": np.asfortranarray(2 * model.params["0.weight_hh_l0"])}),
        lambda: model.layers[0].params["weight_hh_l0"].__imul__(2),
        lambda: model.layers[1].params.update({"weight": np.asfortranarray(2 * model.params["1.weight"])}),
        lambda: model.layers[1].params["weight"].__imul__(2),
        lambda: model.load_state_dict({name: value + 1 for name, value in model.state_dict().items()}),
        lambda: setattr(model.layers[1], "params", {name: value / 3 for name, value in model.layers[1].params.items()}),
    ]
    last = first
    for change in changes:
        change()
        for _ in range(2):
            y, end = model(x, state)
            assert_same(numbers(y, end), numbers(*one_by_one(model, x, state)))
        assert np.abs(y - last).max() > 1e-3
        last = y
    np.testing.assert_array_equal(frozen(x, state)[0], first)
    model.layers[0].reverse = True
    for _ in range(2):
        assert_same(numbers(*model(x, state)), numbers(*one_by_one(model, x, state)))
    model.layers[0].reverse = False
    twin = copy.deepcopy(model)
    twin.params["1.bias"] = twin.params["1.bias"] + 1
    np.testing.assert_array_equal(model(x, state)[0], last)
    np.testing.assert_array_equal(twin(x, state)[0], one_by_one(twin, x, state)[0])


def told(error: BaseException) -> str:
    """What an error says, but for the layer's kind, of which a frozen model's are another."""
    return re.sub(r"(?<=layer \d, )\w+", "", str(error))


@pytest.mark.parametrize("platform", PLATFORMS)
def test_what_is_wrong_is_told_as_ever(platform: str) -> None:
    model = model_on(platform, "one")
    x, state = inputs(model, 1, 2, np.random.default_rng(2))
    model(x, state)
    wrong = [
        (x[:, :, :2], state),
        (x.astype(int), state),
        (x[0], state),
        (None, None),
        (x.tolist(), None),
        (x, state[:1]),
        (x, list(state)),
        (x, (state[0], state[0])),
        (x, (tuple(state[0]), None)),
        (x, (rr.State(state[0].h), None)),
        (x, (rr.State(state[0].h[:, :, :3], state[0].c), None)),
    ]
    for given in wrong:
        with pytest.raises((TypeError, ValueError)) as of_forward:
            model.forward(*given)
        for called in (model, model.frozen()):
            with pytest.raises(of_forward.type) as of_call:
                called(*given)
            assert told(of_call.value) == told(of_forward.value)
    model.layers[1].params["weight"] = model.params["1.weight"][:, :3]
    with pytest.raises(ValueError, match="layer 1, Linear: the param 'weight' must have the shape"):
        model(x, state)
    del model.layers[1].params["weight"]
    with pytest.raises(ValueError, match=r"layer 1, Linear: .*missing 'weight'"):
        model(x, state)


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("wrong", [np.zeros((140, 4), "float32"), np.zeros((140, 3))], ids=["shape", "dtype"])
def test_params_that_do_not_fit_are_told_with_their_layer(platform: str, wrong: Any) -> None:
    """Where there is a plan, and where one is to be made."""
    model = model_on(platform, "one")
    x, state = inputs(model, 1, 2, np.random.default_rng(2))
    own = model.params["0.weight_ih_l0"]
    for ready in (lambda: model(x, state), kept.release):
        ready()
        model.layers[0].params["weight_ih_l0"] = wrong
        with pytest.raises((TypeError, ValueError), match=r"^layer 0, LSTM: the param 'weight_ih_l0' must"):
            model(x, state)
        model.layers[0].params["weight_ih_l0"] = own


@pytest.mark.parametrize("platform", PLATFORMS)
def test_arguments_of_other_forms(platform: str) -> None:
    model = model_on(platform, "one")
    x, state = inputs(model, 2, 2, np.random.default_rng(3))
    expected = numbers(*model(x, state))
    for called in (model, model.frozen()):
        for form in (lambda a: a.astype("float64"), np.asfortranarray, lambda a: a.astype(">f4")):
            assert_same(numbers(*called(form(x), state)), expected)
            assert_same(numbers(*called(x, (rr.State(*map(form, state[0])), None))), expected)
        assert_same(numbers(*called(x, (None, None))), numbers(*called(x)))


def test_layers_that_see_to_their_calls_are_called() -> None:
    class Doubled(rr.Linear):
        def apply(self, *given: Any) -> Any:
            y, cache = super().apply(*given)
            return 2 * y, cache

    class Counted(rr.LSTM):
        calls = 0

        def __call__(self, *given: Any, **options: Any) -> Any:
            self.calls += 1
            return super().__call__(*given, **options)

    backend, x = obtain("native"), np.ones((1, 1, 3), "float32")
    lstm, linear = rr.LSTM(3, 5, backend=backend, seed=0), Doubled(5, 2, backend=backend, seed=1)
    y = rr.Linear(5, 2, backend=backend, seed=1)(lstm(x)[0])[0]
    for called in (rr.Sequential(lstm, linear), rr.Sequential(lstm, linear).frozen()):
        for _ in range(2):
            np.testing.assert_array_equal(called(x)[0], 2 * y)
    np.testing.assert_array_equal(linear(lstm(x)[0])[0], 2 * y)
    counted = Counted(3, 5, backend=backend, seed=0)
    model = rr.Sequential(counted, rr.Linear(5, 2, backend=backend, seed=1))
    model(x), model(x)
    assert counted.calls == 2
    learned = rr.LSTM(3, 5, learned_state=True, backend=backend, seed=0)
    learned.params["start_h_l0"] += 1
    model = rr.Sequential(learned, rr.Linear(5, 2, backend=backend, seed=1))
    np.testing.assert_array_equal(model(x)[0], one_by_one(model, x, None)[0])


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_product_of_a_few_rows(platform: str, dtype: str) -> None:
    """Against NumPy's own, over sizes around a vector's, any leading axes, and to the bit in every form of call."""
    rng = np.random.default_rng(4)
    for features, outputs, bias, lead in [
        (1, 1, True, (1,)),
        (5, 3, False, (2,)),
        (16, 16, True, (1, 1)),
        (17, 33, True, (2, 2)),
        (40, 10, False, (1, 3)),
        (31, 64, True, ()),
        (64, 100, True, (1, 4)),
        (9, 7, True, (3, 5)),
        (5, 3, True, (0, 2)),
        (600, 300, True, (1, 1)),
    ]:
        layer = rr.Linear(features, outputs, bias=bias, backend=obtain(platform), dtype=dtype, seed=0)
        frozen, x = layer.frozen(), rng.standard_normal((*lead, features)).astype(dtype)
        expected = x @ layer.params["weight"].T + layer.params.get("bias", 0)
        y, _, _ = layer.forward(x)
        assert y.shape == (*lead, outputs)
        assert y.dtype == dtype
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5 if dtype == "float32" else 1e-13)
        for called in (layer, frozen, layer, frozen):
            found, state = called(x)
            assert found.shape == y.shape
            assert state is None
            np.testing.assert_array_equal(found, y)
        found[...] = 7  # the caller's own
        np.testing.assert_array_equal(frozen(x)[0], y)
        layer.params["weight"] = np.asfortranarray(2 * layer.params["weight"])
        for _ in range(2):
            np.testing.assert_array_equal(layer(x)[0], layer.forward(x)[0])
            layer.params["weight"][...] *= 2
        np.testing.assert_array_equal(frozen(x)[0], y)
        with pytest.raises(ValueError, match="x must have the shape"):
            layer(np.ones((*lead, features + 1), dtype))


@pytest.mark.parametrize("platform", PLATFORMS)
def test_many_threads_share_a_model(platform: str) -> None:
    rng = np.random.default_rng(5)
    model = model_on(platform, "one").frozen()
    xs = rng.standard_normal((8, 60, 1, 1, 3)).astype("float32")

    def run(steps: Any) -> Any:
        stream = rr.Streaming(model)
        return [stream(x) for x in steps]

    alone = [run(steps) for steps in xs]
    with ThreadPoolExecutor(8) as pool:
        np.testing.assert_array_equal(list(pool.map(run, xs)), alone)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("hidden", [3, 8, 20, 70, 130])
def test_a_row_of_any_width(hidden: int, dtype: str) -> None:
    """Four gates of one row are made together, a panel of each: the numbers of the reference path."""
    rng = np.random.default_rng(6)
    layer = rr.LSTM(9, hidden, backend=obtain("native"), dtype=dtype, seed=0)
    reference, frozen = layer.to(np), layer.frozen()
    for steps in (1, 2, 7):
        x = rng.standard_normal((1, steps, 9)).astype(dtype)
        state = rr.State(*rng.standard_normal((2, 1, 1, hidden)).astype(dtype))
        (expected, end), atol = reference(x, state), 3e-6 if dtype == "float32" else 1e-13
        for called in (layer, frozen, layer, frozen):
            y, found = called(x, state)
            for a, b in zip((y, *found), (expected, *end), strict=True):
                np.testing.assert_allclose(a, b, rtol=0, atol=atol)
