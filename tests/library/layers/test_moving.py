"""A layer, a state, a stream or an optimizer on another backend or in another precision."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import (
    Case,
    assert_all_close,
    assert_all_same,
    here,
    host,
    layer_for,
    leaves,
    obtain,
    problem,
    results,
)
from harness.cases import CASES, OPTIONS
from harness.needs import need
from recurray.backend import Backend
from recurray.cells import LSTMCell, SLSTMCell
from recurray.layers import Layer, StatelessLayer

B, T, I, H = 3, 6, 2, 4  # noqa: E741 - what the input's size is called everywhere
EVERYWHERE_OR_ONCE = pytest.mark.parametrize(  # an option of a layer goes along in one way, wherever it goes
    ("case", "backend"),
    [
        *(pytest.param(case, name, id=f"{name}-{case}") for case in CASES for name in here()),
        *(pytest.param(case, name, id=f"{name}-{case}") for case in OPTIONS for name in here("reference")),
    ],
    indirect=["backend"],
)
PAIRS = [(a, b) for a, b in itertools.permutations(here(), 2) if "numpy" in (a, b) or "device1" in (a, b)]


def text(layer: Layer) -> str:
    """What a layer says of itself, but for backend and dtype."""
    return repr(layer).replace(repr(layer.backend.name), "B").replace(repr(layer.dtype), "D")


def draw(backend: Backend, *shape: int, dtype: str = "float64", seed: int = 0) -> Any:
    return backend.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


@EVERYWHERE_OR_ONCE
def test_a_moved_layer_is_the_one_that_would_have_been_made_there(case: Case, backend: Backend) -> None:
    """In class, options and every bit of its results; and so it is when it has come back."""
    origin = obtain("numpy")
    made, there = (layer_for(case, problem(case), each) for each in (origin, backend))
    moved = made.to(backend)
    assert type(moved) is type(there)
    assert (moved.backend, moved.dtype, text(moved)) == (backend, "float64", text(made))
    assert_all_same(host(backend, moved.params), host(backend, there.params))
    assert_all_same(host(backend, results(moved, problem(case))), host(backend, results(there, problem(case))))
    back = moved.to(origin)
    assert (back.backend, repr(back)) == (origin, repr(made))
    assert_all_same(back.state_dict(), made.state_dict())


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_from_every_backend_to_every_other(first: str, second: str) -> None:
    case = next(case for case in CASES if case.name == "sequential")
    there = layer_for(case, problem(case), obtain(second))
    moved = layer_for(case, problem(case), obtain(first)).to(obtain(second))
    backend = there.backend
    assert_all_same(host(backend, results(moved, problem(case))), host(backend, results(there, problem(case))))


@EVERYWHERE_OR_ONCE
def test_a_layer_in_another_precision(case: Case, backend: Backend) -> None:
    made = layer_for(case, problem(case), obtain("numpy"), "float64")
    single = made.to(backend, "float32")
    assert (single.backend, single.dtype) == (backend, "float32")
    expected = {name: value.astype("float32") for name, value in made.state_dict().items()}
    assert_all_same(host(backend, single.params), expected)
    found = results(single, problem(case))
    there = layer_for(case, problem(case), backend, "float32")
    assert_all_same(host(backend, found), host(backend, results(there, problem(case))))
    for double in (single.to(dtype="float64"), single.astype("float64")):
        assert (double.backend, double.dtype) == (backend, "float64")
        widened = {name: value.astype("float64") for name, value in expected.items()}
        assert_all_same(host(backend, double.params), widened)
    assert all(str(value.dtype).endswith("float64") for value in results(double, problem(case)).values())


@pytest.mark.parametrize("dtype", [None, "float32", "float64"])
def test_a_moved_layer_shares_no_array(dtype: str | None, backend: Backend) -> None:
    """Also where nothing else changes, and between libraries that can share memory."""
    source = rr.Sequential(rr.LSTM(I, H, learned_state=True, seed=0), rr.Dropout(seed=1), rr.LayerNorm(H))
    sources = [source, source.to(backend), source.to("numpy" if backend.xp is not np else None)]
    for layer, target in itertools.product(sources, (backend, "numpy")):
        moved = layer.to(target, dtype)
        kept, moved_kept = layer.state_dict(), moved.state_dict()
        _overwrite(moved)
        assert_all_same(layer.state_dict(), kept)
        again = layer.to(target, dtype)
        _overwrite(layer)
        assert_all_same(again.state_dict(), moved_kept)
        layer.load_state_dict(kept)


def _overwrite(layer: Layer) -> None:
    """Write into the params' memory where the library lets one."""
    for name, value in list(layer.params.items()):
        try:
            value[...] = value + 1
        except (TypeError, ValueError):  # immutable, or read-only
            layer.params[name] = value + 1


