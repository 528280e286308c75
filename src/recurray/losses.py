"""Losses: each returns its value and its gradient with respect to the prediction.

The formulas are those of ``torch.nn.functional``. All of them share the form ::

    value, gradient = loss(prediction, target, reduction="mean", *, mask=None)

- ``prediction`` and ``target`` are arrays of one library, on one device, float32 or float64; a floating-point
  ``target`` of the other precision is converted. Both results have the prediction's library, device and dtype.
- ``reduction="mean"`` divides the sum of the elementwise losses by their number, ``"sum"`` adds them up; the value
  is then a 0-d array. ``"none"`` gives the elementwise losses themselves, and the gradient of their sum.
- ``mask``, a boolean array of the elementwise losses' shape, says which of them count: the others are 0, as is
  their gradient, and "mean" divides by the number of those that count. What the prediction and the target hold in
  places that don't count, be it NaN or a class that doesn't exist, reaches neither the value nor the gradient.
  Trailing axes that the mask lacks are all alike: (batch, time), such as `recurray.lengths_to_mask` makes, says for
  (batch, time, features) which steps count, and the mean is over their elements. An axis of size 1 is alike too.
- At infinity a loss is its limit: a logit of minus infinity, for an answer that is ruled out, is a loss of 0 where that
  isn't the answer, infinity where it is. NaN gives NaN, and so does what has no limit: infinity against infinity in
  `mse`, `mae` and `huber`, and logits that rule out every class.
- Where nothing counts, or the arrays are empty, the value and the gradient are 0 ("mean" too, where PyTorch gives NaN).

Checks that need the arrays' values (a class out of range, a probability above 1) are made where the arrays lie in
the host's memory. On a GPU they would make the host wait: there a class out of range gives NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

from recurray import checks
from recurray.arrays import (
    Array,
    Namespace,
    below_largest,
    clamp,
    device_of,
    in_order,
    is_tracer,
    namespace_of,
    on_host,
    on_one_device,
    plain,
    sum_of_all,
)
from recurray.messages import in_words, kind_of

__all__ = ["binary_cross_entropy", "cross_entropy", "huber", "mae", "mse", "nll"]

Reduction = Literal["mean", "sum", "none"]
REDUCTIONS = ("mean", "sum", "none")


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
    xp, prediction, target, mask = _elementwise(prediction, target, reduction, mask)
    error = prediction - target
    return _reduced(xp, error * error, 2.0 * error, reduction, mask)


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
    xp, prediction, target, mask = _elementwise(prediction, target, reduction, mask)
    error = prediction - target
    return _reduced(xp, xp.abs(error), xp.sign(error), reduction, mask)


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
    xp, prediction, target, mask = _elementwise(prediction, target, reduction, mask)
    error = prediction - target
    gradient = clamp(error, -delta, delta)
    # One formula for both branches, which squares nothing larger than delta.
    loss = xp.abs(gradient) * (xp.abs(error) - 0.5 * xp.abs(gradient))
    return _reduced(xp, loss, gradient, reduction, mask)


def binary_cross_entropy(
    prediction: Array,
    target: Array,
    reduction: Reduction = "mean",
    *,
    from_logits: bool = False,
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
        Shapes or devices differ, the reduction is unknown, or a probability isn't between 0 and 1.
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
    """
    from_logits = checks.flag("from_logits", from_logits)
    xp, prediction, target, mask = _elementwise(prediction, target, reduction, mask)
    if from_logits:
        small = _exp(xp, -xp.abs(prediction))  # exp(-abs(a)), in (0, 1]
        # log(1 + exp(a)) - target a, of which log(1 + exp(a)) = max(a, 0) + log(1 + exp(-abs(a))); without the
        # difference of two large numbers that max(a, 0) - target a would be.
        missed = xp.where(prediction < 0, target, 1.0 - target)  # the probability of the less likely answer
        distance = xp.where(missed == 0, xp.zeros_like(small), xp.abs(prediction))  # 0 times infinity is 0 here
        loss = distance * missed + xp.log1p(small)
        unlikely = small / (1.0 + small)  # sigmoid(-abs(a)), precise however small; sigmoid(a) - target by way of it
        gradient = xp.where(prediction < 0, unlikely - missed, missed - unlikely)
        return _reduced(xp, loss, gradient, reduction, mask)

    if on_host(prediction):
        outside = xp.any((prediction < 0) | (prediction > 1))
        if not is_tracer(outside) and bool(outside):
            raise ValueError("prediction must hold probabilities from 0 to 1; for logits say from_logits=True")
    rest = 1.0 - prediction
    log_p = _at_least_minus_100(xp, xp.log, prediction, pole=0.0)
    log_rest = _at_least_minus_100(xp, lambda p: xp.log1p(-p), prediction, pole=1.0)
    loss = (target - 1.0) * log_rest - target * log_p
    variance = prediction * rest
    gradient = (prediction - target) / xp.maximum(variance, xp.full_like(variance, 1e-12))
    return _reduced(xp, loss, gradient, reduction, mask)


