"""The simple recurrent cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recurray import checks
from recurray.activations import activation
from recurray.arrays import Array
from recurray.cells.cell import Cell, CellGradients
from recurray.cells.gate import function_of, gate, gate_slope


@dataclass(frozen=True)
class RNNCell(Cell):
    """A simple recurrent network: h = tanh(W x + b + U h_prev + b'), or another function in place of tanh.

    Parameters
    ----------
    nonlinearity : str, tuple or mapping
        The function; see `recurray.activations.activation`.
    gate_clip : float, optional
        The sum is clamped to [-gate_clip, gate_clip]. What is clamped has no gradient.

    References
    ----------
    Elman, "Finding structure in time", Cognitive Science 14(2), 1990.
    """

    nonlinearity: Any = "tanh"
    gate_clip: float | None = None

    input_gates = recurrent_gates = ("a",)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "nonlinearity", activation(self.nonlinearity, "nonlinearity").spec)
        checks.bound("gate_clip", self.gate_clip)

    def step(self, x: Any, h: Any, before: Any, params: Any) -> tuple[dict[str, Array], dict[str, Array]]:
        """One step from h to h."""
        saved: dict[str, Array] = {}
        y = gate("y", x.a + h.a, function_of(self.nonlinearity), self.gate_clip, saved)
        return {"h": y}, saved

    def step_backward(self, d: Any, saved: Any, before: Any, params: Any) -> CellGradients:
        """The gradient of the sum."""
        da = {"a": gate_slope("y", d.h, function_of(self.nonlinearity), self.gate_clip, saved)}
        return CellGradients(x=da, h=da, before={})
