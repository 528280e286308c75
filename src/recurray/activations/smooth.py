"""Smooth functions, each with its slope."""

from __future__ import annotations

from dataclasses import dataclass

from recurray.activations.elementwise import Elementwise
from recurray.arrays import Array, clamp, exp, namespace_of, positive_part, sigmoid, tanh


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
        """``x / (1 + |x|)``, without a quotient of infinities."""
        x = clamp(x, -_HUGE, _HUGE)
        return x / (1 + namespace_of(x).abs(x))

    def derivative(self, y: Array) -> Array:
        """1 / (1 + |x|)², which is (1 - |y|)²."""
        return namespace_of(y).square(1 - namespace_of(y).abs(y))


_HUGE = 1e30  # 1 is nothing beside it


class Softplus(Elementwise):
    """log(1 + exp(x))."""

    name = "softplus"

    def forward(self, x: Array) -> Array:
        """``log(1 + exp(x))``, without overflow."""
        xp = namespace_of(x)
        return positive_part(x) + xp.log1p(xp.exp(-xp.abs(x)))

    def derivative(self, y: Array) -> Array:
        """The logistic function of x, which is 1 - exp(-y)."""
        return -namespace_of(y).expm1(-y)


class Exponential(Elementwise):
    """exp(x)."""

    name = "exponential"

    def forward(self, x: Array) -> Array:
        """``exp(x)``, infinite where that is too large."""
        return exp(x)

    def derivative(self, kept: Array) -> Array:
        """``y``."""
        return kept
