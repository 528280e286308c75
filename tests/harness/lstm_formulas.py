"""The LSTM and the diagonal LSTM with all their options once more, one number at a time; see `harness.formulas`.

Nothing is shared with the library, not even the split into options: each formula is written out for one unit. The
numbers may be complex, so that `complex_slopes` can differentiate them; what is larger is told by the real part.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from harness import Case, Problem, problem
from harness.formulas import SELU, Results, Row, dot, normal

EPSILON = 1e-5  # layer normalisation's
TINY = 1e-30  # the step of the complex-step derivative


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + cmath.exp(-x)) if x.real > 0 else cmath.exp(x) / (1 + cmath.exp(x))


def _softplus(x: Any) -> Any:
    return x + cmath.log(1 + cmath.exp(-x)) if x.real > 0 else cmath.log(1 + cmath.exp(x))


def _hard_sigmoid(x: Any, alpha: float = 1 / 6, beta: float = 0.5) -> Any:
    y = alpha * x + beta
    return 0.0 if y.real <= 0 else 1.0 if y.real >= 1 else y


FUNCTIONS: dict[str, Callable[..., Any]] = {  # as ONNX has them, but for the defaults
    "identity": lambda x: x,
    "affine": lambda x, alpha=1.0, beta=0.0: alpha * x + beta,
    "relu": lambda x: x if x.real > 0 else 0.0,
    "leaky_relu": lambda x, alpha=0.01: x if x.real > 0 else alpha * x,
    "thresholded_relu": lambda x, alpha=1.0: x if x.real > alpha else 0.0,
    "tanh": cmath.tanh,
    "scaled_tanh": lambda x, alpha=1.7159, beta=2 / 3: alpha * cmath.tanh(beta * x),
    "sigmoid": _sigmoid,
    "hard_sigmoid": _hard_sigmoid,
    "relu6": lambda x: 0.0 if x.real <= 0 else 6.0 if x.real >= 6 else x,
    "hard_tanh": lambda x, alpha=-1.0, beta=1.0: alpha if x.real <= alpha else beta if x.real >= beta else x,
    "selu": lambda x: SELU * (x if x.real > 0 else 1.6732632423543772 * (cmath.exp(x) - 1)),
    "silu": lambda x: x * _sigmoid(x),
    "hard_silu": lambda x: 0.0 if x.real <= -3 else x if x.real >= 3 else x * (x + 3) / 6,
    "gelu": lambda x: x * normal(x),
    "gelu_tanh": lambda x: x * (1 + cmath.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))) / 2,
    "mish": lambda x: x * cmath.tanh(_softplus(x)),
    "exponential": lambda x: cmath.exp(x) if x.real < 709.7 else complex(math.inf, math.inf),
    "elu": lambda x, alpha=1.0: x if x.real > 0 else alpha * (cmath.exp(x) - 1),
    "softsign": lambda x: x / (1 + (x if x.real > 0 else -x)),
    "softplus": _softplus,
}


def function(spec: Any) -> Callable[[Any], Any]:
    name, *parameters = [spec] if isinstance(spec, str) else spec.values() if isinstance(spec, Mapping) else spec
    return lambda x: FUNCTIONS[name](x, *parameters)


def cut(a: Any, bound: float | None) -> Any:
    return a if bound is None or abs(a.real) < bound else math.copysign(bound, a.real)


def normalised(numbers: Row) -> Row:
    mean = sum(numbers) / len(numbers)
    variance = sum((a - mean) ** 2 for a in numbers) / len(numbers)
    return [(a - mean) / cmath.sqrt(variance + EPSILON) for a in numbers]


@dataclass(frozen=True, eq=False)
class Formula:
    """The formula of a layer with options, by the names of its constructor; its draws in training are from ``seed``."""

    diagonal: bool
    options: dict[str, Any] = field(default_factory=dict)
    training: bool = True
    seed: int = 3  # as `harness.forward`

    def option(self, name: str, default: Any = None) -> Any:
        return self.options.get(name, default)

    @property
    def gates(self) -> str:
        return "igo" if self.option("coupled") else "ifgo"

    def __call__(self, params: dict[str, np.ndarray], x: Any, start: dict[str, np.ndarray], lengths: Any) -> Results:
        """Layers, directions and projections are those that the params' names tell of."""
        first = "weight_in" if self.diagonal else "weight_ih"
        layers = sum(name.startswith(first) and not name.endswith("reverse") for name in params)
        directions = 2 if "weight_ih_l0_reverse" in params else 1
        batch, steps = x.shape[:2]
        lengths = [steps] * batch if lengths is None else lengths
        rng, x = np.random.default_rng(self.seed), x.tolist()
        ends: dict[str, list[list[Row]]] = {"h": [], "c": []}
        for layer in range(layers):
            below, x = x, [[[] for _ in range(steps)] for _ in range(batch)]
            for direction in range(directions):
                suffix = "" if self.diagonal else f"_l{layer}" + "_reverse" * direction
                own = {name.removesuffix(suffix): a for name, a in params.items() if self.belongs(name, suffix)}
                place = layer * directions + direction
                starts = [[start[name][place, row].tolist() for name in "hc"] for row in range(batch)]
                draws = self.draws(rng, own, steps, batch, len(starts[0][0]), len(starts[0][1]))
                last = []
                for row in range(batch):
                    order = range(lengths[row])[:: -1 if direction else 1]
                    outputs, h, c = self.row(own, draws, row, below[row], *starts[row], order)
                    last.append((h, c))
                    for t in range(steps):
                        x[row][t] = x[row][t] + outputs.get(t, [0.0] * len(h))
                for k, name in enumerate("hc"):
                    ends[name].append([state[k] for state in last])
        return np.asarray(x), {name: np.asarray(value) for name, value in ends.items()}

    def belongs(self, name: str, suffix: str) -> bool:
        return self.diagonal or (name.endswith(suffix) and not name.startswith("start_"))

    def draws(
        self, rng: np.random.Generator, own: dict[str, np.ndarray], steps: int, batch: int, width: int, size: int
    ) -> dict[str, Any]:
        """What a direction draws, in the order in which it does: recurrent weights, outputs, zoneout of h and of c."""
        drawn: dict[str, Any] = {}
        weights = own["w" if self.diagonal else "weight_hh"].shape
        for name, option, shape in (
            ("weights", "weight_dropout", weights),
            ("outputs", "recurrent_dropout", (batch, width)),
        ):
            drop = self.option(option, 0.0) if self.training else 0.0
            kept = rng.random(shape, dtype=np.float32) >= np.float32(drop) if drop else np.ones(shape)
            drawn[name] = kept / (1 - drop)
        for name in ("zoneout_h", "zoneout_c"):
            keep = self.option(name, 0.0)
            drawn[name] = np.full((steps, batch, size), keep)
            if keep and self.training:
                drawn[name] = rng.random((steps, batch, size), dtype=np.float32) >= np.float32(1 - keep)
        return drawn

    def row(
        self, own: Any, draws: Any, row: int, x: list[Row], h: Row, c: Row, order: Any
    ) -> tuple[dict[int, Row], Row, Row]:
        """One row of a batch: the outputs by step, and the last h and c."""
        outputs = {}
        preactivations = self.diagonal_preactivations if self.diagonal else self.preactivations
        projection = own["weight_hr"].tolist() if "weight_hr" in own else None
        for t in order:
            a = preactivations(own, draws, row, x[t], h)
            h_new, c_new = self.memory(own, a, c)
            for unit in range(len(c)):
                keep_h, keep_c = (float(draws[name][t, row, unit]) for name in ("zoneout_h", "zoneout_c"))
                c_new[unit] = keep_c * c[unit] + (1 - keep_c) * c_new[unit]
                if projection is None:
                    h_new[unit] = keep_h * h[unit] + (1 - keep_h) * h_new[unit]
            h, c = h_new if projection is None else [dot(weights, h_new) for weights in projection], c_new
            outputs[t] = h
        return outputs, h, c

    def preactivations(self, own: Any, draws: Any, row: int, x: Row, h: Row) -> dict[str, Row]:
        across = (own["weight_hh"] * draws["weights"]).tolist()
        heard = [a * b for a, b in zip(h, draws["outputs"][row].tolist(), strict=True)]
        of_x, of_h = [dot(weights, x) for weights in own["weight_ih"].tolist()], [dot(w, heard) for w in across]
        size = len(across) // len(self.gates)
        if self.option("layer_norm"):
            gain_x, gain_h, bias = (own[name].reshape(-1).tolist() for name in ("gamma_x", "gamma_h", "bias"))
            of_x = [gain * a for gain, a in zip(gain_x, normalised(of_x), strict=True)]
            of_h = [gain * a for gain, a in zip(gain_h, normalised(of_h), strict=True)]
        else:
            zero = np.zeros(len(across))
            bias = (own.get("bias_ih", zero) + own.get("bias_hh", zero)).tolist()
        a = [p + q + b for p, q, b in zip(of_x, of_h, bias, strict=True)]
        return {gate: a[k * size : (k + 1) * size] for k, gate in enumerate(self.gates)}

    def diagonal_preactivations(self, own: Any, draws: Any, row: int, x: Row, h: Row) -> dict[str, Row]:
        of_x = [dot(weights, x) for weights in own["weight_in"].tolist()]
        heard = [a * b for a, b in zip(h, draws["outputs"][row].tolist(), strict=True)]
        if self.option("layer_norm"):
            of_x = normalised(of_x)
        gates, size = self.gates, len(h)
        gains = own["u"] if "u" in own else own.get("gamma_x", np.ones((len(gates), size)))
        w = own["w"] * draws["weights"]
        return {
            gate: [
                gains[k, unit] * of_x[unit if "u" in own else k * size + unit]
                + w[k, unit] * heard[unit]
                + own["b"][k, unit]
                for unit in range(size)
            ]
            for k, gate in enumerate(gates)
        }

    def memory(self, own: Any, a: dict[str, Row], c: Row) -> tuple[Row, Row]:
        """From the pre-activations, less the peepholes, and c to the next h and c."""
        of_gates = self.option("gate_activation", "sigmoid")
        if not isinstance(of_gates, Mapping) or "name" in of_gates:
            of_gates = dict.fromkeys("ifo", of_gates)
        functions = {gate: function(of_gates.get(gate, "sigmoid")) for gate in "ifo"}
        of_g, of_c = (function(self.option(name, "tanh")) for name in ("cell_activation", "output_activation"))
        seers = [gate for gate in self.gates if gate != "g"]
        peephole = {gate: own["peephole"][k] for k, gate in enumerate(seers)} if "peephole" in own else {}
        bound = self.option("gate_clip")

        def gate(name: str, unit: int, seen: Any) -> Any:
            weight = peephole[name][unit] if name in peephole else 0.0
            return functions[name](cut(a[name][unit] + weight * seen, bound))

        c_new, o = [], []
        for unit, old in enumerate(c):
            i = gate("i", unit, old)
            f = 1 - i if self.option("coupled") else gate("f", unit, old)
            new = cut(f * old + i * of_g(cut(a["g"][unit], bound)), self.option("cell_clip"))
            c_new.append(new)
            o.append(gate("o", unit, new))
        seen = c_new
        if self.option("layer_norm") and not self.diagonal:
            scaled = zip(own["gamma_c"][0], normalised(c_new), own["beta_c"][0], strict=True)
            seen = [gain * number + shift for gain, number, shift in scaled]
        bound = bound if self.option("clip_output", True) else None
        return [p * of_c(cut(q, bound)) for p, q in zip(o, seen, strict=True)], c_new


