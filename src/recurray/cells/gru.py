"""The gated recurrent unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recurray.arrays import Array, sigmoid, tanh
from recurray.cells.cell import Cell, CellGradients


@dataclass(frozen=True)
class GRUCell(Cell):
    """A gated recurrent unit: the reset gate r, the update gate z and the new state n, in PyTorch's order.

    From the products with the input, W x + b, and with the output before, U h + b',

    - r = sigmoid(W_r x + U_r h), z = sigmoid(W_z x + U_z h),
    - n = tanh(W_n x + r (U_n h)), the reset after the product, as cuDNN and PyTorch have it; or
      n = tanh(W_n x + U_n (r h)), the reset before it, as it was published,
    - h = (1 - z) n + z h_prev.

    Parameters
    ----------
    reset_after : bool
        Whether the reset gate acts on the product with the output before, rather than on that output.

    References
    ----------
    Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical machine translation", 2014.
    There the update gate is 1 - z.
    """

    reset_after: bool = True

    input_gates = recurrent_gates = ("r", "z", "n")

    @property
    def inner_gates(self) -> tuple[str, ...]:
        """The new state, where its product is with the output after the reset."""
        return () if self.reset_after else ("n",)

    def step(self, x: Any, h: Any, before: Any, params: Any) -> tuple[dict[str, Array], dict[str, Array]]:
        """One step from h, by way of the gates, to h."""
        r, z = sigmoid(x.r + h.r), sigmoid(x.z + h.z)
        n = tanh(x.n + r * h.n) if self.reset_after else tanh(x.n + h.n)
        saved = {"r": r, "z": z, "n": n}
        return {"h": n + z * (before.h - n)}, saved | {"h_n": h.n} if self.reset_after else saved

    def step_backward(self, d: Any, saved: Any, before: Any, params: Any) -> CellGradients:
        """Gradients of the gates' pre-activations and of h before the step."""
        r, z, n = saved.r, saved.z, saved.n
        slope = (1 - z) * (1 - n * n)  # of h by n's pre-activation
        da_z = d.h * ((before.h - n) * (z * (1 - z)))
        da_n = d.h * slope
        if not self.reset_after:  # the rest is inner_backward's
            return CellGradients(x={"z": da_z, "n": da_n}, h={"z": da_z, "n": da_n}, before={"h": d.h * z})
        da_r = d.h * (slope * (saved.h_n * (r * (1 - r))))
        dh_n = d.h * (slope * r)
        return CellGradients(
            x={"r": da_r, "z": da_z, "n": da_n}, h={"r": da_r, "z": da_z, "n": dh_n}, before={"h": d.h * z}
        )

    def inner(self, x: Any, h: Any, before: Any, params: Any) -> Array:
        """The output before, after the reset."""
        return sigmoid(x.r + h.r) * before.h

    def inner_backward(self, d: Array, saved: Any, before: Any, params: Any) -> CellGradients:
        """Gradients of the reset gate's pre-activation and of h before the step."""
        r = saved.r
        da_r = d * (before.h * (r * (1 - r)))
        return CellGradients(x={"r": da_r}, h={"r": da_r}, before={"h": d * r})
