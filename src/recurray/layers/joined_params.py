"""The params of several layers as one mapping."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping

from recurray.arrays import Array
from recurray.backend import Backend
from recurray.layers.fixed_params import FixedParams
from recurray.layers.layer import Layer
from recurray.messages import in_words, shown


class JoinedParams(MutableMapping[str, Array]):
    """The params of several layers as one mapping, that reads and writes the layers' own.

    Parameters
    ----------
    parts : mapping of str to Layer
        A param's name is its layer's, a dot, and its own there.
    ties : mapping of str to str
        Params that are one array with another, by its name. They aren't in the mapping: what is written to the other
        is written to them too.
    """

    def __init__(self, parts: Mapping[str, Layer], ties: Mapping[str, str]) -> None:
        self._parts, self._ties = parts, ties
        self._tied: dict[str, list[str]] = {}
        self._found: dict[str, tuple[Layer, str]] = {}  # what `_find` has found
        for tied, source in ties.items():
            self._tied.setdefault(source, []).append(tied)
        for source in self._tied:
            self[source] = self[source]

    @property
    def backend(self) -> Backend:
        """The layers' backend."""
        return next(iter(self._parts.values())).backend

    def _find(self, name: str) -> tuple[MutableMapping[str, Array], str]:
        found = self._found.get(name) if isinstance(name, str) else None
        if found is None:
            part, dot, own = name.partition(".") if isinstance(name, str) else ("", "", "")
            layer = self._parts.get(part)
            if not dot or layer is None or (own not in layer.params and own not in layer._param_shapes):
                raise KeyError(f"there is no param {name!r}")
            found = self._found[name] = layer, own
        return found[0].params, found[1]

    def __getitem__(self, name: str) -> Array:
        if name in self._ties:
            raise KeyError(f"the param {name!r} is tied to {self._ties[name]!r}: read and write that one")
        params, own = self._find(name)
        return params[own]

    def __setitem__(self, name: str, value: Array) -> None:
        if name in self._ties:
            raise KeyError(f"the param {name!r} is tied to {self._ties[name]!r}: read and write that one")
        for each in (name, *self._tied.get(name, ())):
            params, own = self._find(each)
            params[own] = value

    def __delitem__(self, name: str) -> None:
        raise TypeError("a layer's params can be replaced but not deleted")

    def __iter__(self) -> Iterator[str]:
        for part, layer in self._parts.items():
            for own in layer.params:
                name = f"{part}.{own}"
                if name not in self._ties:
                    yield name

    def __len__(self) -> int:
        return sum(len(layer.params) for layer in self._parts.values()) - len(self._ties)

    def __repr__(self) -> str:
        return repr(dict(self))


def fixed_names(params: Mapping[str, Array]) -> set[str]:
    """The names of params that are a frozen layer's."""
    if isinstance(params, FixedParams):
        return set(params)
    parts = params._parts if isinstance(params, JoinedParams) else {}
    return {f"{part}.{name}" for part, layer in parts.items() for name in fixed_names(layer.params)}


def checked_ties(shapes: Mapping[str, tuple[int, ...]], ties: Mapping[str, str] | None) -> dict[str, str]:
    """Check which params are to be one array with which, given the shapes of all.

    Raises
    ------
    TypeError
        It is no mapping of names to names.
    ValueError
        There is no such param, shapes differ, or a param is tied to one that is itself tied.
    """
    if ties is None:
        return {}
    if not isinstance(ties, Mapping) or not all(isinstance(name, str) for pair in ties.items() for name in pair):
        raise TypeError(f'tie must be a mapping of names of params, {{"2.weight": "0.weight"}}, not {shown(ties)}')
    for tied, source in ties.items():
        for name in (tied, source):
            if name not in shapes:
                raise ValueError(f"tie: there is no param {shown(name)}; there are {shown(', '.join(shapes))}")
        if source in ties:
            raise ValueError(
                f"tie: {tied!r} is to be {source!r}, which is tied itself: give the name of one that isn't"
            )
        if shapes[tied] != shapes[source]:
            raise ValueError(
                f"tie: {tied!r} has the shape {in_words(shapes[tied])}, {source!r} {in_words(shapes[source])}: "
                "one array can't be both"
            )
    return dict(ties)
