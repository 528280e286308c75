"""What a model is shown: the steps of a window, and the steps after it with what is known of them in advance.

W steps of a window, N of the horizon, from the origin on, which is the first step that is forecast.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Origins = NDArray[np.int64]

RELATIVE = ("season", "last", "none")  # what the target is told relative to


class Scaled(NamedTuple):
    """A series in the units of training.

    Attributes
    ----------
    target : array (rows,)
    past : array (rows, columns)
    known : array (rows, columns), or with more rows than the others: those of the time to come
    """

    target: Floats
    past: Floats
    known: Floats


class Task(Protocol):
    """What a network is shown of windows, what it is to say, and what that means: `Windows`, or a `Correction`."""

    @property
    def window(self) -> int:
        """The steps of a window."""

    def inputs(self, scaled: Scaled, origins: Origins) -> Floats:
        """What it reads: (origins, W + N, features)."""

    def targets(self, scaled: Scaled, origins: Origins) -> Floats:
        """What it is to say of the steps to come: (origins, N)."""

    def back(self, scaled: Scaled, origins: Origins, said: Any) -> Any:
        """What it says, (origins, N, ...), as values of the scaled target."""


@dataclass(frozen=True)
class Windows:
    """How a series is cut.

    Attributes
    ----------
    window, horizon : int
        W and N.
    season : int or None
        After how many steps the series is as it was.
    relative_to : "season", "last" or "none"
        Where the naive forecast stands that a target is told relative to: a season before, or at the end of the window;
        "none" for the mean of all. Values in a window are told relative to its last one, unless "none".
    spread, target_spread : float
        Divisors that bring relative values to the size of 1.
    """

    window: int
    horizon: int
    season: int | None
    relative_to: str
    spread: float = 1.0
    target_spread: float = 1.0

    def origins(self, begin: int, end: int) -> Origins:
        """All origins whose windows begin at ``begin`` or later and whose horizons end before ``end``."""
        return np.arange(begin + self.window, end - self.horizon + 1)

    def naive(self, target: Floats, origins: Origins) -> Floats:
        """The forecast that targets are told relative to: (origins, N)."""
        if self.relative_to == "none":
            return np.zeros((len(origins), self.horizon))
        return naive(target, origins, self.horizon, self.season if self.relative_to == "season" else None)

    def fitted(self, target: Floats, origins: Origins) -> dict[str, float]:
        """The spreads, so that relative values of these windows have a mean square of 1."""
        if self.relative_to == "none":
            return {"spread": 1.0, "target_spread": 1.0}
        past = target[self._past(origins)]
        left = target[self._future(origins)] - self.naive(target, origins)
        spreads = [float(np.sqrt(np.mean(np.square(values)))) for values in (past - past[:, -1:], left)]
        return {"spread": spreads[0] or 1.0, "target_spread": spreads[1] or 1.0}

    def inputs(self, scaled: Scaled, origins: Origins) -> Floats:
        """What the model reads: (origins, W + N, features).

        Features are the target, the columns of the past, those known in advance, and whether the step is to come. In
        steps to come the naive forecast stands for the target, and 0 for the columns of the past.
        """
        past, steps = self._past(origins), np.arange(-self.window, self.horizon)
        level = self._level(scaled.target, origins)
        target = np.concatenate([scaled.target[past], self.naive(scaled.target, origins)], axis=1)
        columns = np.zeros((len(origins), len(steps), scaled.past.shape[1]))
        columns[:, : self.window] = scaled.past[past]
        to_come = np.broadcast_to(steps >= 0, target.shape)
        return np.concatenate(
            [
                ((target - level) / self.spread)[..., None],
                columns,
                scaled.known[origins[:, None] + steps],
                to_come[..., None],
            ],
            axis=2,
        )

    def targets(self, scaled: Scaled, origins: Origins) -> Floats:
        """What the model is to say of the steps to come: (origins, N)."""
        there = scaled.target[self._future(origins)]
        return (there - self.naive(scaled.target, origins)) / self.target_spread

    def back(self, scaled: Scaled, origins: Origins, said: Any) -> Any:
        """What the model says, (origins, N, ...), as values of the scaled target."""
        base = self.naive(scaled.target, origins)
        return base.reshape(base.shape + (1,) * (said.ndim - 2)) + said * self.target_spread

    def _level(self, target: Floats, origins: Origins) -> Any:
        return 0.0 if self.relative_to == "none" else target[origins - 1][:, None]

    def _past(self, origins: Origins) -> Origins:
        return np.asarray(origins[:, None] + np.arange(-self.window, 0))

    def _future(self, origins: Origins) -> Origins:
        return np.asarray(origins[:, None] + np.arange(self.horizon))


def naive(target: Floats, origins: Origins, horizon: int, season: int | None = None) -> Floats:
    """The last value before each origin, or the last one of the same place in the season: (origins, N).

    Hyndman and Athanasopoulos, Forecasting: Principles and Practice, section "Some simple forecasting methods".
    """
    ahead = np.arange(horizon)
    if season is None:
        return np.asarray(np.repeat(target[origins - 1][:, None], horizon, axis=1))
    return np.asarray(target[origins[:, None] + ahead - season * (ahead // season + 1)])


class Split(NamedTuple):
    """Origins to learn from, and later ones to see what has been learned.

    No step that is forecast from the ones is forecast from the others.
    """

    training: Origins
    validation: Origins


def split(windows: Windows, begin: int, end: int, share: float) -> Split:
    """Split origins in the order of time: the last ``share`` of the steps that are forecast are for validation."""
    origins = windows.origins(begin, end)
    if share == 0 or not len(origins):
        return Split(origins, origins[:0])
    steps = end - origins[0]
    border = end - max(windows.horizon, round(share * steps))
    return Split(origins[origins + windows.horizon <= border], origins[origins >= border])


@dataclass(frozen=True)
class Batches:
    """Windows in batches, made one after the other: all at once they would be as many times the series as a window is
    long.

    Attributes
    ----------
    task : Task
    scaled : Scaled
    origins : array of int
        In the order in which they are taken.
    size : int
        Windows to a batch.
    """

    task: Task
    scaled: Scaled
    origins: Origins
    size: int

    def __len__(self) -> int:
        return -(-len(self.origins) // self.size)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for begin in range(0, len(self.origins), self.size):
            origins = self.origins[begin : begin + self.size]
            x = self.task.inputs(self.scaled, origins).astype(np.float32)
            target = np.zeros(x.shape[:2], dtype=np.float32)
            target[:, self.task.window :] = self.task.targets(self.scaled, origins)
            yield {"x": x, "target": target, "target_mask": np.broadcast_to(x[..., -1] > 0, x.shape[:2])}

    def shuffled(self, rng: np.random.Generator) -> Batches:
        """The same windows in another order."""
        return Batches(self.task, self.scaled, rng.permutation(self.origins), self.size)
