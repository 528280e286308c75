"""The rolling-origin back-test: forecasts of what is known by now, beside simple ones."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurray import checks
from recurray.forecast import times
from recurray.forecast.correction import flat
from recurray.forecast.result import csv_of, intervals_of
from recurray.forecast.series import Series
from recurray.forecast.windows import naive

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Backtest:
    """What `Forecaster.backtest` found; its text is a table.

    Attributes
    ----------
    origins : array (folds,)
        The first row of each horizon.
    times : list of str or None
        Its time.
    actual : array (folds, horizon)
        What came; NaN where the series had a gap.
    forecasts : dict of str to array (folds, horizon)
        By name: the network by its layer's, "Ridge", "seasonal naive" where there is a season, "naive".
    levels : tuple of float
    quantiles : array (folds, horizon, levels)
        The network's.
    scale : float
        The mean difference of neighbours, or of steps a season apart, before the first origin.
    season : int or None
    refit : bool
        Whether there was training before each origin, or before the first alone.
    """

    origins: NDArray[np.int64]
    times: list[str] | None
    actual: Floats
    forecasts: dict[str, Floats]
    levels: tuple[float, ...]
    quantiles: Floats
    scale: float
    season: int | None
    refit: bool

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A row for each forecast, the best first: MAE, RMSE and MASE.

        MASE is the mean absolute error divided by that of the naive forecast (seasonal where there is a season) one
        step ahead before the first origin (Hyndman and Koehler, Another look at measures of forecast accuracy, 2006).
        """
        rows = []
        for name, values in self.forecasts.items():
            errors = values - self.actual
            mae = float(np.nanmean(np.abs(errors)))
            rows.append(
                {
                    "forecast": name,
                    "MAE": mae,
                    "RMSE": float(np.sqrt(np.nanmean(np.square(errors)))),
                    "MASE": mae / self.scale if self.scale else float("nan"),
                }
            )
        return sorted(rows, key=lambda row: row["MAE"])

    @property
    def coverage(self) -> dict[float, float]:
        """The share of what came that lay within each interval of the network's, by the interval's per cent."""
        there = ~np.isnan(self.actual)
        inside = {
            percent: (self.quantiles[..., low] <= self.actual) & (self.actual <= self.quantiles[..., high])
            for percent, low, high in intervals_of(self.levels)
        }
        return {percent: float(within[there].mean()) for percent, within in inside.items()}

    def to_csv(self, path: str | Path | None = None) -> str:
        """Return the rows as CSV, and write them to a file where a path is given."""
        return csv_of(self.rows, path)

    def __str__(self) -> str:
        folds, horizon = self.actual.shape
        often = f"trained before {'each' if self.refit else 'the first'}"
        lines = [f"{folds} origins, {horizon} steps each", often]
        if self.times is not None:
            lines.insert(1, f"from {self.times[0]} to {self.times[-1]}" if folds > 1 else f"at {self.times[0]}")
        rows = self.rows
        digits = [_digits(row[name] for row in rows) for name in _MEASURES]
        table = [["", *_MEASURES]]
        for row in rows:
            table.append([row["forecast"], *(f"{row[name]:.{n}f}" for name, n in zip(_MEASURES, digits, strict=True))])
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        for first, *rest in table:
            cells = [first.ljust(widths[0]), *(text.rjust(width) for text, width in zip(rest, widths[1:], strict=True))]
            lines.append("  ".join(cells).rstrip())
        network = next(iter(self.forecasts))
        for percent, share in self.coverage.items():
            lines.append(f"{100 * share:.0f} % within the {percent:g} % interval")
        lines.append(_verdict(network, {row["forecast"]: row["MAE"] for row in rows}))
        return "\n".join(lines)


_MEASURES = ("MAE", "RMSE", "MASE")


def _digits(values: Any) -> int:
    """Decimals that show three digits of the smallest value, and no more than six."""
    least = min((abs(value) for value in values if value), default=1.0)
    return int(min(6, max(0, 2 - np.floor(np.log10(least))))) if np.isfinite(least) else 2


def _verdict(network: str, errors: dict[str, float]) -> str:
    """Who wins, and by how many per cent of the mean absolute error."""
    best = min((name for name in errors if name != network), key=lambda name: errors[name])
    own, other = errors[network], errors[best]
    if not (np.isfinite(own) and np.isfinite(other)):
        return f"{network} and {best} can't be compared"
    percent = round(100 * abs(1 - own / other)) if other else None
    if own == other or percent == 0:
        return f"{network} is as good as {best}"
    if own < other:
        return f"{network} beats {best} by {percent} %"
    return f"{network} loses to {best}{'' if percent is None else f' by {percent} %'}: use {best}"


def measured(
    forecaster: Any, series: Series, *, folds: int, every: int | None, refit: bool, progress: bool
) -> Backtest:
    """Do what `Forecaster.backtest` says."""
    folds = checks.size("folds", folds)
    horizon = forecaster.horizon
    every = horizon if every is None else checks.size("every", every)
    refit = checks.flag("refit", refit)
    origins = len(series) - horizon - every * np.arange(folds)[::-1]
    if origins[0] <= 0:
        raise ValueError(
            f"there are {len(series)} rows, too few for {folds} folds of a horizon of {horizon}, {every} apart: give "
            "fewer folds"
        )
    target = series.columns[series.target]
    steps = origins[:, None] + np.arange(horizon)
    actual = np.where(series.observed[series.target], target, np.nan)[steps]
    if np.isnan(actual).all():
        raise ValueError(
            "all values that would be compared were missing and have been filled in: give more folds, or forecast a "
            "series that ends with values"
        )
    network = copy.copy(forecaster)
    forecasts: dict[str, list[Floats]] = {}
    quantiles = []
    for k, origin in enumerate(origins):
        before = series.before(int(origin))
        if refit or k == 0:
            try:
                network.fit(before, progress=progress)
            except ValueError as error:
                raise ValueError(f"before the first origin of the back-test {error}, or give fewer folds") from error
            ridge = network.regression(before)
        ahead = {name: series.columns[name][origin : origin + horizon] for name in series.known}
        forecast = network.predict(before, ahead or None)
        quantiles.append(forecast.values)
        windows, scaled, back = network.scaled(before, ahead or None, horizon)
        at = np.asarray([origin])
        said = ridge(flat(windows.inputs(scaled, at)))
        found = {forecaster.layer: forecast.median, "Ridge": back(windows.back(scaled, at, said))[0]}
        if windows.season is not None:
            found["seasonal naive"] = naive(before.columns[series.target], at, horizon, windows.season)[0]
        found["naive"] = naive(before.columns[series.target], at, horizon)[0]
        for name, values in found.items():
            forecasts.setdefault(name, []).append(values)
    apart = windows.season or 1
    first = target[: origins[0]]
    return Backtest(
        origins,
        None if series.times is None else [times.written(series.times)[k] for k in origins],
        actual,
        {name: np.stack(values) for name, values in forecasts.items()},
        forecaster.levels,
        np.stack(quantiles),
        float(np.abs(first[apart:] - first[:-apart]).mean()),
        windows.season,
        refit,
    )
