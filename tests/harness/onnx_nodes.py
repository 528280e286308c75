"""ONNX models of one recurrent node, drawn at random or given, and what onnxruntime makes of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import recurray as rr
from harness.needs import need
from recurray import convert

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
USUAL = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
TAKES = {  # the parameters of each function
    **dict.fromkeys(("Relu", "Tanh", "Sigmoid", "Softsign", "Softplus"), ()),
    **dict.fromkeys(("Affine", "ScaledTanh", "HardSigmoid"), ("alpha", "beta")),
    **dict.fromkeys(("LeakyRelu", "ThresholdedRelu", "Elu"), ("alpha",)),
}
INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")


@dataclass
class Node:
    """A node: its attributes, its weights, and the arrays that it is given, by the names of its inputs."""

    kind: str
    weights: dict[str, np.ndarray]
    feed: dict[str, np.ndarray]
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def outputs(self) -> list[str]:
        """The names of its outputs."""
        return ["Y", "Y_h", "Y_c"][: 3 if self.kind == "LSTM" else 2]

    def node(self) -> Any:
        """The node itself."""
        helper = need("onnx").helper
        names = [name if name in self.weights or name in self.feed else "" for name in INPUTS]
        while not names[-1]:
            names.pop()
        hidden = self.weights["R"].shape[-1]
        return helper.make_node(self.kind, names, self.outputs, name="node", hidden_size=hidden, **self.attributes)

    def save(self, path: Path) -> Path:
        """Write a model of it."""
        onnx = need("onnx")
        constants = [onnx.numpy_helper.from_array(value, name) for name, value in self.weights.items()]
        return save([self.node()], self.feed, self.outputs, constants, path)

    def by_onnxruntime(self, path: Path) -> list[np.ndarray]:
        """Its outputs, as onnxruntime computes them."""
        return run(path, self.feed)

    def by_recurray(self, path: Path, **options: Any) -> list[np.ndarray]:
        """Its outputs, in the form that ONNX gives them."""
        model: Any = convert.from_onnx(path, node="node", **options).model
        h, c = self.feed.get("initial_h"), self.feed.get("initial_c")
        layout = self.attributes.get("layout", 0)
        batch = self.feed["X"].shape[0 if layout else 1]
        state = None
        if h is not None or c is not None:
            zeros = np.zeros((model.directions, batch, model.hidden_size), self.feed["X"].dtype)
            starts = [zeros if start is None else start.swapaxes(0, 1) if layout else start for start in (h, c)]
            state = rr.State(*starts[: len(self.outputs) - 1])
        y, end = model(self.feed["X"], state, lengths=self.feed.get("sequence_lens"))
        by_direction = y.reshape(*y.shape[:2], model.directions, model.hidden_size)
        ends = [value.swapaxes(0, 1) if layout else value for value in (end.h, end.c) if value is not None]
        return [by_direction if layout else by_direction.transpose(0, 2, 1, 3), *ends]


def save(nodes: list[Any], feed: dict[str, np.ndarray], outputs: list[str], constants: list[Any], path: Path) -> Path:
    """Write a model of nodes."""
    onnx = need("onnx")
    info = onnx.helper.make_tensor_value_info
    kinds = {name: onnx.helper.np_dtype_to_tensor_dtype(value.dtype) for name, value in feed.items()}
    inputs = [info(name, kinds[name], value.shape) for name, value in feed.items()]
    given = [info(name, onnx.TensorProto.FLOAT, None) for name in outputs]
    graph = onnx.helper.make_graph(nodes, "graph", inputs, given, constants)
    imports = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("com.microsoft", 1)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=imports, ir_version=8), path)
    return path


def run(path: Path, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs of a model, as onnxruntime computes them."""
    onnxruntime = need("onnxruntime")
    onnxruntime.set_default_logger_severity(4)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, feed)


def drawn(rng: np.random.Generator) -> Node:
    """A node that onnxruntime runs, with any attributes and inputs."""
    kind = str(rng.choice(list(GATES)))
    direction = str(rng.choice(["forward", "reverse", "bidirectional"]))
    directions = 2 if direction == "bidirectional" else 1
    features, hidden, batch, steps = (int(size) for size in rng.integers(1, 7, 4))
    steps += 3
    attributes: dict[str, Any] = {"direction": direction}
    if rng.random() < 0.6:
        attributes |= _drawn_functions(rng, kind, directions)
    if rng.random() < 0.3:
        attributes["clip"] = _float32(rng.uniform(0.1, 2))
    if kind == "LSTM" and rng.random() < 0.3:
        attributes["input_forget"] = 1
    if kind == "GRU":
        attributes["linear_before_reset"] = int(rng.integers(2))

    def floats(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * 0.5).astype("float32")

    gates = GATES[kind] * hidden
    weights = {"W": floats(directions, gates, features), "R": floats(directions, gates, hidden)}
    feed = {"X": floats(steps, batch, features)}
    if rng.random() < 0.7:
        weights["B"] = floats(directions, 2 * gates)
    if rng.random() < 0.4:
        feed["sequence_lens"] = rng.integers(1, steps + 1, batch).astype("int32")
    for name in ("initial_h", "initial_c")[: 2 if kind == "LSTM" else 1]:
        if rng.random() < 0.5:
            feed[name] = floats(directions, batch, hidden)
    if kind == "LSTM" and rng.random() < 0.4:
        weights["P"] = floats(directions, 3 * hidden)
    return Node(kind, weights, feed, attributes)


def _drawn_functions(rng: np.random.Generator, kind: str, directions: int) -> dict[str, Any]:
    count = len(USUAL[kind])
    names = [str(name) for name in rng.choice(list(TAKES), count)]
    if directions == 2:
        names += [str(name) for name in rng.choice(list(TAKES), count)] if rng.random() < 0.5 else names
    found: dict[str, Any] = {"activations": names}
    for key in ("alpha", "beta"):
        values = [_float32(rng.uniform(0.05, 1)) for name in names if key in TAKES[name]]
        if values:
            found[f"activation_{key}"] = values
    return found


def _float32(value: float) -> float:
    return float(np.float32(value))
