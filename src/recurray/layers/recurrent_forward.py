"""A recurrent layer's forward: what each layer and direction is run with, and what is kept for backward.

T time, B batch, I input, H hidden units, R size of the output (H, or the projection's), D directions, L layers.
Inside, arrays are time-major, (T, B, features).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from recurray import stack
from recurray.arrays import Array, dropped
from recurray.cells.cell import Weights
from recurray.layers import array_checks, draws, param_form
from recurray.layers.draws import Generator
from recurray.layers.pieces import Pieces
from recurray.layers.recurrent_cache import DirectionCache, GroupCache, RecurrentCache
from recurray.layers.recurrent_form import RecurrentForm, recurrent_weights
from recurray.layers.static_input import StaticInput
from recurray.stack import Direction, LayerForward
from recurray.state import State


class _WeightsInUse(NamedTuple):
    """What one direction of one layer is run with in a call."""

    weights: Weights
    kept: dict[str, Array]  # by param, which of the recurrent weights weight dropout kept


class RecurrentForward(RecurrentForm):
    """A `recurray.Recurrent` but for its backward."""

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
    ) -> tuple[Array, State, RecurrentCache | None]:
        """Run the stack; see `Layer.run`."""
        self.backend.check_ready()
        try:
            x = self.checked_input(x)
            batch, steps = x.shape[:2] if self.batch_first else x.shape[1::-1]
            pieces, lengths_of_rows = None, None
            if not (lengths is None and mask is None and resets is None):
                rows = array_checks.steps(batch, steps, lengths, mask, resets, batch_first=self.batch_first)
                pieces, lengths_of_rows = Pieces.of(rows, self.backend, batch_first=self.batch_first), rows.lengths
            form, params = self._state_form, self.checked_params()
            static_input = self._static_input(params, static, batch)
            starts = self._start_states(params, batch) if state is None else form.split("state", state, batch)
            rng = (rng or self.rng) if training else None
            recompute = math.isqrt(steps) + 1 if isinstance(self.recompute, str) else self.recompute
            options: dict[str, Any] = {"reverse": self.reverse, "keep": keep, "recompute": recompute}

            own = [] if pieces is None else self._start_states(params, 1)
            runs = (
                [(self._time_major(x), starts, lengths_of_rows)]
                if pieces is None
                else pieces.runs(x, starts, own, self._reversed)
            )
            biases = self._biases(params, static_input, pieces)
            in_use: dict[tuple[int, int], _WeightsInUse] = {}
            ys, ends, groups = [], [], []
            for number, (x_here, starts_here, lengths_here) in enumerate(runs):
                kept: list[Array | None] = []
                biases_here = biases[number] if biases else None
                layers = self._drawn(params, starts_here, biases_here, x_here.shape, rng, in_use, kept)
                y, end, scans = stack.forward(
                    self.backend, layers, x_here, dropout=self.dropout, lengths=lengths_here, **options
                )
                ys.append(y)
                ends.append(end)
                if keep:
                    directions = [
                        [DirectionCache(scan, in_use[layer, k].kept) for k, scan in enumerate(of_layer)]
                        for layer, of_layer in enumerate(scans)
                    ]
                    groups.append(GroupCache(directions, kept))
            cache = None
            if keep:
                cache = RecurrentCache(groups, pieces, static_input, steps, batch, state is not None, self._identity)
            if pieces is None:
                return self._time_major(ys[0]), form.join(ends[0]), cache
            return pieces.join(ys, x.shape), form.join(pieces.ends(ends, own, self._reversed)), cache
        except MemoryError as error:
            self._say_sizes(error, x)
            raise

    def _drawn(
        self,
        params: Mapping[str, Array],
        starts: list[tuple[Array, ...]],
        biases: tuple[Array, ...] | None,
        shape: tuple[int, ...],
        rng: Generator | None,
        in_use: dict[tuple[int, int], _WeightsInUse],
        kept: list[Array | None],
    ) -> Iterator[LayerForward]:
        """Draw what each layer is run with over an input of this shape, in the order of the layers.

        ``biases`` are the first layer's, by direction, where each row has its own.
        What is drawn of the weights is for the whole call, and put into ``in_use``; which elements of the layers'
        inputs are kept goes into ``kept``.
        """
        steps, batch, _ = shape
        handed_on = steps, batch, self.output_size * self.directions  # the shape of what layers give each other
        noise = draws.Noise(self.backend, self.dtype)
        output_dropout = self.recurrent_dropout if self.cell.recurrent_gates else 0.0  # else it's the cell's own
        for layer in range(self.num_layers):
            kept.append(None)
            if rng is not None and self.dropout and layer > 0:
                kept[layer] = draws.kept(self.backend, rng, handed_on, self.dropout)
            directions = []
            for direction in range(self.directions):
                place = layer, direction
                if place not in in_use:
                    in_use[place] = self._weights_in_use(params, layer, direction, rng)
                output_mask = noise.output_mask(rng, (batch, self.output_size), output_dropout)
                cell = self.cells[direction]
                cell_draws = noise.cell_draws(rng, (steps, batch, self.hidden_size), cell)
                start, weights = starts[layer * self.directions + direction], in_use[place].weights
                if biases is not None and layer == 0:
                    weights = replace(weights, input_bias=biases[direction], kept=None)
                directions.append(Direction(cell, weights, start, output_mask, cell_draws))
            yield LayerForward(directions, kept[layer])

    def _weights_in_use(
        self, params: Mapping[str, Array], layer: int, direction: int, rng: Generator | None
    ) -> _WeightsInUse:
        """The weights after weight dropout, and what it kept."""
        if self._fixed_weights:
            return _WeightsInUse(self._fixed_weights[layer * self.directions + direction], {})
        form, kept = self._param_form, dict[str, Array]()
        if rng is not None and self.weight_dropout:
            names, changed = dict(form.by_field(layer, direction)), dict(params)
            for field in recurrent_weights(self.cell):
                value = params[names[field]]
                kept[field] = draws.kept(self.backend, rng, tuple(value.shape), self.weight_dropout)
                changed[names[field]] = dropped(value, kept[field], self.weight_dropout)
            params = changed
        return _WeightsInUse(form.weights(params, layer, direction), kept)

    def _static_input(self, params: Mapping[str, Array], static: Any, batch: int) -> StaticInput | None:
        """Check what was given, and put it together with its weights."""
        if not self.static_size:
            if static is not None:
                raise ValueError(
                    f"static must be None: this {type(self).__name__} was made without it, with static_size=0"
                )
            return None
        if static is None:
            raise ValueError(
                f"static must be given, an array ({batch}, {self.static_size}): "
                f"this {type(self).__name__} has static_size={self.static_size}"
            )
        value = self.floats("static", static, (batch, self.static_size))
        names = [self._param_form.name(param_form.STATIC, 0, direction) for direction in range(self.directions)]
        return StaticInput(value, tuple(params[name] for name in names))

    def _biases(
        self, params: Mapping[str, Array], static: StaticInput | None, pieces: Pieces | None
    ) -> list[tuple[Array, ...]]:
        """By group the first layer's biases, of each direction, for each row; nothing where rows have the same."""
        if static is None:
            return []
        of_first = [self._param_form.of_direction(params, 0, direction) for direction in range(self.directions)]
        biases = static.biases([values.get("input_bias") for values in of_first])
        return [biases] if pieces is None else pieces.rows_in_groups(biases)

    def _start_states(self, params: Mapping[str, Array], batch: int) -> list[tuple[Array, ...]]:
        """The start state where none is given, by layer and direction: zeros, or what has been learned."""
        if not self.learned_state:
            return self._state_form.split("state", None, batch, optional=True)
        xp, form = self.backend.xp, self._param_form
        return [
            tuple(
                xp.broadcast_to(params[form.name(f"start_{name}", *place)], (batch, size))
                for name, size in form.start_sizes.items()
            )
            for place in form.places
        ]
