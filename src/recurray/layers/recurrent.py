"""A stack of recurrent layers around one cell: everything about an LSTM that isn't the LSTM's own mathematics.

recurrent_form      options, cells, params and the form of the state
recurrent_forward   the call, in training and in inference
recurrent_backward  its backward
recurrent_cache     what the one keeps for the other
plans               what small calls in inference have in common
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from recurray.arrays import Array
from recurray.backend import Stack
from recurray.layers.chain_call import Part
from recurray.layers.plans import Call, Plans, call_of_stack
from recurray.layers.recurrent_backward import RecurrentBackward

if TYPE_CHECKING:
    from recurray.trace import Trace


class Recurrent(RecurrentBackward):
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

    def _planned_call(self, x: Array) -> Call | None:
        return call_of_stack(self, x)

    def _plans_of_all(self) -> Plans | None:
        return None if self.learned_state or self.static_size else self._plans

    def _part(self) -> Part | None:
        own = type(self).__call__ is Recurrent.__call__ and type(self).run is Recurrent.run
        if not own or self.learned_state or self.static_size:
            return None
        return Part(Stack(self.cells, self.weights(), self.reverse), self._state_form)

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
