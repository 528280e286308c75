"""The tensors in a file of PyTorch's, without PyTorch: `torch.save`'s zip archives and its older form.

Nothing in the file is run. Arrays are read-only views of the file's bytes: whatever the file says, reading
it takes no more memory than a few times its size.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurray import files
from recurray.convert import torch_pickle
from recurray.convert.torch_pickle import TYPES, Storage, Tensor
from recurray.files import FormatError

MOST_BYTES = 2**36  # of a file
_DTYPES = {
    "FloatStorage": "f4",
    "DoubleStorage": "f8",
    "HalfStorage": "f2",
    "BFloat16Storage": "u2",  # its bits; see _widened
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "u1",
}
_DEEPEST, _MOST_NAMES, _LONGEST_NAME = 32, 100_000, 1000
_LEGACY_START = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."  # the pickle of that number
_BROKEN_ZIP = (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, OverflowError, KeyError)

Arrays = dict[str, NDArray[Any]]


def read(path: str | Path) -> Arrays:
    """Read all tensors of a file, by name: those in dictionaries within dictionaries with a dot between.

    Raises
    ------
    FormatError
        It isn't a file that `torch.save` writes, is damaged, or holds anything but tensors, numbers and texts in
        dictionaries and lists.
    OSError
        It can't be opened.
    """
    data = files.read_bytes(path, MOST_BYTES)
    try:
        return _read(data)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error.__cause__


def _read(data: bytes) -> Arrays:
    if data[:2] == b"PK":
        content, bytes_of, order = _archive(data)
    elif data.startswith(_LEGACY_START):
        content, bytes_of, order = _legacy(data)
    else:
        raise FormatError("it isn't a file that torch.save writes: neither a zip archive nor the older form")
    storages: dict[str, NDArray[Any]] = {}

    def elements(storage: Storage) -> NDArray[Any]:
        if storage.key not in storages:
            raw = bytes_of(storage)
            if len(raw) != storage.size * TYPES[storage.kind]:
                raise FormatError(
                    f"storage {storage.key[:50]!r} has {len(raw):,} bytes, where {storage.size:,} elements of "
                    f"{TYPES[storage.kind]} were said"
                )
            values = np.frombuffer(raw, np.dtype(order + _DTYPES[storage.kind]))
            storages[storage.key] = _typed(storage.kind, values)
            kinds[storage.key] = storage.kind, storage.size
        if kinds[storage.key] != (storage.kind, storage.size):
            raise FormatError(f"storage {storage.key[:50]!r} is said to be of two types or sizes")
        return storages[storage.key]

    kinds: dict[str, tuple[str, int]] = {}
    return {name: _viewed(name, tensor, elements) for name, tensor in _named(content)}


def _typed(kind: str, values: NDArray[Any]) -> NDArray[Any]:
    if kind == "BFloat16Storage":
        return widened(values)
    if kind == "BoolStorage":
        return np.asarray(values != 0)
    return values


def widened(bits: NDArray[Any]) -> NDArray[np.float32]:
    """From the bits of bfloat16 numbers to float32, exactly: they are a float32's upper half."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


# The two forms --------------------------------------------------------------------------------------------------------


