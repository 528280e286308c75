"""Ridge regression, the forecast that a recurrent network has to be better than: linear in all that it reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ALPHAS = tuple(10.0**k for k in range(-3, 5))
LEAST = 1e-13  # of the sum of all squares: less than that can't be told from rounding


@dataclass(frozen=True)
class Ridge:
    """A line for each output, whose coefficients' squares are kept small.

    Hoerl and Kennard, Ridge Regression: Biased Estimation for Nonorthogonal Problems (1970): ``coef`` makes
    ``|y - x coef - intercept|² + alpha |coef|²`` least, as `sklearn.linear_model.Ridge` does. Where alpha would be lost
    in the rounding of much larger features, it is as large as can be told from that.

    Attributes
    ----------
    coef : array (features, outputs)
    intercept : array (outputs,)
    """

    coef: Floats
    intercept: Floats

    @classmethod
    def fit(cls, x: Floats, y: Floats, alpha: float) -> Self:
        """Fit to x (rows, features) and y (rows, outputs)."""
        mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
        centred = x - mean_x
        alpha = max(alpha, LEAST * float(np.square(centred).sum()))
        if len(x) < x.shape[1]:  # the smaller of two equal forms
            gram = centred @ centred.T + alpha * np.eye(len(x))
            coef = centred.T @ np.linalg.solve(gram, y - mean_y)
        else:
            gram = centred.T @ centred + alpha * np.eye(x.shape[1])
            coef = np.linalg.solve(gram, centred.T @ (y - mean_y))
        return cls(coef, mean_y - mean_x @ coef)

    @classmethod
    def chosen(cls, x: Floats, y: Floats, held: Any, held_y: Any) -> tuple[Self, Self]:
        """Fit with the best alpha of `ALPHAS` for held-out rows, 1 without any: to the others alone, and to all."""
        if not len(held):
            return (cls.fit(x, y, 1.0),) * 2
        fits = [cls.fit(x, y, alpha) for alpha in ALPHAS]
        best = int(np.argmin([float(np.abs(fit(held) - held_y).mean()) for fit in fits]))
        return fits[best], cls.fit(np.concatenate([x, held]), np.concatenate([y, held_y]), ALPHAS[best])

    def __call__(self, x: Floats) -> Floats:
        """Predict the outputs of x (rows, features)."""
        return np.asarray(x @ self.coef + self.intercept)