@cache
def complex_slopes(case: Case, count: int = 2) -> dict[str, tuple[dict[str, np.ndarray], float]]:
    """The slopes of the case's loss along random directions, each with a part in every element of an array.

    By a name each: the direction, by the name of the array, and the slope, a complex-step derivative of the formula.
    """
    given, rng = problem(case), np.random.default_rng(1)
    slopes = {}
    for name, value in given.arrays().items():
        for k in range(count if value.size else 0):
            direction = rng.standard_normal(value.shape)
            moved = given.with_arrays(given.arrays() | {name: value + 1j * TINY * direction})
            slopes[f"{name} {k}"] = ({name: direction}, loss(case, moved).imag / TINY)
    return slopes


def loss(case: Case, given: Problem) -> Any:
    assert case.formula is not None
    y, end = case.formula(given.params, given.x, given.start, given.which.get("lengths"))
    return np.sum(given.dy * y) + sum(np.sum(given.dend[name] * end[name]) for name in given.dend)


def options_of(rng: np.random.Generator, diagonal: bool) -> Iterator[tuple[str, Any]]:
    """Options at random, all of which can be combined."""

    def perhaps(name: str, chance: float, *values: Any) -> Iterator[tuple[str, Any]]:
        if rng.random() < chance:
            yield name, values[rng.integers(len(values))]

    bounded: list[Any] = [
        "sigmoid",
        "tanh",
        "softsign",
        "hard_sigmoid",
        ("hard_sigmoid", 0.2),
        ("hard_tanh", -0.2, 0.9),
        ("scaled_tanh", 0.9, 1.1),
    ]
    bounded += [{"name": "hard_sigmoid", "alpha": 0.3, "beta": 0.4}]
    functions = ["identity", "relu", "softplus", "elu", "leaky_relu", "scaled_tanh", *bounded]
    functions += [
        "silu",
        "hard_silu",
        "gelu",
        "gelu_tanh",
        "mish",
        "selu",
        "relu6",
        "hard_tanh",
        ("elu", -0.3),
        ("leaky_relu", -0.4),
    ]
    functions += [("leaky_relu", 1.5), ("thresholded_relu", 0.3), ("affine", 0.7, 0.1), ("elu", 0.5)]
    by_gate = {gate: bounded[rng.integers(len(bounded))] for gate in "io" if rng.random() < 0.6}
    for name in ("peepholes", "coupled", "layer_norm", "learned_state"):
        yield from perhaps(name, 0.4, True)
    yield from perhaps("cell_clip", 0.3, 0.3, 0.8)
    for name, bound in perhaps("gate_clip", 0.3, 0.4, 1.0):
        yield name, bound
        yield from perhaps("clip_output", 0.5, False)
    yield from perhaps("recurrent_dropout", 0.2, 0.3)
    yield from perhaps("weight_dropout", 0.2, 0.3)
    yield from perhaps("zoneout_c", 0.3, 0.2, 0.5)
    yield from perhaps("gate_activation", 0.4, "hard_sigmoid", "softsign", by_gate or "tanh")
    yield from perhaps("cell_activation", 0.4, *functions)
    yield from perhaps("output_activation", 0.4, *functions)
    if diagonal:
        yield from perhaps("projection", 0.5, "per_gate")
        yield from perhaps("zoneout_h", 0.3, 0.2, 0.5)
        return
    yield from perhaps("num_layers", 0.3, 2)
    yield from perhaps("bidirectional", 0.3, True)
    projected = rng.random() < 0.3
    yield from perhaps("proj_size" if projected else "zoneout_h", 1.0 if projected else 0.3, 2 if projected else 0.3)


