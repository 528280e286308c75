"""Arrays and metadata in one safetensors file: written whole or not at all, and verified when it is read.

The file's metadata holds a single entry, a JSON document with a SHA-256 of each array (name, type, shape and bytes)
and one of the document itself, because the format has no checksum of its own. One file holds everything, so that
what belongs together can't be from different times; a single entry also makes equal contents equal bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from recurray import files
from recurray.language_model.errors import CheckpointError

Tensors = dict[str, NDArray[Any]]

_ENTRY = "recurray"
_VERSION = 1
_HEADER_LIMIT = 8 * 2**20  # bytes; it has names, shapes and a vocabulary
_DTYPES = ("float32", "float64", "int32", "int64", "uint8", "bool")


def save(path: str | Path, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any]) -> None:
    """Write arrays and metadata to one file, replacing a former one only when the new one is complete on the disk.

    See `recurray.files.Destination` for what holds at every moment, also of a crash or a kill.

    Parameters
    ----------
    path : path-like
        Where to; a symbolic link is followed.
    tensors : mapping of str to numpy.ndarray
        The arrays; their memory order doesn't matter.
    metadata : mapping of str to JSON values
        Anything that JSON can hold, except infinities and NaN.

    Raises
    ------
    CheckpointError
        The file can't be written (no space, no permission, no such directory, another process is writing it, ...); a
        former one is untouched.
    TypeError, ValueError
        An array's type or a metadata value can't be stored.
    ImportError
        safetensors isn't installed.

    Examples
    --------
    >>> import tempfile, os
    >>> import numpy as np
    >>> from recurray.language_model import checkpoint
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.safetensors")
    ...     checkpoint.save(path, {"weight": np.eye(2)}, {"step": 3})
    ...     checkpoint.load(path)
    ({'weight': array([[1., 0.],
           [0., 1.]])}, {'step': 3})
    """
    write(path, serialized(tensors, metadata))


def write(path: str | Path, data: bytes) -> None:
    """Write what `serialized` made; see `save`."""
    with Writer(path) as writer:
        writer.write(data)


class Writer:
    """A checkpoint file that is this process's to write while the writer is entered.

    Raises
    ------
    CheckpointError
        From any method: the file can't be written, or on entering, another process is writing it.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = path
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
                kept = "; the former checkpoint is untouched"
            message = f"can't write the checkpoint {self._path}: {files.reason(error)}{kept}"
            raise CheckpointError(message) from error


def serialized(tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any]) -> bytes:
    """Return the bytes of a checkpoint; see `save`."""
    from safetensors.numpy import save as serialize

    # Contiguous copies: safetensors stores the bytes of strided and transposed arrays in the wrong order. (And
    # np.ascontiguousarray would turn a number into an array of one dimension.) Little-endian, as in the file.
    arrays = {name: np.array(value, value.dtype.newbyteorder("<"), order="C") for name, value in tensors.items()}
    for name, array in arrays.items():
        if array.dtype.name not in _DTYPES:
            raise TypeError(f"{name}: expected an array of {', '.join(_DTYPES)}, got {array.dtype}")
    content = {
        "version": _VERSION,
        "metadata": dict(metadata),
        "tensors": {name: _digest(name, array) for name, array in arrays.items()},
    }
    document = _canonical({"content": content, "sha256": _json_digest(content)})
    data: bytes = serialize(arrays, metadata={_ENTRY: document})
    if int.from_bytes(data[:8], "little") > _HEADER_LIMIT:
        raise CheckpointError(f"names and metadata are too long: a checkpoint has {_HEADER_LIMIT:,} bytes for them")
    return data


