"""Activation functions by name, each with its backward, which needs nothing but the output.

So a cell keeps what came out of a gate and can forget what went in. It also sets a limit: the slope must be there to
be told from the output, which is why alpha may not be negative in some functions. At a corner the slope is that of
the flat (or lower) side. Where a function saturates, its output rounds to the limit and the slope, which is tiny there,
is known to about the rounding of the output: 1e-16 in float64, 1e-7 in float32.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields
from typing import Any, ClassVar

from recurray import checks
from recurray.arrays import Array, below_largest, clamp, in_order, namespace_of, sigmoid, tanh
from recurray.messages import shown

__all__ = [
    "Affine",
    "Elementwise",
    "Elu",
    "Function",
    "HardSigmoid",
    "Identity",
    "LeakyRelu",
    "LogSoftmax",
    "Relu",
    "ScaledTanh",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Softsign",
    "Tanh",
    "ThresholdedRelu",
    "activation",
]


@dataclass(frozen=True)  # for those that have no parameters too
class Function(ABC):
    """A function of arrays and its backward: a dataclass of its parameters, which compares by value."""

    name: ClassVar[str]

    @abstractmethod
    def forward(self, x: Array) -> Array:
        """From x to y."""

    @abstractmethod
    def backward(self, dy: Array, y: Array) -> Array:
        """From the gradient of y to that of x, given y."""


class Elementwise(Function):
    """A function of each element, in such terms that a cell that uses it can be recorded."""

    @abstractmethod
    def derivative(self, y: Array) -> Array:
        """The slope at the x that gave y."""

    def backward(self, dy: Array, y: Array) -> Array:
        """From the gradient of y to that of x, given y."""
        return dy * self.derivative(y)

    @property
    def spec(self) -> Any:
        """What `activation` makes this of: the name, followed by the parameters where they aren't the default ones.

        A function that has no name there is its own.
        """
        if ELEMENTWISE.get(self.name) is not type(self):
            return self
        return self.name if type(self)() == self else (self.name, *astuple(self))


# Smooth ---------------------------------------------------------------------------------------------------------------


class Tanh(Elementwise):
    """The hyperbolic tangent."""

    name = "tanh"

    def forward(self, x: Array) -> Array:
        """``tanh(x)``."""
        return tanh(x)

    def derivative(self, y: Array) -> Array:
        """1 - y²."""
        return 1 - y * y


class Sigmoid(Elementwise):
    """The logistic function 1 / (1 + exp(-x))."""

    name = "sigmoid"

    def forward(self, x: Array) -> Array:
        """1 / (1 + exp(-x))."""
        return sigmoid(x)

    def derivative(self, y: Array) -> Array:
        """``y (1 - y)``."""
        return y * (1 - y)


@dataclass(frozen=True)
class ScaledTanh(Elementwise):
    """alpha tanh(beta x), for alpha other than 0; by default 1.7159 tanh(2/3 x), which takes 1 and -1 to themselves.

    LeCun et al., "Efficient BackProp", 1998.
    """

    alpha: float = 1.7159
    beta: float = 2 / 3

    name = "scaled_tanh"

    def __post_init__(self) -> None:
        if self.alpha == 0:
            raise ValueError(f"alpha of {self.name} must not be 0")

    def forward(self, x: Array) -> Array:
        """``alpha tanh(beta x)``."""
        return self.alpha * tanh(self.beta * x)

    def derivative(self, y: Array) -> Array:
        """``beta (alpha - y² / alpha)``."""
        return self.alpha * self.beta - (self.beta / self.alpha) * (y * y)


class Softsign(Elementwise):
    """x / (1 + |x|)."""

    name = "softsign"

    def forward(self, x: Array) -> Array:
        """``x / (1 + |x|)``."""
        return x / (1 + namespace_of(x).abs(x))

    def derivative(self, y: Array) -> Array:
        """1 / (1 + |x|)², which is (1 - |y|)²."""
        return namespace_of(y).square(1 - namespace_of(y).abs(y))


class Softplus(Elementwise):
    """log(1 + exp(x))."""

    name = "softplus"

    def forward(self, x: Array) -> Array:
        """``log(1 + exp(x))``, without overflow."""
        xp = namespace_of(x)
        return _positive_part(x) + xp.log1p(xp.exp(-xp.abs(x)))

    def derivative(self, y: Array) -> Array:
        """The logistic function of x, which is 1 - exp(-y)."""
        return -namespace_of(y).expm1(-y)


# Piecewise ------------------------------------------------------------------------------------------------------------


class Relu(Elementwise):
    """x where it is above 0, else 0."""

    name = "relu"

    def forward(self, x: Array) -> Array:
        """``x`` where it is above 0, else 0."""
        return _positive_part(x)

    def derivative(self, y: Array) -> Array:
        """1 where y > 0, else 0."""
        return _ones_where(y > 0, y)


@dataclass(frozen=True)
class LeakyRelu(Elementwise):
    """x where it is above 0, else alpha x, for alpha of at least 0."""

    alpha: float = 0.01

    name = "leaky_relu"

    def __post_init__(self) -> None:
        _not_negative(self)

    def forward(self, x: Array) -> Array:
        """``x`` where it is above 0, else alpha x."""
        xp = namespace_of(x)
        return xp.maximum(x, self.alpha * x) if self.alpha <= 1 else xp.minimum(x, self.alpha * x)

    def derivative(self, y: Array) -> Array:
        """1 where y > 0, else alpha."""
        one = namespace_of(y).ones_like(y)
        return namespace_of(y).where(y > 0, one, self.alpha * one)


@dataclass(frozen=True)
class ThresholdedRelu(Elementwise):
    """x where it is above alpha, else 0.

    Where alpha is negative, an x of exactly 0 has the slope 0 rather than 1: in the output it looks like the others.
    """

    alpha: float = 1.0

    name = "thresholded_relu"

    def forward(self, x: Array) -> Array:
        """``x`` where it is above alpha, else 0."""
        xp = namespace_of(x)
        return xp.where(x > self.alpha, x, xp.zeros_like(x))

    def derivative(self, y: Array) -> Array:
        """1 where y isn't 0, else 0."""
        return _ones_where(namespace_of(y).abs(y) > 0, y)


