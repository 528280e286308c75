"""The recurrences once more, slowly: loops over rows, steps and units in plain Python, one number at a time.

Nothing is shared with the library: no arrays, no split of a product, no masks. The numbers may be complex, so that
`harness.oracles.complex_step` can differentiate them. All are batch first.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

Row = list[Any]  # of numbers
Results = tuple[np.ndarray, dict[str, np.ndarray]]  # the output, the final state


def sigmoid(a: Any) -> Any:
    return 1 / (1 + cmath.exp(-a))


def normal(a: Any) -> complex:
    """The normal distribution's probability of less than a, of which the imaginary part is as small as a step's."""
    a = complex(a)
    density = math.exp(-(a.real**2) / 2) / math.sqrt(2 * math.pi)
    return complex(math.erfc(-a.real / math.sqrt(2)) / 2, a.imag * density)


SELU = 1.0507009873554805  # Klambauer et al.'s


def dot(a: Row, b: Row) -> Any:
    assert len(a) == len(b)
    return sum(p * q for p, q in zip(a, b, strict=True))


def run_row(
    gates: Callable[[Row, Row], dict[str, Row]], x: list[Row], h: Row, c: Row, order: Iterable[int], projection: Any
) -> tuple[dict[int, Row], Row, Row]:
    """One row of a batch through an LSTM: the outputs by step, and the last h and c."""
    outputs = {}
    for t in order:
        a = gates(x[t], h)
        c_new, h_new = [], []
        for unit in range(len(c)):
            i, f, o = sigmoid(a["i"][unit]), sigmoid(a["f"][unit]), sigmoid(a["o"][unit])
            c_new.append(f * c[unit] + i * cmath.tanh(a["g"][unit]))
            h_new.append(o * cmath.tanh(c_new[unit]))
        c = c_new
        h = h_new if projection is None else [dot(row, h_new) for row in projection]
        outputs[t] = h
    return outputs, h, c


def lstm(params: dict[str, np.ndarray], x: Any, start: dict[str, np.ndarray], lengths: Any) -> Results:
    """The LSTM by PyTorch's names: layers, directions, biases and projections are those that the names tell of."""
    layers = sum(name.startswith("weight_ih") and not name.endswith("reverse") for name in params)
    directions = 2 if "weight_ih_l0_reverse" in params else 1
    batch, steps = x.shape[:2]
    lengths = [steps] * batch if lengths is None else lengths
    h0, c0 = start["h"].tolist(), start["c"].tolist()
    x = x.tolist()
    h_end, c_end = [], []
    for layer in range(layers):
        below, x = x, [[[] for _ in range(steps)] for _ in range(batch)]
        for direction in range(directions):
            suffix = f"_l{layer}" + "_reverse" * direction
            w_ih, w_hh = params[f"weight_ih{suffix}"].tolist(), params[f"weight_hh{suffix}"].tolist()
            zero = [0.0] * len(w_ih)
            b_ih, b_hh = (
                params[name].tolist() if name in params else zero for name in (f"bias_ih{suffix}", f"bias_hh{suffix}")
            )
            projection = params[f"weight_hr{suffix}"].tolist() if f"weight_hr{suffix}" in params else None
            size = len(w_ih) // 4
            width = size if projection is None else len(projection)

            def gates(x_t: Row, h: Row, w_ih=w_ih, w_hh=w_hh, b_ih=b_ih, b_hh=b_hh, size=size) -> dict[str, Row]:
                a = [dot(w_ih[k], x_t) + b_ih[k] + dot(w_hh[k], h) + b_hh[k] for k in range(4 * size)]
                return {"i": a[:size], "f": a[size : 2 * size], "g": a[2 * size : 3 * size], "o": a[3 * size :]}

            place = layer * directions + direction
            ends = []
            for row in range(batch):
                order = range(lengths[row])
                if direction:
                    order = order[::-1]
                outputs, *end = run_row(gates, below[row], h0[place][row], c0[place][row], order, projection)
                ends.append(end)
                for t in range(steps):
                    x[row][t] = x[row][t] + outputs.get(t, [0.0] * width)
            h_end.append([h for h, _ in ends])
            c_end.append([c for _, c in ends])
    return np.asarray(x), {"h": np.asarray(h_end), "c": np.asarray(c_end)}


