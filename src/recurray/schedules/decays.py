"""Learning rates that fall."""

from __future__ import annotations

import math
from dataclasses import dataclass

from recurray.schedules.arguments import check_numbers, check_size, count, power, rate


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
        check_numbers(self, "lr", "gamma")
        check_size(self, "step_size")

    def __call__(self, step: int) -> float:
        """Return the learning rate at ``step``."""
        step = count(step)
        return rate(self.lr * power(self.gamma, step // self.step_size), step)


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
        check_numbers(self, "lr", "gamma")

    def __call__(self, step: int) -> float:
        """Return the learning rate at ``step``."""
        step = count(step)
        return rate(self.lr * power(self.gamma, step), step)


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
        check_numbers(self, "lr", "lr_min")
        check_size(self, "warmup", least=0)
        check_size(self, "steps")
        if self.lr_min > self.lr:
            raise ValueError(f"lr_min must be at most lr, but {self.lr_min} is above {self.lr}")
        if self.steps <= self.warmup:
            raise ValueError(f"steps must be above warmup, which they include, but {self.steps} <= {self.warmup}")

    def __call__(self, step: int) -> float:
        """Return the learning rate at ``step``."""
        step = count(step)
        if step < self.warmup:
            return self.lr * ((step + 1) / (self.warmup + 1))
        if step >= self.steps:
            return self.lr_min
        way = (step - self.warmup) / (self.steps - self.warmup)  # of the cosine, from 0 to 1
        return self.lr_min + 0.5 * (self.lr - self.lr_min) * (1.0 + math.cos(math.pi * way))
