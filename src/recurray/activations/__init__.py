"""Activation functions by name, each with its backward.

Where it can, a backward reads nothing but the output, so that a cell keeps what came out of a gate and can forget what
went in; else it reads what went in (`Function.from_input`). Where a function saturates, its output rounds to the limit
and a slope that is told from it, tiny there, is known to about the rounding of the output: 1e-16 in float64, 1e-7 in
float32.
"""

from recurray.activations.by_name import activation
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

__all__ = [
    "Affine",
    "Elementwise",
    "Elu",
    "Exponential",
    "Function",
    "Gelu",
    "GeluTanh",
    "HardSigmoid",
    "HardSilu",
    "HardTanh",
    "Identity",
    "LeakyRelu",
    "LogSoftmax",
    "Mish",
    "Relu",
    "Relu6",
    "ScaledTanh",
    "Selu",
    "Sigmoid",
    "Silu",
    "Softmax",
    "Softplus",
    "Softsign",
    "Tanh",
    "ThresholdedRelu",
    "activation",
]
