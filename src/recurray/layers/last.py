"""The last valid step of each row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recurray import checks
from recurray.arrays import Array
from recurray.layers import array_checks
from recurray.layers.draws import Generator
from recurray.layers.layer import Layer
from recurray.state import State


@dataclass(frozen=True)
class LastCache:
    """What Last's backward reads."""

    chosen: Array  # (batch, time, 1) or (time, batch, 1): whether the step is its row's last valid one
    carried: Array  # (batch, 1): whether the row has no valid step, so that its output is the start state
    shape: tuple[int, ...]  # of the input


class Last(Layer):
    """Pass on each row's last valid step: (batch, time, features) -> (batch, features).

    Its state is the output. A row without a valid step gives the start state, zeros at first; so a sequence in
    chunks, empty ones included, gives what the uncut one gives.

    Parameters
    ----------
    batch_first : bool
        Whether the input is (batch, time, features) rather than (time, batch, features).
    backend, dtype
        As in `LSTM`; in a `Sequential`, where omitted, those of the other layers.

    Raises
    ------
    ValueError, TypeError
        An option is of the wrong kind.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> x = np.arange(6, dtype="float32").reshape(2, 3, 1)
    >>> rr.Last()(x, lengths=[3, 1])[0].tolist()
    [[2.0], [3.0]]
    """

    def __init__(self, *, batch_first: bool = True, backend: Any = None, dtype: Any = None) -> None:
        self.batch_first = checks.flag("batch_first", batch_first)
        self.runs_on(backend, dtype)
        self.params = {}

    def run(
        self, x: Array, state: Any, lengths: Any, *, training: bool, rng: Any, keep: bool
    ) -> tuple[Array, State, LastCache | None]:
        """Pick each row's last valid step; see `Layer.run`."""
        xp, device = self.backend.xp, self.backend.device
        layout = ("batch", "time") if self.batch_first else ("time", "batch")
        x = self.floats("x", x, (*layout, "features"))
        batch, steps = x.shape[:2] if self.batch_first else x.shape[1::-1]
        lengths = array_checks.lengths(lengths, batch, steps)
        before = self._state("state", state, (1, batch, x.shape[2]))

        last = xp.asarray([steps] * batch if lengths is None else lengths, dtype=xp.int64, device=device) - 1
        time = xp.arange(steps, dtype=xp.int64, device=device)
        chosen = (last[:, None] == time[None, :] if self.batch_first else time[:, None] == last[None, :])[:, :, None]
        carried = (last < 0)[:, None]
        zero = xp.zeros_like(x)
        y = xp.sum(xp.where(chosen, x, zero), axis=1 if self.batch_first else 0)  # where: padding may hold NaN
        y = xp.where(carried, before, y)
        return y, State(y[None, ...]), LastCache(chosen, carried, tuple(x.shape)) if keep else None

    def backward(self, cache: LastCache, dy: Array, dstate: Any = None) -> tuple[Array, State, dict[str, Array]]:
        """Gradients of the input and the start state; see `Layer.backward`."""
        self.check_cache(cache, LastCache)
        xp = self.backend.xp
        batch, features = cache.carried.shape[0], cache.shape[2]
        dy = self.floats("dy", dy, (batch, features))
        dy = dy + self._state("dstate", dstate, (1, batch, features))
        zero = xp.zeros_like(dy)
        along_time = dy[:, None, :] if self.batch_first else dy[None, :, :]
        dx = xp.where(cache.chosen, along_time, xp.zeros_like(along_time))
        return dx, State(xp.where(cache.carried, dy, zero)[None, ...]), {}

    def _state(self, name: str, value: Any, shape: tuple[int, ...]) -> Array:
        """Check a state or its gradient; return its (batch, features)."""
        xp = self.backend.xp
        if value is None:
            return xp.zeros(shape[1:], dtype=getattr(xp, self.dtype), device=self.backend.device)
        if not isinstance(value, State) or value.c is not None:
            raise TypeError(f"{name} must be a recurray.State with h alone or None, not {type(value).__name__}")
        return self.floats(f"{name}.h", value.h, shape)[0, ...]

    def random_input(self, rng: Generator, batch: int, steps: int) -> Any:
        """Return a random input, a NumPy array, that the layer takes."""
        return rng.standard_normal((batch, steps, 3) if self.batch_first else (steps, batch, 3))
