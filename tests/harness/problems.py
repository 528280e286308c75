"""A layer to be tested, the numbers to test it with, and running the one on the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

import recurray as rr
from recurray.backend import Backend

# params, x, start, lengths -> y, end; see `harness.formulas`
Formula = Callable[[dict[str, np.ndarray], Any, dict[str, np.ndarray], Any], tuple[np.ndarray, dict[str, np.ndarray]]]


@dataclass(frozen=True)
class Case:
    """All that the author of a layer has to give; `test_every_layer` does the rest."""

    name: str
    make: Callable[..., rr.Layer]  # takes backend= and dtype=
    formula: Formula | None = (
        None  # what the layer should compute, written independently; it may be given complex numbers
    )
    lengths: tuple[int, ...] | None = None
    batch: int = 3
    steps: int = 5
    batch_axis: int = 0  # of the input
    state_given: bool = True  # whether a random start state is handed in, if the layer has one
    mask: tuple[str, ...] | None = None  # row by row, a letter a step: "1" where it is valid
    resets: tuple[str, ...] | None = None  # "1" where the row is cut before the step

    def __str__(self) -> str:
        return self.name

    @property
    def which(self) -> dict[str, Any]:
        """Which steps are valid, and where rows are cut, by the names of forward's arguments."""
        found: dict[str, Any] = {} if self.lengths is None else {"lengths": self.lengths}
        for name, rows in (("mask", self.mask), ("resets", self.resets)):
            if rows is not None:
                own = flags(rows, self.batch, self.steps)
                found[name] = own.T if self.batch_axis else own
        return found

    @property
    def valid(self) -> np.ndarray:
        """Which steps are valid, (batch, steps)."""
        if self.mask is not None:
            return flags(self.mask, self.batch, self.steps)
        lengths = np.full(self.batch, self.steps) if self.lengths is None else np.asarray(self.lengths)
        return np.arange(self.steps) < lengths[:, None]


def flags(rows: tuple[str, ...], batch: int, steps: int) -> np.ndarray:
    """Rows of letters as booleans, (batch, steps)."""
    return np.array([[letter == "1" for letter in row] for row in rows])[:batch, :steps].reshape(batch, steps)


@dataclass(frozen=True)
class Problem:
    """The numbers that a layer is tested with: NumPy arrays in float64. No state and no gradient is zero."""

    params: dict[str, np.ndarray]
    x: np.ndarray
    start: dict[str, np.ndarray]  # by the dotted name in the layer's state: "h", "0.c"
    which: dict[str, Any]  # lengths, mask, resets; as far as there are any
    dy: np.ndarray
    dend: dict[str, np.ndarray]

    def arrays(self) -> dict[str, np.ndarray]:
        """All that there are gradients for, by the name that `results` gives the gradient, less its d."""
        arrays = {"x": self.x} if self.x.dtype.kind == "f" else {}
        arrays |= {f"start.{name}": value for name, value in self.start.items()}
        return arrays | {f"param.{name}": value for name, value in self.params.items()}

    def with_arrays(self, arrays: Mapping[str, np.ndarray]) -> Problem:
        """The inverse of `arrays`."""
        return replace(
            self,
            x=arrays.get("x", self.x),
            start={name: arrays[f"start.{name}"] for name in self.start},
            params={name: arrays[f"param.{name}"] for name in self.params},
        )


@cache
def problem(case: Case, seed: int = 0) -> Problem:
    """Random numbers for a case. Nobody changes them: the arrays are read-only."""
    rng = np.random.default_rng(seed)
    layer = case.make(backend=np, dtype="float64")
    x = layer.random_input(rng, case.batch, case.steps)
    y, end = layer(x, **case.which)
    made = Problem(
        params={name: 0.7 * rng.standard_normal(value.shape) for name, value in layer.params.items()},
        x=x,
        start={name: rng.standard_normal(value.shape) for name, value in leaves(end).items() if case.state_given},
        which=case.which,
        dy=rng.standard_normal(y.shape),
        dend={name: rng.standard_normal(value.shape) for name, value in leaves(end).items()},
    )
    for array in (made.x, made.dy, *made.params.values(), *made.start.values(), *made.dend.values()):
        array.flags.writeable = False
    return made