def load(path: str | Path) -> tuple[Tensors, dict[str, Any]]:
    """Read and verify what `save` wrote.

    Everything is checked before it is used, nothing is unpickled, and memory is only taken for what the file holds: its
    arrays are read once its header is known to be that of a checkpoint.

    Returns
    -------
    tensors : dict of str to numpy.ndarray
        The arrays, read-only.
    metadata : dict
        The metadata.

    Raises
    ------
    CheckpointError
        The file can't be read, isn't a checkpoint, or is damaged.
    ImportError
        safetensors isn't installed.
    """
    from safetensors.numpy import load as deserialize

    data, content = _read(path)
    try:
        tensors = deserialize(data)
    except Exception as error:  # among them a bare KeyError and the library's own type, which derives from Exception
        raise CheckpointError(f"{path} is damaged: {error or type(error).__name__}") from error
    for name, array in tensors.items():
        if _digest(name, array) != content["tensors"][name]:
            raise CheckpointError(f"{path} is damaged: the array {name!r} has changed since it was written")
    metadata: dict[str, Any] = content["metadata"]
    return tensors, metadata


def _read(path: str | Path) -> tuple[bytes, dict[str, Any]]:
    """Return the file's bytes and its content by the header, which is verified before the arrays are read."""
    try:
        with files.open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(8)
            length = int.from_bytes(start, "little")
            if len(start) < 8 or length > min(_HEADER_LIMIT, size - 8):
                raise CheckpointError(f"{path} isn't a checkpoint, or is cut short")
            text = file.read(length)
            header = _parse(path, text)
            content = _content(path, header)
            if set(header) - {"__metadata__"} != set(content["tensors"]):
                raise CheckpointError(f"{path} is damaged: its arrays aren't the ones it was written with")
            rest = _data_length(path, header)
            if 8 + length + rest != size:
                raise CheckpointError(f"{path} is damaged: its size isn't what its header says")
            return start + text + file.read(rest), content
    except OSError as error:
        raise CheckpointError(f"can't read the checkpoint {path}: {files.reason(error)}") from error
    except MemoryError as error:
        raise CheckpointError(f"{path} is too large for this machine's memory") from error


def _parse(path: str | Path, text: bytes) -> dict[str, Any]:
    """Read the header as JSON, in which no name stands twice."""

    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) != len(pairs):
            raise ValueError("a name stands twice")
        return dict(pairs)

    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=distinct)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} isn't a checkpoint, or is damaged: {error}") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path} isn't a checkpoint, or is damaged: its header isn't an object")
    return header


def _data_length(path: str | Path, header: dict[str, Any]) -> int:
    """How many bytes of arrays the header announces: where the last one ends."""
    end = 0
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
        if not (isinstance(offsets, list) and len(offsets) == 2 and all(type(offset) is int for offset in offsets)):
            raise CheckpointError(f"{path} is damaged: no offsets for the array {name!r}")
        end = max(end, offsets[1])
    return end


def _content(path: str | Path, header: dict[str, Any]) -> dict[str, Any]:
    """Return the verified JSON document in the header."""
    entries = header.get("__metadata__")
    document = entries.get(_ENTRY) if isinstance(entries, dict) else None
    if not isinstance(document, str):
        raise CheckpointError(f"{path} is a safetensors file, but no checkpoint of recurray")
    try:
        outer = json.loads(document)
        content = outer["content"]
        intact = _json_digest(content) == outer["sha256"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: its metadata can't be read") from error
    if not intact:
        raise CheckpointError(f"{path} is damaged: its metadata has changed since it was written")
    if not isinstance(content, dict) or content.get("version") != _VERSION:
        raise CheckpointError(f"{path} was written by another version of recurray, in a format this one doesn't know")
    if not (isinstance(content.get("tensors"), dict) and isinstance(content.get("metadata"), dict)):
        raise CheckpointError(f"{path} is damaged: its metadata is incomplete")
    return content


def _digest(name: str, array: NDArray[Any]) -> str:
    sha256 = hashlib.sha256(f"{name} {array.dtype.name} {array.shape} ".encode())
    sha256.update(array.tobytes())
    return sha256.hexdigest()


def _json_digest(content: Any) -> str:
    return hashlib.sha256(_canonical(content).encode()).hexdigest()


def _canonical(content: Any) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
