"""One backend and one dtype for the layers of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recurray.layers.layer import Layer
from recurray.selector import get_backend

BOTH = frozenset({"backend", "dtype"})
WAYS_OUT = {
    "backend": "the model's backend= gives one to all layers made without, layer.to(backend) moves a layer",
    "dtype": "layer.to(dtype=) converts a layer",
}


def unsaid(layer: Layer) -> frozenset[str]:
    """Which of "backend" and "dtype" the user left open.

    A layer that doesn't record it counts as told both if it has params, else as told neither.
    """
    if layer._unsaid is not None:
        return layer._unsaid
    return frozenset() if layer.params else BOTH


def joined(parts: Mapping[str, Layer], backend: Any = None) -> dict[str, Layer]:
    """Return the layers, each under its name, on one backend and in one dtype.

    Layers without params follow the others in what they weren't told. With ``backend``, every layer that wasn't told
    one goes there; one with params is then always copied, so that whether it is doesn't depend on the default backend.
    All others must agree already.

    Raises
    ------
    ValueError
        They don't.
    """
    asked = None if backend is None else get_backend(backend)
    follows = {name: unsaid(layer) if not layer.params else frozenset() for name, layer in parts.items()}
    told = {name for name, layer in parts.items() if asked is not None and "backend" in unsaid(layer)}
    at = _common("backend", parts, [n for n in parts if n not in told and "backend" not in follows[n]], asked)
    dtype = _common("dtype", parts, [name for name in parts if "dtype" not in follows[name]])
    found: dict[str, Layer] = {}
    for name, layer in parts.items():
        if layer.params:
            found[name] = layer.to(at) if name in told else layer
        else:
            own = dtype if "dtype" in follows[name] else layer.dtype
            there = (layer.backend, layer.dtype) == (at, own)
            found[name] = layer if there else layer.copy_on(at, own)
    return found


def _common(what: str, parts: Mapping[str, Layer], fixed: Sequence[str], asked: Any = None) -> Any:
    """What is to be the layers' backend or dtype: what was asked for, else what is fixed, else the first one's."""
    have = [(name, getattr(parts[name], what)) for name in fixed]
    if asked is None and not have:
        return getattr(next(iter(parts.values())), what)
    for name, own in have:
        if asked is not None and own != asked:
            without = "" if parts[name]._unsaid is None else "make it without a backend, or "
            raise ValueError(
                f"backend={asked.name!r} was asked for, {asked!r}, but {_named(parts, name)} has {own!r}: "
                f"{without}move it by layer.to({asked.name!r})"
            )
        first_name, first = have[0]
        if own != first:
            raise ValueError(
                f"all layers must have one {what}, but {_named(parts, first_name)} has {first}, "
                f"{_named(parts, name)} {own}; {WAYS_OUT[what]}"
            )
    return have[0][1] if asked is None else asked


def _named(parts: Mapping[str, Layer], name: str) -> str:
    return f"layer {name} ({type(parts[name]).__name__})"
