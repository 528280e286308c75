"""Learning-rate schedules against PyTorch's schedulers, and what is said of them beyond that."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.needs import need
from recurray import schedules


class TestAgainstPyTorch:
    @staticmethod
    def follow(lr: float, make: Callable[[Any, Any], Any], steps: int) -> list[float]:
        """Return the learning rates that a scheduler of PyTorch sets, step by step."""
        torch = need("torch")
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
        scheduler = make(torch.optim.lr_scheduler, optimizer)
        rates = []
        for _ in range(steps):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        return rates

    def check(self, schedule: Callable[[int], float], rates: list[float]) -> None:
        assert len(set(rates)) > 1
        np.testing.assert_allclose([schedule(step) for step in range(len(rates))], rates, rtol=1e-12, atol=1e-15)

    @pytest.mark.parametrize(("step_size", "gamma"), [(1, 0.9), (7, 0.1), (10, 1.5)])
    def test_step(self, step_size: int, gamma: float) -> None:
        rates = self.follow(0.3, lambda lib, optimizer: lib.StepLR(optimizer, step_size, gamma), 60)
        self.check(schedules.Step(0.3, step_size, gamma), rates)

    @pytest.mark.parametrize("gamma", [0.5, 0.97, 1.01])
    def test_exponential(self, gamma: float) -> None:
        rates = self.follow(0.3, lambda lib, optimizer: lib.ExponentialLR(optimizer, gamma), 60)
        self.check(schedules.Exponential(0.3, gamma), rates)

    @pytest.mark.parametrize(("steps", "lr_min"), [(40, 0.0), (41, 0.01), (2, 0.1)])
    def test_cosine(self, steps: int, lr_min: float) -> None:
        rates = self.follow(0.3, lambda lib, optimizer: lib.CosineAnnealingLR(optimizer, steps, lr_min), steps + 1)
        self.check(schedules.Cosine(0.3, steps, lr_min), rates)

    @pytest.mark.parametrize("mode", ["triangular", "triangular2", "exp_range"])
    @pytest.mark.parametrize(("up", "down"), [(5, None), (4, 9), (9, 4), (1, 1)])
    def test_cyclic(self, mode: Any, up: int, down: int | None) -> None:
        rates = self.follow(
            0.01,
            lambda lib, optimizer: lib.CyclicLR(
                optimizer, 0.01, 0.3, up, down, mode=mode, gamma=0.95, cycle_momentum=False
            ),
            60,
        )
        self.check(schedules.Cyclic(0.01, 0.3, up, down, mode, 0.95), rates)


@given(st.integers(1, 50), st.integers(0, 40), st.floats(0, 1), st.floats(0, 1), st.integers(0, 200))
def test_cosine_with_warmup(cosine: int, warmup: int, low: float, high: float, step: int) -> None:
    low, high = sorted((low, high))
    schedule = schedules.Cosine(high, warmup + cosine, lr_min=low, warmup=warmup)
    rate = schedule(step)
    if step < warmup:
        assert rate == pytest.approx(high * (step + 1) / (warmup + 1), rel=1e-15)
        assert rate <= schedule(step + 1)
    else:
        assert rate == schedules.Cosine(high, cosine, lr_min=low)(step - warmup)
        assert rate >= schedule(step + 1)
        assert low <= rate <= high + 1e-15
    if step >= warmup + cosine:
        assert rate == low


def test_cosine_is_whole_after_warmup_and_stays_at_the_end() -> None:
    schedule = schedules.Cosine(1.0, 30, lr_min=0.25, warmup=10)
    assert schedule(0) == pytest.approx(1 / 11)
    assert schedule(10) == 1.0
    assert schedule(20) == pytest.approx(0.625)
    assert schedule(29) > 0.25
    assert [schedule(step) for step in (30, 31, 10**9)] == [0.25] * 3


@pytest.mark.parametrize(
    "schedule",
    [
        schedules.Step(0.1, 3, 0.5),
        schedules.Exponential(0.1, 0.99),
        schedules.Cosine(0.1, 1000, warmup=10),
        schedules.Cyclic(0.0, 0.1, 5, mode="triangular2"),
        schedules.Cyclic(0.0, 0.1, 5, mode="exp_range", gamma=0.9),
    ],
    ids=repr,
)
class TestEverySchedule:
    def test_is_a_function_of_the_step_alone(self, schedule: Callable[[int], float]) -> None:
        forward = [schedule(step) for step in range(100)]
        assert [schedule(step) for step in reversed(range(100))] == forward[::-1]
        assert all(type(rate) is float for rate in forward)

    def test_cannot_be_changed(self, schedule: Any) -> None:
        field = dataclasses.fields(schedule)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(schedule, field, 1.0)

    def test_runs_for_ever(self, schedule: Callable[[int], float]) -> None:
        assert 0.0 <= schedule(10**7) <= 0.1

    def test_takes_numpy_integers(self, schedule: Callable[[Any], float]) -> None:
        assert schedule(np.int64(7)) == schedule(7)
        assert type(schedule(np.int64(7))) is float

    @pytest.mark.parametrize("step", [10**30, 10**400])
    def test_runs_for_longer_than_a_float_can_count(self, schedule: Callable[[int], float], step: int) -> None:
        assert 0.0 <= schedule(step) <= 0.1

    def test_refuses_other_steps(self, schedule: Callable[[Any], float]) -> None:
        with pytest.raises(ValueError, match="step must be at least 0, not -1"):
            schedule(-1)
        with pytest.raises(TypeError, match="step must be an integer"):
            schedule(1.5)


@pytest.mark.parametrize(
    "schedule",
    [
        schedules.Step(0.1, 3, 2),
        schedules.Exponential(0.1, 1.5),
        schedules.Exponential(0.1, 2),
        schedules.Cyclic(0.0, 0.1, 5, mode="exp_range", gamma=3),
    ],
    ids=repr,
)
@pytest.mark.parametrize("step", [10_006, 10**30 + 6, 10**400 + 6])
def test_a_learning_rate_that_runs_away_is_refused(schedule: Callable[[int], float], step: int) -> None:
    assert schedule(7) > 0
    with pytest.raises(ValueError, match=f"the learning rate of step {step} must be finite, not inf"):
        schedule(step)


def test_numbers_become_python_floats() -> None:
    schedule = schedules.Cosine(np.float32(0.5), np.int64(10), lr_min=np.float64(0.25))
    assert all(type(schedule(step)) is float for step in (0, 5, 10))
    assert schedule == schedules.Cosine(0.5, 10, 0.25)
    assert type(schedule.lr) is float


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: schedules.Step(-0.1, 3), ValueError, "lr must be at least 0"),
        (lambda: schedules.Step(0.1, 0), ValueError, "step_size must be at least 1"),
        (lambda: schedules.Step(0.1, 2.0), TypeError, "step_size must be an integer"),
        (lambda: schedules.Step(0.1, 3, -0.5), ValueError, "gamma must be at least 0"),
        (lambda: schedules.Exponential("0.1", 0.9), TypeError, "lr must be a number"),
        (lambda: schedules.Exponential(0.1, float("nan")), ValueError, "gamma must be at least 0 and finite"),
        (lambda: schedules.Cosine(0.1, 0), ValueError, "steps must be at least 1"),
        (lambda: schedules.Cosine(0.1, 10, lr_min=0.2), ValueError, "lr_min must be at most lr"),
        (lambda: schedules.Cosine(0.1, 10, warmup=10), ValueError, "steps must be above warmup"),
        (lambda: schedules.Cosine(0.1, 10, warmup=-1), ValueError, "warmup must be at least 0"),
        (lambda: schedules.Cyclic(0.1, 0.2, 0), ValueError, "step_up must be at least 1"),
        (lambda: schedules.Cyclic(0.1, 0.2, 1, 0), ValueError, "step_down must be at least 1"),
        (lambda: schedules.Cyclic(0.3, 0.2, 1), ValueError, "lr_min must be at most lr_max"),
        (lambda: schedules.Cyclic(0.1, 0.2, 1, mode="saw"), ValueError, "mode must be one of .*'triangular2'"),
    ],
)
def test_refusals(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_sizes_of_numpy_are_whole_numbers_too() -> None:
    """They have no room for the count of a step that is far out."""
    n = np.int64(2)
    for schedule in (
        schedules.Step(0.1, n),
        schedules.Cosine(0.1, np.int64(5), warmup=n),
        schedules.Cyclic(0.0, 0.1, n, n),
    ):
        assert 0.0 <= schedule(10**30) <= 0.1
