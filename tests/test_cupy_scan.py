"""The CuPy backend's scan gives the reference path's numbers.

Kernels run as C++ on the CPU, see `host_cpp`; all the rest is what runs on a GPU. The tests marked `gpu` are the same
comparisons on a GPU; they have not been run on one yet.
"""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import fields
from functools import partial

import numpy as np
import pytest
from harness import obtain
from host_cpp import HostLibrary, compiler
from random_cell import RandomCell
from recurray_cupy import CupyBackend
from recurray_cupy.backward import backward
from recurray_cupy.compiled import compiled
from recurray_cupy.forward import forward
from recurray_cupy.library import CompilationError
from recurray_cupy.sum_rows import sum_rows

import recurray as rr
from recurray import scan
from recurray.arrays import mean_over_units
from recurray.cells import Cell, CellGradients, DiagonalLSTMCell, LSTMCell, Weights

BUILT_IN = [LSTMCell(), DiagonalLSTMCell(True), DiagonalLSTMCell(False)]
SEEDS = range(40)
SIZES = [(3, 6), (2, 5), (1, 7), (4, 1), (0, 3), (3, 0)]
TOLERANCE = {"float64": 1e-11, "float32": 2e-4}

needs_compiler = pytest.mark.skipif(compiler() is None, reason="g++ is not installed")


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A stand-in for CuPy, with all that the tests run compiled at once."""
    library = HostLibrary(tmp_path_factory.mktemp("kernels"))
    texts = [compiled(cell) for cell in (*BUILT_IN, *map(RandomCell, SEEDS), Normalised())]
    kernels = [kernel for text in texts for keep in (True, False) for kernel in text.kernels(keep=keep, projected=False)]
    for keep in (True, False):
        kernels += compiled(LSTMCell()).kernels(keep=keep, projected=True)
        kernels += compiled(Squared()).kernels(keep=keep, projected=True)
    library.prepare(kernels, "float64")
    return library


def problem(cell, rng, *, batch, steps, features=3, size=4, projection=0, bias=True, ragged=True, dtype="float64"):
    """Random weights, input, start state and lengths."""
    output = projection or size

    def draw(*shape):
        return rng.standard_normal(shape).astype(dtype)

    gates_in, gates_across = len(cell.input_gates) * size, len(cell.recurrent_gates) * size
    weights = Weights(
        input=draw(gates_in, features),
        recurrent=draw(gates_across, output) if gates_across else None,
        input_bias=draw(gates_in) if bias else None,
        recurrent_bias=draw(gates_across) if bias and gates_across else None,
        projection=draw(projection, size) if projection else None,
        pointwise={name: draw(len(rows), size) for name, rows in cell.pointwise.items()},
    )
    start = tuple(draw(batch, output if name == "h" else size) for name in cell.states)
    lengths = rng.integers(0, steps + 1, batch).tolist() if ragged else None
    x = draw(steps, batch, features)
    if lengths is not None:
        x[np.arange(steps)[:, None] >= np.array(lengths, int)] = np.nan  # padding may hold anything
    return weights, x, start, lengths


def run(scan_forward, scan_backward, cell, weights, x, start, **options):
    """Forward, for training and for inference, and backward; everything that comes out, by name."""
    drawn, means = options.pop("draws"), dict(cell.draws)
    y, end, cache = scan_forward(cell, weights, x, start, keep=True, draws=drawn, **options)
    plain = scan_forward(cell, weights, x, start, keep=False, draws=drawn, **options)
    assert plain[2] is None
    mean = scan_forward(cell, weights, x, start, keep=False, draws=means, **options)[0]
    later = np.random.default_rng(5)
    like = weights.input if isinstance(weights.input, np.ndarray) else np.empty(0, str(x.dtype))
    make = partial(_like, weights.input, like.dtype)
    dy, dend = make(later.standard_normal(y.shape)), tuple(make(later.standard_normal(s.shape)) for s in end)
    kept = [np.array(a) for a in (dy, *dend)] if isinstance(dy, np.ndarray) else []
    dx, dstart, grads = scan_backward(cell, cache, dy, dend)
    again = scan_backward(cell, cache, dy, dend)  # a cache can be used twice
    for before, after in zip(kept, (dy, *dend), strict=False):
        np.testing.assert_array_equal(before, after)
    results = {"y": y, "plain y": plain[0], "mean y": mean, "dx": dx, "dx again": again[0]}
    results |= {f"end {k}": a for k, a in enumerate(end)} | {f"plain end {k}": a for k, a in enumerate(plain[1])}
    results |= {f"dstart {k}": a for k, a in enumerate(dstart)}
    results |= {field.name: getattr(grads, field.name) for field in fields(grads) if field.name != "pointwise"}
    return results | dict(grads.pointwise)


def _like(weight, dtype, a):
    a = a.astype(dtype)
    return a if isinstance(weight, np.ndarray) else type(weight)(a)


def compare(found, expected, dtype):
    assert found.keys() == expected.keys()
    for name, right in expected.items():
        if right is None:
            assert found[name] is None
            continue
        assert found[name].shape == right.shape, name
        assert found[name].dtype == right.dtype == dtype, name
        scale = max(1.0, float(np.abs(right).max(initial=0)))
        np.testing.assert_allclose(found[name], right, rtol=0, atol=TOLERANCE[dtype] * scale, err_msg=name)


def both_ways(library, cell, weights, x, start, lengths, *, rng, reverse=False, masked=False):
    """Run a cell by the kernels and by the reference, and compare everything."""
    size = len(weights.input) // len(cell.input_gates)
    options = {"lengths": lengths, "reverse": reverse}
    options["draws"] = {
        name: (rng.random((*x.shape[:2], size)) < p).astype(x.dtype) for name, p in cell.draws.items()
    }
    if masked:
        options["output_mask"] = ((rng.random(start[0].shape) < 0.5) * 2.0).astype(x.dtype)
    given = [a.copy() for a in (x, *start)]
    found = run(partial(forward, library), partial(backward, library), cell, weights, x, start, **options)
    for before, after in zip(given, (x, *start), strict=True):
        np.testing.assert_array_equal(before, after)
    library.xp.check_guards()
    expected = run(scan.forward, scan.backward, cell, weights, x, start, **options)
    compare(found, expected, str(x.dtype))


@needs_compiler
@pytest.mark.parametrize("cell", BUILT_IN, ids=repr)
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_built_in_cells_equal_the_reference(library, cell, ragged, reverse):
    rng = np.random.default_rng(7)
    for batch, steps in SIZES:
        arguments = problem(cell, rng, batch=batch, steps=steps, ragged=ragged)
        both_ways(library, cell, *arguments, reverse=reverse, rng=rng)


@needs_compiler
@pytest.mark.parametrize("seed", SEEDS)
def test_random_cells_equal_the_reference(library, seed):
    rng = np.random.default_rng(seed)
    cell = RandomCell(seed)
    batch, steps = SIZES[seed % len(SIZES)]
    arguments = problem(cell, rng, batch=batch, steps=steps, ragged=seed % 2 == 0, bias=seed % 3 > 0)
    both_ways(library, cell, *arguments, reverse=seed % 4 > 1, rng=rng, masked=seed % 5 > 2)


class Squared(Cell):
    """A cell that reads the output before the step, elementwise."""

    input_gates = recurrent_gates = ("a",)

    def step(self, x, h, before, params):
        return {"h": before.h * before.h * 0.1 + x.a + h.a}, {}

    def step_backward(self, d, saved, before, params):
        return CellGradients(x={"a": d.h}, h={"a": d.h}, before={"h": d.h * before.h * 0.2})


class Normalised(Cell):
    """A cell of means alone, without a product with the output before."""

    input_gates = ("a",)

    def step(self, x, h, before, params):
        after = before.h * 0.5 + x.a
        centred = after - mean_over_units(after)
        return {"h": centred}, {}

    def step_backward(self, d, saved, before, params):
        da = d.h - mean_over_units(d.h)
        return CellGradients(x={"a": da}, h={}, before={"h": da * 0.5})
