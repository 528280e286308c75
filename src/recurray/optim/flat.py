"""Steps of NumPy's arrays in place: small ones side by side in memory, as one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

from recurray.arrays import Array, namespace_of
from recurray.elementwise import Elementwise
from recurray.optim.arrays import Moments, Updated

SMALL = 8192  # numbers: arrays of fewer are stepped together
LINE = 64  # bytes of a cache's line: a vector that lies in two of them takes twice as long
IS_COUNTED = hasattr(sys, "getrefcount") and getattr(sys, "_is_gil_enabled", lambda: True)()  # who holds an array


class Flat:
    """Params and their moments, all of one dtype, that are stepped in one call.

    Parameters
    ----------
    run : Elementwise
        The step of a backend that is `in_place`.
    params : mapping of str to array
        NumPy's.
    moments : sequence of str
        What moments each has.
    """

    def __init__(self, run: Elementwise, params: Mapping[str, Array], moments: Sequence[str]) -> None:
        self._run = run
        small = {name: param for name, param in params.items() if param.size < SMALL}
        alone = [{name: param} for name, param in params.items() if name not in small]
        self._sets = [_Set(own, moments) for own in ([small] if small else []) + alone]

    def prepared(
        self,
        numbers: Mapping[str, float],
        params: Mapping[str, Array],
        grads: Mapping[str, Array],
        moments: Mapping[str, Moments],
    ) -> Callable[[], Updated]:
        """Return what takes a step and returns params and moments by name. Until then nothing of theirs is changed."""
        ready = [each.prepared(params, grads, moments) for each in self._sets]

        def take() -> Updated:
            self._run(numbers, [given for given, _ in ready], [out for _, out in ready])
            found: Updated = {}
            for each, (_, out) in zip(self._sets, ready, strict=True):
                found |= each.stepped(out["stepped"])
            return found

        return take


class _Set:
    """Params that are stepped as one array, and their moments: each kind lies in an array of its own.

    A step writes the moments over those before. The params of a step are new arrays, views of one; its memory is that
    of the last but one, if nobody holds any of these.
    """

    def __init__(self, params: Mapping[str, Array], moments: Sequence[str]) -> None:
        first = next(iter(params.values()))
        self._xp, self._dtype, self._size = namespace_of(first), first.dtype, 0
        self._places: dict[str, tuple[slice, tuple[int, ...]]] = {}
        for name, param in params.items():
            self._places[name] = slice(self._size, self._size + param.size), param.shape
            self._size += param.size
        self._moments = {moment: self._empty() for moment in moments}
        self._views: dict[str, Moments] = {
            name: {moment: memory[place].reshape(shape) for moment, memory in self._moments.items()}
            for name, (place, shape) in self._places.items()
        }
        self._memory: list[Array] = []  # of params: the last step's and the one's before
        self._last: dict[str, Array] = {}

    def prepared(
        self, params: Mapping[str, Array], grads: Mapping[str, Array], moments: Mapping[str, Moments]
    ) -> tuple[Moments, Moments]:
        """Return what a step is given, and where it writes to."""
        for name, own in self._views.items():
            if moments[name] is not own:  # somebody else has made them
                for moment, value in moments[name].items():
                    self._moments[moment][self._places[name][0]] = value.reshape(-1)
        lie_here = bool(self._last) and all(params[name] is view for name, view in self._last.items())
        param = self._memory[-1] if lie_here else self._joined(params)
        return {"param": param, "grad": self._joined(grads), **self._moments}, {
            "stepped": self._unused(),
            **self._moments,
        }

    def stepped(self, memory: Array) -> Updated:
        """Return the params, which lie in ``memory`` by now, and their moments."""
        self._memory = [*self._memory[-1:], memory]
        self._last = {name: memory[place].reshape(shape) for name, (place, shape) in self._places.items()}
        return {name: (view, self._views[name]) for name, view in self._last.items()}

    def _joined(self, arrays: Mapping[str, Array]) -> Array:
        """Arrays one after the other; a single one that lies so in memory as it is."""
        flat = [arrays[name].reshape(-1) for name in self._places]
        if len(flat) > 1:
            return self._xp.concat(flat)
        return flat[0] if flat[0].flags.c_contiguous and flat[0].flags.aligned else flat[0].copy()

    def _unused(self) -> Array:
        """Memory for params: what nobody holds, or new."""
        if len(self._memory) == 2 and IS_COUNTED and sys.getrefcount(self._memory[0].base) == 2:  # the part, the call
            return self._memory[0]
        return self._empty()

    def _empty(self) -> Array:
        """An array that begins with a cache's line: a part of a larger one, which the views of it hold."""
        size = self._dtype.itemsize
        whole = self._xp.empty(self._size + LINE // size, dtype=self._dtype)
        begin = -whole.ctypes.data % LINE // size
        return whole[begin : begin + self._size]
