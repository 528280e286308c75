"""Losses of yes-or-no targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

from recurray import checks
from recurray.arrays import Array, Namespace, is_tracer, on_host
from recurray.losses.arguments import Reduction, elementwise, weights
from recurray.losses.reduction import exp_below_0, reduced


def binary_cross_entropy(
    prediction: Array,
    target: Array,
    reduction: Reduction = "mean",
    *,
    from_logits: bool = False,
    positive_weight: float | Sequence[float] | Array | None = None,
    mask: Array | None = None,
) -> tuple[Array, Array]:
    """Cross entropy of yes-or-no targets, -(target log p + (1 - target) log(1 - p)).

    As in PyTorch, for probabilities a logarithm isn't taken below -100, and in the gradient
    (p - target) / (p (1 - p)) the divisor isn't taken below 1e-12. With ``from_logits=True`` the prediction holds
    logits a, p = sigmoid(a); that form needs no such limits, is exact for any logit, and is the one to train with.

    Parameters
    ----------
    prediction : array, any shape
        float32 or float64: probabilities from 0 to 1, or logits.
    target : array, the prediction's shape
        Floating-point numbers, 0 and 1 or probabilities between.
    reduction : {"mean", "sum", "none"}
        See `recurray.losses`.
    from_logits : bool
        Whether the prediction holds logits.
    positive_weight : float, or sequence or array of float, shape (features,), optional
        What -target log p is multiplied by, one number or one for each place on the last axis: negatives over
        positives where positives are rare. PyTorch's ``pos_weight``; "mean" divides by the number of elements still.
    mask : boolean array, the prediction's shape or its first axes, optional
        Which elements count; all if omitted.

    Returns
    -------
    value : array
        0-d, or the prediction's shape for "none".
    gradient : array, the prediction's shape
        With respect to the prediction, so to the logits where it holds logits.

    Raises
    ------
    ValueError
        Shapes or devices differ, the reduction is unknown, or a probability isn't between 0 and 1, or a weight is
        negative.
    TypeError
        Array libraries differ, or a dtype is of the wrong kind.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> value, gradient = rr.losses.binary_cross_entropy(np.array([0.5, 0.8]), np.array([0.0, 1.0]), "none")
    >>> print(value, gradient)
    [0.69314718 0.22314355] [ 2.   -1.25]
    >>> value, gradient = rr.losses.binary_cross_entropy(np.array([-1000.0, 0.0]), np.array([1.0, 1.0]), "none",
    ...                                                  from_logits=True)
    >>> print(value, gradient)
    [1.00000000e+03 6.93147181e-01] [-1.  -0.5]

    A positive counts three times:

    >>> value, gradient = rr.losses.binary_cross_entropy(np.zeros(2), np.array([1.0, 0.0]), "none", from_logits=True,
    ...                                                  positive_weight=3.0)
    >>> print(value.round(3), gradient)
    [2.079 0.693] [-1.5  0.5]
    """
    from_logits = checks.flag("from_logits", from_logits)
    xp, prediction, target, mask = elementwise(prediction, target, reduction, mask)
    total: Any
    positive, total = target, 1.0  # what is before -log p, and that with what is before -log(1 - p)
    if positive_weight is not None:
        positive = target * _positive_weight(xp, positive_weight, prediction)
        total = positive + (1.0 - target)
    if from_logits:
        small = exp_below_0(xp, -xp.abs(prediction))  # exp(-abs(a)), in (0, 1]
        # log(1 + exp(a)) - target a, of which log(1 + exp(a)) = max(a, 0) + log(1 + exp(-abs(a))); without the
        # difference of two large numbers that max(a, 0) - target a would be.
        missed = xp.where(prediction < 0, positive, 1.0 - target)  # the probability of the less likely answer
        distance = xp.where(missed == 0, xp.zeros_like(small), xp.abs(prediction))  # 0 times infinity is 0 here
        loss = distance * missed + total * xp.log1p(small)
        unlikely = total * (
            small / (1.0 + small)
        )  # sigmoid(-abs(a)), precise however small; sigmoid(a) - target by way of it
        gradient = xp.where(prediction < 0, unlikely - missed, missed - unlikely)
        return reduced(xp, loss, gradient, reduction, mask)

    if on_host(prediction):
        outside = xp.any((prediction < 0) | (prediction > 1))
        if not is_tracer(outside) and bool(outside):
            raise ValueError("prediction must hold probabilities from 0 to 1; for logits say from_logits=True")
    rest = 1.0 - prediction
    log_p = _at_least_minus_100(xp, xp.log, prediction, pole=0.0)
    log_rest = _at_least_minus_100(xp, lambda p: xp.log1p(-p), prediction, pole=1.0)
    loss = (target - 1.0) * log_rest - positive * log_p
    variance = prediction * rest
    gradient = (prediction * total - positive) / xp.maximum(variance, xp.full_like(variance, 1e-12))
    return reduced(xp, loss, gradient, reduction, mask)


def _positive_weight(xp: Namespace, value: Any, prediction: Array) -> Any:
    """Check the weight of positives: a number, or one for each place on the last axis."""
    if not isinstance(value, Real):
        return weights(xp, "positive_weight", value, prediction, tuple(prediction.shape[-1:]))
    value = checks.finite("positive_weight", value)
    if value < 0:
        raise ValueError(f"positive_weight must be at least 0, not {value!r}")
    return value


def _at_least_minus_100(xp: Namespace, log: Callable[[Array], Array], p: Array, pole: float) -> Array:
    """Return log(p) or -100, whichever is larger, without asking for the logarithm's value at its pole."""
    at_pole = p == pole
    floor = xp.full_like(p, -100.0)
    return xp.where(at_pole, floor, xp.maximum(log(xp.where(at_pole, xp.full_like(p, 1.0 - pole), p)), floor))
