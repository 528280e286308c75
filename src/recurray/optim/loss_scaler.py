"""Scaling the loss, for gradients that pass through float16."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recurray import checks
from recurray.arrays import Array, namespace_of
from recurray.messages import shown
from recurray.optim.arrays import float_array
from recurray.optim.hyperparameters import Setting

_SETTINGS = ("scale", "growth", "interval", "steps_since_change")
_SMALLEST = 2.0**-126
_LARGEST = 2.0**126  # 1 / scale is a normal float32 then


def _scale(name: str, value: Any) -> float:
    scale = checks.finite(name, value)
    if not 0 < scale <= _LARGEST:
        raise ValueError(f"{name} must be above 0 and at most 2**126, not {value!r}")
    return scale


def _growth(name: str, value: Any) -> float:
    growth = checks.finite(name, value)
    if not growth > 1:
        raise ValueError(f"{name} must be above 1, not {value!r}")
    return growth


class LossScaler:
    """Multiplies the gradient of the loss, so that small gradients aren't rounded to zero, and adapts the factor [1]_.

    In float16 numbers below 6e-8 are zero, and many gradients are smaller. Those of the params are divided by the
    factor again, in their own precision. Where the factor was too large, they are infinite or NaN: then the step is to
    be left out, and the factor becomes smaller. After so many good steps in a row it is tried larger.

    Parameters
    ----------
    scale : float
        The factor to start with. Powers of two round nothing.
    growth : float
        What the factor is multiplied by when it grows, and divided by when it shrinks; above 1.
    interval : int
        After how many good steps in a row it grows.

    Attributes
    ----------
    scale : float
        The factor.

    Raises
    ------
    ValueError, TypeError
        ``scale`` isn't a positive number, ``growth`` isn't one above 1, or ``interval`` isn't a positive integer.

    References
    ----------
    .. [1] P. Micikevicius et al., "Mixed precision training", ICLR 2018, arXiv:1710.03740, section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> scaler = rr.optim.LossScaler(scale=8.0)
    >>> scaler.scaled(np.array([0.5]))  # what goes into backward
    array([4.])
    >>> scaler.unscaled({"w": np.array([4.0])})  # what comes out of it
    {'w': array([0.5])}
    >>> scaler.unscaled({"w": np.array([np.inf])}) is None, scaler.scale
    (True, 4.0)

    In a training loop::

        dx, dstate, grads = model.backward(cache, scaler.scaled(dy))
        grads = scaler.unscaled(grads)
        if grads is not None:
            optimizer.step(grads)
    """

    scale = Setting(_scale)
    growth = Setting(_growth)
    interval = Setting(checks.size)

    def __init__(self, scale: float = 65536.0, *, growth: float = 2.0, interval: int = 2000) -> None:
        self.scale = scale
        self.growth = growth
        self.interval = interval
        self.steps_since_change = 0

    def scaled(self, dy: Array) -> Array:
        """Return the gradient of the loss, an array, times the factor."""
        return float_array("dy", dy) * self.scale

    def unscaled(self, grads: Mapping[str, Array]) -> dict[str, Array] | None:
        """Return the params' gradients divided by the factor; None if one isn't finite. Then adapt the factor.

        The host waits for the gradients to be computed.

        Parameters
        ----------
        grads : mapping of str to array
            They aren't changed.
        """
        if not isinstance(grads, Mapping):
            raise TypeError(f"grads must be a mapping of names to arrays, not {type(grads).__name__}")
        grads = {name: float_array(f"the gradient of {shown(name)}", grad) for name, grad in grads.items()}
        finite: Any = True
        for grad in grads.values():
            xp = namespace_of(grad)
            own = xp.all(xp.isfinite(grad))
            finite = own if finite is True else xp.logical_and(finite, own)
        if not bool(finite):
            self.scale, self.steps_since_change = max(self.scale / self.growth, _SMALLEST), 0
            return None
        result = {name: namespace_of(grad).asarray(grad * (1 / self.scale)) for name, grad in grads.items()}
        self.steps_since_change += 1
        if self.steps_since_change >= self.interval:
            self.scale, self.steps_since_change = min(self.scale * self.growth, _LARGEST), 0
        return result

    def state_dict(self) -> dict[str, Any]:
        """Return all that is needed to go on as if there had been no interruption: plain numbers, fit for JSON."""
        return {name: getattr(self, name) for name in _SETTINGS}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned.

        Raises
        ------
        ValueError, TypeError
            A number is missing, unknown or out of its range; then nothing has been changed.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"state must be a mapping, not {type(state).__name__}")
        if set(state) != set(_SETTINGS):
            raise ValueError(f"state must have {', '.join(_SETTINGS)}, not {', '.join(map(str, state))}")
        fresh = LossScaler(state["scale"], growth=state["growth"], interval=state["interval"])
        steps = checks.size("steps_since_change", state["steps_since_change"], least=0)
        if steps >= fresh.interval:
            raise ValueError(f"steps_since_change must be below the interval {fresh.interval}, not {steps}")
        self.scale, self.growth, self.interval = fresh.scale, fresh.growth, fresh.interval
        self.steps_since_change = steps

    def __repr__(self) -> str:
        return f"LossScaler({self.scale!r}, growth={self.growth!r}, interval={self.interval!r})"