@dataclass(frozen=True)
class Elu(Elementwise):
    """x where it is above 0, else alpha (exp(x) - 1), for alpha of at least 0."""

    alpha: float = 1.0

    name = "elu"

    def __post_init__(self) -> None:
        _not_negative(self)

    def forward(self, x: Array) -> Array:
        """``x`` where it is above 0, else alpha (exp(x) - 1)."""
        xp = namespace_of(x)
        return _positive_part(x) + self.alpha * xp.expm1(xp.minimum(x, xp.zeros_like(x)))

    def derivative(self, y: Array) -> Array:
        """1 where y > 0, else alpha exp(x), which is y + alpha."""
        xp = namespace_of(y)
        return xp.where(y > 0, xp.ones_like(y), y + self.alpha)


@dataclass(frozen=True)
class HardSigmoid(Elementwise):
    """alpha x + beta, cut off at 0 and 1. The default is PyTorch's; ONNX's alpha is 0.2."""

    alpha: float = 1 / 6
    beta: float = 0.5

    name = "hard_sigmoid"

    def forward(self, x: Array) -> Array:
        """``alpha x + beta``, cut off at 0 and 1; precise where it is tiny, as x + beta / alpha is."""
        y = self.alpha * (x + self.beta / self.alpha) if self.alpha else 0 * x + self.beta
        return clamp(y, 0.0, 1.0)

    def derivative(self, y: Array) -> Array:
        """``alpha`` where 0 < y < 1, else 0."""
        return self.alpha * _ones_where((y > 0) & (y < 1), y)


@dataclass(frozen=True)
class Affine(Elementwise):
    """alpha x + beta."""

    alpha: float = 1.0
    beta: float = 0.0

    name = "affine"

    def forward(self, x: Array) -> Array:
        """``alpha x + beta``."""
        return self.alpha * x + self.beta

    def derivative(self, y: Array) -> Array:
        """``alpha``."""
        return self.alpha * namespace_of(y).ones_like(y)


