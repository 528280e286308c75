"""The cells' recurrences once more, slowly, one number at a time; see `harness.formulas`, which has the LSTM's.

The numbers may be complex. What is larger is told by the real part.
"""

from __future__ import annotations

import cmath
from collections.abc import Callable
from typing import Any

import numpy as np

from harness.formulas import Results, Row, dot, sigmoid
from harness.lstm_formulas import cut, function

# What a step is given: the input's products by gate, the product of a gate with any row of numbers, the states before,
# and the cell's own params by name, each a list of rows.
Step = Callable[[dict[str, Row], Callable[[str, Row], Row], dict[str, Row], dict[str, list[Row]]], dict[str, Row]]


def tanh(a: Any) -> Any:
    return cmath.tanh(a)


def relu(a: Any) -> Any:
    return a if a.real > 0 else 0.0


def recurrent(
    step: Step,
    gates: str,
    across: str,
    states: tuple[str, ...] = ("h",),
    own: tuple[str, ...] = (),
    recurrent_dropout: float = 0.0,
    zoneout_h: float = 0.0,
    reverse_step: Step | None = None,
) -> Any:
    """A formula, for all layers and directions that the params' names tell of, from one step of one row.

    ``gates`` are those of the input, ``across`` those of the product with the output before. With dropout or zoneout it
    is the formula in training, drawn as `harness.forward` has it drawn. The second direction's step is ``reverse_step``
    where that is given.
    """

    def formula(params: dict[str, np.ndarray], x: Any, start: dict[str, np.ndarray], lengths: Any) -> Results:
        layers = sum(name.startswith("weight_ih") and not name.endswith("reverse") for name in params)
        directions = 2 if "weight_ih_l0_reverse" in params else 1
        batch, steps = x.shape[:2]
        lengths = [steps] * batch if lengths is None else lengths
        x = x.tolist()
        ends: dict[str, list[list[Row]]] = {name: [] for name in states}
        rng = np.random.default_rng(3)

        def kept(shape: tuple[int, ...], drop: float) -> np.ndarray:
            return rng.random(shape, dtype=np.float32) >= np.float32(drop) if drop else np.ones(shape)

        for layer in range(layers):
            below, x = x, [[[] for _ in range(steps)] for _ in range(batch)]
            for direction in range(directions):
                suffix = f"_l{layer}" + "_reverse" * direction
                rows = {name: params[f"{name}{suffix}"].tolist() for name in own}
                place, last = layer * directions + direction, {name: [] for name in states}
                size = start["h"].shape[-1]
                heard = (kept((batch, size), recurrent_dropout) / (1 - recurrent_dropout)).tolist()
                stays = kept((steps, batch, size), 1 - zoneout_h) if zoneout_h else np.zeros((steps, batch, size))
                for row in range(batch):
                    now = {name: start[name][place, row].tolist() for name in states}
                    outputs = {}
                    order = range(lengths[row])
                    for t in order[::-1] if direction else order:
                        into = {k: product(params, "ih", suffix, gates, k, below[row][t]) for k in gates}
                        h, some = now["h"], [a * b for a, b in zip(now["h"], heard[row], strict=True)]
                        before = now if across else now | {"h": some}

                        def of_h(k: str, a: Row, s: str = suffix, kept: Row = heard[row]) -> Row:
                            return product(params, "hh", s, across, k, [p * q for p, q in zip(a, kept, strict=True)])

                        taken = reverse_step if direction and reverse_step else step
                        now = taken(into, of_h, before, rows)
                        now["h"] = [h[k] if stays[t, row, k] else new for k, new in enumerate(now["h"])]
                        outputs[t] = now["h"]
                    for name in states:
                        last[name].append(now[name])
                    for t in range(steps):
                        x[row][t] = x[row][t] + outputs.get(t, [0.0] * len(now["h"]))
                for name in states:
                    ends[name].append(last[name])
        return np.asarray(x), {name: np.asarray(value) for name, value in ends.items()}

    return formula


def product(params: dict[str, np.ndarray], kind: str, suffix: str, gates: str, gate: str, a: Row) -> Row:
    """One gate's block of a weight times a row, and its bias."""
    weight = params[f"weight_{kind}{suffix}"].tolist()
    bias = params[f"bias_{kind}{suffix}"].tolist() if f"bias_{kind}{suffix}" in params else [0.0] * len(weight)
    size, k = len(weight) // len(gates), gates.index(gate)
    return [dot(weight[k * size + unit], a) + bias[k * size + unit] for unit in range(size)]


