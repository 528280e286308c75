"""The layouts there are: a row each, or several where a library has several forms under one name.

What each library computes was read in the source that the row names.
"""

from __future__ import annotations

from collections.abc import Mapping

from recurray.layouts.layout import UNUSED, Layout, Part

WEIGHTS, BOTH_BIASES = ("input", "recurrent"), ("input_bias", "recurrent_bias")


def _torch(kind: str, gates: tuple[str, ...], name: str, source: str, *, apart: str, projected: bool = True) -> Layout:
    """PyTorch's arrays, by the names that are recurray's too."""
    parts: tuple[Part, ...] = (
        Part("weight_ih", ("input",), gates),
        Part("weight_hh", ("recurrent",), gates),
        Part("bias_ih", ("input_bias",), gates, "flat", optional=True),
        Part("bias_hh", ("recurrent_bias",), gates, "flat", optional=True),
    )
    if kind == "LSTM" and apart and projected:
        parts += (Part("weight_hr", ("projection",), optional=True),)
    options = {"reset_after": True} if kind == "GRU" else {}
    return Layout(name, kind, parts, apart, options=options, source=source)


def _onnx(name: str, kind: str, gates: tuple[str, ...], **more: object) -> Layout:
    peepholes = (Part("P", ("peephole",), ("i", "o", gates[2]), "flat", optional=True),) if kind == "LSTM" else ()
    parts = (
        Part("W", ("input",), gates),
        Part("R", ("recurrent",), gates),
        Part("B", BOTH_BIASES, gates, "flat", optional=True),
        *peepholes,
    )
    source = "onnx.ai/onnx/operators"
    return Layout(name, kind, parts, "axis", source=source, **more)  # type: ignore[arg-type]


def _keras(name: str, kind: str, gates: tuple[str, ...], bias: Part, **options: object) -> Layout:
    parts = (
        Part("kernel", ("input",), gates, "columns"),
        Part("recurrent_kernel", ("recurrent",), gates, "columns"),
        bias,
    )
    return Layout(name, kind, parts, options=options, source="keras.layers")


def _keras_cudnn(name: str, kind: str, gates: tuple[str, ...], **options: object) -> Layout:
    parts = (
        Part("kernel", ("input",), gates, "cudnn"),
        Part("recurrent_kernel", ("recurrent",), gates, "beside"),
        Part("bias", BOTH_BIASES, gates, "flat"),
    )
    source = "keras 2, engine/saving.py: _convert_rnn_weights"
    return Layout(name, kind, parts, options=options, source=source)


def _bias(fields: tuple[str, ...], gates: tuple[str, ...], form: str = "flat") -> Part:
    return Part("bias", fields, gates, form, optional=True)


def _by_gate(gates: Mapping[str, str], names: Mapping[str, str], *, form: str, peepholes: str = "") -> tuple[Part, ...]:
    """An array for each gate and field: ``names`` by field, with {} for the library's name of the gate."""
    parts = [
        Part(name.format(theirs), (field,), (gate,), "flat" if "bias" in field else form)
        for field, name in names.items()
        for gate, theirs in gates.items()
    ]
    parts += [
        Part(peepholes.format(theirs), ("peephole",), (gate,), "flat", optional=True)
        for gate, theirs in gates.items()
        if peepholes and gate != "g"
    ]
    return tuple(parts)


IFGO, IGFO, IOFG, IOUG = ("i", "f", "g", "o"), ("i", "g", "f", "o"), ("i", "o", "f", "g"), ("i", "o", UNUSED, "g")
FIOG, IFOG = ("f", "i", "o", "g"), ("i", "f", "o", "g")
RZN, ZRN, A = ("r", "z", "n"), ("z", "r", "n"), ("a",)

_TORCH, _PADDLE, _FLAX, _HASTE = (
    "torch.nn",
    "paddle/nn/layer/rnn.py",
    "flax/linen/recurrent.py",
    "haste/lib/*_forward_gpu.cu.cc",
)
_TF1, _LASAGNE, _MADMOM = (
    "tensorflow/python/ops/rnn_cell_impl.py",
    "lasagne/layers/recurrent.py",
    "madmom/ml/nn/layers.py",
)
_TFLITE = "tensorflow/lite/kernels/unidirectional_sequence_lstm.cc"

