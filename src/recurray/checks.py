"""Checks of what users hand in: each raises an error that names what was given and what was expected."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Mapping, Sequence
from types import EllipsisType
from typing import Any

from recurray.arrays import Array, device_of, to_numpy
from recurray.backend import Backend

DTYPES = ("float32", "float64")
FLOAT32_MAX = 3.4028234663852886e38


def recompute(value: Any) -> int | str | None:
    """Check how many steps apart states are kept."""
    if value is None or (isinstance(value, str) and value == "sqrt"):
        return value
    if not isinstance(value, (str, bool)):
        try:
            steps = operator.index(value)
        except TypeError:
            steps = 0
        if steps > 0:
            return steps
    raise ValueError(f"recompute must be None, 'sqrt' or a positive integer, not {value!r}")


def size(name: str, value: Any, least: int = 1) -> int:
    """Check a size: an integer of at least ``least``."""
    if isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    try:
        value = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, not {type(value).__name__} {value!r}") from None
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")
    return int(value)


def probability(name: str, value: Any) -> float:
    """Check the probability that something is dropped: at least 0 and below 1."""
    value = number(name, value)
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, not {value!r}")
    return float(value)


def number(name: str, value: Any) -> float:
    """Check a real number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, not {type(value).__name__} {value!r}")
    return float(value)


def finite(name: str, value: Any) -> float:
    """Check a real number that is neither infinite nor NaN."""
    value = number(name, value)
    if not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, not {value!r}")
    return float(value)


def flag(name: str, value: Any) -> bool:
    """Check an option that is on or off."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {type(value).__name__} {value!r}")
    return value


def choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """Check an option that is one of several words."""
    if value not in choices:
        known = ", ".join(repr(known) for known in choices)
        raise ValueError(f"{name} must be one of {known}, not {value!r}")
    return str(value)


def float_dtype(value: Any) -> str:
    """Check a layer's dtype; NumPy's and other libraries' dtype objects are taken by their name."""
    name = getattr(value, "__name__", None) or getattr(value, "name", None) or str(value)
    name = name.rpartition(".")[2]
    if name not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(map(repr, DTYPES))}, not {value!r}")
    return name


def floats(backend: Backend, dtype: str, name: str, value: Any, shape: tuple[int | str | EllipsisType, ...]) -> Array:
    """Check a floating-point array and bring it to ``dtype``.

    In ``shape`` a word stands for any size, and an ellipsis at the front for any axes.
    """
    array(backend, name, value)
    wanted = getattr(backend.xp, dtype)
    is_wanted = value.dtype == wanted
    if not is_wanted and not backend.xp.isdtype(value.dtype, "real floating"):
        raise TypeError(f"{name} must be floating-point numbers, not {value.dtype}")
    have, want = tuple(value.shape), shape
    if want[:1] == (...,):
        have, want = have[max(0, len(have) - len(want) + 1) :], want[1:]
    if len(have) != len(want) or any(isinstance(w, int) and h != w for h, w in zip(have, want, strict=True)):
        raise ValueError(f"{name} must have the shape {in_words(shape)}, not {in_words(value.shape)}")
    return value if is_wanted else backend.xp.astype(value, wanted)


def array(backend: Backend, name: str, value: Any) -> None:
    """Check that ``value`` is an array of the backend, on its device."""
    if not backend.owns(value):
        kind = f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}"
        raise TypeError(
            f"{name} must be an array of the backend {backend.name!r}, not {kind}; "
            f"convert it with layer.backend.asarray({name})"
        )
    if not backend.on_device(value):
        raise ValueError(
            f"{name} must be on the device {backend.device} of the backend {backend.name!r}, "
            f"not on {device_of(value)}; move it with layer.backend.asarray({name})"
        )


def lengths(value: Any, batch: int, steps: int) -> list[int] | None:
    """Check the rows' lengths and bring them to the host as integers."""
    if value is None:
        return None
    try:
        given = to_numpy(value)
    except ValueError:
        raise TypeError(f"lengths must be one integer for each row, not {value!r}") from None
    if given.ndim != 1 or given.shape[0] != batch:
        raise ValueError(f"lengths must have the shape ({batch},), one for each row, not {in_words(given.shape)}")
    if batch and given.dtype.kind not in "iu":
        raise TypeError(f"lengths must be integers, not {given.dtype}")
    result = [int(length) for length in given]
    for row, length in enumerate(result):
        if not 0 <= length <= steps:
            raise ValueError(f"lengths must be between 0 and the {steps} time steps, but row {row} has {length}")
    return result


def params_to_load(
    backend: Backend, dtype: str, own: Mapping[str, Array], given: Mapping[str, Any]
) -> dict[str, Array]:
    """Check the arrays that are to replace a layer's params, and bring them to the backend and the dtype."""
    if not isinstance(given, Mapping):
        raise TypeError(f"params must be a mapping of names to arrays, not {type(given).__name__}")
    missing, unknown = sorted(set(own) - set(given)), sorted(set(given) - set(own), key=str)
    if missing or unknown:
        problems = [
            f"{what} {', '.join(map(repr, names))}"
            for what, names in (("missing", missing), ("unknown", unknown))
            if names
        ]
        raise ValueError(f"the params' names don't fit the layer: {'; '.join(problems)}")
    loaded = {}
    for name, param in own.items():
        value = to_numpy(given[name])
        if value.dtype.kind != "f":
            raise TypeError(f"the param {name!r} must be floating-point numbers, not {value.dtype}")
        if value.shape != tuple(param.shape):
            raise ValueError(f"the param {name!r} must have the shape {in_words(param.shape)}, not {value.shape}")
        largest = float(abs(value[abs(value) < math.inf]).max(initial=0))
        if dtype == "float32" and largest > FLOAT32_MAX:
            raise ValueError(f"the param {name!r} has {largest}, which is too large for float32")
        loaded[name] = backend.asarray(value.copy(), dtype)  # a copy, that the layer alone holds
    return loaded


def param(backend: Backend, dtype: str, name: str, value: Any, shape: tuple[int, ...]) -> None:
    """Check a param, which anyone may have replaced since the layer was made."""
    if getattr(value, "dtype", None) != getattr(backend.xp, dtype):
        have = getattr(value, "dtype", type(value).__name__)
        raise TypeError(f"the param {name!r} must be {dtype}, not {have}: load_state_dict and asarray convert")
    if tuple(value.shape) != shape:
        raise ValueError(f"the param {name!r} must have the shape {in_words(shape)}, not {in_words(value.shape)}")


def in_words(shape: Sequence[int | str | EllipsisType]) -> str:
    """Return a shape as it is written: (2, time, 3)."""
    parts = ["..." if part is ... else str(part) for part in shape]
    return f"({', '.join(parts)}{',' if len(shape) == 1 else ''})"


def cache(value: Any, expected: type) -> None:
    """Check that a cache is of the kind that the layer's own forward returns."""
    if not isinstance(value, expected):
        raise TypeError(f"cache must be what forward returned, a {expected.__name__}, not {type(value).__name__}")
