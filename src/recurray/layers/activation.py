"""An activation function as a layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from recurray.activations import FUNCTIONS
from recurray.arrays import Array
from recurray.layers import checks
from recurray.layers.layer import StatelessLayer
from recurray.selector import get_backend


@dataclass(frozen=True)
class ActivationCache:
    """What Activation's backward reads."""

    x: Array
    y: Array


class Activation(StatelessLayer):
    """An activation function.

    Parameters
    ----------
    name : {"tanh", "sigmoid", "relu", "elu", "softplus", "softsign", "hard_sigmoid", "softmax", "log_softmax"}
        The function, as PyTorch defines it; the last two work along the last axis, the others on each element.
    backend, dtype
        As in `LSTM`.

    Raises
    ------
    ValueError
        No function has that name.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> rr.Activation("relu")(np.array([-1.0, 2.0], dtype="float32"))[0].tolist()
    [0.0, 2.0]
    """

    def __init__(self, name: str, *, backend: Any = None, dtype: Any = "float32") -> None:
        self.name = checks.choice("name", name, tuple(FUNCTIONS))
        self.dtype = checks.float_dtype(dtype)
        self.backend = get_backend(backend)
        self.params = {}

    def _apply(self, x: Array, training: bool, rng: Any) -> tuple[Array, ActivationCache]:
        x = self._floats("x", x, (...,))
        if not x.shape and self.name.endswith("softmax"):
            raise ValueError(f"x must have an axis for {self.name}")
        y = FUNCTIONS[self.name].forward(x)
        return y, ActivationCache(x, y)

    def _apply_backward(self, cache: ActivationCache, dy: Array) -> tuple[Array, dict[str, Array]]:
        checks.cache(cache, ActivationCache)
        dy = self._floats("dy", dy, tuple(cache.x.shape))
        return FUNCTIONS[self.name].backward(dy, cache.x, cache.y), {}

    def random_input(self, rng: np.random.Generator, batch: int, steps: int) -> Any:
        """Return a random input, a NumPy array, that the layer takes."""
        return rng.standard_normal((batch, steps, 3))

    def _options(self) -> list[str]:
        return [repr(self.name)]