_TFLITE_FIELDS = {
    "input": "input_to_{}_weights",
    "recurrent": "recurrent_to_{}_weights",
    "input_bias": "{}_gate_bias",
}
_PROJECTION = Part("projection_weights", ("projection",), optional=True)
_LASAGNE_FIELDS = {"input": "W_in_to_{}", "recurrent": "W_hid_to_{}", "input_bias": "b_{}"}
_MADMOM_FIELDS = {"input": "{}.weights", "recurrent": "{}.recurrent_weights", "input_bias": "{}.bias"}
_GATES = {"i": "input", "f": "forget", "g": "cell", "o": "output"}
_MADMOM_GATES = {"i": "input_gate", "f": "forget_gate", "g": "cell", "o": "output_gate"}
_LASAGNE_GATES = {"i": "ingate", "f": "forgetgate", "g": "cell", "o": "outgate"}
_FLAX_FIELDS = {"input": "i{}/kernel", "recurrent": "h{}/kernel"}

ROWS: tuple[Layout, ...] = (
    _torch("LSTM", IFGO, "torch.lstm", _TORCH, apart="names"),
    _torch("GRU", RZN, "torch.gru", _TORCH, apart="names"),
    _torch("RNN", A, "torch.rnn", _TORCH, apart="names"),
    _torch("LSTM", IFGO, "torch.lstm_cell", _TORCH, apart=""),
    _torch("GRU", RZN, "torch.gru_cell", _TORCH, apart=""),
    _torch("RNN", A, "torch.rnn_cell", _TORCH, apart=""),
    _onnx("onnx.lstm", "LSTM", IOFG, presumed={"coupled": False}),
    _onnx("onnx.lstm", "LSTM", IOUG, presumed={"coupled": False}),
    _onnx("onnx.gru", "GRU", ZRN, options={"reset_after": False}, presumed={"reset_after": False}),
    _onnx("onnx.gru", "GRU", ZRN, options={"reset_after": True}, presumed={"reset_after": False}),
    _onnx("onnx.rnn", "RNN", A),
    _keras("keras.lstm", "LSTM", IFGO, _bias(("input_bias",), IFGO)),
    _keras("keras.gru", "GRU", ZRN, _bias(BOTH_BIASES, ZRN, "columns"), reset_after=True),
    _keras("keras.gru", "GRU", ZRN, _bias(("input_bias",), ZRN), reset_after=False),
    _keras("keras.simple_rnn", "RNN", A, _bias(("input_bias",), A)),
    _keras_cudnn("keras.cudnn_lstm", "LSTM", IFGO),
    _keras_cudnn("keras.cudnn_gru", "GRU", ZRN, reset_after=True),
    Layout(
        "tf1.lstm",
        "LSTM",
        (
            Part("kernel", WEIGHTS, IGFO, "columns"),
            Part("bias", ("input_bias",), IGFO, "flat"),
            *(Part(f"w_{gate}_diag", ("peephole",), (gate,), "flat", optional=True) for gate in ("i", "f", "o")),
            Part("projection/kernel", ("projection",), form="columns", optional=True),
        ),
        added={"f": 1.0},
        source=_TF1,
    ),
    Layout(
        "tf1.gru",
        "GRU",
        (
            Part("gates/kernel", WEIGHTS, ("r", "z"), "columns"),
            Part("gates/bias", ("input_bias",), ("r", "z"), "flat"),
            Part("candidate/kernel", WEIGHTS, ("n",), "columns"),
            Part("candidate/bias", ("input_bias",), ("n",), "flat"),
        ),
        options={"reset_after": False},
        source=_TF1,
    ),
    Layout(
        "tf1.rnn",
        "RNN",
        (Part("kernel", WEIGHTS, A, "columns"), Part("bias", ("input_bias",), A, "flat")),
        source=_TF1,
    ),
    Layout(
        "tflite.lstm",
        "LSTM",
        (*_by_gate(_GATES, _TFLITE_FIELDS, form="rows", peepholes="cell_to_{}_weights"), _PROJECTION),
        source=_TFLITE,
    ),
    Layout(  # coupled: i is 1 - f there, f is 1 - i here
        "tflite.lstm",
        "LSTM",
        (
            *_by_gate(
                {"i": "forget", "g": "cell", "o": "output"}, _TFLITE_FIELDS, form="rows", peepholes="cell_to_{}_weights"
            ),
            _PROJECTION,
        ),
        negated=("i",),
        source=_TFLITE,
    ),
    Layout(
        "tflite.rnn",
        "RNN",
        (
            Part("weights", ("input",), A),
            Part("recurrent_weights", ("recurrent",), A),
            Part("bias", ("input_bias",), A, "flat"),
        ),
        source="tensorflow/lite/kernels/unidirectional_sequence_rnn.cc",
    ),
    _torch("LSTM", IFGO, "paddle.lstm", _PADDLE, apart="names", projected=False),
    _torch("GRU", RZN, "paddle.gru", _PADDLE, apart="names"),
    _torch("RNN", A, "paddle.rnn", _PADDLE, apart="names"),
    Layout(
        "dynet.lstm",
        "LSTM",
        (
            Part("x2i", ("input",), IFOG),
            Part("h2i", ("recurrent",), IFOG),
            Part("bi", ("input_bias",), IFOG, "flat"),
        ),
        added={"f": 1.0},
        source="dynet/lstm.cc, VanillaLSTMBuilder",
    ),
    Layout(
        "dynet.gru",
        "GRU",
        _by_gate(
            {"z": "z", "r": "r", "n": "h"}, {"input": "x2{}", "recurrent": "h2{}", "input_bias": "b{}"}, form="rows"
        ),
        negated=("z",),
        options={"reset_after": False},
        source="dynet/gru.cc",
    ),
    Layout(
        "dynet.rnn",
        "RNN",
        (Part("x2h", ("input",), A), Part("h2h", ("recurrent",), A), Part("hb", ("input_bias",), A, "flat")),
        source="dynet/rnn.cc, SimpleRNNBuilder",
    ),
    Layout(
        "lasagne.lstm",
        "LSTM",
        _by_gate(_LASAGNE_GATES, _LASAGNE_FIELDS, form="columns", peepholes="W_cell_to_{}"),
        source=_LASAGNE,
    ),
    Layout(
        "lasagne.gru",
        "GRU",
        _by_gate({"r": "resetgate", "z": "updategate", "n": "hidden_update"}, _LASAGNE_FIELDS, form="columns"),
        negated=("z",),
        options={"reset_after": True},
        source=_LASAGNE,
    ),
    Layout(
        "lasagne.rnn",
        "RNN",
        (
            Part("input_to_hidden.W", ("input",), A, "columns"),
            Part("hidden_to_hidden.W", ("recurrent",), A, "columns"),
            Part("input_to_hidden.b", ("input_bias",), A, "flat", optional=True),
        ),
        source=_LASAGNE,
    ),
    Layout(
        "madmom.lstm",
        "LSTM",
        _by_gate(_MADMOM_GATES, _MADMOM_FIELDS, form="columns", peepholes="{}.peephole_weights"),
        source=_MADMOM,
    ),
    Layout(
        "madmom.gru",
        "GRU",
        _by_gate({"r": "reset_gate", "z": "update_gate", "n": "cell"}, _MADMOM_FIELDS, form="columns"),
        negated=("z",),
        options={"reset_after": True},
        source=_MADMOM,
    ),
    Layout(
        "madmom.rnn",
        "RNN",
        (
            Part("weights", ("input",), A, "columns"),
            Part("recurrent_weights", ("recurrent",), A, "columns"),
            Part("bias", ("input_bias",), A, "flat"),
        ),
        source=_MADMOM,
    ),
    Layout(
        "thinc.lstm",
        "LSTM",
        (
            Part("Wx", ("input",), FIOG),
            Part("bx", ("input_bias",), FIOG, "flat"),
            Part("Wh", ("recurrent",), FIOG),
            Part("bh", ("recurrent_bias",), FIOG, "flat"),
        ),
        apart="packed",
        packed="LSTM",
        source="thinc/backends/ops.py, _split_weights",
    ),
    Layout(
        "flax.lstm",
        "LSTM",
        _by_gate({gate: gate for gate in IFGO}, {**_FLAX_FIELDS, "recurrent_bias": "h{}/bias"}, form="columns"),
        source=_FLAX,
    ),
    Layout(
        "flax.gru",
        "GRU",
        (
            *_by_gate({gate: gate for gate in RZN}, {**_FLAX_FIELDS, "input_bias": "i{}/bias"}, form="columns"),
            Part("hn/bias", ("recurrent_bias",), ("n",), "flat"),
        ),
        options={"reset_after": True},
        source=_FLAX,
    ),
    Layout(
        "flax.rnn",
        "RNN",
        (
            Part("i/kernel", ("input",), A, "columns"),
            Part("h/kernel", ("recurrent",), A, "columns"),
            Part("i/bias", ("input_bias",), A, "flat"),
        ),
        source=_FLAX,
    ),
    Layout(
        "haste.lstm",
        "LSTM",
        (
            Part("kernel", ("input",), IGFO, "columns"),
            Part("recurrent_kernel", ("recurrent",), IGFO, "columns"),
            Part("bias", ("input_bias",), IGFO, "flat"),
        ),
        source=_HASTE,
    ),
    Layout(
        "haste.gru",
        "GRU",
        (
            Part("kernel", ("input",), ZRN, "columns"),
            Part("recurrent_kernel", ("recurrent",), ZRN, "columns"),
            Part("bias", ("input_bias",), ZRN, "flat"),
            Part("recurrent_bias", ("recurrent_bias",), ZRN, "flat"),
        ),
        options={"reset_after": True},
        source=_HASTE,
    ),
)
