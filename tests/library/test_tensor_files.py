"""The safetensors format, beside its own library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness.needs import need
from recurray import tensor_files

TYPES = (
    "float64",
    "float32",
    "float16",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint64",
    "uint32",
    "uint16",
    "uint8",
    "bool",
)


@pytest.fixture
def arrays() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    found = {f"of {name}": (8 * rng.standard_normal((3, 2))).astype(name) for name in TYPES}
    return found | {"ü": np.float32(2.5), "empty": np.zeros((0, 4)), "turned": np.arange(6.0).reshape(2, 3).T}


def test_the_bytes_are_those_of_the_library(arrays: dict[str, Any]) -> None:
    save = need("safetensors.numpy").save
    given = {name: np.array(value, order="C") for name, value in arrays.items()}
    for metadata in ({}, {"a": 'with "quotes" and \\ and ü'}):
        assert tensor_files.serialized(given, metadata) == save(given, metadata=metadata or None)


def test_what_the_library_writes_is_read(arrays: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "x"
    given = {name: np.array(value, order="C") for name, value in arrays.items()}
    path.write_bytes(need("safetensors.numpy").save(given, metadata={"a": "b"}))
    found, metadata = tensor_files.read(path)
    assert metadata == {"a": "b"}
    assert set(found) == set(given)
    for name, value in given.items():
        np.testing.assert_array_equal(found[name], value, strict=True)
        assert not found[name].flags.writeable


def test_bfloat16_is_read_as_float32(tmp_path: Path) -> None:
    torch, save_file = need("torch"), need("safetensors.torch").save_file
    given = torch.randn(5, 3, generator=torch.manual_seed(0)).bfloat16()
    save_file({"a": given}, tmp_path / "x")
    found, _ = tensor_files.read(tmp_path / "x")
    np.testing.assert_array_equal(found["a"], given.float().numpy(), strict=True)


def test_other_types_are_named(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="a safetensors file has no place for the complex128 of 'a'"):
        tensor_files.serialized({"a": np.ones(2, dtype=complex)}, {})
    text = b'{"a":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}'
    (tmp_path / "x").write_bytes(len(text).to_bytes(8, "little") + text + b"x")
    with pytest.raises(rr.FormatError, match="the array 'a' is of an unknown type, 'F8_E4M3'"):
        tensor_files.read(tmp_path / "x")
