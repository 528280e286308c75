"""Random draws. They come from NumPy's generators on the host, so a seed gives the same numbers on every backend."""

from __future__ import annotations

from typing import Any

import numpy as np

from recurray.arrays import Array
from recurray.backend import Backend


def generators(seed: Any) -> tuple[np.random.Generator, np.random.Generator]:
    """Return independent generators for a layer's params and for its dropout."""
    try:
        first, second = np.random.SeedSequence(seed).spawn(2)
    except (TypeError, ValueError) as error:
        raise type(error)(f"seed must be None, a non-negative integer or a sequence of these, not {seed!r}") from None
    return np.random.default_rng(first), np.random.default_rng(second)


def generator(rng: Any, default: np.random.Generator) -> np.random.Generator:
    """Check the generator that a caller gave, or return the default."""
    if rng is None:
        return default
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a numpy.random.Generator, not {type(rng).__name__} {rng!r}")
    return rng


def uniform(backend: Backend, dtype: str, rng: np.random.Generator, shape: tuple[int, ...], bound: float) -> Array:
    """Draw numbers uniformly from [-bound, bound)."""
    return backend.asarray(rng.uniform(-bound, bound, shape), dtype)


def kept(backend: Backend, rng: np.random.Generator, shape: tuple[int, ...], drop: float) -> Array:
    """Draw a boolean array: False, with the probability ``drop``, for what is dropped."""
    return backend.asarray(rng.random(shape, dtype=np.float32) >= np.float32(drop))
