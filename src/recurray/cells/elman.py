"""The simple recurrent cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recurray.activations import activation
from recurray.arrays import Array
from recurray.cells.cell import Cell, CellGradients


@dataclass(frozen=True)
class RNNCell(Cell):
    """A simple recurrent network: h = tanh(W x + b + U h_prev + b'), or another function in place of tanh.

    Parameters
    ----------
    nonlinearity : str, tuple or mapping
        The function; see `recurray.activations.activation`.

    References
    ----------
    Elman, "Finding structure in time", Cognitive Science 14(2), 1990.
    """

    nonlinearity: Any = "tanh"

    input_gates = recurrent_gates = ("a",)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "nonlinearity", activation(self.nonlinearity, "nonlinearity").spec)

    def step(self, x: Any, h: Any, before: Any, params: Any) -> tuple[dict[str, Array], dict[str, Array]]:
        """One step from h to h."""
        y = activation(self.nonlinearity).forward(x.a + h.a)
        return {"h": y}, {"y": y}

    def step_backward(self, d: Any, saved: Any, before: Any, params: Any) -> CellGradients:
        """The gradient of the sum."""
        da = {"a": activation(self.nonlinearity).backward(d.h, saved.y)}
        return CellGradients(x=da, h=da, before={})
