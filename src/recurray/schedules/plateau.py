"""A learning rate that falls where training gets no further."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from recurray import checks
from recurray.schedules.arguments import check_numbers, check_size


class ReduceOnPlateau:
    """The learning rate is multiplied by ``factor`` where a value has stopped getting better, as in PyTorch.

    Unlike the other schedules it isn't a function of the step: it is told a value by `observe`, after each epoch say,
    and returns the learning rate from there on.

    Parameters
    ----------
    lr : float
        At the beginning.
    factor : float
        What the learning rate is multiplied by; below 1.
    patience : int
        How many values in a row that are no better are put up with; at one more the learning rate falls.
    mode : {"min", "max"}
        Whether a lower or a higher value is better.
    threshold : float
        How much better than the best a value must be to count as better.
    threshold_mode : {"rel", "abs"}
        Whether that is a share of the best value, or an amount.
    cooldown : int
        How many values after each fall aren't counted.
    lr_min : float
        The learning rate never falls below it.
    eps : float
        A fall by no more than this isn't made.

    Attributes
    ----------
    lr : float
        The learning rate now.

    Raises
    ------
    ValueError, TypeError
        A parameter is negative or no number, ``factor`` isn't below 1, or a mode is unknown.

    Examples
    --------
    >>> import recurray as rr
    >>> schedule = rr.schedules.ReduceOnPlateau(lr=1.0, factor=0.5, patience=1)
    >>> [schedule.observe(loss) for loss in (3.0, 2.0, 2.0, 2.5, 1.0)]
    [1.0, 1.0, 1.0, 0.5, 0.5]

    Its state, numbers alone, goes on in another:

    >>> other = rr.schedules.ReduceOnPlateau(lr=1.0, factor=0.5, patience=1)
    >>> other.load_state_dict(schedule.state_dict())
    >>> [other.observe(loss) for loss in (1.0, 1.0)]
    [0.5, 0.25]
    """

    def __init__(
        self,
        lr: float,
        factor: float = 0.1,
        patience: int = 10,
        *,
        mode: Literal["min", "max"] = "min",
        threshold: float = 1e-4,
        threshold_mode: Literal["rel", "abs"] = "rel",
        cooldown: int = 0,
        lr_min: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        self.lr, self.factor, self.threshold, self.lr_min, self.eps = lr, factor, threshold, lr_min, eps
        self.patience, self.cooldown = patience, cooldown
        check_numbers(self, "lr", "factor", "threshold", "lr_min", "eps")
        check_size(self, "patience", least=0)
        check_size(self, "cooldown", least=0)
        if self.factor >= 1:
            raise ValueError(f"factor must be below 1, not {self.factor!r}")
        self.mode = checks.choice("mode", mode, ("min", "max"))
        self.threshold_mode = checks.choice("threshold_mode", threshold_mode, ("rel", "abs"))
        self._best = math.inf if mode == "min" else -math.inf
        self._waited = self._cooling = 0

    def __repr__(self) -> str:
        return (
            f"ReduceOnPlateau(lr={self.lr!r}, factor={self.factor!r}, patience={self.patience!r}, mode={self.mode!r})"
        )

    def observe(self, value: float) -> float:
        """Take note of a value and return the learning rate from there on. NaN is no better than anything.

        Raises
        ------
        TypeError
            The value is no number.
        """
        value = checks.number("value", float(value) if getattr(value, "shape", None) == () else value)
        if self._is_better(value):
            self._best, self._waited = value, 0
        else:
            self._waited += 1
        if self._cooling:
            self._cooling, self._waited = self._cooling - 1, 0
        if self._waited > self.patience:
            lower = max(self.lr * self.factor, self.lr_min)
            if self.lr - lower > self.eps:
                self.lr = lower
            self._cooling, self._waited = self.cooldown, 0
        return self.lr

    def _is_better(self, value: float) -> bool:
        if not math.isfinite(self._best):  # the first: a share of infinity is infinity
            return value < self._best if self.mode == "min" else value > self._best
        margin = self.threshold * self._best if self.threshold_mode == "rel" else self.threshold
        return value < self._best - margin if self.mode == "min" else value > self._best + margin

    def state_dict(self) -> dict[str, float]:
        """What it has seen so far: plain numbers."""
        return {"lr": self.lr, "best": self._best, "waited": self._waited, "cooling": self._cooling}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where the schedule of ``state`` was; the parameters stay.

        Raises
        ------
        ValueError, TypeError
            ``state`` isn't what `state_dict` returns.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"state must be what state_dict returned, not {type(state).__name__}")
        names = ("lr", "best", "waited", "cooling")
        missing = [name for name in names if name not in state]
        if missing:
            raise ValueError(f"state must be what state_dict returned: {', '.join(missing)} missing")
        lr, best = checks.finite("lr", state["lr"]), checks.number("best", state["best"])
        waited, cooling = (checks.size(name, state[name], least=0) for name in names[2:])
        self.lr, self._best, self._waited, self._cooling = lr, best, waited, cooling
