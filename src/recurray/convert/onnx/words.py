"""What ONNX has words for: a recurrent layer's options as its attributes, and functions by its names."""

from __future__ import annotations

from typing import Any

from recurray.activations import Elementwise, Function, activation
from recurray.convert.onnx.node import ACTIVATIONS
from recurray.layers import GRU, LSTM, RNN, Layer

_FUNCTIONS = {own: (name, takes) for name, (own, takes, _) in ACTIVATIONS.items()}  # by our name: ONNX's, small
_NAMES = {  # ONNX's spelling
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "relu": "Relu",
    "softsign": "Softsign",
    "softplus": "Softplus",
    "leakyrelu": "LeakyRelu",
    "thresholdedrelu": "ThresholdedRelu",
    "elu": "Elu",
    "hardsigmoid": "HardSigmoid",
    "affine": "Affine",
    "scaledtanh": "ScaledTanh",
}


def operator_of(function: Function) -> tuple[str, dict[str, Any]] | None:
    """Return a function's name in ONNX and its attributes; None where ONNX has no such operator."""
    if function.name not in _FUNCTIONS:
        return None
    name, takes = _FUNCTIONS[function.name]
    return _NAMES[name], {key: float(getattr(function, key)) for key in takes}


def named(place: str, layer: Layer) -> str:
    """A layer, as errors speak of it."""
    return f"layer {place} ({type(layer).__name__})" if place else type(layer).__name__


def attributes_of(place: str, layer: LSTM | GRU | RNN) -> dict[str, Any]:
    """A recurrent layer's options as ONNX's attributes."""
    for option in ("proj_size", "layer_norm", "cell_clip", "zoneout_h", "zoneout_c", "static_size"):
        if getattr(layer, option, None):
            raise ValueError(f"ONNX has no word for {option} of {named(place, layer)}")
    found: dict[str, Any] = {"hidden_size": layer.hidden_size}
    backwards = bool(getattr(layer, "reverse", False))
    found["direction"] = "bidirectional" if layer.bidirectional else "reverse" if backwards else "forward"
    functions: list[Elementwise] = []
    for cell in layer.cells[: layer.directions]:
        functions += _functions_of(place, layer, cell)
    names, lists = [], {"alpha": list[float](), "beta": list[float]()}
    for function in functions:
        if function.name == "identity":
            names.append("Affine")
            lists["alpha"].append(1.0)
            lists["beta"].append(0.0)
            continue
        word = operator_of(function)
        if word is None:
            raise ValueError(f"ONNX has no word for the function {function.name!r} of {named(place, layer)}")
        names.append(word[0])
        for key, value in word[1].items():
            lists[key].append(value)
    found["activations"] = names
    found |= {f"activation_{key}": values for key, values in lists.items() if values}
    if isinstance(layer, LSTM) and getattr(layer.cell, "coupled", False):
        found["input_forget"] = 1
    if isinstance(layer, GRU):
        found["linear_before_reset"] = int(layer.reset_after)
    clip = getattr(layer.cell, "gate_clip", None)
    if clip is not None:
        if getattr(layer.cell, "clip_output", False):
            raise ValueError(
                f"ONNX has no word for gate_clip of {named(place, layer)} that holds for c, as onnxruntime reads it: "
                "give the layer clip_output=False"
            )
        found["clip"] = clip
    return found


def _functions_of(place: str, layer: LSTM | GRU | RNN, cell: Any) -> list[Elementwise]:
    """The functions of a direction, in ONNX's order: of the gates, of the new value, of the output."""
    if isinstance(layer, RNN):
        return [activation(cell.nonlinearity)]
    if isinstance(layer, GRU):
        return [activation(cell.gate_activation), activation(cell.cell_activation)]
    own = cell.activations
    gates = [own.i, own.o] if cell.coupled else [own.i, own.f, own.o]
    if any(gate != gates[0] for gate in gates):
        raise ValueError(f"ONNX has one function for all gates, and {named(place, layer)} several")
    return [gates[0], own.g, own.out]
