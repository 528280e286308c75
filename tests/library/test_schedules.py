"""Learning-rate schedules against PyTorch's schedulers, and what is said of them beyond that."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import recurray as rr
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

    @pytest.mark.parametrize("anneal", ["cosine", "linear"])
    @pytest.mark.parametrize("three_phase", [False, True])
    @pytest.mark.parametrize(("steps", "pct"), [(50, 0.3), (37, 0.25), (10, 0.5), (20, 0.0)])
    def test_one_cycle(self, steps: int, pct: float, three_phase: bool, anneal: Any) -> None:
        if three_phase and pct == 0.0:
            pct = 0.45
        rates = self.follow(
            0.7,
            lambda lib, optimizer: lib.OneCycleLR(
                optimizer,
                0.3,
                steps,
                pct_start=pct,
                anneal_strategy="cos" if anneal == "cosine" else anneal,
                div_factor=10.0,
                final_div_factor=50.0,
                three_phase=three_phase,
                cycle_momentum=False,
            ),
            steps - 1,
        )
        schedule = schedules.OneCycle(0.3, steps, pct, anneal, 10.0, 50.0, three_phase)
        self.check(schedule, [*rates, 0.3 / 10 / 50])
        assert schedule(10 * steps) == schedule(steps - 1)

    @pytest.mark.parametrize(("steps", "factor", "lr_min"), [(7, 1, 0.0), (5, 2, 0.01), (1, 3, 0.1)])
    def test_cosine_restarts(self, steps: int, factor: int, lr_min: float) -> None:
        rates = self.follow(
            0.3, lambda lib, optimizer: lib.CosineAnnealingWarmRestarts(optimizer, steps, factor, lr_min), 60
        )
        self.check(schedules.CosineRestarts(0.3, steps, factor, lr_min), rates)

    @pytest.mark.parametrize("mode", ["min", "max"])
    @pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
    @pytest.mark.parametrize(("patience", "cooldown", "threshold"), [(0, 0, 1e-4), (2, 3, 0.1), (1, 1, 0.0)])
    def test_reduce_on_plateau(
        self, mode: Any, threshold_mode: Any, patience: int, cooldown: int, threshold: float
    ) -> None:
        torch = need("torch")
        options = {"mode": mode, "threshold": threshold, "threshold_mode": threshold_mode, "cooldown": cooldown}
        schedule = schedules.ReduceOnPlateau(0.3, 0.5, patience, lr_min=1e-3, **options)
        rng = np.random.default_rng(0)
        falls = (1 if mode == "max" else -1) * np.repeat(np.arange(10), 8) * 0.05
        values = [*(falls + 0.15 * rng.standard_normal(80)), float("nan"), *[0.0] * 40]
        values[7], values[11] = values[6], 0.0
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
        other = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, factor=0.5, patience=patience, min_lr=1e-3, **options
        )
        found = []
        for place, value in enumerate(values):
            if place % 13 == 5:
                state = schedule.state_dict()
                schedule = schedules.ReduceOnPlateau(0.3, 0.5, patience, lr_min=1e-3, **options)
                schedule.load_state_dict(state)
            found.append(schedule.observe(value))
            other.step(value)
            assert found[-1] == schedule.lr == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        assert len(set(found)) > 4
        assert found[-1] == 1e-3


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
        schedules.OneCycle(0.1, 60),
        schedules.CosineRestarts(0.1, 7),
        schedules.CosineRestarts(0.1, 7, 3, 0.01),
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
        (lambda: schedules.OneCycle(0.1, 0), ValueError, "steps must be at least 1"),
        (lambda: schedules.OneCycle(0.1, 9, 1.5), ValueError, "pct_start must be at most 1.0"),
        (lambda: schedules.OneCycle(0.1, 9, 0.6, three_phase=True), ValueError, "pct_start must be at most 0.5"),
        (lambda: schedules.OneCycle(0.1, 9, div_factor=0.0), ValueError, "div_factor must be above 0"),
        (lambda: schedules.OneCycle(0.1, 9, anneal="cos"), ValueError, "anneal must be one of 'cosine'"),
        (lambda: schedules.CosineRestarts(0.1, 9, 0), ValueError, "factor must be at least 1"),
        (lambda: schedules.CosineRestarts(0.1, 9, lr_min=0.2), ValueError, "lr_min must be at most lr"),
        (lambda: schedules.ReduceOnPlateau(0.1, 1.0), ValueError, "factor must be below 1"),
        (lambda: schedules.ReduceOnPlateau(0.1, patience=-1), ValueError, "patience must be at least 0"),
        (lambda: schedules.ReduceOnPlateau(0.1, mode="low"), ValueError, "mode must be one of 'min'"),
        (lambda: schedules.ReduceOnPlateau(0.1).observe("1"), TypeError, "value must be a number"),
        (lambda: schedules.ReduceOnPlateau(0.1).load_state_dict({"lr": 1.0}), ValueError, "best, waited, .* missing"),
        (lambda: schedules.ReduceOnPlateau(0.1).load_state_dict([]), TypeError, "state must be what state_dict"),
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


def test_reduce_on_plateau_takes_arrays_of_a_number_and_begins_with_infinity() -> None:
    schedule = schedules.ReduceOnPlateau(0.1, patience=0)
    assert [schedule.observe(value) for value in (np.float32(2.0), np.array(1.0))] == [0.1, 0.1]
    assert schedule.observe(float("nan")) == pytest.approx(0.01)
    assert schedules.ReduceOnPlateau(0.1, patience=0).observe(float("inf")) == pytest.approx(0.01)
    assert all(type(value) in (int, float) for value in schedule.state_dict().values())


def test_a_training_goes_by_reduce_on_plateau() -> None:
    x = np.random.default_rng(0).standard_normal((8, 5, 2)).astype("float32")
    model = rr.Sequential(rr.LSTM(2, 3, seed=0), rr.Last(), rr.Linear(3, 1, seed=1))
    optimizer = rr.optim.SGD(model.params, lr=0.0)
    schedule = schedules.ReduceOnPlateau(0.0, 0.5, 0, eps=0.0)
    schedule.lr = optimizer.lr = 1e-12
    rr.fit(model, "mse", optimizer, (x, x[:, 0, :1]), epochs=4, schedule=schedule, progress=False)
    assert optimizer.lr == schedule.lr < 1e-12