def _archive(data: bytes) -> tuple[Any, Callable[[Storage], bytes], str]:
    """A zip archive: data.pkl, and a file for each storage; returns content, reader of storages, byte order."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        members = {info.filename: info for info in archive.infolist()}
    except _BROKEN_ZIP as error:
        raise FormatError(f"its zip archive is damaged: {error}") from error
    if sum(info.file_size for info in archive.infolist() if info.compress_type == zipfile.ZIP_STORED) > len(data):
        raise FormatError("its zip archive says that it holds more than the file does")
    names = [name for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(names) != 1:
        raise FormatError(f"its zip archive has {len(names)} files named data.pkl, where torch.save writes one")
    folder = names[0].removesuffix("data.pkl")
    script = any(name.startswith(f"{folder}code/") for name in members)  # TorchScript's: a program, which isn't read

    def member(name: str) -> bytes:
        if name not in members:
            raise FormatError(f"its zip archive has no {name[:100]!r}")
        if members[name].compress_type != zipfile.ZIP_STORED:
            raise FormatError(f"its zip archive has {name[:100]!r} compressed, as PyTorch writes none")
        try:
            return archive.read(members[name])
        except _BROKEN_ZIP as error:
            raise FormatError(f"its zip archive is damaged at {name[:100]!r}: {error}") from error

    orders = {b"little": "<", b"big": ">"}
    said = member(f"{folder}byteorder") if f"{folder}byteorder" in members else b"little"
    if said not in orders:
        raise FormatError(f"its byte order must be little or big, not {said[:20]!r}")
    content = torch_pickle.read(io.BytesIO(member(f"{folder}data.pkl")), script=script)
    return content, lambda storage: member(f"{folder}data/{storage.key}"), orders[said]


def _legacy(data: bytes) -> tuple[Any, Callable[[Storage], bytes], str]:
    """The form before PyTorch 1.6: pickles one after the other, then the storages, each behind its size."""
    file = io.BytesIO(data)
    _, version, system, content, keys = (torch_pickle.read(file) for _ in range(5))
    if version != 1001 or not isinstance(system, dict) or not isinstance(keys, list):
        raise FormatError("it begins as torch.save's older form does, and goes on otherwise")
    order = ">" if system.get("little_endian") is False else "<"
    storages = [tensor.storage for _, tensor in _named(content) if isinstance(tensor.storage, Storage)]
    sizes = {storage.key: TYPES[storage.kind] for storage in storages}
    parts: dict[str, bytes] = {}
    for key in keys:
        if not isinstance(key, str) or key in parts or key not in sizes:
            raise FormatError("its list of storages doesn't fit its tensors")
        count = int.from_bytes(file.read(8), "little" if order == "<" else "big")
        parts[key] = file.read(count * sizes[key]) if count <= len(data) else b""
        if len(parts[key]) != count * sizes[key]:
            raise FormatError("it is cut short")

    def bytes_of(storage: Storage) -> bytes:
        if storage.key not in parts:
            raise FormatError("its list of storages doesn't fit its tensors")
        return parts[storage.key]

    return content, bytes_of, order


# What is in the content -----------------------------------------------------------------------------------------------


def _named(content: Any) -> Iterator[tuple[str, Tensor]]:
    """All tensors in dictionaries and lists, with their names."""
    for name, value in _walk("", content, 0, [0]):
        if isinstance(value, Tensor):
            yield name, value


def _walk(name: str, value: Any, depth: int, count: list[int]) -> Iterator[tuple[str, Any]]:
    count[0] += 1
    if count[0] > _MOST_NAMES or depth > _DEEPEST or len(name) > _LONGEST_NAME:
        raise FormatError(
            f"what it holds goes deeper than {_DEEPEST} dictionaries within each other, has more than {_MOST_NAMES:,} "
            f"entries or names of more than {_LONGEST_NAME} letters"
        )
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    else:
        yield name, value
    for key, inner in items:
        own = key if isinstance(key, str) else repr(key)
        yield from _walk(f"{name}.{own}" if name else own, inner, depth + 1, count)


def _viewed(name: str, tensor: Tensor, elements: Callable[[Storage], NDArray[Any]]) -> NDArray[Any]:
    """A tensor's array: a view of its storage, once what is said of it is known to stay within that."""
    size, stride, offset = tensor.size, tensor.stride, tensor.offset
    numbers = (*size, *stride, offset) if isinstance(size, tuple) and isinstance(stride, tuple) else (None,)
    if (
        not isinstance(tensor.storage, Storage)
        or any(type(number) is not int or number < 0 for number in numbers)
        or len(size) != len(stride)
        or len(size) > 32
    ):
        raise FormatError(f"the tensor {name!r} is described wrongly")
    whole = tensor.storage.size
    count = math.prod(size)
    last = offset + sum((many - 1) * step for many, step in zip(size, stride, strict=True))
    if count and (count > whole or last >= whole):
        raise FormatError(
            f"the tensor {name!r} of shape {str(size)[:100]} doesn't fit its storage of {whole:,} elements, or uses "
            "some of them twice; where it was expanded, save it after contiguous()"
        )
    values = elements(tensor.storage)
    if not count:
        try:
            return np.empty(size, values.dtype)
        except ValueError as error:
            raise FormatError(f"the tensor {name!r} is described wrongly") from error
    strides = [step * values.itemsize if many > 1 else 0 for many, step in zip(size, stride, strict=True)]
    return np.lib.stride_tricks.as_strided(values[offset:], size, strides, writeable=False)
