"""What a forecaster has learned, and its file: a model file of `recurray.save` with a few arrays more.

The names of these begin with a colon, which no param's name does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurray import checks, saving, sealed
from recurray.files import FormatError
from recurray.forecast import times
from recurray.forecast.correction import Correction
from recurray.forecast.ridge import Ridge
from recurray.forecast.scaling import Scale
from recurray.forecast.windows import RELATIVE, Task, Windows
from recurray.messages import shown

Floats = NDArray[np.float64]

FORMAT = 2
ARRAYS = COEF, INTERCEPT, SHIFTS = ":ridge.coef", ":ridge.intercept", ":shifts"


@dataclass
class Fitted:
    """What is learned from a series, and what has to be known of it to go on.

    Attributes
    ----------
    model : Layer
    levels : tuple of float
        The quantiles that it says.
    windows : Windows
    correction : Correction or None
        Where the model corrects a line.
    shifts : array (N, levels) or None
        What quantiles are moved by; None where they aren't calibrated.
    scales : dict of str to Scale
    target : str
    past, known, calendar : tuple of str
    step : str or None
    """

    model: Any
    levels: tuple[float, ...]
    windows: Windows
    correction: Correction | None
    shifts: Floats | None
    scales: dict[str, Scale]
    target: str
    past: tuple[str, ...]
    known: tuple[str, ...]
    calendar: tuple[str, ...]
    step: str | None

    @property
    def task(self) -> Task:
        """What the model is shown, and what it says."""
        return self.windows if self.correction is None else self.correction

    @property
    def features(self) -> int:
        """How many numbers the model reads at a step: the target, whether the step is to come, and the columns."""
        return 2 + len(self.past) + len(self.known) + 2 * len(self.calendar)

    def save(self, path: str | Path) -> None:
        """Write it to a file."""
        windows, correction = self.windows, self.correction
        metadata = {
            "format": FORMAT,
            "horizon": windows.horizon,
            "levels": list(self.levels),
            "window": windows.window,
            "season": windows.season,
            "relative_to": windows.relative_to,
            "spread": windows.spread,
            "target_spread": windows.target_spread,
            "correction_spread": None if correction is None else correction.spread,
            "scales": {name: [scale.offset, scale.factor, scale.log] for name, scale in self.scales.items()},
            "target": self.target,
            "past": list(self.past),
            "known": list(self.known),
            "calendar": list(self.calendar),
            "step": self.step,
        }
        params, content = saving.contents(self.model, {"forecaster": metadata})
        arrays = {} if correction is None else {COEF: correction.line.coef, INTERCEPT: correction.line.intercept}
        if self.shifts is not None:
            arrays[SHIFTS] = self.shifts
        data = sealed.serialized(params | arrays, content, saving.KIND)
        with sealed.Writer(path, saving.KIND) as writer:
            writer.write(data)


def load(path: str | Path, backend: Any) -> Fitted:
    """Read what `Fitted.save` wrote.

    Raises
    ------
    FormatError
        The file isn't one of a forecaster, or is damaged.
    OSError
        It can't be read.
    """
    content = saving.describe(path).metadata.get("forecaster")
    if not isinstance(content, dict):
        raise FormatError(f"{path} holds no forecaster, but another model: recurray inspect shows what")
    if content.get("format") != FORMAT:
        raise FormatError(f"{path} holds a forecaster in a form that this version doesn't know")
    model = saving.load(path, backend)
    arrays, _ = sealed.load(path, saving.KIND)
    try:
        return _fitted(model, content, arrays)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"{path} holds no forecaster that can be used: {error}") from error


def _fitted(model: Any, content: dict[str, Any], arrays: dict[str, Any]) -> Fitted:
    """Make it of a file's content, checking all of it."""
    windows = Windows(
        checks.size("window", content["window"]),
        checks.size("horizon", content["horizon"]),
        None if content["season"] is None else checks.size("season", content["season"]),
        checks.choice("relative_to", content["relative_to"], RELATIVE),
        _positive("spread", content["spread"]),
        _positive("target_spread", content["target_spread"]),
    )
    if windows.relative_to == "season" and (windows.season or windows.window + 1) > windows.window:
        raise ValueError("the window holds no season")
    levels = quantile_levels(content["levels"])
    past, known = (tuple(str(name) for name in content[role]) for role in ("past", "known"))
    found = Fitted(
        model,
        levels,
        windows,
        None,
        _array(arrays, SHIFTS, (windows.horizon, len(levels))) if SHIFTS in arrays else None,
        {
            str(name): Scale(float(offset), float(factor), log is True)
            for name, (offset, factor, log) in content["scales"].items()
        },
        str(content["target"]),
        past,
        known,
        tuple(checks.choice("calendar", name, times.CALENDAR) for name in content["calendar"]),
        content["step"],
    )
    if set(found.scales) != {found.target, *past, *known}:
        raise ValueError("its scales are not those of its columns")
    if content["correction_spread"] is not None:
        inputs = (windows.window + windows.horizon) * found.features
        line = Ridge(
            _array(arrays, COEF, (inputs, windows.horizon)),
            _array(arrays, INTERCEPT, (windows.horizon,)),
        )
        found.correction = Correction(windows, line, _positive("correction_spread", content["correction_spread"]))
    y, _ = model(model.backend.asarray(np.zeros((1, 1, found.features)), "float32"))
    if tuple(y.shape) != (1, 1, len(levels)):
        raise ValueError(f"its model has {y.shape[-1]} outputs for {len(levels)} quantiles")
    return found


def quantile_levels(quantiles: Any) -> tuple[float, ...]:
    """Check levels of quantiles; with 0.5, rising."""
    try:
        levels = {float(checks.finite("each of quantiles", level)) for level in quantiles} | {0.5}
    except TypeError:
        raise TypeError(f"quantiles must be a sequence of numbers between 0 and 1, not {shown(quantiles)}") from None
    for level in levels:
        if not 0 < level < 1:
            raise ValueError(f"quantiles must be between 0 and 1, not {shown(level)}")
    return tuple(sorted(levels))


def _positive(name: str, value: Any) -> float:
    value = checks.finite(name, value)
    if value <= 0:
        raise ValueError(f"{name} isn't above 0")
    return float(value)


def _array(arrays: dict[str, Any], name: str, shape: tuple[int, ...]) -> Floats:
    if name not in arrays:
        raise ValueError(f"it lacks {name}")
    array = arrays[name]
    if array.shape != shape or array.dtype != np.float64 or not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite numbers of float64 in the shape {shape}")
    return np.asarray(array)
