"""One recurrent node of an ONNX graph as a layer: ONNX's LSTM, GRU and RNN, and onnxruntime's DynamicQuantizeLSTM."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurray import layouts
from recurray.convert.onnx.attributes import attributes, shown_node
from recurray.convert.onnx.folding import dequantized
from recurray.convert.onnx.graph import Scope
from recurray.files import FormatError
from recurray.layers import GRU, LSTM, RNN, Layer

KINDS: dict[str, type[LSTM | GRU | RNN]] = {"LSTM": LSTM, "DynamicQuantizeLSTM": LSTM, "GRU": GRU, "RNN": RNN}
_OWN_DOMAIN = {"DynamicQuantizeLSTM": ("com.microsoft",)}
_USUAL = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}  # in each direction
# What ONNX calls a function, in small letters: our name, the parameters that it takes from the lists, and their
# values where the lists have none left: those of ONNX's operators of these names, which the last two don't have.
ACTIVATIONS: dict[str, tuple[str, tuple[str, ...], tuple[float, ...] | None]] = {
    "tanh": ("tanh", (), ()),
    "sigmoid": ("sigmoid", (), ()),
    "relu": ("relu", (), ()),
    "softsign": ("softsign", (), ()),
    "softplus": ("softplus", (), ()),
    "leakyrelu": ("leaky_relu", ("alpha",), (0.01,)),
    "thresholdedrelu": ("thresholded_relu", ("alpha",), (1.0,)),
    "elu": ("elu", ("alpha",), (1.0,)),
    "hardsigmoid": ("hard_sigmoid", ("alpha", "beta"), (0.2, 0.5)),
    "affine": ("affine", ("alpha", "beta"), None),
    "scaledtanh": ("scaled_tanh", ("alpha", "beta"), None),
}
_KNOWN_ATTRIBUTES = {
    *("activation_alpha", "activation_beta", "activations", "clip", "direction", "hidden_size", "layout"),
    *("input_forget", "linear_before_reset", "output_sequence"),
}
_INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
_QUANTISATION = ("W_scale", "W_zero_point", "R_scale", "R_zero_point")


@dataclass(frozen=True)
class Recurrent:
    """A node, and the layer that does what it does.

    Attributes
    ----------
    layer : Layer
        The layer.
    inputs : dict of str to str
        The names of its inputs in the graph, by what they are: "X", "initial_h" and so on.
    batch_first : bool
        Whether its arrays are (batch, time, ...): ``layout=1``.
    directions : int
        1 or 2.
    notes : tuple of str
        What whoever uses it has to know.
    """

    layer: Layer
    inputs: dict[str, str]
    batch_first: bool
    directions: int
    notes: tuple[str, ...]


def is_recurrent(node: Any) -> bool:
    """Whether a node is one of those that `recurrent` reads."""
    return node.op_type in KINDS and node.domain in _OWN_DOMAIN.get(node.op_type, ("", "ai.onnx"))


def recurrent(scope: Scope, node: Any, *, batch_first: bool | None, backend: Any, dtype: Any) -> Recurrent:
    """Make the layer of a node.

    Raises
    ------
    FormatError
        Its weights aren't constants, or it is something that recurray's layer isn't.
    """
    try:
        return _recurrent(scope, node, batch_first, backend, dtype)
    except (ValueError, TypeError) as error:
        raise FormatError(f"the node {shown_node(node)}: {error}") from error


def _recurrent(scope: Scope, node: Any, batch_first: bool | None, backend: Any, dtype: Any) -> Recurrent:
    kind = KINDS[node.op_type]
    name = kind.__name__
    given = attributes(node)
    if unknown := set(given) - _KNOWN_ATTRIBUTES:
        raise FormatError(f"it has the attribute {', '.join(sorted(unknown))[:100]}, which ONNX doesn't define")
    inputs = _inputs(node, name)
    arrays = {key: value for key, value in _weights(scope, node, inputs).items() if value is not None}
    directions = len(arrays["W"])
    along = given.get("direction", "forward")
    if {"forward": 1, "reverse": 1, "bidirectional": 2}.get(along) != directions:
        raise FormatError(f"its direction is {along!r}, but its weights are of {directions}")
    hidden = arrays["R"].shape[-1]
    if given.get("hidden_size", hidden) != hidden:
        raise FormatError(f"its hidden_size is {given['hidden_size']}, but its weights are of {hidden} units")
    notes: list[str] = []
    facts = dict(_options(name, given, directions))
    if name == "LSTM":
        facts["coupled"] = bool(given.get("input_forget", 0))
    if name == "GRU":
        facts["reset_after"] = bool(given.get("linear_before_reset", 0))
    if dtype is None:
        dtype = "float64" if any(array.dtype == np.float64 for array in arrays.values()) else "float32"
    if along == "reverse":
        facts["reverse"] = True
    options, params = layouts.read(f"onnx.{name.lower()}", arrays, bidirectional=directions == 2, dtype=dtype, **facts)
    own_layout = bool(given.get("layout", 0))
    starts = _starts(scope, inputs, directions, hidden, own_layout, name, notes)
    if starts:
        options["learned_state"] = True
        for state, rows in starts.items():
            for row, ending in zip(rows, ("_l0", "_l0_reverse"), strict=False):
                params[f"start_{state}{ending}"] = row
    if node.op_type == "DynamicQuantizeLSTM":
        notes.append(
            "its weights of 8 bits are numbers again; onnxruntime rounds its input to 8 bits too, which isn't done"
        )
    if facts.get("clip_output") is False:
        notes.append("its clip doesn't hold for c on its way to the output: so onnxruntime does it, not ONNX's words")
    _note_lengths(scope, inputs, notes)
    options["batch_first"] = own_layout if batch_first is None else batch_first
    layer = kind(**options, backend=backend, params=params)
    return Recurrent(layer, inputs, own_layout, directions, tuple(notes))


def _inputs(node: Any, name: str) -> dict[str, str]:
    """The names of the inputs that are there."""
    order = _INPUTS if name == "LSTM" else _INPUTS[:6]
    if node.op_type == "DynamicQuantizeLSTM":
        order = (*order, *_QUANTISATION)
    if len(node.input) > len(order):
        raise FormatError(f"it has {len(node.input)} inputs, where ONNX defines {len(order)}")
    found = {key: given for key, given in zip(order, node.input, strict=False) if given}
    for key in ("X", "W", "R"):
        if key not in found:
            raise FormatError(f"it has no input {key}")
    return found


def _weights(scope: Scope, node: Any, inputs: Mapping[str, str]) -> dict[str, NDArray[Any] | None]:
    quantised = node.op_type == "DynamicQuantizeLSTM"
    found: dict[str, NDArray[Any] | None] = {}
    for key in ("W", "R", "B", "P"):
        if key not in inputs:
            continue
        value = scope.constant(inputs[key])
        if value is None:
            raise FormatError(f"its {key} isn't a constant, but computed: {inputs[key][:100]!r}")
        if quantised and key in ("W", "R"):
            value = _dequantised(scope, inputs, key, value)
        if value.dtype.kind != "f" or value.ndim != (3 if key in ("W", "R") else 2):
            raise FormatError(f"its {key} is {value.dtype} of shape {value.shape}")
        if not np.isfinite(value).all():
            raise FormatError(f"its {key} has numbers that aren't finite")
        found[key] = value
    return found


def _dequantised(scope: Scope, inputs: Mapping[str, str], key: str, value: NDArray[Any]) -> NDArray[np.float32]:
    """Weights of 8 bits (D, features, gates), as numbers (D, gates, features)."""
    scale, zero = (
        scope.constant(inputs[name]) if name in inputs else None for name in (f"{key}_scale", f"{key}_zero_point")
    )
    if scale is None or value.dtype.kind not in "iu" or value.ndim != 3:
        raise FormatError(f"its {key} isn't quantised as onnxruntime does it")
    if scale.shape[:1] != value.shape[:1]:
        raise FormatError(f"its {key}_scale has the shape {scale.shape}")
    parts = []
    for place, part in enumerate(value):
        own, own_zero = np.atleast_1d(scale[place]), None if zero is None else np.atleast_1d(zero[place])
        parts.append(dequantized(scope.budget, part, own, own_zero, 1).T)
    return np.stack(parts)


# Options --------------------------------------------------------------------------------------------------------------


def decimal(value: float) -> float:
    """The shortest number that is the same in float32, in which ONNX has it: 0.2, say."""
    return float(str(np.float32(value)))


def _options(name: str, given: Mapping[str, Any], directions: int) -> Iterator[tuple[str, Any]]:
    """The options that the node's functions and its clip come to."""
    count = len(_USUAL[name])
    functions = _functions(given.get("activations") or _USUAL[name] * directions, given, count * directions)
    usual = [ACTIVATIONS[key.lower()][0] for key in _USUAL[name]]
    yield from _others(name, functions[:count], usual).items()
    if directions == 2 and (others := _others(name, functions[count:], functions[:count])):
        yield "reverse_activations", others
    if given.get("clip", 0) > 0:
        yield "gate_clip", decimal(given["clip"])
        if name == "LSTM":
            yield "clip_output", False


