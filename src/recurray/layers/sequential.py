"""Layers one after the other."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from recurray.arrays import Array, namespace_of
from recurray.backend import Backend
from recurray.layers import array_checks
from recurray.layers.container import Container
from recurray.layers.draws import Generator
from recurray.layers.last import Final, Last
from recurray.layers.layer import Directions, Layer
from recurray.layers.pieces import Steps
from recurray.layers.plans import Call, Plans, call_of_layers
from recurray.layers.static_input import InputGradients
from recurray.messages import in_words, outside_constructors
from recurray.scan import valid_steps


@dataclass(frozen=True)
class SequentialCache:
    """What Sequential's backward reads."""

    layers: tuple[Any, ...]  # the layers' caches
    valid: Array | None  # (batch, time) or (time, batch): which steps are valid


class Sequential(Container):
    """Layers one after the other, each fed with the output of the one before.

    Its state is a tuple with an entry for each layer, None for those that carry nothing. Where ``lengths`` or a
    ``mask`` are given, what the input and the output's gradient hold at steps that aren't valid is ignored, and the
    output is zero there. ``resets`` go to the recurrent layers, and ``static`` to those of them with a ``static_size``.

    Parameters
    ----------
    *layers : Layer
        At least one, all of one backend, dtype and layout. Those without params, such as `Last` and `Dropout`, take
        backend and dtype from the others where they weren't given any.
    backend : str, Backend, namespace or None
        The backend for all layers that were made without one; of those that have params, the model has copies. If
        omitted, they keep the default that they were made on. See `recurray.get_backend`.
    tie : mapping of str to str, optional
        Params that are one array with another, by its name, as ``{"2.weight": "0.weight"}``; see `Model`.

    Attributes
    ----------
    layers : tuple of Layer
        What the model runs: layers as they were given, but for those that were brought to another backend or dtype.
    batch_first : bool or None
        The layout of its layers; None where none of them has one.
    params : mapping of str to array
        The layers' own params, read and written through, named by the layer's place: "0.weight_ih_l0".

    Raises
    ------
    ValueError, TypeError
        There are no layers, they differ in backend, dtype or layout, or a `Final` can't know the directions of what
        comes before it.
    BackendUnavailableError
        The backend can't run on this machine.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> model = rr.Sequential(rr.LSTM(3, 5, seed=0), rr.Last(), rr.Linear(5, 2, seed=1))
    >>> y, state, cache = model.forward(np.ones((4, 6, 3), dtype="float32"))
    >>> y.shape
    (4, 2)
    >>> dx, dstate, grads = model.backward(cache, np.ones_like(y))
    >>> sorted(grads)[:2]
    ['0.bias_hh_l0', '0.bias_ih_l0']

    The backend is said once:

    >>> import array_api_strict
    >>> rr.Sequential(rr.LSTM(3, 5, seed=0), rr.Last(), rr.Linear(5, 2, seed=1), backend=array_api_strict)
    Sequential(
        0: LSTM(3, 5, backend='array_api_strict', dtype='float32')  # 200 params
        1: Last(backend='array_api_strict', dtype='float32')  # 0 params
        2: Linear(5, 2, backend='array_api_strict', dtype='float32')  # 12 params
    )  # 212 params
    """

    def __init__(self, *layers: Layer, backend: Any = None, tie: Mapping[str, str] | None = None) -> None:
        if not layers:
            raise ValueError("a Sequential needs at least one layer")
        self._hold({str(place): layer for place, layer in enumerate(layers)}, backend, tie)
        self.batch_first = _layout(layers)
        _check_static_sizes(layers)
        self.layers = _directed(tuple(self._parts.values()))
        self._parts.update(zip(self._parts, self.layers, strict=True))
        self._plans = Plans()

    @property
    def streamable(self) -> bool:
        """Whether input may come in chunks: where every layer allows it."""
        return all(layer.streamable for layer in self.layers)

    @property
    def recurrent(self) -> bool:  # type: ignore[override]  # a layer's own is a constant
        """Whether a layer in it is recurrent."""
        return any(layer.recurrent for layer in self.layers)

    @property
    def static_size(self) -> int:  # type: ignore[override]  # as `recurrent`
        """That of the layers that have one; 0 where none has."""
        return max(layer.static_size for layer in self.layers)

    def directions_after(self, before: Directions) -> Directions:
        """Those of the last layer; see `Layer.directions_after`."""
        for layer in self.layers:
            before = layer.directions_after(before)
        return before

    def __call__(
        self,
        x: Array,
        state: Any = None,
        lengths: Any = None,
        *,
        mask: Any = None,
        resets: Any = None,
        static: Any = None,
    ) -> tuple[Array, Any]:
        """Inference: the output and the final state; keeps nothing.

        Parameters are those of `forward`. Where all steps are valid, each layer is called as it would be alone; or all
        are together, where the backend makes plans of that for small calls.
        """
        if lengths is not None or mask is not None or resets is not None or static is not None:
            return super().__call__(x, state, lengths, mask=mask, resets=resets, static=static)
        found = self._plans.run(self, x, state)
        if found is not None:
            return found
        ends: list[Any] = []
        for layer, start in zip(self.layers, self._by_layer("state", state), strict=True):
            try:
                x, end = layer(x, start)
            except (TypeError, ValueError) as error:
                raise _of_layer(len(ends), layer, error) from None
            ends.append(end)
        return x, tuple(ends)

    def run(
        self,
        x: Array,
        state: Any,
        lengths: Any,
        *,
        training: bool,
        rng: Any,
        keep: bool,
        mask: Any = None,
        resets: Any = None,
        static: Any = None,
    ) -> tuple[Array, tuple[Any, ...], SequentialCache | None]:
        """Run layer after layer; see `Layer.run`."""
        if resets is not None and not self.recurrent:
            raise ValueError("resets are for recurrent layers, and there is none")
        if static is not None and not self.static_size:
            raise ValueError("static must be None: no layer has a static_size")
        valid = given = None
        if lengths is not None or mask is not None or resets is not None:
            given = self._steps(x, lengths, mask, resets)
            valid = self._valid(given, x)
            lengths = given.lengths
        x = _within(valid, x)
        ends, caches = [], []
        for place, (layer, start) in enumerate(zip(self.layers, self._by_layer("state", state), strict=True)):
            which = {} if given is None else self._which(given, layer)
            if layer.static_size:
                which["static"] = static
            try:
                x, end, cache = layer.run(x, start, lengths, training=training, rng=rng, keep=keep, **which)
            except (TypeError, ValueError) as error:
                raise _of_layer(place, layer, error) from None
            ends.append(end)
            caches.append(cache)
        return _within(valid, x), tuple(ends), SequentialCache(tuple(caches), valid) if keep else None

    def backward(
        self, cache: SequentialCache, dy: Array, dstate: Any = None
    ) -> tuple[Array | InputGradients, tuple[Any, ...], dict[str, Array]]:
        """Gradients of the input, the start states and the params; see `Layer.backward`."""
        self.check_cache(cache, SequentialCache)
        if len(cache.layers) != len(self.layers):
            raise ValueError(f"cache must be of {len(self.layers)} layers, but is of {len(cache.layers)}")
        dy = array_checks.array(self.backend, "dy", dy)
        dends = self._by_layer("dstate", dstate)
        dstarts: list[Any] = []
        grads: dict[str, dict[str, Array]] = {}
        dstatic: Array | None = None
        dx = _within(cache.valid, dy)
        for place in reversed(range(len(self.layers))):
            if dx is None:
                raise ValueError(f"layer {place + 1} gives no gradient of its input to layer {place}")
            try:
                dx, dstart, own = self.layers[place].backward(cache.layers[place], dx, dends[place])
            except (TypeError, ValueError) as error:
                raise _of_layer(place, self.layers[place], error) from None
            if isinstance(dx, InputGradients):
                dx, of_layer = dx
                dstatic = of_layer if dstatic is None else dstatic + of_layer
            dstarts.append(dstart)
            grads[str(place)] = own
        dx = None if dx is None else _within(cache.valid, dx)
        if dstatic is not None:
            dx = InputGradients(dx, dstatic)
        return dx, tuple(dstarts[::-1]), self._joined(grads)

    def _steps(self, x: Array, lengths: Any, mask: Any, resets: Any) -> Steps:
        """Check which steps are valid, and where rows are cut, once for all layers."""
        x = array_checks.array(self.backend, "x", x)
        if len(x.shape) < 2:
            raise ValueError(
                f"x must have axes for batch and time to go with lengths, mask or resets, not {in_words(x.shape)}"
            )
        batch_first = self.batch_first is not False
        batch, steps = x.shape[:2] if batch_first else x.shape[1::-1]
        return array_checks.steps(batch, steps, lengths, mask, resets, batch_first=batch_first)

    def _valid(self, given: Steps, x: Array) -> Array | None:
        """Which steps are valid, in the layout of x without its features; None if all are."""
        xp = self.backend.xp
        if given.mask is not None:
            return self.backend.asarray(self._in_layout(given.mask))
        if given.lengths is None:
            return None
        valid = valid_steps(given.lengths, given.steps, like=x)
        return valid if self.batch_first is False else xp.permute_dims(valid, (1, 0))

    def _which(self, given: Steps, layer: Layer) -> dict[str, Any]:
        """What of ``given`` a layer is given."""
        which = {"mask": given.mask, "resets": given.resets if layer.recurrent else None}
        return {name: self._in_layout(value) for name, value in which.items() if value is not None}

    def _in_layout(self, flags: Any) -> Any:
        """Flags (batch, time) in the layers' layout."""
        return flags.T if self.batch_first is False else flags

    def _fix(self) -> None:
        super()._fix()
        self.layers, self._plans = tuple(self._parts.values()), Plans()

    def copy_on(self, backend: Backend, dtype: str) -> Self:
        """A copy whose layers are copies; see `Layer.copy_on`."""
        other = super().copy_on(backend, dtype)
        other.layers, other._plans = tuple(other._parts.values()), Plans()
        return other

    def _planned_call(self, x: Array) -> Call | None:
        return call_of_layers(self, x)

    def _plans_of_all(self) -> Plans:
        return self._plans

    def _by_layer(self, name: str, value: Any) -> Sequence[Any]:
        if value is None:
            return (None,) * len(self.layers)
        if type(value) is not tuple or len(value) != len(self.layers):
            given = f"{len(value)} entries" if type(value) is tuple else type(value).__name__
            raise ValueError(
                f"{name} must be a tuple with an entry for each of the {len(self.layers)} layers, not {given}"
            )
        return value

    def random_input(self, rng: Generator, batch: int, steps: int) -> Any:
        """Return a random input, a NumPy array, that the layer takes."""
        return self.layers[0].random_input(rng, batch, steps)