def gru_step(reset_after: bool, gate: Any = "sigmoid", new: Any = "tanh", clip: float | None = None) -> Step:
    """With the specs of two activations, and a bound of what goes into them."""
    of_gate, of_new = function(gate), function(new)

    def step(into: Any, across: Any, before: Any, own: Any) -> dict[str, Row]:
        h = before["h"]
        r = [of_gate(cut(a + b, clip)) for a, b in zip(into["r"], across("r", h), strict=True)]
        z = [of_gate(cut(a + b, clip)) for a, b in zip(into["z"], across("z", h), strict=True)]
        if reset_after:
            across_n = [a * b for a, b in zip(r, across("n", h), strict=True)]
        else:
            across_n = across("n", [a * b for a, b in zip(r, h, strict=True)])
        n = [of_new(cut(a + b, clip)) for a, b in zip(into["n"], across_n, strict=True)]
        return {"h": [(1 - z[k]) * n[k] + z[k] * h[k] for k in range(len(h))]}

    return step


def rnn_step(spec: Any, clip: float | None = None) -> Step:
    of_sum = function(spec)

    def step(into: Any, across: Any, before: Any, own: Any) -> dict[str, Row]:
        return {"h": [of_sum(cut(a + b, clip)) for a, b in zip(into["a"], across("a", before["h"]), strict=True)]}

    return step


def indrnn_step(function: Callable[[Any], Any]) -> Step:
    def step(into: Any, across: Any, before: Any, own: Any) -> dict[str, Row]:
        return {"h": [function(a + u * h) for a, u, h in zip(into["a"], own["u"][0], before["h"], strict=True)]}

    return step


def mgu_step(into: Any, across: Any, before: Any, own: Any) -> dict[str, Row]:
    h = before["h"]
    f = [sigmoid(a + b) for a, b in zip(into["f"], across("f", h), strict=True)]
    gated = [a * b for a, b in zip(f, h, strict=True)]
    n = [tanh(a + b) for a, b in zip(into["n"], across("n", gated), strict=True)]
    return {"h": [(1 - f[k]) * h[k] + f[k] * n[k] for k in range(len(h))]}


def slstm_step(forget_gate: str) -> Step:
    """The equations before they are stabilised: the memory and its normaliser as they are, not divided by exp(m)."""

    def step(into: Any, across: Any, before: Any, own: Any) -> dict[str, Row]:
        h_prev = before["h"]
        a = {k: [p + q for p, q in zip(into[k], across(k, h_prev), strict=True)] for k in "ifzo"}
        after: dict[str, Row] = {name: [] for name in ("h", "c", "n", "m")}
        for unit in range(len(h_prev)):
            c, n, m = (before[name][unit] for name in ("c", "n", "m"))
            i, z, o = cmath.exp(a["i"][unit]), tanh(a["z"][unit]), sigmoid(a["o"][unit])
            f = sigmoid(a["f"][unit]) if forget_gate == "sigmoid" else cmath.exp(a["f"][unit])
            if n.real <= 0:  # holds nothing
                c = n = 0.0
                m = a["i"][unit]
            else:
                c, n = c * cmath.exp(m), n * cmath.exp(m)
                kept = cmath.log(f) + m
                m = kept if kept.real >= a["i"][unit].real else a["i"][unit]
            c, n = f * c + i * z, f * n + i
            after["h"].append(o * c / n)
            after["c"].append(c / cmath.exp(m))
            after["n"].append(n / cmath.exp(m))
            after["m"].append(m)
        return after

    return step


gru = recurrent(gru_step(reset_after=True), "rzn", "rzn")
gru_reset_before = recurrent(gru_step(reset_after=False), "rzn", "rzn")
gru_of_others = recurrent(
    gru_step(True, ("hard_sigmoid", 0.2), "relu", 0.9),
    *("rzn", "rzn"),
    reverse_step=gru_step(True, ("hard_sigmoid", 0.2), "mish", 0.9),
)
gru_reset_before_of_others = recurrent(
    gru_step(False, "softsign", "gelu"), "rzn", "rzn", reverse_step=gru_step(False, "tanh", "gelu_tanh")
)
rnn = recurrent(rnn_step("tanh"), "a", "a")
rnn_relu = recurrent(rnn_step("relu"), "a", "a")
rnn_of_others = recurrent(rnn_step("silu", 0.8), "a", "a", reverse_step=rnn_step(("elu", -0.5), 0.8))
indrnn = recurrent(indrnn_step(relu), "a", "", own=("u",))
indrnn_tanh = recurrent(indrnn_step(tanh), "a", "", own=("u",))
mgu = recurrent(mgu_step, "fn", "fn")
slstm = recurrent(slstm_step("sigmoid"), "ifzo", "ifzo", ("h", "c", "n", "m"))
slstm_exponential = recurrent(slstm_step("exponential"), "ifzo", "ifzo", ("h", "c", "n", "m"))
indrnn_of_two_kinds = recurrent(indrnn_step(relu), "a", "", own=("u",), reverse_step=indrnn_step(tanh))
gru_noisy = recurrent(gru_step(reset_after=True), "rzn", "rzn", recurrent_dropout=0.3, zoneout_h=0.2)
indrnn_noisy = recurrent(indrnn_step(tanh), "a", "", own=("u",), recurrent_dropout=0.3, zoneout_h=0.2)
