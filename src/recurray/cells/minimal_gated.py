"""The minimal gated unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recurray.arrays import Array, sigmoid, tanh
from recurray.cells.cell import Cell, CellGradients


@dataclass(frozen=True)
class MGUCell(Cell):
    """A minimal gated unit, MGU: one gate f, and the new state n.

    From the products with the input, W x + b, and those across, U h + b',

    - f = sigmoid(W_f x + U_f h),
    - n = tanh(W_n x + U_n (f h)),
    - h = (1 - f) h_prev + f n.

    References
    ----------
    Zhou et al., "Minimal gated unit for recurrent neural networks", 2016.

    Examples
    --------
    >>> import recurray as rr
    >>> rr.check_gradients(rr.Recurrent(rr.cells.MGUCell(), 3, 5, seed=0)).ok
    True
    """

    input_gates = recurrent_gates = ("f", "n")
    inner_gates = ("n",)

    def step(self, x: Any, h: Any, before: Any, params: Any) -> tuple[dict[str, Array], dict[str, Array]]:
        """One step from h, by way of the gate and the new state, to h."""
        f, n = sigmoid(x.f + h.f), tanh(x.n + h.n)
        return {"h": before.h + f * (n - before.h)}, {"f": f, "n": n}

    def step_backward(self, d: Any, saved: Any, before: Any, params: Any) -> CellGradients:
        """Gradients of the pre-activations and of h before the step, without those by way of `inner`."""
        f, n = saved.f, saved.n
        da = {"f": d.h * ((n - before.h) * (f * (1 - f))), "n": d.h * (f * (1 - n * n))}
        return CellGradients(x=da, h=da, before={"h": d.h * (1 - f)})

    def inner(self, x: Any, h: Any, before: Any, params: Any) -> Array:
        """The gated output before."""
        return sigmoid(x.f + h.f) * before.h

    def inner_backward(self, d: Array, saved: Any, before: Any, params: Any) -> CellGradients:
        """Gradients of the gate's pre-activation and of h before the step."""
        f = saved.f
        da_f = d * (before.h * (f * (1 - f)))
        return CellGradients(x={"f": da_f}, h={"f": da_f}, before={"h": d * f})
