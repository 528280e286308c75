"""A stack of recurrent layers around one cell: everything about an LSTM that isn't the LSTM's own mathematics.

T time, B batch, I input, H hidden units, R size of the output (H, or the projection's), D directions, L layers.
Inside, arrays are time-major, (T, B, features).
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

from recurray import checks, stack
from recurray.arrays import Array, dropped, sum_over_rows
from recurray.backend import Backend
from recurray.cells.cell import Cell, Weights
from recurray.cells.recurrent_dropout import with_recurrent_dropout
from recurray.layers import array_checks, draws, param_form
from recurray.layers.draws import Generator
from recurray.layers.layer import Directions, Layer
from recurray.layers.pieces import Pieces
from recurray.layers.plans import Plans
from recurray.layers.state_form import StateForm
from recurray.layers.static_input import InputGradients, StaticInput
from recurray.layers.trial import check_cell
from recurray.messages import outside_constructors, shown
from recurray.program import RecordingError, record
from recurray.scan import Cache
from recurray.stack import Direction, LayerBackward, LayerForward
from recurray.state import State

MOST_LAYERS = 2**16  # each is several arrays and a loop of its own

if TYPE_CHECKING:
    from recurray.trace import Trace


@dataclass(frozen=True)
class DirectionCache:
    """What one direction of one layer keeps for backward."""

    scan: Cache  # what the backend's scan keeps
    weights_kept: dict[str, Array]  # by param, which of the recurrent weights weight dropout kept


@dataclass(frozen=True)
class GroupCache:
    """What is kept of the rows, or of a group of their pieces, which were run together."""

    directions: list[list[DirectionCache]]  # by layer and direction
    kept: list[Array | None]  # by layer, which elements of its input dropout kept, (T, B, features)


@dataclass(frozen=True)
class RecurrentCache:
    """All that the stack's backward reads."""

    groups: list[GroupCache]
    pieces: Pieces | None  # what the groups are of; None where that is the rows as they lie
    static: StaticInput | None
    steps: int
    batch: int
    state_given: bool
    made_by: dict[str, Any]  # what another layer would have to agree in, to be given this


class _WeightsInUse(NamedTuple):
    """What one direction of one layer is run with in a call."""

    weights: Weights
    kept: dict[str, Array]  # by param, which of the recurrent weights weight dropout kept


