"""An ONNX file as graphs within graphs, and which of their values are constants: weights, wherever they come from.

Nothing is computed but what weights are wrapped in: a change of shape, a concatenation, a scale. That takes no more
memory than a few times the file's size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurray import files
from recurray.convert.onnx.attributes import attributes, need_onnx, shown_node
from recurray.convert.onnx.folding import FOLDING, GROWTH, Budget, plain
from recurray.files import FormatError

MOST_BYTES = 2**31  # of a file: protobuf's own limit; more lies in a file beside it
_GRAPH, _GRAPHS = 5, 10  # types of attributes
_WITHOUT_COPY = ("Identity", "Unsqueeze", "Squeeze", "Transpose", "Reshape", "Flatten")


@dataclass
class Scope:
    """A graph, within the graph that it stands in: the names of values, and what they are.

    Attributes
    ----------
    graph : onnx.GraphProto
        The graph.
    parent : Scope, optional
        What it stands in.
    holder : onnx.NodeProto, optional
        The node there that it belongs to.
    folder : Path
        Where the file lies.
    budget : Budget
        What may be computed in all scopes together.
    opset : int
        The version of the operators.
    """

    graph: Any
    parent: Scope | None
    holder: Any
    folder: Path
    budget: Budget
    opset: int
    nodes: list[Any] = field(default_factory=list)
    inputs: set[str] = field(default_factory=set)
    producers: dict[str, Any] = field(default_factory=dict)
    consumers: dict[str, list[Any]] = field(default_factory=dict)
    stored: dict[str, Any] = field(default_factory=dict)
    known: dict[str, NDArray[Any] | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.stored = {tensor.name: tensor for tensor in self.graph.initializer}
        self.inputs = {value.name for value in self.graph.input}
        self.nodes = list(self.graph.node)
        for node in self.nodes:
            for name in node.output:
                self.producers[name] = node
            for name in node.input:
                self.consumers.setdefault(name, []).append(node)
            for inner in graphs_of(node):  # what a graph within reads from here is used too
                for name in _names_used(inner):
                    self.consumers.setdefault(name, []).append(node)

    def home(self, name: str) -> Scope | None:
        """The scope that a name belongs to, this or one around it; None where nobody makes it."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.producers or name in scope.stored or name in scope.inputs:
                return scope
            scope = scope.parent
        return None

    def producer(self, name: str) -> Any:
        """The node that makes a value; None for inputs and stored tensors."""
        home = self.home(name)
        return None if home is None or name in home.stored else home.producers.get(name)

    def constant(self, name: str) -> NDArray[Any] | None:
        """The value of a name; None where it isn't a constant."""
        home = self.home(name)
        if home is None:
            return None
        if name not in home.known:
            home.known[name] = None  # while it is being found: a value that is made of itself isn't one
            home.known[name] = home._found(name)
        return home.known[name]

    def _found(self, name: str) -> NDArray[Any] | None:
        if name in self.stored:
            return self._array(self.stored[name])
        node = self.producers.get(name)
        if node is None or node.domain not in ("", "ai.onnx"):
            return None
        if node.op_type == "Constant":
            return self._constant_node(node)
        folding = FOLDING.get(node.op_type)
        if folding is None or list(node.output).index(name) != 0:
            return None
        inputs = [self.constant(given) if given else None for given in node.input]
        if any(value is None and given for value, given in zip(inputs, node.input, strict=True)):
            return None
        try:
            return np.asarray(folding(self.budget, node, *inputs))
        except FormatError:
            raise
        except Exception as error:  # whatever NumPy raises of a file's arrays and attributes
            raise FormatError(f"the node {shown_node(node)} can't be computed: {error}") from error

    def _constant_node(self, node: Any) -> NDArray[Any] | None:
        given = attributes(node)
        if "value" in given:
            return self._array(given["value"])
        for key, kind in (("value_float", "f4"), ("value_floats", "f4"), ("value_int", "i8"), ("value_ints", "i8")):
            if key in given:
                return np.asarray(given[key], kind)
        return None

    def _array(self, tensor: Any) -> NDArray[Any]:
        onnx = need_onnx()
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            return self._external(tensor)
        try:
            return plain(onnx.numpy_helper.to_array(tensor))
        except Exception as error:  # the helper checks nothing: whatever NumPy or protobuf says
            raise FormatError(f"the tensor {tensor.name[:100]!r} is damaged: {error}") from error

    def _external(self, tensor: Any) -> NDArray[Any]:
        """A tensor that lies in a file beside this one."""
        onnx = need_onnx()
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = Path(entries.get("location", ""))
        place = self.folder / location
        if location.is_absolute() or ".." in location.parts or not entries.get("location"):
            raise FormatError(
                f"the tensor {tensor.name[:100]!r} lies outside the file's folder: {str(location)[:99]!r}"
            )
        if not place.resolve().is_relative_to(self.folder.resolve()):
            raise FormatError(f"the tensor {tensor.name[:100]!r} lies outside the file's folder, by a link")
        try:
            dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
            shape = [int(size) for size in tensor.dims]
            count = int(np.prod([float(size) for size in shape]))
            size, offset = count * dtype.itemsize, int(entries.get("offset", 0))
            if min([*shape, offset], default=0) < 0:
                raise ValueError("a size is negative")
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise FormatError(f"the tensor {tensor.name[:100]!r} is described wrongly: {error}") from error
        with files.reading(place), files.open_file(place) as file:
            whole = place.stat().st_size
            if offset + size > whole:
                raise FormatError(f"the tensor {tensor.name[:100]!r} goes past the end of {location.name[:100]!r}")
            self.budget.left += GROWTH * size
            file.seek(offset)
            data = file.read(size)
        return plain(np.frombuffer(data, dtype.newbyteorder("<") if dtype.kind != "V" else dtype).reshape(shape))

    # What a value is, where it isn't a constant

    def is_zero(self, name: str) -> bool:
        """Whether a value is all zeros, of whatever size."""
        value = self.constant(name)
        if value is not None:
            return value.dtype.kind in "fiub" and not value.any()
        node = self.producer(name)
        if node is None:
            return False
        if node.op_type == "ConstantOfShape":
            filling = attributes(node).get("value")
            return filling is None or not self._array(filling).any()
        passes = (*_WITHOUT_COPY, "Expand", "Slice", "Tile", "Cast")
        return node.op_type in passes and bool(node.input) and self._home_is_zero(node)

    def _home_is_zero(self, node: Any) -> bool:
        home = self.home(node.output[0])
        return home is not None and home.is_zero(node.input[0])

    def expanded(self, name: str) -> NDArray[Any] | None:
        """The constant that a value repeats along an axis of unknown size; None where it doesn't."""
        node = self.producer(name)
        if node is None or node.op_type not in ("Expand", "Tile"):
            return None
        home = self.home(name)
        return None if home is None else home.constant(node.input[0])


