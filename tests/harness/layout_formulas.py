"""What other libraries compute with their arrays: a plain loop each, after the source that it names.

Each takes the arrays of one direction by the library's names, x (T, B, I) and start states (B, R) and (B, H), and
returns the outputs (T, B, R).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Array = Any
Arrays = Mapping[str, Array]


def sigmoid(a: Array) -> Array:
    return 1 / (1 + np.exp(-a))


def tf1_lstm(a: Arrays, x: Array, h: Array, c: Array) -> Array:
    """LSTMCell.call of tensorflow/python/ops/rnn_cell_impl.py, with its default forget_bias."""
    outputs = []
    diag = {gate: a.get(f"w_{gate}_diag", 0.0) for gate in "ifo"}
    for step in x:
        i, j, f, o = np.split(np.concatenate([step, h], axis=1) @ a["kernel"] + a["bias"], 4, axis=1)
        c = sigmoid(f + 1.0 + diag["f"] * c) * c + sigmoid(i + diag["i"] * c) * np.tanh(j)
        h = sigmoid(o + diag["o"] * c) * np.tanh(c)
        if "projection/kernel" in a:
            h = h @ a["projection/kernel"]
        outputs.append(h)
    return np.stack(outputs)


def tf1_gru(a: Arrays, x: Array, h: Array, _: Array) -> Array:
    """GRUCell.call of the same."""
    outputs = []
    for step in x:
        value = sigmoid(np.concatenate([step, h], axis=1) @ a["gates/kernel"] + a["gates/bias"])
        r, u = np.split(value, 2, axis=1)
        candidate = np.tanh(np.concatenate([step, r * h], axis=1) @ a["candidate/kernel"] + a["candidate/bias"])
        h = u * h + (1 - u) * candidate
        outputs.append(h)
    return np.stack(outputs)


def tf1_rnn(a: Arrays, x: Array, h: Array, _: Array) -> Array:
    """BasicRNNCell.call of the same."""
    outputs = []
    for step in x:
        h = np.tanh(np.concatenate([step, h], axis=1) @ a["kernel"] + a["bias"])
        outputs.append(h)
    return np.stack(outputs)


def tflite_lstm(a: Arrays, x: Array, h: Array, c: Array) -> Array:
    """LstmStepFloat of tensorflow/lite/kernels/lstm_eval.cc; coupled where the input gate's are missing."""

    def gate(name: str, step: Array, h: Array, memory: Array) -> Array:
        total = step @ a[f"input_to_{name}_weights"].T + h @ a[f"recurrent_to_{name}_weights"].T
        return total + memory * a.get(f"cell_to_{name}_weights", 0.0) + a[f"{name}_gate_bias"]

    outputs = []
    for step in x:
        forget = sigmoid(gate("forget", step, h, c))
        ingate = sigmoid(gate("input", step, h, c)) if "input_to_input_weights" in a else 1 - forget
        c = forget * c + ingate * np.tanh(gate("cell", step, h, 0.0))
        h = sigmoid(gate("output", step, h, c)) * np.tanh(c)
        if "projection_weights" in a:
            h = h @ a["projection_weights"].T
        outputs.append(h)
    return np.stack(outputs)


def tflite_rnn(a: Arrays, x: Array, h: Array, _: Array) -> Array:
    """RnnBatchStep of tensorflow/lite/kernels/internal/kernel_utils.cc, its activation tanh."""
    outputs = []
    for step in x:
        h = np.tanh(step @ a["weights"].T + h @ a["recurrent_weights"].T + a["bias"])
        outputs.append(h)
    return np.stack(outputs)


def paddle_lstm(a: Arrays, x: Array, h: Array, c: Array) -> Array:
    """LSTMCell.forward of paddle/nn/layer/rnn.py."""
    outputs = []
    for step in x:
        gates = step @ a["weight_ih_l0"].T + a["bias_ih_l0"] + h @ a["weight_hh_l0"].T + a["bias_hh_l0"]
        i, f, g, o = np.split(gates, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs)


def paddle_gru(a: Arrays, x: Array, h: Array, _: Array) -> Array:
    """GRUCell.forward of the same."""
    outputs = []
    for step in x:
        x_r, x_z, x_c = np.split(step @ a["weight_ih_l0"].T + a["bias_ih_l0"], 3, axis=1)
        h_r, h_z, h_c = np.split(h @ a["weight_hh_l0"].T + a["bias_hh_l0"], 3, axis=1)
        r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
        candidate = np.tanh(x_c + r * h_c)
        h = (h - candidate) * z + candidate
        outputs.append(h)
    return np.stack(outputs)


