"""The safetensors format: named arrays, and text about them, in one file.

Eight bytes say how long the header is, a JSON object with each array's type, shape and place in the bytes behind it.
https://huggingface.co/docs/safetensors has the format; `serialized` writes the bytes that its own library does.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from recurray.files import FormatError, open_file

Arrays = dict[str, NDArray[Any]]

METADATA = "__metadata__"
HEADER_LIMIT = 100_000_000  # bytes, the format's own
MOST_AXES = 32
# By the format's names, in the order in which its library writes arrays. NumPy has no bfloat16: it is read as float32.
DTYPES = {
    "U64": "<u8",
    "I64": "<i8",
    "F64": "<f8",
    "F32": "<f4",
    "U32": "<u4",
    "I32": "<i4",
    "BF16": "<u2",
    "F16": "<f2",
    "U16": "<u2",
    "I16": "<i2",
    "I8": "|i1",
    "U8": "|u1",
    "BOOL": "|b1",
}
NAMES = {np.dtype(code).newbyteorder("="): name for name, code in DTYPES.items() if name != "BF16"}


@dataclass(frozen=True)
class Entry:
    """An array as the header tells of it: its type, its shape, and where its bytes begin and end."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    """What stands before the arrays: their entries by name, texts by name, and the header's own bytes."""

    entries: dict[str, Entry]
    metadata: dict[str, str]
    text: bytes

    @property
    def data_begins(self) -> int:
        """Where in the file the arrays' bytes begin."""
        return 8 + len(self.text)

    def is_canonical(self) -> bool:
        """Whether the bytes are just those that the content is written as, so that none of them can have changed."""
        return _padded(_dump(_parsed(self.text))) == self.text


def serialized(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> bytes:
    """Return the bytes of a file.

    Parameters
    ----------
    arrays : mapping of str to numpy.ndarray
        The arrays, in whatever order of memory and bytes.
    metadata : mapping of str to str
        Texts.

    Raises
    ------
    TypeError
        The format has no such type of array.
    """
    order = list(DTYPES)
    types: dict[str, str] = {}
    for name, array in arrays.items():
        known = NAMES.get(array.dtype.newbyteorder("="))
        if known is None:
            raise TypeError(f"a safetensors file has no place for the {array.dtype} of {name!r}")
        types[name] = known
    header: dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
    blocks, end = [], 0
    for name in sorted(arrays, key=lambda name: (order.index(types[name]), name)):
        block = np.array(arrays[name], DTYPES[types[name]], order="C").tobytes()
        header[name] = {
            "dtype": types[name],
            "shape": list(arrays[name].shape),
            "data_offsets": [end, end + len(block)],
        }
        blocks.append(block)
        end += len(block)
    text = _padded(_dump(header))
    return b"".join([len(text).to_bytes(8, "little"), text, *blocks])


def read(path: str | Path, header_limit: int = HEADER_LIMIT) -> tuple[Arrays, dict[str, str]]:
    """Read the arrays and texts of a file.

    Memory is only taken for what the file holds, once its header is known to tell of just that.

    Parameters
    ----------
    path : path-like
        The file.
    header_limit : int
        The most bytes that its header may have.

    Returns
    -------
    arrays : dict of str to numpy.ndarray
        The arrays, read-only; bfloat16 as float32, which holds each of its numbers.
    metadata : dict of str to str
        The texts.

    Raises
    ------
    FormatError
        It isn't a safetensors file, or is damaged.
    OSError
        It can't be read.
    """
    with open_file(path) as file:
        header = read_header(file, path, header_limit)
        return read_arrays(file, path, header), header.metadata


def read_header(file: BinaryIO, path: str | Path, limit: int = HEADER_LIMIT) -> Header:
    """Read and check the header of an open file; ``path`` is for messages. Raises what `read` does."""
    size = os.fstat(file.fileno()).st_size
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length > min(limit, size - 8):
        raise FormatError(f"{path} isn't a safetensors file, or is cut short")
    text = file.read(length)
    try:
        content = _parsed(text)
        metadata = content.pop(METADATA, {})
        if not (isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())):
            raise ValueError(f"{METADATA} isn't texts by name")
        entries = {name: _entry(name, given) for name, given in content.items()}
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path} isn't a safetensors file, or is damaged: {error}") from error
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != end:
            raise FormatError(f"{path} is damaged: the array {name!r} begins at {entry.begin}, not at {end}")
        end = entry.end
    header = Header(entries, metadata, text)
    if header.data_begins + end != size:
        raise FormatError(f"{path} is damaged: its size isn't what its header says")
    return header


def read_arrays(file: BinaryIO, path: str | Path, header: Header) -> Arrays:
    """Read the arrays behind a header; see `read`."""
    length = max((entry.end for entry in header.entries.values()), default=0)
    try:
        data = file.read(length)
    except MemoryError as error:
        raise FormatError(f"{path} is too large for this machine's memory") from error
    if len(data) != length:
        raise FormatError(f"{path} was cut short while it was read")
    return {name: _array(entry, data) for name, entry in header.entries.items()}


def _array(entry: Entry, data: bytes) -> NDArray[Any]:
    count = math.prod(entry.shape)
    array = np.frombuffer(data, DTYPES[entry.dtype], count, entry.begin) if count else np.zeros(0, DTYPES[entry.dtype])
    if entry.dtype == "BF16":  # the upper half of a float32
        array = (array.astype("<u4") << 16).view("<f4")
    array = array.reshape(entry.shape).astype(array.dtype.newbyteorder("="), copy=False)
    array.flags.writeable = False
    return array


def _entry(name: str, given: Any) -> Entry:
    if not isinstance(given, dict) or set(given) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"the array {name!r} has other entries than dtype, shape and data_offsets")
    dtype, shape, offsets = given["dtype"], given["shape"], given["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"the array {name!r} is of an unknown type, {str(dtype)[:20]!r}")
    if not (_sizes(shape) and len(shape) <= MOST_AXES):
        raise ValueError(f"the array {name!r} has no shape")
    if not (_sizes(offsets) and len(offsets) == 2):
        raise ValueError(f"the array {name!r} has no offsets")
    begin, end = offsets
    if math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize != end - begin:
        raise ValueError(f"the array {name!r} has the bytes of another shape")
    if math.prod(size for size in shape if size) >= 2**48:  # where one is 0 the others count too, for NumPy
        raise ValueError(f"the array {name!r} has a shape beyond all memory")
    return Entry(dtype, tuple(shape), begin, end)


def _sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**63 for value in values)


def _parsed(text: bytes) -> dict[str, Any]:
    """Read the header as JSON, in which no name stands twice."""

    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) != len(pairs):
            raise ValueError("a name stands twice")
        return dict(pairs)

    content = json.loads(text.decode("utf-8"), object_pairs_hook=distinct)
    if not isinstance(content, dict):
        raise ValueError("its header isn't an object")
    return content


def _dump(content: Any) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def _padded(text: bytes) -> bytes:
    """The header's text, so long that the arrays begin at a multiple of 8."""
    return text + b" " * (-len(text) % 8)
