"""The LSTM whose units recur on themselves alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recurray.arrays import Array, sigmoid, tanh
from recurray.cells.cell import Cell, CellGradients
from recurray.cells.lstm import lstm_update, lstm_update_backward

GATES = ("i", "f", "g", "o")


@dataclass(frozen=True)
class DiagonalLSTMCell(Cell):
    """An LSTM with diagonal recurrent weights: each unit sees only its own past.

    The pre-activation of gate k is ``u_k z + w_k h_prev + b_k``, where ``z = W x`` is shared by the gates, or
    ``a_k + w_k h_prev + b_k``, where each gate has its own product with x. It equals the full LSTM whose
    recurrent blocks are diag(w_k).

    Parameters
    ----------
    shared : bool
        Whether the four gates share one product with the input.

    References
    ----------
    Danieli et al., "ParaRNN: Unlocking parallel training of nonlinear RNNs for large language models", 2025.
    """

    shared: bool

    states = ("h", "c")

    @property
    def input_gates(self) -> tuple[str, ...]:
        """One product for all gates, or one for each."""
        return ("z",) if self.shared else GATES

    @property
    def pointwise(self) -> dict[str, tuple[str, ...]]:
        """The weights of the input (where the gates share a product), of the recurrence, and the biases."""
        return dict.fromkeys(("u", "w", "b") if self.shared else ("w", "b"), GATES)

    @property
    def recurrent_params(self) -> tuple[str, ...]:
        """The weights of the recurrence."""
        return ("w",)

    def step(self, x: Any, h: Any, before: Any, params: Any) -> tuple[dict[str, Array], dict[str, Array]]:
        """One step from h and c to h and c."""
        w, b = params.w, params.b
        driven = [params.u[k] * x.z for k in range(4)] if self.shared else x
        a_i, a_f, a_g, a_o = (driven[k] + (w[k] * before.h + b[k]) for k in range(4))
        after, saved = lstm_update(sigmoid(a_i), sigmoid(a_f), tanh(a_g), sigmoid(a_o), before.c)
        return after, saved | {"z": x.z} if self.shared else saved

    def step_backward(self, d: Any, saved: Any, before: Any, params: Any) -> CellGradients:
        """Gradients of the input product, of h and c before the step, and of u, w, b."""
        w = params.w
        da, dc = lstm_update_backward(d, saved, before.c)
        dh = da["i"] * w.i + da["f"] * w.f + da["g"] * w.g + da["o"] * w.o
        dparams = {"w": {k: da[k] * before.h for k in GATES}, "b": da}
        if not self.shared:
            return CellGradients(x=da, h={}, before={"h": dh, "c": dc}, params=dparams)
        u = params.u
        dz = da["i"] * u.i + da["f"] * u.f + da["g"] * u.g + da["o"] * u.o
        dparams["u"] = {k: da[k] * saved.z for k in GATES}
        return CellGradients(x={"z": dz}, h={}, before={"h": dh, "c": dc}, params=dparams)
