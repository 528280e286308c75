"""Models of a single recurrent node of ONNX's, run by onnxruntime, which shares no line with the library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.needs import need

Spec = tuple[Any, ...]  # an activation: its name in ONNX and its parameters, which onnxruntime is always given

# ONNX's activations and the parameters to choose from; first those between 0 and 1.
BOUNDED: Mapping[str, Sequence[tuple[float, ...]]] = {"Sigmoid": [()], "HardSigmoid": [(0.2, 0.5), (0.3, 0.4)]}
ACTIVATIONS: Mapping[str, Sequence[tuple[float, ...]]] = {
    **BOUNDED,
    "Tanh": [()],
    "Softsign": [()],
    "ScaledTanh": [(0.9, 1.2), (1.7, 0.7)],
    "Relu": [()],
    "LeakyRelu": [(0.01,), (0.3,), (-0.4,)],
    "ThresholdedRelu": [(0.2,), (1.0,)],
    "Elu": [(1.0,), (0.4,), (-0.6,)],
    "Softplus": [()],
    "Affine": [(0.7, 0.1), (-0.4, 0.2)],
}


def chosen(rng: np.random.Generator, names: Sequence[str] = tuple(ACTIVATIONS)) -> Spec:
    """One of them at random."""
    name = names[rng.integers(len(names))]
    return name, *ACTIVATIONS[name][rng.integers(len(ACTIVATIONS[name]))]


def run(
    kind: str,
    arrays: Mapping[str, np.ndarray],
    inputs: Sequence[str],
    outputs: Sequence[str],
    activations: Sequence[Spec],
    **attributes: Any,
) -> list[np.ndarray]:
    """Run a node, an "LSTM" say; of ``inputs``, in the node's order, are left out those that aren't in ``arrays``."""
    onnx, runtime = need("onnx"), need("onnxruntime")
    attributes["activations"] = [name for name, *_ in activations]
    for k, parameter in enumerate(("activation_alpha", "activation_beta")):
        values = [values[k] for _, *values in activations if len(values) > k]
        attributes |= {parameter: values} if values else {}
    attributes = {name: value for name, value in attributes.items() if value is not None}
    node = onnx.helper.make_node(kind, [name if name in arrays else "" for name in inputs], outputs, **attributes)
    types = {name: onnx.helper.np_dtype_to_tensor_dtype(a.dtype) for name, a in arrays.items()}
    graph = onnx.helper.make_graph(
        [node],
        "one node",
        [onnx.helper.make_tensor_value_info(name, types[name], a.shape) for name, a in arrays.items()],
        [onnx.helper.make_tensor_value_info(name, types["X"], None) for name in outputs],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    results: list[np.ndarray] = session.run(None, dict(arrays))
    return results
