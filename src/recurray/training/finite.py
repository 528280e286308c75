"""NaN and infinity in x, found and said by row and step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recurray.arrays import on_host, to_numpy


def check_row(name: str, what: str, row: Any) -> None:
    """Refuse NaN and infinity in a row of its own."""
    if isinstance(row, np.ndarray) and row.dtype.kind == "f" and not np.isfinite(row).all():
        step = int(np.argwhere(~np.isfinite(row))[0, 0])
        raise ValueError(f"{name}: {what} holds {row[step].ravel()[~np.isfinite(row[step].ravel())][0]} in step {step}")


def check_finite(name: str, arrays: Mapping[str, Any], batch_first: bool) -> None:
    """Refuse NaN and infinity in steps that are valid, where that takes no reading of files or of a device."""
    x = arrays["x"]
    if not isinstance(x, np.ndarray) or isinstance(x, np.memmap) or x.dtype.kind != "f" or np.isfinite(x).all():
        return
    found = not_finite(x, arrays.get("lengths"), arrays.get("mask"), batch_first)
    if found is not None:
        raise ValueError(f"{name}: x holds {found}: leave such steps out by lengths or a mask, or fill them in")


def not_finite(x: Any, lengths: Any, mask: Any, batch_first: bool) -> str | None:
    """Say what the first value is that is NaN or infinite in a valid step of the host's array, and where."""
    if not on_host(x):
        return None
    x = to_numpy(x)
    if x.dtype.kind != "f":
        return None
    rows = x if batch_first or x.ndim < 2 else x.swapaxes(0, 1)
    bad = ~np.isfinite(rows)
    if rows.ndim > 1:
        if lengths is not None:
            bad[np.arange(rows.shape[1]) >= np.asarray(lengths)[:, None]] = False
        elif mask is not None:
            bad[~(mask if batch_first else mask.T)] = False
    if not bad.any():
        return None
    place = tuple(int(i) for i in np.argwhere(bad)[0])
    return f"{rows[place]} in row {place[0]}" + (f", step {place[1]}" if rows.ndim > 2 else "")
