"""What is read over all of a row: the mean or the largest of its valid steps."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

from recurray.arrays import Array, sum_over_rows
from recurray.layers.over_steps import OverSteps
from recurray.state import State


class _Pooling(OverSteps):
    """Pool the valid steps of each row, time-major; the state is what was pooled of the chunks before."""

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
    ) -> tuple[Array, State, Any]:
        """Pool the steps; see `Layer.run`."""
        x, given = self._checked(x, lengths, mask, resets, static)
        x = self.backend.xp.permute_dims(x, (1, 0, 2)) if self.batch_first else x
        valid = self.backend.asarray(given.valid.T[:, :, None])  # (T, B, 1)
        y, end, cache = self._pool(x, valid, state)
        return y, end, cache if keep else None

    @abstractmethod
    def _pool(self, x: Array, valid: Array, state: Any) -> tuple[Array, State, Any]:
        """Pool x (T, B, features) where ``valid`` (T, B, 1)."""

    def _in_layout(self, dx: Array) -> Array:
        """From (T, B, features) to the caller's layout."""
        return self.backend.xp.permute_dims(dx, (1, 0, 2)) if self.batch_first else dx

    def _floats_of_state(self, name: str, value: Any, shapes: dict[str, tuple[int, ...]]) -> dict[str, Array]:
        """The fields of a state, or of its gradient, without their axis of layers."""
        if not isinstance(value, State):
            raise TypeError(f"{name} must be a recurray.State or None, not {type(value).__name__}")
        found = {}
        for field in State._fields:
            given = getattr(value, field)
            if field in shapes:
                found[field] = self.floats(f"{name}.{field}", given, (1, *shapes[field]))[0, ...]
            elif given is not None:
                raise ValueError(f"{name}.{field} must be None: {type(self).__name__} has no state {field!r}")
        return found


@dataclass(frozen=True)
class MeanCache:
    """What Mean's backward reads."""

    valid: Array  # (T, B, 1)
    before: Array  # (B, features): the mean of the steps before
    mean: Array  # (B, features)
    weight: Array  # (B, 1): the share of the steps before
    count: Array  # (B, 1): of all steps, 1 where there are none


class Mean(_Pooling):
    """Pass on the mean over each row's valid steps: (batch, time, features) -> (batch, features).

    Its state is the mean so far, ``h``, and of how many steps it is, ``c`` (1, batch, 1): so a sequence in chunks gives
    what the uncut one gives. Of a row without a valid step it is zero.

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
    >>> rr.Mean()(x, mask=np.array([[True, False, True], [False, True, False]]))[0].tolist()
    [[1.0], [4.0]]
    """

    def _pool(self, x: Array, valid: Array, state: Any) -> tuple[Array, State, MeanCache]:
        xp, (_, batch, features) = self.backend.xp, x.shape
        x = xp.where(valid, x, xp.zeros_like(x))
        here = sum_over_rows(xp.astype(valid, x.dtype))
        if state is None:
            already = xp.zeros_like(here)
            before = xp.zeros((batch, features), dtype=x.dtype, device=self.backend.device)
        else:
            given = self._floats_of_state("state", state, {"h": (batch, features), "c": (batch, 1)})
            before, already = given["h"], given["c"]
        count = already + here
        whole = xp.where(count == 0, xp.ones_like(count), count)
        weight = already / whole
        mean = before * weight + sum_over_rows(x) / whole
        return mean, State(mean[None, ...], count[None, ...]), MeanCache(valid, before, mean, weight, whole)

    def backward(self, cache: MeanCache, dy: Array, dstate: Any = None) -> tuple[Array, State, dict[str, Array]]:
        """Gradients of the input and the start state; see `Layer.backward`."""
        self.check_cache(cache, MeanCache)
        xp, shape = self.backend.xp, tuple(cache.mean.shape)
        d = self.floats("dy", dy, shape)
        dcount = xp.zeros_like(cache.count)
        if dstate is not None:
            given = self._floats_of_state("dstate", dstate, {"h": shape, "c": (shape[0], 1)})
            d, dcount = d + given["h"], given["c"]
        dx = xp.where(cache.valid, (d / cache.count)[None, ...], xp.zeros_like(d)[None, ...])
        dcount = dcount + xp.sum(d * (cache.before - cache.mean), axis=1, keepdims=True) / cache.count
        return self._in_layout(dx), State((d * cache.weight)[None, ...], dcount[None, ...]), {}


@dataclass(frozen=True)
class MaxCache:
    """What Max's backward reads."""

    step: Array  # (B, features): that of the largest, counted from 1; 0 where that is the state
    none: Array  # (B, features): whether there was nothing, so that the output is zero
    steps: int


class Max(_Pooling):
    """Pass on the largest of each row's valid steps, feature by feature: (batch, time, features) -> (batch, features).

    Its state is the largest so far, minus infinity at first: so a sequence in chunks gives what the uncut one gives. Of
    a row without a valid step it is zero. Of several that are the largest, the first has the gradient.

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
    >>> x = np.asarray([[[1.0], [5.0], [2.0]]], dtype="float32")
    >>> rr.Max()(x, mask=np.array([[True, False, True]]))[0].tolist()
    [[2.0]]
    """

    def _pool(self, x: Array, valid: Array, state: Any) -> tuple[Array, State, MaxCache]:
        xp, (steps, batch, features) = self.backend.xp, x.shape
        lowest = xp.full_like(x, -math.inf)
        if state is None:
            before = xp.full((1, batch, features), -math.inf, dtype=x.dtype, device=self.backend.device)
        else:
            before = self._floats_of_state("state", state, {"h": (batch, features)})["h"][None, ...]
        x = xp.concat([before, xp.where(valid, x, lowest)], axis=0)
        step, largest = xp.argmax(x, axis=0), xp.max(x, axis=0)
        none = largest == -math.inf
        y = xp.where(none, xp.zeros_like(largest), largest)
        return y, State(largest[None, ...]), MaxCache(step, none, steps)

    def backward(self, cache: MaxCache, dy: Array, dstate: Any = None) -> tuple[Array, State, dict[str, Array]]:
        """Gradients of the input and the start state; see `Layer.backward`."""
        self.check_cache(cache, MaxCache)
        xp, shape = self.backend.xp, tuple(cache.step.shape)
        d = self.floats("dy", dy, shape)
        d = xp.where(cache.none, xp.zeros_like(d), d)
        if dstate is not None:
            d = d + self._floats_of_state("dstate", dstate, {"h": shape})["h"]
        numbers = xp.arange(cache.steps + 1, dtype=cache.step.dtype, device=self.backend.device)
        d = xp.where(cache.step[None, ...] == numbers[:, None, None], d[None, ...], xp.zeros_like(d)[None, ...])
        return self._in_layout(d[1:, ...]), State(d[:1, ...]), {}
