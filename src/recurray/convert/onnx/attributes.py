"""What a node of ONNX's says of itself: its name and its attributes."""

from __future__ import annotations

from typing import Any

from recurray import install
from recurray.files import FormatError

_TYPES = {  # of the attributes that are read, by the names of AttributeProto
    **dict.fromkeys(("alpha", "beta", "epsilon", "clip", "value_float"), "FLOAT"),
    **dict.fromkeys(("axis", "layout", "hidden_size", "input_forget", "linear_before_reset", "value_int"), "INT"),
    **dict.fromkeys(("transA", "transB", "to", "output_sequence"), "INT"),
    **dict.fromkeys(("perm", "axes", "starts", "ends", "value_ints"), "INTS"),
    **dict.fromkeys(("activation_alpha", "activation_beta", "value_floats"), "FLOATS"),
    "activations": "STRINGS",
    "direction": "STRING",
    "value": "TENSOR",
}


def need_onnx() -> Any:
    """Import the onnx package.

    Raises
    ------
    ImportError
        It is missing.
    """
    try:
        import onnx
    except ImportError as error:
        raise ImportError(f"ONNX files need onnx, which is missing: {install.with_extra('onnx')}") from error
    return onnx


def attributes(node: Any) -> dict[str, Any]:
    """The attributes of a node of ONNX's that is read here: numbers, texts, lists of them, tensors."""
    onnx = need_onnx()
    found = {}
    for attribute in node.attribute:
        wanted = _TYPES.get(attribute.name)
        if wanted is not None and attribute.type != getattr(onnx.AttributeProto, wanted):
            raise FormatError(f"the node {shown_node(node)} has an {attribute.name} that isn't of the type {wanted}")
        try:
            value = onnx.helper.get_attribute_value(attribute)
        except ValueError as error:
            raise FormatError(f"the node {shown_node(node)} has an attribute of an unknown type") from error
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        found[attribute.name] = value
    return found


def label(node: Any) -> str:
    """A node's name, or where it has none that of its first output."""
    return str(node.name or next((name for name in node.output if name), ""))


def shown_node(node: Any) -> str:
    """A node as a report shows it."""
    return f"{node.op_type} {label(node)!r}"[:150]
