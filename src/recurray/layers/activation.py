"""An activation function as a layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recurray.activations.by_name import ELEMENTWISE, function
from recurray.arrays import Array
from recurray.layers.draws import Generator
from recurray.layers.layer import Directions
from recurray.layers.stateless import StatelessLayer


@dataclass(frozen=True)
class ActivationCache:
    """What Activation's backward reads."""

    kept: Array  # the input or the output, as the function needs


class Activation(StatelessLayer):
    """An activation function.

    Parameters
    ----------
    name : str
        The function, as PyTorch defines it where it has it: on each element one of those that
        `recurray.activations.activation` lists; along the last axis "softmax" or "log_softmax".
    alpha, beta : float, optional
        The function's parameters, where it has them; their defaults stand there too.
    backend, dtype
        As in `LSTM`; in a `Sequential`, where omitted, those of the other layers.

    Raises
    ------
    ValueError, TypeError
        No function has that name, or it has no such parameters.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> rr.Activation("relu")(np.array([-1.0, 2.0], dtype="float32"))[0].tolist()
    [0.0, 2.0]
    >>> rr.Activation("leaky_relu", alpha=0.5)(np.array([-1.0, 2.0], dtype="float32"))[0].tolist()
    [-0.5, 2.0]
    """

    def __init__(
        self,
        name: str,
        *,
        alpha: float | None = None,
        beta: float | None = None,
        backend: Any = None,
        dtype: Any = None,
    ) -> None:
        given = {key: value for key, value in {"alpha": alpha, "beta": beta}.items() if value is not None}
        self.function = function({"name": name, **given}, "name")
        self.name = self.function.name
        self.runs_on(backend, dtype)
        self.params = {}
        self.alpha, self.beta = (given.get(key, self._unusual(key)) for key in ("alpha", "beta"))

    def _unusual(self, parameter: str) -> float | None:
        """A parameter that is another than the function's default, as a name of another library may have it."""
        own, default = (getattr(each, parameter, None) for each in (self.function, type(self.function)()))
        return None if own == default else own

    def apply(self, x: Array, lengths: Any, training: bool, rng: Any) -> tuple[Array, ActivationCache]:
        """The function of x."""
        x = self.floats("x", x, (...,))
        if self.name not in ELEMENTWISE and (not x.shape or x.shape[-1] == 0):
            shape = tuple(x.shape)
            raise ValueError(
                f"x must have at least one element along its last axis for {self.name}, not the shape {shape}"
            )
        y = self.function.forward(x)
        return y, ActivationCache(self.function.kept(x, y))

    def apply_backward(self, cache: ActivationCache, dy: Array) -> tuple[Array, dict[str, Array]]:
        """The function's backward."""
        self.check_cache(cache, ActivationCache)
        dy = self.floats("dy", dy, tuple(cache.kept.shape))
        return self.function.backward(dy, cache.kept), {}

    def directions_after(self, before: Directions) -> Directions:
        """Those of the input; see `Layer.directions_after`."""
        return before

    def random_input(self, rng: Generator, batch: int, steps: int) -> Any:
        """Return a random input, a NumPy array, that the layer takes."""
        return rng.standard_normal((batch, steps, 3))
