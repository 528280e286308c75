"""The parts of data by their names: what each has to be, and where its rows lie.

N rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recurray.arrays import namespace_of, plain, to_numpy
from recurray.messages import in_words, kind_of, shown
from recurray.training.batch import BY_STEP

NAMES = ("x", "target", "lengths", *BY_STEP, "static", "target_mask")

_ROWS_COMPARED, _BYTES_COMPARED = 64, 2**22  # between ranks, at most


def named(name: str, data: Any) -> dict[str, Any]:
    """The parts of data by their names."""
    if isinstance(data, tuple):
        if len(data) != 2:
            raise ValueError(f"{name} must be (x, target), a tuple of 2, not of {len(data)}: name others in a mapping")
        data = {"x": data[0], "target": data[1]}
    unknown = [part for part in data if part not in NAMES]
    if unknown:
        raise ValueError(f"{name} has an unknown part {shown(unknown[0])}; the known ones are {', '.join(NAMES)}")
    missing = [part for part in ("x", "target") if data.get(part) is None]
    if missing:
        raise ValueError(f"{name} lacks {' and '.join(missing)}")
    if data.get("lengths") is not None and data.get("mask") is not None:
        raise ValueError(f"{name} has lengths and mask: give one of them, which say the same")
    return {part: value for part, value in data.items() if value is not None}


def as_array(name: str, part: str, value: Any) -> Any:
    """Take an array of any library, or a sequence of numbers, as an array; flags and lengths on the host."""
    if part in ("lengths", *BY_STEP, "target_mask"):
        value = to_numpy(value) if hasattr(value, "shape") else np.asarray(value)
        kind, wanted = ("iu", "integers") if part == "lengths" else ("b", "booleans")
        if value.dtype.kind not in kind:
            raise TypeError(f"{name}: {part} must be {wanted}, not {value.dtype}")
        return value
    if not hasattr(value, "shape"):
        try:
            value = np.asarray(value)
        except ValueError as error:
            raise ValueError(f"{name}: {part} must be an array or a list of arrays: {error}") from None
    return plain(part, value)


def axis_of_rows(part: str, value: Any, x: Any, batch_first: bool) -> int:
    """The axis of the rows in a part of data: 1 where time comes first in it, as in ``x``."""
    if batch_first or isinstance(value, (list, tuple)) or np.ndim(value) < 2 or part in ("lengths", "static"):
        return 0
    return 1 if part in ("x", *BY_STEP) or tuple(value.shape[:2]) == tuple(x.shape[:2]) else 0


def take_rows(value: Any, rows: Any, axis: int = 0) -> Any:
    """Take rows of an array, or of a list."""
    if isinstance(value, list):
        return [value[row] for row in (range(len(value))[rows] if isinstance(rows, slice) else rows)]
    if isinstance(value, np.ndarray):
        return np.asarray(value[:, rows] if axis else value[rows])  # of a file that is mapped, an array
    xp = namespace_of(value)
    if isinstance(rows, slice):
        return value[:, rows, ...] if axis else value[rows, ...]
    return xp.take(value, xp.asarray(np.asarray(rows)), axis=axis)


def spread(count: int, size: int) -> Any:
    """The numbers of some rows out of ``count``, which are so many bytes: from the first to the last."""
    some = max(1, min(_ROWS_COMPARED, count, _BYTES_COMPARED * count // max(1, size)))
    return np.linspace(0, count - 1, some).astype(int)


def count_of(name: str, arrays: Mapping[str, Any], batch_first: bool) -> int:
    """How many rows there are: as many in each part."""
    counts = {}
    for part, value in arrays.items():
        shape = (len(value),) if isinstance(value, (list, tuple)) else tuple(np.shape(value))
        if not shape:
            raise ValueError(f"{name}: {part} must be an array with rows, not a number")
        counts[part] = shape[axis_of_rows(part, value, arrays["x"], batch_first)]
    rows = counts["x"]
    for part, count in counts.items():
        if count != rows:
            raise ValueError(f"{name}: x has {rows} rows, but {part} has {count}")
    if not rows:
        raise ValueError(f"{name} is empty: x has the shape {in_words(arrays['x'].shape)}")
    return int(rows)


def check_text(name: str, target: Any) -> None:
    """Refuse labels that are text."""
    if isinstance(target, np.ndarray) and target.dtype.kind in "USO":
        raise TypeError(
            f"{name}: target must be numbers, not {kind_of(target)} of {target.dtype}: "
            "np.unique(target, return_inverse=True) gives each label's number"
        )
