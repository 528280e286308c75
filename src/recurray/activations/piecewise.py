"""Functions with corners, at which the slope is that of the flat (or lower) side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from recurray.activations.elementwise import Elementwise
from recurray.arrays import Array, clamp, namespace_of, positive_part


class Relu(Elementwise):
    """x where it is above 0, else 0."""

    name = "relu"

    def forward(self, x: Array) -> Array:
        """``x`` where it is above 0, else 0."""
        return positive_part(x)

    def derivative(self, y: Array) -> Array:
        """1 where y > 0, else 0."""
        return _ones_where(y > 0, y)


@dataclass(frozen=True)
class LeakyRelu(Elementwise):
    """x where it is above 0, else alpha x."""

    alpha: float = 0.01

    name = "leaky_relu"

    @property
    def from_input(self) -> bool:
        """Where alpha is negative the output doesn't tell on which side of 0 the input was."""
        return self.alpha < 0

    def forward(self, x: Array) -> Array:
        """``x`` where it is above 0, else alpha x."""
        xp = namespace_of(x)
        return xp.maximum(x, self.alpha * x) if self.alpha <= 1 else xp.minimum(x, self.alpha * x)

    def derivative(self, kept: Array) -> Array:
        """1 where x > 0, and so y, else alpha."""
        one = namespace_of(kept).ones_like(kept)
        return namespace_of(kept).where(kept > 0, one, self.alpha * one)


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
        return xp.where(x <= self.alpha, xp.zeros_like(x), x)

    def derivative(self, y: Array) -> Array:
        """1 where y isn't 0, else 0."""
        return _ones_where(namespace_of(y).abs(y) > 0, y)


@dataclass(frozen=True)
class Elu(Elementwise):
    """x where it is above 0, else alpha (exp(x) - 1).

    Clevert, Unterthiner & Hochreiter, "Fast and accurate deep network learning by exponential linear units (ELUs)",
    2016.
    """

    alpha: float = 1.0

    name = "elu"

    @property
    def from_input(self) -> bool:
        """Where alpha is negative the output doesn't tell on which side of 0 the input was."""
        return self.alpha < 0

    def forward(self, x: Array) -> Array:
        """``x`` where it is above 0, else alpha (exp(x) - 1)."""
        xp = namespace_of(x)
        return positive_part(x) + self.alpha * xp.expm1(_negative_part(x))

    def derivative(self, kept: Array) -> Array:
        """1 where x > 0, else alpha exp(x), which is y + alpha."""
        xp = namespace_of(kept)
        falling = self.alpha * xp.exp(_negative_part(kept)) if self.from_input else kept + self.alpha
        return xp.where(kept > 0, xp.ones_like(kept), falling)


class Selu(Elementwise):
    """1.0507 x where x is above 0, else 1.7581 (exp(x) - 1): elu, scaled to keep mean 0 and variance 1.

    Klambauer, Unterthiner, Mayr & Hochreiter, "Self-normalizing neural networks", 2017, who derive the two numbers.
    """

    name = "selu"
    scale: ClassVar[float] = 1.0507009873554804934193349852946
    limit: ClassVar[float] = scale * 1.6732632423543772848170429916717  # of the output, with the sign turned

    def forward(self, x: Array) -> Array:
        """``scale x`` where x is above 0, else ``limit (exp(x) - 1)``."""
        return self.scale * positive_part(x) + self.limit * namespace_of(x).expm1(_negative_part(x))

    def derivative(self, y: Array) -> Array:
        """``scale`` where y > 0, else ``limit exp(x)``, which is y + limit."""
        xp = namespace_of(y)
        return xp.where(y > 0, self.scale * xp.ones_like(y), y + self.limit)


@dataclass(frozen=True)
class HardSigmoid(Elementwise):
    """alpha x + beta, cut off at 0 and 1.

    The default alpha is that of PyTorch and of Keras 3; ONNX's and Keras 2's is 0.2.
    """

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
class HardTanh(Elementwise):
    """x, cut off at alpha and beta, for an alpha below beta."""

    alpha: float = -1.0
    beta: float = 1.0

    name = "hard_tanh"

    def __post_init__(self) -> None:
        if self.alpha >= self.beta:
            raise ValueError(f"alpha of {self.name} must be below beta {self.beta}, not {self.alpha}")

    def forward(self, x: Array) -> Array:
        """``x``, cut off at alpha and beta."""
        return clamp(x, self.alpha, self.beta)

    def derivative(self, y: Array) -> Array:
        """1 where alpha < y < beta, else 0."""
        return _ones_where((y > self.alpha) & (y < self.beta), y)


class Relu6(Elementwise):
    """x, cut off at 0 and 6.

    Krizhevsky, "Convolutional deep belief networks on CIFAR-10", 2010.
    """

    name = "relu6"

    def forward(self, x: Array) -> Array:
        """``x``, cut off at 0 and 6."""
        return clamp(x, 0.0, 6.0)

    def derivative(self, y: Array) -> Array:
        """1 where 0 < y < 6, else 0."""
        return _ones_where((y > 0) & (y < 6), y)


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


def _negative_part(x: Array) -> Array:
    return namespace_of(x).minimum(x, namespace_of(x).zeros_like(x))


def _ones_where(condition: Array, like: Array) -> Array:
    xp = namespace_of(like)
    return xp.where(condition, xp.ones_like(like), xp.zeros_like(like))
