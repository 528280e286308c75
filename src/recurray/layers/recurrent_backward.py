"""A recurrent layer's backward, from what its forward has kept.

T time, B batch, I input, H hidden units, R size of the output (H, or the projection's), D directions, L layers.
Inside, arrays are time-major, (T, B, features).
"""

from __future__ import annotations

import itertools
from dataclasses import is_dataclass, replace
from typing import Any

from recurray import stack
from recurray.arrays import Array, dropped, sum_over_rows
from recurray.cells.cell import Cell, Weights
from recurray.layers import array_checks, param_form
from recurray.layers.recurrent_cache import RecurrentCache
from recurray.layers.recurrent_forward import RecurrentForward
from recurray.layers.static_input import InputGradients
from recurray.stack import LayerBackward
from recurray.state import State


class RecurrentBackward(RecurrentForward):
    """A `recurray.Recurrent` but for its short ways."""

    def backward(
        self, cache: RecurrentCache, dy: Array, dstate: Any = None
    ) -> tuple[Array | InputGradients, State, dict[str, Array]]:
        """Gradients of the input, the start state and the params; see `Layer.backward`.

        A gradient of the final state may leave fields None for zeros.
        """
        array_checks.cache(cache, RecurrentCache)
        self.backend.check_ready()
        identity = self._identity
        if cache.made_by is not identity and cache.made_by != identity:
            for name, own in identity.items():
                if not _agree(cache.made_by[name], own):
                    raise ValueError(
                        f"cache must be of a layer with {name} {own}, but is of one with {cache.made_by[name]}: "
                        "it is another layer's"
                    )
        try:
            sizes = (cache.batch, cache.steps) if self.batch_first else (cache.steps, cache.batch)
            dy = self.floats("dy", dy, (*sizes, self.output_size * self.directions))
            form, pieces = self._state_form, cache.pieces
            dends = form.split("dstate", dstate, cache.batch, optional=True)
            if pieces is None:
                runs, down = [(self._time_major(dy), dends)], None
            else:
                runs, down = pieces.runs_backward(dy, dends, self._reversed)

            dxs, dstarts, total = [], [], dict[tuple[int, int], Weights]()
            dbiases: list[tuple[Array, ...]] = []  # by group and direction: the first layer's, of each row
            for group, (dy_here, dends_here) in zip(cache.groups, runs, strict=True):
                layers = [
                    LayerBackward(
                        [own.scan for own in directions],
                        dends_here[layer * self.directions : (layer + 1) * self.directions],
                        group.kept[layer],
                    )
                    for layer, directions in enumerate(group.directions)
                ]
                dx, found = stack.backward(layers, dy_here, dropout=self.dropout)
                dxs.append(dx)
                dstarts.append([dstart for of_layer in found for dstart, _ in of_layer])
                if cache.static is not None:
                    dbiases.append(tuple(dweights.input_bias for _, dweights in found[0]))
                    found[0] = [(dstart, self._with_one_bias(dweights)) for dstart, dweights in found[0]]
                for place, (_, dweights) in zip(self._param_form.places, itertools.chain(*found), strict=True):
                    total[place] = total[place] + dweights if place in total else dweights
            if pieces is None:
                dx, dstart = self._time_major(dxs[0]), dstarts[0]
            else:
                dx = pieces.join(dxs, dy.shape)
                dstart, down = pieces.starts_backward(dstarts, down, self._reversed)

            grads: dict[str, Array] = {}
            for number, place in enumerate(self._param_form.places):
                layer, direction = place
                grads |= self._named_grads(
                    total[place], *place, cache.groups[0].directions[layer][direction].weights_kept
                )
                own = None if down is None else down[number]
                grads |= self._start_grads(dstart[number], own, *place, cache.state_given)
            if cache.static is not None:
                d = dbiases[0] if pieces is None else pieces.sums_by_row(dbiases, self.backend, cache.batch)
                dstatic, found_static = cache.static.backward(d)
                for direction, own in enumerate(found_static):
                    grads[self._param_form.name(param_form.STATIC, 0, direction)] = own
                dx = InputGradients(dx, dstatic)
            return dx, form.join(dstart), {name: grads[name] for name in self._param_shapes}
        except MemoryError as error:
            self._say_sizes(error, dy)
            raise

    def _named_grads(
        self, grads: Weights, layer: int, direction: int, weights_kept: dict[str, Array]
    ) -> dict[str, Array]:
        """The gradients of the weights by the params' names, back through weight dropout."""
        form = self._param_form
        values = form.values(grads)
        for field, kept in weights_kept.items():
            values[field] = dropped(values[field], kept, self.weight_dropout)
        return {name: values[field] for field, name in form.by_field(layer, direction) if field in values}

    def _with_one_bias(self, grads: Weights) -> Weights:
        """Gradients with those of the rows' biases added up."""
        return replace(grads, input_bias=sum_over_rows(grads.input_bias) if self.bias else None)

    def _start_grads(
        self,
        dstart: tuple[Array, ...],
        own: tuple[Array, ...] | None,
        layer: int,
        direction: int,
        state_given: bool,
    ) -> dict[str, Array]:
        """The gradients of the learned start state: from the start, unless another was given there, and from cuts."""
        if not self.learned_state:
            return {}
        totals = [sum_over_rows(d) for d in dstart]
        if state_given:
            totals = [self.backend.xp.zeros_like(total) for total in totals]
        if own is not None:
            totals = [total + of_cuts for total, of_cuts in zip(totals, own, strict=True)]
        return {
            self._param_form.name(f"start_{name}", layer, direction): total
            for name, total in zip(self.cell.states, totals, strict=True)
        }


def _agree(a: Any, b: Any) -> bool:
    """Whether two of a cache's properties are the same; cells without fields are so by their type."""
    return bool(a == b) or (isinstance(a, Cell) and type(a) is type(b) and not is_dataclass(a))
