"""The LSTM layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recurray import checks
from recurray.cells.lstm import LSTMCell
from recurray.layers import lstm_options
from recurray.layers import reverse_activations as in_reverse
from recurray.layers.recurrent import Recurrent


class LSTM(Recurrent):
    r"""Long short-term memory over a batch of sequences.

    For each step of each row, with the logistic sigmoid :math:`\sigma` and elementwise products,

    .. math::
        i, f, o &= \sigma(W_{i,f,o}\, x_t + U_{i,f,o}\, h_{t-1} + b_{i,f,o}) \\
        g &= \tanh(W_g x_t + U_g h_{t-1} + b_g) \\
        c_t &= f c_{t-1} + i g \\
        h_t &= o \tanh(c_t)

    and, where ``proj_size`` is given, :math:`h_t = W_{hr}\, (o \tanh(c_t))`. Options that change this formula can be
    combined, except that ``zoneout_h`` needs an output that isn't projected, and ``layer_norm`` biases.

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
    dropout : float
        The probability that an element of the input of a layer above the first is dropped, in training. With one
        layer it does nothing, of which there is a warning.
    recurrent_dropout : float
        The probability that an element of the output is dropped on its way into the recurrent product, in training:
        the same elements at each step of a sequence [1]_.
    weight_dropout : float
        The probability that a recurrent weight is dropped, in training: the same for all rows and steps of a call [2]_.
    zoneout_h, zoneout_c : float
        The probabilities that a unit keeps its h, and its c, of the step before, in training, drawn anew for each unit,
        row and step; in inference it takes the mean of the old and the new in that ratio. The new h comes from the new
        c [3]_.
    proj_size : int
        If not 0, the output is projected to this many features, fewer than ``hidden_size`` [4]_.
    peepholes : bool
        Whether the gates see the memory, each unit its own: :math:`p_i c_{t-1}`, :math:`p_f c_{t-1}` and
        :math:`p_o c_t` are added within :math:`\sigma` [5]_.
    coupled : bool
        Whether :math:`f = 1 - i`. There are then three gates, i g o, and no weights for f [6]_.
    cell_clip : float, optional
        c is clamped to [-cell_clip, cell_clip].
    gate_clip : float, optional
        What goes into every activation is clamped to [-gate_clip, gate_clip]: the gates' sums and, on its way to the
        output, c, which itself stays as it is. So ONNX
        describes its attribute clip.
    clip_output : bool
        Whether ``gate_clip`` holds for c on its way to the output; with False it holds for the gates' sums alone, as
        onnxruntime has it.
    layer_norm : bool
        Whether both products, that of all gates with the input and that with the output before, are normalised in each
        row to mean 0 and variance 1, then scaled by ``gamma_x`` and ``gamma_h``, and so is c on its way to the output,
        which becomes :math:`o \tanh(\gamma_c N(c_t) + \beta_c)` [7]_. The bias is then added after the normalisation.
    gate_activation : str, tuple or mapping
        What takes the place of :math:`\sigma`: the name of a function, or its name and parameters, as in
        ``("leaky_relu", 0.1)``; see `recurray.activations.activation`. For single gates: ``{"i": "hard_sigmoid"}``.
    cell_activation, output_activation : str or tuple
        What takes the place of the first and the second :math:`\tanh`.
    reverse_activations : mapping, optional
        Those of the three activations that are others in the second direction of a bidirectional layer, by name:
        ``{"cell_activation": "relu"}``.
    forget_bias : float, optional
        What the forget gate's biases add up to at the start; a drawn value if omitted. Not together with ``params``,
        which has these biases. A positive one makes the cell remember before it has learned what to forget. Where
        coupled, the input gate's add up to the negative.
    static_size : int
        How many features of each row don't change over time: they come as ``static``; see `recurray.Recurrent`.
    learned_state : bool
        Whether the start state, where none is given, is a param, zero at first, rather than zero.
    recurrent_init : {"uniform", "orthogonal"}
        How the recurrent weights are drawn: as the others, or each gate's block a random orthogonal matrix [8]_.
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
        PyTorch's names, shapes and gate order (i f g o): ``weight_ih_l0`` (4H, I), ``weight_hh_l0`` (4H, R),
        ``bias_ih_l0`` and ``bias_hh_l0`` (4H,), ``weight_hr_l0`` (R, H) where projected; the layer's number, and
        ``_reverse`` for the second direction, at the end. R is ``proj_size`` or H. Where coupled, 3 takes the place of
        4, the gates being i g o. Drawn uniformly from [-1/sqrt(H), 1/sqrt(H)).

        With peepholes ``peephole_l0`` (3, H), rows i f o, or (2, H), rows i o, where coupled, drawn likewise. With
        layer normalisation, in place of the biases, ``gamma_x_l0``, ``gamma_h_l0`` (4, H), ones, ``bias_l0`` (4, H),
        drawn likewise, ``gamma_c_l0`` (1, H), ones, and ``beta_c_l0`` (1, H), zeros. With learned start states
        ``start_h_l0`` (R,), ``start_c_l0`` (H,), zeros.
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
    The LSTM: Hochreiter & Schmidhuber, "Long short-term memory", Neural Computation 9(8), 1997; its forget gate: Gers,
    Schmidhuber & Cummins, "Learning to forget", Neural Computation 12(10), 2000.

    .. [1] Gal & Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks", 2016.
    .. [2] Merity, Keskar & Socher, "Regularizing and optimizing LSTM language models", 2018; after Wan et al.,
       "Regularization of neural networks using DropConnect", 2013.
    .. [3] Krueger et al., "Zoneout: Regularizing RNNs by randomly preserving hidden activations", 2017.
    .. [4] Sak, Senior & Beaufays, "Long short-term memory based recurrent neural network architectures for large
       vocabulary speech recognition", 2014.
    .. [5] Gers & Schmidhuber, "Recurrent nets that time and count", 2000.
    .. [6] Greff et al., "LSTM: A search space odyssey", IEEE Transactions on Neural Networks and Learning Systems
       28(10), 2017.
    .. [7] Ba, Kiros & Hinton, "Layer normalization", 2016.
    .. [8] Saxe, McClelland & Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural
       networks", 2014.

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

    With options:

    >>> lstm = rr.LSTM(3, 5, peepholes=True, layer_norm=True, gate_activation="hard_sigmoid", zoneout_c=0.1, seed=0)
    >>> lstm.params["peephole_l0"].shape, lstm.params["gamma_x_l0"].shape
    ((3, 5), (4, 5))
    >>> rr.check_gradients(lstm).ok
    True
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
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        zoneout_h: float = 0.0,
        zoneout_c: float = 0.0,
        proj_size: int = 0,
        peepholes: bool = False,
        coupled: bool = False,
        cell_clip: float | None = None,
        gate_clip: float | None = None,
        clip_output: bool = True,
        layer_norm: bool = False,
        gate_activation: Any = "sigmoid",
        cell_activation: Any = "tanh",
        output_activation: Any = "tanh",
        reverse_activations: Mapping[str, Any] | None = None,
        forget_bias: float | None = None,
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
        vars(self).update(given := lstm_options.of_cell(locals()))
        cell = lstm_options.make_cell(LSTMCell, given)
        other = in_reverse.checked(reverse_activations, lstm_options.ACTIVATIONS, bidirectional)
        self.reverse_activations = other
        bias = checks.flag("bias", bias)
        if forget_bias is not None:
            forget_bias = checks.finite("forget_bias", forget_bias)
            if params is not None:
                raise ValueError("forget_bias says how a bias starts, but params replaces it: give one of the two")
            if not bias:
                raise ValueError("forget_bias needs bias=True")
        if layer_norm and not bias:
            raise ValueError("layer_norm needs bias=True")
        super().__init__(
            cell,
            input_size,
            hidden_size,
            num_layers,
            bidirectional=bidirectional,
            reverse=reverse,
            bias=bias and not layer_norm,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            weight_dropout=weight_dropout,
            proj_size=proj_size,
            static_size=static_size,
            learned_state=learned_state,
            recurrent_init=recurrent_init,
            recompute=recompute,
            batch_first=batch_first,
            backend=backend,
            dtype=dtype,
            seed=seed,
            params=params,
            reverse_cell=lstm_options.make_cell(LSTMCell, given | other) if other else None,
        )
        self.bias = bias
        if params is None:
            lstm_options.start_neutral(self.params)
        if forget_bias is not None:
            gate, value = ("i", -forget_bias) if coupled else ("f", forget_bias)
            totals = {"bias": value} if layer_norm else {"input_bias": value, "recurrent_bias": 0.0}
            for field, part in totals.items():
                self._param_form.fill_gate(self.params, field, self.cell.input_gates, gate, part)
