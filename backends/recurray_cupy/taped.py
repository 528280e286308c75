"""Scans by tape: those that have come before in the same form, one direction of one layer each.

A form is the cell, the sizes, the options, and the order of work, which a thread has to itself. The arrays are no part
of it: their addresses are looked up at each call. Where CuPy's own functions have a part in it, by lengths, masks and
draws, there is no tape.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np

from recurray.cells.cell import Cell, Weights
from recurray.kept import Kept
from recurray.scan import Gradients
from recurray_cupy.backward import backward
from recurray_cupy.compiled import compiled
from recurray_cupy.forward import INPUT_PRODUCT_BYTES, ScanCache, forward
from recurray_cupy.library import Library
from recurray_cupy.parts import Part
from recurray_cupy.tape import APART, Imagined, Recorder, Tape

MOST_SEEN = 1024  # forms that are remembered before they have a tape
MOST_STEPS = 1024  # of a tape: each may be several notes

FIELDS = tuple(field.name for field in fields(Weights) if not field.name.startswith(("pointwise", "kept")))


class Taped(NamedTuple):
    """A scan's tape.

    Attributes
    ----------
    cell : Cell
    tape : Tape
    results : list of (int, int, tuple of int, dtype)
        Of each array that is returned: in which of the tape's memory it is, how far from its start, and its form.
    names : list of str
        The weights whose gradients are the last of them.
    kept : list of Hashable
        What is made of the weights once, which the tape is given too; see `recurray.cells.Weights.once`.
    cache : ScanCache, optional
        What is kept, with a recorder's parts in the place of arrays.
    held : list of int
        Of the addresses from which these parts' are counted those that they need.
    """

    cell: Cell
    tape: Tape
    results: list[tuple[int, int, tuple[int, ...], Any]]
    names: list[str]
    kept: list[Hashable]
    cache: ScanCache | None
    held: list[int]


class TapedCache:
    """What a scan by tape has kept.

    Parameters
    ----------
    taped : Taped
    weights : Weights
    bases : list of int
        The addresses from which those of the parts of ``taped.cache`` are counted.
    memory : list of array, Part or memory
        What begins there.
    """

    __slots__ = ("bases", "memory", "taped", "weights")

    def __init__(self, taped: Taped, weights: Weights, bases: list[int], memory: Sequence[Any]) -> None:
        self.taped, self.weights, self.bases = taped, weights, bases
        self.memory = {k: memory[k] for k in taped.held}

    @property
    def projected(self) -> bool:
        """Whether the output is projected."""
        return self.weights.projection is not None

    def whole(self) -> ScanCache:
        """The same as a scan without a tape keeps it."""
        cache: Any = self.taped.cache
        prepared = cache.prepared

        def true(value: Any) -> Any:
            if type(value) is not Part:
                return value
            base, offset = divmod(value.address, APART)
            memory = self.memory[base - 1]
            memory = memory.memory if type(memory) is Part else getattr(memory, "data", memory)
            return Part(memory, self.bases[base - 1] + offset, value.shape, value.dtype)

        def each(values: dict[str, Any]) -> dict[str, Any]:
            return {name: true(value) for name, value in values.items()}

        own = each(prepared._asdict()) | {"arrays": each(prepared.arrays), "once": self.weights.once}
        return ScanCache(
            self.weights, type(prepared)(**own), true(cache.x), each(cache.arrays), cache.reverse, cache.rounded_to
        )

    def __reduce__(self) -> Any:  # for copies too
        return _itself, (self.whole(),)


class Tapes:
    """The tapes of a backend's scans.

    Parameters
    ----------
    library : Library
    """

    def __init__(self, library: Library) -> None:
        self._library = library
        self._taped: Kept[Taped] = Kept()
        self._seen: set[Hashable] = set()

    def forward(
        self,
        settings: Hashable,
        strategy: Callable[[], tuple[str, str] | None],
        cell: Cell,
        weights: Weights,
        x: Any,
        start: tuple[Any, ...],
        *,
        lengths: Any = None,
        reverse: bool = False,
        keep: bool = True,
        draws: Any = None,
        output_mask: Any = None,
    ) -> tuple[Any, tuple[Any, ...], TapedCache | None] | None:
        """Run a scan, from the second time that it comes on; None where there is no tape for it.

        Parameters
        ----------
        settings
            What else ``strategy`` depends on.
        strategy : callable
            Returns the scan's strategy and what it rounds to, or None where it isn't done by kernels.
        others
            See `recurray_cupy.forward.forward`.
        """
        if lengths is not None or output_mask is not None:
            return None
        if draws and any(not isinstance(value, float) for value in draws.values()):
            return None
        arrays = [x, *start, *[getattr(weights, name) for name in FIELDS], *weights.pointwise.values()]
        form = x.dtype, tuple([None if a is None else a.shape for a in arrays]), weights.kept is None
        key = id(cell), form, reverse, keep, settings, self._library.order()
        taped = self._taped.get(key)
        if taped is None:
            if key not in self._seen:
                self._see(key)
                return None
            options = {"reverse": reverse, "keep": keep, "draws": draws}
            taped = self._record(strategy, cell, weights, x, start, options)
            if taped is None:
                return None
            self._taped.put(key, taped, taped.tape.nbytes)
        given = [_contiguous(self._library, a, x.dtype) for a in arrays if a is not None]
        addresses = [a.data.ptr for a in given]
        if taped.kept:
            made: Any = weights.kept
            if not all(name in made for name in taped.kept):
                return None
            given += [made[name] for name in taped.kept]
            addresses += [a.address for a in given[len(addresses) :]]
        bases, memory = taped.tape(addresses)
        y, *end = self._arrays(taped, memory)
        cache = TapedCache(taped, weights, bases, given + memory) if keep else None
        return y, tuple(end), cache

    def backward(
        self,
        settings: Hashable,
        strategy: Callable[[], tuple[str, str] | None],
        cache: TapedCache,
        dy: Any,
        dend: tuple[Any, ...],
    ) -> Gradients | None:
        """Go backward through a scan by tape; parameters as in `forward`."""
        before = cache.taped
        key = before.tape, dy.shape, settings, self._library.order()
        taped = self._taped.get(key)
        if taped is None:
            taped = self._record_backward(strategy, before, dy, dend)
            if taped is None:
                return None
            self._taped.put(key, taped, taped.tape.nbytes)
        dtype = before.cache.x.dtype  # type: ignore[union-attr]
        given = [_contiguous(self._library, a, dtype) for a in (dy, *dend)]
        _, memory = taped.tape([*cache.bases, *[a.data.ptr for a in given]])
        dx, *others = self._arrays(taped, memory)
        count = len(dend)
        return dx, tuple(others[:count]), Weights(**dict(zip(taped.names, others[count:], strict=True)))

    def _see(self, key: Hashable) -> None:
        if len(self._seen) >= MOST_SEEN:
            self._seen.clear()
        self._seen.add(key)

    def _record(
        self,
        strategy: Callable[[], tuple[str, str] | None],
        cell: Cell,
        weights: Weights,
        x: Any,
        start: tuple[Any, ...],
        options: dict[str, Any],
    ) -> Taped | None:
        steps, batch, _ = x.shape
        product = steps * batch * weights.input.shape[0] * x.dtype.itemsize
        by_row = weights.input_bias is not None and weights.input_bias.ndim == 2
        how = strategy()
        if by_row or not 0 < product <= INPUT_PRODUCT_BYTES or steps > MOST_STEPS or how is None:
            return None
        kept = [name for name, value in (weights.kept or {}).items() if type(value) is Part]
        if how[1] and weights.kept is not None and not kept:
            return None  # a frozen layer's weights are rounded once, and this is before
        given = _Given()
        here, first = given.part(x), tuple([given.part(a) for a in start])
        named = {name: given.part(getattr(weights, name)) for name in FIELDS}
        pointwise = {name: given.part(a) for name, a in weights.pointwise.items()}
        made = None if weights.kept is None else {name: given.part(weights.kept[name]) for name in kept}
        recorder = Recorder(self._library, given.count)
        own = Weights(**named, pointwise=pointwise, kept=made)
        y, end, cache = forward(recorder, cell, own, here, first, strategy=how[0], rounded_to=how[1], **options)
        held = [] if cache is None else sorted({part.address // APART - 1 for part in _parts(cache)})
        return Taped(cell, Tape(recorder), _results(recorder, [y, *end]), [], kept, cache, held)

    def _record_backward(
        self, strategy: Callable[[], tuple[str, str] | None], before: Taped, dy: Any, dend: tuple[Any, ...]
    ) -> Taped | None:
        how, cache = strategy(), before.cache
        if how is None or cache is None or compiled(before.cell).params:
            return None
        given = _Given(before.tape.count)
        here, last = given.part(dy), tuple([given.part(a) for a in dend])
        recorder = Recorder(self._library, given.count)
        dx, dstart, grads = backward(recorder, before.cell, cache, here, last, strategy=how[0])
        names = [name for name in FIELDS if getattr(grads, name) is not None]
        results = _results(recorder, [dx, *dstart, *[getattr(grads, name) for name in names]])
        return Taped(before.cell, Tape(recorder), results, names, [], None, [])

    def _arrays(self, taped: Taped, memory: Sequence[Any]) -> list[Any]:
        array = self._library.xp.ndarray
        return [
            array(shape, dtype, memory[k] + offset if offset else memory[k])
            for k, offset, shape, dtype in taped.results
        ]


class _Given:
    """Makes parts of what a tape is given, by the addresses that a recorder gives out.

    Parameters
    ----------
    count : int
        How many of these are taken.
    """

    def __init__(self, count: int = 0) -> None:
        self.count = count

    def part(self, array: Any) -> Any:
        """Return a part; None for None."""
        if array is None:
            return None
        self.count += 1
        return Part(Imagined(0), APART * self.count, array.shape, array.dtype)


def _results(recorder: Recorder, parts: Sequence[Part]) -> list[tuple[int, int, tuple[int, ...], Any]]:
    found = []
    for part in parts:
        base, offset = divmod(part.address, APART)
        found.append((base - 1 - recorder.given, offset, part.shape, part.dtype))
    return found


def _parts(cache: ScanCache) -> list[Part]:
    """All parts that a scan keeps."""
    prepared = cache.prepared
    values = [cache.x, *prepared, *prepared.arrays.values(), *cache.arrays.values()]
    return [value for value in values if type(value) is Part]


def _contiguous(library: Library, a: Any, dtype: np.dtype[Any]) -> Any:
    return a if a.dtype is dtype and a.flags.c_contiguous else library.xp.ascontiguousarray(a, dtype=dtype)


def _itself(value: Any) -> Any:
    return value
