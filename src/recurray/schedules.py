"""Learning-rate schedules: the learning rate as a pure function of the number of steps taken.

A schedule is called with a step, counted from 0, and remembers nothing. So a resumed training needs no more than
its step count to go on with the same learning rates::

    schedule = rr.schedules.Cosine(lr=1e-3, steps=10_000)
    for step in range(10_000):
        optimizer.lr = schedule(step)
        ...
        optimizer.step(grads)

Any function of the step count will do in their place. Each takes integers from 0 on: ``TypeError`` and
``ValueError`` for anything else, and ``ValueError`` where a learning rate that grows is beyond the largest number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from recurray import checks
from recurray.messages import shown

__all__ = ["Cosine", "Cyclic", "Exponential", "Step"]


@dataclass(frozen=True)
class Step:
    """A staircase: the learning rate is multiplied by ``gamma`` every ``step_size`` steps.

    Parameters
    ----------
    lr : float
        At step 0.
    step_size : int
        How many steps one learning rate lasts.
    gamma : float
        The factor from one stair to the next.

    Raises
    ------
    ValueError, TypeError
        A parameter is negative or no number, or ``step_size`` no integer of at least 1.

    Examples
    --------
    >>> import recurray as rr
    >>> schedule = rr.schedules.Step(lr=0.5, step_size=10, gamma=0.5)
    >>> schedule(0), schedule(9), schedule(10), schedule(25)
    (0.5, 0.5, 0.25, 0.125)
    """

    lr: float
    step_size: int
    gamma: float = 0.1

    def __post_init__(self) -> None:
        _check_numbers(self, "lr", "gamma")
        _check_size(self, "step_size")

    def __call__(self, step: int) -> float:
        """Return the learning rate at ``step``."""
        step = _count(step)
        return _rate(self.lr * _power(self.gamma, step // self.step_size), step)


@dataclass(frozen=True)
class Exponential:
    """Exponential decay: the learning rate is multiplied by ``gamma`` at every step.

    Parameters
    ----------
    lr : float
        At step 0.
    gamma : float
        The factor from one step to the next.

    Raises
    ------
    ValueError, TypeError
        A parameter is negative or no number.

    Examples
    --------
    >>> import recurray as rr
    >>> schedule = rr.schedules.Exponential(lr=1.0, gamma=0.5)
    >>> schedule(0), schedule(1), schedule(4)
    (1.0, 0.5, 0.0625)
    """

    lr: float
    gamma: float

    def __post_init__(self) -> None:
        _check_numbers(self, "lr", "gamma")

    def __call__(self, step: int) -> float:
        """Return the learning rate at ``step``."""
        step = _count(step)
        return _rate(self.lr * _power(self.gamma, step), step)


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from ``lr`` down to ``lr_min``, after a linear warm-up if wanted [1]_.

    Over the first ``warmup`` steps the learning rate grows in equal parts, lr (step + 1) / (warmup + 1), and reaches
    ``lr`` at step ``warmup``. From there the cosine falls to ``lr_min`` at step ``steps``, and past it the learning
    rate stays at ``lr_min``. (PyTorch's ``CosineAnnealingLR``, which has no warm-up, rises again there.)

    Parameters
    ----------
    lr : float
        The highest learning rate.
    steps : int
        How many steps the schedule lasts, warm-up included.
    lr_min : float
        The learning rate at the end, at most ``lr``.
    warmup : int
        How many of the steps warm up.

    Raises
    ------
    ValueError, TypeError
        A parameter is negative or no number, ``lr_min`` is above ``lr``, or ``steps`` isn't above ``warmup``.

    References
    ----------
    .. [1] I. Loshchilov and F. Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017,
       arXiv:1608.03983, equation 5.

    Examples
    --------
    >>> import recurray as rr
    >>> schedule = rr.schedules.Cosine(lr=1.0, steps=100)
    >>> [round(schedule(step), 3) for step in (0, 25, 50, 75, 100, 1000)]
    [1.0, 0.854, 0.5, 0.146, 0.0, 0.0]
    >>> schedule = rr.schedules.Cosine(lr=1.0, steps=100, lr_min=0.1, warmup=3)
    >>> [round(schedule(step), 3) for step in (0, 1, 2, 3, 100)]
    [0.25, 0.5, 0.75, 1.0, 0.1]
    """

    lr: float
    steps: int
    lr_min: float = 0.0
    warmup: int = 0

    def __post_init__(self) -> None:
        _check_numbers(self, "lr", "lr_min")
        _check_size(self, "warmup", least=0)
        _check_size(self, "steps")
        if self.lr_min > self.lr:
            raise ValueError(f"lr_min must be at most lr, but {self.lr_min} is above {self.lr}")
        if self.steps <= self.warmup:
            raise ValueError(f"steps must be above warmup, which they include, but {self.steps} <= {self.warmup}")

    def __call__(self, step: int) -> float:
        """Return the learning rate at ``step``."""
        step = _count(step)
        if step < self.warmup:
            return self.lr * ((step + 1) / (self.warmup + 1))
        if step >= self.steps:
            return self.lr_min
        way = (step - self.warmup) / (self.steps - self.warmup)  # of the cosine, from 0 to 1
        return self.lr_min + 0.5 * (self.lr - self.lr_min) * (1.0 + math.cos(math.pi * way))


