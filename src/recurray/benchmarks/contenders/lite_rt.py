"""LiteRT (TensorFlow Lite) on the CPU: its operators of whole LSTMs, forward only."""

from __future__ import annotations

from typing import Any

import numpy as np

from recurray.benchmarks.contenders.base import Contender, Job
from recurray.benchmarks.problems import Data, Problem

_VERSION = 3  # of the form of the file
_MATRICES = 8  # of a direction: of the input, then of the output before, by gate


class LiteRT(Contender):
    """LiteRT on the CPU, with the operators that TensorFlow's converter makes of an LSTM, and its own kernels.

    The states are variables of its, which are set to zero before each call; it has no output for the final c, which is
    read from there when numbers are compared.
    """

    name = "litert"

    @property
    def packages(self) -> tuple[str, ...]:
        """LiteRT, and flatbuffers to write the model with."""
        return ("ai_edge_litert", "flatbuffers")

    def describe(self) -> str:
        """Return the version."""
        from importlib.metadata import version

        return version("ai-edge-litert")

    def refuses(self, problem: Problem, mode: str) -> str | None:
        """Refuse all but the forward pass of an LSTM in float32."""
        if problem.layer != "lstm":
            return f"it has no operator for the layer {problem.layer!r}"
        if problem.ragged or problem.gaps:
            return "its operators know of no rows that aren't whole"
        if mode != "forward":
            return "it has no backward"
        if problem.dtype != "float32":
            return f"its operators aren't written for {problem.dtype}"
        return None

    def prepare(self, problem: Problem, mode: str, data: Data, threads: int) -> Job:
        """Build the model and its interpreter, with its own threads."""
        from ai_edge_litert.interpreter import Interpreter

        content, states = make_model(problem, data)
        interpreter = Interpreter(model_content=content, num_threads=threads)
        interpreter.allocate_tensors()
        x, y = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
        if data.h is not None:
            for of_layer, h, c in zip(states, data.h, data.c, strict=True):
                interpreter.set_tensor(of_layer[0], h)
                interpreter.set_tensor(of_layer[1], c)

        def forward() -> Any:
            if not problem.carried:
                interpreter.reset_all_variables()
            interpreter.set_tensor(x, data.x)
            interpreter.invoke()
            return interpreter.get_tensor(y)

        def numbers(y: Any) -> dict[str, Any]:
            ends = [[interpreter.get_tensor(index) for index in pair] for pair in states]
            return {"y": y, "h": np.stack([h for h, _ in ends]), "c": np.stack([c for _, c in ends])}

        return Job(forward, numbers)


def make_model(problem: Problem, data: Data) -> tuple[bytes, list[tuple[int, int]]]:
    """Return a file of LiteRT's with the layers and the params in it, and by layer and direction where its h and c are.

    Its input is x (T, B, I), its output y (T, B, D * H).
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    written = _Written(schema)
    batch, steps, directions = problem.batch, problem.steps, problem.directions
    below = first = written.tensor((steps, batch, problem.inputs))
    states: list[tuple[int, int]] = []
    for layer in range(problem.layers):
        params, own = [], []
        for suffix in ("", "_reverse")[:directions]:
            given = _by_gate(data, f"_l{layer}{suffix}")
            params.append([written.tensor(value.shape, value) for value in given])
            own.append([written.tensor((batch, problem.hidden), is_variable=True) for _ in range(2)])
        above = written.tensor((steps, batch, directions * problem.hidden))
        written.add(below, params, own, above, bidirectional=problem.bidirectional)
        states += [(pair[0], pair[1]) for pair in own]
        below = above
    if problem.linear:
        above = written.tensor((steps, batch, problem.linear))
        weights = [
            written.tensor(data.params[name].shape, data.params[name]) for name in ("linear.weight", "linear.bias")
        ]
        options = schema.FullyConnectedOptionsT()
        options.keepNumDims = True
        written.operator(
            "FULLY_CONNECTED", [below, *weights], above, schema.BuiltinOptions.FullyConnectedOptions, options
        )
        below = above
    builder = flatbuffers.Builder(1024)
    builder.Finish(written.model(first, below).Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output()), states


def _by_gate(data: Data, place: str) -> list[Any]:
    """A direction's matrices of the input, then the recurrent ones, then the biases, each by the gates i, f, c, o."""
    biases = data.params[f"bias_ih{place}"] + data.params[f"bias_hh{place}"]
    arrays = data.params[f"weight_ih{place}"], data.params[f"weight_hh{place}"], biases
    return [np.ascontiguousarray(gate) for array in arrays for gate in np.split(array, 4)]


class _Written:
    """What a model is made of, as it grows."""

    def __init__(self, schema: Any) -> None:
        self.schema = schema
        self.tensors: list[Any] = []
        self.buffers: list[Any] = [schema.BufferT()]  # the first is empty, for tensors without numbers
        self.operators: list[Any] = []
        self.kinds: list[Any] = []

    def tensor(self, shape: tuple[int, ...], value: Any = None, *, is_variable: bool = False) -> int:
        """Add a tensor of floats; return its number."""
        made = self.schema.TensorT()
        made.shape, made.type, made.name = list(shape), self.schema.TensorType.FLOAT32, f"t{len(self.tensors)}"
        made.buffer, made.isVariable = 0, is_variable
        if value is not None:
            buffer = self.schema.BufferT()
            buffer.data = np.frombuffer(value.tobytes(), np.uint8)
            made.buffer = len(self.buffers)
            self.buffers.append(buffer)
        self.tensors.append(made)
        return len(self.tensors) - 1

    def add(self, x: int, params: list[list[int]], states: list[list[int]], y: int, *, bidirectional: bool) -> None:
        """Add a layer; -1 is for what an operator may be given and isn't: peepholes, projection, normalisation."""
        parts = [[*own[:_MATRICES], *[-1] * 3, *own[_MATRICES:], *[-1] * 2] for own in params]
        inputs = [x, *(index for part in parts for index in part), *(index for pair in states for index in pair)]
        schema = self.schema
        if bidirectional:
            name, options = "BIDIRECTIONAL_SEQUENCE_LSTM", schema.BidirectionalSequenceLSTMOptionsT()
            options.mergeOutputs = True
            inputs += [-1] * 9  # another input
            kind = schema.BuiltinOptions.BidirectionalSequenceLSTMOptions
        else:
            name, options = "UNIDIRECTIONAL_SEQUENCE_LSTM", schema.UnidirectionalSequenceLSTMOptionsT()
            inputs += [-1] * 4
            kind = schema.BuiltinOptions.UnidirectionalSequenceLSTMOptions
        options.fusedActivationFunction, options.timeMajor = schema.ActivationFunctionType.TANH, True
        self.operator(name, inputs, y, kind, options)

    def operator(self, name: str, inputs: list[int], output: int, kind: int, options: Any) -> None:
        """Add an operator."""
        code = self.schema.OperatorCodeT()
        code.builtinCode = getattr(self.schema.BuiltinOperator, name)
        code.deprecatedBuiltinCode, code.version = code.builtinCode, 1
        made = self.schema.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = len(self.kinds), inputs, [output]
        made.builtinOptionsType, made.builtinOptions = kind, options
        self.kinds.append(code)
        self.operators.append(made)

    def model(self, x: int, y: int) -> Any:
        """The model from its input to its output."""
        graph, made = self.schema.SubGraphT(), self.schema.ModelT()
        graph.tensors, graph.operators, graph.inputs, graph.outputs = self.tensors, self.operators, [x], [y]
        made.version, made.operatorCodes, made.subgraphs, made.buffers = _VERSION, self.kinds, [graph], self.buffers
        return made