def _others(name: str, functions: Sequence[Any], known: Sequence[Any]) -> dict[str, Any]:
    """The options for functions that aren't those that are known."""
    options = {
        "LSTM": ("gate_activation", "cell_activation", "output_activation"),
        "GRU": ("gate_activation", "cell_activation"),
        "RNN": ("nonlinearity",),
    }[name]
    pairs = zip(options, functions, known, strict=True)
    return {option: function for option, function, other in pairs if function != other}


def _functions(names: Sequence[Any], given: Mapping[str, Any], count: int) -> list[Any]:
    """The functions, each of which takes its parameters from what the lists have left."""
    if len(names) != count:
        raise FormatError(f"it has {len(names)} activations, where {count} are due")
    left = {key: list(given.get(f"activation_{key}", ())) for key in ("alpha", "beta")}
    found: list[Any] = []
    for name in names:
        name = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
        if name.lower() not in ACTIVATIONS:
            raise FormatError(f"it has the activation {name[:50]!r}, which ONNX doesn't define")
        own, takes, usual = ACTIVATIONS[name.lower()]
        values = []
        for place, key in enumerate(takes):
            if left[key]:
                values.append(decimal(left[key].pop(0)))
            elif usual is None:
                raise FormatError(f"its {name} has no {key}, for which ONNX defines no value")
            else:
                values.append(usual[place])
        found.append((own, *values) if takes else own)
    for key, rest in left.items():
        if rest:
            raise FormatError(f"its activation_{key} has {len(rest)} values too many")
    return found


