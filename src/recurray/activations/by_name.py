"""Activation functions by the names, and the parameters, that people bring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from recurray import checks
from recurray.activations.elementwise import Elementwise, Function
from recurray.activations.gated import Gelu, GeluTanh, HardSilu, Mish, Silu
from recurray.activations.last_axis import LogSoftmax, Softmax
from recurray.activations.piecewise import (
    Affine,
    Elu,
    HardSigmoid,
    HardTanh,
    Identity,
    LeakyRelu,
    Relu,
    Relu6,
    Selu,
    ThresholdedRelu,
)
from recurray.activations.smooth import Exponential, ScaledTanh, Sigmoid, Softplus, Softsign, Tanh
from recurray.messages import shown

ELEMENTWISE: Mapping[str, type[Function]] = {
    kind.name: kind
    for kind in (
        Tanh,
        Sigmoid,
        Relu,
        LeakyRelu,
        ThresholdedRelu,
        Relu6,
        Elu,
        Selu,
        Silu,
        HardSilu,
        Gelu,
        GeluTanh,
        Mish,
        Softplus,
        Softsign,
        HardSigmoid,
        HardTanh,
        ScaledTanh,
        Exponential,
        Affine,
        Identity,
    )
}
FUNCTIONS: Mapping[str, type[Function]] = {**ELEMENTWISE, Softmax.name: Softmax, LogSoftmax.name: LogSoftmax}

# Other names: what they stand for, and the parameters that another library has where ours differ.
ALIASES: Mapping[str, tuple[Any, ...]] = {
    "linear": ("identity",),
    "swish": ("silu",),
    "hard_swish": ("hard_silu",),
    "hardswish": ("hard_silu",),
    "hardsigmoid": ("hard_sigmoid",),
    "hardtanh": ("hard_tanh",),
    # ONNX's
    "Affine": ("affine",),
    "Elu": ("elu",),
    "Gelu": ("gelu",),
    "HardSigmoid": ("hard_sigmoid", 0.2),
    "HardSwish": ("hard_silu",),
    "Identity": ("identity",),
    "LeakyRelu": ("leaky_relu",),
    "LogSoftmax": ("log_softmax",),
    "Mish": ("mish",),
    "Relu": ("relu",),
    "ScaledTanh": ("scaled_tanh",),
    "Selu": ("selu",),
    "Sigmoid": ("sigmoid",),
    "Softmax": ("softmax",),
    "Softplus": ("softplus",),
    "Softsign": ("softsign",),
    "Tanh": ("tanh",),
    "ThresholdedRelu": ("thresholded_relu",),
}


def activation(spec: Any, label: str = "activation") -> Elementwise:
    """Return the elementwise function that ``spec`` tells of.

    Parameters
    ----------
    spec : str, tuple, mapping or Elementwise
        A name; a name with parameters after it, ``("leaky_relu", 0.1)``; names and values,
        ``{"name": "leaky_relu", "alpha": 0.1}``; or the function itself. The names, with their parameters' defaults:
        tanh, sigmoid, relu, leaky_relu (alpha 0.01), thresholded_relu (alpha 1), relu6, elu (alpha 1), selu, silu,
        hard_silu, gelu, gelu_tanh, mish, softplus, softsign, hard_sigmoid (alpha 1/6, beta 1/2), hard_tanh (alpha -1,
        beta 1), scaled_tanh (alpha 1.7159, beta 2/3), exponential, affine (alpha 1, beta 0), identity. Other names are
        linear (identity), swish (silu), hard_swish and hardswish (hard_silu), hardsigmoid, hardtanh, and ONNX's, in
        capitals, whose HardSigmoid has an alpha of 0.2.
    label : str
        What errors call it.

    Raises
    ------
    ValueError, TypeError
        There is no such function, or it has no such parameters.

    Examples
    --------
    >>> activation("tanh")
    Tanh()
    >>> activation(("leaky_relu", 0.1)) == activation({"name": "leaky_relu", "alpha": 0.1})
    True
    >>> activation("swish"), activation("HardSigmoid")
    (Silu(), HardSigmoid(alpha=0.2, beta=0.5))
    """
    made = spec if isinstance(spec, Elementwise) else function(spec, label, ELEMENTWISE)
    assert isinstance(made, Elementwise)  # noqa: S101
    return made


def function(spec: Any, label: str, known: Mapping[str, type[Function]] = FUNCTIONS) -> Function:
    """Return that of the functions ``known`` that ``spec`` tells of; see `activation`."""
    values: Any = ()
    given: dict[Any, Any] = {}
    if isinstance(spec, Mapping):
        name, given = spec.get("name"), {key: value for key, value in spec.items() if key != "name"}
    elif isinstance(spec, (tuple, list)) and spec:
        name, *values = spec
    else:
        name = spec
    own, *defaults = ALIASES.get(name, (name,)) if isinstance(name, str) else (name,)
    if not isinstance(own, str) or own not in known:
        raise ValueError(f"{label} must be one of {', '.join(map(repr, known))}, not {shown(name)}")
    names = [field.name for field in fields(known[own])]
    if len(values) > len(names) or set(given) - set(names):
        extra = f"{len(values)} of them" if values else ", ".join(map(repr, given))
        raise ValueError(f"{label} {name!r} has the parameters {', '.join(names) or '(none)'}, not {extra}")
    given = dict(zip(names, defaults, strict=False)) | given | dict(zip(names, values, strict=False))
    for key, value in given.items():
        given[key] = checks.finite(f"{key} of {name}", value)
    return known[own](**given)
