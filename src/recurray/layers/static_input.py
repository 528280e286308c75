"""Input that doesn't change over time: a block of the first layer's input weights, multiplied once a row.

B batch, S features of it, H hidden units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from recurray.arrays import Array, product_over_rows


class InputGradients(NamedTuple):
    """The gradients of both inputs, in the place of ``dx``, where ``static`` was given to forward.

    Attributes
    ----------
    x : array
        The gradient with respect to the input that changes over time; None where that is integers.
    static : array, (batch, features)
        The gradient with respect to the input that doesn't: its sum over time.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> lstm = rr.LSTM(3, 5, static_size=2, seed=0)
    >>> y, state, cache = lstm.forward(np.ones((4, 6, 3), dtype="float32"), static=np.ones((4, 2), dtype="float32"))
    >>> dx, dstate, grads = lstm.backward(cache, np.ones_like(y))
    >>> dx.x.shape, dx.static.shape, grads["weight_static_l0"].shape
    ((4, 6, 3), (4, 2), (20, 2))
    """

    x: Array | None
    static: Array


@dataclass(frozen=True)
class StaticInput:
    """What a call was given, and what it is multiplied with in each direction of the first layer."""

    value: Array  # (B, S)
    weights: tuple[Array, ...]  # (input gates * H, S) each

    def biases(self, biases: Sequence[Array | None]) -> tuple[Array, ...]:
        """Each direction's bias with the product added, (B, input gates * H): what a scan takes as each row's own."""
        products = [self.value @ weight.T for weight in self.weights]
        return tuple(
            product if bias is None else product + bias for product, bias in zip(products, biases, strict=True)
        )

    def backward(self, d: Sequence[Array]) -> tuple[Array, list[Array]]:
        """From the gradients of `biases` those of the value, and of the weights."""
        parts = [own @ weight for own, weight in zip(d, self.weights, strict=True)]
        dvalue = parts[0] if len(parts) == 1 else parts[0] + parts[1]
        return dvalue, [product_over_rows(own, self.value) for own in d]
