"""Formulas, number by number, on every backend that runs them in a way of its own, against their own arithmetic."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from harness import here, obtain
from harness.optimizers import RICHEST
from recurray import optim
from recurray.arrays import namespace_of, sigmoid
from recurray.backend import Backend
from recurray.elementwise import reference

NAMES, NUMBERS = ("a", "b", "kept"), {"one": 1.0, "more": 1.7}
PLATFORMS = here("numpy", "native", "cupy")


def everything(arrays: Any, n: Any) -> Any:
    """Every operation, constants, numbers, a result that is an argument as it was, and one that is a constant."""
    a, b, kept = (arrays[name] for name in NAMES)
    xp = namespace_of(a)
    positive = abs(b) + 0.5
    some = xp.exp(-positive) + xp.expm1(a) / xp.log(positive + n.one) + xp.log1p(positive) * xp.tanh(a)
    chosen = xp.where((a > b) & (a >= -n.more) & (b < 2.0) & (b <= n.more), some, -kept)
    return {
        "kept": xp.maximum(xp.minimum(chosen, n.more), kept) - kept * 0.25,
        "first": n.more * a / (xp.sqrt(positive) + n.one) + a * b * kept - (b - n.more * a * b / positive),
        "second": sigmoid(a) - a * b,
        "third": n.more * a + b * (kept * positive) - kept * b / (xp.sqrt(positive) + n.more),
    }


def swapped(arrays: Any, n: Any) -> Any:
    """Results that are one another's arguments, an argument, and a constant."""
    return {"a": arrays["b"], "b": arrays["a"], "kept": arrays["kept"], "same": arrays["a"], "none": 0.0 * n.one + 0.5}


def draw(size: int, dtype: str, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(size).astype(dtype) for name in NAMES}


def wanted(formula: Any, sets: list[dict[str, np.ndarray]]) -> list[Any]:
    return list(reference(formula, NAMES, tuple(NUMBERS))(NUMBERS, sets))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("platform", PLATFORMS)
class TestFormulas:
    # As many as make no block, whole ones and a part of one.
    SIZES = (1, 3, 511, 512, 513, 70_001, 300)

    def test_new_arrays(self, platform: str, dtype: str) -> None:
        backend = obtain(platform)
        sets = [draw(size, dtype, size) for size in self.SIZES]
        given = [{name: backend.asarray(a) for name, a in own.items()} for own in sets]
        run = backend.elementwise(everything, NAMES, tuple(NUMBERS))
        for own, expected in zip(run(NUMBERS, given), wanted(everything, sets), strict=True):
            for name, value in expected.items():
                assert str(own[name].dtype) == dtype
                tolerance = 30 * np.finfo(dtype).eps
                np.testing.assert_allclose(backend.to_numpy(own[name]), value, rtol=tolerance, atol=tolerance)
        for own, before in zip(given, sets, strict=True):
            for name, value in before.items():
                np.testing.assert_array_equal(backend.to_numpy(own[name]), value)

    def test_two_axes_and_none(self, platform: str, dtype: str) -> None:
        backend = obtain(platform)
        for shape in ((3, 5), (), (2, 0)):
            size = math.prod(shape)
            arrays = {name: backend.asarray(a.reshape(shape)) for name, a in draw(size, dtype).items()}
            if size > 1:
                arrays["b"] = backend.xp.permute_dims(backend.asarray(draw(size, dtype)["b"].reshape(5, 3)), (1, 0))
            (found,) = backend.elementwise(everything, NAMES, tuple(NUMBERS))(NUMBERS, [arrays])
            (expected,) = wanted(everything, [{name: backend.to_numpy(a) for name, a in arrays.items()}])
            for name, value in expected.items():
                np.testing.assert_allclose(backend.to_numpy(found[name]), value, rtol=1e-5, atol=1e-5)

    def test_results_that_are_arguments(self, platform: str, dtype: str) -> None:
        backend = obtain(platform)
        before = draw(700, dtype)
        given = {name: backend.asarray(a.copy()) for name, a in before.items()}
        run = backend.elementwise(swapped, NAMES, tuple(NUMBERS))
        out = None
        if backend.in_place:
            out = [{**given, "same": np.empty(700, dtype), "none": np.empty(700, dtype)}]
        (found,) = run(NUMBERS, [given], out)
        for name, source in {"a": "b", "b": "a", "kept": "kept", "same": "a"}.items():
            np.testing.assert_array_equal(backend.to_numpy(found[name]), before[source])
        np.testing.assert_array_equal(backend.to_numpy(found["none"]), np.full(700, 0.5, dtype))


@pytest.mark.parametrize("platform", PLATFORMS)
def test_numbers_that_are_not_finite(platform: str) -> None:
    backend = obtain(platform)
    a = backend.asarray([1.0, -2.0], "float32")
    run = backend.elementwise(lambda arrays, n: {"product": arrays["a"] * n.by}, ("a",), ("by",))
    for by in (np.nan, np.inf, -np.inf, 1e300, -1e39):
        (found,) = run({"by": by}, [{"a": a}])
        with np.errstate(over="ignore"):
            expected = np.asarray([1.0, -2.0], "float32") * np.float32(by)
        np.testing.assert_array_equal(backend.to_numpy(found["product"]), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("platform", here("numpy", "native"))
def test_in_place(platform: str, dtype: str) -> None:
    backend = obtain(platform)
    sets = [draw(size, dtype, size) for size in TestFormulas.SIZES]
    expected = wanted(everything, sets)
    out = [{"kept": own["kept"], "first": own["a"] * 0, "second": own["a"] * 0, "third": own["a"] * 0} for own in sets]
    backend.elementwise(everything, NAMES, tuple(NUMBERS))(NUMBERS, sets, out)
    for own, results in zip(out, expected, strict=True):
        for name, value in results.items():
            tolerance = 30 * np.finfo(dtype).eps
            np.testing.assert_allclose(own[name], value, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("name", "options"), RICHEST.items(), ids=RICHEST)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("platform", PLATFORMS)
def test_optimizers_step_large_arrays_as_the_reference_does(
    platform: str, dtype: str, name: str, options: dict[str, Any]
) -> None:
    shapes = {"large": (130, 70), "larger": (2, 3, 8200), "small": (7, 3), "bias": (5,)}
    results = []
    for backend in (obtain(platform), Backend(np)):
        rng = np.random.default_rng(0)

        def drawn(rng: Any = rng, backend: Any = backend) -> dict[str, Any]:
            numbers = {key: rng.standard_normal(shape).astype(dtype) for key, shape in shapes.items()}
            return {key: backend.asarray(value) for key, value in numbers.items()}

        params = drawn()
        optimizer = getattr(optim, name)(params, lr=0.01, groups={"la*": {"lr_factor": 0.5}}, **options)
        optimizer._backend_of = lambda param, backend=backend: backend
        for _ in range(6):
            optimizer.step(drawn())
        state = {key: value for key, value in optimizer.state_dict().items() if key != "settings"}
        results.append({key: backend.to_numpy(value) for key, value in params.items()} | state)
    for key, value in results[1].items():
        if platform == "numpy":
            np.testing.assert_array_equal(results[0][key], value)
        tolerance = 100 * np.finfo(dtype).eps
        np.testing.assert_allclose(results[0][key], value, rtol=tolerance, atol=tolerance, err_msg=key)
