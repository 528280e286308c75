"""Keras's layers that carry nothing from step to step, as ours."""

from __future__ import annotations

from typing import Any

import numpy as np

from recurray import layers
from recurray.convert.keras import activations
from recurray.convert.keras.made import Made, Place
from recurray.convert.keras.options import Node
from recurray.convert.keras.weights import Weights, shape_of
from recurray.layers import Layer

NOTHING = (  # in inference
    "Dropout",  # of a noise_shape
    "ActivityRegularization",
    "AlphaDropout",
    "GaussianDropout",
    "GaussianNoise",
    "SpatialDropout1D",
)
WITH_ARRAYS = ("Dense", "TimeDistributedDense", "Embedding", "LayerNormalization", "BatchNormalization")
KINDS = (*WITH_ARRAYS, "TimeDistributed", "Masking", *NOTHING, *activations.LAYERS)
MOST_DIAGONAL = 2**12  # features of a diagonal weight, which is stored whole
TIME_DISTRIBUTED = ("Dense", "Dropout", "LayerNormalization", "BatchNormalization", *activations.LAYERS)


def made(
    node: Node, weights: Weights, version: str | None, place: Place, placed: dict[str, Any], outer: Node | None = None
) -> Made:
    """Make the layers that do what a layer of a file does.

    ``placed`` says backend and dtype; ``outer`` is the TimeDistributed around the layer, if there is one.
    """
    found: tuple[Layer, ...] = ()
    remarks: tuple[str, ...] = ()
    if node.kind == "TimeDistributed":
        inner = node.inner("layer")
        if inner.kind not in TIME_DISTRIBUTED:
            raise node.refuse(f"it wraps {inner}, which can't be said here: Dense can")
        return made(inner, weights, version, place, placed, outer=node)
    if node.kind in ("Dense", "TimeDistributedDense"):
        found = _dense(node, weights, version, placed, outer)
    elif node.kind == "Embedding":
        found = _embedding(node, weights, placed)
        return Made(found, remarks, 3, place.flipped)
    elif node.kind == "LayerNormalization":
        found = _layer_norm(node, weights, placed, place.axes, outer)
    elif node.kind == "BatchNormalization":
        found = _batch_norm(node, weights, placed, place.axes, outer)
        remarks = ("its means and variances are those of the file, in training too",)
    elif node.kind == "Dropout" and node.option("noise_shape", None) is None:
        found = (layers.Dropout(node.number("rate"), **placed),)
    elif node.kind == "Masking":
        remarks = ("the model is called with the mask that mask(x) gives",)
    elif node.kind in NOTHING:
        remarks = ("it is of training alone and isn't in the model",)
    elif node.kind == "Softmax" and place.masked:
        raise node.refuse("a mask reaches it, which Keras takes for one of features: Activation('softmax') can be said")
    else:
        found = _activation(activations.of_layer(node, version), placed)
    return Made(found, remarks, place.axes, place.flipped)


def _arrays(node: Node, weights: Weights, roles: tuple[str, ...], outer: Node | None) -> dict[str, Any]:
    (found,) = weights.of(node, roles) if outer is None else weights.of(outer, roles, ("layer",))
    return found


def _dense(
    node: Node, weights: Weights, version: str | None, placed: dict[str, Any], outer: Node | None
) -> tuple[Layer, ...]:
    node.needs(quantization_config=None, lora_rank=None)
    units, bias = node.size("units"), node.flag("use_bias", True)
    arrays = _arrays(node, weights, ("kernel", "bias") if bias else ("kernel",), outer)
    features, _ = shape_of(node, "kernel", arrays["kernel"], ("input", units))
    params = {"weight": arrays["kernel"].T}
    if bias:
        shape_of(node, "bias", arrays["bias"], (units,))
        params["bias"] = arrays["bias"]
    function = activations.of(node, "activation", version)
    return layers.Linear(features, units, bias=bias, params=params, **placed), *_activation(function, placed)


def _activation(spec: Any, placed: dict[str, Any]) -> tuple[Layer, ...]:
    if spec == activations.IDENTITY:
        return ()
    name, *values = (spec,) if isinstance(spec, str) else spec
    return (layers.Activation(name, **dict(zip(("alpha", "beta"), values, strict=False)), **placed),)


def _embedding(node: Node, weights: Weights, placed: dict[str, Any]) -> tuple[Layer, ...]:
    node.needs(quantization_config=None, lora_rank=None)
    rows, size = node.size("input_dim"), node.size("output_dim")
    (arrays,) = weights.of(node, ("embeddings",))
    shape_of(node, "embeddings", arrays["embeddings"], (rows, size))
    return (layers.Embedding(rows, size, params={"weight": arrays["embeddings"]}, **placed),)


def _layer_norm(
    node: Node, weights: Weights, placed: dict[str, Any], axes: int, outer: Node | None
) -> tuple[Layer, ...]:
    node.needs(rms_scaling=False)
    scale, center = node.flag("scale", True), node.flag("center", True)
    roles = tuple(role for role, there in (("gamma", scale), ("beta", center)) if there)
    if not roles:
        raise node.refuse("it has neither scale nor center, so that its size isn't in the file")
    arrays, size = _features(node, weights, roles, axes, outer)
    like = arrays[roles[0]]
    params = {
        "weight": arrays.get("gamma", np.ones_like(like)),
        "bias": arrays.get("beta", np.zeros_like(like)),
    }
    return (layers.LayerNorm(size, eps=node.number("epsilon", 1e-3), params=params, **placed),)


def _batch_norm(
    node: Node, weights: Weights, placed: dict[str, Any], axes: int, outer: Node | None
) -> tuple[Layer, ...]:
    """Each feature scaled and shifted by itself, as in inference: a Linear with a diagonal weight."""
    scale, center = node.flag("scale", True), node.flag("center", True)
    roles = (*(role for role, there in (("gamma", scale), ("beta", center)) if there), "moving_mean", "moving_variance")
    arrays, size = _features(node, weights, roles, axes, outer)
    if size > MOST_DIAGONAL:
        raise node.refuse(f"its {size:,} features are too many: at most {MOST_DIAGONAL:,} can be said here")
    values = {role: array.astype("float64") for role, array in arrays.items()}
    slope = values.get("gamma", 1.0) / np.sqrt(values["moving_variance"] + node.number("epsilon", 1e-3))
    params = {"weight": np.diag(slope), "bias": values.get("beta", 0.0) - slope * values["moving_mean"]}
    return (layers.Linear(size, size, params=params, **placed),)


def _features(
    node: Node, weights: Weights, roles: tuple[str, ...], axes: int, outer: Node | None
) -> tuple[dict[str, Any], int]:
    """The arrays of a layer that has one number for each feature, and how many features there are."""
    arrays = _arrays(node, weights, roles, outer)
    (size,) = shape_of(node, roles[0], arrays[roles[0]], ("size",))
    for role in roles:
        shape_of(node, role, arrays[role], (size,))
    axis = node.option("axis", -1)
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    if axis != -1 and axis != axes - (1 if outer is None else 2):
        raise node.refuse(f"axis={axis!r} can't be said here: the last axis can")
    return arrays, size