def paddle_rnn(a: Arrays, x: Array, h: Array, _: Array) -> Array:
    """SimpleRNNCell.forward of the same."""
    outputs = []
    for step in x:
        h = np.tanh(step @ a["weight_ih_l0"].T + a["bias_ih_l0"] + h @ a["weight_hh_l0"].T + a["bias_hh_l0"])
        outputs.append(h)
    return np.stack(outputs)


def dynet_lstm(a: Arrays, x: Array, h: Array, c: Array) -> Array:
    """VanillaLSTMBuilder::add_input_impl of dynet/lstm.cc, with its default forget_bias."""
    outputs = []
    for step in x:
        i, f, o, g = np.split(step @ a["x2i"].T + h @ a["h2i"].T + a["bi"], 4, axis=1)
        c = sigmoid(f + 1.0) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs)


def dynet_gru(a: Arrays, x: Array, h: Array, _: Array) -> Array:
    """GRUBuilder::add_input_impl of dynet/gru.cc."""
    outputs = []
    for step in x:
        z = sigmoid(a["bz"] + step @ a["x2z"].T + h @ a["h2z"].T)
        r = sigmoid(a["br"] + step @ a["x2r"].T + h @ a["h2r"].T)
        candidate = np.tanh(a["bh"] + step @ a["x2h"].T + (r * h) @ a["h2h"].T)
        h = (1 - z) * h + z * candidate
        outputs.append(h)
    return np.stack(outputs)


def dynet_rnn(a: Arrays, x: Array, h: Array, _: Array) -> Array:
    """SimpleRNNBuilder::add_input_impl of dynet/rnn.cc."""
    outputs = []
    for step in x:
        h = np.tanh(a["hb"] + step @ a["x2h"].T + h @ a["h2h"].T)
        outputs.append(h)
    return np.stack(outputs)


def lasagne_lstm(a: Arrays, x: Array, h: Array, c: Array) -> Array:
    """LSTMLayer.get_output_for of lasagne/layers/recurrent.py."""

    def gate(name: str, step: Array, h: Array, memory: Array) -> Array:
        own = step @ a[f"W_in_to_{name}"] + h @ a[f"W_hid_to_{name}"] + a[f"b_{name}"]
        return own + memory * a.get(f"W_cell_to_{name}", 0.0)

    outputs = []
    for step in x:
        ingate, forgetgate, cell = (
            sigmoid(gate("ingate", step, h, c)),
            sigmoid(gate("forgetgate", step, h, c)),
            np.tanh(gate("cell", step, h, 0.0)),
        )
        c = forgetgate * c + ingate * cell
        h = sigmoid(gate("outgate", step, h, c)) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs)


def lasagne_gru(a: Arrays, x: Array, h: Array, _: Array) -> Array:
    """GRULayer of the same: the formula of its docstring."""
    outputs = []
    for step in x:
        r = sigmoid(step @ a["W_in_to_resetgate"] + h @ a["W_hid_to_resetgate"] + a["b_resetgate"])
        u = sigmoid(step @ a["W_in_to_updategate"] + h @ a["W_hid_to_updategate"] + a["b_updategate"])
        candidate = np.tanh(
            step @ a["W_in_to_hidden_update"] + r * (h @ a["W_hid_to_hidden_update"]) + a["b_hidden_update"]
        )
        h = (1 - u) * h + u * candidate
        outputs.append(h)
    return np.stack(outputs)


def lasagne_rnn(a: Arrays, x: Array, h: Array, _: Array) -> Array:
    """CustomRecurrentLayer.get_output_for of the same, its nonlinearity tanh."""
    outputs = []
    for step in x:
        h = np.tanh(step @ a["input_to_hidden.W"] + a["input_to_hidden.b"] + h @ a["hidden_to_hidden.W"])
        outputs.append(h)
    return np.stack(outputs)


def madmom_lstm(a: Arrays, x: Array, h: Array, c: Array) -> Array:
    """LSTMLayer.activate of madmom/ml/nn/layers.py."""

    def gate(name: str, step: Array, h: Array, memory: Array) -> Array:
        own = step @ a[f"{name}.weights"] + a[f"{name}.bias"] + h @ a[f"{name}.recurrent_weights"]
        return own + memory * a.get(f"{name}.peephole_weights", 0.0)

    outputs = []
    for step in x:
        ig, fg = sigmoid(gate("input_gate", step, h, c)), sigmoid(gate("forget_gate", step, h, c))
        c = np.tanh(gate("cell", step, h, 0.0)) * ig + c * fg
        h = np.tanh(c) * sigmoid(gate("output_gate", step, h, c))
        outputs.append(h)
    return np.stack(outputs)


