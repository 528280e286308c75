"""Intervals that hold what they promise: quantiles are moved by how far windows that weren't learned from were off.

Split-conformal prediction of quantiles, by Romano, Patterson and Candès, Conformalized Quantile Regression (2019), for
each step of the horizon. Windows that follow each other aren't exchangeable, as its theorem asks, so that nothing is
guaranteed: Barber, Candès, Ramdas and Tibshirani, Conformal Prediction Beyond Exchangeability (2023), bound what is
lost by that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from recurray.forecast.result import intervals_of

Floats = NDArray[np.float64]

_OUTSIDE = 10  # scores that lie outside, of those that a quantile is found from, if there are so many


def shifts(said: Floats, came: Floats, levels: Sequence[float]) -> Floats:
    """How far each quantile is to be moved at each step: (N, levels).

    Both ends of an interval move by as much, outwards or inwards, a level without a counterpart by itself; 0.5 stays.

    Parameters
    ----------
    said : array (windows, N, levels)
        Quantiles of windows that weren't learned from, at least one.
    came : array (windows, N)
        What came.
    levels : sequence of float
        Rising, with 0.5.

    Returns
    -------
    array (N, levels)
    """
    horizon = came.shape[1]
    found = np.zeros((horizon, len(levels)))
    for share, ends in _ends(levels):
        beyond = [side * (came - said[..., level]) for level, side in ends]
        scores = np.max(beyond, axis=0)
        for step in range(horizon):
            near = _nearest(scores, step, share)
            for level, side in ends:
                found[step, level] = side * _quantile(near, share)
    return found


def moved(said: Floats, shifts: Floats, levels: Sequence[float]) -> Floats:
    """Quantiles (..., N, levels) moved, none of them beyond one of a higher level, nor beyond 0.5's, which stays."""
    middle = list(levels).index(0.5)
    median = said[..., middle : middle + 1]
    values = said + shifts
    values[..., :middle] = np.minimum(values[..., :middle], median)
    values[..., middle + 1 :] = np.maximum(values[..., middle + 1 :], median)
    return np.sort(values, axis=-1)


def _ends(levels: Sequence[float]) -> Iterator[tuple[float, list[tuple[int, int]]]]:
    """Which levels move together, -1 before those that move down, and the share that is to lie within."""
    alone = {level for level, value in enumerate(levels) if value != 0.5}
    for percent, low, high in intervals_of(tuple(levels)):
        alone -= {low, high}
        yield percent / 100, [(low, -1), (high, 1)]
    for level in sorted(alone):
        below = levels[level] < 0.5
        yield 1 - levels[level] if below else levels[level], [(level, -1 if below else 1)]


def _nearest(scores: Floats, step: int, share: float) -> Floats:
    """The scores of a step; where these are too few to lie outside ``share``, of the steps beside it too."""
    for reach in range(scores.shape[1]):
        near = scores[:, max(0, step - reach) : step + reach + 1]
        if near.size * (1 - share) >= _OUTSIDE:
            break
    return near.ravel()


def _quantile(scores: Floats, share: float) -> float:
    """The score that a new one is below with the probability ``share``; the largest where there are too few to tell."""
    rank = int(np.ceil(round((len(scores) + 1) * share, 9)))
    return float(np.sort(scores)[min(rank, len(scores)) - 1])
