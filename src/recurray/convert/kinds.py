"""What kind of file a file is."""

from __future__ import annotations

import zipfile
from pathlib import Path

from recurray import files, sealed, tensor_files

HDF5 = b"\x89HDF\r\n\x1a\n"
LEGACY_TORCH = b"\x80\x02\x8a\x0a"
LONGEST_HEADER = 2**40  # of safetensors: JSON would begin with larger bytes
KINDS = {  # in words, by the names of their readers
    "recurray": "recurray",
    "torch": "PyTorch or safetensors",
    "keras": "Keras",
    "onnx": "ONNX",
    "rtneural": "RTNeural",
}


def kind_of(path: str | Path) -> str:
    """Return what wrote a file, by its first bytes: "recurray", "torch", "keras", "rtneural", or else "onnx".

    The reader of that name, `from_torch` and so on, says what is wrong with a file that isn't one after all.

    Raises
    ------
    FormatError
        It looks like a safetensors file, but is none.
    OSError
        It can't be read.

    Examples
    --------
    >>> import os, tempfile
    >>> import recurray as rr
    >>> from recurray.convert import kind_of
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model")
    ...     rr.save(rr.LSTM(3, 5, seed=0), path)
    ...     kind_of(path)
    'recurray'
    """
    with files.reading(path), files.open_file(path) as file:
        start = file.read(4096)
        if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < LONGEST_HEADER:
            file.seek(0)
            return "recurray" if sealed.ENTRY in tensor_files.read_header(file, path).metadata else "torch"
    if start.startswith(b"PK"):
        return "keras" if _has(path, "config.json") else "torch"
    if start.startswith(HDF5):
        return "keras"
    if start.startswith(LEGACY_TORCH):
        return "torch"
    return "rtneural" if start.lstrip()[:1] == b"{" else "onnx"


def _has(path: str | Path, name: str) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return name in archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False