def cross_entropy(
    prediction: Array, target: Array, reduction: Reduction = "mean", *, mask: Array | None = None
) -> tuple[Array, Array]:
    """Cross entropy of logits with classes, -sum_k target_k log softmax(prediction)_k, the classes on the last axis.

    (PyTorch has the classes on axis 1; the two agree for predictions of shape (batch, classes).)

    Parameters
    ----------
    prediction : array, shape (..., classes)
        float32 or float64 logits.
    target : array, shape (...) or (..., classes)
        Either integers, the right class of each row, or floating-point numbers of the prediction's shape, the
        probability of each class.
    reduction : {"mean", "sum", "none"}
        See `recurray.losses`. The elementwise losses have the shape (...), so "mean" is over rows.
    mask : boolean array, shape (...) or its first axes, optional
        Which rows count; all if omitted.

    Returns
    -------
    value : array
        0-d, or of shape (...) for "none".
    gradient : array, shape (..., classes)
        With respect to the logits.

    Raises
    ------
    ValueError
        Shapes don't fit, devices differ, the reduction is unknown, there are no classes, or a row that counts has a
        class that doesn't exist (checked on the host; on a GPU such a row becomes NaN).
    TypeError
        Array libraries differ, or a dtype is of the wrong kind.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> logits = np.array([[0.0, 0.0], [1000.0, 0.0]])
    >>> value, gradient = rr.losses.cross_entropy(logits, np.array([0, 1]), "none")
    >>> print(value)
    [6.93147181e-01 1.00000000e+03]
    >>> print(gradient)
    [[-0.5  0.5]
     [ 1.  -1. ]]

    Padding of ragged rows doesn't count:

    >>> value, gradient = rr.losses.cross_entropy(logits, np.array([0, -1]), mask=np.array([True, False]))
    >>> print(value.round(3), gradient.tolist())
    0.693 [[-0.5, 0.5], [0.0, 0.0]]
    """
    xp, prediction, target, of_class, mask = _by_class(prediction, target, reduction, mask, probabilities=True)
    shifted = below_largest(in_order(prediction))
    exponentials = _exp(xp, shifted)
    total = xp.sum(exponentials, axis=-1, keepdims=True)  # (..., 1), at least 1
    probabilities = exponentials / total
    log_total = xp.log(total[..., 0])
    zero = xp.zeros_like(shifted)
    if of_class is not None:
        loss = log_total - xp.sum(xp.where(of_class, shifted, zero), axis=-1)
        gradient = xp.where(of_class, probabilities - 1.0, probabilities)
        loss, gradient = _nan_where_no_class(xp, target, loss, gradient)
    else:
        target = in_order(target)
        # A class of probability 0 may have the logit -inf: 0 log 0 is 0 here.
        weighted = target * xp.where(target == 0, zero, shifted)
        mass = xp.sum(target, axis=-1, keepdims=True)  # 1 for probabilities
        loss = log_total * mass[..., 0] - xp.sum(weighted, axis=-1)
        gradient = probabilities * mass - target
    return _reduced(xp, loss, gradient, reduction, mask)


def nll(
    prediction: Array, target: Array, reduction: Reduction = "mean", *, mask: Array | None = None
) -> tuple[Array, Array]:
    """Negative log-likelihood, minus the log-probability of each row's class, the classes on the last axis.

    Parameters
    ----------
    prediction : array, shape (..., classes)
        float32 or float64 log-probabilities.
    target : array, shape (...)
        Integers, the right class of each row.
    reduction : {"mean", "sum", "none"}
        See `recurray.losses`. The elementwise losses have the shape (...), so "mean" is over rows.
    mask : boolean array, shape (...) or its first axes, optional
        Which rows count; all if omitted.

    Returns
    -------
    value : array
        0-d, or of shape (...) for "none".
    gradient : array, shape (..., classes)
        With respect to the log-probabilities.

    Raises
    ------
    ValueError
        Shapes don't fit, devices differ, the reduction is unknown, there are no classes, or a row that counts has a
        class that doesn't exist (checked on the host; on a GPU such a row becomes NaN).
    TypeError
        Array libraries differ, or a dtype is of the wrong kind.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> value, gradient = rr.losses.nll(np.log([[0.5, 0.5], [0.8, 0.2]]), np.array([1, 0]), "sum")
    >>> print(value.round(3), gradient.tolist())
    0.916 [[0.0, -1.0], [-1.0, 0.0]]
    """
    xp, prediction, target, of_class, mask = _by_class(prediction, target, reduction, mask, probabilities=False)
    loss = 0.0 - xp.sum(xp.where(of_class, prediction, xp.zeros_like(prediction)), axis=-1)
    gradient = 0.0 - xp.astype(of_class, prediction.dtype)
    loss, gradient = _nan_where_no_class(xp, target, loss, gradient)
    return _reduced(xp, loss, gradient, reduction, mask)


