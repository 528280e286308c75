"""Arrays, and what is made of them, on another backend or in another precision: always copies."""

from __future__ import annotations

import math
from typing import Any

from recurray.arrays import Array, namespace_of, plain
from recurray.backend import Backend
from recurray.checks import FLOAT32_MAX


def array(source: Backend, backend: Backend, dtype: str, name: str, value: Any) -> Array:
    """Return a copy of ``value``, which is an array of ``source`` or any other, on ``backend`` and in ``dtype``.

    Raises
    ------
    TypeError
        It isn't a floating-point array.
    ValueError
        It holds a finite number that is too large for float32.
    """
    value = plain(name, value)
    try:
        xp = namespace_of(value)
    except TypeError:
        raise TypeError(f"{name} must be an array, not {type(value).__name__}") from None
    if not xp.isdtype(value.dtype, "real floating"):
        raise TypeError(f"{name} must be floating-point numbers, not {value.dtype}")
    if dtype == "float32" and value.dtype != xp.float32:
        size = xp.abs(value)
        largest = float(xp.max(xp.where(size < math.inf, size, xp.zeros_like(size)))) if math.prod(value.shape) else 0.0
        if largest > FLOAT32_MAX:
            raise ValueError(f"{name} has {largest}, which is too large for float32")
    if not backend.owns(value):
        return backend.asarray(source.to_numpy(value), dtype)
    if backend.on_device(value) and value.dtype == getattr(backend.xp, dtype):
        return backend.xp.astype(value, value.dtype)  # which copies, as asarray wouldn't
    return backend.asarray(value, dtype)


def state(source: Backend, backend: Backend, dtype: str, name: str, value: Any) -> Any:
    """Return a copy of a state: an array, a named tuple of them, a tuple with one for each layer, or None."""
    if value is None:
        return None
    if not isinstance(value, tuple):
        return array(source, backend, dtype, name, value)
    fields = getattr(value, "_fields", None)
    names = [f"{name}[{place}]" for place in range(len(value))] if fields is None else [f"{name}.{f}" for f in fields]
    parts = [state(source, backend, dtype, own, part) for own, part in zip(names, value, strict=True)]
    return tuple(parts) if fields is None else type(value)(*parts)
