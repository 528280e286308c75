"""Inputs that are let through in part, x F(x): the slope can't be told from the output, as two inputs give the same.

Where F(-x) is 1 - F(x), as in all but Mish, all is computed at -|x|, where neither F nor its slope cancels:
x F(x) is |x|⁺ - |x| F(-|x|), with the positive part of x, and the slopes at x and -x add up to 1.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

from recurray.activations.elementwise import Elementwise
from recurray.arrays import Array, clamp, namespace_of, positive_part, sigmoid


class Gated(Elementwise):
    """x F(x) with an F that rises from 0 to 1 and for which F(-x) is 1 - F(x)."""

    flat: ClassVar[float] = 40.0  # F(-flat) is 0

    from_input = True

    @abstractmethod
    def share(self, x: Array) -> Array:
        """F, for x from -flat to 0."""

    @abstractmethod
    def density(self, x: Array, share: Array) -> Array:
        """The derivative of F, given F, for x from -flat to 0."""

    def forward(self, x: Array) -> Array:
        """``x F(x)``."""
        below = self._below(x)
        return positive_part(x) + below * self.share(below)

    def derivative(self, x: Array) -> Array:
        """``F(x) + x F'(x)``."""
        below = self._below(x)
        share = self.share(below)
        slope = share + below * self.density(below, share)
        return namespace_of(x).where(x < 0, slope, 1 - slope)

    def _below(self, x: Array) -> Array:
        """-|x|, but at least -flat."""
        return clamp(-namespace_of(x).abs(x), -self.flat, None)


class Silu(Gated):
    """x sigmoid(x), also named swish.

    Hendrycks & Gimpel, "Gaussian error linear units (GELUs)", 2016; Elfwing, Uchibe & Doya, "Sigmoid-weighted linear
    units for neural network function approximation in reinforcement learning", 2018; Ramachandran, Zoph & Le,
    "Searching for activation functions", 2017.
    """

    name = "silu"
    flat = 750.0

    def share(self, x: Array) -> Array:
        """``sigmoid(x)``."""
        return sigmoid(x)

    def density(self, x: Array, share: Array) -> Array:
        """``F (1 - F)``."""
        return share * (1 - share)


class HardSilu(Gated):
    """x (x + 3) / 6, where that factor is cut off at 0 and 1; also named hard swish.

    Howard et al., "Searching for MobileNetV3", 2019.
    """

    name = "hard_silu"
    flat = 3.0

    def share(self, x: Array) -> Array:
        """``(x + 3) / 6``."""
        return (x + 3) * (1 / 6)

    def density(self, x: Array, share: Array) -> Array:
        """1 / 6 where F > 0, else 0, as at the corner."""
        xp = namespace_of(x)
        return xp.where(share > 0, (1 / 6) * xp.ones_like(x), xp.zeros_like(x))


class Gelu(Gated):
    """x Φ(x) with the distribution function Φ of the normal distribution, (1 + erf(x / √2)) / 2.

    Hendrycks & Gimpel, "Gaussian error linear units (GELUs)", 2016.
    """

    name = "gelu"

    # Φ(-z) exp(z²/2) for z from 0 to 40, as a quotient of polynomials, from the constant on; 5.4e-17 of it is the
    # largest error. Found by Lawson's iteration; all coefficients are positive, so that nothing cancels.
    above: ClassVar[tuple[float, ...]] = (
        0.49999999999999997319,
        0.77549182128618154545,
        0.59494221491021008477,
        0.28997303482402953252,
        0.097986983493377749897,
        0.023710362941618610298,
        0.0041080046638143002379,
        0.00049312239315314325634,
        0.000037500043666367523605,
        1.3966620067196935585e-6,
    )
    beneath: ClassVar[tuple[float, ...]] = (
        1.0,
        2.3488682033752178268,
        2.5640101046546097663,
        1.7172575644703119673,
        0.78385077057776102025,
        0.25572617540167607827,
        0.060662139265859166915,
        0.010391239301806237394,
        0.0012395754461940417788,
        0.000093998669752039550819,
        3.5009124761558668701e-6,
    )

    def share(self, x: Array) -> Array:
        """``Φ(x)``."""
        return _bell(x) * (_polynomial(self.above, -x) / _polynomial(self.beneath, -x))

    def density(self, x: Array, share: Array) -> Array:
        """``exp(-x²/2) / √(2π)``."""
        return (1 / math.sqrt(2 * math.pi)) * _bell(x)


class GeluTanh(Gated):
    """x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2, an approximation of gelu: at most 0.0005 from it.

    Hendrycks & Gimpel, "Gaussian error linear units (GELUs)", 2016. Half of 1 + tanh(a) is sigmoid(2a).
    """

    name = "gelu_tanh"

    def share(self, x: Array) -> Array:
        """``sigmoid(2 √(2/π) (x + 0.044715 x³))``."""
        return sigmoid((2 * math.sqrt(2 / math.pi)) * (x * (1 + 0.044715 * (x * x))))

    def density(self, x: Array, share: Array) -> Array:
        """``F (1 - F)`` times the derivative of what is in the sigmoid."""
        return (2 * math.sqrt(2 / math.pi)) * (1 + (3 * 0.044715) * (x * x)) * (share * (1 - share))


class Mish(Elementwise):
    """x tanh(softplus(x)), of which with e = exp(x) the second factor is e (e + 2) / (e (e + 2) + 2).

    Misra, "Mish: A self regularized non-monotonic activation function", 2019.
    """

    name = "mish"
    from_input = True

    def forward(self, x: Array) -> Array:
        """``x tanh(softplus(x))``."""
        _, part, whole = self._parts(x)
        return clamp(x, -_FAR, None) * (part / whole)

    def derivative(self, x: Array) -> Array:
        """``F + x F'`` with ``F' = 4 e (e + 1) / (e (e + 2) + 2)²``."""
        e, part, whole = self._parts(x)
        return part / whole + clamp(x, -_FAR, _FAR) * (4 * (e / whole) * ((e + 1) / whole))

    @staticmethod
    def _parts(x: Array) -> tuple[Array, Array, Array]:
        """Return e, e (e + 2) and e (e + 2) + 2, for an e of at most exp(40), beside which 2 is nothing."""
        e = namespace_of(x).exp(clamp(x, None, 40.0))
        part = e * (e + 2)
        return e, part, part + 2


_FAR = 750.0  # exp of its negative is 0


def _bell(x: Array) -> Array:
    return namespace_of(x).exp(-0.5 * (x * x))


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    result = coefficients[-1] * x + coefficients[-2]
    for coefficient in coefficients[-3::-1]:
        result = result * x + coefficient
    return result