def test_optimizer_steps_on_one_leave_the_other_alone(backend: Backend) -> None:
    first = rr.Linear(I, H, backend=backend, dtype="float64", seed=0)
    second = first.to()
    before = first.state_dict()
    optimizer = rr.optim.SGD(second.params, lr=0.5)
    optimizer.step({name: value + 1 for name, value in second.params.items()})
    assert_all_same(first.state_dict(), before)
    assert not np.array_equal(second.state_dict()["weight"], before["weight"])


def test_dropout_goes_on_from_where_it_was(backend: Backend) -> None:
    """Its generators are copies: the two draw the same, independently."""
    origin = obtain("numpy")

    def made() -> rr.Sequential:
        return rr.Sequential(
            rr.LSTM(
                I, H, 2, dropout=0.4, recurrent_dropout=0.3, zoneout_c=0.2, dtype="float64", seed=0, backend=origin
            ),
            rr.Sequential(rr.Dropout(0.5, seed=1)),
        )

    model, x = made(), draw(origin, B, T, I)
    for _ in range(2):
        model.forward(x)
    moved = model.to(backend)
    for _ in range(2):
        expected, found = model.forward(x)[0], moved.forward(backend.asarray(x))[0]
        np.testing.assert_allclose(backend.to_numpy(found), origin.to_numpy(expected), rtol=0, atol=1e-12)
    fresh = made().to(backend).forward(backend.asarray(x))[0]
    assert not np.allclose(backend.to_numpy(fresh), origin.to_numpy(expected))


def test_a_cache_of_the_source_is_refused(backend: Backend) -> None:
    layer = rr.LSTM(I, H, backend=backend, dtype="float64", seed=0)
    y, _, cache = layer.forward(draw(backend, B, T, I))
    with pytest.raises(ValueError, match="cache must be of a layer with dtype float32"):
        layer.to(dtype="float32").backward(cache, y)


def test_single_steps_of_a_moved_layer(backend: Backend) -> None:
    """What is kept for later calls is of the params that it was made for."""
    layer = rr.GRU(I, H, backend=obtain("numpy"), dtype="float64", seed=0)
    step = draw(obtain("numpy"), 1, 1, I)
    expected = [layer(step)[0] for _ in range(4)]
    moved = layer.to(backend)
    moved.load_state_dict({name: 2 * value for name, value in layer.state_dict().items()})
    doubled = rr.GRU(I, H, dtype="float64", backend=backend, params=moved.params)
    for _ in range(4):
        found = backend.to_numpy(moved(backend.asarray(step))[0])
        np.testing.assert_allclose(found, backend.to_numpy(doubled(backend.asarray(step))[0]), rtol=0, atol=1e-12)
        np.testing.assert_array_equal(layer(step)[0], expected[-1])
    assert moved._plans is not layer._plans


# States and streams ---------------------------------------------------------------------------------------------------


