"""What a forecaster is given, checked: a series, and the columns that are known in advance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurray.forecast import times
from recurray.forecast.fitted import Fitted
from recurray.forecast.series import Series
from recurray.messages import shown

Floats = NDArray[np.float64]


def series_of(series: Any) -> Series:
    """Take a series as it is, an array as a target alone.

    Raises
    ------
    TypeError
        It is data with columns.
    """
    if isinstance(series, Series):
        return series
    if isinstance(series, Mapping) or hasattr(series, "columns"):
        raise TypeError(
            f"series must be a Series or an array (rows,), not {type(series).__name__}: "
            "recurray.forecast.Series.of(data, target=...) makes one"
        )
    return Series.of(series)


def check_log(series: Series, log: bool) -> None:
    """Refuse targets that have no logarithm, where that is learned."""
    values = series.columns[series.target]
    if log and (values <= 0).any():
        row = int(np.flatnonzero(values <= 0)[0])
        at = "" if series.times is None else f" ({times.written(series.times)[row]})"
        raise ValueError(f"log needs targets above 0, and row {row}{at} has {values[row]:g}: leave log out")


def check_same(learned: Fitted, series: Series) -> None:
    """Refuse a series of other columns, or of another step where times are read, than was learned from."""
    for role in ("target", "past", "known"):
        had, has = getattr(learned, role), getattr(series, role)
        if had != has:
            raise ValueError(f"the model was trained with {role} {shown(had)}, and the series has {shown(has)}")
    step = None if series.step is None else str(series.step)
    if learned.calendar and step != learned.step:
        raise ValueError(f"the model was trained with the step {learned.step}, and the series has the step {step}")


def future_of(future: Any, known: Sequence[str], horizon: int) -> dict[str, Floats]:
    """Return the columns that are known in advance, in the steps of the horizon.

    Raises
    ------
    ValueError, TypeError
        One is missing or too short, or not finite numbers.
    """
    if not known:
        if future is not None:
            raise ValueError(
                "future is for columns that are known in advance, and the series has none: name them as known"
            )
        return {}
    if future is None:
        raise ValueError(
            f"future must hold the columns that are known in advance, {', '.join(known)}, for {horizon} steps"
        )
    if not (isinstance(future, Mapping) or hasattr(future, "columns")):
        raise TypeError(
            f"future must be a mapping of the columns {', '.join(known)} to their values, or a data frame, not "
            f"{shown(future)}"
        )
    result = {}
    for name in known:
        if name not in (future.columns if hasattr(future, "columns") else future):
            raise ValueError(f"future has no column {shown(name)}")
        try:
            values = np.asarray(future[name], dtype=np.float64)
        except (TypeError, ValueError):
            raise TypeError(f"future must have numbers as {name!r}, not {shown(future[name])}") from None
        if values.ndim != 1 or len(values) < horizon:
            raise ValueError(
                f"future must have {horizon} values of {name!r}, one for each step, not {shown(values.shape)}"
            )
        if not np.isfinite(values[:horizon]).all():
            row = int(np.flatnonzero(~np.isfinite(values[:horizon]))[0])
            raise ValueError(f"future has no finite value of {name!r} at step {row + 1}")
        result[name] = values[:horizon]
    return result
