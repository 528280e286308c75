"""Learning rates that go up and down, or begin anew."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from recurray import checks
from recurray.schedules.arguments import check_numbers, check_size, count, power, rate


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
        check_numbers(self, "lr_min", "lr_max", "gamma")
        check_size(self, "step_up")
        if self.step_down is not None:
            check_size(self, "step_down")
        checks.choice("mode", self.mode, ("triangular", "triangular2", "exp_range"))
        if self.lr_min > self.lr_max:
            raise ValueError(f"lr_min must be at most lr_max, but {self.lr_min} is above {self.lr_max}")

    def __call__(self, step: int) -> float:
        """Return the learning rate at ``step``."""
        step = count(step)
        down = self.step_up if self.step_down is None else self.step_down
        cycle, place = divmod(step, self.step_up + down)
        height = place / self.step_up if place <= self.step_up else (self.step_up + down - place) / down
        if self.mode == "triangular2":
            height *= power(0.5, cycle)
        elif self.mode == "exp_range":
            height *= power(self.gamma, step)
        return rate(self.lr_min + (self.lr_max - self.lr_min) * height, step)


@dataclass(frozen=True)
class OneCycle:
    """Up to ``lr_max`` and down to next to nothing, once [1]_; PyTorch's ``OneCycleLR``.

    It begins at lr_max / div_factor and ends, at the last of the steps, at lr_max / (div_factor final_div_factor). Past
    it the learning rate stays there.

    Parameters
    ----------
    lr_max : float
        The highest learning rate.
    steps : int
        How many steps the schedule lasts.
    pct_start : float
        The share of the steps, from 0 to 1, that the way up takes.
    anneal : {"cosine", "linear"}
        The form of the ways.
    div_factor, final_div_factor : float
        Above 0; see above.
    three_phase : bool
        Whether the way down to where it began takes as long as the way up, and the rest leads to the end.

    Raises
    ------
    ValueError, TypeError
        A parameter is negative or no number, a factor is 0, ``pct_start`` is above 1, or above a half with
        ``three_phase``, ``steps`` is no integer of at least 1, or ``anneal`` is unknown.

    References
    ----------
    .. [1] L. N. Smith and N. Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning
       Rates", 2017, arXiv:1708.07120.

    Examples
    --------
    >>> import recurray as rr
    >>> schedule = rr.schedules.OneCycle(lr_max=1.0, steps=11, pct_start=0.5, anneal="linear", div_factor=10.0)
    >>> [round(schedule(step), 3) for step in (0, 2, 4, 5, 7, 10, 100)]
    [0.1, 0.5, 0.9, 0.909, 0.545, 0.0, 0.0]
    """

    lr_max: float
    steps: int
    pct_start: float = 0.3
    anneal: Literal["cosine", "linear"] = "cosine"
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    three_phase: bool = False

    def __post_init__(self) -> None:
        check_numbers(self, "lr_max", "pct_start", "div_factor", "final_div_factor")
        check_size(self, "steps")
        checks.choice("anneal", self.anneal, ("cosine", "linear"))
        checks.flag("three_phase", self.three_phase)
        for name in ("div_factor", "final_div_factor"):
            if not getattr(self, name):
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)!r}")
        most = 0.5 if self.three_phase else 1.0
        if self.pct_start > most:
            raise ValueError(f"pct_start must be at most {most}, not {self.pct_start!r}")

    def __call__(self, step: int) -> float:
        """Return the learning rate at ``step``."""
        step, last = count(step), self.steps - 1
        start = self.lr_max / self.div_factor
        end, top = start / self.final_div_factor, self.pct_start * self.steps - 1
        ways = [(0.0, top, start, self.lr_max), (top, float(last), self.lr_max, end)]
        if self.three_phase:
            down = 2 * self.pct_start * self.steps - 2
            ways[1:] = [(top, down, self.lr_max, start), (down, float(last), start, end)]
        if step >= last:
            return rate(end, step)
        first, stop, high, low = next(way for way in ways if step <= way[1])
        way = (step - first) / (stop - first) if stop > first else 1.0
        if self.anneal == "cosine":
            way = 0.5 * (1.0 - math.cos(math.pi * way))
        return rate(high + (low - high) * way, step)


@dataclass(frozen=True)
class CosineRestarts:
    """Half a cosine from ``lr`` down to ``lr_min``, over and over [1]_; PyTorch's ``CosineAnnealingWarmRestarts``.

    Parameters
    ----------
    lr : float
        At the beginning of each cosine.
    steps : int
        How many steps the first cosine takes.
    factor : int
        How many times as long as the one before each further cosine is.
    lr_min : float
        What each cosine leads to, at most ``lr``.

    Raises
    ------
    ValueError, TypeError
        A parameter is negative or no number, ``lr_min`` is above ``lr``, or ``steps`` or ``factor`` is no integer of at
        least 1.

    References
    ----------
    .. [1] I. Loshchilov and F. Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017,
       arXiv:1608.03983.

    Examples
    --------
    >>> import recurray as rr
    >>> schedule = rr.schedules.CosineRestarts(lr=1.0, steps=2, factor=2)
    >>> [round(schedule(step), 3) for step in range(7)]
    [1.0, 0.5, 1.0, 0.854, 0.5, 0.146, 1.0]
    """

    lr: float
    steps: int
    factor: int = 1
    lr_min: float = 0.0

    def __post_init__(self) -> None:
        check_numbers(self, "lr", "lr_min")
        check_size(self, "steps")
        check_size(self, "factor")
        if self.lr_min > self.lr:
            raise ValueError(f"lr_min must be at most lr, but {self.lr_min} is above {self.lr}")

    def __call__(self, step: int) -> float:
        """Return the learning rate at ``step``."""
        place, length = count(step), self.steps
        if self.factor == 1:
            place %= length
        while place >= length:
            place, length = place - length, length * self.factor
        return self.lr_min + 0.5 * (self.lr - self.lr_min) * (1.0 + math.cos(math.pi * (place / length)))
