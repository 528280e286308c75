"""The simple recurrent layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from recurray import checks
from recurray.cells.elman import RNNCell
from recurray.cells.zoneout import with_zoneout
from recurray.layers import reverse_activations as in_reverse
from recurray.layers.recurrent import Recurrent


class RNN(Recurrent):
    r"""A simple recurrent network over a batch of sequences.

    For each step of each row

    .. math::
        h_t = \tanh(W x_t + b + U h_{t-1} + b')

    or, with ``nonlinearity="relu"``, the larger of the sum and 0, or another function of it.

    Parameters
    ----------
    input_size : int
        Features of the input.
    hidden_size : int
        Hidden units, H.
    num_layers : int
        Layers, each fed with the output of the one below.
    nonlinearity : str, tuple or mapping
        The function of the sum: "tanh", "relu", or any other of `recurray.activations.activation`.
    gate_clip : float, optional
        The sum is clamped to [-gate_clip, gate_clip] on its way into the function. What is clamped has no gradient.
        ONNX calls it clip.
    reverse_activations : mapping, optional
        ``{"nonlinearity": ...}``, the function in the second direction of a bidirectional layer where it is another.
    bidirectional : bool
        Whether each layer also runs from the end to the start; its output is then both directions' side by side.
    reverse : bool
        Whether the layer runs from the end to the start, in one direction; outputs stay at their steps.
    bias : bool
        Whether there are biases.
    dropout : float
        The probability that an element of the input of a layer above the first is dropped, in training. With one
        layer it does nothing, of which there is a warning.
    recurrent_dropout : float
        The probability that an element of the output is dropped on its way into the product with it, in training:
        the same elements at each step of a sequence.
    weight_dropout : float
        The probability that a recurrent weight is dropped, in training: the same for all rows and steps of a call.
    zoneout_h : float
        The probability that a unit keeps its output of the step before, in training; see `recurray.cells.ZoneoutCell`.
    static_size : int
        How many features of each row don't change over time: they come as ``static``; see `recurray.Recurrent`.
    learned_state : bool
        Whether the start state, where none is given, is a param, zero at first, rather than zero.
    recurrent_init : {"uniform", "orthogonal"}
        How the recurrent weights are drawn: as the others, or a random orthogonal matrix.
    recompute : int or "sqrt", optional
        How many steps apart the states are kept for backward, which computes the rest again; see `recurray.Recurrent`.
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

    Attributes
    ----------
    params : dict of str to array
        PyTorch's names and shapes: ``weight_ih_l0`` (H, I), ``weight_hh_l0`` (H, H), ``bias_ih_l0`` and ``bias_hh_l0``
        (H,), ``start_h_l0`` (H,) where the start state is learned; the layer's number, and ``_reverse`` for the second
        direction, at the end. Drawn uniformly from [-1/sqrt(H), 1/sqrt(H)).
    rng : numpy.random.Generator
        Where dropout's draws come from unless ``forward`` is given another; its ``bit_generator.state`` can be
        saved and set.

    Raises
    ------
    ValueError, TypeError
        A size, an option or a param is of the wrong kind.
    BackendUnavailableError
        The backend can't run on this machine.

    See Also
    --------
    recurray.Recurrent : What the options that it has too do, with references.

    References
    ----------
    Elman, "Finding structure in time", Cognitive Science 14(2), 1990.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> rnn = rr.RNN(3, 5, nonlinearity="relu", seed=0)
    >>> rnn
    RNN(3, 5, nonlinearity='relu', backend='numpy', dtype='float32')  # 50 params
    >>> y, state = rnn(np.ones((2, 7, 3), dtype="float32"))
    >>> y.shape, state.h.shape, state.c is None
    ((2, 7, 5), (1, 2, 5), True)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        nonlinearity: Any = "tanh",
        gate_clip: float | None = None,
        reverse_activations: Mapping[str, Any] | None = None,
        bidirectional: bool = False,
        reverse: bool = False,
        bias: bool = True,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        zoneout_h: float = 0.0,
        static_size: int = 0,
        learned_state: bool = False,
        recurrent_init: str = "uniform",
        recompute: int | str | None = None,
        batch_first: bool = True,
        backend: Any = None,
        dtype: Any = "float32",
        seed: Any = None,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        cell = RNNCell(nonlinearity, gate_clip)
        self.nonlinearity, self.gate_clip = cell.nonlinearity, cell.gate_clip
        self.zoneout_h = checks.probability("zoneout_h", zoneout_h)
        self.reverse_activations = in_reverse.checked(reverse_activations, ("nonlinearity",), bidirectional)
        other = replace(cell, **self.reverse_activations) if self.reverse_activations else None
        super().__init__(
            with_zoneout(cell, self.zoneout_h),
            input_size,
            hidden_size,
            num_layers,
            bidirectional=bidirectional,
            reverse=reverse,
            bias=bias,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            weight_dropout=weight_dropout,
            static_size=static_size,
            learned_state=learned_state,
            recurrent_init=recurrent_init,
            recompute=recompute,
            batch_first=batch_first,
            backend=backend,
            dtype=dtype,
            seed=seed,
            params=params,
            reverse_cell=other and with_zoneout(other, self.zoneout_h),
        )
