"""What stands around recurrent nodes in an ONNX graph, as layers: a node or two, and the axes on both sides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recurray.convert.onnx.attributes import attributes
from recurray.convert.onnx.graph import Scope
from recurray.convert.onnx.node import ACTIVATIONS, decimal
from recurray.layers import Activation, Embedding, Last, Layer, LayerNorm, Linear

Axes = tuple[str, ...]  # what an array's axes are: B batch, T time, F features; D directions, H units of one


class Made(NamedTuple):
    """How layers are made."""

    batch_first: bool
    backend: Any
    dtype: str


@dataclass(frozen=True)
class Step:
    """A part of a line.

    Attributes
    ----------
    nodes : tuple of onnx.NodeProto
        Its nodes.
    begin, end : str
        The values before and behind it.
    before, behind : tuple of str
        Their axes.
    make : callable, optional
        What makes the layer; None where only the shape changes, or nothing.
    """

    nodes: tuple[Any, ...]
    begin: str
    end: str
    before: Axes
    behind: Axes
    make: Callable[[Made], Layer] | None = None


def down(scope: Scope, value: str, axes: Axes, sizes: dict[str, int]) -> Step | None:
    """The part that follows a value; None where that isn't one node, or none that can be said.

    ``sizes`` are those of axes D and H.
    """
    followers = scope.consumers.get(value, [])
    if len(followers) != 1 or is_output(scope, value):
        return None
    (node,) = followers
    if node.domain not in ("", "ai.onnx") or len(node.output) < 1:
        return None
    if node.op_type in _SHAPES and node.input[0] == value:
        behind = _SHAPES[node.op_type](scope, node, axes, sizes)
        return None if behind is None else Step((node,), value, node.output[0], axes, behind)
    if node.op_type == "Gather" and node.input[0] == value:
        return _last(scope, node, axes)
    if axes[-1] != "F":
        return None
    if node.op_type == "MatMul":
        after = scope.consumers.get(node.output[0], [])
        if len(after) == 1 and after[0].op_type == "Add" and not is_output(scope, node.output[0]):
            step = _linear(scope, after[0], axes)
            if step is not None:
                return step
    step = _layer(scope, node, axes)
    return step if step is not None and step.begin == value else None


def up(scope: Scope, value: str, axes: Axes) -> Step | None:
    """The part that makes a value; None where there is none that can be said."""
    node = scope.producers.get(value)
    if node is None or node.domain not in ("", "ai.onnx") or value != node.output[0]:
        return None
    if node.op_type == "Transpose":
        perm = attributes(node).get("perm")
        if perm is None or sorted(perm) != list(range(len(axes))):
            return None
        before = tuple(axes[perm.index(place)] for place in range(len(axes)))
        return Step((node,), node.input[0], value, before, axes)
    if axes[-1:] != ("F",):
        return None
    if node.op_type == "Gather":
        return _embedding(scope, node, axes)
    return _layer(scope, node, axes)


def is_output(scope: Scope, value: str) -> bool:
    """Whether a value is one of its graph's outputs."""
    return any(output.name == value for output in scope.graph.output)


# Changes of shape -----------------------------------------------------------------------------------------------------


def _transposed(scope: Scope, node: Any, axes: Axes, sizes: dict[str, int]) -> Axes | None:
    perm = attributes(node).get("perm", range(len(axes))[::-1])
    return tuple(axes[place] for place in perm) if sorted(perm) == list(range(len(axes))) else None


def _squeezed(scope: Scope, node: Any, axes: Axes, sizes: dict[str, int]) -> Axes | None:
    """Without the axis of a single direction."""
    given = scope.constant(node.input[1]) if len(node.input) > 1 else attributes(node).get("axes")
    if given is None or sizes.get("D") != 1 or "D" not in axes:
        return None
    dropped = [int(axis) % len(axes) for axis in np.asarray(given).reshape(-1)]
    if dropped != [axes.index("D")]:
        return None
    return tuple("F" if axis == "H" else axis for axis in axes if axis != "D")


def _reshaped(scope: Scope, node: Any, axes: Axes, sizes: dict[str, int]) -> Axes | None:
    """Directions and units of each become features, where they lie side by side."""
    shape = scope.constant(node.input[1]) if len(node.input) > 1 else None
    if shape is None or "D" not in axes or shape.ndim != 1 or len(shape) != len(axes) - 1:
        return None
    if axes[-2:] != ("D", "H") and sizes["D"] != 1:
        return None
    wanted = [int(size) for size in shape]
    rest = tuple(axis for axis in axes if axis not in "DH")
    kept = [size > 0 or size == -1 or axes[place] == rest[place] for place, size in enumerate(wanted[:-1])]
    if wanted[-1] not in (-1, sizes["D"] * sizes["H"]) or wanted.count(-1) > 1 or not all(kept):
        return None
    return (*rest, "F")


def _same(scope: Scope, node: Any, axes: Axes, sizes: dict[str, int]) -> Axes:
    return axes


_SHAPES: dict[str, Callable[[Scope, Any, Axes, dict[str, int]], Axes | None]] = {
    "Transpose": _transposed,
    "Squeeze": _squeezed,
    "Reshape": _reshaped,
    "Identity": _same,
    "Dropout": _same,
}


