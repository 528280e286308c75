"""Calls that come again are noted: they give the bits of the first, whatever the arrays are by then."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import Case, give, host, layer_for, obtain, problem, results
from recurray_cupy.library import DoesNotFitError
from recurray_cupy.taped import Tapes

pytestmark = pytest.mark.gpu

STRATEGIES = [
    (strategy, rounded_to) for strategy in ("persistent", "step", "fused") for rounded_to in (None, "bfloat16")
]


@pytest.fixture(params=STRATEGIES, ids=lambda each: " ".join(map(str, each)))
def backend(request: pytest.FixtureRequest) -> Any:
    obtain("cupy")
    strategy, rounded_to = request.param
    found = rr.get_backend("cupy", strategy=strategy, compute_dtype=rounded_to)
    found.release_memory()
    return found


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Which scans were run by tape."""
    found: list[str] = []
    for name in ("forward", "backward"):
        own = getattr(Tapes, name)

        def run(*arguments: Any, own: Any = own, name: str = name, **options: Any) -> Any:
            result = own(*arguments, **options)
            if result is not None:
                found.append(name)
            return result

        monkeypatch.setattr(Tapes, name, run)
    return found


def everything(layer: rr.Layer, given: Any) -> dict[str, np.ndarray]:
    """What the layer gives in training, in inference, and with its own start, on the host."""
    found = results(layer, given)
    y, end = layer(given.x, given.state, **given.which)
    found |= {"inference": y, "after": end.h if isinstance(end, rr.State) else y}
    found["from zeros"] = layer(given.x, **given.which)[0]
    return host(layer.backend, found)


def equal(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def without_tapes(layer: rr.Layer, given: Any) -> dict[str, np.ndarray]:
    library = layer.backend.library  # type: ignore[attr-defined]
    library.tapes = False
    try:
        return everything(layer, given)
    finally:
        del library.tapes


# Of 11 steps, of which 8 are a graph where each is a launch.
FORMS: list[Case] = [
    Case("lstm", lambda **options: rr.LSTM(5, 7, seed=0, **options)),
    Case("two ways, two layers", lambda **options: rr.LSTM(5, 7, 2, bidirectional=True, seed=0, **options)),
    Case("projected", lambda **options: rr.LSTM(5, 7, proj_size=3, seed=0, **options)),
    Case("without bias, from the end", lambda **options: rr.LSTM(5, 7, bias=False, reverse=True, seed=0, **options)),
    Case("a start that is learned", lambda **options: rr.GRU(5, 7, learned_state=True, seed=0, **options)),
    Case("inner gates", lambda **options: rr.GRU(5, 7, reset_after=False, seed=0, **options)),
    Case("zoneout", lambda **options: rr.LSTM(5, 7, zoneout_c=0.3, seed=0, **options)),
]


@pytest.mark.parametrize("case", FORMS, ids=str)
def test_calls_that_come_again_equal_the_first(backend: Any, case: Case, played: list[str]) -> None:
    given = problem(replace(case, steps=11, batch=3))
    layer = layer_for(case, given, backend, "float32")
    arrays = give(layer, given)
    with warnings.catch_warnings(action="ignore"):  # of what a slower strategy does
        wanted = without_tapes(layer, arrays)
        assert not played
        for _ in range(3):
            equal(everything(layer, arrays), wanted)
    assert "forward" in played


@pytest.fixture
def given(backend: Any) -> Any:
    return problem(replace(FORMS[1], steps=11, batch=3))


def made(backend: Any, given: Any) -> tuple[rr.Layer, Any]:
    """A layer whose calls have a tape, and what it is called with."""
    layer = layer_for(FORMS[1], given, backend, "float32")
    arrays = give(layer, given)
    for _ in range(2):
        everything(layer, arrays)
    return layer, arrays


def test_params_may_be_written_to_and_replaced(backend: Any, given: Any) -> None:
    layer, arrays = made(backend, given)
    for value in layer.params.values():
        value *= 0.5
    equal(everything(layer, arrays), without_tapes(layer, arrays))
    layer.params = {name: value + 0.25 for name, value in layer.params.items()}
    equal(everything(layer, arrays), without_tapes(layer, arrays))
    name = "weight_hh_l1"
    layer.params[name] = backend._cupy.asfortranarray(layer.params[name])
    equal(everything(layer, arrays), without_tapes(layer, arrays))


def test_arrays_may_be_of_any_form(backend: Any, given: Any) -> None:
    layer, _ = made(backend, given)
    cupy = backend._cupy
    for form in (cupy.asfortranarray, lambda a: cupy.repeat(a, 2, axis=-1)[..., ::2], lambda a: -a):
        arrays = give(layer, given, form=form)
        equal(everything(layer, arrays), without_tapes(layer, arrays))
    with pytest.raises(ValueError, match="dy must have the shape"):
        layer.backward(layer.forward(arrays.x)[2], arrays.dy[:, :4])


def test_what_a_caller_does_to_results_reaches_nothing(backend: Any, given: Any) -> None:
    layer, arrays = made(backend, given)
    wanted = without_tapes(layer, arrays)
    y, end, cache = layer.forward(arrays.x, arrays.state)
    for value in (y, *end):
        value[...] = float("nan")
    for _ in range(2):
        dx, dstart, grads = layer.backward(cache, arrays.dy, arrays.dstate)
        found = host(backend, {"dx": dx, "dstart.h": dstart.h, **{f"dparam.{name}": d for name, d in grads.items()}})
        equal(found, {name: wanted[name] for name in found})
        for value in (dx, *dstart, *grads.values()):
            value[...] = float("nan")
    equal(everything(layer, arrays), wanted)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))], ids=["deep", "pickled"])