# States and lengths ---------------------------------------------------------------------------------------------------


def _starts(
    scope: Scope,
    inputs: Mapping[str, str],
    directions: int,
    hidden: int,
    batch_first: bool,
    name: str,
    notes: list[str],
) -> dict[str, NDArray[Any]]:
    """The start states that are in the file, other than zeros, as (D, H) by state; the others are told of."""
    found: dict[str, NDArray[Any]] = {}
    open_ends = []
    for state in ("h", "c") if name == "LSTM" else ("h",):
        key = inputs.get(f"initial_{state}")
        if key is None or scope.is_zero(key):
            continue
        value = scope.constant(key)
        value = scope.expanded(key) if value is None else value
        if value is None or value.ndim != 3:
            open_ends.append(f"{state} is {key[:100]!r}")
            continue
        rows = value.astype("float64" if value.dtype == np.float64 else "float32")
        rows = rows.swapaxes(0, 1) if batch_first else rows  # to (D, B, H)
        if rows.shape[0] != directions or rows.shape[2] != hidden or not rows.shape[1]:
            raise FormatError(f"its initial_{state} has the shape {value.shape}")
        if (rows != rows[:, :1]).any():
            raise FormatError(f"its initial_{state} is a constant with another start for each row of a batch")
        found[state] = rows[:, 0]
    if open_ends:
        missing = "" if name != "LSTM" or {"initial_h", "initial_c"} <= set(inputs) else "; the other one is zeros"
        notes.append(f"its start state is an input: give state=; {', '.join(open_ends)}{missing}")
    if found and open_ends:
        raise FormatError("one of its start states is in the file, and the other an input")
    if found and name == "LSTM":
        shape = (directions, hidden)
        found = {state: found.get(state, np.zeros(shape, "float32")) for state in ("h", "c")}
    if found:
        notes.append("its start state is in the file: it is the layer's learned_state")
    return found


def _note_lengths(scope: Scope, inputs: Mapping[str, str], notes: list[str]) -> None:
    if "sequence_lens" not in inputs:
        return
    value = scope.constant(inputs["sequence_lens"])
    said = repr(inputs["sequence_lens"][:100]) if value is None else str(value.reshape(-1)[:20].tolist())
    notes.append(f"the rows have lengths: give lengths=, which are {said}")
