"""The LSTM whose units recur on themselves alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

from recurray.arrays import Array
from recurray.cells.cell import CellGradients
from recurray.cells.layer_norm import normalise, normalise_backward
from recurray.cells.lstm_update import MemoryCell


@dataclass(frozen=True, repr=False)
class DiagonalLSTMCell(MemoryCell):
    """An LSTM with diagonal recurrent weights: each unit sees only its own past.

    The pre-activation of gate k is ``u_k z + w_k h_prev + b_k``, where ``z = W x`` is shared by the gates, or
    ``a_k + w_k h_prev + b_k``, where each gate has its own product with x. It equals the full LSTM whose
    recurrent blocks are diag(w_k).

    Parameters
    ----------
    shared : bool
        Whether the gates share one product with the input.
    layer_norm : bool
        Whether a row's product with the input is brought to mean 0 and variance 1: z, whose gains are then u; or the
        products of all gates together, which then have the gains gamma_x. What a unit remembers is left alone, so that
        it still sees only its own past.
    activations, peepholes, coupled, cell_clip, gate_clip
        See `MemoryCell`.

    References
    ----------
    Danieli et al., "ParaRNN: Unlocking parallel training of nonlinear RNNs for large language models", 2025.
    """

    shared: bool
    layer_norm: bool = False

    @property
    def input_gates(self) -> tuple[str, ...]:
        """One product for all gates, or one for each."""
        return ("z",) if self.shared else self.gates

    @property
    def pointwise(self) -> dict[str, tuple[str, ...]]:
        """The weights or gains of the input, the weights of the recurrence, the biases, and the peepholes' weights."""
        gains = ("u",) if self.shared else ("gamma_x",) if self.layer_norm else ()
        return dict.fromkeys((*gains, "w", "b"), self.gates) | super().pointwise

    @property
    def recurrent_params(self) -> tuple[str, ...]:
        """The weights of the recurrence."""
        return ("w",)

    @property
    def _gains(self) -> str | None:
        """The param that the input's product is multiplied by, if there is one."""
        return "u" if self.shared else "gamma_x" if self.layer_norm else None

    def step(self, x: Any, h: Any, before: Any, params: Any) -> tuple[dict[str, Array], dict[str, Array]]:
        """One step from h and c to h and c."""
        product, kept = {k: getattr(x, k) for k in self.input_gates}, dict[str, Array]()
        if self.layer_norm:
            product, kept["scale_x"] = normalise(product)
        driven = {k: product["z" if self.shared else k] for k in self.gates}
        if self._gains is not None:
            kept |= {f"x_{k}": value for k, value in product.items()}
            gains = getattr(params, self._gains)._asdict()
            driven = {k: gains[k] * driven[k] for k in self.gates}
        w, b = params.w._asdict(), params.b._asdict()
        a = {k: (driven[k] + b[k]) + w[k] * before.h for k in self.gates}
        after, saved = self.update(a, before, params)
        return after, saved | kept

    def step_backward(self, d: Any, saved: Any, before: Any, params: Any) -> CellGradients:
        """Gradients of the input's product, of h and c before the step, and of the cell's own params."""
        da, dc, grads = self.update_backward(d, saved, before, params)
        w = params.w._asdict()
        dh = total(da[k] * w[k] for k in self.gates)
        grads |= {"w": {k: da[k] * before.h for k in self.gates}, "b": da}
        dx = da
        if self._gains is not None:
            product, gains = (
                {k: getattr(saved, f"x_{k}") for k in self.input_gates},
                getattr(params, self._gains)._asdict(),
            )
            grads[self._gains] = {k: da[k] * product["z" if self.shared else k] for k in self.gates}
            dx = {k: da[k] * gains[k] for k in self.gates}
            if self.shared:
                dx = {"z": total(dx[k] for k in self.gates)}
            if self.layer_norm:
                dx = normalise_backward(dx, product, saved.scale_x)
        return CellGradients(x=dx, h={}, before={"h": dh, "c": dc}, params=grads)


def total(terms: Iterable[Array]) -> Array:
    """The sum of arrays."""
    return reduce(add, terms)