def models() -> Iterator[Any]:
    """Models whose states are of different forms, by the keywords of their layers."""
    yield "LSTM", lambda **o: rr.LSTM(I, H, 2, proj_size=3, seed=0, **o)
    yield "GRU", lambda **o: rr.GRU(I, H, seed=0, **o)
    yield "own fields", lambda **o: rr.Recurrent(SLSTMCell(), I, H, seed=0, **o)
    yield "without state", lambda **o: rr.Linear(I, H, seed=0, **o)
    yield (
        "nested",
        lambda **o: rr.Sequential(
            rr.Recurrent(SLSTMCell(), I, H, seed=0, **o),
            rr.Sequential(rr.Dropout(), rr.LSTM(H, H, learned_state=True, seed=1, **o), rr.LayerNorm(H, **o)),
            rr.Last(),
        ),
    )


MODELS = dict(models())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_stream_moves_between_two_chunks(name: str, dtype: str, backend: Backend) -> None:
    stream = rr.Streaming(MODELS[name](backend=obtain("numpy"), dtype="float64"))
    x = np.random.default_rng(1).standard_normal((B, T, I))
    stream(x[:, :2])
    moved = stream.to(backend, dtype)
    assert (moved.model.backend, moved.model.dtype) == (backend, dtype)
    expected, found = stream(x[:, 2:]), moved(backend.asarray(x[:, 2:]))
    tolerance = {"float64": 1e-12, "float32": 1e-5}[dtype]
    assert str(found.dtype).endswith(dtype)
    np.testing.assert_allclose(backend.to_numpy(found), expected, rtol=0, atol=tolerance)
    back = moved.to("numpy", "float64")
    for one, other in zip(leaves(back.state).values(), leaves(stream.state).values(), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)
    moved.reset()
    assert back.state is None or not all(part is None for part in back.state)


def test_a_stream_that_has_not_begun() -> None:
    assert rr.Streaming(rr.LSTM(I, H, seed=0)).to(dtype="float64").state is None


@pytest.mark.parametrize("name", MODELS)
def test_a_state_of_another_backend_and_precision(name: str, backend: Backend) -> None:
    """Arrays are copies, types stay, and what isn't there stays away."""
    model = MODELS[name](backend=backend, dtype="float32")
    _, state = model(draw(backend, B, T, I, dtype="float32"))
    double = model.to("numpy", "float64")
    found = double.as_state(state)
    assert_all_same(
        leaves(found), {key: backend.to_numpy(value).astype("float64") for key, value in leaves(state).items()}
    )
    kept = {key: value.copy() for key, value in leaves(found).items()}
    assert _types(found) == _types(state)
    back = model.as_state(found)
    assert_all_same(host(backend, leaves(back)), host(backend, leaves(state)))
    for value in leaves(double.as_state(found)).values():
        value[...] = 9.0
    assert_all_same(leaves(found), kept)
    assert model.as_state(None) is None
    if state is not None:
        _, cache = double.forward(np.zeros((B, T, I)), found)[1:]
        y = double.forward(np.zeros((B, T, I)), found)[0]
        assert_all_same(
            leaves(double.backward(cache, y, double.as_state(state))[1]), leaves(double.backward(cache, y, found)[1])
        )


def _types(state: Any) -> Any:
    if type(state) is tuple:
        return tuple(_types(part) for part in state)
    return type(state) if isinstance(state, tuple) else state


# Optimizers -----------------------------------------------------------------------------------------------------------