def _reduced(
    xp: Namespace, loss: Array, gradient: Array, reduction: Reduction, mask: Array | None
) -> tuple[Array, Array]:
    """Leave out what doesn't count and reduce. ``gradient`` may have one axis, the classes, more than ``loss``."""
    if mask is not None:
        loss = xp.where(mask, loss, xp.zeros_like(loss))
        gradient = xp.where(_over_classes(mask, gradient), gradient, xp.zeros_like(gradient))
    if reduction != "none":
        count: Any
        if mask is None:
            count = float(max(1, math.prod(loss.shape)))
        else:  # a 0-d array, so that the host needn't wait for its value
            count = sum_of_all(xp.astype(mask, loss.dtype))
            count = xp.maximum(count, xp.ones_like(count))
        loss = sum_of_all(loss)
        if reduction == "mean":
            loss, gradient = loss / count, gradient / count
    return xp.asarray(loss), xp.asarray(gradient)  # NumPy makes scalars of 0-d arrays when it calculates


def _over_classes(mask: Array, values: Array) -> Array:
    """Give the mask (...) a last axis where the values are (..., classes)."""
    return mask if len(mask.shape) == len(values.shape) else mask[..., None]


def _exp(xp: Namespace, a: Array) -> Array:
    """Return exp(a) for a <= 0, with plain zeros where it is too small to change a sum with 1 (and would underflow)."""
    least = 0.8 * math.log(float(xp.finfo(a.dtype).smallest_normal))
    small = a < least
    return xp.where(small, xp.zeros_like(a), xp.exp(xp.where(small, xp.zeros_like(a), a)))


def _at_least_minus_100(xp: Namespace, log: Callable[[Array], Array], p: Array, pole: float) -> Array:
    """Return log(p) or -100, whichever is larger, without asking for the logarithm's value at its pole."""
    at_pole = p == pole
    floor = xp.full_like(p, -100.0)
    return xp.where(at_pole, floor, xp.maximum(log(xp.where(at_pole, xp.full_like(p, 1.0 - pole), p)), floor))


def _nan_where_no_class(xp: Namespace, target: Array, loss: Array, gradient: Array) -> tuple[Array, Array]:
    """Make rows NaN whose target isn't a class, where it hasn't been checked already."""
    if on_host(target):
        return loss, gradient
    known = (target >= 0) & (target < gradient.shape[-1])
    nan = xp.full_like(loss, math.nan)
    return xp.where(known, loss, nan), xp.where(known[..., None], gradient, nan[..., None])


# What follows checks the arguments.


def _elementwise(
    prediction: Array, target: Array, reduction: Reduction, mask: Array | None
) -> tuple[Namespace, Array, Array, Array | None]:
    """Check a prediction and a target of the same shape; return them, zero where the mask leaves them out, and it."""
    xp, prediction, target, mask = _taken_in(prediction, target, reduction, mask)
    _check_floats(xp, target)
    _check_shape("target", target, prediction.shape)
    if mask is not None:
        mask = _spread(xp, mask, prediction.shape)
        prediction = xp.where(mask, prediction, xp.zeros_like(prediction))
        target = xp.where(mask, target, xp.zeros_like(target))
    return xp, prediction, _to_dtype(xp, target, prediction.dtype), mask


def _by_class(
    prediction: Array, target: Array, reduction: Reduction, mask: Array | None, *, probabilities: bool
) -> tuple[Namespace, Array, Array, Array | None, Array | None]:
    """Check a prediction (..., classes) and its target; put zeros where the mask says that they don't count.

    The last but one, (..., classes), says where each row's class is; None where the target holds probabilities. The
    last is the mask.
    """
    xp, prediction, target, mask = _taken_in(prediction, target, reduction, mask)
    if not prediction.shape or prediction.shape[-1] == 0:
        shape = in_words(prediction.shape)
        raise ValueError(f"prediction must have at least one class on its last axis, but its shape is {shape}")
    integers = bool(xp.isdtype(target.dtype, "integral"))
    if not integers and not probabilities:
        raise TypeError(f"target must be integers, the classes, not {target.dtype}")
    if not integers:
        _check_floats(xp, target, or_else=" or integers, the classes")
    _check_classes(target, prediction.shape, integers=integers, probabilities=probabilities)
    if mask is not None:
        mask = _spread(xp, mask, prediction.shape[:-1])
        prediction = xp.where(mask[..., None], prediction, xp.zeros_like(prediction))
        target = xp.where(_over_classes(mask, target), target, xp.zeros_like(target))
    if not integers:
        return xp, prediction, _to_dtype(xp, target, prediction.dtype), None, mask
    classes = prediction.shape[-1]
    numbers = xp.arange(classes, device=device_of(prediction))
    target = _to_dtype(
        xp, target, numbers.dtype
    )  # uint8 can't hold every class, uint64 doesn't mix with other integers
    if on_host(target) and math.prod(target.shape):
        least, largest = xp.min(target), xp.max(target)
        if not is_tracer(least) and not (int(least) >= 0 and int(largest) < classes):
            wrong = int(least) if int(least) < 0 else int(largest)
            raise ValueError(
                f"target must hold classes from 0 to {classes - 1}, but has {wrong}; "
                "rows that don't count are left out by mask="
            )
    return xp, prediction, target, target[..., None] == numbers, mask


