"""Forecaster: a recurrent network that says how a series goes on, with quantiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from recurray import checks, selector
from recurray.forecast import calibration, cut, fitted, learning, scaling, times
from recurray.forecast.backtest import Backtest, measured
from recurray.forecast.correction import Correction, regression
from recurray.forecast.fitted import Fitted, quantile_levels
from recurray.forecast.given import check_log, check_same, future_of, series_of
from recurray.forecast.result import Forecast
from recurray.forecast.ridge import Ridge
from recurray.forecast.series import Series
from recurray.forecast.windows import RELATIVE, Batches, Scaled, Windows, split
from recurray.messages import shown

Floats = NDArray[np.float64]

_PICTURED = 3  # horizons of the past in a forecast, at least


class Forecaster:
    """A recurrent network that says how a series goes on, with quantiles.

    The network reads a window of steps, and on through the steps of the horizon with what is known of these in
    advance: columns that are, and where in the day, week and year a step lies. At each step of the horizon it says each
    quantile, relative to the naive forecast, which is the last value or that of a season before, and to what Ridge
    regression adds to that: the network corrects a line (Zhang, Time Series Forecasting Using a Hybrid ARIMA and Neural
    Network Model, 2003). It is trained on the pinball loss (Koenker and Bassett, Regression Quantiles, 1978) over all
    windows, and stops when the loss on later ones, which it isn't trained on, gets no better. Quantiles that cross are
    sorted, which never makes them worse (Chernozhukov, Fernández-Val and Galichon, Quantile and Probability Curves
    Without Crossing, 2010).

    By these later windows the quantiles are calibrated (Romano, Patterson and Candès, Conformalized Quantile
    Regression, 2019): at each step of the horizon an interval is made as much wider or narrower as it takes to hold its
    share of them. It holds that share of what comes as far as this is like them.

    Parameters
    ----------
    horizon : int
        How many steps are forecast, N.
    window : int, optional
        How many steps are read; if omitted two seasons, or without a season two horizons and at least 24, as far as the
        series allows.
    season : int, optional
        After how many steps the series is as it was, 0 for none; if omitted what is usual for the times: 24 for hours,
        7 for days, 52 for weeks, 12 for months, 4 for quarters.
    quantiles : sequence of float
        Levels between 0 and 1. 0.5, the forecast itself, is added.
    calendar : "auto", or sequence of "day", "week" and "year"
        In which periods the place of a step is an input.
    scaler : str or a scaler of scikit-learn
        How columns are scaled: "standard", "none", or, of scikit-learn (extra ``sklearn``), "minmax", "maxabs",
        "robust", or an instance of one that shifts and scales. Forecasts are in the column's own units.
    log : bool
        Whether the logarithm of the target is learned: for what grows by per cents, and is never 0 or below.
    relative_to : "auto", "season", "last" or "none"
        What the target is told relative to: the value of a season before, the last one, or the mean of all. "auto" is
        the season where there is one.
    ridge : bool
        Whether the network corrects Ridge regression on the same inputs, whose alpha the windows for validation choose;
        else it says all by itself.
    calibrate : bool
        Whether quantiles are calibrated; the forecast itself, 0.5, stays as it is. Without windows for validation they
        aren't.
    layer : "LSTM", "GRU", "RNN" or "DiagonalLSTM"
        The recurrent layer.
    hidden_size, num_layers, dropout : int, int, float
        Of the layer; a DiagonalLSTM has one layer and no dropout.
    epochs : int
        The most passes over the windows.
    batch_size : int
        Windows to an update.
    lr : float
        The learning rate, of Adam.
    clip_norm : float or None
        What gradients are clipped to.
    validation : float
        The share of the steps, the last ones, whose forecasts tell when to stop; 0 for ``epochs`` epochs.
    patience : int or None
        After how many epochs without a better forecast of these training ends, with the best params.
    backend : str, Backend, namespace or None
        Where to compute; see `recurray.get_backend`.
    seed : int
        Of start values, dropout and the order of windows: the same seed gives the same forecast.

    Attributes
    ----------
    history : recurray.History or None
        The training's table.
    levels : tuple of float
        The quantiles' levels, rising.

    Raises
    ------
    ValueError, TypeError
        An argument is none of these.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> sold = 50 + 20 * np.sin(np.arange(120) * 2 * np.pi / 12) + 0.3 * np.arange(120)
    >>> forecaster = rr.forecast.Forecaster(horizon=6, season=12, hidden_size=8, epochs=3, seed=0).fit(sold)
    >>> forecast = forecaster.predict(sold)
    >>> forecast.median.shape, sorted(forecast.intervals)
    ((6,), [80.0])
    >>> bool((np.diff(forecast.values, axis=1) >= 0).all())
    True
    """

    def __init__(
        self,
        horizon: int,
        *,
        window: int | None = None,
        season: int | None = None,
        quantiles: Sequence[float] = (0.1, 0.5, 0.9),
        calendar: str | Sequence[str] = "auto",
        scaler: Any = "standard",
        log: bool = False,
        relative_to: str = "auto",
        ridge: bool = True,
        calibrate: bool = True,
        layer: str = "LSTM",
        hidden_size: int = 32,
        num_layers: int = 1,
        dropout: float = 0.0,
        epochs: int = 200,
        batch_size: int = 32,
        lr: float = 1e-2,
        clip_norm: float | None = 1.0,
        validation: float = 0.15,
        patience: int | None = 20,
        backend: Any = None,
        seed: int = 0,
    ) -> None:
        self.horizon = checks.size("horizon", horizon)
        self.window = None if window is None else checks.size("window", window)
        self.season = None if season is None else checks.size("season", season, least=0)
        self.levels = quantile_levels(quantiles)
        if not (isinstance(calendar, str) and calendar == "auto"):
            if not checks.are_several(calendar):
                raise TypeError(
                    f'calendar must be "auto" or a sequence of {", ".join(map(repr, times.CALENDAR))}, not '
                    f"{shown(calendar)}"
                )
            calendar = tuple(checks.choice("each of calendar", name, times.CALENDAR) for name in calendar)
        self.calendar = calendar
        self.scaler = scaling.check(scaler)
        self.log = checks.flag("log", log)
        self.relative_to = checks.choice("relative_to", relative_to, ("auto", *RELATIVE))
        self.ridge = checks.flag("ridge", ridge)
        self.calibrate = checks.flag("calibrate", calibrate)
        self.layer = checks.choice("layer", layer, learning.LAYERS)
        self.hidden_size = checks.size("hidden_size", hidden_size)
        self.num_layers = checks.size("num_layers", num_layers)
        self.dropout = checks.probability("dropout", dropout)
        self.epochs = checks.size("epochs", epochs)
        self.batch_size = checks.size("batch_size", batch_size)
        self.lr = checks.finite("lr", lr)
        if self.lr <= 0:
            raise ValueError(f"lr must be above 0, not {shown(lr)}")
        self.clip_norm = checks.bound("clip_norm", clip_norm)
        self.validation = checks.probability("validation", validation)
        self.patience = None if patience is None else checks.size("patience", patience)
        self.backend = selector.get_backend(backend)
        self.seed = checks.size("seed", seed, least=0)
        self.history: Any = None
        self._fitted: Fitted | None = None

    @property
    def fitted_to(self) -> Fitted:
        """What was learned from, by name: the columns and their roles."""
        return self._ready()

    @property
    def model(self) -> Any:
        """The network, None before `fit`."""
        return None if self._fitted is None else self._fitted.model

    def fit(self, series: Any, *, progress: bool = False) -> Self:
        """Learn from a series.

        Parameters
        ----------
        series : Series or array (rows,)
            What is to be forecast; an array is the target alone.
        progress : bool
            Whether a terminal shows how far training is.

        Returns
        -------
        Forecaster
            This one.

        Raises
        ------
        ValueError
            There are too few rows, or log is given and a target isn't above 0; the message says which.
        TrainingError
            The loss or a gradient isn't finite.
        ImportError
            A scaler of scikit-learn is asked for, which isn't installed.
        """
        series = series_of(series)
        windows = cut.windows_of(
            series,
            horizon=self.horizon,
            window=self.window,
            season=self.season,
            relative_to=self.relative_to,
            validation=self.validation,
        )
        check_log(series, self.log)
        calendar = cut.calendar_of(series, self.calendar)
        scales = scaling.scales(self.scaler, series.columns, series.target, self.log)
        scaled = cut.scaled(series, scales, calendar)
        parts = split(windows, 0, len(series), self.validation)
        if not len(parts.training):
            raise ValueError(
                f"validation={self.validation:g} leaves nothing to learn from: no window of {windows.window} rows and "
                f"a horizon of {windows.horizon} ends before the rows that are held out; give a smaller share"
            )
        windows = Windows(
            windows.window,
            windows.horizon,
            windows.season,
            windows.relative_to,
            **windows.fitted(scaled.target, parts.training),
        )
        correction = whole = None
        if self.ridge:
            early, whole = regression(windows, scaled, parts)
            correction = Correction.fitted(windows, early, scaled, parts.training)
        roles = series.target, series.past, series.known
        step = None if series.step is None else str(series.step)
        found = Fitted(None, self.levels, windows, correction, None, scales, *roles, calendar, step)
        found.model = learning.made(
            self.layer,
            found.features,
            self.hidden_size,
            self.num_layers,
            self.dropout,
            len(self.levels),
            self.backend,
            self.seed,
        )
        training, validation = (Batches(found.task, scaled, origins, self.batch_size) for origins in parts)
        self.history = learning.learn(
            found.model,
            self.levels,
            training,
            validation,
            epochs=self.epochs,
            lr=self.lr,
            patience=self.patience,
            clip_norm=self.clip_norm,
            seed=self.seed,
            progress=progress,
        )
        if self.calibrate and len(validation):
            came = found.task.targets(scaled, parts.validation)
            said = [learning.say(found.model, batch["x"], windows.window) for batch in validation]
            found.shifts = calibration.shifts(np.concatenate(said), came, self.levels)
        if correction is not None and whole is not None:
            found.correction = replace(correction, line=whole)
        self._fitted = found
        return self

    def predict(self, series: Any, future: Any = None) -> Forecast:
        """Forecast the steps after a series: the one that was learned from, or a newer one of the same columns.

        Parameters
        ----------
        series : Series or array (rows,)
            What has been; its last rows are read, as many as the window has.
        future : mapping of str to array (horizon,), or data frame, optional
            The columns that are known in advance, in the steps to come. Needed where the series has such.

        Returns
        -------
        Forecast

        Raises
        ------
        RuntimeError
            Nothing has been learned yet.
        ValueError, TypeError
            The series is too short, or has other columns or another step than the one that was learned from, or
            ``future`` isn't what is needed.
        """
        learned = self._ready()
        series = series_of(series)
        check_same(learned, series)
        windows = learned.windows
        if len(series) < windows.window:
            raise ValueError(
                f"the model reads {windows.window} rows, and there are {len(series)}: give at least as many"
            )
        check_log(series, learned.scales[learned.target].log)
        _, scaled, back = self.scaled(series, future_of(future, series.known, self.horizon), self.horizon)
        origins = np.asarray([len(series)])
        said = learning.say(learned.model, learned.task.inputs(scaled, origins), windows.window)
        if learned.shifts is not None:
            said = calibration.moved(said, learned.shifts, self.levels)
        values = back(learned.task.back(scaled, origins, said))[0]
        shown_rows = max(_PICTURED * self.horizon, windows.window)
        return Forecast(
            series.target,
            self.levels,
            values,
            series.times_after(self.horizon),
            series.columns[series.target][-shown_rows:],
            None if series.times is None else series.times[-shown_rows:],
        )

    def backtest(
        self,
        series: Any,
        *,
        folds: int = 5,
        every: int | None = None,
        refit: bool = False,
        progress: bool = False,
    ) -> Backtest:
        """Forecast the end of a series from what was before, from one origin after the other, and compare with simple
        forecasts.

        The origins are those of `sklearn.model_selection.TimeSeriesSplit`: the last horizon ends at the series's end,
        the others are ``every`` steps apart before it. Each forecast reads what is before its origin alone. Beside the
        network stand the last value ("naive"), that of a season before ("seasonal naive"), and Ridge regression on
        what the network reads, its alpha chosen on the same validation windows. This forecaster itself isn't changed.

        Parameters
        ----------
        series : Series or array (rows,)
            The series.
        folds : int
            How many origins.
        every : int, optional
            How far they are apart; the horizon if omitted.
        refit : bool
            Whether network and Ridge are trained anew before each origin; else once, before the first.
        progress : bool
            Whether a terminal shows how far training is.

        Returns
        -------
        Backtest
            Whose text is a table.

        Raises
        ------
        ValueError, TrainingError
            As of `fit`; there must be enough rows before the first origin.
        """
        return measured(self, series_of(series), folds=folds, every=every, refit=refit, progress=progress)

    def save(self, path: str | Path) -> None:
        """Write the network, scales, names of columns and settings to a file of `recurray.save`.

        Raises
        ------
        RuntimeError
            Nothing has been learned yet.
        OSError
            The file can't be written; a former one is untouched.

        Examples
        --------
        >>> import os, tempfile
        >>> import numpy as np
        >>> import recurray as rr
        >>> series = np.sin(np.arange(80) / 3)
        >>> forecaster = rr.forecast.Forecaster(horizon=4, window=12, hidden_size=4, epochs=1).fit(series)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "model.safetensors")
        ...     forecaster.save(path)
        ...     again = rr.forecast.Forecaster.load(path)
        >>> bool((again.predict(series).values == forecaster.predict(series).values).all())
        True
        """
        self._ready().save(path)

    @classmethod
    def load(cls, path: str | Path, backend: Any = None) -> Self:
        """Read a forecaster that `save` wrote, to `predict` with.

        Raises
        ------
        FormatError
            The file isn't one of a forecaster, or is damaged.
        OSError
            It can't be read.
        """
        found = fitted.load(path, backend)
        windows = found.windows
        result = cls(
            windows.horizon,
            window=windows.window,
            season=windows.season or 0,
            quantiles=found.levels,
            calendar=found.calendar,
            relative_to=windows.relative_to,
            ridge=found.correction is not None,
            calibrate=found.shifts is not None,
            backend=found.model.backend,
        )
        result._fitted = found
        return result

    def regression(self, series: Series) -> Ridge:
        """Ridge of what the network reads, fitted to a series: the line that it corrects, if it does."""
        learned = self._ready()
        if learned.correction is not None:
            return learned.correction.line
        windows, scaled, _ = self.scaled(series)
        return regression(windows, scaled, split(windows, 0, len(series), self.validation))[1]

    def scaled(
        self, series: Series, future: Mapping[str, Floats] | None = None, ahead: int = 0
    ) -> tuple[Windows, Scaled, Any]:
        """How a series is cut, the series in the units of training with steps ahead, and the way back."""
        learned = self._ready()
        scaled = cut.scaled(series, learned.scales, learned.calendar, future, ahead)
        return learned.windows, scaled, learned.scales[learned.target].back

    def _ready(self) -> Fitted:
        if self._fitted is None:
            raise RuntimeError(
                "this forecaster has learned nothing yet: call its fit(series) first, or Forecaster.load(path)"
            )
        return self._fitted
