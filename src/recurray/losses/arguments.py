"""What losses are given, checked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from recurray import checks
from recurray.arrays import Array, Namespace, device_of, is_tracer, namespace_of, on_host, on_one_device, plain
from recurray.messages import in_words, kind_of

Reduction = Literal["mean", "sum", "none"]
REDUCTIONS = ("mean", "sum", "none")


def elementwise(
    prediction: Array, target: Array, reduction: Reduction, mask: Array | None
) -> tuple[Namespace, Array, Array, Array | None]:
    """Check a prediction and a target of the same shape; return them, zero where the mask leaves them out, and it."""
    xp, prediction, target, mask = taken_in(prediction, target, reduction, mask)
    check_floats(xp, target)
    check_shape("target", target, prediction.shape)
    if mask is not None:
        mask = spread(xp, mask, prediction.shape)
        prediction = xp.where(mask, prediction, xp.zeros_like(prediction))
        target = xp.where(mask, target, xp.zeros_like(target))
    return xp, prediction, to_dtype(xp, target, prediction.dtype), mask


def by_class(
    prediction: Array,
    target: Array,
    reduction: Reduction,
    mask: Array | None,
    ignore_index: int | None,
    *,
    probabilities: bool,
) -> tuple[Namespace, Array, Array, Array | None, Array | None]:
    """Check a prediction (..., classes) and its target; put zeros where the mask says that they don't count.

    The last but one, (..., classes), says where each row's class is; None where the target holds probabilities. The
    last is the mask.
    """
    xp, prediction, target, mask = taken_in(prediction, target, reduction, mask)
    if not prediction.shape or prediction.shape[-1] == 0:
        shape = in_words(prediction.shape)
        raise ValueError(f"prediction must have at least one class on its last axis, but its shape is {shape}")
    integers = bool(xp.isdtype(target.dtype, "integral"))
    if not integers and not probabilities:
        raise TypeError(f"target must be integers, the classes, not {target.dtype}")
    if not integers:
        check_floats(xp, target, or_else=" or integers, the classes")
    _check_classes(target, prediction.shape, integers=integers, probabilities=probabilities)
    if mask is not None:
        mask = spread(xp, mask, prediction.shape[:-1])
    if ignore_index is not None:
        counts = _others(xp, target, ignore_index, integers=integers)
        mask = counts if mask is None else mask & counts
    if mask is not None:
        prediction = xp.where(mask[..., None], prediction, xp.zeros_like(prediction))
        target = xp.where(over_classes(mask, target), target, xp.zeros_like(target))
    if not integers:
        return xp, prediction, to_dtype(xp, target, prediction.dtype), None, mask
    classes = prediction.shape[-1]
    numbers = xp.arange(classes, device=device_of(prediction))
    target = to_dtype(xp, target, numbers.dtype)  # uint8 can't hold every class, uint64 doesn't mix with other integers
    if on_host(target) and math.prod(target.shape):
        least, largest = xp.min(target), xp.max(target)
        if not is_tracer(least) and not (int(least) >= 0 and int(largest) < classes):
            wrong = int(least) if int(least) < 0 else int(largest)
            raise ValueError(
                f"target must hold classes from 0 to {classes - 1}, but has {wrong}; "
                "rows that don't count are left out by mask= or ignore_index="
            )
    return xp, prediction, target, target[..., None] == numbers, mask


def _others(xp: Namespace, target: Array, ignore_index: int, *, integers: bool) -> Array:
    """Where the target is another class than the one that is left out."""
    ignore_index = checks.integer("ignore_index", ignore_index)
    if not integers:
        raise ValueError(
            "ignore_index is for a target of integers, the classes: of probabilities leave rows out by mask="
        )
    limits = xp.iinfo(target.dtype)
    if not limits.min <= ignore_index <= limits.max:
        return xp.ones_like(target, dtype=xp.bool)
    return target != xp.asarray(ignore_index, dtype=target.dtype, device=device_of(target))


def taken_in(
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
        _check_library(xp, name, other, prediction)
    if mask is not None and not xp.isdtype(mask.dtype, "bool"):
        raise TypeError(f"mask must be boolean, not {mask.dtype}")
    return xp, prediction, target, mask


def _check_library(xp: Namespace, name: str, other: Array, prediction: Array) -> None:
    if _namespace_or_none(other) is not xp:
        library = xp.__name__.removeprefix("array_api_compat.")
        raise TypeError(f"{name} must be an array of the prediction's library {library}, not {kind_of(other)}")
    if not on_one_device(device_of(other), device_of(prediction)):
        raise ValueError(f"{name} must be on the prediction's device {device_of(prediction)}, not {device_of(other)}")


def _namespace_or_none(array: Any) -> Namespace:
    try:
        return namespace_of(array)
    except TypeError:
        return None


def weights(xp: Namespace, name: str, value: Any, prediction: Array, shape: tuple[int, ...]) -> Array:
    """Check weights, a sequence or an array of numbers that aren't negative; return an array like the prediction."""
    value = plain(name, value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        numbers = [checks.finite(f"{name}[{place}]", number) for place, number in enumerate(value)]
        value = xp.asarray(numbers, dtype=prediction.dtype, device=device_of(prediction))
    _check_library(xp, name, value, prediction)
    if not xp.isdtype(value.dtype, ("real floating", "integral")):
        raise TypeError(f"{name} must be numbers, not {value.dtype}")
    check_shape(name, value, shape)
    value = to_dtype(xp, value, prediction.dtype)
    if on_host(value):
        right = xp.all((value >= 0) & xp.isfinite(value))
        if not is_tracer(right) and not bool(right):
            raise ValueError(f"{name} must be finite and none negative")
    return value


def check_shape(name: str, array: Array, shape: tuple[int, ...]) -> None:
    """Check the shape of an array."""
    if tuple(array.shape) != tuple(shape):
        raise ValueError(f"{name} must have the shape {in_words(shape)}, not {in_words(array.shape)}")


def spread(xp: Namespace, mask: Array, shape: tuple[int, ...]) -> Array:
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
    check_shape("target", target, wanted)


def check_floats(xp: Namespace, target: Array, or_else: str = "") -> None:
    """Check that a target is floating-point numbers."""
    if not xp.isdtype(target.dtype, "real floating"):
        raise TypeError(f"target must be floating-point numbers{or_else}, not {target.dtype}")


def to_dtype(xp: Namespace, array: Array, dtype: Any) -> Array:
    """Convert where it isn't of the dtype."""
    return array if array.dtype == dtype else xp.astype(xp.asarray(array), dtype)  # NumPy's astype refuses its scalars


def over_classes(mask: Array, values: Array) -> Array:
    """Give the mask (...) a last axis where the values are (..., classes)."""
    return mask if len(mask.shape) == len(values.shape) else mask[..., None]
