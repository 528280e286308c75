"""Whether params are a layer's own or a copy, which no step would carry back into the layer."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Mapping
from typing import Any
from weakref import ref

from recurray.layers.joined_params import fixed_names
from recurray.layers.layer import Layer, living_layers

WAY_OUT = (
    "no step will reach it. Give the optimizer layer.params itself; for several layers, the params of a "
    "recurray.Model or Sequential of them; groups= freezes some of the params"
)


def owner(params: Mapping[str, Any]) -> ref[Layer] | None:
    """Return the layer whose dict ``params`` is; None if it isn't a dict of a layer.

    Raises
    ------
    ValueError
        It holds params of layers, or copies of all params of one, but isn't the dict that the layer reads.
    """
    if isinstance(params, ChainMap) and len(params.maps) > 1:
        raise ValueError(f"params are a ChainMap, which writes to the first of its mappings alone: {WAY_OUT}")
    if not isinstance(params, dict):
        return None
    own_params = [(layer, getattr(layer, "params", None)) for layer in living_layers()]
    for layer, own in own_params:
        if own is params:
            return ref(layer)
    arrays = {id(array) for array in params.values()}
    for layer, own in own_params:
        if isinstance(own, dict) and any(id(array) in arrays for array in own.values()):
            raise ValueError(f"params are a copy of those of a layer, {type(layer).__name__}: {WAY_OUT}")
    for layer, own in own_params:
        if own and _are_copies(params, own):
            raise ValueError(f"params are copies of those of a layer, {type(layer).__name__}: {WAY_OUT}")
    return None


def check_not_fixed(params: Mapping[str, Any], names: Iterable[str]) -> None:
    """Refuse to step params of a frozen layer, given the names of those that are stepped.

    Raises
    ------
    TypeError
        There are some.
    """
    fixed = sorted(fixed_names(params).intersection(names))
    if fixed:
        raise TypeError(
            f"the param {fixed[0]!r} is a frozen layer's, which can't be changed: give the optimizer the params of its "
            f"trainable(), or leave it as it is, by groups={{{fixed[0]!r}: {{'frozen': True}}}} or a pattern of names"
        )


def check_owner(layer: Layer | None, params: Mapping[str, Any]) -> None:
    """Refuse params that were a layer's, which is gone or has others by now.

    Raises
    ------
    ValueError
        They were.
    """
    if layer is None:
        raise ValueError(
            "the layer whose params the optimizer has is gone: where another has taken its place, optimizer.to(params) "
            "makes an optimizer for that one"
        )
    if layer.params is not params:
        raise ValueError(
            f"{type(layer).__name__}.params has been set to another mapping since the optimizer was made, so that no "
            "step would reach it: layer.load_state_dict puts new arrays into the one that it has, and "
            "optimizer.to(params) makes an optimizer for another"
        )


def _are_copies(params: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    """Whether both have the same names and, as far as they are NumPy's, the same numbers, that aren't all alike."""
    if params.keys() != own.keys():
        return False
    varied = False
    for name, value in params.items():
        other = own[name]
        kinds = {type(array).__module__.partition(".")[0] for array in (value, other)}
        if kinds != {"numpy"} or value.shape != other.shape or not (value == other).all():
            return False
        varied |= bool(value.size and (value != value.flat[0]).any())
    return varied
