"""Equal calls give equal bits: every public call with the same values, whatever was called before.

Whatever is in the memory that is used again, wherever the arrays lie, and whether something was written for the call
the time before.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import (
    Case,
    assert_all_same,
    forward,
    give,
    gradients,
    here,
    host,
    layer_for,
    leaves,
    named,
    obtain,
    problem,
)
from harness.cases import CASES, OPTIONS
from harness.losses import LOSSES
from harness.optimizers import RICHEST
from harness.problems import Given
from recurray.backend import Backend

Call = Callable[[], dict[str, Any]]

LARGE = [
    Case("large lstm", partial(rr.LSTM, 7, 33, num_layers=2, bidirectional=True, seed=0), batch=5, steps=140),
    Case("long lstm", partial(rr.LSTM, 7, 33, seed=0), batch=1, steps=140),
    Case("long gru", partial(rr.GRU, 7, 33, seed=0), batch=1, steps=140),
    Case("large diagonal", partial(rr.DiagonalLSTM, 7, 33, seed=0), batch=17, steps=70),
    Case("large linear", partial(rr.Linear, 31, 17, seed=0), batch=20, steps=70),
    Case("large layer norm", partial(rr.LayerNorm, 31), batch=20, steps=70),
    Case("large embedding", partial(rr.Embedding, 5, 7, seed=0), batch=20, steps=70),
]


def elsewhere(array: Any) -> Any:
    """A NumPy array's values where memory isn't aligned to more than a number; another library's array as it is."""
    if type(array) is not np.ndarray:
        return array
    moved = np.empty(array.size + 1, array.dtype)[1:].reshape(array.shape)
    moved[...] = array
    return moved


def row(state: Any, count: int) -> Any:
    """The state of the first rows alone."""
    if state is None:
        return None
    if not isinstance(state, tuple):
        return state[:, :count, ...]
    parts = [row(part, count) for part in state]
    return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)


def calls(layer: rr.Layer, given: Given, time_first: bool) -> dict[str, Call]:
    """Every form in which a layer can be called, by name."""

    def called(state: Any, **which: Any) -> dict[str, Any]:
        y, end = layer(given.x, state, **which)
        return {"y": y} | named("end", end)

    def without_dropout() -> dict[str, Any]:
        y, end, cache = forward(layer, given, training=False)
        return {"y": y} | named("end", end) | gradients(layer, cache, given)

    def in_training() -> dict[str, Any]:
        y, end, cache = forward(layer, given)
        return {"y": y} | named("end", end) | gradients(layer, cache, given)

    def twice_backward() -> dict[str, Any]:
        _, _, cache = forward(layer, given)
        gradients(layer, cache, given)
        return gradients(layer, cache, given)

    def traced() -> dict[str, Any]:
        trace = layer.trace(given.x, given.state, **given.which)  # type: ignore[attr-defined]
        return {name: value for name, value in vars(trace).items() if hasattr(value, "shape")} or leaves(tuple(trace))

    def streamed(size: int) -> dict[str, Any]:
        stream, found = rr.Streaming(layer), {}
        steps = given.x.shape[0 if time_first else 1]
        for first in range(0, min(steps, 6), size):
            part = given.x[first : first + size, ...] if time_first else given.x[:, first : first + size, ...]
            found[f"y{first}"] = stream(part)
        return found | named("state", stream.state)

    def a_step() -> dict[str, Any]:
        y, end = layer(given.x[:1, :1, ...], row(given.state, 1))
        return {"y": y} | named("end", end)

    found: dict[str, Call] = {
        "called": lambda: called(given.state, **given.which),
        "called with a state alone": lambda: called(given.state),
        "called without a state": lambda: called(None),
        "inference": without_dropout,
        "training": in_training,
        "backward": twice_backward,
    }
    if hasattr(layer, "trace"):
        found["trace"] = traced
    found["a step of one row"] = a_step
    if layer.streamable:
        found |= {"streamed in chunks": lambda: streamed(4), "streamed": lambda: streamed(1)}
    return found


def something_else(layer: rr.Layer, case: Case) -> None:
    """What may come between two calls."""
    for seed in (1, 2):
        other = give(layer, problem(case, seed))
        _, _, cache = forward(layer, other)
        gradients(layer, cache, other)
        layer(other.x)
    if hasattr(layer.backend, "release_memory"):
        layer.backend.release_memory()


