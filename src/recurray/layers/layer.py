"""What every layer is: params on a backend, an explicit forward, and its backward."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, MutableMapping
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Self

from recurray import checks
from recurray.arrays import Array
from recurray.backend import Backend

if TYPE_CHECKING:
    import numpy as np


class Layer(ABC):
    """Params, a backend, and a forward with its backward.

    A layer keeps nothing from call to call: what backward needs is in the cache that forward returns, and the
    state that a recurrent layer carries goes in and comes out by argument. So several threads can share a layer.

    Attributes
    ----------
    backend : Backend
        Where the params live and the layer runs.
    dtype : str
        "float32" or "float64": the precision of the params and of all that is computed.
    params : mapping of str to array
        The layer's params; gradients have the same names and shapes.
    """

    backend: Backend
    dtype: str
    params: MutableMapping[str, Array]

    def __call__(self, x: Array, state: Any = None, lengths: Any = None) -> tuple[Array, Any]:
        """Inference: the output and the final state; keeps nothing.

        Parameters are those of `forward`.
        """
        y, end, _ = self._forward(x, state, lengths, training=False, rng=None, keep=False)
        return y, end

    def forward(
        self, x: Array, state: Any = None, lengths: Any = None, training: bool = True, rng: Any = None
    ) -> tuple[Array, Any, Any]:
        """Run the layer and keep what `backward` needs.

        Parameters
        ----------
        x : array
            The input, of the layer's backend.
        state : optional
            The start state, for layers that have one; zeros if omitted.
        lengths : sequence or array of int, shape (batch,), optional
            How many steps of each row are valid; all if omitted.
        training : bool
            Whether dropout is active.
        rng : numpy.random.Generator, optional
            Where dropout's draws come from; the layer's own generator if omitted.

        Returns
        -------
        y : array
            The output. It may share memory with ``x`` and with the cache: copy it before writing to it.
        state
            The final state, None for layers that have none.
        cache
            What `backward` reads. It may refer to the params, ``x``, ``state`` and ``y``: until `backward` has run,
            these may be replaced, but not written to in place.
        """
        return self._forward(x, state, lengths, training=training, rng=rng, keep=True)

    @abstractmethod
    def _forward(
        self, x: Array, state: Any, lengths: Any, *, training: bool, rng: Any, keep: bool
    ) -> tuple[Array, Any, Any]:
        """Check the arguments, run, and return (y, state, cache); the cache may be None where ``keep`` is False."""

    @abstractmethod
    def backward(self, cache: Any, dy: Array, dstate: Any = None) -> tuple[Array, Any, dict[str, Array]]:
        """Gradients of a loss, given those of the output and of the final state.

        Parameters
        ----------
        cache
            What `forward` returned; it isn't changed and can be used again.
        dy : array
            The loss's gradient with respect to the output.
        dstate : optional
            The loss's gradient with respect to the final state; zeros if omitted.

        Returns
        -------
        dx : array
            The gradient with respect to the input (None where the input is integers).
        dstate
            The gradient with respect to the start state, None for layers that have none.
        grads : dict of str to array
            The gradients with respect to the params, by their names.
        """

    @abstractmethod
    def random_input(self, rng: np.random.Generator, batch: int, steps: int) -> Any:
        """Return a random input, a NumPy array, that the layer takes."""

    @property
    def streamable(self) -> bool:
        """Whether the output at a step depends only on that step and earlier ones, so that input may come in chunks."""
        return True

    def param_count(self) -> int:
        """How many numbers the params hold."""
        count = 0
        for value in self.params.values():
            size = 1
            for length in value.shape:
                size *= length
            count += size
        return count

    def state_dict(self) -> dict[str, Any]:
        """Copies of the params as NumPy arrays."""
        return {name: self.backend.to_numpy(value) for name, value in self.params.items()}

    def load_state_dict(self, mapping: Mapping[str, Any]) -> None:
        """Replace every param by the array of the same name in ``mapping`` (of any library or device).

        Raises
        ------
        ValueError
            A name is missing or unknown, or a shape differs; then no param is changed.
        TypeError
            A value isn't a floating-point array.
        """
        self.params.update(checks.params_to_load(self.backend, self.dtype, self.params, mapping))

    def astype(self, dtype: str) -> Self:
        """Return a copy of the layer, params and all, that computes in ``dtype`` ("float32" or "float64")."""
        other = copy.copy(self)
        other.dtype = checks.float_dtype(dtype)
        xp = self.backend.xp
        other.params = {name: xp.astype(value, getattr(xp, other.dtype)) for name, value in self.params.items()}
        return other

    def __repr__(self) -> str:
        options = self._options()
        count = self.param_count()
        text = ", ".join([*options, f"backend={self.backend.name!r}", f"dtype={self.dtype!r}"])
        return f"{type(self).__name__}({text})  # {count:,} params"

    @abstractmethod
    def _options(self) -> list[str]:
        """The sizes and the options that differ from the defaults, as they would stand in the constructor's call."""


class StatelessLayer(Layer):
    """A layer that carries nothing from call to call: subclasses say what it does to an array, and backward."""

    def _forward(
        self, x: Array, state: Any, lengths: Any, *, training: bool, rng: Any, keep: bool
    ) -> tuple[Array, None, Any]:
        self._refuse("state", state)
        y, cache = self._apply(x, training, rng)
        return y, None, cache if keep else None

    def backward(self, cache: Any, dy: Array, dstate: Any = None) -> tuple[Array, None, dict[str, Array]]:
        """Gradients of the input and the params; see `Layer.backward`."""
        self._refuse("dstate", dstate)
        dx, grads = self._apply_backward(cache, dy)
        return dx, None, grads

    @abstractmethod
    def _apply(self, x: Array, training: bool, rng: Any) -> tuple[Array, Any]:
        """Check x and return (y, cache)."""

    @abstractmethod
    def _apply_backward(self, cache: Any, dy: Array) -> tuple[Array, dict[str, Array]]:
        """Check dy and return (dx, grads)."""

    def _refuse(self, name: str, value: Any) -> None:
        if value is not None:
            raise ValueError(f"{name} must be None: {type(self).__name__} carries no state, got {type(value).__name__}")

    def _floats(self, name: str, value: Any, shape: tuple[int | str | EllipsisType, ...]) -> Array:
        return checks.floats(self.backend, self.dtype, name, value, shape)
