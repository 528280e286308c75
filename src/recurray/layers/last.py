"""What is read at the end of a row: the last valid step, or the final output of each direction."""

from __future__ import annotations

import copy
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Self

from recurray import checks
from recurray.arrays import Array, rows
from recurray.layers import array_checks
from recurray.layers.layer import Directions
from recurray.layers.over_steps import OverSteps
from recurray.state import State

DIRECTIONS: dict[str, Directions] = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


@dataclass(frozen=True)
class LastCache:
    """What the backward of `Last` and `Final` reads."""

    picks: tuple[Array, ...]  # of each direction (batch,): the step that was taken
    carried: Array  # (batch, 1): whether the row has no valid step, so that its output is the start state
    shape: tuple[int, ...]  # of the input


class _Ends(OverSteps):
    """Pass on a valid step at an end of each row: the last, or for features that run in reverse the first."""

    @abstractmethod
    def _directions(self) -> Directions:
        """Which way the parts of the input's features run."""

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
    ) -> tuple[Array, State, LastCache | None]:
        """Pick the steps; see `Layer.run`."""
        x, given = self._checked(x, lengths, mask, resets, static)
        directions = self._directions()
        xp, device = self.backend.xp, self.backend.device
        batch, steps = given.batch, given.steps
        if x.shape[2] % len(directions):
            raise ValueError(f"x must have an even number of features, half for each direction, not {x.shape[2]}")
        before = array_checks.state_of_h(self.backend, self.dtype, "state", state, (1, batch, x.shape[2]))

        first, last = given.ends()
        carried = xp.asarray([[step < 0] for step in last], dtype=xp.bool, device=device)
        carried = xp.reshape(carried, (batch, 1))
        picks = tuple(xp.asarray(first if reverse else last, dtype=xp.int64, device=device) for reverse in directions)
        y = before
        if batch and steps:
            numbers = xp.arange(batch, dtype=xp.int64, device=device)
            parts = []
            for part, pick in zip(_parts(x, len(directions)), picks, strict=True):
                step = xp.where(carried[:, 0], xp.zeros_like(pick), pick)
                place = numbers * steps + step if self.batch_first else step * batch + numbers
                parts.append(xp.take(rows(part), place, axis=0))
            y = xp.where(carried, before, xp.concat(parts, axis=-1))
        return y, State(y[None, ...]), LastCache(picks, carried, tuple(x.shape)) if keep else None

    def backward(self, cache: LastCache, dy: Array, dstate: Any = None) -> tuple[Array, State, dict[str, Array]]:
        """Gradients of the input and the start state; see `Layer.backward`."""
        self.check_cache(cache, LastCache)
        xp, device = self.backend.xp, self.backend.device
        batch, features = cache.carried.shape[0], cache.shape[2]
        dy = self.floats("dy", dy, (batch, features))
        dy = dy + array_checks.state_of_h(self.backend, self.dtype, "dstate", dstate, (1, batch, features))
        steps = cache.shape[1 if self.batch_first else 0]
        time = xp.arange(steps, dtype=xp.int64, device=device)
        dxs = []
        for part, pick in zip(_parts(dy, len(cache.picks)), cache.picks, strict=True):
            if self.batch_first:
                chosen, along_time = pick[:, None] == time[None, :], part[:, None, :]
            else:
                chosen, along_time = time[:, None] == pick[None, :], part[None, :, :]
            dxs.append(xp.where(chosen[:, :, None], along_time, xp.zeros_like(along_time)))
        dx = dxs[0] if len(dxs) == 1 else xp.concat(dxs, axis=-1)
        return dx, State(xp.where(cache.carried, dy, xp.zeros_like(dy))[None, ...]), {}


class Last(_Ends):
    """Pass on each row's last valid step: (batch, time, features) -> (batch, features).

    Its state is the output. A row without a valid step gives the start state, zeros at first; so a sequence in
    chunks, empty ones included, gives what the uncut one gives. After a layer that runs in reverse `Final` is what is
    wanted: at the last step, the reverse direction has only begun.

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

    def _directions(self) -> Directions:
        return (False,)


class Final(_Ends):
    """Pass on the final output of each direction: (batch, time, directions * size) -> (batch, directions * size).

    That of the forward direction is at each row's last valid step, that of the reverse direction at the first: what
    PyTorch has as ``h_n`` of the last layer, and Keras returns where ``return_sequences=False``. As with `Last`, the
    state is the output, and what a row without a valid step gives.

    Parameters
    ----------
    direction : {"forward", "reverse", "bidirectional"}, optional
        Which way the input runs in time. In a `Sequential` it is known, where nothing but `Dropout`, `Activation` and
        `LayerNorm` stands between this and a recurrent layer.
    batch_first : bool
        Whether the input is (batch, time, features) rather than (time, batch, features).
    backend, dtype
        As in `LSTM`; in a `Sequential`, where omitted, those of the other layers.

    Raises
    ------
    ValueError, TypeError
        An option is of the wrong kind, or the direction isn't known or isn't that of the layer before.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> x = np.ones((4, 6, 3), dtype="float32")
    >>> lstm = rr.LSTM(3, 5, bidirectional=True, seed=0)
    >>> y, _ = rr.Sequential(lstm, rr.Final())(x, lengths=[6, 2, 1, 3])
    >>> _, state = lstm(x, lengths=[6, 2, 1, 3])
    >>> bool(np.array_equal(y, np.concatenate([state.h[0], state.h[1]], axis=1)))
    True
    """

    _features = 4

    def __init__(
        self, direction: str | None = None, *, batch_first: bool = True, backend: Any = None, dtype: Any = None
    ) -> None:
        self.direction = None if direction is None else checks.choice("direction", direction, tuple(DIRECTIONS))
        super().__init__(batch_first=batch_first, backend=backend, dtype=dtype)
        self._followed: Directions = ()

    def following(self, directions: Directions) -> Self:
        """Return one that knows which directions the layer before it has; none where that can't be said."""
        if self.direction is None and not directions:
            raise ValueError(
                "Final must follow a recurrent layer, with nothing but Dropout, Activation and LayerNorm between; "
                "else direction= says which way its input runs"
            )
        if self.direction is not None and directions not in ((), DIRECTIONS[self.direction]):
            name = next(name for name, value in DIRECTIONS.items() if value == directions)
            raise ValueError(f"direction must be {name!r}, as the recurrent layer before it, not {self.direction!r}")
        other = copy.copy(self)
        other._followed = directions
        return other

    def _directions(self) -> Directions:
        known = DIRECTIONS[self.direction] if self.direction is not None else self._followed
        if not known:
            raise ValueError(
                "Final doesn't know which way its input runs: give direction=, "
                f"one of {', '.join(map(repr, DIRECTIONS))}, or put it into a Sequential, after a recurrent layer"
            )
        return known


def _parts(a: Array, count: int) -> list[Array]:
    """Equal parts along the last axis."""
    size = a.shape[-1] // count
    return [a[..., k * size : (k + 1) * size] for k in range(count)]
