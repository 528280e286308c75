"""The LSTM with forget gate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recurray.arrays import Array
from recurray.cells.cell import CellGradients
from recurray.cells.layer_norm import normalise, normalise_backward
from recurray.cells.lstm_update import Grads, MemoryCell


@dataclass(frozen=True, kw_only=True, repr=False)
class LSTMCell(MemoryCell):
    """Long short-term memory, gates i f g o as in PyTorch.

    The pre-activation of a gate is the sum of its products with the input and the output before.

    Parameters
    ----------
    activations, peepholes, coupled, cell_clip, gate_clip
        See `MemoryCell`.
    layer_norm : bool
        Whether the pre-activations are gamma_x N(W x) + gamma_h N(U h_prev) + bias, and the output is
        o φ_out(gamma_c N(c) + beta_c), where N brings a row of the batch to mean 0 and variance 1: the products of
        all gates together, c by itself. The bias is the cell's own; the products should have none.

    References
    ----------
    Hochreiter & Schmidhuber, "Long short-term memory", Neural Computation 9(8), 1997; the forget gate: Gers,
    Schmidhuber & Cummins, "Learning to forget", Neural Computation 12(10), 2000.
    """

    layer_norm: bool = False

    @property
    def input_gates(self) -> tuple[str, ...]:
        """A product for each gate."""
        return self.gates

    @property
    def recurrent_gates(self) -> tuple[str, ...]:
        """A product for each gate."""
        return self.gates

    @property
    def pointwise(self) -> dict[str, tuple[str, ...]]:
        """The normalisations' gains and shifts, and the peepholes' weights."""
        if not self.layer_norm:
            return super().pointwise
        of_gates = dict.fromkeys(("gamma_x", "gamma_h", "bias"), self.gates)
        return of_gates | dict.fromkeys(("gamma_c", "beta_c"), ("c",)) | super().pointwise

    def step(self, x: Any, h: Any, before: Any, params: Any) -> tuple[dict[str, Array], dict[str, Array]]:
        """One step from c, by way of the gates, to h and c."""
        if not self.layer_norm:
            return self.update({k: getattr(x, k) + getattr(h, k) for k in self.gates}, before, params)
        normal_x, scale_x = normalise({k: getattr(x, k) for k in self.gates})
        normal_h, scale_h = normalise({k: getattr(h, k) for k in self.gates})
        gamma_x, gamma_h, bias = (rows._asdict() for rows in (params.gamma_x, params.gamma_h, params.bias))
        a = {k: (gamma_x[k] * normal_x[k] + bias[k]) + gamma_h[k] * normal_h[k] for k in self.gates}
        after, saved = self.update(a, before, params)
        saved |= {f"x_{k}": normal_x[k] for k in self.gates} | {"scale_x": scale_x}
        saved |= {f"h_{k}": normal_h[k] for k in self.gates} | {"scale_h": scale_h}
        return after, saved

    def step_backward(self, d: Any, saved: Any, before: Any, params: Any) -> CellGradients:
        """Gradients of the gates' products, of c before the step, and of the cell's own params."""
        da, dc, grads = self.update_backward(d, saved, before, params)
        if not self.layer_norm:
            return CellGradients(x=da, h=da, before={"c": dc}, params=grads)
        normal_x, normal_h = ({k: getattr(saved, f"{name}_{k}") for k in da} for name in "xh")
        gamma_x, gamma_h = params.gamma_x._asdict(), params.gamma_h._asdict()
        grads |= {
            "gamma_x": {k: da[k] * normal_x[k] for k in da},
            "gamma_h": {k: da[k] * normal_h[k] for k in da},
            "bias": da,
        }
        return CellGradients(
            x=normalise_backward({k: da[k] * gamma_x[k] for k in da}, normal_x, saved.scale_x),
            h=normalise_backward({k: da[k] * gamma_h[k] for k in da}, normal_h, saved.scale_h),
            before={"c": dc},
            params=grads,
        )

    def _seen(self, c: Array, params: Any, saved: dict[str, Array]) -> Array:
        if not self.layer_norm:
            return c
        normal, saved["scale_c"] = normalise({"c": c})
        saved["normal_c"] = normal["c"]
        return params.gamma_c.c * normal["c"] + params.beta_c.c

    def _seen_backward(self, dh: Array, slope: Array, saved: Any, params: Any) -> tuple[Array, Grads]:
        if not self.layer_norm:
            return dh * slope, {}
        d, normal = dh * slope, saved.normal_c
        dc = normalise_backward({"c": d * params.gamma_c.c}, {"c": normal}, saved.scale_c)["c"]
        return dc, {"gamma_c": {"c": d * normal}, "beta_c": {"c": d}}
