"""Layers that carry nothing from call to call."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from recurray.arrays import Array
from recurray.layers import array_checks
from recurray.layers.layer import Layer


class StatelessLayer(Layer):
    """A layer that carries nothing from call to call: subclasses say what it does to an array, and backward."""

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
        if type(self).run is StatelessLayer.run and state is None and resets is None and static is None:
            return self.apply(x, lengths, False, None)[0], None
        y, _ = super().__call__(x, state, lengths, mask=mask, resets=resets, static=static)
        return y, None

    def run(
        self,
        x: Array,
        state: Any,
        lengths: Any,
        *,
        training: bool,
        rng: Any,
        keep: bool,
        mask: Any = None,
        resets: Any = None,
        static: Any = None,
    ) -> tuple[Array, None, Any]:
        """Run `apply`, and refuse what is for layers with a state; see `Layer.run`."""
        self._refuse("state", state)
        array_checks.not_recurrent(type(self).__name__, resets=resets, static=static)
        y, cache = self.apply(x, lengths, training, rng)
        return y, None, cache if keep else None

    def backward(self, cache: Any, dy: Array, dstate: Any = None) -> tuple[Array, None, dict[str, Array]]:
        """Gradients of the input and the params; see `Layer.backward`."""
        self._refuse("dstate", dstate)
        dx, grads = self.apply_backward(cache, dy)
        return dx, None, grads

    @abstractmethod
    def apply(self, x: Array, lengths: Any, training: bool, rng: Any) -> tuple[Array, Any]:
        """Check x, and ``lengths`` if they matter, and return (y, cache)."""

    @abstractmethod
    def apply_backward(self, cache: Any, dy: Array) -> tuple[Array, dict[str, Array]]:
        """Check dy and return (dx, grads)."""

    def _refuse(self, name: str, value: Any) -> None:
        if value is not None:
            raise ValueError(f"{name} must be None: {type(self).__name__} carries no state, got {type(value).__name__}")
