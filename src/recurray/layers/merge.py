"""The two directions of a bidirectional layer made one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recurray import checks
from recurray.arrays import Array
from recurray.layers.draws import Generator
from recurray.layers.stateless import StatelessLayer

MODES = ("sum", "ave", "mul")


@dataclass(frozen=True)
class MergeCache:
    """What Merge's backward reads."""

    x: Array | None  # (..., 2 size); None where the halves aren't multiplied
    shape: tuple[int, ...]  # of the input


class Merge(StatelessLayer):
    """Merge the halves of the last axis, as of a bidirectional layer's output: (..., 2 size) -> (..., size).

    Schuster & Paliwal, "Bidirectional recurrent neural networks", IEEE Transactions on Signal Processing 45(11), 1997,
    merge directions by a mean; Keras's ``Bidirectional(merge_mode=)`` has all three ways, by these names.

    Parameters
    ----------
    mode : {"sum", "ave", "mul"}
        Whether the halves are added, averaged or multiplied, element by element.
    backend, dtype
        As in `LSTM`; in a `Sequential`, where omitted, those of the other layers.

    Raises
    ------
    ValueError, TypeError
        An option is of the wrong kind; in a call, the last axis has an odd size.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> y, _ = rr.Merge("ave")(np.array([[1.0, 2.0, 5.0, 4.0]], dtype="float32"))
    >>> y.tolist()
    [[3.0, 3.0]]
    >>> model = rr.Sequential(rr.LSTM(3, 5, bidirectional=True, seed=0), rr.Merge("sum"))
    >>> model(np.ones((2, 7, 3), dtype="float32"))[0].shape
    (2, 7, 5)
    """

    def __init__(self, mode: str, *, backend: Any = None, dtype: Any = None) -> None:
        self.mode = checks.choice("mode", mode, MODES)
        self.runs_on(backend, dtype)
        self.params = {}

    def apply(self, x: Array, lengths: Any, training: bool, rng: Any) -> tuple[Array, MergeCache]:
        """The first half of the last axis with the second."""
        x = self.floats("x", x, (..., "features"))
        size = x.shape[-1] // 2
        if 2 * size != x.shape[-1]:
            raise ValueError(f"x must have two halves along its last axis, not {x.shape[-1]} features")
        first, second = x[..., :size], x[..., size:]
        if self.mode == "mul":
            return first * second, MergeCache(x, tuple(x.shape))
        y = first + second
        return y if self.mode == "sum" else 0.5 * y, MergeCache(None, tuple(x.shape))

    def apply_backward(self, cache: MergeCache, dy: Array) -> tuple[Array, dict[str, Array]]:
        """Give dy to both halves: halved for a mean, times the other half for a product."""
        self.check_cache(cache, MergeCache)
        xp, size = self.backend.xp, cache.shape[-1] // 2
        dy = self.floats("dy", dy, (*cache.shape[:-1], size))
        if cache.x is not None:
            first, second = dy * cache.x[..., size:], dy * cache.x[..., :size]
        else:
            first = second = dy if self.mode == "sum" else 0.5 * dy
        return xp.concat((first, second), axis=-1), {}

    def random_input(self, rng: Generator, batch: int, steps: int) -> Any:
        """Return a random input, a NumPy array, that the layer takes."""
        return rng.standard_normal((batch, steps, 6))

    def options(self) -> list[str]:
        """The mode, always."""
        return [repr(self.mode)]