def test_copies_of_caches(backend: Any, given: Any, copied: Callable[[Any], Any]) -> None:
    layer, arrays = made(backend, given)
    cache = layer.forward(arrays.x, arrays.state)[2]
    wanted = layer.backward(cache, arrays.dy, arrays.dstate)
    found = layer.backward(copied(cache), arrays.dy, arrays.dstate)
    equal(host(backend, found[2] | {"x": found[0]}), host(backend, wanted[2] | {"x": wanted[0]}))


def test_threads_and_streams_have_their_own(backend: Any, given: Any) -> None:
    layer, arrays = made(backend, given)
    wanted, failed = without_tapes(layer, arrays), list[BaseException]()

    def work(own: bool) -> None:
        try:
            stream = backend._cupy.cuda.Stream(non_blocking=True) if own else backend._cupy.cuda.Stream.null
            backend.synchronize()
            with stream:
                for _ in range(3):
                    equal(everything(layer, arrays), wanted)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(own,)) for own in (True, True, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed


def test_memory_is_given_back(backend: Any, given: Any) -> None:
    layer, arrays = made(backend, given)
    cupy, wanted = backend._cupy, without_tapes(layer, arrays)
    pool = cupy.get_default_memory_pool()
    gc.collect()
    before = pool.used_bytes()
    everything(layer, arrays)
    gc.collect()
    assert pool.used_bytes() == before
    backend.release_memory()
    equal(everything(layer, arrays), wanted)


def test_a_frozen_layer(backend: Any, given: Any, played: list[str]) -> None:
    layer, arrays = made(backend, given)
    frozen, wanted = layer.frozen(), backend.to_numpy(layer(arrays.x, arrays.state)[0])
    for _ in range(4):
        np.testing.assert_array_equal(backend.to_numpy(frozen(arrays.x, arrays.state)[0]), wanted)
    backend.release_memory()  # and now the frozen one comes first
    for each in (frozen, frozen, frozen, layer, layer, frozen):
        np.testing.assert_array_equal(backend.to_numpy(each(arrays.x, arrays.state)[0]), wanted)
    layer.params["weight_hh_l0"] = layer.params["weight_hh_l0"] * 0.5
    changed, was = layer.frozen(), without_tapes(layer, arrays)["inference"]
    for _ in range(3):
        np.testing.assert_array_equal(backend.to_numpy(changed(arrays.x, arrays.state)[0]), was)
    np.testing.assert_array_equal(backend.to_numpy(frozen(arrays.x, arrays.state)[0]), wanted)


def test_a_launch_that_is_refused_is_left_to_a_slower_strategy(
    backend: Any, given: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, arrays = made(backend, given)
    wanted = without_tapes(layer, arrays)

    def refuse(*arguments: Any) -> Any:
        raise DoesNotFitError("no room")

    monkeypatch.setattr("recurray_cupy.tape.Tape.__call__", refuse)
    equal(everything(layer, arrays), wanted)