def _layout(layers: Sequence[Layer]) -> bool | None:
    """Whether batch comes first in what the layers take, None where none of them minds; refuse layers that disagree."""
    found = [(place, getattr(layer, "batch_first", None)) for place, layer in enumerate(layers)]
    own = [(place, batch_first) for place, batch_first in found if batch_first is not None]
    for place, batch_first in own[1:]:
        before, first = own[0]
        if batch_first != first:
            raise ValueError(
                f"all layers must have one batch_first, but layer {before} has {first}, layer {place} {batch_first}"
            )
    return own[0][1] if own else None


def _check_static_sizes(layers: Sequence[Layer]) -> None:
    """Refuse layers that take different numbers of features that don't change over time: all are given the same."""
    found = [(place, layer.static_size) for place, layer in enumerate(layers) if layer.static_size]
    for place, size in found[1:]:
        if size != found[0][1]:
            raise ValueError(
                f"all layers that take static must have one static_size, as all are given the same, "
                f"but layer {found[0][0]} has {found[0][1]}, layer {place} {size}"
            )


def _directed(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Tell each `Final` which directions it follows, and warn of each `Last` that should be one."""
    found: list[Layer] = []
    directions: Directions = ()
    for place, layer in enumerate(layers):
        if isinstance(layer, Final):
            try:
                layer = layer.following(directions)
            except ValueError as error:
                raise _of_layer(place, layer, error) from None
        elif isinstance(layer, Last) and any(directions):
            warnings.warn(
                f"layer {place}, Last, takes the last step, where what runs in reverse has seen one step alone: "
                "Final takes the final output of each direction",
                stacklevel=outside_constructors(),
            )
        found.append(layer)
        directions = layer.directions_after(directions)
    return tuple(found)


def _of_layer(place: int, layer: Layer, error: TypeError | ValueError) -> TypeError | ValueError:
    """Return an error that says which layer's it is."""
    if type(error) in (TypeError, ValueError):
        return type(error)(f"layer {place}, {type(layer).__name__}: {error}").with_traceback(error.__traceback__)
    return error


def _within(valid: Array | None, a: Array) -> Array:
    """Zero the padding of an array with axes for batch and time: time-wise layers would spread NaN from it."""
    if valid is None or tuple(a.shape[:2]) != tuple(valid.shape):
        return a
    if len(a.shape) == 2 and namespace_of(a).isdtype(a.dtype, "real floating"):
        return a  # (batch, features), after `Last`, of as many features as there are steps
    xp = namespace_of(a)
    return xp.where(xp.reshape(valid, (*valid.shape, *(1 for _ in a.shape[2:]))), a, xp.zeros_like(a))