class Identity(Elementwise):
    """x."""

    name = "identity"

    def forward(self, x: Array) -> Array:
        """``x`` itself."""
        return x

    def derivative(self, y: Array) -> Array:
        """1."""
        return namespace_of(y).ones_like(y)

    def backward(self, dy: Array, y: Array) -> Array:
        """``dy`` itself."""
        return dy


def _positive_part(x: Array) -> Array:
    return namespace_of(x).maximum(x, namespace_of(x).zeros_like(x))


def _ones_where(condition: Array, like: Array) -> Array:
    xp = namespace_of(like)
    return xp.where(condition, xp.ones_like(like), xp.zeros_like(like))


def _not_negative(function: LeakyRelu | Elu) -> None:
    if function.alpha < 0:
        raise ValueError(
            f"alpha of {function.name} must be at least 0, not {function.alpha}: "
            "backward couldn't tell from the output on which side of 0 the input was"
        )


# Along the last axis --------------------------------------------------------------------------------------------------


class LogSoftmax(Function):
    """The logarithm of the softmax over the last axis."""

    name = "log_softmax"

    def forward(self, x: Array) -> Array:
        """``log(exp(x) / sum of exp(x))``, without overflow."""
        xp = namespace_of(x)
        shifted = below_largest(in_order(x))
        return shifted - xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))

    def backward(self, dy: Array, y: Array) -> Array:
        """``dy - exp(y) (sum of dy)``."""
        xp = namespace_of(y)
        return dy - xp.exp(y) * xp.sum(in_order(dy), axis=-1, keepdims=True)


class Softmax(Function):
    """exp(x) / sum of exp(x) over the last axis."""

    name = "softmax"

    def forward(self, x: Array) -> Array:
        """``exp(x) / sum of exp(x)``, without overflow."""
        xp = namespace_of(x)
        e = xp.exp(below_largest(in_order(x)))
        return e / xp.sum(e, axis=-1, keepdims=True)

    def backward(self, dy: Array, y: Array) -> Array:
        """``y (dy - sum of y dy)``."""
        return y * (dy - namespace_of(y).sum(in_order(dy * y), axis=-1, keepdims=True))


# By name --------------------------------------------------------------------------------------------------------------

ELEMENTWISE: Mapping[str, type[Function]] = {
    kind.name: kind
    for kind in (
        Tanh,
        Sigmoid,
        Relu,
        LeakyRelu,
        ThresholdedRelu,
        Elu,
        Softplus,
        Softsign,
        HardSigmoid,
        ScaledTanh,
        Affine,
        Identity,
    )
}
FUNCTIONS: Mapping[str, type[Function]] = {**ELEMENTWISE, Softmax.name: Softmax, LogSoftmax.name: LogSoftmax}


def activation(spec: Any, label: str = "activation") -> Elementwise:
    """Return the elementwise function that ``spec`` tells of.

    Parameters
    ----------
    spec : str, tuple, mapping or Elementwise
        A name; a name with parameters after it, ``("leaky_relu", 0.1)``; names and values,
        ``{"name": "leaky_relu", "alpha": 0.1}``; or the function itself. The names, with their parameters' defaults:
        tanh, sigmoid, relu, leaky_relu (alpha 0.01), thresholded_relu (alpha 1), elu (alpha 1), softplus, softsign,
        hard_sigmoid (alpha 1/6, beta 1/2), scaled_tanh (alpha 1.7159, beta 2/3), affine (alpha 1, beta 0), identity.
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
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"{label} must be one of {', '.join(map(repr, known))}, not {shown(name)}")
    names = [field.name for field in fields(known[name])]
    if len(values) > len(names) or set(given) - set(names):
        extra = f"{len(values)} of them" if values else ", ".join(map(repr, given))
        raise ValueError(f"{label} {name!r} has the parameters {', '.join(names) or '(none)'}, not {extra}")
    given |= zip(names, values, strict=False)
    for key, value in given.items():
        given[key] = checks.finite(f"{key} of {name}", value)
    return known[name](**given)
