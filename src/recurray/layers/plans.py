"""Plans: what small calls in inference have in common, decided once for a shape and kept.

Of a small call most of the time goes into what is the same each time: checks, layouts, buffers. A plan holds the
layer's very params, so it is for as long as they are these arrays, which may be written to in place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from operator import is_
from typing import Any, Protocol

from recurray import kept
from recurray.arrays import Array
from recurray.backend import Backend, Plan, Stack
from recurray.cells.cell import Cell, Weights
from recurray.kept import Entry, Kept
from recurray.layers.chain_call import STALE, ChainCall, Part
from recurray.layers.state_form import StateForm

MOST_STEPS = 100  # of a call: where there are more, the arithmetic is all
MOST_NUMBERS = 2**16  # of a call, over all steps and rows, in the widest layer


class Call(Protocol):
    """A layer's call on inputs of one shape."""

    nbytes: int

    def run(self, layer: Any, x: Array, state: Any) -> Any:
        """Return the output and the new state, None for the long way, or `STALE` where the layer has changed."""


class Planned(Protocol):
    """A layer with plans."""

    backend: Backend

    def _planned_call(self, x: Array) -> Call | None:
        """Return the call on inputs of the shape of ``x``, or None; raise `NoPlans` where there never is one."""


class PlannedStack(Planned, Protocol):
    """What is read of a recurrent layer: see `recurray.Recurrent`."""

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


class NoPlans(Exception):  # noqa: N818 - it isn't an error
    """The backend makes no plans for a layer."""


class Plans:
    """A layer's calls by the shape of the input. A thread takes one out while it uses it."""

    def __init__(self) -> None:
        self._kept: Kept[Call] = Kept()
        self._none_for: Backend | None = None  # a backend that makes no plans for the layer

    def run(self, layer: Planned, x: Array, state: Any) -> tuple[Array, Any] | None:
        """Run the layer; return the output and the state, or None where there is no plan for such a call."""
        try:
            free = self._kept.lists[x.shape]
            entry = free.pop()
        except (AttributeError, IndexError, KeyError, TypeError):
            made = None if self._none_for is layer.backend else self._made(layer, x)
            if made is None:
                return None
            entry, free = made, self._kept.list_for(made)
        found: tuple[Array, Any] | None = entry.value.run(layer, x, state)
        if found is STALE:
            return self.run(layer, x, state)
        entry.used = kept.total.made
        free.append(entry)
        return found

    def _made(self, layer: Planned, x: Array) -> Entry[Call] | None:
        if kept.MOST < kept.LEAST:  # what isn't kept takes longer to make than it saves
            return None
        try:
            call = layer._planned_call(x)
        except NoPlans:
            self._none_for = layer.backend
            return None
        return None if call is None else Entry(x.shape, call, call.nbytes)

    def __reduce__(self) -> Any:  # for copies too
        return type(self), ()  # plans are for the arrays that they were made for


def is_small(steps: int, batch: int, widest: int) -> bool:
    """Whether a call is one for a plan."""
    return 0 < steps <= MOST_STEPS and batch > 0 and steps * batch * widest <= MOST_NUMBERS


def call_of_stack(layer: PlannedStack, x: Array) -> Call | None:
    """The call of a recurrent layer."""
    kind = type(layer.backend)
    if kind.plan is Backend.plan and kind.plan_chain is Backend.plan_chain:
        raise NoPlans
    x = layer.checked_input(x)
    steps, batch = x.shape[:2][:: -1 if layer.batch_first else 1]
    if not is_small(steps, batch, max(layer.input_size, len(layer.cells) * layer.hidden_size)):
        return None
    shape, weights = (steps, batch, layer.input_size), layer.weights()
    part = Part(Stack(layer.cells, weights, layer.reverse), layer._state_form)
    chain = layer.backend.plan_chain([part.stack], shape)
    if chain is not None:
        return ChainCall(layer, chain, [part], _turned(layer.batch_first), "cells")
    made = layer.backend.plan(layer.cells, weights, shape, reverse=layer.reverse)
    if made is None:
        raise NoPlans
    return _StackCall(layer, made, x, batch)


def call_of_product(layer: Any, x: Array) -> Call | None:
    """The call of a `Linear`."""
    part = layer._part()
    if part is None or type(layer.backend).plan_chain is Backend.plan_chain:
        raise NoPlans
    x = layer.checked_input(x)
    lead = tuple(x.shape[:-1])
    rows = math.prod(lead)
    if not is_small(1, rows, max(layer.in_features, layer.out_features)):
        return None
    chain = layer.backend.plan_chain([part.stack], (1, rows, layer.in_features))
    if chain is None:
        return None
    return ChainCall(layer, chain, [part], lambda a: a.reshape(*lead, a.shape[-1]), "backend")


def call_of_layers(model: Any, x: Array) -> Call | None:
    """The call of a `Sequential`, all of its layers together, where each is something to a plan."""
    if type(model.backend).plan_chain is Backend.plan_chain:
        raise NoPlans
    try:
        parts = [layer._part() for layer in model.layers]
    except (TypeError, ValueError):  # params that don't fit: the long way says which layer's
        return None
    if None in parts or not any(part.form is not None for part in parts):
        raise NoPlans
    if len(getattr(x, "shape", ())) != 3:
        return None
    steps, batch = x.shape[:2][:: 1 if model.batch_first is False else -1]
    stacks = [part.stack for part in parts if part.stack.weights]
    if not is_small(steps, batch, max(map(_width, stacks))):
        return None
    try:
        chain = model.backend.plan_chain(stacks, (steps, batch, x.shape[2]))
    except (TypeError, ValueError):  # layers that don't fit: the long way says which
        return None
    return (
        None if chain is None else ChainCall(model, chain, parts, _turned(model.batch_first), "layers", together=True)
    )


def _width(stack: Stack) -> int:
    """The features of the widest of its arrays over time, or more."""
    own = [size for weights in stack.weights for size in weights.input.shape]
    return max(own, default=0) // (2 if stack.cells else 1)


def _turned(batch_first: bool | None) -> Callable[[Array], Array]:
    """What brings arrays (T, B, features) into a layer's layout."""
    return (lambda a: a) if batch_first is False else (lambda a: a.transpose(1, 0, 2))


class _StackCall:
    """A recurrent layer's call by a `Plan`, and what the arguments are to be for it to take them as they are."""

    def __init__(self, layer: PlannedStack, plan: Plan, x: Array, batch: int) -> None:
        form = layer._state_form
        self.backend, self.cells = layer.backend, layer.cells
        self.plan, self.nbytes, self.batch, self.batch_first = plan, plan.nbytes, batch, layer.batch_first
        self.array_type, self.dtype = type(x), x.dtype
        self.kind, self.count = form.kind, len(form.sizes)  # a state's type, and its fields in use
        self.state_shapes = [(form.count, batch, size) for size in form.sizes.values()]
        self.is_fixed = layer._fixed is not None
        self.params: Mapping[str, Array] | None = None
        self.names: tuple[str, ...] = ()
        self.arrays: tuple[Array, ...] = ()

    def run(self, layer: PlannedStack, x: Array, state: Any) -> Any:
        """Run the layer on an input of the shape."""
        if self.backend is not layer.backend or self.cells is not layer.cells:
            return STALE
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

    def _bind(self, layer: PlannedStack) -> None:
        """Take the layer's params."""
        self.params = None
        self.plan.bind(layer.weights())
        self.params = params = layer.params
        self.names, self.arrays = tuple(params), tuple(params.values())

    def _checked(self, layer: PlannedStack, state: Any) -> tuple[Array, ...]:
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
