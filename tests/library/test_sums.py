"""Sums over a million numbers in float32, which lose percents where one is added after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import here, obtain
from recurray.arrays import product_over_rows, sum_of_all, sum_over_rows
from recurray.backend import Backend

MANY = 1_000_000
FEWER = 50_000  # where a GPU may be emulated; still too many to be added one after the other
NUMBERS = np.array([0.1, 0.7], "float32")  # with a rounding error at nearly every addition
WITHIN = 1e-6


def many(backend: Backend) -> int:
    return FEWER if backend.name == "cupy" else MANY


def equal_rows(backend: Backend, count: int) -> Any:
    return backend.asarray(np.broadcast_to(NUMBERS, (count, 2)).copy())


def assert_times(backend: Backend, found: Any, count: int, terms: Any = NUMBERS, within: float = WITHIN) -> None:
    """That ``found`` is the sum of so many equal terms."""
    np.testing.assert_allclose(backend.to_numpy(found).astype(float), count * np.asarray(terms, float), rtol=within)


@pytest.mark.parametrize("count", [0, 1, 16, 32, 33, 47, 48, 511, 512, 513, 100_003])
def test_a_sum_leaves_out_no_row(count: int, backend: Backend) -> None:
    a = np.random.default_rng(count).integers(-9, 9, (count, 3)).astype(float)  # exact, in any order
    np.testing.assert_array_equal(backend.to_numpy(sum_over_rows(backend.asarray(a))), a.sum(axis=0))
    assert float(sum_of_all(backend.asarray(a))) == a.sum()


@pytest.mark.parametrize("sizes", [(3, 2), (3, 1), (1, 2), (1, 1)])
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 40])
def test_a_product_leaves_out_no_row(
    count: int, sizes: tuple[int, int], backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, number in (("MANY", 4), ("IN_BLOCK", 4), ("SMALL", 3)):
        monkeypatch.setattr(f"recurray.arrays.{name}", number)
    rng = np.random.default_rng(count)
    a, b = (rng.integers(-9, 9, (count, size)).astype(float) for size in sizes)
    np.testing.assert_array_equal(backend.to_numpy(product_over_rows(backend.asarray(a), backend.asarray(b))), a.T @ b)


def test_linear_adds_up_many_rows(backend: Backend) -> None:
    count = many(backend)
    for features, within in ((1, 3e-6), (2, 2e-5), (40, 2e-5)):
        layer = rr.Linear(features, 2, backend=backend, seed=0)
        _, _, cache = layer.forward(backend.asarray(np.full((count, features), 1.5, "float32")))
        grads = layer.backward(cache, equal_rows(backend, count))[2]
        assert_times(backend, grads["bias"], count)
        assert_times(backend, grads["weight"][:, 0], count, 1.5 * NUMBERS.astype(float), within=within)


def test_layer_norm_adds_up_many_rows(backend: Backend) -> None:
    count = many(backend)
    layer = rr.LayerNorm(2, backend=backend)
    x = np.broadcast_to(np.array([-1.0, 1.0], "float32"), (count, 2)).copy()
    y, _, cache = layer.forward(backend.asarray(x))
    grads = layer.backward(cache, equal_rows(backend, count))[2]
    assert_times(backend, grads["bias"], count)
    assert_times(backend, grads["weight"], count, NUMBERS * backend.to_numpy(y)[0].astype(float))


def test_embedding_adds_up_many_rows(backend: Backend) -> None:
    count = many(backend)
    layer = rr.Embedding(1, 2, backend=backend, seed=0)
    _, _, cache = layer.forward(backend.asarray(np.zeros(count, "int64")))
    assert_times(backend, layer.backward(cache, equal_rows(backend, count))[2]["weight"][0, ...], count, within=3e-6)


@pytest.mark.parametrize("count", [1, 32, 33, 47, 2000])
def test_an_embedding_leaves_out_no_row(count: int, backend: Backend) -> None:
    rng = np.random.default_rng(count)
    values, index = rng.integers(-9, 9, (count, 3)).astype(float), rng.integers(2, 5, count)
    expected = np.zeros((7, 3))
    np.add.at(expected, index, values)
    found = backend.sum_rows(backend.asarray(values), backend.asarray(index), 7)
    np.testing.assert_array_equal(backend.to_numpy(found), expected)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("masked", [False, True])
def test_losses_add_up_many_rows(reduction: str, masked: bool, backend: Backend) -> None:
    count = many(backend)
    prediction = equal_rows(backend, count // 2)
    mask = backend.asarray(np.ones((count // 2, 2), bool)) if masked else None
    value, gradient = rr.losses.mae(prediction, backend.xp.zeros_like(prediction), reduction, mask=mask)
    times = 1 / 2 if reduction == "mean" else count / 2
    assert_times(backend, value, 1, times * NUMBERS.astype(float).sum())
    np.testing.assert_allclose(backend.to_numpy(gradient), 1 / count if reduction == "mean" else 1, rtol=WITHIN)


def test_the_norm_of_many_gradients(backend: Backend) -> None:
    count = many(backend)
    _, norm = rr.optim.clip_grad_norm({"w": equal_rows(backend, count)}, 1.0)
    assert_times(backend, norm, 1, (count * (NUMBERS.astype(float) ** 2).sum()) ** 0.5)


def test_the_norm_of_arrays_without_numbers(backend: Backend) -> None:
    full, empty = backend.asarray(np.array([3.0, -4.0], "float32")), backend.asarray(np.zeros((2, 0), "float32"))
    for arrays, expected in (([], 0), ([empty], 0), ([empty, full], 5)):
        found = backend.to_numpy(backend.norm(arrays))
        assert found == expected
        assert found.shape == ()


@pytest.mark.parametrize(
    ("platform", "steps", "batch"),
    [
        *((platform, 20_000, 1) for platform in here("numpy", "native")),
        *((platform, 2000, 20) for platform in here("numpy", "native", "reference")),
    ],
)
def test_recurrent_layers_add_up_many_steps(platform: str, steps: int, batch: int) -> None:
    """Every step of every row has the same gradient, as nothing is carried."""
    backend = obtain(platform)
    layer = rr.DiagonalLSTM(1, 2, backend=backend, seed=0)
    zero = {name: np.zeros_like(value) for name, value in layer.state_dict().items()}
    layer.load_state_dict(zero | {"b": np.array([[1.0, 2.0], [-40.0, -40.0], [0.5, -0.3], [0.2, 0.3]], "float32")})
    x, dy = np.zeros((batch, steps, 1), "float32"), np.broadcast_to(NUMBERS, (batch, steps, 2)).copy()
    grads = []
    for first, last in ((0, 1), (0, steps)):
        _, _, cache = layer.forward(backend.asarray(x[:, first:last]))
        grads.append(backend.to_numpy(layer.backward(cache, backend.asarray(dy[:, first:last]))[2]["b"]))
    one, many = grads
    np.testing.assert_allclose(many[[0, 2, 3]], one[[0, 2, 3]].astype(float) * steps, rtol=1e-5)


@pytest.mark.parametrize("name", ["layer norm", "softmax", "log_softmax", "classes", "probabilities"])
def test_sums_along_the_last_axis_are_the_same_in_any_order_in_memory(name: str) -> None:
    """In Fortran's order NumPy would add up one column after the other."""
    size = 200_000
    rng = np.random.default_rng(0)
    x, dy = (0.1 + 0.01 * rng.standard_normal((2, 2, size))).astype("float32")
    classes = np.array([0, 1]) if name == "classes" else np.abs(dy)

    def called(form: Any) -> list[np.ndarray]:
        if name in ("classes", "probabilities"):
            return list(rr.losses.cross_entropy(form(x), form(classes), "none"))
        layer: Any = rr.LayerNorm(size) if name == "layer norm" else rr.Activation(name)
        y, _, cache = layer.forward(form(x))
        dx, _, grads = layer.backward(cache, form(dy))
        return [y, dx, *grads.values()]

    for usual, turned in zip(called(np.ascontiguousarray), called(np.asfortranarray), strict=True):
        np.testing.assert_array_equal(usual, turned)


@pytest.mark.slow
@pytest.mark.parametrize("platform", here("numpy", "torch"))
def test_linear_and_layer_norm_add_up_ten_million_rows(platform: str) -> None:
    backend, count = obtain(platform), 10_000_000
    dy = equal_rows(backend, count)
    for layer in (rr.Linear(2, 2, backend=backend, seed=0), rr.LayerNorm(2, backend=backend)):
        _, _, cache = layer.forward(backend.asarray(np.ones((count, 2), "float32")))
        grads = layer.backward(cache, dy)[2]
        assert_times(backend, grads["bias"], count)
        if isinstance(layer, rr.Linear):
            assert_times(backend, grads["weight"][:, 0], count, within=2e-5)
