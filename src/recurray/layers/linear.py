"""The fully connected layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from recurray import checks
from recurray.arrays import Array, product_over_rows, rows, sum_over_rows
from recurray.backend import Backend, Stack
from recurray.cells.cell import Weights
from recurray.layers import array_checks, draws
from recurray.layers.chain_call import Part
from recurray.layers.draws import Generator
from recurray.layers.plans import Call, Plans, call_of_product
from recurray.layers.stateless import StatelessLayer


@dataclass(frozen=True)
class LinearCache:
    """What Linear's backward reads."""

    x: Array  # (..., in_features)
    weight: Array


class Linear(StatelessLayer):
    """An affine map of the last axis: y = x weight^T + bias.

    Parameters
    ----------
    in_features, out_features : int
        Sizes of the last axis of x and y.
    bias : bool
        Whether there is a bias.
    backend, dtype, seed, params
        As in `LSTM`.

    Attributes
    ----------
    params : dict of str to array
        ``weight`` (out_features, in_features) and ``bias`` (out_features,), drawn uniformly from
        [-1/sqrt(in_features), 1/sqrt(in_features)).

    Raises
    ------
    ValueError, TypeError
        A size, an option or a param is of the wrong kind.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> linear = rr.Linear(3, 2, seed=0)
    >>> y, _, cache = linear.forward(np.ones((4, 5, 3), dtype="float32"))
    >>> y.shape
    (4, 5, 2)
    >>> dx, _, grads = linear.backward(cache, np.ones_like(y))
    >>> float(grads["bias"][0])
    20.0
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        backend: Any = None,
        dtype: Any = "float32",
        seed: Any = None,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        self.in_features = checks.size("in_features", in_features)
        self.out_features = checks.size("out_features", out_features)
        self.bias = checks.flag("bias", bias)
        self.runs_on(backend, dtype)
        rng, _ = draws.generators(seed)
        bound = 1 / self.in_features**0.5
        shapes: dict[str, tuple[int, ...]] = {"weight": (self.out_features, self.in_features)}
        if bias:
            shapes["bias"] = (self.out_features,)
        self.start_params(
            shapes, lambda: {name: rng.uniform(-bound, bound, shape) for name, shape in shapes.items()}, params
        )
        self._plans = Plans()

    def __call__(
        self,
        x: Array,
        state: Any = None,
        lengths: Any = None,
        *,
        mask: Any = None,
        resets: Any = None,
        static: Any = None,
    ) -> tuple[Array, None]:
        """Inference: the output, and None for a state; see `Layer.__call__`."""
        if state is None and resets is None and static is None:
            found = self._plans.run(self, x, None)
            if found is not None:
                return found
        return super().__call__(x, state, lengths, mask=mask, resets=resets, static=static)

    def _planned_call(self, x: Array) -> Call | None:
        return call_of_product(self, x)

    def _plans_of_all(self) -> Plans:
        return self._plans

    def _part(self) -> Part | None:
        kind = type(self)
        if kind.__call__ is not Linear.__call__ or kind.run is not Linear.run or kind.apply is not Linear.apply:
            return None
        params = self.checked_params()
        kept: dict[Any, Any] | None = None if self._fixed is None else {}
        return Part(Stack((), [Weights(params["weight"], input_bias=params.get("bias"), kept=kept)]), None)

    def copy_on(self, backend: Backend, dtype: str) -> Self:
        """Also plans of its own; see `Layer.copy_on`."""
        other = super().copy_on(backend, dtype)
        other._plans = Plans()
        return other

    def _fix(self) -> None:
        super()._fix()
        self._plans = Plans()

    def checked_input(self, x: Any) -> Array:
        """Check an input and bring it to the layer's dtype."""
        return self.floats("x", x, (..., self.in_features))

    def apply(self, x: Array, lengths: Any, training: bool, rng: Any) -> tuple[Array, LinearCache | None]:
        """``x @ weight.T + bias``."""
        if self._fixed is not None and self._fits(x, self._fixed["weight"]):
            y = self.backend.affine(x.reshape(-1, self.in_features), self._fixed["weight"], self._fixed.get("bias"))
            return y.reshape(*x.shape[:-1], self.out_features), None
        self.backend.check_ready()
        x, params = self.checked_input(x), self.checked_params()
        weight = params["weight"]
        y = self.backend.affine(rows(x), weight, params.get("bias"))
        return self.backend.xp.reshape(y, (*x.shape[:-1], self.out_features)), LinearCache(x, weight)

    def _fits(self, x: Any, weight: Array) -> bool:
        """Whether an input is of the library, dtype and device of a weight that nobody changes, with its features."""
        same = type(x) is type(weight) and x.dtype == weight.dtype and x.shape[-1:] == weight.shape[1:]
        return same and hasattr(x, "reshape") and self.backend.on_device(x)

    def apply_backward(self, cache: LinearCache, dy: Array) -> tuple[Array, dict[str, Array]]:
        """``dy @ weight``, and the gradients of weight and bias."""
        self.check_cache(cache, LinearCache)
        self.backend.check_ready()
        x, xp = cache.x, self.backend.xp
        array_checks.shape_of_cache("weight", cache.weight, (self.out_features, self.in_features))
        dy = rows(self.floats("dy", dy, (*x.shape[:-1], self.out_features)))
        grads = {"weight": product_over_rows(dy, rows(x))}
        if self.bias:
            grads["bias"] = sum_over_rows(dy)
        return xp.reshape(dy @ cache.weight, x.shape), grads

    def random_input(self, rng: Generator, batch: int, steps: int) -> Any:
        """Return a random input, a NumPy array, that the layer takes."""
        return rng.standard_normal((batch, steps, self.in_features))
