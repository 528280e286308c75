"""The GRU layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from recurray import checks
from recurray.cells.gru import GRUCell
from recurray.cells.zoneout import with_zoneout
from recurray.layers import reverse_activations as in_reverse
from recurray.layers.recurrent import Recurrent

ACTIVATIONS = ("gate_activation", "cell_activation")


class GRU(Recurrent):
    r"""Gated recurrent units over a batch of sequences.

    For each step of each row, with the logistic sigmoid :math:`\sigma` and elementwise products,

    .. math::
        r, z &= \sigma(W_{r,z}\, x_t + b_{r,z} + U_{r,z}\, h_{t-1} + b'_{r,z}) \\
        n &= \tanh(W_n x_t + b_n + r\, (U_n h_{t-1} + b'_n)) \\
        h_t &= (1 - z)\, n + z\, h_{t-1}

    as in PyTorch and cuDNN; with ``reset_after=False``, as the GRU was published,
    :math:`n = \tanh(W_n x_t + b_n + U_n (r\, h_{t-1}) + b'_n)`.

    Parameters
    ----------
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
        Whether there are biases.
    reset_after : bool
        Whether the reset gate acts on the product with the output before, rather than on that output.
    gate_activation : str, tuple or mapping
        What takes the place of :math:`\sigma`: the name of a function, or its name and parameters, as in
        ``("leaky_relu", 0.1)``; see `recurray.activations.activation`.
    cell_activation : str, tuple or mapping
        What takes the place of :math:`\tanh`.
    gate_clip : float, optional
        What goes into either function is clamped to [-gate_clip, gate_clip]. What is clamped has no gradient. ONNX
        calls it clip.
    reverse_activations : mapping, optional
        The two activations, or one of them, in the second direction of a bidirectional layer where they are others:
        ``{"cell_activation": "relu"}``.
    dropout : float
        The probability that an element of the input of a layer above the first is dropped, in training. With one
        layer it does nothing, of which there is a warning.
    recurrent_dropout : float
        The probability that an element of the output is dropped on its way into the products with it, in training:
        the same elements at each step of a sequence. Of the product after the reset (``reset_after=False``) none are.
    weight_dropout : float
        The probability that a recurrent weight is dropped, in training: the same for all rows and steps of a call.
    zoneout_h : float
        The probability that a unit keeps its output of the step before, in training; see `recurray.cells.ZoneoutCell`.
    static_size : int
        How many features of each row don't change over time: they come as ``static``; see `recurray.Recurrent`.
    learned_state : bool
        Whether the start state, where none is given, is a param, zero at first, rather than zero.
    recurrent_init : {"uniform", "orthogonal"}
        How the recurrent weights are drawn: as the others, or each gate's block a random orthogonal matrix.
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
        PyTorch's names, shapes and gate order (r z n): ``weight_ih_l0`` (3H, I), ``weight_hh_l0`` (3H, H),
        ``bias_ih_l0`` and ``bias_hh_l0`` (3H,), ``start_h_l0`` (H,) where the start state is learned; the layer's
        number, and ``_reverse`` for the second direction, at the end. Drawn uniformly from [-1/sqrt(H), 1/sqrt(H)).
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
    Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical machine translation", 2014.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> gru = rr.GRU(3, 5, reset_after=False, seed=0)
    >>> gru
    GRU(3, 5, reset_after=False, backend='numpy', dtype='float32')  # 150 params
    >>> x = np.ones((2, 7, 3), dtype="float32")
    >>> y, state = gru(x)
    >>> y.shape, state.h.shape, state.c is None
    ((2, 7, 5), (1, 2, 5), True)
    >>> y, state, cache = gru.forward(x, lengths=[7, 4])
    >>> dx, dstate, grads = gru.backward(cache, np.ones_like(y))
    >>> dx.shape, grads["weight_ih_l0"].shape
    ((2, 7, 3), (15, 3))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bidirectional: bool = False,
        reverse: bool = False,
        bias: bool = True,
        reset_after: bool = True,
        gate_activation: Any = "sigmoid",
        cell_activation: Any = "tanh",
        gate_clip: float | None = None,
        reverse_activations: Mapping[str, Any] | None = None,
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
        self.reset_after = checks.flag("reset_after", reset_after)
        self.zoneout_h = checks.probability("zoneout_h", zoneout_h)
        cell = GRUCell(self.reset_after, gate_activation, cell_activation, gate_clip)
        self.gate_activation, self.cell_activation = cell.gate_activation, cell.cell_activation
        self.gate_clip = cell.gate_clip
        self.reverse_activations = in_reverse.checked(reverse_activations, ACTIVATIONS, bidirectional)
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
