"""Layer normalisation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recurray import checks
from recurray.arrays import Array, in_order, rows, sum_over_rows
from recurray.layers import array_checks, initial
from recurray.layers.draws import Generator
from recurray.layers.layer import Directions
from recurray.layers.stateless import StatelessLayer


@dataclass(frozen=True)
class LayerNormCache:
    """What LayerNorm's backward reads."""

    normal: Array  # (N, size): the input, normalised
    scale: Array  # (N, 1): 1 / standard deviation
    weight: Array
    shape: tuple[int, ...]  # of the input


class LayerNorm(StatelessLayer):
    """Normalise the last axis to mean 0 and variance 1, then scale and shift each feature.

    Parameters
    ----------
    size : int
        Size of the last axis.
    eps : float
        Added to the variance, for inputs that don't vary.
    backend, dtype, params
        As in `LSTM`.

    Attributes
    ----------
    params : dict of str to array
        ``weight`` (size,), ones, and ``bias`` (size,), zeros.

    Raises
    ------
    ValueError, TypeError
        A size, an option or a param is of the wrong kind.

    References
    ----------
    Ba, Kiros & Hinton, "Layer normalization", 2016.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> y, _ = rr.LayerNorm(2, dtype="float64")(np.array([[1.0, 3.0]]))
    >>> y.round(3).tolist()
    [[-1.0, 1.0]]
    """

    def __init__(
        self,
        size: int,
        *,
        eps: float = 1e-5,
        backend: Any = None,
        dtype: Any = "float32",
        params: Mapping[str, Any] | None = None,
    ) -> None:
        self.size = checks.size("size", size)
        self.eps = checks.finite("eps", eps)
        if self.eps <= 0:
            raise ValueError(f"eps must be above 0, not {eps!r}")
        self.runs_on(backend, dtype)
        shape = (self.size,)
        self.start_params(
            {"weight": shape, "bias": shape},
            lambda: {"weight": initial.ones(shape), "bias": initial.zeros(shape)},
            params,
        )

    def apply(self, x: Array, lengths: Any, training: bool, rng: Any) -> tuple[Array, LayerNormCache]:
        """Normalise x over its last axis, then scale and shift it."""
        x = self.floats("x", x, (..., self.size))
        xp, params = self.backend.xp, self.checked_params()
        weight = params["weight"]
        flat = rows(in_order(x))
        centred = flat - xp.mean(flat, axis=-1, keepdims=True)
        scale = 1 / xp.sqrt(xp.mean(centred * centred, axis=-1, keepdims=True) + self.eps)
        normal = centred * scale
        y = xp.reshape(normal * weight + params["bias"], x.shape)
        return y, LayerNormCache(normal, scale, weight, tuple(x.shape))

    def apply_backward(self, cache: LayerNormCache, dy: Array) -> tuple[Array, dict[str, Array]]:
        """Through scale and mean to x, and the gradients of weight and bias."""
        self.check_cache(cache, LayerNormCache)
        xp, normal = self.backend.xp, cache.normal
        array_checks.shape_of_cache("weight", cache.weight, (self.size,))
        dy = rows(in_order(self.floats("dy", dy, cache.shape)))
        grads = {"weight": sum_over_rows(dy * normal), "bias": sum_over_rows(dy)}
        d = dy * cache.weight
        along_mean = xp.mean(d, axis=-1, keepdims=True)
        along_scale = normal * xp.mean(d * normal, axis=-1, keepdims=True)
        return xp.reshape((d - along_mean - along_scale) * cache.scale, cache.shape), grads

    def directions_after(self, before: Directions) -> Directions:
        """Those of the input; see `Layer.directions_after`."""
        return before

    def random_input(self, rng: Generator, batch: int, steps: int) -> Any:
        """Return a random input, a NumPy array, that the layer takes."""
        return rng.standard_normal((batch, steps, self.size))
