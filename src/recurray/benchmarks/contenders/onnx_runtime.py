"""onnxruntime on the CPU: ONNX's operators LSTM and GRU, one node for a layer, forward only."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from recurray.benchmarks.contenders.base import Contender, Job
from recurray.benchmarks.problems import Data, Problem

_OPSET, _IR_VERSION = 17, 8  # not the newest: what older onnxruntime releases read as well


class _Operator(NamedTuple):
    """ONNX's operator for a kind of layer: where its gates are in PyTorch's order, its states, and what it is given."""

    name: str
    gates: tuple[int, ...]
    states: str
    options: dict[str, Any]


_OPERATORS = {
    "lstm": _Operator("LSTM", (0, 3, 1, 2), "hc", {}),  # i o f c, of i f g o
    "gru": _Operator("GRU", (1, 0, 2), "h", {"linear_before_reset": 1}),  # z r h, of r z n
}


class OnnxRuntime(Contender):
    """onnxruntime on the CPU."""

    name = "onnxruntime"

    @property
    def packages(self) -> tuple[str, ...]:
        """onnxruntime, and onnx to write the model with."""
        return ("onnxruntime", "onnx")

    def describe(self) -> str:
        """Return the version."""
        import onnxruntime

        return str(onnxruntime.__version__)

    def refuses(self, problem: Problem, mode: str) -> str | None:
        """Refuse all but the forward pass of its operators in float32."""
        if problem.layer not in _OPERATORS:
            return f"ONNX has no operator for the layer {problem.layer!r}"
        if problem.gaps:
            return f"ONNX says nothing of {problem.gaps}"
        if mode != "forward":
            return "it has no backward"
        if problem.dtype != "float32":
            return f"its {_OPERATORS[problem.layer].name} isn't implemented in {problem.dtype}"
        return None

    def prepare(self, problem: Problem, mode: str, data: Data, threads: int) -> Job:
        """Build the model and its session, with its own threads."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        model = make_model(problem, data).SerializeToString()
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        layers, outputs = range(problem.layers), [output.name for output in session.get_outputs()]
        states = _OPERATORS[problem.layer].states
        feed = {"x": data.x}
        if data.lengths is not None:
            feed["lengths"] = np.array(data.lengths, dtype=np.int32)
        if data.h is not None:
            feed |= {
                f"start_{name}{k}": part
                for name, value in zip("hc", (data.h, data.c), strict=True)
                if name in states
                for k, part in enumerate(np.split(value, problem.layers))
            }
        carried = [f"{name}{k}" for k in layers for name in states] if problem.carried else []

        def forward() -> Any:
            results = dict(zip(outputs, session.run(outputs, feed), strict=True))
            for name in carried:
                feed[f"start_{name}"] = results[name]
            return results

        def numbers(results: Any) -> dict[str, Any]:
            ends = {name: np.concatenate([results[f"{name}{k}"] for k in layers]) for name in states}
            return {"y": results["y"], **ends}

        return Job(forward, numbers)


def make_model(problem: Problem, data: Data) -> Any:
    """Return an ONNX model of the layers, with the params in it.

    Its inputs are x (T, B, I), lengths (B,) where ragged, start_h0, start_c0, ... (D, B, H) where state is carried;
    its outputs y (T, B, D * H) and, for each layer, h0, c0, ... (D, B, H).
    """
    from onnx import TensorProto, helper, numpy_helper

    batch, steps, hidden, directions = problem.batch, problem.steps, problem.hidden, problem.directions
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, (steps, batch, problem.inputs))]
    if problem.ragged:
        inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, (batch,)))
    # How Y (T, D, B, H) becomes (T, B, D * H): by dropping the axis of directions, or by reshaping (0 keeps a size).
    change = np.array([0, 0, -1] if problem.bidirectional else [1], dtype=np.int64)
    operator = _OPERATORS[problem.layer]
    constants = [numpy_helper.from_array(change, "change")]
    nodes, outputs = [], []
    below = "x"
    for k in range(problem.layers):
        for name, value in _params(problem, data, k).items():
            constants.append(numpy_helper.from_array(value, f"{name}{k}"))
        starts = [f"start_{name}{k}" for name in operator.states] if problem.carried else []
        inputs += [helper.make_tensor_value_info(n, TensorProto.FLOAT, (directions, batch, hidden)) for n in starts]
        above = "y" if k == problem.layers - 1 and not problem.linear else f"x{k + 1}"
        node = helper.make_node(
            operator.name,
            [below, f"W{k}", f"R{k}", f"B{k}", "lengths" if problem.ragged else "", *starts],
            [f"Y{k}", *(f"{name}{k}" for name in operator.states)],
            hidden_size=hidden,
            direction="bidirectional" if problem.bidirectional else "forward",
            **operator.options,
        )
        if problem.bidirectional:
            join = [
                helper.make_node("Transpose", [f"Y{k}"], [f"by_row{k}"], perm=[0, 2, 1, 3]),
                helper.make_node("Reshape", [f"by_row{k}", "change"], [above]),
            ]
        else:
            join = [helper.make_node("Squeeze", [f"Y{k}", "change"], [above])]
        nodes += [node, *join]
        outputs += [
            helper.make_tensor_value_info(f"{name}{k}", TensorProto.FLOAT, (directions, batch, hidden))
            for name in operator.states
        ]
        below = above
    if problem.linear:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(data.params["linear.weight"].T), "weight"))
        constants.append(numpy_helper.from_array(data.params["linear.bias"], "bias"))
        nodes += [
            helper.make_node("MatMul", [below, "weight"], ["product"]),
            helper.make_node("Add", ["product", "bias"], ["y"]),
        ]
    outputs.insert(0, helper.make_tensor_value_info("y", TensorProto.FLOAT, (steps, batch, problem.outputs)))
    graph = helper.make_graph(nodes, "layers", inputs, outputs, constants)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION, producer_name="recurray"
    )


def _params(problem: Problem, data: Data, layer: int) -> dict[str, Any]:
    """One layer's W (D, GH, features), R (D, GH, H) and B (D, 2GH), the G gates in the operator's order."""
    order = _OPERATORS[problem.layer].gates

    def gates(name: str, suffix: str) -> Any:
        parts = np.split(data.params[f"{name}_l{layer}{suffix}"], len(order))
        return np.concatenate([parts[place] for place in order])

    suffixes = ("", "_reverse")[: problem.directions]
    both = [np.concatenate([gates("bias_ih", suffix), gates("bias_hh", suffix)]) for suffix in suffixes]
    return {
        "W": np.stack([gates("weight_ih", suffix) for suffix in suffixes]),
        "R": np.stack([gates("weight_hh", suffix) for suffix in suffixes]),
        "B": np.stack(both),
    }
