"""Steps of small arrays of NumPy's that lie side by side in memory, as one: many calls become few."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from recurray.arrays import Array, namespace_of

Moments = dict[str, Array]
Update = Callable[[Array, Array, Moments], tuple[Array, Moments]]

SMALL = 8192  # numbers: an array of fewer is stepped together with others


class Flat:
    """Params and their moments, all of one dtype, each kind in an array of its own.

    What the moments were before a step is as it was until the next: they have two places each, by turns. The params
    of a step are new arrays, views of one; its memory is that of the last but one, if nobody holds any of these.

    Parameters
    ----------
    params : mapping of str to array
        NumPy's.
    moments : sequence of str
        What moments each has.
    """

    def __init__(self, params: Mapping[str, Array], moments: Sequence[str]) -> None:
        first = next(iter(params.values()))
        self._xp, self._dtype, self._size = namespace_of(first), first.dtype, 0
        self._slices: dict[str, tuple[slice, tuple[int, ...]]] = {}
        for name, param in params.items():
            self._slices[name] = slice(self._size, self._size + param.size), param.shape
            self._size += param.size
        self._places = [{name: self._empty() for name in moments} for _ in range(2)]
        self._views: list[dict[str, Moments]] = [
            {name: {moment: self._view(place[moment], name) for moment in moments} for name in params}
            for place in self._places
        ]
        self._memory: list[Array] = []  # of params: the last step's and the one's before
        self._last: dict[str, Array] = {}

    def step(
        self, update: Update, params: Mapping[str, Array], grads: Mapping[str, Array], moments: Mapping[str, Moments]
    ) -> tuple[dict[str, Array], dict[str, Moments]]:
        """Return the params and the moments after a step; nothing that was given is written to."""
        now = self._place_of(moments)
        old, new = self._places[now], self._places[1 - now]
        lie_here = bool(self._last) and all(params[name] is view for name, view in self._last.items())
        param, changed = update(self._memory[-1] if lie_here else self._joined(params), self._joined(grads), dict(old))
        for what, value in {"param": param, **changed}.items():
            if value.dtype != self._dtype:
                names = ", ".join(map(repr, self._slices))
                raise TypeError(f"a step made the {what} of {names} {value.dtype}, which was {self._dtype}")
        memory = self._unused()
        memory[...] = param
        for name, place in new.items():
            place[...] = changed[name]
        self._memory = [*self._memory[-1:], memory]
        self._last = {name: self._view(memory, name) for name in self._slices}
        return dict(self._last), self._views[1 - now]

    def _place_of(self, moments: Mapping[str, Moments]) -> int:
        """In which place the moments lie; where somebody else has made them, they are brought there."""
        for number, views in enumerate(self._views):
            if all(moments[name] is own for name, own in views.items()):
                return number
        for name, own in moments.items():
            for moment, value in own.items():
                self._places[0][moment][self._slices[name][0]] = value.reshape(-1)
        return 0

    def _joined(self, arrays: Mapping[str, Array]) -> Array:
        return self._xp.concat([arrays[name].reshape(-1) for name in self._slices])

    def _unused(self) -> Array:
        """Memory for params: what nobody holds, or new."""
        is_counted = hasattr(sys, "getrefcount") and getattr(sys, "_is_gil_enabled", lambda: True)()
        if len(self._memory) == 2 and is_counted and sys.getrefcount(self._memory[0]) == 2:  # the list and the call
            return self._memory[0]
        return self._empty()

    def _empty(self) -> Array:
        return self._xp.empty(self._size, dtype=self._dtype)

    def _view(self, memory: Array, name: str) -> Array:
        place, shape = self._slices[name]
        return memory[place].reshape(shape)


def are_small(params: Mapping[str, Any]) -> list[str]:
    """Return the names of small arrays of NumPy's that can be stepped as one: all of the dtype of the first of them."""
    found: list[str] = []
    dtype = None
    for name, param in params.items():
        if type(param).__module__ == "numpy" and param.size < SMALL and dtype in (None, param.dtype):
            dtype = param.dtype
            found.append(name)
    return found