@dataclass(frozen=True)
class Cyclic:
    """Triangles: up from ``lr_min`` to ``lr_max`` and down again, over and over [1]_.

    Parameters
    ----------
    lr_min, lr_max : float
        The ends between which it goes.
    step_up : int
        How many steps the way up takes.
    step_down : int, optional
        How many steps the way down takes; as many as up if omitted.
    mode : {"triangular", "triangular2", "exp_range"}
        Whether all triangles are as high as the first, each is half as high as the one before, or their height
        at a step is multiplied by gamma^step.
    gamma : float
        For "exp_range" alone.

    Raises
    ------
    ValueError, TypeError
        A parameter is negative or no number, ``lr_min`` is above ``lr_max``, a number of steps is no integer of at
        least 1, or the mode is unknown.

    References
    ----------
    .. [1] L. N. Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017, arXiv:1506.01186.

    Examples
    --------
    >>> import recurray as rr
    >>> schedule = rr.schedules.Cyclic(lr_min=0.0, lr_max=1.0, step_up=2, step_down=4, mode="triangular2")
    >>> [schedule(step) for step in range(13)]
    [0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0, 0.25, 0.5, 0.375, 0.25, 0.125, 0.0]
    """

    lr_min: float
    lr_max: float
    step_up: int
    step_down: int | None = None
    mode: Literal["triangular", "triangular2", "exp_range"] = "triangular"
    gamma: float = 1.0

    def __post_init__(self) -> None:
        _check_numbers(self, "lr_min", "lr_max", "gamma")
        _check_size(self, "step_up")
        if self.step_down is not None:
            _check_size(self, "step_down")
        checks.choice("mode", self.mode, ("triangular", "triangular2", "exp_range"))
        if self.lr_min > self.lr_max:
            raise ValueError(f"lr_min must be at most lr_max, but {self.lr_min} is above {self.lr_max}")

    def __call__(self, step: int) -> float:
        """Return the learning rate at ``step``."""
        step = _count(step)
        down = self.step_up if self.step_down is None else self.step_down
        cycle, place = divmod(step, self.step_up + down)
        height = place / self.step_up if place <= self.step_up else (self.step_up + down - place) / down
        if self.mode == "triangular2":
            height *= _power(0.5, cycle)
        elif self.mode == "exp_range":
            height *= _power(self.gamma, step)
        return _rate(self.lr_min + (self.lr_max - self.lr_min) * height, step)


def _check_numbers(schedule: Any, *names: str) -> None:
    """Check the schedule's attributes of these names: finite numbers, none negative. Make them Python floats."""
    for name in names:
        value = getattr(schedule, name)
        number = checks.number(name, value)
        if not 0.0 <= number < math.inf:
            raise ValueError(f"{name} must be at least 0 and finite, not {shown(value)}")
        object.__setattr__(schedule, name, number)


def _check_size(schedule: Any, name: str, least: int = 1) -> None:
    """Check one of the schedule's attributes: a number of steps. Make it a Python integer, that knows no overflow."""
    object.__setattr__(schedule, name, checks.size(name, getattr(schedule, name), least))


def _power(factor: float, count: int) -> float:
    """``factor`` to the power of a count of any size; infinity where that is beyond the largest number."""
    try:
        return float(factor ** min(count, 10**300))
    except OverflowError:
        return math.inf


def _rate(lr: float, step: int) -> float:
    """Check a learning rate."""
    if not lr < math.inf:
        raise ValueError(f"the learning rate of step {step} must be finite, not {lr!r}: a factor above 1 has run away")
    return lr


def _count(step: Any) -> int:
    return checks.size("step", step, least=0, most=None)  # a run may be as long as it likes
