"""`LossScaler`: what it scales, when it adapts, and that it can be resumed."""

from __future__ import annotations

import json

import numpy as np
import pytest

import recurray as rr
from recurray.optim import LossScaler


def test_scaling_there_and_back_changes_nothing(backend):
    scaler = LossScaler(1024.0)
    rng = np.random.default_rng(0)
    dy = backend.asarray(rng.standard_normal((2, 3)), "float32")
    grads = {"w": backend.asarray(rng.standard_normal((4, 2)), "float32"), "b": backend.asarray(0.5, "float32")}
    scaled = {name: scaler.scaled(grad) for name, grad in grads.items()}
    np.testing.assert_array_equal(backend.to_numpy(scaler.scaled(dy)), 1024 * backend.to_numpy(dy))
    found = scaler.unscaled(scaled)
    assert list(found) == ["w", "b"]
    for name, grad in grads.items():
        assert backend.owns(found[name])
        assert found[name].dtype == grad.dtype
        np.testing.assert_array_equal(backend.to_numpy(found[name]), backend.to_numpy(grad))


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_it_shrinks_at_once_and_grows_after_good_steps_in_a_row(bad):
    scaler = LossScaler(64.0, growth=4.0, interval=3)
    good, wrong = {"w": np.ones(2)}, {"w": np.ones(2), "b": np.array([0.0, bad])}
    assert scaler.unscaled(wrong) is None
    assert scaler.scale == 16
    scales = []
    for grads in (good, good, wrong, good, good, good, good):
        scaler.unscaled(grads)
        scales.append(scaler.scale)
    assert scales == [16, 16, 4, 4, 4, 16, 16]
    assert scaler.unscaled({}) == {}


def test_it_stays_within_float32():
    scaler = LossScaler(2.0**125, interval=1)
    for _ in range(5):
        scaler.unscaled({"w": np.ones(1, "float32")})
    assert scaler.scale == 2.0**126
    assert np.isfinite(scaler.scaled(np.ones(1, "float32"))).all()


def test_a_resumed_scaler_goes_on_as_if_there_had_been_no_interruption():
    def run(scaler, steps):
        scales = []
        for k in steps:
            scaler.unscaled({"w": np.array([np.inf if k % 5 == 4 else 1.0])})
            scales.append(scaler.scale)
        return scales

    whole, first, second = LossScaler(interval=3), LossScaler(interval=3), LossScaler(2.0)
    expected = run(whole, range(14))
    begun = run(first, range(6))
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert begun + run(second, range(6, 14)) == expected
    assert repr(second) == repr(whole)


def test_small_gradients_survive_float16():
    """A toy layer whose gradient passes through float16: without scaling nothing is learned."""

    def gradient(dy):
        return dy.astype("float16").astype("float32") * 3

    dy = np.full(4, 1e-8, "float32")
    assert not gradient(dy).any()
    scaler = LossScaler()
    np.testing.assert_allclose(scaler.unscaled({"w": gradient(scaler.scaled(dy))})["w"], 3e-8, rtol=1e-3)


def test_bad_input():
    for wrong, error, words in [
        ({"scale": 0.0}, ValueError, "scale must be above 0 and at most 2\\*\\*126, not 0.0"),
        ({"scale": np.inf}, ValueError, "scale must be a finite number"),
        ({"scale": "8"}, TypeError, "scale must be a number, not str"),
        ({"growth": 1.0}, ValueError, "growth must be above 1, not 1.0"),
        ({"interval": 0}, ValueError, "interval must be at least 1, not 0"),
    ]:
        with pytest.raises(error, match=words):
            LossScaler(**wrong)
    scaler = LossScaler()
    before = scaler.state_dict()
    with pytest.raises(TypeError, match="grads must be a mapping of names to arrays, not list"):
        scaler.unscaled([np.ones(2)])
    with pytest.raises(TypeError, match="the gradient of 'w'"):
        scaler.unscaled({"w": [1.0]})
    with pytest.raises(TypeError, match="dy"):
        scaler.scaled([1.0])
    for state, error, words in [
        ([], TypeError, "state must be a mapping, not list"),
        ({"scale": 2.0}, ValueError, "state must have scale, growth, interval, steps_since_change, not scale"),
        ({**before, "growth": 0.5}, ValueError, "growth must be above 1"),
        ({**before, "steps_since_change": 2000}, ValueError, "must be below the interval 2000, not 2000"),
    ]:
        with pytest.raises(error, match=words):
            scaler.load_state_dict(state)
    assert scaler.state_dict() == before
    assert rr.optim.LossScaler is LossScaler


def test_settings_are_checked_and_made_plain_when_they_are_set_later():
    scaler = LossScaler(8.0)
    scaler.scale, scaler.growth, scaler.interval = np.float64(4), np.float64(2), np.int64(1)
    assert scaler.scaled(np.ones(2, "float32")).dtype == "float32"
    assert scaler.unscaled({"w": np.ones(2, "float32")})["w"].dtype == "float32"
    json.dumps(scaler.state_dict())
    assert scaler.scale == 8
    for name in ("scale", "growth"):
        for wrong in (float("nan"), float("inf"), 0.0, -1.0, True, "8"):
            with pytest.raises((ValueError, TypeError), match=f"{name} must be"):
                setattr(scaler, name, wrong)
    with pytest.raises(TypeError, match="interval must be an integer"):
        scaler.interval = 2.0
    assert (scaler.scale, scaler.growth, scaler.interval) == (8, 2, 1)


def test_it_does_not_shrink_to_nothing():
    scaler = LossScaler(2.0**-125)
    for _ in range(3):
        assert scaler.unscaled({"w": np.array([np.inf])}) is None
    LossScaler().load_state_dict(scaler.state_dict())
    assert scaler.unscaled({"w": np.array([2.0**-126])})["w"] == 1
