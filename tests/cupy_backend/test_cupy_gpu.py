"""The CuPy backend on a CUDA device gives the reference path's numbers."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import compare_scans, obtain
from harness.cells import CELLS
from harness.compare_scans import Normalised, TwoStates, both_ways, scan_arguments
from harness.random_cell import RandomCell
from recurray.cells import DiagonalLSTMCell, GRUCell, LSTMCell, Weights
from recurray_cupy.backend import KernelCache
from recurray_cupy.persistent.of_cell import why_not

pytestmark = pytest.mark.gpu

SEEDS = range(60)
SIZES = [(3, 6), (2, 5), (1, 7), (4, 1), (0, 3), (3, 0)]


def on_gpu(backend, *arguments, **options):
    """`both_ways` on a GPU."""

    def there(a):
        return None if a is None else backend.asarray(a)

    def scan_forward(cell, weights, x, start, *, draws, output_mask=None, **options):
        matrices = {name: there(a) for name, a in vars(weights).items() if name != "pointwise"}
        weights = Weights(**matrices, pointwise={name: there(a) for name, a in weights.pointwise.items()})
        draws = {name: a if isinstance(a, float) else there(a) for name, a in draws.items()}
        options |= {"draws": draws, "output_mask": there(output_mask)}
        y, end, cache = backend.scan_forward(cell, weights, there(x), tuple(map(there, start)), **options)
        return backend.to_numpy(y), tuple(map(backend.to_numpy, end)), HostCache(cache) if cache else None

    @dataclass
    class HostCache:
        cache: Any

        def backward(self, dy, dend):
            assert isinstance(self.cache.cache, KernelCache)
            dx, dstart, grads = self.cache.backward(there(dy), tuple(map(there, dend)))
            matrices = {name: a for name, a in vars(grads).items() if name != "pointwise"}
            matrices = {name: None if a is None else backend.to_numpy(a) for name, a in matrices.items()}
            pointwise = {name: backend.to_numpy(a) for name, a in grads.pointwise.items()}
            return backend.to_numpy(dx), tuple(map(backend.to_numpy, dstart)), Weights(**matrices, pointwise=pointwise)

    both_ways(scan_forward, *arguments, **options)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", [*CELLS, Normalised()], ids=repr)
def test_built_in_cells_on_a_gpu(cell, reverse, dtype):
    backend, rng = obtain("cupy"), np.random.default_rng(7)
    for ragged in (False, True):
        for batch, steps in SIZES:
            arguments = scan_arguments(cell, rng, batch=batch, steps=steps, ragged=ragged, dtype=dtype)
            on_gpu(backend, cell, *arguments, reverse=reverse, rng=rng)
    if reverse:
        return
    # Several blocks of an uneven number of threads, and several units a thread.
    arguments = scan_arguments(cell, rng, batch=3, steps=4, size=300, features=20, dtype=dtype)
    arguments = replace(arguments[0], recurrent=_scaled(arguments[0].recurrent)), *arguments[1:]
    on_gpu(backend, cell, *arguments, rng=rng)


def _scaled(weight):
    return None if weight is None else weight * 0.05


# What a layout does besides: rows and units that don't divide evenly, chunks of the depth, one block and many.
DENSE = [cell for cell in CELLS if why_not(cell, projected=False) is None]
# And with 2,048 units, weights that don't fit.
STRATEGY_SIZES = [
    (1, 5, 7),
    (3, 6, 64),
    (2, 5, 100),
    (64, 9, 128),
    (33, 7, 301),
    (5, 6, 512),
    (256, 5, 256),
    (3, 5, 2048),
]


@pytest.mark.parametrize("strategy", ["persistent", "step"])
@pytest.mark.parametrize(
    ("cell", "dtype", "sizes"),
    [
        (LSTMCell(), "float32", STRATEGY_SIZES),
        (LSTMCell(), "float64", STRATEGY_SIZES[2:5]),
        (GRUCell(), "float32", STRATEGY_SIZES[2:5]),
        *((cell, "float32", STRATEGY_SIZES[2:3]) for cell in DENSE),  # each layout takes a compilation
    ],
    ids=repr,
)
def test_strategies_on_a_gpu(cell, dtype, sizes, strategy):
    obtain("cupy")
    backend, rng = rr.get_backend("cupy", strategy=strategy), np.random.default_rng(10)
    with warnings.catch_warnings(action="error"):  # nothing is left to a slower strategy
        for k, (batch, steps, size) in enumerate(sizes):
            arguments = scan_arguments(cell, rng, batch=batch, steps=steps, size=size, ragged=k % 2 == 0, dtype=dtype)
            scaled = replace(arguments[0], recurrent=arguments[0].recurrent / size**0.5)
            on_gpu(backend, cell, scaled, *arguments[1:], reverse=k % 3 == 1, rng=rng, masked=k % 3 == 0)
    backend.synchronize()


@pytest.mark.parametrize("strategy", ["persistent", "fused"])
@pytest.mark.parametrize("small", ["float16", "bfloat16"])
def test_rounded_products_on_a_gpu(small, strategy, monkeypatch):
    obtain("cupy")
    backend, rng = rr.get_backend("cupy", strategy=strategy, compute_dtype=small), np.random.default_rng(12)
    monkeypatch.setitem(compare_scans.TOLERANCE, "float32", {"float16": 4e-3, "bfloat16": 3e-2}[small])
    with warnings.catch_warnings(action="error"):
        for batch, size in [(3, 5), (5, 70), (64, 256), (20, 512)]:
            for cell in (LSTMCell(), GRUCell()):
                arguments = scan_arguments(cell, rng, batch=batch, steps=6, size=size, dtype="float32")
                scaled = replace(arguments[0], recurrent=arguments[0].recurrent / size**0.5)
                on_gpu(backend, cell, scaled, *arguments[1:], rng=rng, masked=batch == 5)
    backend.synchronize()


@pytest.mark.parametrize("small", [None, "float16", "bfloat16"])
@pytest.mark.parametrize("strategy", ["persistent", "step", "fused"])
@pytest.mark.parametrize(
    "cell", [LSTMCell(), GRUCell(), DiagonalLSTMCell(True), GRUCell(reset_after=False), TwoStates()], ids=repr
)
def test_small_sizes_by_every_strategy(cell, strategy, small, monkeypatch):
    """Quick enough for a device that looks at every access to memory."""
    obtain("cupy")
    backend, rng = rr.get_backend("cupy", strategy=strategy, compute_dtype=small), np.random.default_rng(14)
    monkeypatch.setitem(compare_scans.TOLERANCE, "float32", {None: 1e-4, "float16": 4e-3, "bfloat16": 3e-2}[small])
    may_warn = strategy != "fused" and why_not(cell, projected=False) is not None
    with warnings.catch_warnings(action="ignore" if may_warn else "error"):
        for k, (batch, steps, size) in enumerate([(3, 5, 7), (5, 4, 70), (17, 3, 24)]):
            arguments = scan_arguments(cell, rng, batch=batch, steps=steps, size=size, ragged=k != 2, dtype="float32")
            recurrent = arguments[0].recurrent
            scaled = replace(arguments[0], recurrent=None if recurrent is None else recurrent / size**0.5)
            on_gpu(backend, cell, scaled, *arguments[1:], reverse=k == 1, rng=rng, masked=k == 0)
    backend.synchronize()


@pytest.mark.parametrize("small", [None, "float16", "bfloat16"])
@pytest.mark.parametrize("strategy", ["persistent", "step", "fused"])
def test_a_kernels_text_is_put_together_once(strategy, small, monkeypatch):
    """To do it at each launch takes the host several times as long as the launch."""
    obtain("cupy")
    layer = rr.LSTM(3, 8, backend=rr.get_backend("cupy", strategy=strategy, compute_dtype=small), seed=0)
    x = layer.backend.asarray(np.ones((2, 5, 3)), "float32")

    def call():
        y, _, cache = layer.forward(x)
        layer.backward(cache, y)

    call()
    monkeypatch.setattr("recurray_cupy.kernel.Kernel.source", lambda *_: pytest.fail("it is put together again"))
    monkeypatch.setattr("recurray_cupy.products.Kernel", lambda *_: pytest.fail("it is written again"))
    call()


@pytest.mark.parametrize("steps", [200, pytest.param(3000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("strategy", ["persistent", "step"])
def test_long_sequences_on_a_gpu_by_every_strategy(strategy, steps):
    """Many steps, in several launches: what one block writes another reads, again and again; then the graph."""
    obtain("cupy")
    rng, cell = np.random.default_rng(11), LSTMCell()
    arguments = scan_arguments(cell, rng, batch=16, steps=steps, size=256, features=8, ragged=False, dtype="float32")
    weights, x, start, _ = replace(arguments[0], recurrent=arguments[0].recurrent / 16), *arguments[1:]
    outputs = []
    for backend in (rr.get_backend("cupy", strategy="fused"), *[rr.get_backend("cupy", strategy=strategy)] * 3):
        there = {name: backend.asarray(a) for name, a in vars(weights).items() if isinstance(a, np.ndarray)}
        states = tuple(map(backend.asarray, start))
        outputs.append(backend.to_numpy(backend.scan_forward(cell, Weights(**there), backend.asarray(x), states)[0]))
    for found in outputs[1:]:
        np.testing.assert_allclose(found, outputs[0], rtol=0, atol=2e-4)
        np.testing.assert_array_equal(found, outputs[1])  # the same bits each time


@pytest.mark.parametrize("seed", SEEDS)
def test_random_cells_on_a_gpu(seed):
    backend, rng, cell = obtain("cupy"), np.random.default_rng(seed), RandomCell(seed)
    batch, steps = SIZES[seed % len(SIZES)]
    arguments = scan_arguments(cell, rng, batch=batch, steps=steps, ragged=seed % 2 == 0, bias=seed % 3 > 0)
    on_gpu(backend, cell, *arguments, reverse=seed % 4 > 1, rng=rng, masked=seed % 5 > 2)


@pytest.mark.parametrize("small", [None, "float16", "bfloat16"])
@pytest.mark.parametrize("ragged", [False, True])
def test_projection_on_a_gpu(ragged, small, monkeypatch):
    obtain("cupy")
    backend, rng = rr.get_backend("cupy", compute_dtype=small), np.random.default_rng(8)
    if small:
        monkeypatch.setitem(compare_scans.TOLERANCE, "float32", {"float16": 4e-3, "bfloat16": 3e-2}[small])
    for masked in (False, True):
        sizes = {"batch": 3, "steps": 6, "projection": 2, "dtype": "float32" if small else "float64"}
        weights, *rest = scan_arguments(LSTMCell(), rng, ragged=ragged, **sizes)
        scaled = replace(weights, recurrent=weights.recurrent / 3)
        on_gpu(backend, LSTMCell(), scaled, *rest, masked=masked, reverse=masked, rng=rng)


def test_sum_rows_on_a_gpu():
    backend, rng = obtain("cupy"), np.random.default_rng(9)
    index, values = rng.integers(50, size=1000), rng.standard_normal((1000, 7))
    found = backend.sum_rows(backend.asarray(values), backend.asarray(index), 60)
    expected = (np.arange(60)[:, None] == index) @ values
    np.testing.assert_allclose(backend.to_numpy(found), expected, rtol=1e-11, atol=1e-11)
