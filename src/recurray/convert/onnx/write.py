"""From layers to an ONNX file."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import recurray
from recurray import files, layouts
from recurray.activations import Function
from recurray.checks import flag
from recurray.convert.onnx.attributes import need_onnx
from recurray.convert.onnx.builder import Builder
from recurray.convert.onnx.words import attributes_of, named, operator_of
from recurray.layers import (
    GRU,
    LSTM,
    RNN,
    Activation,
    Dropout,
    Embedding,
    Final,
    Last,
    Layer,
    LayerNorm,
    Linear,
    Max,
    Mean,
    Merge,
    Sequential,
)

_OPSET, _IR_VERSION = 17, 8  # the first with LayerNormalization; not the newest: older programs read it as well
_MOST_BYTES = 2**31 - 1  # of a file, protobuf's own limit


def to_onnx(model: Layer, path: str | Path, *, state: bool = True, lengths: bool = False) -> None:
    """Write a model to an ONNX file, which onnxruntime and others run.

    The file's input is ``x``, with any batch and any number of steps, in the model's layout; its output ``y``. A former
    file is replaced, once the new one is whole.

    Parameters
    ----------
    model : Layer
        `LSTM`, `GRU`, `RNN`, `Linear`, `Embedding`, `LayerNorm`, `Activation`, `Dropout` (which does nothing in
        inference), `Last`, `Final`, `Mean`, `Max`, `Merge`, or a `Sequential` of these.
    path : path-like
        Where to.
    state : bool
        Whether start states are inputs and final states outputs: ``h`` and ``h_end``, and for an LSTM ``c`` and
        ``c_end``, of the shapes that the layer has, (num_layers * directions, batch, size); in a `Sequential` with the
        layer's place before the name, "0.h". Else each call begins with the layer's own start.
    lengths : bool
        Whether the rows' lengths are an input, ``lengths`` (batch,), int32.

    Raises
    ------
    ValueError
        ONNX has no word for something in the model, which the message names: a projection, a layer normalisation within
        a cell, ``cell_clip``, zoneout, functions that differ from gate to gate, a cell of one's own.
    TypeError
        It isn't a layer.
    OSError
        The file can't be written.
    ImportError
        The onnx package is missing.

    Notes
    -----
    The operators are those of https://onnx.ai/onnx/operators, version 17. Weights keep the model's precision;
    onnxruntime runs recurrent nodes in float32 alone, for which ``model.to(dtype="float32")`` converts. A row of
    length 0 gives zeros after `Last` and `Final`.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> import recurray as rr
    >>> from recurray import convert
    >>> model = rr.Sequential(rr.GRU(3, 5, seed=0), rr.Last(), rr.Linear(5, 2, seed=1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "model.onnx")
    ...     convert.to_onnx(model, path, state=False)
    ...     again = convert.from_onnx(path).model
    >>> x = np.ones((2, 7, 3), dtype="float32")
    >>> bool(np.abs(again(x)[0] - model(x)[0]).max() < 1e-6)
    True
    """
    onnx = need_onnx()
    if not isinstance(model, Layer):
        raise TypeError(f"model must be a recurray layer, not {type(model).__name__}")
    written = _Graph(onnx, model, flag("state", state), flag("lengths", lengths)).whole()
    if written.ByteSize() > _MOST_BYTES:
        raise ValueError(f"an ONNX file holds at most 2 GiB, and this model has {written.ByteSize():,} bytes")
    onnx.checker.check_model(written, full_check=True)
    with files.Destination(path) as destination:
        destination.replace(written.SerializeToString())


class _Graph(Builder):
    """The nodes of a model's layers."""

    def __init__(self, onnx: Any, model: Layer, state: bool, lengths: bool) -> None:
        super().__init__(onnx, model.dtype, "lengths" if lengths else "")
        self.model, self.state = model, state
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []

    def whole(self) -> Any:
        """The model, as ONNX has it."""
        layers = [*_leaves(self.model, "")]
        layout = next((layer.batch_first for _, layer in layers if hasattr(layer, "batch_first")), True)
        self.time_major = not layout
        first = layers[0][1]
        axes: list[Any] = ["batch", "time"] if layout else ["time", "batch"]
        if isinstance(first, Embedding):
            self.inputs.append(self.info("x", self.onnx.TensorProto.INT64, axes))
        else:
            self.inputs.append(self.info("x", self.float, [*axes, _width(first)]))
        if self.lengths:
            self.inputs.append(self.info("lengths", self.onnx.TensorProto.INT32, ["batch"]))
        for place, layer in layers:
            self.add_layer(place, layer)
        if self.has_time:
            self.order(time_major=not layout)
            if self.lengths and not isinstance(layers[-1][1], (LSTM, GRU, RNN)):
                self.mask(time_major=not layout)
        self.node("Identity", [self.value], output="y")
        self.outputs.insert(0, self.info("y", self.float, [*(axes if self.has_time else ["batch"]), None]))
        helper = self.onnx.helper
        graph = helper.make_graph(self.nodes, "model", self.inputs, self.outputs, self.constants)
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", _OPSET)],
            ir_version=_IR_VERSION,
            producer_name="recurray",
            producer_version=recurray.__version__,
        )

    # Layers

    def add_layer(self, place: str, layer: Layer) -> None:
        """Add what a layer does."""
        if isinstance(layer, (LSTM, GRU, RNN)) and type(layer) in (LSTM, GRU, RNN):
            self.add_recurrent(place, layer)
        elif type(layer) is Linear:
            self.node("MatMul", [self.value, self.floats(_param(layer, "weight").T)], name=place)
            if layer.bias:
                self.node("Add", [self.value, self.floats(_param(layer, "bias"))])
        elif type(layer) is Embedding:
            self.node("Gather", [self.floats(_param(layer, "weight")), self.value], name=place)
        elif type(layer) is LayerNorm:
            scale, shift = (self.floats(_param(layer, name)) for name in ("weight", "bias"))
            self.node("LayerNormalization", [self.value, scale, shift], name=place, epsilon=layer.eps)
        elif type(layer) is Activation:
            self.add_function(layer.function, place)
        elif isinstance(layer, (Last, Final)):
            self.add_end(layer)
        elif isinstance(layer, (Mean, Max)):
            self.add_pooling(largest=isinstance(layer, Max))
        elif type(layer) is Merge:
            halves = self.halves(self.value)
            self.node("Mul" if layer.mode == "mul" else "Add", halves, name=place)
            if layer.mode not in ("mul", "sum"):
                self.node("Mul", [self.value, self.floats(0.5)])
        elif type(layer) is not Dropout:
            raise ValueError(f"ONNX has no word for {named(place, layer)}")

    def add_function(self, function: Function, place: str) -> None:
        if function.name in ("softmax", "log_softmax"):
            self.node({"softmax": "Softmax", "log_softmax": "LogSoftmax"}[function.name], [self.value], axis=-1)
        elif function.name == "identity":
            self.node("Identity", [self.value], name=place)
        elif function.name in ("affine", "scaled_tanh"):
            alpha, beta = (self.floats(getattr(function, name)) for name in ("alpha", "beta"))
            if function.name == "affine":
                self.node("Add", [self.node("Mul", [self.value, alpha]), beta], name=place)
            else:
                self.node("Mul", [self.node("Tanh", [self.node("Mul", [self.value, beta])]), alpha], name=place)
        elif (found := operator_of(function)) is not None:
            operator, given = found
            self.node(operator, [self.value], name=place, **given)
        else:
            raise ValueError(f"ONNX has no word for the function {function.name!r}")

    def add_end(self, layer: Last | Final) -> None:
        """The last step of each row, or of each direction."""
        self.order(time_major=True)
        reversed_ = layer._directions() if isinstance(layer, Final) else (False,)
        parts = self.halves(self.value) if len(reversed_) == 2 else [self.value]
        ends = [self.end_of(part, reverse=reverse) for part, reverse in zip(parts, reversed_, strict=True)]
        self.value = self.node("Concat", ends, axis=-1) if len(ends) == 2 else ends[0]
        self.has_time = False

    def end_of(self, value: str, *, reverse: bool) -> str:
        """The step (B, features) at which a direction ends."""
        if not self.lengths:
            return self.node("Gather", [value, self.constant(0 if reverse else -1)], axis=0)
        self.value = value
        steps, lengths, one = self.steps(), self.lengths_64(), self.constant(1)
        if reverse:
            first = self.node("Equal", [steps, self.constant(0)])
            chosen = self.node("And", [first, self.node("Less", [steps, lengths])])
        else:
            chosen = self.node("Equal", [steps, self.node("Sub", [lengths, one])])
        self.where(chosen, value, time_major=True)
        return self.node("ReduceSum", [self.value, self.constant([0])], keepdims=0)

    def add_pooling(self, *, largest: bool) -> None:
        """The largest of each row's steps, or their mean; of a row without a step zero."""
        self.order(time_major=True)
        self.has_time = False
        reduce = "ReduceMax" if largest else "ReduceMean"
        if not self.lengths:
            self.node(reduce, [self.value], axes=[0], keepdims=0)
            return
        value = self.value
        valid = self.node("Less", [self.steps(), self.lengths_64()])
        count = self.node("Unsqueeze", [self.lengths, self.constant([1])])  # (B, 1)
        some = self.node("Greater", [count, self.constant(0, "int32")])
        self.where(valid, value, time_major=True, rest=-np.inf if largest else 0.0)
        if largest:
            self.node("ReduceMax", [self.value], axes=[0], keepdims=0)
            self.node("Where", [some, self.value, self.floats(0)])
        else:
            total = self.node("ReduceSum", [self.value, self.constant([0])], keepdims=0)
            whole = self.node("Where", [some, count, self.constant(1, "int32")])
            self.node("Div", [total, self.node("Cast", [whole], to=self.float)])

    # Recurrent layers

    def add_recurrent(self, place: str, layer: LSTM | GRU | RNN) -> None:
        """A node for each layer of the stack."""
        options = attributes_of(place, layer)
        kind = type(layer).__name__
        arrays = layouts.write(f"onnx.{kind.lower()}", _without_starts(layer))
        arrays = arrays if isinstance(arrays, list) else [arrays]
        states = ("h", "c") if kind == "LSTM" else ("h",)
        self.order(time_major=True)
        starts = {state: self.starts(place, layer, state) for state in states}
        ends: dict[str, list[str]] = {state: [] for state in states}
        for number, own in enumerate(arrays):
            weights = [self.floats(own[name]) if name in own else "" for name in ("W", "R", "B")]
            given = [self.value, *weights, self.lengths, *(starts[state][number] for state in states)]
            if "P" in own:
                given.append(self.floats(own["P"]))
            while not given[-1]:
                given.pop()
            name = place or kind.lower()
            name = f"{name}.{number}" if len(arrays) > 1 else name
            outputs = [f"{name}_Y", *(f"{name}_Y_{state}" for state in states)]
            self.nodes.append(self.onnx.helper.make_node(kind, given, outputs, name=name, **options))
            self.value = outputs[0]
            for state, output in zip(states, outputs[1:], strict=True):
                ends[state].append(output)
            if layer.bidirectional:
                by_row = self.node("Transpose", [self.value], perm=[0, 2, 1, 3])
                self.node("Reshape", [by_row, self.constant([0, 0, -1])])
            else:
                self.node("Squeeze", [self.value, self.constant([1])])
        if self.state:
            value = self.value
            for state in states:
                name = _prefixed(place, f"{state}_end")
                self.node("Concat", ends[state], output=name, axis=0)
                shape = [layer.num_layers * layer.directions, "batch", layer.hidden_size]
                self.outputs.append(self.info(name, self.float, shape))
            self.value = value

    def starts(self, place: str, layer: LSTM | GRU | RNN, state: str) -> list[str]:
        """The start state of each layer of the stack, (D, B, H): an input, learned, or none, which is zeros."""
        count, directions = layer.num_layers, layer.directions
        if self.state:
            name = _prefixed(place, state)
            self.inputs.append(self.info(name, self.float, [count * directions, "batch", layer.hidden_size]))
            if count == 1:
                return [name]
            names = [f"{name}_{number}" for number in range(count)]
            sizes = self.constant([directions] * count)
            self.nodes.append(self.onnx.helper.make_node("Split", [name, sizes], names, name=f"{name}_split", axis=0))
            return names
        if not layer.learned_state:
            return [""] * count
        value = self.value
        batch = self.node("Shape", [value], start=1, end=2)
        shape = self.node("Concat", [self.constant([1]), batch, self.constant([1])], axis=0)
        found = []
        for number in range(count):
            rows = [_param(layer, f"start_{state}_l{number}{end}") for end in ("", "_reverse")[:directions]]
            found.append(self.node("Expand", [self.floats(np.stack(rows)[:, np.newaxis]), shape]))
        self.value = value
        return found


def _without_starts(layer: LSTM | GRU | RNN) -> Any:
    """The layer without learned start states, which aren't among ONNX's weights."""
    bare = copy.copy(layer)
    bare._param_form = replace(layer._param_form, start_sizes={})
    return bare


def _leaves(layer: Layer, place: str) -> Iterator[tuple[str, Layer]]:
    """The layers of a model, those within others too, with their places."""
    if not isinstance(layer, Sequential):
        yield place, layer
        return
    for number, inner in enumerate(layer.layers):
        yield from _leaves(inner, _prefixed(place, str(number)))


def _prefixed(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _param(layer: Layer, name: str) -> Any:
    return layer.state_dict()[name]


def _width(layer: Layer) -> int | None:
    """How many features a layer's input has, where it says so."""
    names = ("input_size", "in_features", "size")
    return next((getattr(layer, name) for name in names if hasattr(layer, name)), None)
