"""The gated recurrent unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recurray import checks
from recurray.activations import Elementwise, activation
from recurray.arrays import Array
from recurray.cells.cell import Cell, CellGradients
from recurray.cells.gate import function_of, gate, gate_slope


@dataclass(frozen=True)
class GRUCell(Cell):
    """A gated recurrent unit: the reset gate r, the update gate z and the new state n, in PyTorch's order.

    From the products with the input, W x + b, and with the output before, U h + b',

    - r = sigmoid(W_r x + U_r h), z = sigmoid(W_z x + U_z h),
    - n = tanh(W_n x + r (U_n h)), the reset after the product, as cuDNN and PyTorch have it; or
      n = tanh(W_n x + U_n (r h)), the reset before it, as it was published,
    - h = (1 - z) n + z h_prev;

    or with other functions in place of sigmoid and tanh.

    Parameters
    ----------
    reset_after : bool
        Whether the reset gate acts on the product with the output before, rather than on that output.
    gate_activation, cell_activation : str, tuple or mapping
        The functions of r and z, and of n; see `recurray.activations.activation`.
    gate_clip : float, optional
        What goes into each function is clamped to [-gate_clip, gate_clip]. What is clamped has no gradient.

    References
    ----------
    Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical machine translation", 2014.
    There the update gate is 1 - z.
    """

    reset_after: bool = True
    gate_activation: Any = "sigmoid"
    cell_activation: Any = "tanh"
    gate_clip: float | None = None

    input_gates = recurrent_gates = ("r", "z", "n")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("gate_activation", "cell_activation"):
            object.__setattr__(self, name, activation(getattr(self, name), name).spec)
        checks.bound("gate_clip", self.gate_clip)

    @property
    def inner_gates(self) -> tuple[str, ...]:
        """The new state, where its product is with the output after the reset."""
        return () if self.reset_after else ("n",)

    def step(self, x: Any, h: Any, before: Any, params: Any) -> tuple[dict[str, Array], dict[str, Array]]:
        """One step from h, by way of the gates, to h."""
        saved: dict[str, Array] = {}
        r = gate("r", x.r + h.r, *self._function("r"), saved)
        z = gate("z", x.z + h.z, *self._function("z"), saved)
        n = gate("n", x.n + r * h.n if self.reset_after else x.n + h.n, *self._function("n"), saved)
        if self.reset_after:
            saved["h_n"] = h.n
        return {"h": n + z * (before.h - n)}, saved

    def step_backward(self, d: Any, saved: Any, before: Any, params: Any) -> CellGradients:
        """Gradients of the gates' pre-activations and of h before the step."""
        z, n = saved.z, saved.n
        slope = self._slope("n", 1 - z, saved)  # of h by n's pre-activation
        da_z = d.h * self._slope("z", before.h - n, saved)
        da_n = d.h * slope
        if not self.reset_after:  # the rest is inner_backward's
            return CellGradients(x={"z": da_z, "n": da_n}, h={"z": da_z, "n": da_n}, before={"h": d.h * z})
        da_r = d.h * (slope * self._slope("r", saved.h_n, saved))
        dh_n = d.h * (slope * saved.r)
        return CellGradients(
            x={"r": da_r, "z": da_z, "n": da_n}, h={"r": da_r, "z": da_z, "n": dh_n}, before={"h": d.h * z}
        )

    def inner(self, x: Any, h: Any, before: Any, params: Any) -> Array:
        """The output before, after the reset."""
        return gate("r", x.r + h.r, *self._function("r"), {}) * before.h

    def inner_backward(self, d: Array, saved: Any, before: Any, params: Any) -> CellGradients:
        """Gradients of the reset gate's pre-activation and of h before the step."""
        da_r = d * self._slope("r", before.h, saved)
        return CellGradients(x={"r": da_r}, h={"r": da_r}, before={"h": d * saved.r})

    def _slope(self, name: str, factor: Array, saved: Any) -> Array:
        return gate_slope(name, factor, *self._function(name), saved)

    def _function(self, name: str) -> tuple[Elementwise, float | None]:
        """A gate's activation, and the bound of what goes into it."""
        return function_of(self.cell_activation if name == "n" else self.gate_activation), self.gate_clip
