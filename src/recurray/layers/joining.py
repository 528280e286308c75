"""One backend and one dtype for layers that stand one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recurray.layers.layer import Layer
from recurray.selector import get_backend

BOTH = frozenset({"backend", "dtype"})
WAYS_OUT = {
    "backend": "Sequential(..., backend=) gives one to all layers made without, layer.to(backend) moves a layer",
    "dtype": "layer.to(dtype=) converts a layer",
}


def unsaid(layer: Layer) -> frozenset[str]:
    """Which of "backend" and "dtype" the user left open.

    A layer that doesn't record it counts as told both if it has params, else as told neither.
    """
    if layer._unsaid is not None:
        return layer._unsaid
    return frozenset() if layer.params else BOTH


def joined(layers: Sequence[Layer], backend: Any = None) -> tuple[Layer, ...]:
    """Return the layers on one backend and in one dtype.

    Layers without params follow the others in what they weren't told. With ``backend``, every layer that wasn't told
    one goes there; one with params is then always copied, so that whether it is doesn't depend on the default backend.
    All others must agree already.

    Raises
    ------
    ValueError
        They don't.
    """
    asked = None if backend is None else get_backend(backend)
    follows = [unsaid(layer) if not layer.params else frozenset() for layer in layers]
    told = [asked is not None and "backend" in unsaid(layer) for layer in layers]
    at = _common("backend", layers, [not (a or "backend" in b) for a, b in zip(told, follows, strict=True)], asked)
    dtype = _common("dtype", layers, ["dtype" not in names for names in follows])
    found: list[Layer] = []
    for layer, names, is_told in zip(layers, follows, told, strict=True):
        if layer.params:
            found.append(layer.to(at) if is_told else layer)
        else:
            own = dtype if "dtype" in names else layer.dtype
            there = (layer.backend, layer.dtype) == (at, own)
            found.append(layer if there else layer.copy_on(at, own))
    return tuple(found)


def _common(what: str, layers: Sequence[Layer], fixed: Sequence[bool], asked: Any = None) -> Any:
    """What is to be the layers' backend or dtype: what was asked for, else what is fixed, else the first one's."""
    have = [(place, getattr(layer, what)) for place, layer in enumerate(layers) if fixed[place]]
    if asked is None and not have:
        return getattr(layers[0], what)
    for place, own in have:
        if asked is not None and own != asked:
            without = "" if layers[place]._unsaid is None else "make it without a backend, or "
            raise ValueError(
                f"backend={asked.name!r} was asked for, {asked!r}, but {_named(layers, place)} has {own!r}: "
                f"{without}move it by layer.to({asked.name!r})"
            )
        first_place, first = have[0]
        if own != first:
            raise ValueError(
                f"all layers must have one {what}, but {_named(layers, first_place)} has {first}, "
                f"{_named(layers, place)} {own}; {WAYS_OUT[what]}"
            )
    return have[0][1] if asked is None else asked


def _named(layers: Sequence[Layer], place: int) -> str:
    return f"layer {place} ({type(layers[place]).__name__})"
