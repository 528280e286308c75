"""Checkpoints: what `recurray.sealed` writes and reads, with errors that are the language model's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from numpy.typing import NDArray

from recurray import sealed
from recurray.files import FormatError, reason
from recurray.language_model.errors import CheckpointError
from recurray.tensor_files import Arrays as Tensors

_KIND = "checkpoint"


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
    """A checkpoint file that is this process's to write while the writer is entered; see `recurray.sealed.Writer`.

    Raises
    ------
    CheckpointError
        From any method: the file can't be written, or on entering, another process is writing it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        with _errors():
            self._writer = sealed.Writer(path, _KIND)

    def __enter__(self) -> Self:
        with _errors():
            self._writer.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.__exit__()

    def check(self, data: bytes) -> None:
        """Find out, before any work, whether `write` will succeed: do all that it does, but leave the file as it is."""
        with _errors():
            self._writer.check(data)

    def write(self, data: bytes) -> None:
        """Put what `serialized` made into the file, or leave it as it was."""
        with _errors():
            self._writer.write(data)


def serialized(tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any]) -> bytes:
    """Return the bytes of a checkpoint; see `save`."""
    with _errors():
        return sealed.serialized(tensors, metadata, _KIND)


def load(path: str | Path) -> tuple[Tensors, dict[str, Any]]:
    """Read and verify what `save` wrote; see `recurray.sealed.load`.

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
    """
    with _errors():
        return sealed.load(path, _KIND)


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CheckpointError(reason(error)) from error
    except FormatError as error:
        raise CheckpointError(str(error)) from error
