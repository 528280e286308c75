"""Layers that read all steps of a row and pass on one output for it."""

from __future__ import annotations

from typing import Any

from recurray import checks
from recurray.arrays import Array
from recurray.layers import array_checks
from recurray.layers.draws import Generator
from recurray.layers.layer import Layer
from recurray.layers.pieces import Steps


class OverSteps(Layer):
    """A layer without params, from (batch, time, features) or (time, batch, features) to (batch, features)."""

    _features = 3  # of a random input

    def __init__(self, *, batch_first: bool = True, backend: Any = None, dtype: Any = None) -> None:
        self.batch_first = checks.flag("batch_first", batch_first)
        self.runs_on(backend, dtype)
        self.params = {}

    def _checked(self, x: Any, lengths: Any, mask: Any, resets: Any, static: Any) -> tuple[Array, Steps]:
        """The input, and which of its steps are valid."""
        array_checks.not_recurrent(type(self).__name__, resets=resets, static=static)
        layout = ("batch", "time") if self.batch_first else ("time", "batch")
        x = self.floats("x", x, (*layout, "features"))
        batch, steps = x.shape[:2] if self.batch_first else x.shape[1::-1]
        return x, array_checks.steps(batch, steps, lengths, mask, batch_first=self.batch_first)

    def random_input(self, rng: Generator, batch: int, steps: int) -> Any:
        """Return a random input, a NumPy array, that the layer takes."""
        shape = (batch, steps) if self.batch_first else (steps, batch)
        return rng.standard_normal((*shape, self._features))
