"""``recompute``: backward from states that are kept only now and then changes no bit, and takes less memory."""

from __future__ import annotations

import pickle
import tracemalloc
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import assert_close, here, host, leaves, obtain
from harness.cells import CELLS
from recurray.backend import Backend
from recurray.cells import Cell

STEPS = 150  # more than two of the parts that are computed together


def results(layer: rr.Recurrent, x: Any, lengths: Any) -> dict[str, Any]:
    """Outputs, final states and all gradients of a pass with random gradients, as NumPy arrays."""
    backend, rng = layer.backend, np.random.default_rng(1)

    def draw(*shape: int) -> Any:
        return backend.asarray(rng.standard_normal(shape), layer.dtype)

    places = layer.num_layers * layer.directions
    start = layer.state_type(*(draw(places, len(x), 3) for _ in layer.state_type._fields))
    if "c" not in layer.cell.states:
        start = rr.State(start.h)
    y, end, cache = layer.forward(backend.asarray(x, layer.dtype), start, lengths, rng=np.random.default_rng(2))
    dend = type(end)(*(None if value is None else draw(*value.shape) for value in end))
    dx, dstart, grads = layer.backward(cache, draw(*y.shape), dend)
    return host(backend, {"y": y, "dx": dx, **leaves(end), **{f"d{k}": a for k, a in leaves(dstart).items()}, **grads})


OPTIONS: dict[str, Any] = {
    "num_layers": 2,
    "bidirectional": True,
    "dropout": 0.3,
    "weight_dropout": 0.2,
    "learned_state": True,
}


@pytest.mark.parametrize("cell", CELLS, ids=repr)
def test_computing_again_changes_no_bit(cell: Cell) -> None:
    rng = np.random.default_rng(0)
    cases = [
        ("numpy", 1, None, "float32", OPTIONS),
        ("numpy", 3, [STEPS, 0, 70], "float64", OPTIONS),
        ("reference", 2, [140, 99], "float32", OPTIONS | {"num_layers": 1, "dropout": 0.0}),
    ]
    for name, batch, lengths, dtype, others in cases:
        if name not in here(name):
            continue
        x, options = (
            rng.standard_normal((batch, STEPS, 2)),
            {"backend": obtain(name), "dtype": dtype, "seed": 0} | others,
        )
        plain, again = (
            results(rr.Recurrent(cell, 2, 3, recompute=every, **options), x, lengths) for every in (None, "sqrt")
        )
        for name, value in plain.items():
            np.testing.assert_array_equal(again[name], value, err_msg=name)


@pytest.mark.parametrize("platform", here("native"))
def test_nor_does_it_in_the_compiled_engine(platform: str) -> None:
    x = np.random.default_rng(0).standard_normal((3, 1100, 2))
    plain, again = (
        results(rr.LSTM(2, 3, recompute=every, backend=obtain(platform), seed=0, **OPTIONS), x, [1100, 0, 600])
        for every in (None, "sqrt")
    )
    for name, value in plain.items():
        np.testing.assert_array_equal(again[name], value, err_msg=name)


@pytest.mark.parametrize("kind", [rr.LSTM, rr.GRU, rr.RNN, rr.DiagonalLSTM])
def test_every_layer_has_it_on_every_backend(kind: Any, backend: Backend) -> None:
    x = np.random.default_rng(0).standard_normal((2, STEPS, 2))
    plain, again = (
        results(kind(2, 3, recompute=every, backend=backend, dtype="float64", seed=0), x, [STEPS, 90])
        for every in (None, 1)
    )
    for name, value in plain.items():
        assert_close(backend, backend.asarray(again[name]), value, tolerance=1e-12)


@pytest.mark.parametrize("every", [None, 100])
@pytest.mark.parametrize("steps", [40, 600])  # in one chunk and in several
@pytest.mark.parametrize("platform", here("numpy", "native", "reference", "cupy"))
def test_a_cache_can_be_pickled(platform: str, steps: int, every: int | None) -> None:
    """Whichever scan has made it, it goes backward by itself, and its copy to the same bits."""
    backend = obtain(platform)
    layer = rr.LSTM(2, 3, num_layers=2, bidirectional=True, recompute=every, backend=backend, seed=0)
    x = backend.asarray(np.random.default_rng(0).standard_normal((3, steps, 2)), "float32")
    y, _, cache = layer.forward(x, lengths=[steps, 0, 17])
    dx, _, grads = layer.backward(cache, y)
    again, _, grads_again = layer.backward(pickle.loads(pickle.dumps(cache)), y)
    for name, value in {"dx": dx, **grads}.items():
        np.testing.assert_array_equal(
            backend.to_numpy({"dx": again, **grads_again}[name]), backend.to_numpy(value), err_msg=name
        )


def test_projection_and_recurrent_dropout() -> None:
    x = np.random.default_rng(0).standard_normal((3, STEPS, 2))
    options: dict[str, Any] = {"recurrent_dropout": 0.4, "zoneout_c": 0.2, "bidirectional": True, "seed": 0}
    plain, again = (results(rr.LSTM(2, 3, recompute=every, **options), x, None) for every in (None, 100))
    for name, value in plain.items():
        np.testing.assert_array_equal(again[name], value, err_msg=name)


def peak(steps: int, recompute: Any) -> int:
    """The most bytes that training takes beside its input and results."""
    layer = rr.LSTM(4, 32, recompute=recompute, backend=rr.get_backend("numpy", engine="numpy"), seed=0)
    x, dy = np.zeros((8, steps, 4), "float32"), np.zeros((8, steps, 32), "float32")
    layer.backend.release_memory()
    tracemalloc.start()
    y, _, cache = layer.forward(x)
    dx, _, _ = layer.backward(cache, dy)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most - y.nbytes - dx.nbytes


def test_memory_grows_with_the_root_of_the_length() -> None:
    """Four times the steps: four times the memory plainly, twice or little more with "sqrt"."""
    assert peak(4096, None) > 3 * peak(1024, None)
    assert peak(16384, "sqrt") < 2.2 * peak(4096, "sqrt")
    assert peak(16384, "sqrt") < peak(1024, None)


@pytest.mark.parametrize("given", ["root", 0, -1, 2.5, True])
def test_bad_input(given: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="recompute must be None, 'sqrt' or a positive integer"):
        rr.LSTM(2, 3, recompute=given)


def test_it_is_shown() -> None:
    assert "recompute='sqrt'" in repr(rr.GRU(2, 3, recompute="sqrt"))
