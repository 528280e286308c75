"""A stack of recurrent layers around one cell: everything about an LSTM that isn't the LSTM's own mathematics.

T time, B batch, I input, H hidden units, R size of the output (H, or the projection's), D directions, L layers.
Inside, arrays are time-major, (T, B, features).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

import numpy as np

from recurray.arrays import Array, namespace_of
from recurray.cells.cell import Cell, Weights
from recurray.layers import checks, draws
from recurray.layers.dropout import dropped
from recurray.layers.layer import Layer
from recurray.selector import get_backend
from recurray.state import State


@dataclass(frozen=True)
class RecurrentCache:
    """All that the stack's backward reads."""

    scans: list[list[Any]]  # by layer and direction, what the backend's scan keeps
    kept: list[Array | None]  # by layer, which elements of its input dropout kept, (T, B, features)
    steps: int
    batch: int


class RecurrentLayer(Layer):
    """Layers and directions of one cell, with dropout between layers, projection, ragged rows and carried state.

    Subclasses say which cell, and how their params are named and initialised.
    """

    # The params' names by the field of `Weights` that they fill; the cell's pointwise params keep their own.
    _names: ClassVar[Mapping[str, str]] = {
        "input": "weight_ih",
        "recurrent": "weight_hh",
        "input_bias": "bias_ih",
        "recurrent_bias": "bias_hh",
        "projection": "weight_hr",
    }

    def __init__(
        self,
        cell: Cell,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bidirectional: bool = False,
        bias: bool = True,
        dropout: float = 0.0,
        proj_size: int = 0,
        batch_first: bool = True,
        backend: Any = None,
        dtype: Any = "float32",
        seed: Any = None,
    ) -> None:
        self.cell = cell
        self.input_size = checks.size("input_size", input_size)
        self.hidden_size = checks.size("hidden_size", hidden_size)
        self.num_layers = checks.size("num_layers", num_layers)
        self.bidirectional = checks.flag("bidirectional", bidirectional)
        self.bias = checks.flag("bias", bias)
        self.dropout = checks.probability("dropout", dropout)
        self.proj_size = checks.size("proj_size", proj_size, least=0)
        if self.proj_size >= self.hidden_size:
            raise ValueError(f"proj_size must be below hidden_size {self.hidden_size}, not {self.proj_size}")
        self.batch_first = checks.flag("batch_first", batch_first)
        self.dtype = checks.float_dtype(dtype)
        params_rng, self.rng = draws.generators(seed)
        self.backend = get_backend(backend)
        bound = 1 / self.hidden_size**0.5
        self.params = {
            self._name(field, layer, direction): draws.uniform(self.backend, self.dtype, params_rng, shape, bound)
            for layer, direction in self._places()
            for field, shape in self._shapes(layer).items()
        }

    @property
    def directions(self) -> int:
        """1, or 2 where bidirectional."""
        return 2 if self.bidirectional else 1

    @property
    def output_size(self) -> int:
        """Features of the output of one direction."""
        return self.proj_size or self.hidden_size

    @property
    def streamable(self) -> bool:
        """Whether input may come in chunks: not where a direction starts at the end."""
        return not self.bidirectional

    def _forward(
        self, x: Array, state: Any, lengths: Any, *, training: bool, rng: Any, keep: bool
    ) -> tuple[Array, State, RecurrentCache | None]:
        layout = ("batch", "time") if self.batch_first else ("time", "batch")
        x = self._time_major(checks.floats(self.backend, self.dtype, "x", x, (*layout, self.input_size)))
        steps, batch, _ = x.shape
        lengths = checks.lengths(lengths, batch, steps)
        starts = self._split_state("state", state, batch, optional=False)
        rng = draws.generator(rng, self.rng)

        xp = self.backend.xp
        scans: list[list[Any]] = []
        kept: list[Array | None] = []
        ends: list[tuple[Array, ...]] = []
        for layer in range(self.num_layers):
            kept.append(None)
            if training and self.dropout and layer > 0:
                kept[layer] = draws.kept(self.backend, rng, x.shape, self.dropout)
                x = dropped(self.backend, x, kept[layer], self.dropout)
            outputs, caches = [], []
            for direction in range(self.directions):
                y, end, cache = self.backend.scan_forward(
                    self.cell,
                    self._weights(layer, direction),
                    x,
                    starts[layer * self.directions + direction],
                    lengths=lengths,
                    reverse=direction == 1,
                    keep=keep,
                )
                outputs.append(y)
                ends.append(end)
                caches.append(cache)
            scans.append(caches)
            x = outputs[0] if len(outputs) == 1 else xp.concat(outputs, axis=-1)
        cache = RecurrentCache(scans, kept, steps, batch) if keep else None
        return self._time_major(x), self._join_state(ends), cache

    def backward(self, cache: RecurrentCache, dy: Array, dstate: Any = None) -> tuple[Array, State, dict[str, Array]]:
        """Gradients of the input, the start state and the params; see `Layer.backward`.

        A gradient of the final state may leave ``h`` or ``c`` None for zeros.
        """
        checks.cache(cache, RecurrentCache)
        sizes = (cache.batch, cache.steps) if self.batch_first else (cache.steps, cache.batch)
        dy = checks.floats(self.backend, self.dtype, "dy", dy, (*sizes, self.output_size * self.directions))
        dy = self._time_major(dy)
        dends = self._split_state("dstate", dstate, cache.batch, optional=True)

        grads: dict[str, Array] = {}
        dstarts: list[tuple[Array, ...]] = [()] * len(dends)
        for layer in reversed(range(self.num_layers)):
            dx = None
            for direction in range(self.directions):
                part = dy[:, :, direction * self.output_size : (direction + 1) * self.output_size]
                place = layer * self.directions + direction
                dx_part, dstarts[place], dweights = self.backend.scan_backward(
                    self.cell, cache.scans[layer][direction], part, dends[place]
                )
                dx = dx_part if dx is None else dx + dx_part
                grads |= self._named_grads(dweights, layer, direction)
            dy = dx if cache.kept[layer] is None else dropped(self.backend, dx, cache.kept[layer], self.dropout)
        return self._time_major(dy), self._join_state(dstarts), {name: grads[name] for name in self.params}

    def astype(self, dtype: str) -> Self:
        """Return a copy of the layer, params and all, that computes in ``dtype`` ("float32" or "float64")."""
        other = super().astype(dtype)
        other.rng = copy.deepcopy(self.rng)
        return other

    def random_input(self, rng: np.random.Generator, batch: int, steps: int) -> Any:
        """Return a random input, a NumPy array, that the layer takes."""
        sizes = (batch, steps) if self.batch_first else (steps, batch)
        return rng.standard_normal((*sizes, self.input_size))

    # Params ----------------------------------------------------------------------------------------------------------

    def _places(self) -> list[tuple[int, int]]:
        return [(layer, direction) for layer in range(self.num_layers) for direction in range(self.directions)]

    def _name(self, field: str, layer: int, direction: int) -> str:
        return f"{self._names.get(field, field)}_l{layer}{'_reverse' if direction else ''}"

    def _shapes(self, layer: int) -> dict[str, tuple[int, ...]]:
        """The params of one direction of a layer: their shapes by the field of `Weights` or the pointwise name."""
        cell, hidden = self.cell, self.hidden_size
        features = self.input_size if layer == 0 else self.output_size * self.directions
        into, across = len(cell.input_gates) * hidden, len(cell.recurrent_gates) * hidden
        shapes: dict[str, tuple[int, ...]] = {"input": (into, features)}
        if across:
            shapes["recurrent"] = (across, self.output_size)
        if self.bias:
            shapes["input_bias"] = (into,)
            if across:
                shapes["recurrent_bias"] = (across,)
        if self.proj_size:
            shapes["projection"] = (self.proj_size, hidden)
        return shapes | {name: (len(row_names), hidden) for name, row_names in cell.pointwise.items()}

    def _weights(self, layer: int, direction: int) -> Weights:
        values = {field: self.params[self._name(field, layer, direction)] for field in self._shapes(layer)}
        pointwise = {name: values.pop(name) for name in self.cell.pointwise}
        return Weights(**values, pointwise=pointwise)

    def _named_grads(self, grads: Weights, layer: int, direction: int) -> dict[str, Array]:
        values = {field.name: getattr(grads, field.name) for field in fields(grads) if field.name != "pointwise"}
        values |= grads.pointwise
        return {self._name(field, layer, direction): values[field] for field in self._shapes(layer)}

    def _fill_gate(self, name: str, gates: tuple[str, ...], gate: str, value: float) -> None:
        """Set one gate's block of a bias, (gates * H,) or (gates, H), to a value."""
        xp, param = self.backend.xp, self.params[name]
        chosen = xp.asarray([[other == gate] for other in gates], device=self.backend.device)
        blocks = xp.reshape(param, (len(gates), self.hidden_size))
        self.params[name] = xp.reshape(xp.where(chosen, xp.full_like(blocks, value), blocks), param.shape)

    # State -----------------------------------------------------------------------------------------------------------

    def _split_state(self, name: str, state: Any, batch: int, *, optional: bool) -> list[tuple[Array, ...]]:
        """Check a state, or its gradient; return by layer and direction what the cell carries, arrays (B, size)."""
        xp, states = self.backend.xp, self.cell.states
        count = self.num_layers * self.directions
        if state is None:
            state = State(*[None] * 2)
            optional = True
        elif not isinstance(state, State):
            raise TypeError(f"{name} must be a recurray.State or None, not {type(state).__name__}")
        arrays = []
        for field in State._fields:
            value, label = getattr(state, field), f"{name}.{field}"
            if field not in states:
                if value is not None:
                    raise ValueError(f"{label} must be None: {type(self).__name__} has no state {field!r}")
                continue
            shape = (count, batch, self.output_size if field == "h" else self.hidden_size)
            if value is None and optional:
                value = xp.zeros(shape, dtype=getattr(xp, self.dtype), device=self.backend.device)
            arrays.append(checks.floats(self.backend, self.dtype, label, value, shape))
        return [tuple(value[place, ...] for value in arrays) for place in range(count)]

    def _join_state(self, ends: list[tuple[Array, ...]]) -> State:
        return State(*(self.backend.xp.stack(list(values)) for values in zip(*ends, strict=True)))

    # Arrays ----------------------------------------------------------------------------------------------------------

    def _time_major(self, a: Array) -> Array:
        """Between the caller's layout and (T, B, features), either way."""
        return namespace_of(a).permute_dims(a, (1, 0, 2)) if self.batch_first else a

    def _options(self) -> list[str]:
        options = [str(self.input_size), str(self.hidden_size)]
        for name, default in (
            ("num_layers", 1),
            ("bidirectional", False),
            ("bias", True),
            ("dropout", 0.0),
            ("proj_size", 0),
            ("batch_first", True),
        ):
            if getattr(self, name) != default:
                options.append(f"{name}={getattr(self, name)!r}")
        return options
