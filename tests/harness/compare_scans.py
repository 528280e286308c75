"""Comparing a backend's scan with the reference: random problems, forward for training and inference, and backward."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from recurray import scan
from recurray.arrays import mean_over_units, sigmoid, tanh
from recurray.cells import Cell, CellGradients, Weights

SIZES = [(3, 6), (2, 5), (1, 7), (4, 1), (0, 3), (3, 0)]  # rows and steps
TOLERANCE = {"float64": 1e-11, "float32": 2e-4}  # relative to the largest element


def scan_arguments(
    cell, rng, *, batch, steps, features=3, size=4, projection=0, bias=True, ragged=True, dtype="float64"
):
    """Random weights, input, start state and lengths."""
    output = projection or size

    def draw(*shape):
        return rng.standard_normal(shape).astype(dtype)

    gates_in, gates_across = len(cell.input_gates) * size, len(cell.recurrent_gates) * size
    weights = Weights(
        input=draw(gates_in, features),
        recurrent=draw(gates_across, output) if gates_across else None,
        input_bias=draw(*((batch,) if bias == "by row" else ()), gates_in) if bias else None,
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


def run(scan_forward, cell, weights, x, start, *, draws, **options):
    """Forward, for training and for inference, and backward; everything that comes out, by name."""
    y, end, cache = scan_forward(cell, weights, x, start, keep=True, draws=draws, **options)
    plain = scan_forward(cell, weights, x, start, keep=False, draws=draws, **options)
    assert plain[2] is None
    mean = scan_forward(cell, weights, x, start, keep=False, draws=dict(cell.draws), **options)[0]
    results = {"y": np.array(y), "plain y": plain[0], "mean y": mean}
    y[...] = np.nan  # what the caller does to the output mustn't reach the cache
    later = np.random.default_rng(5)
    dy, *dend = (later.standard_normal(a.shape).astype(x.dtype) for a in (y, *end))
    given = [a.copy() for a in (dy, *dend)]
    dx, dstart, grads = cache.backward(dy, tuple(dend))
    again = cache.backward(dy, tuple(dend))  # a cache can be used twice
    for before, after in zip(given, (dy, *dend), strict=True):
        np.testing.assert_array_equal(before, after)
    results |= {"dx": dx, "dx again": again[0]}
    results |= {f"end {k}": a for k, a in enumerate(end)} | {f"plain end {k}": a for k, a in enumerate(plain[1])}
    results |= {f"dstart {k}": a for k, a in enumerate(dstart)}
    results |= {field.name: getattr(grads, field.name) for field in fields(grads) if field.name != "pointwise"}
    results |= dict(grads.pointwise)
    return results


@dataclass
class ByFunction:
    """A cache that goes backward by a function of the cell, what a scan has kept, and the gradients."""

    function: Any
    cell: Any
    kept: Any

    def backward(self, dy, dend):
        return self.function(self.cell, self.kept, dy, dend)


def scan_by(forward, backward):
    """A scan of two functions, the second of which takes what the first has kept."""

    def scan_forward(cell, *arrays, **options):
        y, end, kept = forward(cell, *arrays, **options)
        return y, end, None if kept is None else ByFunction(backward, cell, kept)

    return scan_forward


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


def both_ways(scan_forward, cell, weights, x, start, lengths, *, rng, reverse=False, masked=False):
    """Run a cell by a scan and by the reference, and compare everything."""
    size = len(weights.input) // len(cell.input_gates)
    shape = (*x.shape[:2], size)
    options = {
        "lengths": lengths,
        "reverse": reverse,
        "draws": {name: draw(rng, shape, p, name in cell.sequence_draws, x.dtype) for name, p in cell.draws.items()},
    }
    if masked:
        options["output_mask"] = ((rng.random(start[0].shape) < 0.5) * 2.0).astype(x.dtype)
    given = [a.copy() for a in (x, *start)]
    found = run(scan_forward, cell, weights, x, start, **options)
    for before, after in zip(given, (x, *start), strict=True):
        np.testing.assert_array_equal(before, after)
    arrays = [a for name, a in found.items() if a is not None and not name.endswith("y")]
    for k, a in enumerate(arrays):  # what the caller does to one mustn't reach another
        assert not any(np.shares_memory(a, other) for other in (x, *start, *arrays[:k]))
    expected = run(scan.forward, cell, weights, x, start, **options)
    compare(found, expected, str(x.dtype))


def draw(rng, shape, probability, once, dtype):
    """A cell's draw as a layer makes it, the same for all steps, without a copy for each, if ``once``."""
    own = (1, *shape[1:]) if once else shape
    return np.broadcast_to((rng.random(own) < probability).astype(dtype), shape)


class Squared(Cell):
    """A cell that reads the output before the step, elementwise."""

    input_gates = recurrent_gates = ("a",)

    def step(self, x, h, before, params):
        return {"h": before.h * before.h * 0.1 + x.a + h.a}, {}

    def step_backward(self, d, saved, before, params):
        return CellGradients(x={"a": d.h}, h={"a": d.h}, before={"h": d.h * before.h * 0.2})


class TwoStates(Cell):
    """A cell with a state besides the output, as a user may write one; both are read at the next step."""

    states = ("h", "m")
    input_gates = recurrent_gates = ("a", "u")

    def step(self, x, h, before, params):
        a, u = tanh(x.a + h.a), sigmoid(x.u + h.u)
        m = before.m * 0.6 + a
        t = tanh(m)
        return {"h": u * t + (1.0 - u) * before.h, "m": m}, {"a": a, "u": u, "t": t}

    def step_backward(self, d, saved, before, params):
        a, u, t = saved.a, saved.u, saved.t
        dm = d.m + d.h * u * (1.0 - t * t)
        gates = {"a": dm * (1.0 - a * a), "u": d.h * (t - before.h) * u * (1.0 - u)}
        return CellGradients(x=gates, h=gates, before={"h": d.h * (1.0 - u), "m": dm * 0.6})


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


class Centred(Cell):
    """A cell that saves something of its output and the mean of that, which is read anew after the mean is known."""

    input_gates = recurrent_gates = ("a",)

    def step(self, x, h, before, params):
        after = tanh(x.a + h.a)
        return {"h": after}, {"centred": after - mean_over_units(after)}

    def step_backward(self, d, saved, before, params):
        da = d.h * saved.centred
        return CellGradients(x={"a": da}, h={"a": da}, before={})


class Averaging(Cell):
    """A cell that reduces, which can't be recorded."""

    input_gates = ("x",)

    def step(self, x, h, before, params):
        after = 0.5 * before.h + x.x - np.mean(x.x, axis=-1, keepdims=True)
        return {"h": after}, {}

    def step_backward(self, d, saved, before, params):
        dx = d.h - np.mean(d.h, axis=-1, keepdims=True)
        return CellGradients(x={"x": dx}, h={}, before={"h": 0.5 * d.h})
