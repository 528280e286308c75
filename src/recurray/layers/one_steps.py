"""A recurrent layer's short way for a step of a single row, as streaming takes it."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from operator import is_
from typing import Any, Protocol

from recurray.arrays import Array
from recurray.backend import Backend, OneStep
from recurray.cells.cell import Cell, Weights


class Stepped(Protocol):
    """What is read of a layer to take its steps: see `recurray.Recurrent`."""

    backend: Backend
    cell: Cell
    params: MutableMapping[str, Array]

    @property
    def state_type(self) -> Any:
        """The named tuple that the state comes in."""

    def weights(self) -> list[Weights]:
        """Return the weights of every layer and direction."""


class OneSteps:
    """Steps of one row that the backend has written, reused while the layer's params are the same array objects.

    The arrays are read anew at each step, so they may be written to in place. A thread takes a step out of the list
    while it uses it. Writing one takes longer than a step, so it is done when the same arrays are seen for the second
    time: in training they aren't.
    """

    def __init__(self) -> None:
        self._free: list[_Written] = []
        self._none_for: Backend | None = None  # a backend that has no short way
        self._seen: list[int] = []  # the identities of the params that came last

    def take(self, layer: Stepped, x: Array, state: Any) -> tuple[Array, Any] | None:
        """Take a step; return the output and the state, or None if that is for the long way."""
        try:
            if self._none_for is layer.backend or x.shape[:2] != (1, 1):
                return None
        except (AttributeError, TypeError):  # x is no array: the long way says so
            return None
        try:
            written = self._free.pop()
        except IndexError:
            written = None
        if written is None or not written.is_of(layer):
            if not isinstance(layer.params, Mapping):
                return None
            arrays = [id(array) for array in layer.params.values()]
            if arrays != self._seen:
                self._seen = arrays
                return None
            step = layer.backend.one_step(layer.cell, layer.weights())
            if step is None:
                self._none_for = layer.backend
                return None
            written = _Written(layer, step)
        found = written.take(x, state)
        self._free.append(written)
        return found

    def __reduce__(self) -> Any:  # for copies too
        return type(self), ()  # what is written is for the arrays that it was written for


class _Written:
    """What was written, and for what."""

    def __init__(self, layer: Stepped, step: OneStep) -> None:
        self.backend = layer.backend
        self.params = layer.params
        self.names = tuple(layer.params)
        self.arrays = tuple(layer.params.values())
        self.step = step
        self.kind, self.count = layer.state_type, len(layer.cell.states)  # a state's type, and its fields in use

    def is_of(self, layer: Stepped) -> bool:
        """Whether it was written for the arrays that the layer's params are now."""
        params = self.params
        if params is not layer.params or self.backend is not layer.backend or len(params) != len(self.names):
            return False
        return all(map(is_, map(params.get, self.names), self.arrays))

    def take(self, x: Array, state: Any) -> tuple[Array, Any] | None:
        """Take a step, if the arguments are as they must be."""
        before = None
        if state is not None:
            if type(state) is not self.kind or any(value is not None for value in state[self.count :]):
                return None
            before = state[: self.count]
        found = self.step(x, before)
        return None if found is None else (found[0], self.kind(*found[1]))
