"""The LSTM with forget gate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recurray.arrays import Array, sigmoid, tanh
from recurray.cells.cell import Cell, CellGradients


@dataclass(frozen=True)
class LSTMCell(Cell):
    """Long short-term memory, gates i f g o as in PyTorch.

    References
    ----------
    Hochreiter & Schmidhuber, "Long short-term memory", Neural Computation 9(8), 1997; the forget gate: Gers,
    Schmidhuber & Cummins, "Learning to forget", Neural Computation 12(10), 2000.
    """

    input_gates = recurrent_gates = ("i", "f", "g", "o")
    states = ("h", "c")

    def step(self, x: Any, h: Any, before: Any, params: Any) -> tuple[dict[str, Array], dict[str, Array]]:
        """One step from c, by way of the gates, to h and c."""
        i, f = sigmoid(x.i + h.i), sigmoid(x.f + h.f)
        g, o = tanh(x.g + h.g), sigmoid(x.o + h.o)
        return lstm_update(i, f, g, o, before.c)

    def step_backward(self, d: Any, saved: Any, before: Any, params: Any) -> CellGradients:
        """Gradients of the gates' pre-activations and of c before the step."""
        da, dc = lstm_update_backward(d, saved, before.c)
        return CellGradients(x=da, h=da, before={"c": dc})


def lstm_update(i: Array, f: Array, g: Array, o: Array, c_prev: Array) -> tuple[dict[str, Array], dict[str, Array]]:
    """From the activated gates to the new states: c = f c_prev + i g, h = o tanh(c)."""
    c = f * c_prev + i * g
    tanh_c = tanh(c)
    return {"h": o * tanh_c, "c": c}, {"i": i, "f": f, "g": g, "o": o, "tanh_c": tanh_c}


def lstm_update_backward(d: Any, saved: Any, c_prev: Array) -> tuple[dict[str, Array], Array]:
    """From the gradients of h and c to those of the gates' pre-activations and of c_prev."""
    i, f, g, o, tanh_c = saved.i, saved.f, saved.g, saved.o, saved.tanh_c
    dc = d.c + d.h * (o * (1 - tanh_c * tanh_c))
    da = {
        "i": dc * (g * (i * (1 - i))),
        "f": dc * (c_prev * (f * (1 - f))),
        "g": dc * (i * (1 - g * g)),
        "o": d.h * (tanh_c * (o * (1 - o))),
    }
    return da, dc * f