def _taken_in(
    prediction: Array, target: Array, reduction: Reduction, mask: Array | None
) -> tuple[Namespace, Array, Array, Array | None]:
    """Check what all losses share; return the namespace of the arrays, and these as plain ones."""
    checks.choice("reduction", reduction, REDUCTIONS)
    prediction, target, mask = plain("prediction", prediction), plain("target", target), plain("mask", mask)
    xp: Namespace = _namespace_or_none(prediction)
    if xp is None:
        raise TypeError(f"prediction must be an array of an array library, not {type(prediction).__name__}")
    if not any(prediction.dtype == dtype for dtype in (xp.float32, xp.float64)):
        raise TypeError(f"prediction must be float32 or float64, not {prediction.dtype}")
    for name, other in (("target", target),) if mask is None else (("target", target), ("mask", mask)):
        if _namespace_or_none(other) is not xp:
            library = xp.__name__.removeprefix("array_api_compat.")
            raise TypeError(f"{name} must be an array of the prediction's library {library}, not {kind_of(other)}")
        if not on_one_device(device_of(other), device_of(prediction)):
            raise ValueError(
                f"{name} must be on the prediction's device {device_of(prediction)}, not {device_of(other)}"
            )
    if mask is not None and not xp.isdtype(mask.dtype, "bool"):
        raise TypeError(f"mask must be boolean, not {mask.dtype}")
    return xp, prediction, target, mask


def _namespace_or_none(array: Any) -> Namespace:
    try:
        return namespace_of(array)
    except TypeError:
        return None


def _check_shape(name: str, array: Array, shape: tuple[int, ...]) -> None:
    if tuple(array.shape) != tuple(shape):
        raise ValueError(f"{name} must have the shape {in_words(shape)}, not {in_words(array.shape)}")


def _spread(xp: Namespace, mask: Array, shape: tuple[int, ...]) -> Array:
    """Check a mask, and say of each element of ``shape`` what it says of the axes that it has."""
    shape, own = tuple(shape), tuple(mask.shape)
    if own == shape:
        return mask
    if len(own) > len(shape) or any(size not in (1, wanted) for size, wanted in zip(own, shape, strict=False)):
        first = " or its first axes" if shape else ""
        raise ValueError(f"mask must have the shape {in_words(shape)}{first}, not {in_words(own)}")
    return xp.broadcast_to(xp.reshape(mask, (*own, *[1] * (len(shape) - len(own)))), shape)


def _check_classes(target: Array, shape: tuple[int, ...], *, integers: bool, probabilities: bool) -> None:
    """Check a target's shape, where the prediction is (..., classes)."""
    wanted, found = tuple(shape[:-1]) if integers else tuple(shape), tuple(target.shape)
    if integers and found == tuple(shape):
        instead = " or floating-point numbers, the probability of each class" if probabilities else ""
        raise ValueError(
            f"target must be integers, the class of each row, of the shape {in_words(wanted)}"
            f"{instead}, not integers of the shape {in_words(found)}"
        )
    if not integers and found == tuple(shape[:-1]):
        raise ValueError(
            "target must be integers, the class of each row, or probabilities of the shape "
            f"{in_words(shape)}, not {in_words(found)} of {target.dtype}"
        )
    _check_shape("target", target, wanted)


def _check_floats(xp: Namespace, target: Array, or_else: str = "") -> None:
    if not xp.isdtype(target.dtype, "real floating"):
        raise TypeError(f"target must be floating-point numbers{or_else}, not {target.dtype}")


def _to_dtype(xp: Namespace, array: Array, dtype: Any) -> Array:
    return array if array.dtype == dtype else xp.astype(xp.asarray(array), dtype)  # NumPy's astype refuses its scalars
