"""Nodes of an ONNX graph, added one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class Builder:
    """Nodes, in the order in which they run, and the value that the last of them made: what comes next reads it.

    Attributes
    ----------
    value : str
        The name of the value: (time, batch, features) where ``time_major``, else (batch, time, features), or (batch,
        features) where it has no time any more.
    lengths : str
        The name of the rows' lengths; empty where they have none.
    """

    def __init__(self, onnx: Any, dtype: str, lengths: str) -> None:
        self.onnx, self.dtype, self.lengths = onnx, dtype, lengths
        self.float = onnx.TensorProto.DOUBLE if dtype == "float64" else onnx.TensorProto.FLOAT
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.value, self.time_major, self.has_time = "x", False, True

    def info(self, name: str, kind: int, shape: Sequence[Any]) -> Any:
        """What an input or output of the graph is."""
        return self.onnx.helper.make_tensor_value_info(name, kind, shape)

    def node(self, operator: str, inputs: Sequence[str], *, output: str = "", name: str = "", **attributes: Any) -> str:
        """Add a node with one output, which becomes the value; return that."""
        output = output or f"v{len(self.nodes)}"
        made = self.onnx.helper.make_node(operator, inputs, [output], name=name or f"n{len(self.nodes)}", **attributes)
        self.nodes.append(made)
        self.value = output
        return output

    def constant(self, value: Any, kind: str = "int64") -> str:
        """Add a constant; return its name."""
        name = f"w{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def floats(self, value: Any) -> str:
        """Add a constant of the model's dtype; return its name."""
        return self.constant(value, self.dtype)

    def order(self, *, time_major: bool) -> None:
        """Bring time, or the batch, to the front."""
        if self.has_time and self.time_major != time_major:
            self.node("Transpose", [self.value], perm=[1, 0, 2])
        self.time_major = time_major

    def steps(self) -> str:
        """The numbers of the steps, (T, 1), of the value, which is time-major."""
        value = self.value
        shape = self.node("Shape", [value], start=0, end=1)
        count = self.node("Squeeze", [shape])
        times = self.node("Range", [self.constant(0), count, self.constant(1)])
        times = self.node("Unsqueeze", [times, self.constant([1])])
        self.value = value
        return times

    def lengths_64(self) -> str:
        """The lengths, (1, B)."""
        value = self.value
        wide = self.node("Cast", [self.lengths], to=self.onnx.TensorProto.INT64)
        wide = self.node("Unsqueeze", [wide, self.constant([0])])
        self.value = value
        return wide

    def where(self, chosen: str, value: str, *, time_major: bool, rest: float = 0.0) -> None:
        """Keep what is chosen (T, B) of a value, and make the rest zero, or another number."""
        if not time_major:
            chosen = self.node("Transpose", [chosen], perm=[1, 0])
        chosen = self.node("Unsqueeze", [chosen, self.constant([2])])
        self.node("Where", [chosen, value, self.floats(rest)])

    def mask(self, *, time_major: bool) -> None:
        """Make zero what lies past the rows' lengths."""
        value = self.value
        if not time_major:
            self.node("Transpose", [value], perm=[1, 0, 2])
        valid = self.node("Less", [self.steps(), self.lengths_64()])
        self.where(valid, value, time_major=time_major)

    def halves(self, value: str) -> list[str]:
        """Both directions' features."""
        names = [f"v{len(self.nodes)}", f"v{len(self.nodes)}_reverse"]
        self.nodes.append(self.onnx.helper.make_node("Split", [value], names, name=f"n{len(self.nodes)}", axis=-1))
        return names
