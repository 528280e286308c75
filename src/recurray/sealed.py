"""Arrays and metadata in one safetensors file: written whole or not at all, and verified when it is read.

The file's metadata holds a single entry, a JSON document with a SHA-256 of each array (name, type, shape and bytes)
and one of the document itself, because the format has no checksum of its own. One file holds everything, so that
what belongs together can't be from different times; a single entry also makes equal contents equal bytes.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from recurray import files, tensor_files
from recurray.files import FormatError
from recurray.tensor_files import Arrays, Header

KIND = "file"  # what errors call it where nobody says better
ENTRY = "recurray"
VERSION = 1
HEADER_LIMIT = 8 * 2**20  # bytes; it has names, shapes and a vocabulary
DTYPES = ("float32", "float64", "int32", "int64", "uint8", "bool")


class Writer:
    """A file that is this process's to write while the writer is entered.

    Raises
    ------
    OSError
        From any method: the file can't be written, or on entering, another process is writing it; as the system's
        error, whose text says which file it is and whether a former one is untouched.
    """

    def __init__(self, path: str | Path, kind: str = KIND) -> None:
        self._path, self._kind = path, kind
        with self._errors():
            self._destination = files.Destination(path)

    def __enter__(self) -> Self:
        with self._errors():
            self._destination.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._destination.__exit__()

    def check(self, data: bytes) -> None:
        """Find out, before any work, whether `write` will succeed: do all that it does, but leave the file as it is."""
        with self._errors():
            self._destination.check(len(data))

    def write(self, data: bytes) -> None:
        """Put what `serialized` made into the file, or leave it as it was."""
        with self._errors():
            self._destination.replace(data)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            kept = ""
            if not isinstance(error, files.FileError) and os.path.isfile(self._path):  # noqa: PTH113 - never raises
                kept = f"; the former {self._kind} is untouched"
            message = f"can't write the {self._kind} {self._path}: {files.reason(error)}{kept}"
            raise OSError(error.errno or errno.EIO, message) from error


def serialized(tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any], kind: str = KIND) -> bytes:
    """Return the bytes of a file.

    Parameters
    ----------
    tensors : mapping of str to numpy.ndarray
        The arrays; their memory order doesn't matter.
    metadata : mapping of str to JSON values
        Anything that JSON can hold, except infinities and NaN.
    kind : str
        What errors call it: "checkpoint", say.

    Raises
    ------
    TypeError, ValueError
        An array's type or a metadata value can't be stored.
    FormatError
        Names and metadata are too long.
    """
    # Native contiguous copies, of which the bytes are the file's where the machine is little-endian.
    # (np.ascontiguousarray would turn a number into an array of one dimension.)
    arrays = {name: np.array(value, value.dtype.newbyteorder("<"), order="C") for name, value in tensors.items()}
    for name, array in arrays.items():
        if array.dtype.name not in DTYPES:
            raise TypeError(f"{name}: expected an array of {', '.join(DTYPES)}, got {array.dtype}")
    content = {
        "version": VERSION,
        "metadata": dict(metadata),
        "tensors": {name: _digest(name, array) for name, array in arrays.items()},
    }
    document = _canonical({"content": content, "sha256": _json_digest(content)})
    data = tensor_files.serialized(arrays, {ENTRY: document})
    if int.from_bytes(data[:8], "little") > HEADER_LIMIT:
        raise FormatError(f"names and metadata are too long: a {kind} has {HEADER_LIMIT:,} bytes for them")
    return data


def load(path: str | Path, kind: str = KIND) -> tuple[Arrays, dict[str, Any]]:
    """Read and verify what `serialized` made.

    Everything is checked before it is used, nothing is unpickled, and memory is only taken for what the file holds: its
    arrays are read once its header is known to be that of such a file.

    Returns
    -------
    tensors : dict of str to numpy.ndarray
        The arrays, read-only.
    metadata : dict
        The metadata.

    Raises
    ------
    FormatError
        The file isn't one of this kind, or is damaged: any bit that isn't as it was written.
    OSError
        It can't be read; as the system's error, whose text says which file it is.
    """
    with _opened(path, kind) as file:
        header, content = _read_header(file, path, kind)
        tensors = tensor_files.read_arrays(file, path, header)
    for name, array in tensors.items():
        if _digest(name, array) != content["tensors"][name]:
            raise FormatError(f"{path} is damaged: the array {name!r} has changed since it was written")
    if not header.is_canonical():  # a space that has become a tab, say
        raise FormatError(f"{path} is damaged: its header has changed since it was written")
    metadata: dict[str, Any] = content["metadata"]
    return tensors, metadata


def load_metadata(path: str | Path, kind: str = KIND) -> tuple[Header, dict[str, Any]]:
    """Read and verify the header alone: what arrays there are, and the metadata; see `load`."""
    with _opened(path, kind) as file:
        header, content = _read_header(file, path, kind)
    metadata: dict[str, Any] = content["metadata"]
    return header, metadata


@contextmanager
def _opened(path: str | Path, kind: str) -> Iterator[Any]:
    with files.reading(path, f"the {kind}"), files.open_file(path) as file:
        yield file


def _read_header(file: Any, path: str | Path, kind: str) -> tuple[Header, dict[str, Any]]:
    try:
        header = tensor_files.read_header(file, path, HEADER_LIMIT)
    except FormatError as error:
        raise FormatError(str(error).replace("isn't a safetensors file", f"isn't a {kind}")) from error
    content = _content(path, header, kind)
    if set(header.entries) != set(content["tensors"]):
        raise FormatError(f"{path} is damaged: its arrays aren't the ones it was written with")
    return header, content


def _content(path: str | Path, header: Header, kind: str) -> dict[str, Any]:
    """Return the verified JSON document in the header."""
    document = header.metadata.get(ENTRY)
    if document is None:
        raise FormatError(f"{path} is a safetensors file, but no {kind} of recurray's")
    try:
        outer = json.loads(document)
        content = outer["content"]
        intact = _json_digest(content) == outer["sha256"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise FormatError(f"{path} is damaged: its metadata can't be read") from error
    if not intact or _canonical(outer) != document:
        raise FormatError(f"{path} is damaged: its metadata has changed since it was written")
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise FormatError(f"{path} was written by another version of recurray, in a format this one doesn't know")
    if not (isinstance(content.get("tensors"), dict) and isinstance(content.get("metadata"), dict)):
        raise FormatError(f"{path} is damaged: its metadata is incomplete")
    return content


def _digest(name: str, array: NDArray[Any]) -> str:
    sha256 = hashlib.sha256(f"{name} {array.dtype.name} {array.shape} ".encode())
    sha256.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return sha256.hexdigest()


def _json_digest(content: Any) -> str:
    return hashlib.sha256(_canonical(content).encode()).hexdigest()


def _canonical(content: Any) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
