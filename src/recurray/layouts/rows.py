"""The layouts there are: a row each, or several where a library has several forms under one name."""

from __future__ import annotations

from recurray.layouts.layout import UNUSED, Layout, Part

WEIGHTS, BOTH_BIASES = ("input", "recurrent"), ("input_bias", "recurrent_bias")


def _torch(kind: str, gates: tuple[str, ...], name: str, source: str, *, apart: str) -> Layout:
    """PyTorch's arrays, by the names that are recurray's too."""
    parts: tuple[Part, ...] = (
        Part("weight_ih", ("input",), gates),
        Part("weight_hh", ("recurrent",), gates),
        Part("bias_ih", ("input_bias",), gates, "flat", optional=True),
        Part("bias_hh", ("recurrent_bias",), gates, "flat", optional=True),
    )
    if kind == "LSTM" and apart:
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


IFGO, IOFC, IOUC = ("i", "f", "g", "o"), ("i", "o", "f", "g"), ("i", "o", UNUSED, "g")
RZN, ZRN, A = ("r", "z", "n"), ("z", "r", "n"), ("a",)

_TORCH = "torch.nn"
ROWS: tuple[Layout, ...] = (
    _torch("LSTM", IFGO, "torch.lstm", _TORCH, apart="names"),
    _torch("GRU", RZN, "torch.gru", _TORCH, apart="names"),
    _torch("RNN", A, "torch.rnn", _TORCH, apart="names"),
    _torch("LSTM", IFGO, "torch.lstm_cell", _TORCH, apart=""),
    _torch("GRU", RZN, "torch.gru_cell", _TORCH, apart=""),
    _torch("RNN", A, "torch.rnn_cell", _TORCH, apart=""),
    _onnx("onnx.lstm", "LSTM", IOFC, presumed={"coupled": False}),
    _onnx("onnx.lstm", "LSTM", IOUC, presumed={"coupled": False}),
    _onnx("onnx.gru", "GRU", ZRN, options={"reset_after": False}, presumed={"reset_after": False}),
    _onnx("onnx.gru", "GRU", ZRN, options={"reset_after": True}, presumed={"reset_after": False}),
    _onnx("onnx.rnn", "RNN", A),
    _keras("keras.lstm", "LSTM", IFGO, _bias(("input_bias",), IFGO)),
    _keras("keras.gru", "GRU", ZRN, _bias(BOTH_BIASES, ZRN, "columns"), reset_after=True),
    _keras("keras.gru", "GRU", ZRN, _bias(("input_bias",), ZRN), reset_after=False),
    _keras("keras.simple_rnn", "RNN", A, _bias(("input_bias",), A)),
    _keras_cudnn("keras.cudnn_lstm", "LSTM", IFGO),
    _keras_cudnn("keras.cudnn_gru", "GRU", ZRN, reset_after=True),
)
