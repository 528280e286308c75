"""The diagonal LSTM layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recurray import checks
from recurray.cells.diagonal_lstm import DiagonalLSTMCell
from recurray.layers import lstm_options
from recurray.layers.recurrent import Recurrent


class DiagonalLSTM(Recurrent):
    r"""An LSTM each of whose units recurs on itself only.

    The pre-activation of gate k in i, f, g, o is

    .. math::
        a_k = u_k z_t + w_k h_{t-1} + b_k \quad\text{with}\quad z_t = W x_t

    elementwise with the shared projection, or :math:`a_k = W_k x_t + w_k h_{t-1} + b_k` with one per gate; the rest
    is as in `LSTM`. It equals the full LSTM whose recurrent blocks are the diagonal matrices of :math:`w_k`, and its
    recurrence has no matrix product.

    Parameters
    ----------
    input_size : int
        Features of the input, I.
    hidden_size : int
        Hidden units, H.
    reverse : bool
        Whether the layer runs from the end to the start, in one direction; outputs stay at their steps.
    projection : {"shared", "per_gate"}
        Whether the gates share one product with the input.
    recurrent_dropout : float
        The probability that an element of the output is dropped on its way into the gates of the next step, in
        training: the same elements at each step of a sequence [1]_.
    weight_dropout : float
        The probability that an element of w is dropped, in training: the same for all rows and steps of a call.
    zoneout_h, zoneout_c, peepholes, coupled, cell_clip, gate_clip, clip_output
        As in `LSTM`.
    layer_norm : bool
        Whether a row's product with the input is normalised to mean 0 and variance 1: z, so that u becomes its gain;
        or the products of all gates together, which are then scaled by ``gamma_x``. What a unit remembers isn't
        normalised, so that it still sees only its own past.
    gate_activation, cell_activation, output_activation : str, tuple or mapping
        As in `LSTM`: functions for i, f and o, together or each its own, ``{"i": "relu", "f": "hard_sigmoid"}``; for g;
        and for c on its way to the output.
    static_size : int
        How many features of each row don't change over time: they come as ``static``; see `recurray.Recurrent`.
    learned_state : bool
        Whether the start state, where none is given, is a param, zero at first, rather than zero.
    recompute : int or "sqrt", optional
        How many steps apart the states are kept for backward, which computes the rest again; see `recurray.Recurrent`.
    batch_first : bool
        Whether arrays are (batch, time, features) rather than (time, batch, features).
    backend, dtype, seed, forget_bias, params
        As in `LSTM`.

    Attributes
    ----------
    params : dict of str to array
        ``weight_in`` (H, I) shared or (4H, I) per gate, ``u`` (4, H) with the shared projection only, ``w`` (4, H),
        ``b`` (4, H); gates i f g o. Where coupled, 3 takes the place of 4, the gates being i g o. Drawn uniformly from
        [-1/sqrt(H), 1/sqrt(H)).

        With peepholes ``peephole`` (3, H), rows i f o, or (2, H), rows i o, where coupled, drawn likewise. With layer
        normalisation and a projection per gate ``gamma_x`` (4, H), ones. With learned start states ``start_h`` and
        ``start_c`` (H,), zeros.

    Raises
    ------
    ValueError, TypeError
        A size, an option or a param is of the wrong kind.
    BackendUnavailableError
        The backend can't run on this machine.

    References
    ----------
    Danieli et al., "ParaRNN: Unlocking parallel training of nonlinear RNNs for large language models", 2025.

    .. [1] Gal & Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> layer = rr.DiagonalLSTM(3, 5, seed=0)
    >>> layer
    DiagonalLSTM(3, 5, backend='numpy', dtype='float32')  # 75 params
    >>> y, state = layer(np.ones((2, 7, 3), dtype="float32"))
    >>> y.shape, state.c.shape
    ((2, 7, 5), (1, 2, 5))
    >>> rr.DiagonalLSTM(3, 5, coupled=True, output_activation="relu", seed=0)  # doctest: +ELLIPSIS
    DiagonalLSTM(3, 5, coupled=True, output_activation='relu', ...
    """

    _names = {"input": "weight_in"}  # noqa: RUF012 - nobody changes it
    _numbered = False

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        reverse: bool = False,
        projection: str = "shared",
        recurrent_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        zoneout_h: float = 0.0,
        zoneout_c: float = 0.0,
        peepholes: bool = False,
        coupled: bool = False,
        cell_clip: float | None = None,
        gate_clip: float | None = None,
        clip_output: bool = True,
        layer_norm: bool = False,
        gate_activation: Any = "sigmoid",
        cell_activation: Any = "tanh",
        output_activation: Any = "tanh",
        forget_bias: float | None = None,
        static_size: int = 0,
        learned_state: bool = False,
        recompute: int | str | None = None,
        batch_first: bool = True,
        backend: Any = None,
        dtype: Any = "float32",
        seed: Any = None,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        self.projection = checks.choice("projection", projection, ("shared", "per_gate"))
        vars(self).update(given := lstm_options.of_cell(locals()))
        cell = lstm_options.make_cell(DiagonalLSTMCell, given, shared=projection == "shared")
        if forget_bias is not None:
            forget_bias = checks.finite("forget_bias", forget_bias)
            if params is not None:
                raise ValueError("forget_bias says how a bias starts, but params replaces it: give one of the two")
        super().__init__(
            cell,
            input_size,
            hidden_size,
            reverse=reverse,
            bias=False,  # the cell has its own, b
            recurrent_dropout=recurrent_dropout,
            weight_dropout=weight_dropout,
            static_size=static_size,
            learned_state=learned_state,
            recompute=recompute,
            batch_first=batch_first,
            backend=backend,
            dtype=dtype,
            seed=seed,
            params=params,
        )
        if params is None:
            lstm_options.start_neutral(self.params)
        if forget_bias is not None:
            gate, value = ("i", -forget_bias) if coupled else ("f", forget_bias)
            self._param_form.fill_gate(self.params, "b", self.cell.pointwise["b"], gate, value)
