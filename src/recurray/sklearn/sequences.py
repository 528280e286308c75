"""What estimators take for X: sequences in an array, of lengths of their own in a list, or columns as steps.

N rows, T steps, F features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.validation import check_array, validate_data

from recurray.messages import in_words, shown

FORMS = "an array (rows, steps, features), a list of arrays (steps, features), or an array (rows, steps)"


@dataclass(frozen=True)
class Sequences:
    """Rows of steps.

    Attributes
    ----------
    rows : numpy.ndarray or list of numpy.ndarray
        (N, T, F), or N arrays (T, F) of lengths of their own; finite floating-point numbers.
    columns : bool
        Whether they were given as (N, T), one feature a step.
    """

    rows: Any
    columns: bool

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def features(self) -> int:
        """The features of a step."""
        return int(self.rows[0].shape[-1])

    @property
    def ragged(self) -> bool:
        """Whether each row is an array of its own."""
        return isinstance(self.rows, list)

    @property
    def lengths(self) -> list[int]:
        """The rows' steps."""
        return [len(row) for row in self.rows]

    def all_steps(self) -> Any:
        """The steps of all rows, (steps, F)."""
        return np.concatenate(self.rows) if self.ragged else self.rows.reshape(-1, self.features)

    def take(self, rows: Any) -> Sequences:
        """Return some of the rows, by their numbers."""
        return Sequences([self.rows[row] for row in rows] if self.ragged else self.rows[rows], self.columns)


def read(estimator: Any, X: Any, *, reset: bool) -> Sequences:
    """Check X, note its features with the estimator (``reset``), or compare them with those noted.

    Raises
    ------
    ValueError, TypeError
        X isn't of one of the forms, holds something that isn't a finite number, or has other features.
    """
    found = _ragged(X) if is_ragged(X) else _array(estimator, X, reset=reset)
    _check_finite(found)
    if reset:
        estimator._features, estimator._columns = found.features, found.columns
        if not found.columns:
            estimator.n_features_in_ = found.features
            vars(estimator).pop("feature_names_in_", None)
    elif found.features != estimator._features:
        raise ValueError(
            f"X has {found.features} features a step{', being (rows, steps)' if found.columns else ''}, but "
            f"{type(estimator).__name__} is expecting {estimator._features}, as in fit"
        )
    return found


def shape_of(given: Any) -> tuple[int, ...]:
    """The shape of an array, or of what is one once NumPy has seen it."""
    if _is_array(given):
        return tuple(given.shape)
    try:
        return np.asarray(given).shape
    except ValueError as error:
        raise ValueError(f"an array, or what is one, is expected: {error}") from None


@contextmanager
def numbers() -> Iterator[None]:
    """Within this NumPy makes numbers of what was given: what can't be such is refused in its own words."""
    try:
        yield
    except (TypeError, ValueError, OverflowError) as error:
        raise (TypeError if isinstance(error, TypeError) else ValueError)(str(error)) from error


def check_rows(sequences: Sequences, name: str, count: int) -> None:
    """Check that there is one of something for each row."""
    if count != len(sequences):
        raise ValueError(f"X has {len(sequences)} rows, but {name} has {count}: inconsistent numbers of samples")


def is_ragged(X: Any) -> bool:
    """Whether it holds an array for each row, rather than being an array, or nested lists that are one."""
    if isinstance(X, np.ndarray):
        return X.dtype == object and X.ndim == 1 and len(X) > 0 and np.ndim(X[0]) > 0
    if not isinstance(X, (list, tuple)) or not X:
        return False
    if all(_is_array(row) for row in X):
        return any(row.shape for row in X)
    return all(isinstance(row, (list, tuple)) for row in X) and len({len(row) for row in X}) > 1


def _is_array(given: Any) -> bool:
    return isinstance(getattr(given, "shape", None), tuple)


def _ragged(X: Sequence[Any]) -> Sequences:
    """Rows that are arrays of their own."""
    rows: list[Any] = []
    for number, given in enumerate(X):
        try:
            row = np.asarray(given)
        except ValueError:
            raise ValueError(f"row {number} of X must be an array (steps, features), not {shown(given)}") from None
        if row.dtype.kind not in "fiub":
            raise ValueError(f"row {number} of X must be numbers, not {row.dtype}")
        row = row[:, None] if row.ndim == 1 else row
        if row.ndim != 2 or not row.size:
            raise ValueError(
                f"row {number} of X must be an array (steps, features) of at least one step, "
                f"not {in_words(shape_of(given))}"
            )
        if rows and row.shape[1] != rows[0].shape[1]:
            raise ValueError(
                f"row {number} of X has {row.shape[1]} features a step, but row 0 has {rows[0].shape[1]}: each row is "
                f"(steps, features)"
            )
        rows.append(row if row.dtype.kind == "f" else row.astype("float64"))
    return Sequences(rows, columns=False)


def _array(estimator: Any, X: Any, *, reset: bool) -> Sequences:
    """All rows in one array."""
    options = {"dtype": [np.float64, np.float32], "ensure_all_finite": False}
    try:
        shape = shape_of(X)
    except ValueError as error:
        raise ValueError(f"X must be {FORMS}: {error}") from None
    if shape == (0,):
        raise ValueError(f"X has no rows: it must be {FORMS}")
    if len(shape) > 3 or (len(shape) == 3 and 0 in shape):
        raise ValueError(f"X must be {FORMS}, of at least one row, step and feature, not {in_words(shape)}")
    with numbers():
        if len(shape) == 3:
            rows = check_array(X, allow_nd=True, input_name="X", estimator=estimator, **options)
            return Sequences(rows, columns=False)
        if reset or getattr(estimator, "_columns", False):
            X = validate_data(estimator, X, reset=reset, **options)  # which notes or compares the number of columns
        else:
            X = check_array(X, input_name="X", estimator=estimator, **options)
        return Sequences(X[:, :, None], columns=True)


def _check_finite(found: Sequences) -> None:
    """Say where the first NaN or infinity is."""
    if found.ragged:
        number = next((number for number, row in enumerate(found.rows) if not np.isfinite(row).all()), None)
        if number is None:
            return
        place = (number, *np.argwhere(~np.isfinite(found.rows[number]))[0])
    elif np.isfinite(found.rows).all():
        return
    else:
        place = tuple(np.argwhere(~np.isfinite(found.rows))[0])
    row, step, feature = map(int, place)
    value = "NaN" if np.isnan(found.rows[row][step, feature]) else "infinity"
    where = f"row {row}, step {step}" + ("" if found.columns else f", feature {feature}")
    raise ValueError(
        f"X has {value} in {where}: fill such steps in (NaN and infinity can't be computed with), or, where they pad "
        "rows of different lengths, give a list of arrays without them"
    )
