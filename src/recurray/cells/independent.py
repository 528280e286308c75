"""The recurrent cell whose units are independent of each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recurray.activations import activation
from recurray.arrays import Array
from recurray.cells.cell import Cell, CellGradients
from recurray.cells.gate import function_of, gate, gate_slope


@dataclass(frozen=True)
class IndRNNCell(Cell):
    """An independently recurrent network, IndRNN: h = relu(W x + b + u h_prev), each unit with a weight u of its own.

    Units see each other through the next layer. For sequences of T steps the paper keeps abs(u) at most
    ``2 ** (1 / T)``, so that no unit's gradient explodes.

    Parameters
    ----------
    nonlinearity : str, tuple or mapping
        The function in place of relu; see `recurray.activations.activation`.

    References
    ----------
    Li et al., "Independently recurrent neural network (IndRNN): Building a longer and deeper RNN", 2018.

    Examples
    --------
    >>> import recurray as rr
    >>> layer = rr.Recurrent(rr.cells.IndRNNCell(), 3, 5, num_layers=2, seed=0)
    >>> layer.params["u_l0"].shape
    (1, 5)
    """

    nonlinearity: Any = "relu"

    input_gates = ("a",)
    pointwise = {"u": ("u",)}  # noqa: RUF012 - nobody changes it
    recurrent_params = ("u",)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "nonlinearity", activation(self.nonlinearity, "nonlinearity").spec)

    def step(self, x: Any, h: Any, before: Any, params: Any) -> tuple[dict[str, Array], dict[str, Array]]:
        """One step from h to h."""
        saved: dict[str, Array] = {}
        y = gate("y", x.a + params.u.u * before.h, function_of(self.nonlinearity), None, saved)
        return {"h": y}, saved

    def step_backward(self, d: Any, saved: Any, before: Any, params: Any) -> CellGradients:
        """Gradients of the sum, of h before the step and of u."""
        da = gate_slope("y", d.h, function_of(self.nonlinearity), None, saved)
        return CellGradients(x={"a": da}, h={}, before={"h": da * params.u.u}, params={"u": {"u": da * before.h}})