def diagonal_lstm(params: dict[str, np.ndarray], x: Any, start: dict[str, np.ndarray], lengths: Any) -> Results:
    """The diagonal LSTM, with one projection for all gates where there is a ``u``."""
    batch, steps = x.shape[:2]
    lengths = [steps] * batch if lengths is None else lengths
    weight, w, b = (params[name].tolist() for name in ("weight_in", "w", "b"))
    u = params["u"].tolist() if "u" in params else None
    size = len(w[0])

    def gates(x_t: Row, h: Row) -> dict[str, Row]:
        result = {}
        for k, gate in enumerate("ifgo"):
            result[gate] = []
            for unit in range(size):
                driven = dot(weight[k * size + unit], x_t) if u is None else u[k][unit] * dot(weight[unit], x_t)
                result[gate].append(driven + w[k][unit] * h[unit] + b[k][unit])
        return result

    rows, ends = x.tolist(), []
    y = [[[0.0] * size for _ in range(steps)] for _ in range(batch)]
    for row in range(batch):
        h, c = start["h"][0, row].tolist(), start["c"][0, row].tolist()
        outputs, *end = run_row(gates, rows[row], h, c, range(lengths[row]), None)
        ends.append(end)
        for t, output in outputs.items():
            y[row][t] = output
    return np.asarray(y), {"h": np.asarray([[h for h, _ in ends]]), "c": np.asarray([[c for _, c in ends]])}


def last(params: dict[str, np.ndarray], x: Any, start: dict[str, np.ndarray], lengths: Any) -> Results:
    """Each row's last valid step, the start state where there is none."""
    lengths = [x.shape[1]] * x.shape[0] if lengths is None else lengths
    y = [x[row, length - 1] if length else start["h"][0, row] for row, length in enumerate(lengths)]
    return np.asarray(y), {"h": np.asarray([y])}


def final(mask: tuple[str, ...], *runs_back: bool) -> Callable[..., Results]:
    """A formula for the final output of each direction; what a row starts with where no step is valid."""

    def ends(params: dict[str, np.ndarray], x: Any, start: dict[str, np.ndarray], lengths: Any) -> Results:
        size, y = x.shape[2] // len(runs_back), start["h"][0].astype(complex)
        for row, steps in enumerate(chosen(mask, x)):
            for place, reverse in enumerate(runs_back):
                part = slice(place * size, (place + 1) * size)
                if steps:
                    y[row, part] = x[row, min(steps) if reverse else max(steps), part]
        return y, {"h": y[None]}

    return ends


def mean(mask: tuple[str, ...]) -> Callable[..., Results]:
    """A formula for the mean, from that of the steps before and their number."""

    def pooled(params: dict[str, np.ndarray], x: Any, start: dict[str, np.ndarray], lengths: Any) -> Results:
        rows, counts = [], []
        for row, steps in enumerate(chosen(mask, x)):
            before, count = start["h"][0, row], start["c"][0, row]
            counts.append(count + len(steps))
            rows.append((before * count + sum(x[row, t] for t in steps)) / counts[-1])
        return np.stack(rows), {"h": np.stack(rows)[None], "c": np.stack(counts)[None]}

    return pooled


def largest(mask: tuple[str, ...]) -> Callable[..., Results]:
    """A formula for the largest step, that of the steps before included."""

    def pooled(params: dict[str, np.ndarray], x: Any, start: dict[str, np.ndarray], lengths: Any) -> Results:
        y = start["h"][0].astype(complex)
        for row, steps in enumerate(chosen(mask, x)):
            for t in steps:
                y[row] = np.where(x[row, t].real > y[row].real, x[row, t], y[row])
        return y, {"h": y[None]}

    return pooled


