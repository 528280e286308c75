"""A recurrent layer as it stands: its options, cells, params and the form of its state.

T time, B batch, I input, H hidden units, R size of the output (H, or the projection's), D directions, L layers.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

from recurray import checks
from recurray.arrays import Array
from recurray.backend import Backend
from recurray.cells.cell import Cell, Weights
from recurray.cells.recurrent_dropout import with_recurrent_dropout
from recurray.layers import draws, param_form
from recurray.layers.draws import Generator
from recurray.layers.layer import Directions, Layer
from recurray.layers.plans import Plans
from recurray.layers.state_form import StateForm
from recurray.layers.trial import check_cell
from recurray.messages import outside_constructors, shown
from recurray.program import RecordingError, record

MOST_LAYERS = 2**16  # each is several arrays and a loop of its own


class RecurrentForm(Layer):
    """A `recurray.Recurrent` but for its forward and backward; the parameters are told there."""

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
        self._state_form, self._identity = self._made_state_form(), self._made_identity()
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
        if self.weight_dropout and not recurrent_weights(cell):
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

    def _made_identity(self) -> dict[str, Any]:
        """What a cache's layer has to agree in."""
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
        """Set an attribute; plans, and what caches agree in, were made for the options as they were."""
        super().__setattr__(name, value)
        if not name.startswith("_") and name != "params" and "_plans" in vars(self):
            self._plans, self._identity = Plans(), self._made_identity()

    @property
    def state_type(self) -> Any:
        """The named tuple that the state comes in: `State`, or one with further fields where the cell has them."""
        return self._state_form.kind

    def copy_on(self, backend: Backend, dtype: str) -> Self:
        """Also the form of the state, which is the backend's."""
        for cell in (self._given_cell, self.reverse_cell):
            if cell is not None:
                check_cell(cell, backend)
        other = super().copy_on(backend, dtype)
        other._state_form = other._made_state_form()
        other._fixed_weights = ()
        return other

    def _fix(self) -> None:
        super()._fix()
        self._fixed_weights, self._plans = [replace(own, kept={}, kept_matrices={}) for own in self.weights()], Plans()

    def random_input(self, rng: Generator, batch: int, steps: int) -> Any:
        """Return a random input, a NumPy array, that the layer takes."""
        sizes = (batch, steps) if self.batch_first else (steps, batch)
        return rng.standard_normal((*sizes, self.input_size))

    def weights(self) -> Sequence[Weights]:
        """Return the weights of every layer and direction as they are, by what a scan does with them."""
        if self._fixed_weights:
            return self._fixed_weights
        form, params = self._param_form, self.checked_params()
        return [form.weights(params, *place) for place in form.places]

    def _made_state_form(self) -> StateForm:
        return StateForm(self._state_sizes, self.num_layers * self.directions, self.backend, self.dtype)

    @property
    def _state_sizes(self) -> dict[str, int]:
        return {name: self.output_size if name == "h" else self.hidden_size for name in self.cell.states}

    def _reversed(self, number: int) -> bool:
        """Whether time runs from the end in the direction with this number, of all layers' one after another."""
        return self.reverse or number % self.directions == 1

    def checked_input(self, x: Any) -> Array:
        """Check an input and bring it to the layer's dtype."""
        layout = ("batch", "time") if self.batch_first else ("time", "batch")
        return self.floats("x", x, (*layout, self.input_size))

    def _time_major(self, a: Array) -> Array:
        """Between the caller's layout and (T, B, features), either way."""
        return self.backend.xp.permute_dims(a, (1, 0, 2)) if self.batch_first else a

    def _say_sizes(self, error: MemoryError, a: Array) -> None:
        """Say in an error by too little memory what was to be computed with ``a``, and what needs less."""
        batch, steps = a.shape[:2] if self.batch_first else a.shape[1::-1]
        error.add_note(
            f"This was {type(self).__name__} with {self.hidden_size} units, over {steps} steps of {batch} rows. "
            "Fewer rows need less; in training so does recompute='sqrt', which keeps the states of some steps alone; "
            "backend.release_memory() gives back what is kept for later arrays."
        )

    def argument(self, name: str) -> Any:
        """What the constructor was given as ``name``; the attribute ``cell`` is that cell as it is run."""
        return self._given_cell if name == "cell" else super().argument(name)


def _reads_output(cell: Cell) -> bool | None:
    """Whether a cell computes with the output before, element by element; None if it can't be recorded."""
    try:
        return record(cell).reads_output
    except RecordingError:  # such a cell runs by the reference path
        return None


def recurrent_weights(cell: Cell) -> tuple[str, ...]:
    """The fields of `Weights`, and the names of a cell's own params, that weight dropout is for."""
    return ("recurrent",) if cell.recurrent_gates else tuple(cell.recurrent_params)
