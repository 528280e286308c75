"""Keras's activation functions in our terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recurray.activations.by_name import function
from recurray.convert.keras.options import Node
from recurray.messages import shown

IDENTITY = "identity"
SAME = (
    *("elu", "exponential", "gelu", "hard_tanh", "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid", "silu"),
    *("softmax", "softplus", "softsign", "tanh"),
)
OURS: dict[str, Any] = {name: name for name in SAME} | {
    "linear": IDENTITY,
    "leaky_relu": ("leaky_relu", 0.2),
    "swish": "silu",
}
OF_KERAS_2 = ("hard_sigmoid", 0.2, 0.5)
OF_KERAS_3 = ("hard_sigmoid", 1 / 6, 0.5)


def of(node: Node, option: str, version: str | None, default: Any = "linear") -> Any:
    """What `recurray.activations.function` takes for the function that an option of a layer names.

    Raises
    ------
    FormatError
        There is no such function here, or it depends on which Keras wrote the file and that isn't known.
    """
    given = node.option(option, default)
    if isinstance(given, Mapping):  # a function, or a layer in the place of one
        kind, options = given.get("class_name"), given.get("config")
        if kind != "function" and isinstance(kind, str) and isinstance(options, Mapping):
            return of_layer(Node(kind, node.name, options), version)
        raise node.refuse(f"the function {shown(options)} is somebody's own, which can't be said here")
    if given is None:
        given = "linear"
    if not isinstance(given, str):
        raise node.refuse(f"{option} must be a function's name, not {shown(given)}")
    if given == "hard_sigmoid":
        return hard_sigmoid(node, version)
    if given not in OURS:
        raise node.refuse(f"the function {shown(given)} isn't one that recurray has")
    return OURS[given]


def hard_sigmoid(node: Node, version: str | None) -> Any:
    """Keras's hard sigmoid, which isn't the same in all of its versions."""
    major = major_of(version)
    if major is None:
        raise node.refuse(
            "hard_sigmoid is 0.2 x + 0.5 up to Keras 2 and x / 6 + 0.5 from Keras 3 on, and the file doesn't say which "
            "wrote it: give keras_version"
        )
    return OF_KERAS_3 if major >= 3 else OF_KERAS_2


def major_of(version: str | None) -> int | None:
    """The first number of a version."""
    first = (version or "").partition(".")[0]
    return int(first) if first.isascii() and first.isdecimal() and len(first) < 4 else None


def of_layer(node: Node, version: str | None) -> Any:
    """The same of a layer that is a function: Activation, ReLU and so on."""
    if node.kind == "Activation":
        return of(node, "activation", version)
    if node.kind == "Softmax":
        node.needs(axis=-1)
        return "softmax"
    if node.kind == "ELU":
        return known(node, "alpha", ("elu", node.number("alpha", 1.0)), "elu")
    if node.kind == "LeakyReLU":
        slope = node.number("alpha", 0.3) if "alpha" in node.options else node.number("negative_slope", 0.3)
        return known(node, "slope", ("leaky_relu", slope), "leaky_relu")
    if node.kind == "ThresholdedReLU":
        return known(node, "theta", ("thresholded_relu", node.number("theta", 1.0)), "thresholded_relu")
    if node.kind == "ReLU":
        node.needs(threshold=0.0)
        most, slope = node.option("max_value", None), node.number("negative_slope", 0.0)
        if most is None:
            return known(node, "slope", ("leaky_relu", slope), "leaky_relu") if slope else "relu"
        if most == 6 and not slope:
            return known(node, "max_value", "relu6", "relu6")
        raise node.refuse(f"max_value={shown(most)} with the slope {slope} can't be said here")
    raise node.refuse("it can't be said here as a function")


LAYERS = ("Activation", "Softmax", "ELU", "LeakyReLU", "ThresholdedReLU", "ReLU")


def known(node: Node, option: str, spec: Any, name: str) -> Any:
    """A function that there is here."""
    try:
        function(spec, option)
    except (TypeError, ValueError) as error:
        raise node.refuse(f"the function {shown(name)} isn't one that recurray has: {error}") from None
    return spec
