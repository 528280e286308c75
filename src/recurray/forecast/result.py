"""A forecast: a value for each step to come and each quantile."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurray.files import Destination
from recurray.forecast import times
from recurray.forecast.times import Times

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Forecast:
    """What `Forecaster.predict` says of the steps to come.

    Attributes
    ----------
    target : str
        What is forecast.
    levels : tuple of float
        The quantiles' levels, rising: below the value of 0.9 the truth is said to be nine times in ten.
    values : array (horizon, levels)
        The quantiles, none of which is above one of a higher level.
    times : array or None
        The times of the steps.
    past, past_times : array, array or None
        The values that were read last, for pictures.
    """

    target: str
    levels: tuple[float, ...]
    values: Floats
    times: Times | None
    past: Floats = field(repr=False)
    past_times: Times | None = field(repr=False)

    @property
    def median(self) -> Floats:
        """The quantile of 0.5, which is the forecast itself: (horizon,)."""
        return np.asarray(self.values[:, self.levels.index(0.5)])

    @property
    def intervals(self) -> dict[float, tuple[Floats, Floats]]:
        """The ends of intervals, by how many per cent of the truth should lie within; the widest first."""
        return {
            percent: (self.values[:, low], self.values[:, high]) for percent, low, high in intervals_of(self.levels)
        }

    def rows(self) -> list[dict[str, Any]]:
        """A row for each step: its time or number, the forecast, and each quantile."""
        steps = [str(k + 1) for k in range(len(self.values))] if self.times is None else times.written(self.times)
        name = "step" if self.times is None else "time"
        return [
            {
                name: step,
                "forecast": float(median),
                **{f"q{level:g}": float(value) for level, value in zip(self.levels, values, strict=True)},
            }
            for step, median, values in zip(steps, self.median, self.values, strict=True)
        ]

    def to_csv(self, path: str | Path | None = None) -> str:
        """Return the rows as CSV, and write them to a file where a path is given.

        Raises
        ------
        OSError
            The file can't be written; a former one is untouched.
        """
        return csv_of(self.rows(), path)


def csv_of(rows: list[dict[str, Any]], path: str | Path | None) -> str:
    """Rows as CSV, written whole or not at all where a path is given."""
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, rows[0], lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    if path is not None:
        with Destination(path) as destination:
            destination.replace(text.getvalue().encode())
    return text.getvalue()


def intervals_of(levels: tuple[float, ...]) -> list[tuple[float, int, int]]:
    """Pairs of levels as far from 0 as from 1: the per cent between, and where the two are; the widest first."""
    found = []
    for low, level in enumerate(levels):
        for high in range(len(levels) - 1, low, -1):
            if abs(level + levels[high] - 1) < 1e-9:
                found.append((round(100 * (levels[high] - level), 6), low, high))
    return found
