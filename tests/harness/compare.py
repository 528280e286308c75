"""Comparing arrays: the namespace, the device, the dtype and the shape as well as the values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recurray.backend import Backend

TOLERANCE = {"float64": 1e-11, "float32": 2e-5}


def on_host(backend: Backend, actual: Any) -> np.ndarray:
    """An array of the backend as a NumPy array, after a check that it is the backend's and on its device."""
    assert backend.owns(actual), f"expected an array of {backend!r}, got {type(actual)}"
    assert backend.on_device(actual), f"expected an array on {backend.device}, got one on {actual.device}"
    result = backend.to_numpy(actual)
    assert str(result.dtype) == str(actual.dtype).rpartition(".")[2]
    return result


def assert_close(
    backend: Backend, actual: Any, expected: Any, *, dtype: str = "float64", tolerance: float | None = None
) -> None:
    """Assert that ``actual``, of the backend, has the dtype and the shape and the values of ``expected``, of NumPy.

    The error allowed is relative to the largest element, or to 1 if that is more; the default follows the dtype.
    """
    expected = np.asarray(expected)
    found = on_host(backend, actual)
    assert str(found.dtype) == dtype
    assert found.shape == expected.shape
    allowed = TOLERANCE[dtype] if tolerance is None else tolerance
    scale = max(1.0, float(np.max(np.abs(expected), initial=0.0)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=allowed * scale)


def assert_same(actual: Any, expected: Any) -> None:
    """Assert that two NumPy arrays agree in dtype, shape and every bit."""
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    assert actual.tobytes() == expected.tobytes(), f"largest difference {np.max(np.abs(actual - expected))}"


def assert_all_close(
    backend: Backend,
    actual: Mapping[str, Any],
    expected: Mapping[str, Any],
    *,
    dtype: str = "float64",
    tolerance: float | None = None,
) -> None:
    """`assert_close` for every named array, with the name in the message."""
    assert list(actual) == list(expected)
    for name in expected:
        try:
            assert_close(backend, actual[name], expected[name], dtype=dtype, tolerance=tolerance)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from None


def assert_all_same(actual: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """`assert_same` for every named NumPy array, with the name in the message."""
    assert list(actual) == list(expected)
    for name in expected:
        try:
            assert_same(actual[name], expected[name])
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from None
