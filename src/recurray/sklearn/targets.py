"""What a regressor takes for y: numbers for each row, or for each step of each row.

N rows, T steps, K outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.validation import check_array

from recurray.messages import in_words
from recurray.sklearn.sequences import Sequences, check_rows, is_ragged, numbers


@dataclass(frozen=True)
class Targets:
    """Numbers to be learned.

    Attributes
    ----------
    rows : numpy.ndarray or list of numpy.ndarray
        (N, K); with an answer for each step (N, T, K), or N arrays (T, K) where the rows of X are ragged.
    by_step : bool
        Whether there is an answer for each step.
    flat : bool
        Whether they were given without the axis of outputs.
    """

    rows: Any
    by_step: bool
    flat: bool

    def all_rows(self) -> Any:
        """All answers, (answers, K)."""
        return np.concatenate(self.rows) if isinstance(self.rows, list) else self.rows.reshape(-1, self.rows.shape[-1])

    @property
    def form(self) -> str:
        """What they are, in words."""
        return f"{self.rows[0].shape[-1]} {'for each step' if self.by_step else 'for each row'}"


def read_targets(sequences: Sequences, y: Any) -> Targets:
    """Find out of which form y is, and check it against the sequences.

    Raises
    ------
    ValueError, TypeError
        It is of no form that is known, doesn't have an answer for each row or step, or holds NaN.
    """
    if is_ragged(y):
        rows = [_numbers(f"row {number} of y", row) for number, row in enumerate(y)]
        flat = rows[0].ndim == 1
        return _by_step(sequences, rows, flat)
    rows = _numbers("y", y)
    if rows.ndim == 3:
        return _by_step(sequences, list(rows), flat=False)
    if rows.ndim > 3:
        raise ValueError(f"y must be (rows,), (rows, outputs) or (rows, steps, outputs), not {in_words(rows.shape)}")
    check_rows(sequences, "y", len(rows))
    flat = rows.ndim == 1
    return Targets(rows[:, None] if flat else rows, by_step=False, flat=flat)


def _numbers(name: str, given: Any) -> Any:
    if given is None:
        raise ValueError("LSTMRegressor requires y to be passed, but the target y is None")
    with numbers():
        rows = check_array(
            given, ensure_2d=False, allow_nd=True, dtype="float64", ensure_all_finite=False, input_name=name
        )
    if not np.isfinite(rows).all():
        place = np.argwhere(~np.isfinite(rows))[0]
        value = "NaN" if np.isnan(rows[tuple(place)]) else "infinity"
        axes = ("step", "output") if name != "y" else ("row", "output") if rows.ndim < 3 else ("row", "step", "output")
        where = ", ".join(f"{axis} {number}" for axis, number in zip(axes, place, strict=False))
        raise ValueError(f"{name} has {value} in {where}")
    return rows


def _by_step(sequences: Sequences, rows: list[Any], flat: bool) -> Targets:
    check_rows(sequences, "y", len(rows))
    for number, (row, steps) in enumerate(zip(rows, sequences.lengths, strict=True)):
        if row.ndim != rows[0].ndim or row.ndim > 2 or row.shape[1:] != rows[0].shape[1:]:
            raise ValueError(
                f"row {number} of y must be (steps,) or (steps, outputs), as many outputs as in row 0, "
                f"not {in_words(row.shape)}"
            )
        if len(row) != steps:
            raise ValueError(
                f"row {number} of y has {len(row)} steps, but that of X has {steps}: there must be an answer for each "
                "(an array (rows, outputs) has answers for each row)"
            )
    rows = [row[:, None] for row in rows] if flat else rows
    return Targets(rows if sequences.ragged else np.stack(rows), by_step=True, flat=flat)
