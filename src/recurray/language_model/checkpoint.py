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
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurray.language_model.errors import CheckpointError

Tensors = dict[str, NDArray[Any]]

_ENTRY = "recurray"
_VERSION = 1
_HEADER_LIMIT = 100_000_000  # safetensors' own
_DTYPES = ("float32", "float64", "int32", "int64", "uint8", "bool")


def save(path: str | Path, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any]) -> None:
    """Write arrays and metadata to one file, replacing a former one only when the new one is complete on the disk.

    The bytes go to a temporary file in the same directory, are flushed to the disk, and are then renamed into place: at
    every moment, also of a crash or a kill, ``path`` is the whole former file or the whole new one. If writing
    fails, the temporary file is removed and the former file is untouched; only a kill can leave it behind.

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
        The file can't be written (no space, no permission, no such directory, ...).
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
    _replace(Path(path), serialize(arrays, metadata={_ENTRY: document}))


def load(path: str | Path) -> tuple[Tensors, dict[str, Any]]:
    """Read and verify what `save` wrote.

    Everything is checked before it is used, nothing is unpickled, and memory is only taken for what the file holds.

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

    data, header = _read(Path(path))
    content = _content(path, header)
    listed = set(header) - {"__metadata__"}
    if listed != set(content["tensors"]):
        raise CheckpointError(f"{path} is damaged: its arrays aren't the ones it was written with")
    try:
        tensors = deserialize(data)
    except Exception as error:  # among them a bare KeyError and the library's own type, which derives from Exception
        raise CheckpointError(f"{path} is damaged: {error or type(error).__name__}") from error
    for name, array in tensors.items():
        if _digest(name, array) != content["tensors"][name]:
            raise CheckpointError(f"{path} is damaged: the array {name!r} has changed since it was written")
    metadata: dict[str, Any] = content["metadata"]
    return tensors, metadata


def check_writable(path: str | Path) -> None:
    """Find out, before any work, whether a checkpoint could be written to ``path``.

    Raises
    ------
    CheckpointError
        No file can be made there.
    """
    path = _target(Path(path))
    temporary = _temporary(path)
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        temporary.touch(exist_ok=False)
        temporary.unlink()
    except OSError as error:
        raise CheckpointError(f"can't write the checkpoint {path}: {error.strerror or error}") from error


def _replace(path: Path, data: bytes) -> None:
    """Put ``data`` into the file ``path`` as a whole, or leave it as it was."""
    path = _target(path)
    temporary = _temporary(path)
    kept = ""
    try:
        kept = "; the former checkpoint is untouched" if path.exists() else ""
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:  # KeyboardInterrupt too
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CheckpointError(f"can't write the checkpoint {path}: {error.strerror or error}{kept}") from error
    _flush_directory(path.parent)


def _target(path: Path) -> Path:
    """The file itself where ``path`` is a symbolic link to it, since replacing the link would leave the file behind.

    What is neither a file nor a directory is refused: /dev/null would become a file, where the user may do that.
    """
    try:
        target = path.resolve()
        if target.exists() and not (target.is_file() or target.is_dir()):
            raise CheckpointError(f"can't write the checkpoint {path}: it is there, but isn't a file")
        return target
    except (OSError, RuntimeError) as error:  # links in a circle
        raise CheckpointError(f"can't write the checkpoint {path}: {error}") from error


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def _flush_directory(path: Path) -> None:
    """Make the renaming itself last through a power cut, where the system can."""
    if os.name != "posix":
        return
    try:
        directory = os.open(path, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        # The new file is complete and in place; some file systems just can't flush a directory.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM):
            raise CheckpointError(
                f"the checkpoint was written, but {path} can't be flushed: {error.strerror}"
            ) from error


def _read(path: Path) -> tuple[bytes, dict[str, Any]]:
    """Return the file's bytes and its header, once the header fits the file's size."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):  # reading a device might never end
                raise CheckpointError(f"can't read the checkpoint {path}: it isn't a file")
            start = file.read(8)
            length = int.from_bytes(start, "little")
            if len(start) < 8 or length > min(_HEADER_LIMIT, status.st_size - 8):
                raise CheckpointError(f"{path} isn't a checkpoint, or is cut short")
            text = file.read(length)
            header = _parse(path, text)
            if 8 + length + _data_length(path, header) != status.st_size:
                raise CheckpointError(f"{path} is damaged: its size isn't what its header says")
            data = start + text + file.read()
    except OSError as error:
        raise CheckpointError(f"can't read the checkpoint {path}: {error.strerror or error}") from error
    except ValueError as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"can't read the checkpoint {path}: {error}") from error  # a NUL in the name
    return data, header


def _parse(path: Path, text: bytes) -> dict[str, Any]:
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


def _data_length(path: Path, header: dict[str, Any]) -> int:
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
