"""What an optimizer's state is written as, and how it is taken over; see `Optimizer.state_dict`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recurray import checks
from recurray.arrays import Array, device_of, namespace_of, to_numpy
from recurray.messages import in_words, shown
from recurray.optim import hyperparameters
from recurray.optim.arrays import check_names

Optimizer = Any  # `recurray.optim.Optimizer`, which imports this


def state_of(optimizer: Optimizer) -> dict[str, Any]:
    """Return settings and moments."""
    optimizer._complete_moments()
    state: dict[str, Any] = {"settings": _settings(optimizer)}
    for name, moments in optimizer._moments.items():
        for moment, value in moments.items():
            state[f"{moment}.{name}"] = _numpy_copy(value)
    return state


def load(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Take over what `state_of` returned, or raise and change nothing."""
    if not isinstance(state, Mapping):
        raise TypeError(f"state must be a mapping, not {type(state).__name__}")
    settings = state.get("settings")
    if not isinstance(settings, Mapping):
        raise ValueError("state must have its settings, a mapping, under the key 'settings'")
    kind = type(optimizer).__name__
    named = settings.get("optimizer")
    if not isinstance(named, str) or named != kind:
        raise ValueError(f"the state is that of the optimizer {shown(named)}, not of {kind}")
    settings = dict(settings)
    groups, counted = settings.pop("groups", None), settings.pop("counted", {})
    plain_settings = {name: value for name, value in _settings(optimizer).items() if name not in ("groups", "counted")}
    check_names("settings", plain_settings, settings)
    counters = _checked_counters(optimizer, [settings[name] for name in optimizer._counters])
    if not isinstance(counted, Mapping) or set(counted) - set(optimizer._moments):
        raise ValueError(f"counted must be a mapping of names of params to their counters, not {shown(counted)}")
    counted = {name: _checked_counters(optimizer, values) for name, values in counted.items()}

    # A new optimizer, made with these settings, checks them and knows which arrays belong to them.
    fresh = type(optimizer)(optimizer.params, **{name: settings[name] for name in ("lr", *optimizer._options)})
    fresh.groups = groups
    fresh._complete_moments()
    wanted = {f"{m}.{name}": value for name, moments in fresh._moments.items() for m, value in moments.items()}
    given = {name: value for name, value in state.items() if name != "settings"}
    check_names("arrays", wanted, given)
    moments = {
        name: {moment: _loaded(f"{moment}.{name}", given[f"{moment}.{name}"], value) for moment, value in own.items()}
        for name, own in fresh._moments.items()
    }

    for name in ("lr", *optimizer._options):
        setattr(optimizer, name, getattr(fresh, name))
    optimizer._set_counters(counters)
    optimizer._groups, optimizer._group_of, optimizer._counted = fresh._groups, fresh._group_of, counted
    optimizer._moments, optimizer._started_for, optimizer._made = moments, optimizer._values(), {}


def _settings(optimizer: Optimizer) -> dict[str, Any]:
    """All but the arrays, as plain values that JSON can hold."""
    settings: dict[str, Any] = {"optimizer": type(optimizer).__name__}
    for name in ("lr", *optimizer._options, *optimizer._counters):
        value = getattr(optimizer, name)
        settings[name] = _plain(value)
    if optimizer._groups:
        settings["groups"] = {
            pattern: {name: _plain(value) for name, value in own.items()} for pattern, own in optimizer._groups.items()
        }
    if optimizer._counted:
        settings["counted"] = {name: list(values) for name, values in optimizer._counted.items()}
    return settings


def _checked_counters(optimizer: Optimizer, values: Any) -> tuple[Any, ...]:
    if not isinstance(values, (list, tuple)) or len(values) != len(optimizer._counters):
        raise ValueError(f"the counters of a param must be {', '.join(optimizer._counters)}, not {shown(values)}")
    return tuple(
        _checked_counter(name, value, getattr(optimizer, name))
        for name, value in zip(optimizer._counters, values, strict=True)
    )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _checked_counter(name: str, value: Any, own: float) -> float:
    return checks.size(name, value, least=0) if isinstance(own, int) else hyperparameters.not_negative(name, value)


def _numpy_copy(value: Array) -> Any:
    return np.array(to_numpy(value), order="C")  # safetensors scrambles arrays in another order


def _loaded(name: str, value: Any, like: Array) -> Array:
    """Return a copy of ``value`` with the library, the dtype and the device of ``like``, whose shape it must have."""
    array = np.array(to_numpy(value, repr(name)))
    if array.dtype.kind != "f":
        raise TypeError(f"{name!r} must be floating-point numbers, not {array.dtype}")
    if array.shape != tuple(like.shape):
        raise ValueError(f"{name!r} must have the shape {in_words(like.shape)}, not {in_words(array.shape)}")
    if like.dtype == namespace_of(like).float32:
        largest = float(abs(array[np.isfinite(array)]).max(initial=0))
        if largest > checks.FLOAT32_MAX:
            raise ValueError(f"{name!r} has {largest}, which is too large for float32")
    return namespace_of(like).asarray(array, dtype=like.dtype, device=device_of(like))