def open_graph(path: str | Path) -> Scope:
    """Read an ONNX file.

    Raises
    ------
    FormatError
        It isn't one.
    OSError
        It can't be opened.
    ImportError
        The onnx package is missing.
    """
    onnx = need_onnx()
    with files.reading(path):
        data = files.read_bytes(path, MOST_BYTES)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:  # protobuf's own, whose class is another in each of its implementations
        raise FormatError(f"{path}: it isn't an ONNX file, or is damaged") from error
    if not model.HasField("graph") or not model.graph.node:
        raise FormatError(f"{path}: it isn't an ONNX file: there is no graph with nodes in it")
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)
    return Scope(model.graph, None, None, Path(path).parent, Budget(GROWTH * len(data) + 2**20), opset)


def inner(scope: Scope, node: Any) -> list[Scope]:
    """The scopes of a node's graphs."""
    return [Scope(graph, scope, node, scope.folder, scope.budget, scope.opset) for graph in graphs_of(node)]


def scopes(scope: Scope) -> Iterator[Scope]:
    """A scope, and all that stand in it."""
    yield scope
    for node in scope.nodes:
        for within in inner(scope, node):
            yield from scopes(within)


def graphs_of(node: Any) -> list[Any]:
    """The graphs within a node: the branches of an If, the body of a Loop or Scan."""
    found = []
    for attribute in node.attribute:
        if attribute.type == _GRAPH:
            found.append(attribute.g)
        elif attribute.type == _GRAPHS:
            found.extend(attribute.graphs)
    return found


def _names_used(graph: Any) -> set[str]:
    names = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    for node in graph.node:
        for within in graphs_of(node):
            names |= _names_used(within)
    return names
