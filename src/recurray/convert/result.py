"""What a conversion gives."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from recurray import checks
from recurray.layers import Layer
from recurray.selector import get_backend


@dataclass(frozen=True)
class Converted:
    """A model that was read from a file of another library.

    Attributes
    ----------
    model : Layer
        What was made: one layer, or a `recurray.Sequential`.
    before, after : tuple of str
        The names, in the file, of what stands before it and after it there and isn't in it.
    report : str
        In words: what was read, what it was taken for, and what whoever uses it has to do themselves.

    Examples
    --------
    >>> import recurray as rr
    >>> from recurray import convert
    >>> convert.Converted(rr.Linear(3, 2, seed=0), ("features",), (), "head: Linear(3, 2)").before
    ('features',)
    """

    model: Layer
    before: tuple[str, ...]
    after: tuple[str, ...]
    report: str


def check_path(path: Any) -> None:
    """Check that this is a path, before anything is looked for there."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path must be a text or a path, not {type(path).__name__}")


def made_with(backend: Any, dtype: Any) -> dict[str, Any]:
    """Check what layers are to be made with, before a file is read: its errors aren't the file's."""
    if dtype is not None:
        dtype = checks.float_dtype(dtype)
    return {"backend": None if backend is None else get_backend(backend), "dtype": dtype}
