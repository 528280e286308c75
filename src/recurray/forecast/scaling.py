"""Columns scaled and back: each by two numbers, which is all that a file of a forecaster holds of a scaler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from recurray import checks, install
from recurray.messages import shown

Floats = NDArray[np.float64]

# Names of scikit-learn's classes.
SCALERS = {"minmax": "MinMaxScaler", "maxabs": "MaxAbsScaler", "robust": "RobustScaler"}
NAMES = ("standard", *SCALERS, "none")


@dataclass(frozen=True)
class Scale:
    """``(value - offset) / factor``, of the logarithm where ``log``.

    Attributes
    ----------
    offset, factor : float
    log : bool
    """

    offset: float
    factor: float
    log: bool = False

    @classmethod
    def of(cls, scaler: Any, values: Floats, *, log: bool = False) -> Self:
        """Fit a scaler to values.

        "standard", the mean and the standard deviation, needs no package; the other names are scikit-learn's, and an
        instance of one of its scalers is taken that shifts and scales. That one is copied, not fitted.

        Raises
        ------
        ImportError
            The name is of one of scikit-learn's, which isn't installed.
        TypeError, ValueError
            There is no such scaler, or it does more than shift and scale.
        """
        values = np.log(values) if log else values
        if scaler == "none":
            return cls(0.0, 1.0, log)
        if scaler == "standard":
            factor = float(values.std())
            return cls(float(values.mean()), factor if factor > 1e-12 * abs(values).max() else 1.0, log)
        fitted = _made(scaler).fit(values[:, None])
        offset, end = (float(value) for value in fitted.inverse_transform(np.asarray([[0.0], [1.0]]))[:, 0])
        result = cls(offset, end - offset, log)
        there = (values - offset) / result.factor if result.factor else values
        if result.factor == 0 or not np.allclose(fitted.transform(values[:, None])[:, 0], there, rtol=1e-6, atol=1e-9):
            raise ValueError(
                f"scaler must shift and scale, and no more, so that it can be saved as two numbers, not {shown(scaler)}"
            )
        return result

    def scaled(self, values: Any) -> Any:
        """From a column's units."""
        return ((np.log(values) if self.log else values) - self.offset) / self.factor

    def back(self, values: Any) -> Any:
        """Into a column's units."""
        values = values * self.factor + self.offset
        return np.exp(values) if self.log else values


def check(scaler: Any) -> Any:
    """Check an argument ``scaler``: a name, or an instance of one of scikit-learn's."""
    if isinstance(scaler, str):
        return checks.choice("scaler", scaler, NAMES)
    if isinstance(scaler, type) or not all(hasattr(scaler, name) for name in ("fit", "transform", "inverse_transform")):
        raise TypeError(
            f"scaler must be one of {', '.join(map(repr, NAMES))} or a scaler of scikit-learn, not {shown(scaler)}"
        )
    return scaler


def scales(scaler: Any, columns: Mapping[str, Floats], target: str, log: bool) -> dict[str, Scale]:
    """A scale for each column; the logarithm is the target's alone.

    Raises
    ------
    ValueError
        Numbers are too large to be scaled, or too large for float32 when they are.
    """
    found = {}
    for name, values in columns.items():
        with np.errstate(over="ignore", invalid="ignore"):  # which is told below
            scale = Scale.of(scaler, values, log=log and name == target)
            largest = float(np.abs(scale.scaled(values)).max())
        if not (np.isfinite([scale.offset, scale.factor]).all() and largest <= checks.FLOAT32_MAX):
            raise ValueError(
                f"the column {shown(name)} has numbers up to {np.abs(values).max():g}, which are too large to compute "
                f"with as they are, scaled by scaler={shown(scaler)}: give it in larger units"
            )
        found[name] = scale
    return found


def _made(scaler: Any) -> Any:
    try:
        from sklearn import base, preprocessing
    except ImportError as error:
        raise ImportError(
            f"scaler={scaler!r} needs scikit-learn, which is missing: {install.with_extra('sklearn')}"
        ) from error
    return getattr(preprocessing, SCALERS[scaler])() if isinstance(scaler, str) else base.clone(scaler)
