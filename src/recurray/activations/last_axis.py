"""Functions along the last axis."""

from __future__ import annotations

from recurray.activations.elementwise import Function
from recurray.arrays import Array, below_largest, in_order, namespace_of


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
