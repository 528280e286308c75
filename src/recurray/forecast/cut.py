"""How a series becomes windows: what they are like where nobody says, and the series in their units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from recurray.forecast import times
from recurray.forecast.scaling import Scale
from recurray.forecast.series import Series
from recurray.forecast.windows import Scaled, Windows

Floats = NDArray[np.float64]


def windows_of(
    series: Series, *, horizon: int, window: int | None, season: int | None, relative_to: str, validation: float
) -> Windows:
    """Return how a series is cut; what isn't given is what is usual for it. See `Forecaster`.

    Raises
    ------
    ValueError
        It is too short, or the season too long.
    """
    most = (len(series) - 2 * horizon) // 2  # as many windows as they are long
    if season is None and series.step is not None:
        usual = series.step.season
        season = usual if usual is not None and usual <= (most if window is None else window) else None
    season = season or None
    if window is None:
        wanted = 2 * season if season else max(24, 2 * horizon)
        window = max(season or 1, min(wanted, most))
    relative = relative_to if relative_to != "auto" else ("season" if season else "last")
    if relative == "season" and season is None:
        raise ValueError('relative_to="season" needs a season: give season=12, or how many steps it has')
    if relative == "season" and season is not None and season > window:
        raise ValueError(
            f"the window must hold a season: it is {window} and the season {season}: give a larger window, or "
            'relative_to="last"'
        )
    windows = Windows(window, horizon, season, relative)
    needed = window + horizon * (2 if validation else 1)
    if len(series) < needed:
        raise ValueError(
            f"there are {len(series)} rows, too few for a window of {window} and a horizon of {horizon}"
            f"{', once to learn from and once to validate with' if validation else ''}: at least {needed} are needed; "
            "give a shorter window or horizon"
        )
    return windows


def calendar_of(series: Series, calendar: str | Sequence[str]) -> tuple[str, ...]:
    """Return in which periods the place of a step is told.

    Raises
    ------
    ValueError
        The series has no dates.
    """
    if calendar == "auto":
        return () if series.step is None else series.step.calendar
    if calendar and (series.times is None or series.times.dtype.kind != "M"):
        raise ValueError("calendar needs times that are dates: say which column they are in with time=...")
    return tuple(calendar)


def scaled(
    series: Series,
    scales: Mapping[str, Scale],
    calendar: Sequence[str],
    future: Mapping[str, Floats] | None = None,
    ahead: int = 0,
) -> Scaled:
    """A series as windows are made of it, its known part with ``ahead`` steps more."""
    rows = len(series)
    columns = {name: scales[name].scaled(values) for name, values in series.columns.items()}
    past = np.stack([columns[name] for name in series.past], axis=1) if series.past else np.zeros((rows, 0))
    parts = []
    for name in series.known:
        to_come = scales[name].scaled(future[name]) if future else np.zeros(0)
        parts.append(np.concatenate([columns[name], to_come])[:, None])
    if calendar and series.times is not None:
        after = series.times[:0] if series.step is None else series.step.after(series.times[-1], ahead)
        parts.append(times.calendar(np.concatenate([series.times, after]), calendar))
    known = np.concatenate(parts, axis=1) if parts else np.zeros((rows + ahead, 0))
    return Scaled(columns[series.target], past, known)
