"""The compiled engine gives the reference path's numbers: for any cell, batch and lengths, on each instruction set."""

from __future__ import annotations

import numpy as np
import pytest

import recurray as rr
from harness import obtain, why_absent
from harness.cells import CELLS
from harness.compare_scans import Centred, Normalised, Squared, both_ways, run, scan_arguments
from harness.random_cell import RandomCell
from recurray import scan
from recurray.cells import DiagonalLSTMCell, GRUCell, LSTMCell

if why_absent("native") is None:
    from recurray_native import library

    LEVELS = library.levels()
else:
    LEVELS = ("any",)
# rows, steps, units, features: whole vectors and not, one tile and several, one thread's work and more
SIZES = [(3, 6, 4, 3), (1, 7, 5, 2), (4, 1, 17, 3), (0, 3, 4, 3), (3, 0, 4, 3), (13, 5, 70, 20)]
SIZES += [(1, 1, 1, 1), (7, 5, 1, 1)]


@pytest.fixture(params=LEVELS)
def engine(request):
    """The engine, on each instruction set that runs here."""
    return type(obtain("native"))(level=request.param)


def check(engine, cell, sizes, rng, *, reverse=False, masked=False, **options):
    batch, steps, size, features = sizes
    arguments = scan_arguments(cell, rng, batch=batch, steps=steps, size=size, features=features, **options)
    weights = arguments[0]
    for field in (
        "input",
        "recurrent",
        "projection",
    ):  # as they are drawn for a layer, so that nothing grows without end
        if getattr(weights, field) is not None:
            getattr(weights, field)[...] *= (size + features) ** -0.5
    both_ways(engine.scan_forward, cell, *arguments, rng=rng, reverse=reverse, masked=masked)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cell", [*CELLS, Squared(), Normalised(), Centred()], ids=repr)
def test_cells_equal_the_reference(engine, cell, dtype):
    rng = np.random.default_rng(1)
    for k, sizes in enumerate(SIZES):
        check(engine, cell, sizes, rng, ragged=k % 2 == 0, reverse=k % 3 == 0, masked=k % 4 == 0, dtype=dtype)


# several chunks of time; more rows than a tile has; products deeper than a panel; one row and many units
LARGE = [(64, 20, 9, 5), (110, 3, 6, 4), (2, 3, 140, 9), (7, 2, 5, 600), (1, 9, 140, 70), (30, 40, 18, 3)]


@pytest.mark.parametrize("sizes", LARGE)
@pytest.mark.parametrize(
    "cell", [LSTMCell(), LSTMCell(layer_norm=True), GRUCell(reset_after=False), DiagonalLSTMCell(True)], ids=repr
)
def test_large_problems_equal_the_reference(engine, cell, sizes):
    rng = np.random.default_rng(2)
    for ragged in (False, True):
        check(engine, cell, sizes, rng, ragged=ragged, reverse=ragged, masked=ragged)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("sizes", [(1, 6, 5, 3), (3, 6, 5, 3), (40, 15, 70, 3)])
def test_projection_equals_the_reference(engine, sizes, bias):
    rng = np.random.default_rng(8)
    for projection in (1, 2, 4):
        check(engine, LSTMCell(), sizes, rng, projection=projection, bias=bias, masked=bias, reverse=bias)


@pytest.mark.parametrize("seed", range(30))
def test_random_cells_equal_the_reference(engine, seed):
    rng = np.random.default_rng(seed)
    sizes = SIZES[seed % len(SIZES)]
    check(engine, RandomCell(seed), sizes, rng, ragged=seed % 2 == 0, reverse=seed % 4 > 1, masked=seed % 5 > 2)


@pytest.mark.parametrize("cell", [*CELLS, Squared(), Normalised()], ids=repr)
def test_a_bias_of_each_row(engine, cell):
    """Few rows, whose products with the input are made ahead for many steps; more; threads that share rows or units."""
    rng = np.random.default_rng(3)
    for k, sizes in enumerate([*SIZES, (3, 40, 5, 3)]):
        check(engine, cell, sizes, rng, bias="by row", ragged=k % 2 == 0, reverse=k % 3 == 0, masked=k % 4 == 0)


@pytest.mark.parametrize("sizes", LARGE)
@pytest.mark.parametrize("cell", [LSTMCell(), GRUCell(reset_after=False), DiagonalLSTMCell(True)], ids=repr)
def test_a_bias_of_each_row_in_large_problems(engine, cell, sizes):
    rng = np.random.default_rng(4)
    for ragged in (False, True):
        check(engine, cell, sizes, rng, bias="by row", ragged=ragged, reverse=not ragged, masked=ragged)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e-310], ids=str)
@pytest.mark.parametrize("cell", CELLS, ids=repr)
def test_numbers_that_are_not_finite_spread_as_in_the_reference(engine, cell, value):
    """One such number in the input, one NaN in the start state of another row: everything else is as without them."""
    rng = np.random.default_rng(9)
    weights, x, start, _ = scan_arguments(cell, rng, batch=14, steps=6, size=19, features=5, ragged=False)
    x[2, 3, 4] = value
    start[-1][8, 7] = np.nan
    draws = {name: (rng.random((6, 14, 19)) < p).astype(x.dtype) for name, p in cell.draws.items()}
    options = {"draws": draws, "output_mask": rng.random(start[0].shape)}
    with np.errstate(all="ignore"):
        found = run(engine.scan_forward, cell, weights, x, start, **options)
        expected = run(scan.forward, cell, weights, x, start, **options)
    assert not np.isfinite(expected["y"][:, 8]).all()
    for name, right in expected.items():
        if right is not None:
            scale = np.abs(right[np.isfinite(right)]).max(initial=1)
            np.testing.assert_allclose(found[name], right, rtol=0, atol=1e-10 * scale, err_msg=name)


def test_large_arrays_of_a_cache_lie_in_memory_that_is_used_again(monkeypatch):
    backend = obtain("native")
    from recurray_native import scan as of_engine
    from recurray_numpy.buffers import BUFFERS

    monkeypatch.setattr(of_engine, "LARGE", 1 << 16)
    layer, rng = rr.LSTM(7, 40, seed=0, backend=backend), np.random.default_rng(0)
    x, other, dy = (rng.standard_normal((20, 30, size), dtype=np.float32) for size in (7, 7, 40))

    def gradients(cache):
        dx, _, grads = layer.backward(cache, dy)
        return [dx, *grads.values()]

    backend.release_memory()
    expected = gradients(layer.forward(x)[2])
    assert BUFFERS.kept > 0  # as nobody has that cache any more
    cache = layer.forward(x)[2]
    assert BUFFERS.kept == 0
    layer.forward(other)  # with a block of its own, as that one is in use
    for found, value in zip(gradients(cache), expected, strict=True):
        np.testing.assert_array_equal(found, value)
    del cache
    backend.release_memory()
    assert BUFFERS.kept == 0
