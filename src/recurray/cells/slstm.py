"""The LSTM with exponential gates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recurray import checks
from recurray.arrays import Array, namespace_of, sigmoid, tanh
from recurray.cells.cell import Cell, CellGradients

FAR = 50.0  # exp(-FAR) is nothing beside 1, in float64 too; what is smaller would only underflow
NOTHING = 2e-22  # exp(-FAR), and a little more
MUCH = 1e30  # times an n after any step, which is at least about 1, it is far beyond any pre-activation


@dataclass(frozen=True)
class SLSTMCell(Cell):
    """The sLSTM of xLSTM: an LSTM whose input gate, and forget gate if wanted, are exponential.

    From the pre-activations a = W x + b + U h + b' of the gates i f z o,

    - i = exp(a_i), f = sigmoid(a_f) or exp(a_f), z = tanh(a_z), o = sigmoid(a_o),
    - C = f C_prev + i z, N = f N_prev + i, h = o C / N.

    C and N would overflow, so the state holds them divided by exp(m), with m = max(log f + m_prev, log i):
    c = C / exp(m), n = N / exp(m). The gates saved are then i = exp(a_i - m) and f = exp(log f + m_prev - m), the
    larger of which is 1. h doesn't depend on m.

    Where n isn't above 0 before a step, as in a start state of zeros, a unit holds nothing yet: the step takes m = a_i,
    c = z, n = 1 whatever c and m are. After a step n is above 0.

    The recurrent weights are full matrices (one head, in the paper's words).

    Parameters
    ----------
    forget_gate : {"sigmoid", "exponential"}
        What the forget gate is of its pre-activation.

    References
    ----------
    Beck et al., "xLSTM: Extended long short-term memory", 2024, equations 8 to 18.

    Examples
    --------
    >>> import recurray as rr
    >>> layer = rr.Recurrent(rr.cells.SLSTMCell(), 3, 5, seed=0)
    >>> layer.state_type._fields
    ('h', 'c', 'n', 'm')
    >>> rr.check_gradients(layer).ok
    True
    """

    forget_gate: str = "sigmoid"

    input_gates = recurrent_gates = ("i", "f", "z", "o")
    states = ("h", "c", "n", "m")

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.choice("forget_gate", self.forget_gate, ("sigmoid", "exponential"))

    def step(self, x: Any, h: Any, before: Any, params: Any) -> tuple[dict[str, Array], dict[str, Array]]:
        """One step from h, c, n, m, by way of the gates, to h, c, n, m."""
        a_i, a_f = x.i + h.i, x.f + h.f
        z, o = tanh(x.z + h.z), sigmoid(x.o + h.o)
        xp = namespace_of(z)
        zero = xp.zeros_like(z)

        kept = (_log_sigmoid(a_f) if self.forget_gate == "sigmoid" else a_f) + before.m
        lead = kept - a_i  # of what is kept over what comes in
        lead = xp.minimum(lead, MUCH * before.n - FAR)  # nothing is kept by a unit that holds nothing
        i, f = _decay(xp.maximum(lead, zero)), _decay(xp.maximum(-lead, zero))
        m = a_i + xp.maximum(lead, zero)

        c, n = f * before.c + i * z, f * before.n + i
        mean = c / n
        saved = {"i": i, "f": f, "z": z, "o": o, "n": n, "mean": mean}
        if self.forget_gate == "sigmoid":
            saved["a_f"] = a_f
        return {"h": o * mean, "c": c, "n": n, "m": m}, saved

    def step_backward(self, d: Any, saved: Any, before: Any, params: Any) -> CellGradients:
        """Gradients of the gates' pre-activations and of c, n, m before the step.

        One of i and f is 1, whatever the pre-activations are; the other is exp(-abs(lead)).
        """
        i, f, z, o, n, mean = saved.i, saved.f, saved.z, saved.o, saved.n, saved.mean
        dc = d.c + d.h * (o / n)
        dn = d.n - d.h * (o * (mean / n))
        by_i = dc * (i * z) + dn * i
        by_f = dc * (f * before.c) + dn * (f * before.n)
        dkept = namespace_of(f).where(f >= 1, d.m - by_i, by_f)
        da = {
            "i": d.m - dkept,
            "f": dkept * sigmoid(-saved.a_f) if self.forget_gate == "sigmoid" else dkept,
            "z": dc * (i * (1 - z * z)),
            "o": d.h * (mean * (o * (1 - o))),
        }
        return CellGradients(x=da, h=da, before={"c": dc * f, "n": dn * f, "m": dkept})


def _log_sigmoid(a: Array) -> Array:
    """Logarithm of the logistic function, without overflow."""
    xp = namespace_of(a)
    zero = xp.zeros_like(a)
    return xp.minimum(a, zero) - xp.log1p(xp.exp(-xp.minimum(xp.abs(a), zero + FAR)))


def _decay(distance: Array) -> Array:
    """The exponential of minus a distance, 0 from FAR on."""
    xp = namespace_of(distance)
    zero = xp.zeros_like(distance)
    return xp.maximum(xp.exp(-xp.minimum(distance, zero + FAR)) - NOTHING, zero)
