"""What counts, and the sum or mean of it."""

from __future__ import annotations

import math
from typing import Any

from recurray.arrays import Array, Namespace, sum_of_all
from recurray.losses.arguments import Reduction, over_classes


def reduced(
    xp: Namespace, loss: Array, gradient: Array, reduction: Reduction, mask: Array | None, weight: Array | None = None
) -> tuple[Array, Array]:
    """Leave out what doesn't count and reduce. ``gradient`` may have one axis, the classes, more than ``loss``.

    A mean is over the number of elements, or over their weights, by which loss and gradient have been multiplied.
    """
    if mask is not None:
        loss = xp.where(mask, loss, xp.zeros_like(loss))
        gradient = xp.where(over_classes(mask, gradient), gradient, xp.zeros_like(gradient))
    if reduction != "none":
        count: Any
        if weight is not None:
            count = sum_of_all(weight if mask is None else xp.where(mask, weight, xp.zeros_like(weight)))
            count = xp.where(count == 0, xp.ones_like(count), count)
        elif mask is None:
            count = float(max(1, math.prod(loss.shape)))
        else:  # a 0-d array, so that the host needn't wait for its value
            count = sum_of_all(xp.astype(mask, loss.dtype))
            count = xp.maximum(count, xp.ones_like(count))
        loss = sum_of_all(loss)
        if reduction == "mean":
            loss, gradient = loss / count, gradient / count
    return xp.asarray(loss), xp.asarray(gradient)  # NumPy makes scalars of 0-d arrays when it calculates


def exp_below_0(xp: Namespace, a: Array) -> Array:
    """Return exp(a) for a <= 0, with plain zeros where it is too small to change a sum with 1 (and would underflow)."""
    least = 0.8 * math.log(float(xp.finfo(a.dtype).smallest_normal))
    small = a < least
    return xp.where(small, xp.zeros_like(a), xp.exp(xp.where(small, xp.zeros_like(a), a)))