QUICK = [(platform, case) for platform in here("numpy", "native") for case in [*CASES, *OPTIONS, *LARGE]]
OTHERS = [(platform, case) for platform in here("reference", "torch", "cupy") for case in CASES]


@pytest.mark.parametrize(("platform", "case"), [*QUICK, *OTHERS], ids=str)
def test_layers(platform: str, case: Case) -> None:
    backend, numbers = obtain(platform), problem(case)
    layer = layer_for(case, numbers, backend, "float32")
    given, time_first = give(layer, numbers), bool(case.batch_axis)
    first = {name: host(backend, call()) for name, call in calls(layer, given, time_first).items()}
    something_else(layer, case)
    for name, call in calls(layer, given, time_first).items():
        assert_all_same(host(backend, call()), first[name])
    moved, twin = give(layer, numbers, form=elsewhere), copy.deepcopy(layer)
    for name, call in calls(twin, moved, time_first).items():
        assert_all_same(host(backend, call()), first[name])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("case", LOSSES.values(), ids=LOSSES)
def test_losses(case: Any, reduction: str, backend: Backend) -> None:
    rng = np.random.default_rng(0)
    prediction, target = case.draw(rng, (30, 41))
    mask = backend.asarray(rng.random((30, 41)) < 0.7)
    target = target.astype("float32") if target.dtype.kind == "f" else target

    def called(form: Callable[[Any], Any] = lambda a: a) -> list[np.ndarray]:
        given = form(backend.asarray(prediction.astype("float32"))), form(backend.asarray(target))
        found = case(*given, reduction), case(*given, reduction, mask=form(mask))
        return [backend.to_numpy(array) for pair in found for array in pair]

    first = called()
    case(backend.asarray(2 * prediction.clip(0, 0.5)), backend.asarray(target.copy()), "sum")
    for form in (lambda a: a, elsewhere):
        assert [array.tobytes() for array in called(form)] == [array.tobytes() for array in first]


@pytest.mark.parametrize(("name", "options"), RICHEST.items(), ids=RICHEST)
def test_optimizers_and_clipping(name: str, options: dict[str, Any], backend: Backend) -> None:
    def trained(form: Callable[[Any], Any] = lambda a: a) -> dict[str, Any]:
        rng = np.random.default_rng(0)
        shapes = {"weight": (33, 17), "bias": (33,), "scalar": ()}

        def draw() -> dict[str, Any]:
            return {
                key: form(backend.asarray(np.asarray(rng.standard_normal(shape), "float32")))
                for key, shape in shapes.items()
            }

        params = draw()
        optimizer = getattr(rr.optim, name)(params, **options)
        for step in range(4):
            optimizer.lr = rr.schedules.Cosine(0.1, 5)(step)
            grads, norm = rr.optim.clip_grad_norm(draw(), 1.5)
            optimizer.step(grads)
        state = {key: value for key, value in optimizer.state_dict().items() if key != "settings"}
        return host(backend, params | {"norm": norm}) | state

    first = trained()
    assert_all_same(trained(), first)
    assert_all_same(trained(elsewhere), first)


@pytest.mark.parametrize("kind", [rr.LSTM, rr.GRU, rr.RNN, rr.DiagonalLSTM], ids=lambda kind: kind.__name__)
def test_numpys_single_step_is_that_of_the_loop(kind: Any) -> None:
    """To the bit: what is written for it is the loop's own lines."""
    backend, rng = rr.get_backend("numpy", engine="numpy"), np.random.default_rng(0)
    for features, size in ((3, 5), (64, 128), (17, 33), (1, 1)):
        for dtype in ("float32", "float64"):
            layer = kind(features, size, backend=backend, dtype=dtype, seed=0)
            state = layer(np.ones((1, 1, features), dtype))[1]
            for _ in range(5):
                x = rng.standard_normal((1, 1, features)).astype(dtype)
                y, end, _ = layer.forward(x, state)
                short, state = layer(x, state)
                assert_all_same({"y": short, **leaves(state)}, {"y": y, **leaves(end)})
