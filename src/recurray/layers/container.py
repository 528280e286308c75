"""What layers made of layers share: one backend and dtype, one mapping of params, params that are tied."""

from __future__ import annotations

import copy
from collections.abc import Mapping, MutableMapping
from typing import Any, Self

from recurray.arrays import Array
from recurray.backend import Backend
from recurray.layers import array_checks
from recurray.layers.fixed_params import FixedParams
from recurray.layers.joined_params import JoinedParams, checked_ties
from recurray.layers.joining import joined, unsaid
from recurray.layers.layer import Frozen, Layer


class Container(Layer):
    """A layer made of other layers, its parts, by name.

    Attributes
    ----------
    tie : dict of str to str
        Params that are one array with another, by its name.
    """

    _parts: dict[str, Layer]
    _params: MutableMapping[str, Array]
    _ties: dict[str, str]

    def _hold(self, parts: Mapping[str, Layer], backend: Any, tie: Mapping[str, str] | None) -> None:
        """Take the layers as parts, brought to one backend and dtype; see `joined`."""
        seen: dict[int, str] = {}
        for name, layer in parts.items():
            if not isinstance(layer, Layer):
                raise TypeError(f"layer {name} must be a recurray layer, not {type(layer).__name__}")
            if id(layer) in seen:
                raise ValueError(f"layer {name} stands in an earlier place too: layers can't share params, but by tie=")
            seen[id(layer)] = name
        self._parts = joined(parts, backend)
        first = next(iter(self._parts.values()))
        self.backend, self.dtype = first.backend, first.dtype
        self._ties = checked_ties(self._shapes_of_parts(), tie)
        self._params = JoinedParams(self._parts, self._ties)
        self._unsaid = frozenset.intersection(*map(unsaid, parts.values()))
        if backend is not None:
            self._unsaid -= {"backend"}

    @property
    def tie(self) -> dict[str, str]:
        """Params that are one array with another, by its name."""
        return dict(self._ties)

    def argument(self, name: str) -> Any:
        """What the constructor was given as ``name``."""
        return (self.tie or None) if name == "tie" else super().argument(name)

    @property
    def params(self) -> MutableMapping[str, Array]:
        """The layers' own params, read and written through."""
        return self._params

    @params.setter
    def params(self, given: Mapping[str, Array]) -> None:
        array_checks.names_of_params(self._param_shapes, given)
        self.params.update(given)

    def _shapes_of_parts(self) -> dict[str, tuple[int, ...]]:
        return {
            f"{part}.{name}": shape
            for part, layer in self._parts.items()
            for name, shape in layer._param_shapes.items()
        }

    @property
    def _param_shapes(self) -> array_checks.Shapes:
        shapes = self._shapes_of_parts()
        for tied in self._ties:
            del shapes[tied]
        return shapes

    def _joined(self, grads: Mapping[str, Mapping[str, Array]]) -> dict[str, Array]:
        """The gradients of the parts, by part, under the names of `params`: those of tied params are added up."""
        found = {f"{part}.{name}": value for part, own in grads.items() for name, value in own.items()}
        for tied, source in self._ties.items():
            if tied in found:
                value = found.pop(tied)
                found[source] = found[source] + value if source in found else value
        return {name: found[name] for name in self._param_shapes if name in found}

    def _fix(self) -> None:
        self._fixed = self.checked_params()
        self._parts = {name: self._frozen_part(layer) for name, layer in self._parts.items()}
        self._params = FixedParams(self._fixed)

    def _frozen_part(self, layer: Layer) -> Layer:
        return layer if isinstance(layer, Frozen) else Frozen(layer)

    def copy_on(self, backend: Backend, dtype: str) -> Self:
        """A copy whose layers are copies; see `Layer.copy_on`."""
        other = copy.copy(self)
        other._fixed = None
        other.backend, other.dtype = backend, dtype
        parts = {
            name: layer if self._fixed is None or not isinstance(layer, Frozen) else layer._layer
            for name, layer in self._parts.items()
        }
        other._parts = {name: layer.copy_on(backend, dtype) for name, layer in parts.items()}
        other._params = JoinedParams(other._parts, self._ties)
        return other

    def _own_generators(self) -> None:
        super()._own_generators()
        for layer in self._parts.values():
            layer._own_generators()

    def __repr__(self) -> str:
        lines = [f"    {name}: {layer!r}".replace("\n", "\n    ") for name, layer in self._parts.items()]
        lines += [f"    tie={self._ties!r}"] if self._ties else []
        return "\n".join([f"{type(self).__name__}(", *lines, f")  # {self.param_count():,} params"])
