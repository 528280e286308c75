"""Losses of numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Real
from typing import Any

from recurray import checks
from recurray.arrays import Array, clamp, device_of
from recurray.losses.arguments import Reduction, check_shape, elementwise, taken_in
from recurray.losses.reduction import reduced
from recurray.messages import in_words, shown


def mse(
    prediction: Array, target: Array, reduction: Reduction = "mean", *, mask: Array | None = None
) -> tuple[Array, Array]:
    """Squared error, (prediction - target)^2.

    Parameters
    ----------
    prediction : array, any shape
        float32 or float64.
    target : array, the prediction's shape
        Floating-point numbers.
    reduction : {"mean", "sum", "none"}
        See `recurray.losses`.
    mask : boolean array, the prediction's shape or its first axes, optional
        Which elements count; all if omitted.

    Returns
    -------
    value : array
        0-d, or the prediction's shape for "none".
    gradient : array, the prediction's shape
        With respect to the prediction.

    Raises
    ------
    ValueError
        Shapes or devices differ, or the reduction is unknown.
    TypeError
        Array libraries differ, or a dtype is of the wrong kind.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> value, gradient = rr.losses.mse(np.array([1.0, 2.0]), np.array([0.0, 4.0]))
    >>> print(value, gradient)
    2.5 [ 1. -2.]

    Only the first element counts:

    >>> value, gradient = rr.losses.mse(np.array([1.0, np.nan]), np.array([0.0, 4.0]), mask=np.array([True, False]))
    >>> print(value, gradient)
    1.0 [2. 0.]
    """
    xp, prediction, target, mask = elementwise(prediction, target, reduction, mask)
    error = prediction - target
    return reduced(xp, error * error, 2.0 * error, reduction, mask)


def mae(
    prediction: Array, target: Array, reduction: Reduction = "mean", *, mask: Array | None = None
) -> tuple[Array, Array]:
    """Absolute error, abs(prediction - target); PyTorch's ``l1_loss``. Where the two are equal its gradient is 0.

    Parameters
    ----------
    prediction : array, any shape
        float32 or float64.
    target : array, the prediction's shape
        Floating-point numbers.
    reduction : {"mean", "sum", "none"}
        See `recurray.losses`.
    mask : boolean array, the prediction's shape or its first axes, optional
        Which elements count; all if omitted.

    Returns
    -------
    value : array
        0-d, or the prediction's shape for "none".
    gradient : array, the prediction's shape
        With respect to the prediction.

    Raises
    ------
    ValueError
        Shapes or devices differ, or the reduction is unknown.
    TypeError
        Array libraries differ, or a dtype is of the wrong kind.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> value, gradient = rr.losses.mae(np.array([1.0, 2.0]), np.array([0.0, 4.0]))
    >>> print(value, gradient)
    1.5 [ 0.5 -0.5]
    """
    xp, prediction, target, mask = elementwise(prediction, target, reduction, mask)
    error = prediction - target
    return reduced(xp, xp.abs(error), xp.sign(error), reduction, mask)


def huber(
    prediction: Array,
    target: Array,
    reduction: Reduction = "mean",
    *,
    delta: float = 1.0,
    mask: Array | None = None,
) -> tuple[Array, Array]:
    """Huber's loss: half the squared error up to ``delta``, and linear beyond it [1]_.

    With e = prediction - target it is e^2 / 2 where abs(e) < delta, and delta (abs(e) - delta / 2) elsewhere.

    Parameters
    ----------
    prediction : array, any shape
        float32 or float64.
    target : array, the prediction's shape
        Floating-point numbers.
    reduction : {"mean", "sum", "none"}
        See `recurray.losses`.
    delta : float
        The error from which on the loss grows linearly; above 0.
    mask : boolean array, the prediction's shape or its first axes, optional
        Which elements count; all if omitted.

    Returns
    -------
    value : array
        0-d, or the prediction's shape for "none".
    gradient : array, the prediction's shape
        With respect to the prediction.

    Raises
    ------
    ValueError
        Shapes or devices differ, the reduction is unknown, or ``delta`` isn't above 0.
    TypeError
        Array libraries differ, or a dtype is of the wrong kind.

    References
    ----------
    .. [1] P. J. Huber, "Robust Estimation of a Location Parameter", Annals of Mathematical Statistics 35(1), 1964.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> value, gradient = rr.losses.huber(np.array([0.5, 4.0]), np.array([0.0, 0.0]), "none")
    >>> print(value, gradient)
    [0.125 3.5  ] [0.5 1. ]
    """
    delta = checks.number("delta", delta)
    if not 0 < delta < math.inf:
        raise ValueError(f"delta must be above 0 and finite, not {delta!r}")
    xp, prediction, target, mask = elementwise(prediction, target, reduction, mask)
    error = prediction - target
    gradient = clamp(error, -delta, delta)
    # One formula for both branches, which squares nothing larger than delta.
    loss = xp.abs(gradient) * (xp.abs(error) - 0.5 * xp.abs(gradient))
    return reduced(xp, loss, gradient, reduction, mask)


def quantile(
    prediction: Array,
    target: Array,
    reduction: Reduction = "mean",
    *,
    quantiles: float | Iterable[float] = 0.5,
    mask: Array | None = None,
) -> tuple[Array, Array]:
    """Pinball loss, whose least value has the quantile q of the target [1]_.

    With e = target - prediction it is q e where e is above 0, and (q - 1) e elsewhere; for q = 0.5 half of `mae`.
    Where the two are equal its gradient is 0.

    Parameters
    ----------
    prediction : array, any shape; (..., quantiles) for several
        float32 or float64.
    target : array, the prediction's shape; (...) for several quantiles
        Floating-point numbers.
    reduction : {"mean", "sum", "none"}
        See `recurray.losses`; "mean" is over the quantiles too.
    quantiles : float or sequence of float
        Each above 0 and below 1. Several are the prediction's last axis.
    mask : boolean array, the prediction's shape or its first axes, optional
        Which elements count; all if omitted.

    Returns
    -------
    value : array
        0-d, or the prediction's shape for "none".
    gradient : array, the prediction's shape
        With respect to the prediction.

    Raises
    ------
    ValueError
        Shapes or devices differ, the reduction is unknown, or a quantile isn't above 0 and below 1.
    TypeError
        Array libraries differ, or a dtype is of the wrong kind.

    References
    ----------
    .. [1] R. Koenker and G. Bassett, "Regression Quantiles", Econometrica 46(1), 1978.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> value, gradient = rr.losses.quantile(np.array([1.0, 5.0]), np.array([3.0, 3.0]), "none", quantiles=0.9)
    >>> print(value.round(3), gradient.round(3))
    [1.8 0.2] [-0.9  0.1]

    Three quantiles of a target:

    >>> prediction, target = np.array([[1.0, 2.0, 4.0]]), np.array([3.0])
    >>> value, gradient = rr.losses.quantile(prediction, target, "sum", quantiles=(0.1, 0.5, 0.9))
    >>> print(value.round(3), gradient.round(3))
    0.8 [[-0.1 -0.5  0.1]]
    """
    levels: Any
    if isinstance(quantiles, Real):
        levels = _level("quantiles", quantiles)
    elif not checks.are_several(quantiles):
        raise TypeError(f"quantiles must be a number or several, not {type(quantiles).__name__} {shown(quantiles)}")
    else:
        several = [_level(f"quantiles[{place}]", level) for place, level in enumerate(quantiles)]
        xp, prediction, target, mask = taken_in(prediction, target, reduction, mask)
        if not several or tuple(prediction.shape[-1:]) != (len(several),):
            shape = in_words(prediction.shape)
            raise ValueError(
                f"prediction must have the {len(several)} quantiles on its last axis, but its shape is {shape}"
            )
        check_shape("target", target, prediction.shape[:-1])
        target = xp.broadcast_to(target[..., None], prediction.shape)
        levels = xp.asarray(several, dtype=prediction.dtype, device=device_of(prediction))
    xp, prediction, target, mask = elementwise(prediction, target, reduction, mask)
    error = prediction - target
    side = xp.sign(error)
    slope = xp.where(side < 0, xp.zeros_like(error) + levels, xp.ones_like(error) - levels)
    return reduced(xp, xp.abs(error) * slope, side * slope, reduction, mask)


def _level(name: str, value: Any) -> float:
    """Check a quantile."""
    level = checks.number(name, value)
    if not 0 < level < 1:
        raise ValueError(f"{name} must be above 0 and below 1, not {shown(value)}")
    return level
