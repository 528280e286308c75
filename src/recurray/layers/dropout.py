"""Dropout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recurray import checks
from recurray.arrays import Array, dropped
from recurray.backend import Stack
from recurray.layers import draws
from recurray.layers.chain_call import Part
from recurray.layers.draws import Generator
from recurray.layers.layer import Directions
from recurray.layers.stateless import StatelessLayer


@dataclass(frozen=True)
class DropoutCache:
    """What Dropout's backward reads."""

    kept: Array | None  # the input's shape; None where nothing was dropped
    shape: tuple[int, ...]  # of the input


class Dropout(StatelessLayer):
    """In training, set each element to zero with a probability and scale the others up to keep the mean.

    Parameters
    ----------
    p : float
        The probability that an element is dropped, at least 0 and below 1.
    backend, dtype
        As in `LSTM`; in a `Sequential`, where omitted, those of the other layers.
    seed
        As in `LSTM`.

    Attributes
    ----------
    rng : numpy.random.Generator
        Where the draws come from unless ``forward`` is given another.

    Raises
    ------
    ValueError, TypeError
        An option is of the wrong kind.

    References
    ----------
    Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 15, 2014.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> dropout = rr.Dropout(0.5, seed=0)
    >>> y, _, cache = dropout.forward(np.ones((1, 4), dtype="float32"))
    >>> sorted(set(y[0].tolist())) <= [0.0, 2.0]
    True
    >>> dropout(np.ones((1, 4), dtype="float32"))[0].tolist()
    [[1.0, 1.0, 1.0, 1.0]]
    """

    def __init__(self, p: float = 0.5, *, backend: Any = None, dtype: Any = None, seed: Any = None) -> None:
        self.p = checks.probability("p", p)
        self.runs_on(backend, dtype)
        _, self.rng = draws.generators(seed)
        self.params = {}

    def apply(self, x: Array, lengths: Any, training: bool, rng: Any) -> tuple[Array, DropoutCache]:
        """Drop elements of x, in training."""
        x = self.floats("x", x, (...,))
        if not training or self.p == 0:
            return x, DropoutCache(None, tuple(x.shape))
        kept = draws.kept(self.backend, rng or self.rng, x.shape, self.p)
        return dropped(x, kept, self.p), DropoutCache(kept, tuple(x.shape))

    def _part(self) -> Part | None:  # it does nothing in inference
        return Part(Stack((), ()), None) if type(self) is Dropout else None

    def apply_backward(self, cache: DropoutCache, dy: Array) -> tuple[Array, dict[str, Array]]:
        """Drop the same elements of dy."""
        self.check_cache(cache, DropoutCache)
        dy = self.floats("dy", dy, cache.shape)
        return dy if cache.kept is None else dropped(dy, cache.kept, self.p), {}

    def directions_after(self, before: Directions) -> Directions:
        """Those of the input; see `Layer.directions_after`."""
        return before

    def random_input(self, rng: Generator, batch: int, steps: int) -> Any:
        """Return a random input, a NumPy array, that the layer takes."""
        return rng.standard_normal((batch, steps, 3))

    def options(self) -> list[str]:
        """The probability, always."""
        return [str(self.p)]
