"""Calibrated quantiles: by hand, by a loop over scores, on noise whose quantiles are known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from recurray.forecast import Forecaster, calibration

RNG = np.random.default_rng(5)


def by_hand(scores: Any, share: float) -> float:
    """The smallest score that at least ``share`` of these and one more are not above; the largest if there is none."""
    rank = math.ceil((len(scores) + 1) * share - 1e-9)
    return sorted(scores)[min(rank, len(scores)) - 1]


def test_intervals_move_as_in_conformalized_quantile_regression() -> None:
    levels = (0.1, 0.3, 0.5, 0.9)
    said = np.sort(RNG.standard_normal((120, 3, 4)), axis=-1)
    came = 2 * RNG.standard_normal((120, 3))
    found = calibration.shifts(said, came, levels)
    for step in range(3):
        low, single, _, high = said[:, step].T
        y = came[:, step]
        out = by_hand(np.maximum(low - y, y - high), 0.8)
        down = by_hand(single - y, 0.7)
        np.testing.assert_allclose(found[step], [-out, -down, 0, out])
        inside = (low - out <= y) & (y <= high + out)
        assert 0.8 <= inside.mean() <= 0.8 + 2 / 120
    assert (found[:, 3] > 0).all()  # wider
    wide = calibration.shifts(said + np.asarray([-9, 0, 0, 9]), came, levels)
    assert (wide[:, 3] < 0).all()  # narrower


def test_few_windows_borrow_from_the_steps_beside() -> None:
    """Fifty scores decide on 80 per cent, where there are as many: 10 of them outside."""
    levels = (0.1, 0.5, 0.9)
    came = RNG.standard_normal((20, 6))
    found = calibration.shifts(np.zeros((20, 6, 3)), came, levels)
    scores = np.abs(came)
    for step, steps in enumerate(([0, 1, 2], [0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5], [3, 4, 5])):
        np.testing.assert_allclose(found[step, 2], by_hand(scores[:, steps].ravel(), 0.8))
    few = calibration.shifts(np.zeros((1, 3, 3)), came[:1, :3], levels)
    np.testing.assert_allclose(few[:, 2], scores[0, :3].max())


def test_an_interval_of_all_but_nothing_is_as_wide_as_what_was_seen() -> None:
    came = RNG.standard_normal((30, 3))
    levels = (1e-300, 0.5, 1 - 2**-53)
    found = calibration.shifts(np.zeros((30, 3, 3)), came, levels)
    np.testing.assert_array_equal(found[1], np.abs(came).max() * np.array([-1, 0, 1]))


def test_moved_quantiles_stay_in_order_around_the_median() -> None:
    levels = (0.05, 0.25, 0.5, 0.75, 0.95)
    said = np.sort(RNG.standard_normal((4, 3, 5)), axis=-1)
    shifts = np.asarray([[0.5, 3.0, 0.0, -3.0, 0.2]] * 3)
    found = calibration.moved(said, shifts, levels)
    assert (np.diff(found, axis=-1) >= 0).all()
    np.testing.assert_array_equal(found[..., 2], said[..., 2])
    np.testing.assert_array_equal(found[..., 3], said[..., 2])  # it would be below the median
    outwards = np.asarray([[-0.5, -0.25, 0.0, 0.25, 0.5]] * 3)
    np.testing.assert_array_equal(calibration.moved(said, outwards, levels), said + outwards)


@pytest.mark.parametrize("calibrate", [False, True])
def test_intervals_of_noise_hold_what_they_promise(calibrate: bool) -> None:
    """Trained for one epoch the network says quantiles that are much too near to each other."""
    noise = RNG.standard_normal(700)
    options: dict[str, Any] = {"season": 0, "window": 2, "hidden_size": 2, "epochs": 1, "lr": 1e-4}
    forecaster = Forecaster(2, calibrate=calibrate, validation=0.4, **options)
    inside = forecaster.backtest(noise, folds=100).coverage[80]
    assert (0.7 <= inside <= 0.9) if calibrate else inside < 0.1


def test_calibration_leaves_the_forecast_as_it_is() -> None:
    series = np.sin(np.arange(90.0) / 3) + 0.1 * RNG.standard_normal(90)
    options: dict[str, Any] = {"season": 0, "window": 8, "hidden_size": 3, "epochs": 2, "seed": 1}
    plain, moved = (Forecaster(3, calibrate=flag, **options).fit(series) for flag in (False, True))
    np.testing.assert_array_equal(plain.predict(series).median, moved.predict(series).median)
    assert (plain.predict(series).values[:, [0, 2]] != moved.predict(series).values[:, [0, 2]]).all()
    assert moved.fitted_to.shifts is not None
    assert Forecaster(3, validation=0.0, **options).fit(series).fitted_to.shifts is None