class Recurrent(Layer):
    """Layers and directions of any cell, with dropout, projection, ragged rows and carried state.

    `LSTM`, `GRU` and the other recurrent layers are this with their cell; with a cell of your own it gives that cell
    everything that they have.

    Parameters
    ----------
    cell : Cell
        The mathematics of a step.
    input_size : int
        Features of the input.
    hidden_size : int
        Hidden units, H.
    num_layers : int
        Layers, each fed with the output of the one below.
    bidirectional : bool
        Whether each layer also runs from the end to the start; its output is then both directions' side by side.
    reverse : bool
        Whether the layer runs from the end to the start, in one direction; outputs stay at their steps.
    bias : bool
        Whether the products with the input and the output before have biases.
    dropout : float
        The probability that an element of the input of a layer above the first is dropped, in training. With one
        layer it does nothing, of which there is a warning.
    recurrent_dropout : float
        The probability that an element of the output is dropped on its way into the recurrent product, in training:
        the same elements at each step of a sequence (Gal & Ghahramani 2016). For a cell without such a product, where
        the cell reads the output; see `recurray.cells.RecurrentDropoutCell`.
    weight_dropout : float
        The probability that a recurrent weight is dropped, in training: the same for all rows and steps of a call
        (Merity, Keskar & Socher 2018, after Wan et al. 2013).
    proj_size : int
        If not 0, the output is projected to this many features, fewer than ``hidden_size``.
    static_size : int
        If not 0, each call is also given ``static``, (batch, static_size): features of each row that don't change over
        time, such as a catchment's or a speaker's. Layers, gates and gradients are those of an input with these
        features beside its own at every step, but their product is made once a row. Backward then returns
        `InputGradients`, of both inputs, in the place of the input's gradient.
    learned_state : bool
        Whether the start state, where none is given, is a param, zero at first, rather than zero.
    recurrent_init : {"uniform", "orthogonal"}
        How the recurrent weights are drawn: as the others, or each gate's block a random orthogonal matrix
        (Saxe, McClelland & Ganguli 2014).
    recompute : int or "sqrt", optional
        How many steps apart the states are kept for backward, which computes the rest again: less memory for about a
        third more time, and the same gradients to the last bit. "sqrt" is the root of the sequence's length, so that
        memory grows no faster than that. Rounded up to what the backend computes together: 64 steps on NumPy, 512 in
        the compiled engine and on CuPy (there gradients are the same to rounding). The input must stay as it is until
        backward; it, the output of each layer and dropout's draws are kept whole.
    batch_first : bool
        Whether arrays are (batch, time, features) rather than (time, batch, features).
    backend : str, Backend, namespace or None
        See `recurray.get_backend`.
    dtype : {"float32", "float64"}
        The precision of params and computation.
    seed : int or sequence of int, optional
        Makes the params' and all dropout's draws repeatable; equal on every backend.
    params : mapping of str to array, optional
        The params to start with, in place of drawn ones.
    reverse_cell : Cell, optional
        The mathematics of a step from the end to the start, where ``bidirectional`` and it isn't that of ``cell``. It
        has the same gates, states and params.

    Attributes
    ----------
    params : dict of str to array
        ``weight_ih_l0`` (input gates * H, I), ``weight_hh_l0`` (recurrent gates * H, R), ``bias_ih_l0``,
        ``bias_hh_l0``, ``weight_hr_l0`` (R, H) where projected, ``weight_static_l0`` (input gates * H, static_size) of
        the first layer where there is such an input, the cell's own, (rows, H), by its names, and ``start_h_l0`` and so
        on where the start state is learned; the layer's number, and ``_reverse`` for the second direction, at the end.
        Drawn uniformly from [-1/sqrt(H), 1/sqrt(H)).
    rng : numpy.random.Generator
        Where dropout's and the cell's draws come from unless ``forward`` is given another; its
        ``bit_generator.state`` can be saved and set.

    Raises
    ------
    ValueError, TypeError
        A size, an option or a param is of the wrong kind, or the cell doesn't return what it declares.
    BackendUnavailableError
        The backend can't run on this machine.

    References
    ----------
    Gal & Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks", 2016; Merity,
    Keskar & Socher, "Regularizing and optimizing LSTM language models", 2018; Saxe, McClelland & Ganguli, "Exact
    solutions to the nonlinear dynamics of learning in deep linear neural networks", 2014.

    Examples
    --------
    A cell of one's own, a leaky integrator h = h_prev + p (tanh(x + U h_prev) - h_prev) with a rate p for each unit:

    >>> import numpy as np
    >>> import recurray as rr
    >>> from recurray.arrays import tanh
    >>> class LeakyCell(rr.Cell):
    ...     input_gates = recurrent_gates = ("a",)
    ...     pointwise = {"rate": ("p",)}
    ...
    ...     def step(self, x, h, before, params):
    ...         new, p = tanh(x.a + h.a), params.rate.p
    ...         return {"h": before.h + p * (new - before.h)}, {"new": new}
    ...
    ...     def step_backward(self, d, saved, before, params):
    ...         new, p = saved.new, params.rate.p
    ...         da = d.h * (p * (1 - new * new))
    ...         return rr.CellGradients(
    ...             x={"a": da},
    ...             h={"a": da},
    ...             before={"h": d.h * (1 - p)},
    ...             params={"rate": {"p": d.h * (new - before.h)}},
    ...         )
    >>> layer = rr.Recurrent(LeakyCell(), 3, 5, num_layers=2, bidirectional=True, seed=0)
    >>> y, state = layer(np.ones((2, 7, 3), dtype="float32"), lengths=[7, 4])
    >>> y.shape, state.h.shape
    ((2, 7, 10), (4, 2, 5))
    >>> rr.check_gradients(layer).ok
    True
    """

    recurrent = True
    _names: ClassVar[Mapping[str, str]] = param_form.NAMES
    _numbered: ClassVar[bool] = True  # whether the params' names tell layer and direction
    _fixed_weights: Sequence[Weights] = ()  # those of a layer in a `Frozen`

    def __init__(
        self,
        cell: Cell,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bidirectional: bool = False,
        reverse: bool = False,
        bias: bool = True,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        proj_size: int = 0,
        static_size: int = 0,
        learned_state: bool = False,
        recurrent_init: str = "uniform",
        recompute: int | str | None = None,
        batch_first: bool = True,
        backend: Any = None,
        dtype: Any = "float32",
        seed: Any = None,
        params: Mapping[str, Any] | None = None,
        reverse_cell: Cell | None = None,
    ) -> None:
        if not isinstance(cell, Cell):
            raise TypeError(f"cell must be a recurray.Cell, not {type(cell).__name__}")
        self._given_cell, self.reverse_cell = cell, reverse_cell
        self.input_size = checks.size("input_size", input_size)
        self.hidden_size = checks.size("hidden_size", hidden_size)
        self.num_layers = checks.size("num_layers", num_layers, most=MOST_LAYERS)
        self.bidirectional = checks.flag("bidirectional", bidirectional)
        self.reverse = checks.flag("reverse", reverse)
        if self.reverse and self.bidirectional:
            raise ValueError("bidirectional has a reverse direction already: give one of reverse and bidirectional")
        self.bias = checks.flag("bias", bias)
        self.dropout = checks.probability("dropout", dropout)
        if self.dropout and self.num_layers == 1:
            warnings.warn(
                f"dropout={dropout!r} does nothing with num_layers=1: it is of the input of the layers above the first",
                stacklevel=outside_constructors(),
            )
        self.recurrent_dropout = checks.probability("recurrent_dropout", recurrent_dropout)
        self.weight_dropout = checks.probability("weight_dropout", weight_dropout)
        self.proj_size = checks.size("proj_size", proj_size, least=0)
        self.static_size = checks.size("static_size", static_size, least=0)
        self.learned_state = checks.flag("learned_state", learned_state)
        self.recurrent_init = checks.choice("recurrent_init", recurrent_init, ("uniform", "orthogonal"))
        self.recompute = checks.recompute(recompute)
        self.batch_first = checks.flag("batch_first", batch_first)
        self.runs_on(backend, dtype)
        self.cell = self._checked(cell)
        self.cells = (self.cell, *[self._checked_reverse()][: self.directions - 1])
        params_rng, self.rng = draws.generators(seed)
        self._param_form = param_form.ParamForm(
            self.cell,
            self.input_size,
            self.hidden_size,
            self.proj_size,
            self.num_layers,
            self.directions,
            self.bias,
            self.recurrent_init,
            start_sizes=self._state_sizes if self.learned_state else {},
            names=self._names,
            numbered=self._numbered,
            static_size=self.static_size,
        )
        self.start_params(self._param_form.all_shapes(), lambda: self._param_form.drawn(params_rng), params)
        self._state_form = self._made_state_form()
        self._plans = Plans()

    def _checked(self, cell: Cell) -> Cell:
        """Check that the cell returns what it declares, and that the options suit it; return it as it is to be run."""
        check_cell(cell, self.backend)
        kind = type(cell).__name__
        reads_output = _reads_output(cell)
        if self.proj_size >= self.hidden_size:
            raise ValueError(f"proj_size must be below hidden_size {self.hidden_size}, not {self.proj_size}")
        if self.proj_size and (reads_output or cell.inner_gates):
            raise ValueError(
                f"{kind} computes with the output before, element by element, "
                "so the output can't be projected to another size"
            )
        if self.weight_dropout and not _recurrent_weights(cell):
            raise ValueError(f"{kind} has no recurrent weights for weight_dropout")
        if not self.recurrent_dropout or cell.recurrent_gates:
            return cell
        if reads_output is False:
            raise ValueError(
                f"{kind} doesn't read the output before, so there is nothing for recurrent_dropout to drop"
            )
        return with_recurrent_dropout(cell, self.recurrent_dropout)

    def _checked_reverse(self) -> Cell:
        """Check the second direction's cell, the first one's where none was given; return it as it is to be run."""
        other, own = self.reverse_cell, self._given_cell
        if other is None:
            return self.cell
        if not isinstance(other, Cell):
            raise TypeError(f"reverse_cell must be a recurray.Cell or None, not {type(other).__name__} {shown(other)}")
        if not self.bidirectional:
            raise ValueError("reverse_cell is the cell of the second direction: it needs bidirectional=True")
        checked = self._checked(other)
        for name in ("input_gates", "recurrent_gates", "inner_gates", "states", "pointwise", "recurrent_params"):
            if getattr(other, name) != getattr(own, name):
                raise ValueError(
                    f"reverse_cell must have the {name} of cell, {getattr(own, name)}, not {getattr(other, name)}: "
                    "both directions have params and states of the same shapes"
                )
        return checked

    @property
    def _identity(self) -> dict[str, Any]:
        return {
            "cell": self.cell,
            "reverse_cell": self.cells[-1],
            "input_size": self.input_size,
            "hidden_size": self.hidden_size,
            "num_layers": self.num_layers,
            "directions": self.directions,
            "reverse": self.reverse,
            "proj_size": self.proj_size,
            "static_size": self.static_size,
            "bias": self.bias,
            "dtype": self.dtype,
            "backend": repr(self.backend),
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
        return not (self.bidirectional or self.reverse)

    def directions_after(self, before: Directions) -> Directions:
        """Its own; see `Layer.directions_after`."""
        return (False, True) if self.bidirectional else (self.reverse,)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; plans were made for the options as they were."""
        super().__setattr__(name, value)
        if not name.startswith("_") and name != "params" and "_plans" in vars(self):
            self._plans = Plans()

    @property
    def state_type(self) -> Any:
        """The named tuple that the state comes in: `State`, or one with further fields where the cell has them."""
        return self._state_form.kind

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

        Parameters are those of `forward`. What small calls of one shape have in common is decided once, where the
        backend makes such plans.
        """
        whole = lengths is None and mask is None and resets is None and static is None and not self.static_size
        if whole and (state is not None or not self.learned_state):
            found = self._plans.run(self, x, state)
            if found is not None:
                return found
        return super().__call__(x, state, lengths, mask=mask, resets=resets, static=static)

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
        with _SizesInErrors(self, x):
            x = self.checked_input(x)
            batch, steps = x.shape[:2] if self.batch_first else x.shape[1::-1]
            rows = array_checks.steps(batch, steps, lengths, mask, resets, batch_first=self.batch_first)
            pieces = Pieces.of(rows, self.backend, batch_first=self.batch_first)
            form, params = self._state_form, self.checked_params()
            static_input = self._static_input(params, static, batch)
            starts = self._start_states(params, batch) if state is None else form.split("state", state, batch)
            rng = (rng or self.rng) if training else None
            recompute = math.isqrt(steps) + 1 if isinstance(self.recompute, str) else self.recompute
            options: dict[str, Any] = {"reverse": self.reverse, "keep": keep, "recompute": recompute}

            own = [] if pieces is None else self._start_states(params, 1)
            runs = (
                [(self._time_major(x), starts, rows.lengths)]
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

    def backward(
        self, cache: RecurrentCache, dy: Array, dstate: Any = None
    ) -> tuple[Array | InputGradients, State, dict[str, Array]]:
        """Gradients of the input, the start state and the params; see `Layer.backward`.

        A gradient of the final state may leave fields None for zeros.
        """
        array_checks.cache(cache, RecurrentCache)
        self.backend.check_ready()
        identity = self._identity
        if cache.made_by != identity:
            for name, own in identity.items():
                if not _agree(cache.made_by[name], own):
                    raise ValueError(
                        f"cache must be of a layer with {name} {own}, but is of one with {cache.made_by[name]}: "
                        "it is another layer's"
                    )
        with _SizesInErrors(self, dy):
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

    def _reversed(self, number: int) -> bool:
        """Whether time runs from the end in the direction with this number, of all layers' one after another."""
        return self.reverse or number % self.directions == 1

    def copy_on(self, backend: Backend, dtype: str) -> Self:
        """Also the form of the state, which is the backend's, and plans of its own."""
        for cell in (self._given_cell, self.reverse_cell):
            if cell is not None:
                check_cell(cell, backend)
        other = super().copy_on(backend, dtype)
        other._state_form = other._made_state_form()
        other._plans = Plans()
        other._fixed_weights = ()
        return other

    def _fix(self) -> None:
        super()._fix()
        self._fixed_weights = [replace(own, kept={}) for own in self.weights()]

    def random_input(self, rng: Generator, batch: int, steps: int) -> Any:
        """Return a random input, a NumPy array, that the layer takes."""
        sizes = (batch, steps) if self.batch_first else (steps, batch)
        return rng.standard_normal((*sizes, self.input_size))

    def trace(
        self,
        x: Array,
        state: Any = None,
        lengths: Any = None,
        *,
        mask: Any = None,
        resets: Any = None,
        static: Any = None,
    ) -> Trace:
        """Run the layer in inference and return every gate and state over time, by name; see `recurray.trace.trace`."""
        from recurray.trace import trace

        return trace(self, x, state, lengths, mask=mask, resets=resets, static=static)

    # Params ----------------------------------------------------------------------------------------------------------

    def weights(self) -> Sequence[Weights]:
        """Return the weights of every layer and direction as they are, by what a scan does with them."""
        if self._fixed_weights:
            return self._fixed_weights
        form, params = self._param_form, self.checked_params()
        return [form.weights(form.of_direction(params, *place)) for place in form.places]

    def _weights_in_use(
        self, params: Mapping[str, Array], layer: int, direction: int, rng: Generator | None
    ) -> _WeightsInUse:
        """The weights after weight dropout, and what it kept."""
        if self._fixed_weights:
            return _WeightsInUse(self._fixed_weights[layer * self.directions + direction], {})
        values, kept = self._param_form.of_direction(params, layer, direction), {}
        if rng is not None and self.weight_dropout:
            for field in _recurrent_weights(self.cell):
                kept[field] = draws.kept(self.backend, rng, tuple(values[field].shape), self.weight_dropout)
                values[field] = dropped(values[field], kept[field], self.weight_dropout)
        return _WeightsInUse(self._param_form.weights(values), kept)

    def _named_grads(
        self, grads: Weights, layer: int, direction: int, weights_kept: dict[str, Array]
    ) -> dict[str, Array]:
        """The gradients of the weights by the params' names, back through weight dropout."""
        form = self._param_form
        values = form.values(grads)
        for field, kept in weights_kept.items():
            values[field] = dropped(values[field], kept, self.weight_dropout)
        return {name: values[field] for field, name in form.by_field(layer, direction) if field in values}

    # Input that doesn't change over time ------------------------------------------------------------------------------

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

    def _with_one_bias(self, grads: Weights) -> Weights:
        """Gradients with those of the rows' biases added up."""
        return replace(grads, input_bias=sum_over_rows(grads.input_bias) if self.bias else None)

    # State -----------------------------------------------------------------------------------------------------------

    def _made_state_form(self) -> StateForm:
        return StateForm(self._state_sizes, self.num_layers * self.directions, self.backend, self.dtype)

    @property
    def _state_sizes(self) -> dict[str, int]:
        return {name: self.output_size if name == "h" else self.hidden_size for name in self.cell.states}

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

    # Arrays ----------------------------------------------------------------------------------------------------------

    def checked_input(self, x: Any) -> Array:
        """Check an input and bring it to the layer's dtype."""
        layout = ("batch", "time") if self.batch_first else ("time", "batch")
        return self.floats("x", x, (*layout, self.input_size))

    def _time_major(self, a: Array) -> Array:
        """Between the caller's layout and (T, B, features), either way."""
        return self.backend.xp.permute_dims(a, (1, 0, 2)) if self.batch_first else a

    def argument(self, name: str) -> Any:
        """What the constructor was given as ``name``; the attribute ``cell`` is that cell as it is run."""
        return self._given_cell if name == "cell" else super().argument(name)


@dataclass(frozen=True)
class _SizesInErrors:
    """Says in an error by too little memory what was to be computed with ``a``, and what needs less."""

    layer: Recurrent
    a: Array

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, MemoryError):
            return
        batch, steps = self.a.shape[:2] if self.layer.batch_first else self.a.shape[1::-1]
        error.add_note(
            f"This was {type(self.layer).__name__} with {self.layer.hidden_size} units, over {steps} steps of {batch} "
            "rows. Fewer rows need less; in training so does recompute='sqrt', which keeps the states of some steps "
            "alone; backend.release_memory() gives back what is kept for later arrays."
        )


def _agree(a: Any, b: Any) -> bool:
    """Whether two of a cache's properties are the same; cells without fields are so by their type."""
    return bool(a == b) or (isinstance(a, Cell) and type(a) is type(b) and not is_dataclass(a))


def _reads_output(cell: Cell) -> bool | None:
    """Whether a cell computes with the output before, element by element; None if it can't be recorded."""
    try:
        return record(cell).reads_output
    except RecordingError:  # such a cell runs by the reference path
        return None


def _recurrent_weights(cell: Cell) -> tuple[str, ...]:
    """The fields of `Weights`, and the names of a cell's own params, that weight dropout is for."""
    return ("recurrent",) if cell.recurrent_gates else tuple(cell.recurrent_params)
