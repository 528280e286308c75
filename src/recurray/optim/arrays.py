"""Params, gradients and moments: which arrays they may be, and whether they agree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recurray.arrays import Array, device_of, namespace_of, on_one_device, plain
from recurray.messages import in_words, shown

Moments = dict[str, Array]
Updated = dict[str, tuple[Array, Moments]]  # params and their moments, by name


def agreeing(
    params: Mapping[str, Array], grads: Mapping[str, Array], kinds: set[tuple[type, Any]]
) -> tuple[Mapping[str, Array], Mapping[str, Array]]:
    """Check gradients against their params; return both as plain arrays.

    ``kinds`` are types and dtypes of params that have been checked, to which those of these are added.

    Raises
    ------
    ValueError, TypeError
        A gradient isn't of its param's library, dtype, shape and device, or they aren't floating-point arrays.
    """
    if _are_alike(params, grads, kinds):
        return params, grads
    params = {name: float_array(f"the param {name!r}", param) for name, param in params.items()}
    grads = {name: float_array(f"the gradient of {name!r}", grad) for name, grad in grads.items()}
    for name, param in params.items():
        grad = grads[name]
        if namespace_of(grad) is not namespace_of(param):
            raise TypeError(
                f"the gradient of {name!r} must be an array of its param's library, "
                f"{namespace_of(param).__name__}, not of {namespace_of(grad).__name__}"
            )
        if grad.dtype != param.dtype:
            raise TypeError(f"the gradient of {name!r} must be {param.dtype} like its param, not {grad.dtype}")
        if tuple(grad.shape) != tuple(param.shape):
            raise ValueError(
                f"the gradient of {name!r} must have the shape {in_words(param.shape)}, not {in_words(grad.shape)}"
            )
        if not on_one_device(device_of(grad), device_of(param)):
            raise ValueError(
                f"the gradient of {name!r} must be on the device {device_of(param)}, not {device_of(grad)}"
            )
        kinds.add((type(param), param.dtype))
    return params, grads


def _are_alike(params: Mapping[str, Array], grads: Mapping[str, Array], kinds: set[tuple[type, Any]]) -> bool:
    """Whether arrays agree, and the params are of kinds that have been checked: the quick check."""
    for name, param in params.items():
        grad, kind, dtype = grads[name], type(param), param.dtype
        if type(grad) is not kind or grad.dtype != dtype or grad.shape != param.shape or (kind, dtype) not in kinds:
            return False
        if kind.__module__ != "numpy" and device_of(grad) != device_of(param):  # NumPy has one device
            return False
    return True


def checked(name: str, before: Array, param: Array, moments: Moments) -> tuple[Array, Moments]:
    """Check a step's results; return them as arrays, as NumPy makes scalars of 0-d ones."""
    for what, value in {"param": param, **moments}.items():
        if value.dtype != before.dtype:
            raise TypeError(f"a step made the {what} of {name!r} {value.dtype}, which was {before.dtype}")
    asarray = namespace_of(before).asarray
    return asarray(param), {moment: asarray(value) for moment, value in moments.items()}


def float_array(name: str, value: Any) -> Array:
    """Check a float32 or float64 array of any array library; return it as a plain one."""
    value = plain(name, value)
    try:
        xp = namespace_of(value)
    except TypeError:
        raise TypeError(f"{name} must be an array of an array library, not {type(value).__name__}") from None
    if not any(value.dtype == dtype for dtype in (xp.float32, xp.float64)):
        raise TypeError(f"{name} must be float32 or float64, not {value.dtype}")
    return value


def check_names(what: str, wanted: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuse names that are missing or unknown."""
    missing, unknown = wanted.keys() - given.keys(), given.keys() - wanted.keys()
    if missing or unknown:
        problems = [
            f"{problem} {', '.join(sorted(map(shown, names)))}"
            for problem, names in (("missing", missing), ("unknown", unknown))
            if names
        ]
        raise ValueError(f"the names of the {what} don't fit: {'; '.join(problems)}")
