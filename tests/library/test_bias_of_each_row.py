"""A scan whose rows have a bias each, on every backend: what each row alone gives with its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness import here
from harness.compare_scans import scan_arguments
from recurray import scan
from recurray.backend import Backend
from recurray.cells import Cell, DiagonalLSTMCell, GRUCell, LSTMCell, Weights

CELLS = [
    LSTMCell(peepholes=True, layer_norm=True),
    GRUCell(),
    GRUCell(reset_after=False),
    DiagonalLSTMCell(shared=True),
]


def there(weights: Weights, backend: Backend, bias: Any) -> Weights:
    """Weights on a backend, with another bias."""
    arrays = {name: a for name, a in vars(weights).items() if name != "pointwise"} | {"input_bias": bias}
    arrays = {name: None if a is None else backend.asarray(a) for name, a in arrays.items()}
    return Weights(**arrays, pointwise={name: backend.asarray(a) for name, a in weights.pointwise.items()})


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", CELLS, ids=repr)
def test_rows_are_as_each_alone(cell: Cell, backend: Backend, reverse: bool) -> None:
    rng = np.random.default_rng(1)
    weights, x, start, lengths = scan_arguments(cell, rng, batch=3, steps=9, bias="by row")
    lengths = [7, 9, 4]
    x = np.nan_to_num(x, nan=0.5)
    dy, dend = rng.standard_normal((9, 3, 4)), [rng.standard_normal(a.shape) for a in start]
    y, end, cache = backend.scan_forward(
        cell,
        there(weights, backend, weights.input_bias),
        backend.asarray(x),
        tuple(map(backend.asarray, start)),
        lengths=lengths,
        reverse=reverse,
    )
    dx, dstart, grads = cache.backward(backend.asarray(dy), tuple(map(backend.asarray, dend)))
    y, dx, dbias, dinput = map(backend.to_numpy, (y, dx, grads.input_bias, grads.input))
    end, dstart = (tuple(map(backend.to_numpy, arrays)) for arrays in (end, dstart))
    assert weights.input_bias is not None
    total = np.zeros_like(weights.input)
    for row, length in enumerate(lengths):
        here = slice(row, row + 1)
        own = Weights(**vars(weights) | {"input_bias": weights.input_bias[row]})
        first = tuple(a[here] for a in start)
        y_1, end_1, cache_1 = scan.forward(cell, own, x[:length, here], first, reverse=reverse)
        assert cache_1 is not None
        dx_1, dstart_1, grads_1 = cache_1.backward(dy[:length, here], tuple(a[here] for a in dend))
        total += grads_1.input
        found = {"y": y[:length, here], "dx": dx[:length, here], "bias": dbias[row]}
        found |= {f"end {k}": a[here] for k, a in enumerate(end)} | {
            f"dstart {k}": a[here] for k, a in enumerate(dstart)
        }
        expected = {"y": y_1, "dx": dx_1, "bias": grads_1.input_bias}
        expected |= {f"end {k}": a for k, a in enumerate(end_1)} | {f"dstart {k}": a for k, a in enumerate(dstart_1)}
        for name, right in expected.items():
            np.testing.assert_allclose(found[name], right, rtol=0, atol=1e-11, err_msg=name)
    np.testing.assert_allclose(dinput, total, rtol=0, atol=1e-10)


# Not on JAX, which would compile each of the steps.
@pytest.mark.parametrize("backend", [name for name in here() if name != "jax"], indirect=True)
def test_a_chunk_after_another_adds_to_each_rows_gradient(backend: Backend) -> None:
    """More steps than are computed together, kept and computed again: the same bits."""
    rng = np.random.default_rng(2)
    weights, x, start, _ = scan_arguments(LSTMCell(), rng, batch=2, steps=70, bias="by row", ragged=False)
    weights = Weights(
        **{name: a if name == "pointwise" else a * 0.3 for name, a in vars(weights).items() if a is not None}
    )
    dy = rng.standard_normal((70, 2, 4))
    found = []
    for recompute in (None, 64):
        given = there(weights, backend, weights.input_bias), backend.asarray(x), tuple(map(backend.asarray, start))
        _, _, cache = backend.scan_forward(LSTMCell(), *given, recompute=recompute)
        found.append(backend.to_numpy(cache.backward(backend.asarray(dy), given[2])[2].input_bias))
    expected = []
    for row in range(2):
        here = slice(row, row + 1)
        own = Weights(**vars(weights) | {"input_bias": weights.input_bias[row]})
        first = tuple(a[here] for a in start)
        _, _, cache = scan.forward(LSTMCell(), own, x[:, here], first)
        expected.append(cache.backward(dy[:, here], first)[2].input_bias)
    np.testing.assert_array_equal(*found)
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-11)