def chosen(mask: tuple[str, ...], x: Any) -> list[list[int]]:
    """The valid steps of each row."""
    return [[t for t in range(x.shape[1]) if letters[t] == "1"] for letters in mask[: x.shape[0]]]


def linear(params: dict[str, np.ndarray], x: Any, start: dict[str, np.ndarray], lengths: Any) -> Results:
    y = np.einsum("bti,oi->bto", x, params["weight"])
    return y + params.get("bias", 0.0), {}


def embedding(params: dict[str, np.ndarray], x: Any, start: dict[str, np.ndarray], lengths: Any) -> Results:
    return np.asarray([[params["weight"][index] for index in row] for row in x]), {}


def layer_norm(params: dict[str, np.ndarray], x: Any, start: dict[str, np.ndarray], lengths: Any) -> Results:
    centred = x - x.sum(axis=-1, keepdims=True) / x.shape[-1]
    variance = (centred**2).sum(axis=-1, keepdims=True) / x.shape[-1]
    return centred / np.sqrt(variance + 1e-5) * params["weight"] + params["bias"], {}


def merge(mode: str) -> Callable[..., Results]:
    """A formula for the two halves of the last axis, made one feature at a time."""
    ways = {"sum": lambda a, b: a + b, "ave": lambda a, b: (a + b) / 2, "mul": lambda a, b: a * b}

    def merged(params: dict[str, np.ndarray], x: Any, start: dict[str, np.ndarray], lengths: Any) -> Results:
        size = x.shape[-1] // 2
        pairs = [ways[mode](x[..., feature], x[..., feature + size]) for feature in range(size)]
        return np.stack(pairs, axis=-1), {}

    return merged


def elementwise(function: Callable[[Any], Any]) -> Callable[..., Results]:
    """A formula for an activation function."""
    return lambda params, x, start, lengths: (function(x), {})


def time_first(formula: Callable[..., Results]) -> Callable[..., Results]:
    """The formula for inputs of the form (time, batch, features); outputs without a time axis stay as they are."""

    def turned(params: Any, x: Any, start: Any, lengths: Any) -> Results:
        y, end = formula(params, x.swapaxes(0, 1), start, lengths)
        return y.swapaxes(0, 1) if y.ndim == x.ndim else y, end

    return turned


ACTIVATIONS: dict[str, Callable[[Any], Any]] = {  # np.where looks at the real part: complex numbers have no order
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "relu": lambda x: np.where(x.real > 0, x, 0),
    "leaky_relu": lambda x: np.where(x.real > 0, x, 0.01 * x),
    "thresholded_relu": lambda x: np.where(x.real > 1, x, 0),
    "elu": lambda x: np.where(x.real > 0, x, np.exp(x) - 1),
    "softplus": lambda x: np.log(1 + np.exp(x)),
    "softsign": lambda x: x / (1 + np.where(x.real > 0, x, -x)),
    "hard_sigmoid": lambda x: np.where(x.real <= -3, 0, np.where(x.real >= 3, 1, x / 6 + 0.5)),
    "scaled_tanh": lambda x: 1.7159 * np.tanh(2 / 3 * x),
    "relu6": lambda x: np.where(x.real <= 0, 0, np.where(x.real >= 6, 6, x)),
    "hard_tanh": lambda x: np.where(x.real <= -1, -1, np.where(x.real >= 1, 1, x)),
    "selu": lambda x: SELU * np.where(x.real > 0, x, 1.6732632423543772 * (np.exp(x) - 1)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "hard_silu": lambda x: np.where(x.real <= -3, 0, np.where(x.real >= 3, x, x * (x + 3) / 6)),
    "gelu": lambda x: x * np.vectorize(normal, otypes=[complex])(x),
    "gelu_tanh": lambda x: x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2,
    "mish": lambda x: x * np.tanh(np.log(1 + np.exp(x))),
    "exponential": np.exp,
    "affine": lambda x: x,
    "identity": lambda x: x,
    "softmax": lambda x: np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True),
    "log_softmax": lambda x: np.log(np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)),
}
