"""The diagonal LSTM layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from recurray.cells.diagonal_lstm import DiagonalLSTMCell
from recurray.layers import checks
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
    projection : {"shared", "per_gate"}
        Whether the gates share one product with the input.
    batch_first : bool
        Whether arrays are (batch, time, features) rather than (time, batch, features).
    backend, dtype, seed, forget_bias, params
        As in `LSTM`.

    Attributes
    ----------
    params : dict of str to array
        ``weight_in`` (H, I) shared or (4H, I) per gate, ``u`` (4, H) with the shared projection only, ``w`` (4, H),
        ``b`` (4, H); gates i f g o. Drawn uniformly from [-1/sqrt(H), 1/sqrt(H)).

    Raises
    ------
    ValueError, TypeError
        A size, an option or a param is of the wrong kind.
    BackendUnavailableError
        The backend can't run on this machine.

    References
    ----------
    Danieli et al., "ParaRNN: Unlocking parallel training of nonlinear RNNs for large language models", 2025.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> layer = rr.DiagonalLSTM(3, 5, seed=0)
    >>> layer
    DiagonalLSTM(3, 5, projection='shared', backend='numpy', dtype='float32')  # 75 params
    >>> y, state = layer(np.ones((2, 7, 3), dtype="float32"))
    >>> y.shape, state.c.shape
    ((2, 7, 5), (1, 2, 5))
    """

    _names: ClassVar[Mapping[str, str]] = {"input": "weight_in"}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        projection: str = "shared",
        batch_first: bool = True,
        backend: Any = None,
        dtype: Any = "float32",
        seed: Any = None,
        forget_bias: float | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        self.projection = checks.choice("projection", projection, ("shared", "per_gate"))
        if forget_bias is not None:
            forget_bias = checks.number("forget_bias", forget_bias)
        super().__init__(
            DiagonalLSTMCell(shared=projection == "shared"),
            input_size,
            hidden_size,
            bias=False,  # the cell has its own, b
            batch_first=batch_first,
            backend=backend,
            dtype=dtype,
            seed=seed,
        )
        if forget_bias is not None:
            self._fill_gate("b", self.cell.pointwise["b"], "f", forget_bias)
        if params is not None:
            self.load_state_dict(params)

    def _name(self, field: str, layer: int, direction: int) -> str:
        return self._names.get(field, field)

    def _options(self) -> list[str]:
        options = [str(self.input_size), str(self.hidden_size), f"projection={self.projection!r}"]
        return options if self.batch_first else [*options, "batch_first=False"]