def variant(name: str, make: Any, options: dict[str, Any], *, ragged: bool = False) -> Case:
    """A case for a layer of 2 features and 3 units."""
    import recurray as rr

    def layer(**given: Any) -> rr.Layer:
        return make(2, 3, seed=0, **options, **given)

    formula = Formula(make is rr.DiagonalLSTM, options)
    return Case(name, layer, formula, lengths=(3, 0, 5, 1) if ragged else None, batch=4 if ragged else 3)


def every_option() -> Iterator[Case]:
    """Cases for `test_every_layer`, that together have all options."""
    import recurray as rr

    common: dict[str, Any] = {"peepholes": True, "coupled": True, "cell_clip": 0.8, "gate_clip": 0.9, "zoneout_c": 0.3}
    functions = {"gate_activation": "hard_sigmoid", "cell_activation": "softsign", "output_activation": ("elu", 0.5)}
    yield variant("lstm with options", rr.LSTM, {**common, **functions, "proj_size": 2}, ragged=True)
    yield variant("lstm with layer normalisation", rr.LSTM, {"layer_norm": True, "bidirectional": True}, ragged=True)
    yield variant("diagonal with options", rr.DiagonalLSTM, {**common, **functions, "zoneout_h": 0.2}, ragged=True)
    dropouts = {"recurrent_dropout": 0.3, "weight_dropout": 0.3}
    per_gate = {"projection": "per_gate", "layer_norm": True, "zoneout_h": 0.2, **dropouts}
    yield variant("diagonal with layer normalisation", rr.DiagonalLSTM, per_gate)
