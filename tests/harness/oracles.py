"""Gradients by means that share nothing with a layer's backward."""

from __future__ import annotations

from functools import cache

import numpy as np

from harness.problems import Case, Problem, forward, give, host, layer_for, leaves, problem, results
from recurray.backend import Backend

TINY = 1e-30  # the step of the complex-step derivative: there is no difference taken, so none that could cancel
STEP = 3e-5  # of the finite differences


@cache
def by_formula(case: Case) -> dict[str, np.ndarray]:
    """What `results` should give, from the case's formula: its values, and its complex-step derivative."""
    given = problem(case)
    y, end = _evaluate(case, given)
    expected = {"y": y.real} | {f"end.{name}": end[name].real for name in given.start}
    arrays = given.arrays()
    for name, value in arrays.items():
        gradient = np.empty(value.shape)
        for position in np.ndindex(value.shape):
            moved = value.astype(complex)
            moved[position] += 1j * TINY
            y, end = _evaluate(case, given.with_arrays(arrays | {name: moved}))
            loss = np.sum(given.dy * y) + sum(np.sum(given.dend[leaf] * end[leaf]) for leaf in given.dend)
            gradient[position] = loss.imag / TINY
        expected[f"d{name}"] = gradient
    return expected


def _evaluate(case: Case, given: Problem) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    assert case.formula is not None
    return case.formula(given.params, given.x, given.start, given.which.get("lengths"))


def finite_differences(case: Case, backend: Backend, directions: int) -> dict[str, tuple[float, float]]:
    """For each array the slope of a random loss along random directions: by finite differences, and by backward.

    A direction has a part in every element, so a mistake in any of them shows in the slope.
    """
    given = problem(case)
    layer = layer_for(case, given, backend)
    rng = np.random.default_rng(1)

    def loss(arrays: dict[str, np.ndarray]) -> float:
        moved = given.with_arrays(arrays)
        layer.load_state_dict(moved.params)
        y, end, _ = forward(layer, give(layer, moved))
        ends = sum(np.sum(given.dend[name] * backend.to_numpy(value)) for name, value in leaves(end).items())
        return float(np.sum(given.dy * backend.to_numpy(y)) + ends)

    arrays = given.arrays()
    found = host(backend, results(layer, given))
    slopes = {}
    for name, value in arrays.items():
        for k in range(directions):
            direction = rng.standard_normal(value.shape)
            near, far = (
                loss(arrays | {name: value + step * direction}) - loss(arrays | {name: value - step * direction})
                for step in (STEP, 2 * STEP)
            )
            assert found[f"d{name}"].shape == value.shape
            slope = float(np.sum(direction * found[f"d{name}"]))
            slopes[f"d{name}, direction {k}"] = (
                (8 * near - far) / (12 * STEP),
                slope,
            )  # its error is of the order of STEP ** 4
    return slopes
