"""The files that Keras keeps models in: what a file says of the model, and its arrays."""

from __future__ import annotations

import errno
import json
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from recurray import files
from recurray.convert.keras.hdf5 import EXPANSION, FREE, SIGNATURE, Hdf5
from recurray.files import FormatError
from recurray.messages import shown

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
MOST_CONFIG = 2**26  # bytes


@dataclass(frozen=True)
class Container:
    """What a file of Keras holds.

    Attributes
    ----------
    architecture : object or None
        The model in Keras's JSON; None in a file of weights alone.
    version : str or None
        Which Keras wrote it; None where the file doesn't tell.
    arrays : Hdf5
        Where the arrays are.
    root : str
        The group that they are in.
    """

    architecture: Any
    version: str | None
    arrays: Hdf5
    root: str

    @property
    def by_names(self) -> bool:
        """Whether arrays are kept by the layers' names, as up to Keras 2, rather than by their places."""
        return self.arrays.texts(self.root, "layer_names") is not None

    def groups(self) -> list[str]:
        """What the file calls its layers."""
        names = self.arrays.texts(self.root, "layer_names")
        return self.arrays.names("layers") if names is None else names


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Container]:
    """Open a ``.keras``, a ``.h5`` or a ``.weights.h5``; which it is, is told by its content."""
    with files.reading(path), files.open_file(Path(path)) as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(len(SIGNATURE))
        file.seek(0)
        if start == SIGNATURE:
            yield _of_hdf5(Hdf5(file.read(size)))
        elif start.startswith(b"PK\x03\x04"):
            config, metadata, weights = _unzipped(file, size)
            version = _parsed(METADATA, metadata)
            yield Container(
                _parsed(CONFIG, config),
                version.get("keras_version") if isinstance(version, dict) else None,
                Hdf5(weights),
                "",
            )
        else:
            raise FormatError("it is neither a .keras file (a zip) nor an .h5 file (HDF5)")


def _of_hdf5(arrays: Hdf5) -> Container:
    text = arrays.text("", "model_config")
    root = "" if text is None else "model_weights"
    version = arrays.text("", "keras_version") or arrays.text(root, "keras_version")
    return Container(None if text is None else _parsed("model_config", text), version, arrays, root)


def _unzipped(file: BinaryIO, size: int) -> tuple[bytes, bytes, bytes]:
    """The parts of a .keras file, none of which is unpacked beyond what a file of this size may hold."""
    found = []
    try:
        with zipfile.ZipFile(file) as archive:
            for name, most in ((CONFIG, MOST_CONFIG), (METADATA, MOST_CONFIG), (WEIGHTS, FREE + EXPANSION * size)):
                try:
                    entry = archive.getinfo(name)
                except KeyError:
                    there = ", ".join(shown(other) for other in archive.namelist()[:8])
                    raise FormatError(f"it has no {name}; it has {there or 'nothing'}") from None
                if entry.file_size > most:
                    raise FormatError(f"{name} is far larger than its file")
                with archive.open(entry) as part:
                    data = part.read(entry.file_size + 1)
                    if len(data) != entry.file_size or part.read(1):
                        raise FormatError(f"{name} is damaged: it isn't as long as the file says")
                found.append(data)
    except FormatError:
        raise
    except MemoryError as error:
        raise FormatError("it is too large for this machine's memory") from error
    except Exception as error:  # zipfile's errors are of a dozen kinds
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # which is a place before the file's beginning
            raise
        raise FormatError(f"it can't be unpacked: {error or type(error).__name__}") from error
    config, metadata, weights = found
    return config, metadata, weights


def _parsed(name: str, text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{name} isn't JSON: {error}") from error
