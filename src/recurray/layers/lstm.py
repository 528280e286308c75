"""The LSTM layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recurray.cells.lstm import LSTMCell
from recurray.layers import checks
from recurray.layers.recurrent import Recurrent


class LSTM(Recurrent):
    r"""Long short-term memory over a batch of sequences.

    For each step of each row, with the logistic sigmoid :math:`\sigma` and elementwise products,

    .. math::
        i, f, o &= \sigma(W_{i,f,o}\, x_t + U_{i,f,o}\, h_{t-1} + b_{i,f,o}) \\
        g &= \tanh(W_g x_t + U_g h_{t-1} + b_g) \\
        c_t &= f c_{t-1} + i g \\
        h_t &= o \tanh(c_t)

    and, where ``proj_size`` is given, :math:`h_t = W_{hr}\, (o \tanh(c_t))`.

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
    bias : bool
        Whether there are biases.
    dropout : float
        The probability that an element of the input of a layer above the first is dropped, in training.
    proj_size : int
        If not 0, the output is projected to this many features, fewer than ``hidden_size``.
    batch_first : bool
        Whether arrays are (batch, time, features) rather than (time, batch, features).
    backend : str, Backend, namespace or None
        See `recurray.get_backend`.
    dtype : {"float32", "float64"}
        The precision of params and computation.
    seed : int or sequence of int, optional
        Makes the params' and dropout's draws repeatable; equal on every backend.
    forget_bias : float, optional
        What the forget gate's biases add up to at the start; a drawn value if omitted. A positive one makes the
        cell remember before it has learned what to forget.
    params : mapping of str to array, optional
        The params to start with, in place of drawn ones.

    Attributes
    ----------
    params : dict of str to array
        PyTorch's names, shapes and gate order (i f g o): ``weight_ih_l0`` (4H, I), ``weight_hh_l0`` (4H, R),
        ``bias_ih_l0`` and ``bias_hh_l0`` (4H,), ``weight_hr_l0`` (R, H) where projected; the layer's number, and
        ``_reverse`` for the second direction, at the end. R is ``proj_size`` or H. Drawn uniformly from
        [-1/sqrt(H), 1/sqrt(H)).
    rng : numpy.random.Generator
        Where dropout's draws come from unless ``forward`` is given another; its ``bit_generator.state`` can be
        saved and set.

    Raises
    ------
    ValueError, TypeError
        A size, an option or a param is of the wrong kind.
    BackendUnavailableError
        The backend can't run on this machine.

    References
    ----------
    Hochreiter & Schmidhuber, "Long short-term memory", Neural Computation 9(8), 1997; the forget gate: Gers,
    Schmidhuber & Cummins, "Learning to forget", Neural Computation 12(10), 2000; the projection: Sak, Senior &
    Beaufays, "Long short-term memory based recurrent neural network architectures for large vocabulary speech
    recognition", 2014.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> lstm = rr.LSTM(3, 5, seed=0)
    >>> lstm
    LSTM(3, 5, backend='numpy', dtype='float32')  # 200 params
    >>> x = np.ones((2, 7, 3), dtype="float32")
    >>> y, state = lstm(x)
    >>> y.shape, state.h.shape, state.c.shape
    ((2, 7, 5), (1, 2, 5), (1, 2, 5))
    >>> y, state, cache = lstm.forward(x, lengths=[7, 4])
    >>> dx, dstate, grads = lstm.backward(cache, np.ones_like(y))
    >>> dx.shape, grads["weight_ih_l0"].shape
    ((2, 7, 3), (20, 3))
    """

    def __init__(
        self,
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
        forget_bias: float | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        if forget_bias is not None:
            forget_bias = checks.number("forget_bias", forget_bias)
            if not bias:
                raise ValueError("forget_bias needs bias=True")
        super().__init__(
            LSTMCell(),
            input_size,
            hidden_size,
            num_layers,
            bidirectional=bidirectional,
            bias=bias,
            dropout=dropout,
            proj_size=proj_size,
            batch_first=batch_first,
            backend=backend,
            dtype=dtype,
            seed=seed,
        )
        if forget_bias is not None:
            self._fill_gate("input_bias", self.cell.input_gates, "f", forget_bias)
            self._fill_gate("recurrent_bias", self.cell.recurrent_gates, "f", 0.0)
        if params is not None:
            self.load_state_dict(params)
