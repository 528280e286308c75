"""A recurrent layer's plans: what small calls in inference have in common, decided once for a shape and kept.

Of a small call most of the time goes into what is the same each time: checks, layouts, buffers. A plan holds the
layer's very params, so it is for as long as they are these arrays, which may be written to in place.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from operator import is_
from typing import Any, Protocol

from recurray import kept
from recurray.arrays import Array
from recurray.backend import Backend, Plan
from recurray.cells.cell import Cell, Weights
from recurray.kept import Entry, Kept
from recurray.layers.state_form import StateForm

MOST_STEPS = 100  # of a call: where there are more, the arithmetic is all
MOST_NUMBERS = 2**16  # of a call, over all steps and rows, in the widest layer


class Planned(Protocol):
    """What is read of a layer: see `recurray.Recurrent`."""

    backend: Backend
    dtype: str
    cells: tuple[Cell, ...]
    params: MutableMapping[str, Array]
    batch_first: bool
    reverse: bool
    input_size: int
    hidden_size: int
    _state_form: StateForm
    _fixed: dict[str, Array] | None

    def weights(self) -> Sequence[Weights]:
        """Return the weights of every layer and direction."""

    def checked_input(self, x: Any) -> Array:
        """Check an input and bring it to the layer's dtype."""


class Plans:
    """Plans by the shape of the input. A thread takes one out while it uses it."""

    def __init__(self) -> None:
        self._kept: Kept[_OfShape] = Kept()
        self._none_for: Backend | None = None  # a backend that makes no plans for the layer's cell

    def run(self, layer: Planned, x: Array, state: Any) -> tuple[Array, Any] | None:
        """Run the layer; return the output and the state, or None where there is no plan for such a call."""
        if self._none_for is layer.backend:
            return None
        try:
            free = self._kept.lists[x.shape]
            entry = free.pop()
        except (AttributeError, IndexError, KeyError, TypeError):
            entry = None
        if entry is None or entry.value.backend is not layer.backend or entry.value.cells is not layer.cells:
            entry = self._made(layer, x)
            if entry is None:
                return None
            free = self._kept.list_for(entry)
        found = entry.value.run(layer, x, state)
        entry.used = kept.total.made
        free.append(entry)
        return found

    def _made(self, layer: Planned, x: Array) -> Entry[_OfShape] | None:
        if type(layer.backend).plan is Backend.plan:
            self._none_for = layer.backend
            return None
        x = layer.checked_input(x)
        steps, batch = x.shape[:2][:: -1 if layer.batch_first else 1]
        widest = max(layer.input_size, len(layer.cells) * layer.hidden_size)
        if not (0 < steps <= MOST_STEPS and batch > 0 and steps * batch * widest <= MOST_NUMBERS):
            return None
        weights = layer.weights()
        made = layer.backend.plan(layer.cells, weights, (steps, batch, layer.input_size), reverse=layer.reverse)
        if made is None:
            self._none_for = layer.backend
            return None
        return Entry(x.shape, _OfShape(layer, made, x, batch), made.nbytes)

    def __reduce__(self) -> Any:  # for copies too
        return type(self), ()  # plans are for the arrays that they were made for


class _OfShape:
    """A plan, and what the arguments are to be for it to take them as they are."""

    def __init__(self, layer: Planned, plan: Plan, x: Array, batch: int) -> None:
        form = layer._state_form
        self.backend, self.cells = layer.backend, layer.cells
        self.plan, self.batch, self.batch_first = plan, batch, layer.batch_first
        self.shape, self.array_type, self.dtype = x.shape, type(x), x.dtype
        self.kind, self.count = form.kind, len(form.sizes)  # a state's type, and its fields in use
        self.state_shapes = [(form.count, batch, size) for size in form.sizes.values()]
        self.is_fixed = layer._fixed is not None
        self.params: Mapping[str, Array] | None = None
        self.names: tuple[str, ...] = ()
        self.arrays: tuple[Array, ...] = ()

    def run(self, layer: Planned, x: Array, state: Any) -> tuple[Array, Any]:
        """Run the layer on an input of the shape."""
        if type(x) is not self.array_type or x.dtype is not self.dtype:
            x = layer.checked_input(x)
        params = self.params
        if params is not layer.params or not (self.is_fixed or self._as_bound(params)):
            self._bind(layer)
        y, after = self.plan(
            x.transpose(1, 0, 2) if self.batch_first else x, None if state is None else self._checked(layer, state)
        )
        return (y.transpose(1, 0, 2) if self.batch_first else y), self.kind(*after)

    def _as_bound(self, params: Mapping[str, Array]) -> bool:
        """Whether the params are the arrays that were taken."""
        return len(params) == len(self.names) and all(map(is_, map(params.get, self.names), self.arrays))

    def _bind(self, layer: Planned) -> None:
        """Take the layer's params."""
        self.params = None
        self.plan.bind(layer.weights())
        self.params = params = layer.params
        self.names, self.arrays = tuple(params), tuple(params.values())

    def _checked(self, layer: Planned, state: Any) -> tuple[Array, ...]:
        """A state's arrays, (places, batch, size) each."""
        if type(state) is self.kind:
            for value, shape in zip(state, self.state_shapes, strict=False):
                if type(value) is not self.array_type or value.dtype is not self.dtype or value.shape != shape:
                    break
            else:
                if len(state) == self.count or not any(value is not None for value in state[self.count :]):
                    given: tuple[Array, ...] = state[: self.count]
                    return given
        form = layer._state_form
        joined: Any = form.join(form.split("state", state, self.batch))
        return tuple(joined[: self.count])
