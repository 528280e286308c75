"""A model fed chunk after chunk."""

from __future__ import annotations

import copy
from typing import Any, Self

from recurray.arrays import Array
from recurray.layers import moving
from recurray.layers.layer import Layer


class Streaming:
    """A model whose state is carried from call to call.

    However a sequence is cut into chunks, of length 0 and 1 too, the outputs are those of the uncut sequence, to
    rounding. It isn't for several threads at once; the model itself may be shared.

    Parameters
    ----------
    model : Layer
        A layer or `Sequential` that has no reverse direction.

    Attributes
    ----------
    state
        What is carried, None before the first call; it may be saved and set.
    static
        The model's input that doesn't change over time, as it was given last: what a chunk without one is run with.
        None before, and after `reset`.

    Raises
    ------
    ValueError
        The model needs the end of a sequence before its start.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> stream = rr.Streaming(rr.LSTM(3, 5, dtype="float64", seed=0))
    >>> x = np.ones((1, 4, 3))
    >>> chunks = [stream(x[:, :1]), stream(x[:, 1:])]
    >>> stream.reset()
    >>> bool(np.allclose(np.concatenate(chunks, axis=1), stream(x), rtol=0, atol=1e-12))
    True
    """

    def __init__(self, model: Layer) -> None:
        if not isinstance(model, Layer):
            raise TypeError(f"model must be a recurray layer, not {type(model).__name__}")
        if not model.streamable:
            raise ValueError(
                "a model that runs in reverse can't be streamed: it needs the end of a sequence before its start"
            )
        self.model = model
        self.state: Any = None
        self.static: Any = None

    def __call__(
        self, x: Array, lengths: Any = None, *, mask: Any = None, resets: Any = None, static: Any = None
    ) -> Array:
        """Run the model on the next chunk, in inference, and return its output.

        The parameters are those of `Layer.forward`: where a row begins anew, ``resets`` is True at its first step.
        """
        static = self.static if static is None else static
        y, self.state = self.model(x, self.state, lengths, mask=mask, resets=resets, static=static)
        self.static = static
        return y

    def to(self, backend: Any = None, dtype: Any = None) -> Self:
        """Return the same stream on another backend, or in another precision: the model (see `Layer.to`) and the state.

        What comes next is what would have come, to rounding; the two streams go on independently.
        """
        model = self.model.to(backend, dtype)
        other = copy.copy(self)
        other.model, other.state = model, model.as_state(self.state)
        if self.static is not None:
            other.static = moving.array(self.model.backend, model.backend, model.dtype, "static", self.static)
        return other

    def reset(self) -> None:
        """Forget the state, and what doesn't change over time: the next chunk starts a new sequence."""
        self.state = self.static = None
