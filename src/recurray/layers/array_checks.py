"""Checks of arrays that users hand a layer: each raises an error that names what was given and what was expected."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import EllipsisType
from typing import Any

from recurray.arrays import Array, device_of, is_plain, plain, to_numpy
from recurray.backend import Backend
from recurray.checks import FLOAT32_MAX
from recurray.layers.pieces import Steps
from recurray.messages import in_words, kind_of, shown
from recurray.state import State

MOST_NAMED = 12  # params in an error
MOST_BYTES = 2**47  # of an array: what a processor can address


def floats(backend: Backend, dtype: str, name: str, value: Any, shape: tuple[int | str | EllipsisType, ...]) -> Array:
    """Check a floating-point array and bring it to ``dtype``.

    In ``shape`` a word stands for any size, and an ellipsis at the front for any axes.
    """
    value = array(backend, name, value)
    wanted = getattr(backend.xp, dtype)
    is_wanted = value.dtype == wanted
    if not is_wanted and not backend.xp.isdtype(value.dtype, "real floating"):
        raise TypeError(f"{name} must be floating-point numbers, not {value.dtype}")
    have, want = tuple(value.shape), shape
    if want[:1] == (...,):
        have, want = have[max(0, len(have) - len(want) + 1) :], want[1:]
    if len(have) != len(want) or [h for h, w in zip(have, want, strict=True) if h != w and isinstance(w, int)]:
        raise ValueError(f"{name} must have the shape {in_words(shape)}, not {in_words(value.shape)}")
    return value if is_wanted else backend.xp.astype(value, wanted)


def array(backend: Backend, name: str, value: Any) -> Array:
    """Check that ``value`` is an array of the backend, on its device; return it as a plain one."""
    value = plain(name, value)
    if not backend.owns(value):
        raise TypeError(
            f"{name} must be an array of the backend {backend.name!r}, not {kind_of(value)}; "
            f"convert it with layer.backend.asarray({name})"
        )
    if not backend.on_device(value):
        raise ValueError(
            f"{name} must be on the device {backend.device} of the backend {backend.name!r}, "
            f"not on {device_of(value)}; move it with layer.backend.asarray({name})"
        )
    return value


def lengths(value: Any, batch: int, steps: int) -> list[int] | None:
    """Check the rows' lengths and bring them to the host as integers."""
    if value is None:
        return None
    value = plain("lengths", value)
    try:
        given = to_numpy(value)
    except TypeError:
        raise TypeError(f"lengths must be one integer for each row, not {shown(value)}") from None
    if given.ndim != 1 or given.shape[0] != batch:
        raise ValueError(f"lengths must have the shape ({batch},), one for each row, not {in_words(given.shape)}")
    if batch and given.dtype.kind not in "iu":
        raise TypeError(f"lengths must be integers, not {given.dtype}")
    result = [int(length) for length in given]
    for row, length in enumerate(result):
        if not 0 <= length <= steps:
            raise ValueError(f"lengths must be between 0 and the {steps} time steps, but row {row} has {length}")
    return result


def flags(name: str, value: Any, batch: int, steps: int, *, batch_first: bool) -> Any:
    """Check a mask or the like, a boolean for each row and step; bring it to the host as (batch, time)."""
    if value is None:
        return None
    value = plain(name, value)
    try:
        given = to_numpy(value)
    except TypeError:
        raise TypeError(f"{name} must be one boolean for each row and step, not {shown(value)}") from None
    layout, shape = ("(batch, time)", (batch, steps)) if batch_first else ("(time, batch)", (steps, batch))
    if given.shape != shape:
        raise ValueError(f"{name} must have the shape {shape}, which is {layout} of x, not {in_words(given.shape)}")
    if given.dtype.kind != "b":
        raise TypeError(f"{name} must be booleans, not {given.dtype}: {name} != 0 makes them of numbers")
    return given if batch_first else given.T


def steps(
    batch: int, count: int, lengths_given: Any, mask: Any = None, resets: Any = None, *, batch_first: bool
) -> Steps:
    """Check what says which steps happen, and where rows are cut; see `Layer.forward`."""
    if lengths_given is not None and mask is not None:
        raise ValueError("lengths and mask both say which steps are valid: give one of the two")
    return Steps.of(
        batch,
        count,
        lengths(lengths_given, batch, count),
        flags("mask", mask, batch, count, batch_first=batch_first),
        flags("resets", resets, batch, count, batch_first=batch_first),
    )


def not_recurrent(kind: str, **given: Any) -> None:
    """Refuse what is for recurrent layers."""
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"{name} must be None: {kind} isn't recurrent, got {type(value).__name__}")