OPTIMIZERS: dict[str, Callable[..., rr.optim.Optimizer]] = {
    "SGD": lambda params: rr.optim.SGD(params, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "Adam": lambda params: rr.optim.Adam(params, lr=0.1, betas=(0.8, 0.9), amsgrad=True),
    "AdamW": lambda params: rr.optim.AdamW(params, lr=0.1, weight_decay=0.3),
    "NAdam": lambda params: rr.optim.NAdam(params, lr=0.1),
    "RMSprop": lambda params: rr.optim.RMSprop(params, lr=0.1, momentum=0.5, centered=True),
    "Adagrad": lambda params: rr.optim.Adagrad(params, lr=0.1),
    "Adadelta": lambda params: rr.optim.Adadelta(params, lr=1.5),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_training_goes_on_elsewhere(name: str, dtype: str, backend: Backend) -> None:
    """As if there had been no move, to rounding: the step count, the moments, the rate that a schedule has set."""
    origin = obtain("numpy")
    model = rr.Sequential(
        rr.GRU(I, H, seed=0, dtype="float64"), rr.Linear(H, 1, seed=1, dtype="float64"), backend=origin
    )
    optimizer = OPTIMIZERS[name](model.params)
    _train(model, optimizer, 3)
    optimizer.lr = 0.05
    moved = model.to(backend, dtype)
    there = optimizer.to(moved.params)
    assert type(there) is type(optimizer)
    assert there.params is moved.params
    assert repr(there) == repr(optimizer)
    kept = optimizer.state_dict()
    if dtype == "float64":
        assert_all_same(*({k: v for k, v in s.items() if k != "settings"} for s in (there.state_dict(), kept)))
    fresh_model = model.to()
    fresh = OPTIMIZERS[name](fresh_model.params)
    fresh.lr = 0.05
    for one, own in ((moved, there), (model, optimizer), (fresh_model, fresh)):
        _train(one, own, 3)
    tolerance = {"float64": 1e-9, "float32": 1e-3}[dtype]
    assert_all_close(backend, dict(moved.params), model.state_dict(), dtype=dtype, tolerance=tolerance)
    if dtype == "float32":
        return
    apart = max(np.max(abs(fresh_model.state_dict()[key] - value)) for key, value in model.state_dict().items())
    assert apart > 10 * tolerance, "what is kept of earlier steps must matter to this test"


def _train(model: Layer, optimizer: rr.optim.Optimizer, steps: int) -> None:
    backend, dtype = model.backend, model.dtype
    x, target = (draw(backend, B, T, size, dtype=dtype, seed=seed) for seed, size in ((1, I), (2, 1)))
    for _ in range(steps):
        y, _, cache = model.forward(x)
        _, dy = rr.losses.mse(y, target)
        optimizer.step(model.backward(cache, dy)[2])


def test_an_optimizer_and_the_one_it_came_from_go_on_independently(backend: Backend) -> None:
    model = rr.Linear(I, H, backend=backend, dtype="float64", seed=0)
    optimizer = rr.optim.SGD(model.params, lr=0.1, momentum=0.9)
    ones = {name: value * 0 + 1 for name, value in model.params.items()}
    optimizer.step(ones)
    other = model.to()
    moved = optimizer.to(other.params)
    before = moved.state_dict()
    optimizer.step(ones)
    assert_all_same(*({"velocity.weight": s["velocity.weight"]} for s in (moved.state_dict(), before)))
    assert (moved.step_count, optimizer.step_count) == (1, 2)


# A Sequential's backend -----------------------------------------------------------------------------------------------


def assert_on(model: rr.Sequential, backend: Backend, dtype: str = "float32") -> None:
    """Assert that a model and all its layers are there, and that it runs: both ways, with lengths."""
    assert (model.backend, model.dtype) == (backend, dtype)
    for layer in model.layers:
        if isinstance(layer, rr.Sequential):
            assert_on_each(layer, backend, dtype)
        assert (layer.backend, layer.dtype) == (backend, dtype)
    x = model.random_input(np.random.default_rng(0), B, T)
    y, state, cache = model.forward(backend.asarray(x, dtype if x.dtype.kind == "f" else None), lengths=[2, T, 0])
    dx, dstate, grads = model.backward(cache, y, state)
    for value in [y, *leaves(state).values(), *leaves(dstate).values(), *grads.values(), *([] if dx is None else [dx])]:
        assert backend.owns(value)
        assert backend.on_device(value)
        assert str(value.dtype).endswith(dtype)


def assert_on_each(model: rr.Sequential, backend: Backend, dtype: str) -> None:
    assert all((layer.backend, layer.dtype) == (backend, dtype) for layer in model.layers)


class Doubled(StatelessLayer):
    """A layer of a user's, without params, that doesn't tell whether it was given a backend."""

    def __init__(self, backend: Any = None, dtype: str = "float32") -> None:
        self.backend, self.dtype, self.params = rr.get_backend(backend), dtype, {}

    def apply(self, x: Any, lengths: Any, training: bool, rng: Any) -> Any:
        return 2 * self.floats("x", x, (...,)), None

    def apply_backward(self, cache: Any, dy: Any) -> Any:
        return 2 * self.floats("dy", dy, (...,)), {}

    def random_input(self, rng: Any, batch: int, steps: int) -> Any:
        return rng.standard_normal((batch, steps, 3))


class Untold(Doubled):
    """One with params that doesn't tell either: what it has counts as given."""

    def __init__(self, backend: Any = None) -> None:
        super().__init__(backend)
        self.params = {"unused": self.backend.asarray([1.0], "float32")}


class Window(Doubled):
    """One that holds an array beside its params, and params, and tells."""

    def __init__(self, backend: Any = None, dtype: Any = None) -> None:
        self.runs_on(backend, dtype)
        self.params = {"scale": self.backend.asarray([2.0], self.dtype)}
        self.window = self.backend.asarray([1.0, 2.0, 3.0], self.dtype)

    def apply(self, x: Any, lengths: Any, training: bool, rng: Any) -> Any:
        x = self.floats("x", x, (..., 3))
        return x * self.window * self.params["scale"], None

    def apply_backward(self, cache: Any, dy: Any) -> Any:
        dy = self.floats("dy", dy, (..., 3))
        return dy * self.window * self.params["scale"], {"scale": self.params["scale"]}

    def copy_on(self, backend: Backend, dtype: str) -> Any:
        other = super().copy_on(backend, dtype)
        other.window = backend.asarray(self.backend.to_numpy(self.window), dtype)
        return other


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layers_without_params_follow_the_others(dtype: str, backend: Backend) -> None:
    """The backend and the dtype, before and behind, within a Sequential within, and a user's own."""
    options: dict[str, Any] = {"backend": backend, "dtype": dtype, "seed": 0}
    model = rr.Sequential(
        Doubled(),
        rr.Activation("tanh"),
        rr.LSTM(3, H, **options),
        rr.Sequential(rr.Dropout(seed=0), rr.Sequential(rr.Activation("relu"))),
        rr.Last(),
        rr.Linear(H, 2, **options),
        rr.Activation("softmax"),
    )
    assert_on(model, backend, dtype)
    assert_on(rr.Sequential(rr.Sequential(rr.Last(), rr.Dropout()), rr.Linear(3, 2, **options)), backend, dtype)
    assert_on(rr.Sequential(rr.Last(), rr.Activation("tanh", backend=backend, dtype=dtype)), backend, dtype)


def test_a_sequential_gives_its_backend_to_layers_that_have_none(backend: Backend) -> None:
    model = rr.Sequential(
        rr.Embedding(5, 3, seed=0),
        rr.Sequential(rr.LSTM(3, H, recurrent_dropout=0.1, seed=1), Doubled()),
        rr.LayerNorm(H),
        rr.Linear(H, 3, backend=backend, seed=2),
        Window(),
        rr.Last(),
        backend=backend,
    )
    assert_on(model, backend)
    for layer, expected in (
        (model.layers[0], rr.Embedding(5, 3, seed=0, backend=backend)),
        (model.layers[1].layers[0], rr.LSTM(3, H, seed=1, backend=backend)),  # type: ignore[attr-defined]
    ):
        assert_all_same(layer.state_dict(), expected.state_dict())
    assert_on(
        rr.Sequential(rr.Sequential(rr.LSTM(3, H, seed=0), backend=backend), rr.Linear(H, 2, backend=backend)), backend
    )
    assert_on(rr.Sequential(rr.Last(), rr.Activation("tanh"), backend=backend), backend)


def test_a_layer_that_was_given_the_sequentials_backend_is_a_copy_whatever_the_default() -> None:
    """So that what becomes of the layer one holds doesn't depend on where the program runs."""
    lstm, last = rr.LSTM(I, H, seed=0), rr.Last()
    for backend in (lstm.backend, rr.get_backend(np)):  # type: ignore[arg-type]
        model = rr.Sequential(lstm, last, backend=backend)
        assert model.layers[0] is not lstm
        _overwrite(model)
        assert_all_same(lstm.state_dict(), rr.LSTM(I, H, seed=0).state_dict())
    assert rr.Sequential(lstm, last).layers == (lstm, last)  # nothing was said, and nothing changes
    said = rr.LSTM(I, H, backend="numpy")
    assert rr.Sequential(said, backend="numpy").layers == (said,)


def test_the_variable_is_a_default_and_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers made while it names a backend follow what is said; alone they run where it says."""
    with monkeypatch.context() as patch:
        patch.setenv("RECURRAY_BACKEND", "nonsense")
        with pytest.raises(ValueError, match="nonsense"):
            rr.Last()
    reference = rr.get_backend(np)  # type: ignore[arg-type]
    monkeypatch.setattr("recurray.selector._named", lambda name, device, **options: reference)
    monkeypatch.setenv("RECURRAY_BACKEND", "other")
    last, linear = rr.Last(), rr.Linear(3, 2, seed=0)
    monkeypatch.undo()
    numpy = rr.get_backend("numpy")
    assert last.backend is linear.backend is reference
    assert last(np.ones((2, 3, 1), "float32"))[0].tolist() == [[1.0], [1.0]]
    assert rr.Sequential(rr.LSTM(2, 3), last).backend is numpy
    assert rr.Sequential(last, rr.Dropout(), linear).backend is reference
    assert rr.Sequential(rr.LSTM(2, 3), last, linear, backend="numpy").layers[2].backend is numpy
    with pytest.raises(ValueError, match=r"layer 0 \(LSTM\) has .*, layer 1 \(Linear\) "):
        rr.Sequential(rr.LSTM(2, 3), linear)


def test_a_layer_without_params_serves_two_models(backend: Backend) -> None:
    """Neither takes it from the other, and it runs alone as before; the generator is the one that it was given."""
    dropout, last = rr.Dropout(0.5, seed=0), rr.Last()
    origin, default = obtain("numpy"), last.backend
    first = rr.Sequential(rr.LSTM(I, H, backend=origin, dtype="float64", seed=0), dropout, last)
    second = rr.Sequential(rr.LSTM(I, H, backend=backend, seed=0), last, dropout)
    assert_on(first, origin, "float64")
    assert_on(second, backend)
    assert (last.backend, last.dtype) == (dropout.backend, dropout.dtype) == (default, "float32")
    saved = dropout.rng.bit_generator.state
    x = draw(backend, B, T, I, dtype="float32")
    once = backend.to_numpy(second.forward(x)[0])
    dropout.rng.bit_generator.state = saved
    np.testing.assert_array_equal(backend.to_numpy(second.forward(x)[0]), once)


def test_within_another_what_was_said_counts(backend: Backend) -> None:
    other = rr.get_backend(np)  # type: ignore[arg-type]
    inner = rr.Sequential(rr.LSTM(I, H, seed=0), rr.Last())
    assert_on(rr.Sequential(inner, rr.Linear(H, 2), backend=backend), backend)
    with pytest.raises(
        ValueError, match=r"layer 0 \(Sequential\) has .*: make it without a backend, or move it by layer"
    ):
        rr.Sequential(rr.Sequential(rr.LSTM(I, H), rr.Last(), backend=other), rr.Linear(H, 2), backend="numpy")
    assert inner.backend is rr.get_backend()
    moved = inner.to(other)
    with pytest.raises(ValueError, match=r"layer 0 \(Sequential\) has "):
        rr.Sequential(moved, backend="numpy")
    in_double = rr.Sequential(rr.LSTM(I, H), rr.Last()).to(dtype="float64")  # of the backend nothing was said yet
    assert_on(rr.Sequential(in_double, rr.Dropout(), backend=backend), backend, "float64")


def test_what_contradicts_itself_is_refused() -> None:
    reference: Any = rr.get_backend(np)  # type: ignore[arg-type]
    lstm, linear = rr.LSTM(I, H), rr.Linear(H, 2, backend=reference)
    way_out = r"; the model's backend= gives one to all layers made without, layer.to\(backend\) moves a layer"
    with pytest.raises(ValueError, match=r"backend, but layer 0 \(LSTM\) has .*, layer 2 \(Linear\) .*" + way_out):
        rr.Sequential(lstm, rr.Last(), linear)
    assert rr.Sequential(lstm, rr.Last(), linear, backend=reference).backend is reference
    for last in (rr.Last(backend="numpy"), rr.Last().to("numpy")):
        with pytest.raises(ValueError, match=r"backend, but layer 0 \(Last\) has .*, layer 1 \(Linear\) "):
            rr.Sequential(last, linear)
        asked = r"backend='numpy' was asked for, .*, but layer 1 \(Linear\) has .*: make it without"
        with pytest.raises(ValueError, match=asked):
            rr.Sequential(last, linear, backend="numpy")
    with pytest.raises(ValueError, match=r"layer 0 \(Untold\) has .*: move it by layer.to\('numpy'\)"):
        rr.Sequential(Untold(backend=reference), backend="numpy")
    with pytest.raises(ValueError, match=r"layer 1 \(Linear\) float64; layer.to\(dtype=\) converts a layer"):
        rr.Sequential(lstm, rr.Linear(H, 2, dtype="float64"))
    with pytest.raises(ValueError, match=r"layer 0 \(Dropout\) has float32, layer 1 \(Linear\) float64"):
        rr.Sequential(rr.Dropout(dtype="float32"), rr.Linear(H, 2, dtype="float64"))


# Bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("gpu",), ValueError, "there is no backend 'gpu'.*; the installed ones are "),
        ((3,), TypeError, "backend must be a name, a Backend, an array-API namespace or None, not int 3"),
        (("numpy", "float16"), ValueError, "dtype must be one of 'float32', 'float64', not 'float16'"),
        ((None, complex), ValueError, "dtype must be one of 'float32', 'float64', not <class 'complex'>"),
        ((None, "complex64"), ValueError, "dtype must be one of 'float32', 'float64', not 'complex64'"),
    ],
)
def test_nowhere_to_go(arguments: Any, error: type[Exception], message: str) -> None:
    model = rr.Sequential(rr.LSTM(I, H, seed=0), rr.Last(), rr.Dropout(seed=0))
    kept = model.state_dict()
    stream = rr.Streaming(model)
    for each in (model, *model.layers, stream):
        with pytest.raises(error, match=message):
            each.to(*arguments)
    assert_all_same(model.state_dict(), kept)
    if error is TypeError or arguments == ("gpu",):
        with pytest.raises(error, match=message):
            rr.Sequential(rr.LSTM(I, H), backend=arguments[0])


def test_a_backend_that_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(backend: Any = None, *rest: Any, **options: Any) -> Any:
        raise rr.BackendUnavailableError("no CUDA device answers")

    layer = rr.LSTM(I, H)
    for home in ("params_on_backend", "joining"):
        monkeypatch.setattr(f"recurray.layers.{home}.get_backend", refuse)
    with pytest.raises(rr.BackendUnavailableError, match="no CUDA device answers"):
        layer.to("cupy")
    with pytest.raises(rr.BackendUnavailableError, match="no CUDA device answers"):
        rr.Sequential(layer, backend="cupy")


def test_numbers_too_large_for_float32(backend: Backend) -> None:
    layer = rr.Linear(
        1, 3, backend=backend, dtype="float64", params={"weight": np.full((3, 1), -1e39), "bias": np.ones(3)}
    )
    with pytest.raises(ValueError, match=r"the param 'weight' has 1e\+39, which is too large for float32"):
        layer.to("numpy", "float32")
    layer.load_state_dict({"weight": [[3.4028234663852886e38], [-np.inf], [np.nan]], "bias": np.zeros(3)})
    single = layer.to(dtype="float32")
    np.testing.assert_array_equal(
        single.state_dict()["weight"].ravel(), np.array([3.4028235e38, -np.inf, np.nan], "float32")
    )
    state = rr.State(backend.asarray(np.full((1, 1, 1), 1e39), "float64"))
    with pytest.raises(ValueError, match=r"state.h has 1e\+39, which is too large for float32"):
        rr.GRU(1, 1).as_state(state)
    params = {"w": backend.asarray([1.0, 1.0], "float64")}
    optimizer = rr.optim.Adam(params)
    optimizer.step({"w": backend.asarray([1e25, 1.0], "float64")})
    with pytest.raises(ValueError, match=r"'second_moment.w' has 1.*e\+47, which is too large for float32"):
        optimizer.to({"w": backend.asarray([1.0, 1.0], "float32")})


def test_states_of_the_wrong_kind(backend: Backend) -> None:
    layer = rr.LSTM(I, H, backend=backend)
    for state, message in (
        (rr.State(np.ones((1, 2, 3), int), None), "state.h must be floating-point numbers, not int64"),
        ((None, rr.State(np.ones(3), "c")), r"state\[1\].c must be an array, not str"),
        ([1.0], "state must be an array, not list"),
        (rr.State(np.ones(2, complex)), "state.h must be floating-point numbers, not complex128"),
    ):
        with pytest.raises(TypeError, match=message):
            layer.as_state(state)
    layer.params["bias_ih_l0"] = np.ones(4 * H, int)
    with pytest.raises(TypeError, match=r"the param 'bias_ih_l0' must be (float32, not int64|an array of the backend)"):
        layer.to(dtype="float64")


def test_optimizers_of_other_params(backend: Backend) -> None:
    optimizer = rr.optim.SGD(rr.Linear(I, H, backend=backend).params, lr=0.1, momentum=0.9)
    with pytest.raises(ValueError, match=r"names of the arrays don't fit: missing 'velocity.w'; unknown 'velocity.b"):
        optimizer.to({"w": np.ones(3)})
    with pytest.raises(ValueError, match=r"'velocity.weight' must have the shape \(4, 3\), not \(4, 2\)"):
        optimizer.to(rr.Linear(3, H).params)
    with pytest.raises(TypeError, match="params must be a mutable mapping"):
        optimizer.to([np.ones(3)])  # type: ignore[arg-type]
    assert rr.optim.SGD({}, lr=0.1).to({}).step_count == 0


def test_a_cell_is_tried_where_it_goes() -> None:
    """One that can't be recorded may know one library alone."""
    strict = need("array_api_strict")

    class OnNumpyAlone(LSTMCell):
        def step(self, x: Any, h: Any, before: Any, params: Any) -> Any:
            x.i.sum()  # arrays of the standard have no such method
            return super().step(x, h, before, params)

    layer = rr.Recurrent(OnNumpyAlone(), I, H, backend="numpy", seed=0)
    with pytest.raises(AttributeError, match="sum"):
        layer.to(strict)


def test_a_users_layer_with_arrays_of_its_own(backend: Backend) -> None:
    layer = Window(dtype="float64").to(backend, "float32")
    assert backend.owns(layer.window)
    assert_on(rr.Sequential(layer), backend)
