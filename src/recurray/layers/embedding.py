"""Vectors for integers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recurray import checks
from recurray.arrays import Array, is_tracer, rows
from recurray.layers import array_checks, draws
from recurray.layers.draws import Generator
from recurray.layers.stateless import StatelessLayer


@dataclass(frozen=True)
class EmbeddingCache:
    """What Embedding's backward reads."""

    index: Array  # (N,)
    shape: tuple[int, ...]  # of the input


class Embedding(StatelessLayer):
    """A table of vectors, looked up by integers: y[...] = weight[x[...]].

    Parameters
    ----------
    num_embeddings : int
        Rows of the table; the input's integers are from 0 to one below.
    embedding_dim : int
        Size of a vector.
    padding_idx : int, optional
        A row that stands for padding: it starts as zeros and has no gradient, as in PyTorch. A negative one counts from
        the end. Where ``params`` are given the row is what they have.
    backend, dtype, seed, params
        As in `LSTM`.

    Attributes
    ----------
    params : dict of str to array
        ``weight`` (num_embeddings, embedding_dim), drawn from the standard normal distribution.

    Raises
    ------
    ValueError, TypeError
        A size, an option or a param is of the wrong kind, ``padding_idx`` is no row; in a call, an integer is
        out of range.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> embedding = rr.Embedding(10, 4, seed=0)
    >>> y, _, cache = embedding.forward(np.array([[1, 2, 2]]))
    >>> y.shape
    (1, 3, 4)
    >>> dx, _, grads = embedding.backward(cache, np.ones_like(y))
    >>> dx is None, float(grads["weight"][2, 0])
    (True, 2.0)
    >>> embedding = rr.Embedding(10, 4, padding_idx=0, seed=0)
    >>> embedding(np.array([0]))[0].tolist()
    [[0.0, 0.0, 0.0, 0.0]]
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        padding_idx: int | None = None,
        backend: Any = None,
        dtype: Any = "float32",
        seed: Any = None,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        self.num_embeddings = checks.size("num_embeddings", num_embeddings)
        self.embedding_dim = checks.size("embedding_dim", embedding_dim)
        self.padding_idx = None if padding_idx is None else self._row("padding_idx", padding_idx)
        self.runs_on(backend, dtype)
        rng, _ = draws.generators(seed)
        shape = (self.num_embeddings, self.embedding_dim)

        def drawn() -> dict[str, Any]:
            weight = rng.standard_normal(shape)
            if self.padding_idx is not None:
                weight[self.padding_idx] = 0.0
            return {"weight": weight}

        self.start_params({"weight": shape}, drawn, params)

    def _row(self, name: str, value: Any) -> int:
        """Check a row of the table; from the end where it is negative."""
        row, count = checks.integer(name, value), self.num_embeddings
        if not -count <= row < count:
            raise ValueError(f"{name} must be a row of the table, from {-count} to {count - 1}, not {row}")
        return row % count

    def apply(self, x: Array, lengths: Any, training: bool, rng: Any) -> tuple[Array, EmbeddingCache]:
        """The weight's row for each integer of x."""
        self.backend.check_ready()
        xp = self.backend.xp
        x = array_checks.array(self.backend, "x", x)
        if not xp.isdtype(x.dtype, "integral"):
            raise TypeError(f"x must be integers, not {x.dtype}")
        index = xp.astype(xp.reshape(x, (-1,)), xp.int64)
        if index.shape[0] and not is_tracer(index):
            least, largest = int(xp.min(index)), int(xp.max(index))
            if not (least >= 0 and largest < self.num_embeddings):
                raise ValueError(
                    f"x must be between 0 and {self.num_embeddings - 1}, but goes from {least} to {largest}"
                )
        y = xp.reshape(xp.take(self.checked_params()["weight"], index, axis=0), (*x.shape, self.embedding_dim))
        return y, EmbeddingCache(index, tuple(x.shape))

    def apply_backward(self, cache: EmbeddingCache, dy: Array) -> tuple[None, dict[str, Array]]:
        """Add up dy by the integers."""
        self.check_cache(cache, EmbeddingCache)
        xp, dy = self.backend.xp, rows(self.floats("dy", dy, (*cache.shape, self.embedding_dim)))
        if self.padding_idx is not None:
            dy = xp.where((cache.index == self.padding_idx)[:, None], xp.zeros_like(dy), dy)
        return None, {"weight": self.backend.sum_rows(dy, cache.index, self.num_embeddings)}

    def random_input(self, rng: Generator, batch: int, steps: int) -> Any:
        """Return a random input, a NumPy array, that the layer takes."""
        if self.padding_idx is None or self.num_embeddings == 1:
            return rng.integers(self.num_embeddings, size=(batch, steps))
        drawn = rng.integers(self.num_embeddings - 1, size=(batch, steps))
        return drawn + (drawn >= self.padding_idx)  # padding has no gradient, whatever it changes