# Layers ---------------------------------------------------------------------------------------------------------------


def _layer(scope: Scope, node: Any, axes: Axes) -> Step | None:
    if node.op_type in ("MatMul", "Gemm", "Add"):
        return _linear(scope, node, axes)
    if node.op_type == "LayerNormalization":
        return _layer_norm(scope, node, axes)
    return _function(scope, node, axes)


def _linear(scope: Scope, node: Any, axes: Axes) -> Step | None:
    nodes: tuple[Any, ...] = (node,)
    bias: NDArray[Any] | None = None
    given = attributes(node)
    if node.op_type == "Add":
        product = next((scope.producers[name] for name in node.input if name in scope.producers), None)
        bias = next((own for name in node.input if (own := scope.constant(name)) is not None), None)
        if product is None or product.op_type != "MatMul" or bias is None:
            return None
        if len(scope.consumers.get(product.output[0], [])) != 1 or is_output(scope, product.output[0]):
            return None
        nodes = (product, node)
    elif node.op_type == "Gemm" and len(node.input) > 2 and node.input[2]:
        bias = scope.constant(node.input[2])
        if bias is None:
            return None
    weight = scope.constant(nodes[0].input[1])
    if weight is None or weight.ndim != 2 or weight.dtype.kind != "f" or scope.constant(nodes[0].input[0]) is not None:
        return None
    if node.op_type == "Gemm":
        if given.get("transA", 0) or len(axes) != 2:
            return None
        weight = weight if given.get("transB", 0) else weight.T
        weight = weight * weight.dtype.type(given.get("alpha", 1.0))
        bias = None if bias is None else bias * bias.dtype.type(given.get("beta", 1.0))
    else:
        weight = weight.T
    if bias is not None:
        if (
            bias.dtype.kind != "f"
            or bias.size not in (1, len(weight))
            or bias.shape[-1:] != (bias.size,) * (bias.ndim > 0)
        ):
            return None
        bias = np.broadcast_to(bias.reshape(-1), (len(weight),))
    params = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}

    def make(made: Made) -> Layer:
        sizes = weight.shape[::-1]
        return Linear(*sizes, bias=bias is not None, backend=made.backend, dtype=made.dtype, params=params)

    return Step(nodes, nodes[0].input[0], node.output[0], axes, axes, make)


def _layer_norm(scope: Scope, node: Any, axes: Axes) -> Step | None:
    given = attributes(node)
    weight = scope.constant(node.input[1])
    if weight is None or weight.ndim != 1 or given.get("axis", -1) not in (-1, len(axes) - 1):
        return None
    bias = scope.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros_like(weight)
    if bias is None or bias.shape != weight.shape or len([name for name in node.output if name]) != 1:
        return None
    eps, params = decimal(given.get("epsilon", 1e-5)), {"weight": weight, "bias": bias}

    def make(made: Made) -> Layer:
        return LayerNorm(len(weight), eps=eps, backend=made.backend, dtype=made.dtype, params=params)

    return Step((node,), node.input[0], node.output[0], axes, axes, make)


def _function(scope: Scope, node: Any, axes: Axes) -> Step | None:
    """A function of each element, or along the last axis."""
    kind = node.op_type.lower()
    if node.op_type in ("Softmax", "LogSoftmax"):
        given = attributes(node)
        usual = -1 if scope.opset >= 13 else 1
        if given.get("axis", usual) not in (-1, len(axes) - 1):
            return None
        name, values = {"softmax": "softmax", "logsoftmax": "log_softmax"}[kind], {}
    elif kind in ACTIVATIONS and kind not in ("affine", "scaledtanh"):
        name, takes, defaults = ACTIVATIONS[kind]
        assert defaults is not None  # noqa: S101
        given = attributes(node)
        values = {key: decimal(given.get(key, usual)) for key, usual in zip(takes, defaults, strict=True)}
    else:
        return None

    def make(made: Made) -> Layer:
        return Activation(name, **values)

    return Step((node,), node.input[0], node.output[0], axes, axes, make)


def _embedding(scope: Scope, node: Any, axes: Axes) -> Step | None:
    table = scope.constant(node.input[0])
    if table is None or table.ndim != 2 or table.dtype.kind != "f" or attributes(node).get("axis", 0) != 0:
        return None
    if scope.constant(node.input[1]) is not None:
        return None

    def make(made: Made) -> Layer:
        return Embedding(*table.shape, backend=made.backend, dtype=made.dtype, params={"weight": table})

    return Step((node,), node.input[1], node.output[0], axes[:-1], axes, make)


def _last(scope: Scope, node: Any, axes: Axes) -> Step | None:
    """The last step, by its number -1."""
    index: NDArray[Any] | None = scope.constant(node.input[1])
    along = attributes(node).get("axis", 0)
    if index is None or index.ndim or int(index) != -1 or axes not in (("B", "T", "F"), ("T", "B", "F")):
        return None
    if axes[along] != "T":
        return None
    return Step(
        (node,), node.input[0], node.output[0], axes, ("B", "F"), lambda made: Last(batch_first=made.batch_first)
    )
