"""What JAX and PyTorch make of the layers: what they derive from forward is what backward gives; JAX compiles both.

Differentiating by the library knows nothing of our backward: it is an answer of its own, for every cell, in float64.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import (
    Case,
    assert_all_close,
    forward,
    give,
    gradients,
    host,
    layer_for,
    leaves,
    named,
    obtain,
    problem,
    results,
)
from harness.cases import CASES, OPTIONS, RAGGED
from harness.cells import CELLS
from harness.needs import need
from harness.problems import Given, state_like
from recurray.backend import Backend

OF_CELLS = [Case(f"{cell}", partial(rr.Recurrent, cell, 2, 3, seed=0), lengths=RAGGED, batch=4) for cell in CELLS]
DERIVED = [pytest.param(case, "torch", id=f"torch-{case}") for case in [*OF_CELLS, *OPTIONS, *CASES]]
FEW = ("LSTMCell()", "GRUCell()", "SLSTMCell(forget_gate='sigmoid')")  # JAX compiles each operation for each shape
DERIVED += [
    pytest.param(case, "jax", id=f"jax-{case}", marks=() if case.name in FEW else pytest.mark.long)
    for case in [*OF_CELLS, *OPTIONS, *CASES]
]
TRACED = [
    Case("lstm", partial(rr.LSTM, 2, 3, bidirectional=True, proj_size=2, seed=0), lengths=RAGGED, batch=4),
    Case("gru", partial(rr.GRU, 2, 3, reset_after=False, seed=0)),
    *(
        pytest.param(case, marks=pytest.mark.long)
        for case in CASES
        if case.name in ("recurrent with every dropout", "diagonal", "slstm", "sequential")
    ),
]


def slopes(backend: Backend, layer: rr.Layer, given: Given) -> dict[str, Any]:
    """The gradients of sum(dy y) + sum(dend end) by the library's own differentiation, named as in `gradients`."""
    xp = backend.xp
    arrays = named("start", given.state) | {f"param.{name}": value for name, value in layer.params.items()}
    if not xp.isdtype(given.x.dtype, "integral"):
        arrays = {"x": given.x} | arrays

    def loss(arrays: Mapping[str, Any]) -> Any:
        traced, start = with_arrays(layer, arrays), {k[6:]: a for k, a in arrays.items() if k.startswith("start.")}
        state = state_like(traced, start) if start else given.state
        y, end, _ = forward(traced, Given(arrays.get("x", given.x), state, given.which, None, None))
        weights = leaves(given.dstate)
        total = xp.sum(y * given.dy)
        for name, value in leaves(end).items():
            total = total + xp.sum(value * weights[name])
        return total

    found = gradient_of(backend, loss)(arrays)
    return {f"d{name}": value for name, value in found.items()}


def with_arrays(layer: rr.Layer, arrays: Mapping[str, Any]) -> rr.Layer:
    """A copy of a layer whose params are others: arrays that a library watches."""
    other = copy.deepcopy(layer)
    for name in layer.params:
        other.params[name] = arrays[f"param.{name}"]
    return other


def gradient_of(backend: Backend, loss: Any) -> Any:
    if "torch" in backend.name:
        import torch

        return torch.func.grad(loss)
    import jax

    return jax.grad(loss)


@pytest.mark.parametrize(("case", "library"), DERIVED)
def test_backward_is_what_the_library_derives_from_forward(case: Case, library: str) -> None:
    backend = obtain(library)
    layer = layer_for(case, problem(case), backend)
    given = give(layer, problem(case))
    _, _, cache = forward(layer, given)
    expected = host(backend, gradients(layer, cache, given))
    found = slopes(backend, layer, given)
    for name in expected.keys() - found.keys():  # a start state that was not handed in
        assert name.startswith("dstart.")
    assert_all_close(backend, found, {name: expected[name] for name in found}, tolerance=1e-10)


@pytest.mark.parametrize("case", TRACED, ids=str)
def test_forward_and_backward_can_be_compiled(case: Case) -> None:
    """In `jax.jit` arrays are tracers, without a device or values; the compiled numbers are those of every call."""
    backend, jax = obtain("jax"), need("jax")
    layer = layer_for(case, problem(case), backend)
    given = give(layer, problem(case))

    @jax.jit
    def both(x: Any, state: Any, dy: Any, dstate: Any, params: Mapping[str, Any]) -> dict[str, Any]:
        traced = with_arrays(layer, {f"param.{name}": value for name, value in params.items()})
        return results(traced, Given(x, state, given.which, dy, dstate))

    found = both(given.x, given.state, given.dy, given.dstate, dict(layer.params))
    expected = host(backend, results(layer, given))
    assert_all_close(backend, {name: found[name] for name in expected}, expected, tolerance=1e-12)


def test_a_training_step_can_be_compiled() -> None:
    """The model, a loss and their gradients in one `jax.jit`; of classes, which can't be looked at then."""
    backend, jax = obtain("jax"), need("jax")
    model = rr.Sequential(
        rr.Embedding(6, 4, backend=backend, dtype="float64", seed=0),
        rr.LSTM(4, 5, backend=backend, dtype="float64", seed=1),
        rr.Linear(5, 6, backend=backend, dtype="float64", seed=2),
    )
    rng = np.random.default_rng(0)
    x, target = (backend.asarray(rng.integers(6, size=(3, 5))) for _ in range(2))

    def step(x: Any, target: Any) -> tuple[Any, dict[str, Any]]:
        y, _, cache = model.forward(x)
        value, dy = rr.losses.cross_entropy(y, target)
        return value, model.backward(cache, dy)[2]

    value, grads = jax.jit(step)(x, target)
    expected_value, expected = step(x, target)
    assert float(value) == pytest.approx(float(expected_value), rel=1e-12)
    assert_all_close(backend, {name: grads[name] for name in expected}, host(backend, expected), tolerance=1e-12)

    def loss(params: Mapping[str, Any]) -> Any:
        traced = with_arrays(model, {f"param.{name}": value for name, value in params.items()})
        return rr.losses.cross_entropy(traced(x)[0], target)[0]

    derived = jax.jit(jax.grad(loss))(dict(model.params))
    assert_all_close(backend, {name: derived[name] for name in expected}, host(backend, expected), tolerance=1e-10)
