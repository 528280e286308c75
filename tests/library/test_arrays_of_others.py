"""Arrays of other libraries, types, orders and places are taken in, as they are and without sharing their memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness.needs import need
from recurray import layouts
from recurray.arrays import to_numpy

VALUES = np.random.default_rng(0).integers(-9, 9, (15, 4)).astype("float32") / 4  # which all types hold


class ByArray:
    """What has ``__array__`` alone."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self._array if dtype is None else self._array.astype(dtype)


class ByDLPack:
    """What has ``__dlpack__`` alone."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __dlpack__(self, **given: Any) -> Any:
        return self._array.__dlpack__(**given)

    def __dlpack_device__(self) -> Any:
        return self._array.__dlpack_device__()


def read_only(array: Any) -> Any:
    array.flags.writeable = False
    return array


def mapped(mode: Any) -> Callable[[Any, Path], Any]:
    def make(values: Any, folder: Path) -> Any:
        np.memmap(folder / "m", "float32", "w+", shape=values.shape)[:] = values
        return np.memmap(folder / "m", "float32", mode, shape=values.shape)

    return make


MAKERS: dict[str, Callable[[Any, Path], Any]] = {
    "big-endian": lambda a, _: a.astype(">f4"),
    "big-endian float16": lambda a, _: a.astype(">f2"),
    "float16": lambda a, _: a.astype("float16"),
    "float64": lambda a, _: a.astype("float64"),
    "long double": lambda a, _: a.astype(np.longdouble),
    "bfloat16": lambda a, _: a.astype(need("ml_dtypes").bfloat16),
    "float8": lambda a, _: a.astype(need("ml_dtypes").float8_e4m3fn),
    "Fortran's order": lambda a, _: np.asfortranarray(a),
    "backwards": lambda a, _: a[::-1].copy()[::-1],
    "strided": lambda a, _: np.repeat(a, 2, axis=1)[:, ::2],
    "mapped": mapped("r+"),
    "mapped, read-only": mapped("r"),
    "read-only": lambda a, _: read_only(a.copy()),
    "__array__": lambda a, _: ByArray(a),
    "DLPack": lambda a, _: ByDLPack(a),
    "DLPack, read-only": lambda a, _: ByDLPack(read_only(a.copy())),
    "lists": lambda a, _: a.tolist(),
    "PyTorch": lambda a, _: need("torch").from_numpy(a),
    "PyTorch, trained": lambda a, _: need("torch").nn.Parameter(need("torch").from_numpy(a)),
    "PyTorch, transposed": lambda a, _: need("torch").from_numpy(a.T.copy()).T,
    "PyTorch, bfloat16": lambda a, _: need("torch").from_numpy(a).bfloat16(),
    "PyTorch, float16": lambda a, _: need("torch").from_numpy(a).half(),
    "array-api-strict": lambda a, _: need("array_api_strict").asarray(a),
    "JAX": lambda a, _: need("jax").numpy.asarray(a),
    "JAX, bfloat16": lambda a, _: need("jax").numpy.asarray(a, dtype="bfloat16"),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_params_are_taken_from_any_array(kind: str, tmp_path: Path) -> None:
    values = VALUES.copy()
    given = MAKERS[kind](values, tmp_path)
    gru = rr.GRU(4, 5, seed=0, backend="numpy")
    rest = {name: value for name, value in gru.state_dict().items() if name != "weight_ih_l0"}
    gru.load_state_dict({**rest, "weight_ih_l0": given})
    _, params = layouts.read("torch.gru", {"weight_ih_l0": given, "weight_hh_l0": np.zeros((15, 5), "float32")})
    made = rr.GRU(4, 5, params={**rest, "weight_ih_l0": given}, backend="numpy")
    for loaded in (gru.params["weight_ih_l0"], params["weight_ih_l0"], made.params["weight_ih_l0"]):
        np.testing.assert_array_equal(loaded, VALUES)
        assert loaded.flags.writeable
        assert not np.shares_memory(loaded, values)
        assert not (isinstance(given, np.ndarray) and np.shares_memory(loaded, given))
        loaded += 1
    np.testing.assert_array_equal(values, VALUES)
    np.testing.assert_array_equal(to_numpy(given), VALUES)


@pytest.mark.parametrize("kind", MAKERS)
def test_a_backend_takes_any_array(kind: str, backend: Any, tmp_path: Path) -> None:
    """Of its own library as it is, where it already is one; of any other a copy."""
    values = VALUES.copy()
    given = MAKERS[kind](values, tmp_path)
    array = backend.asarray(given, "float32")
    np.testing.assert_array_equal(backend.to_numpy(array), VALUES, strict=True)
    if not backend.owns(given):
        assert not np.shares_memory(to_numpy(array), values)


def test_what_numpy_cannot_read_is_named() -> None:
    torch = need("torch")
    given = ByDLPack(torch.ones(3, dtype=torch.bfloat16))
    with pytest.raises(TypeError, match="x must be an array that NumPy can read, not this ByDLPack: "):
        rr.get_backend("numpy").asarray(given)