def madmom_gru(a: Arrays, x: Array, h: Array, _: Array) -> Array:
    """GRULayer.activate of the same."""
    outputs = []
    for step in x:
        rg, ug = (
            sigmoid(step @ a[f"{name}.weights"] + a[f"{name}.bias"] + h @ a[f"{name}.recurrent_weights"])
            for name in ("reset_gate", "update_gate")
        )
        cell = np.tanh(step @ a["cell.weights"] + a["cell.bias"] + rg * (h @ a["cell.recurrent_weights"]))
        h = ug * cell + (1 - ug) * h
        outputs.append(h)
    return np.stack(outputs)


def madmom_rnn(a: Arrays, x: Array, h: Array, _: Array) -> Array:
    """RecurrentLayer.activate of the same, its activation tanh."""
    outputs = []
    for step in x:
        h = np.tanh(step @ a["weights"] + a["bias"] + h @ a["recurrent_weights"])
        outputs.append(h)
    return np.stack(outputs)


def thinc_lstm(a: Arrays, x: Array, h: Array, c: Array) -> Array:
    """lstm_forward_training of thinc/backends/ops.py, with _split_weights."""
    units, features, flat = h.shape[1], x.shape[2], a["LSTM"]
    cuts = np.cumsum([4 * units * features, 4 * units, 4 * units * units, 4 * units])
    w_x, b_x, w_h, b_h, rest = np.split(flat, cuts)
    assert rest.size == 0
    outputs = []
    for step in x:
        gates = step @ w_x.reshape(4 * units, features).T + b_x + h @ w_h.reshape(4 * units, units).T + b_h
        f, i, o, g = np.split(gates, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = np.tanh(c) * sigmoid(o)
        outputs.append(h)
    return np.stack(outputs)


def flax_lstm(a: Arrays, x: Array, h: Array, c: Array) -> Array:
    """LSTMCell.__call__ of flax/linen/recurrent.py."""
    outputs = []
    for step in x:
        i, f, g, o = (step @ a[f"i{k}/kernel"] + h @ a[f"h{k}/kernel"] + a[f"h{k}/bias"] for k in "ifgo")
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs)


def flax_gru(a: Arrays, x: Array, h: Array, _: Array) -> Array:
    """GRUCell.__call__ of the same."""
    outputs = []
    for step in x:
        r, z = (sigmoid(step @ a[f"i{k}/kernel"] + a[f"i{k}/bias"] + h @ a[f"h{k}/kernel"]) for k in "rz")
        n = np.tanh(step @ a["in/kernel"] + a["in/bias"] + r * (h @ a["hn/kernel"] + a["hn/bias"]))
        h = (1 - z) * n + z * h
        outputs.append(h)
    return np.stack(outputs)


def flax_rnn(a: Arrays, x: Array, h: Array, _: Array) -> Array:
    """SimpleCell.__call__ of the same."""
    outputs = []
    for step in x:
        h = np.tanh(step @ a["i/kernel"] + a["i/bias"] + h @ a["h/kernel"])
        outputs.append(h)
    return np.stack(outputs)


def haste_lstm(a: Arrays, x: Array, h: Array, c: Array) -> Array:
    """PointwiseOperations of haste/lib/lstm_forward_gpu.cu.cc."""
    outputs = []
    for step in x:
        i, g, f, o = np.split(step @ a["kernel"] + h @ a["recurrent_kernel"] + a["bias"], 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs)


def haste_gru(a: Arrays, x: Array, h: Array, _: Array) -> Array:
    """PointwiseOperations of haste/lib/gru_forward_gpu.cu.cc."""
    outputs = []
    for step in x:
        x_z, x_r, x_g = np.split(step @ a["kernel"] + a["bias"], 3, axis=1)
        h_z, h_r, h_g = np.split(h @ a["recurrent_kernel"] + a["recurrent_bias"], 3, axis=1)
        z, r = sigmoid(x_z + h_z), sigmoid(x_r + h_r)
        h = z * h + (1 - z) * np.tanh(x_g + r * h_g)
        outputs.append(h)
    return np.stack(outputs)


FORMULAS: dict[str, Callable[..., Array]] = {
    name.replace("_", "."): value
    for name, value in list(globals().items())
    if name.partition("_")[2] in ("lstm", "gru", "rnn")
}
