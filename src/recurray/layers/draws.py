"""Random draws. They come from NumPy's generators on the host, so a seed gives the same numbers on every backend."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from recurray.arrays import Array
from recurray.backend import Backend
from recurray.cells.cell import Cell
from recurray.messages import shown

Generator = np.random.Generator


def generators(seed: Any) -> tuple[Generator, Generator]:
    """Return independent generators for a layer's params and for its dropout."""
    try:
        first, second = np.random.SeedSequence(seed).spawn(2)
    except Exception as error:  # whatever NumPy raises, and what a class of a user's does when it is shown
        kind = ValueError if isinstance(error, (ValueError, OverflowError)) else TypeError
        raise kind(f"seed must be None, a non-negative integer or a sequence of these, not {shown(seed)}") from None
    return np.random.default_rng(first), np.random.default_rng(second)


def checked(rng: Any) -> Generator | None:
    """Check the generator that a caller gave, if any."""
    if rng is not None and not isinstance(rng, Generator):
        raise TypeError(f"rng must be a numpy.random.Generator, not {type(rng).__name__} {shown(rng)}")
    return rng


def copy_of_each(named: Mapping[str, Any]) -> dict[str, Generator]:
    """Return copies, in the state that they are in, of those of some values that are generators."""
    return {name: copy.deepcopy(value) for name, value in named.items() if isinstance(value, Generator)}


def kept(backend: Backend, rng: Generator, shape: tuple[int, ...], drop: float) -> Array:
    """Draw a boolean array: False, with the probability ``drop``, for what is dropped."""
    return backend.asarray(rng.random(shape, dtype=np.float32) >= np.float32(drop))


class Noise(NamedTuple):
    """What a recurrent layer draws for a scan. Without a generator, in inference, there is none."""

    backend: Backend
    dtype: str

    def output_mask(self, rng: Generator | None, shape: tuple[int, int], drop: float) -> Array | None:
        """Recurrent dropout's factors of the output, (B, R)."""
        if rng is None or not drop:
            return None
        return self._as_numbers(kept(self.backend, rng, shape, drop)) / (1 - drop)

    def cell_draws(self, rng: Generator | None, shape: tuple[int, int, int], cell: Cell) -> dict[str, Array | float]:
        """A cell's draws: numbers 0 and 1, (T, B, H), in training, and their mean in inference."""
        if rng is None:
            return dict(cell.draws)
        found: dict[str, Array | float] = {}
        for name, probability in cell.draws.items():
            own = (1, *shape[1:]) if name in cell.sequence_draws else shape
            drawn = self._as_numbers(kept(self.backend, rng, own, 1 - probability))
            found[name] = self.backend.xp.broadcast_to(drawn, shape)
        return found

    def _as_numbers(self, flags: Array) -> Array:
        xp = self.backend.xp
        return xp.astype(flags, getattr(xp, self.dtype))
