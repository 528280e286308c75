"""Losses of classes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from recurray import checks
from recurray.arrays import Array, Namespace, below_largest, in_order, on_host
from recurray.losses.arguments import Reduction, by_class, weights
from recurray.losses.reduction import exp_below_0, reduced


def cross_entropy(
    prediction: Array,
    target: Array,
    reduction: Reduction = "mean",
    *,
    label_smoothing: float = 0.0,
    class_weights: Sequence[float] | Array | None = None,
    ignore_index: int | None = None,
    mask: Array | None = None,
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
    label_smoothing : float
        From 0 to 1: this share of each row's probability is spread over all classes evenly [1]_.
    class_weights : sequence or array of float, shape (classes,), optional
        What the terms of the sum over classes are multiplied by. As in PyTorch "mean" divides by the sum of the weights
        of the rows' classes where these are integers, and by the number of rows where they are probabilities.
    ignore_index : int, optional
        A class, or another integer such as PyTorch's -100, whose rows don't count; for integers alone.
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
        class that doesn't exist (checked on the host; on a GPU such a row becomes NaN), or an option is out of range.
    TypeError
        Array libraries differ, or a dtype is of the wrong kind.

    References
    ----------
    .. [1] C. Szegedy, V. Vanhoucke, S. Ioffe, J. Shlens and Z. Wojna, "Rethinking the Inception Architecture for
       Computer Vision", CVPR 2016, arXiv:1512.00567, section 7: label smoothing.

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
    >>> value, gradient = rr.losses.cross_entropy(logits, np.array([0, -100]), ignore_index=-100, label_smoothing=0.1)
    >>> print(value.round(3), gradient.round(3).tolist())
    0.693 [[-0.45, 0.45], [0.0, 0.0]]
    """
    smoothing = checks.finite("label_smoothing", label_smoothing)
    if not 0 <= smoothing <= 1:
        raise ValueError(f"label_smoothing must be from 0 to 1, not {smoothing!r}")
    xp, prediction, target, of_class, mask = by_class(
        prediction, target, reduction, mask, ignore_index, probabilities=True
    )
    classes = prediction.shape[-1]
    of_classes = None if class_weights is None else weights(xp, "class_weights", class_weights, prediction, (classes,))
    shifted = below_largest(in_order(prediction))
    exponentials = exp_below_0(xp, shifted)
    total = xp.sum(exponentials, axis=-1, keepdims=True)  # (..., 1), at least 1
    probabilities = exponentials / total
    log_total = xp.log(total[..., 0])
    zero = xp.zeros_like(shifted)
    if of_class is not None and of_classes is None and not smoothing:
        loss = log_total - xp.sum(xp.where(of_class, shifted, zero), axis=-1)
        gradient = xp.where(of_class, probabilities - 1.0, probabilities)
        loss, gradient = _nan_where_no_class(xp, target, loss, gradient)
        return reduced(xp, loss, gradient, reduction, mask)

    share = in_order(target) if of_class is None else xp.astype(of_class, prediction.dtype)
    of_row = None if of_class is None or of_classes is None else xp.sum(share * of_classes, axis=-1)
    if smoothing:
        share = (1.0 - smoothing) * share + smoothing / classes
    if of_classes is not None:
        share = share * of_classes
    # A class of probability 0 may have the logit -inf: 0 log 0 is 0 here.
    weighted = share * xp.where(share == 0, zero, shifted)
    mass = xp.sum(share, axis=-1, keepdims=True)  # 1 for probabilities
    loss = log_total * mass[..., 0] - xp.sum(weighted, axis=-1)
    gradient = probabilities * mass - share
    if of_class is not None:
        loss, gradient = _nan_where_no_class(xp, target, loss, gradient)
    return reduced(xp, loss, gradient, reduction, mask, of_row)


def nll(
    prediction: Array,
    target: Array,
    reduction: Reduction = "mean",
    *,
    class_weights: Sequence[float] | Array | None = None,
    ignore_index: int | None = None,
    mask: Array | None = None,
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
    class_weights : sequence or array of float, shape (classes,), optional
        What a row is multiplied by, by its class. As in PyTorch "mean" divides by the sum of these weights.
    ignore_index : int, optional
        A class, or another integer such as PyTorch's -100, whose rows don't count.
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
        class that doesn't exist (checked on the host; on a GPU such a row becomes NaN), or an option is out of range.
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
    xp, prediction, target, of_class, mask = by_class(
        prediction, target, reduction, mask, ignore_index, probabilities=False
    )
    share = xp.astype(of_class, prediction.dtype)
    of_row = None
    if class_weights is not None:
        share = share * weights(xp, "class_weights", class_weights, prediction, (prediction.shape[-1],))
        of_row = xp.sum(share, axis=-1)
    loss = 0.0 - xp.sum(share * xp.where(share == 0, xp.zeros_like(prediction), prediction), axis=-1)
    loss, gradient = _nan_where_no_class(xp, target, loss, 0.0 - share)
    return reduced(xp, loss, gradient, reduction, mask, of_row)


def _nan_where_no_class(xp: Namespace, target: Array, loss: Array, gradient: Array) -> tuple[Array, Array]:
    """Make rows NaN whose target isn't a class, where it hasn't been checked already."""
    if on_host(target):
        return loss, gradient
    known = (target >= 0) & (target < gradient.shape[-1])
    nan = xp.full_like(loss, math.nan)
    return xp.where(known, loss, nan), xp.where(known[..., None], gradient, nan[..., None])