def layer_for(case: Case, given: Problem, backend: Backend, dtype: str = "float64") -> rr.Layer:
    """The case's layer with the problem's params."""
    layer = case.make(backend=backend, dtype=dtype)
    layer.load_state_dict(given.params)
    return layer


@dataclass(frozen=True)
class Given:
    """A problem's numbers as arrays of a backend."""

    x: Any
    state: Any
    which: dict[str, Any]
    dy: Any
    dstate: Any


def give(layer: rr.Layer, given: Problem, dtype: str | None = None, form: Callable[[Any], Any] = lambda a: a) -> Given:
    """Hand a problem over to the layer's backend; ``form`` is done to each array on the way."""
    dtype = dtype or layer.dtype

    def hand(a: np.ndarray) -> Any:
        return form(layer.backend.asarray(a.copy(), dtype if a.dtype.kind == "f" else None))

    start = state_like(layer, {name: hand(value) for name, value in given.start.items()})
    dend = state_like(layer, {name: hand(value) for name, value in given.dend.items()})
    which = {name: value if name == "lengths" else layer.backend.asarray(value) for name, value in given.which.items()}
    return Given(hand(given.x), start, which, hand(given.dy), dend)


def results(layer: rr.Layer, given: Problem | Given, training: bool = True) -> dict[str, Any]:
    """All that forward and backward give, by name: y, end.h, dx, dstart.h, dparam.weight, ..."""
    if isinstance(given, Problem):
        given = give(layer, given)
    y, end, cache = forward(layer, given, training)
    return {"y": y} | named("end", end) | gradients(layer, cache, given)


def forward(layer: rr.Layer, given: Given, training: bool = True) -> tuple[Any, Any, Any]:
    """The layer's forward. Where it has dropout, the same elements are dropped in every call."""
    return layer.forward(given.x, given.state, training=training, rng=np.random.default_rng(3), **given.which)


def gradients(layer: rr.Layer, cache: Any, given: Given) -> dict[str, Any]:
    """What backward gives, by name."""
    dx, dstart, grads = layer.backward(cache, given.dy, given.dstate)
    assert list(grads) == list(layer.params)
    found = {} if dx is None else {"dx": dx}
    return found | named("dstart", dstart) | {f"dparam.{name}": value for name, value in grads.items()}


def host(backend: Backend, arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Named arrays as NumPy copies."""
    return {name: backend.to_numpy(value) for name, value in arrays.items()}


# States: State, tuples of states, None --------------------------------------------------------------------------------


def leaves(state: Any) -> dict[str, Any]:
    """The arrays of a state, however deep, by dotted names."""
    if state is None:
        return {}
    if not isinstance(state, tuple):
        return {"": state}
    fields = getattr(state, "_fields", None) or [str(place) for place in range(len(state))]
    return {
        f"{field}.{inner}".rstrip("."): value
        for field, part in zip(fields, state, strict=True)
        for inner, value in leaves(part).items()
    }


def named(prefix: str, state: Any) -> dict[str, Any]:
    """The arrays of a state with a prefix to their names."""
    return {f"{prefix}.{name}": value for name, value in leaves(state).items()}


def state_like(layer: rr.Layer, values: dict[str, Any]) -> Any:
    """A state of the layer's form: the inverse of `leaves`."""
    if isinstance(layer, rr.Sequential):
        parts = []
        for place, inner in enumerate(layer.layers):
            own = {name.partition(".")[2]: a for name, a in values.items() if name.partition(".")[0] == str(place)}
            parts.append(state_like(inner, own))
        return tuple(parts)
    return getattr(layer, "state_type", rr.State)(**values) if values else None