def state_of_h(backend: Backend, dtype: str, name: str, value: Any, shape: tuple[int, ...]) -> Array:
    """Check a state that is h alone, (1, batch, size), or its gradient; return its (batch, size), zeros for None."""
    xp = backend.xp
    if value is None:
        return xp.zeros(shape[1:], dtype=getattr(xp, dtype), device=backend.device)
    if not isinstance(value, State) or value.c is not None:
        raise TypeError(f"{name} must be a recurray.State with h alone or None, not {type(value).__name__}")
    return floats(backend, dtype, f"{name}.h", value.h, shape)[0, ...]


Shapes = Mapping[str, tuple[int, ...]]  # of a layer's params, by their names


def memory(shapes: Shapes) -> None:
    """Refuse sizes that make a param larger than any memory."""
    for name, shape in shapes.items():
        if 8 * math.prod(shape) > MOST_BYTES:
            raise ValueError(f"these sizes make the param {name!r} too large for any memory: {in_words(shape)}")


def params_to_load(backend: Backend, dtype: str, shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Array]:
    """Check the arrays that are to replace a layer's params, and bring them to the backend and the dtype."""
    if not isinstance(given, Mapping):
        raise TypeError(f"params must be a mapping of names to arrays, not {type(given).__name__}")
    names_of_params(shapes, given)
    loaded = {}
    for name, shape in shapes.items():
        value = to_numpy(given[name], f"the param {name!r}")
        if value.dtype.kind != "f":
            raise TypeError(f"the param {name!r} must be floating-point numbers, not {value.dtype}")
        if value.shape != shape:
            raise ValueError(f"the param {name!r} must have the shape {in_words(shape)}, not {in_words(value.shape)}")
        largest = float(abs(value[abs(value) < math.inf]).max(initial=0))
        if dtype == "float32" and largest > FLOAT32_MAX:
            raise ValueError(f"the param {name!r} has {largest}, which is too large for float32")
        loaded[name] = backend.asarray(value.copy(), dtype)  # a copy, that the layer alone holds
    return loaded


def params(backend: Backend, dtype: str, shapes: Shapes, given: Mapping[str, Array]) -> dict[str, Array]:
    """Check a layer's params, any of which anyone may have replaced since the layer was made; return plain arrays."""
    if type(given) is not dict and not isinstance(given, Mapping):
        names_of_params(shapes, given)
    if len(given) != len(shapes):
        names_of_params(shapes, given)
    wanted, kind, found = getattr(backend.xp, dtype), None, {}
    for name, shape in shapes.items():
        if name not in given:
            names_of_params(shapes, given)
        value = given[name]
        # One look each where all is well: this is done at each call.
        if type(value) is not kind:  # of which one was looked at already
            kind = type(value) if is_plain(value) and backend.owns(value) else None
            if kind is None:
                value = plain(f"the param {name!r}", value)
        owned = kind is not None or backend.owns(value)
        if not (owned and value.dtype == wanted and value.shape == shape and backend.on_device(value)):
            _refuse_param(backend, dtype, f"the param {name!r}", value, shape)
        found[name] = value
    return found


def _refuse_param(backend: Backend, dtype: str, name: str, value: Any, shape: tuple[int, ...]) -> None:
    has_dtype = hasattr(value, "dtype")
    if has_dtype:
        array(backend, name, value)
    if not has_dtype or value.dtype != getattr(backend.xp, dtype):
        have = value.dtype if has_dtype else type(value).__name__
        raise TypeError(f"{name} must be {dtype}, not {have}: load_state_dict and asarray convert")
    if tuple(value.shape) != shape:
        raise ValueError(f"{name} must have the shape {in_words(shape)}, not {in_words(value.shape)}")


def names_of_params(shapes: Shapes, given: Mapping[str, Any]) -> None:
    """Check that there are just the params that a layer has."""
    if not isinstance(given, Mapping):
        raise TypeError(f"layer.params must be a mapping of names to arrays, not {type(given).__name__}")
    missing, unknown = sorted(set(shapes) - set(given)), sorted(set(given) - set(shapes), key=str)
    if missing or unknown:
        problems = [
            f"{what} {', '.join(map(shown, names[:MOST_NAMED]))}"
            f"{f' and {len(names) - MOST_NAMED:,} more' if len(names) > MOST_NAMED else ''}"
            for what, names in (("missing", missing), ("unknown", unknown))
            if names
        ]
        raise ValueError(f"the params' names don't fit the layer: {'; '.join(problems)}")


def cache(value: Any, expected: type) -> None:
    """Check that a cache is of the kind that the layer's own forward returns."""
    if not isinstance(value, expected):
        raise TypeError(f"cache must be what forward returned, a {expected.__name__}, not {type(value).__name__}")


def shape_of_cache(name: str, value: Array, shape: tuple[int, ...]) -> None:
    """Check that an array of a cache has the shape that it has in the layer that it is given to."""
    if tuple(value.shape) != shape:
        raise ValueError(
            f"cache must be of a layer with a {name} of the shape {in_words(shape)}, but its own has "
            f"{in_words(value.shape)}: it is another layer's"
        )
