"""Losses of whole series: what is summed over time, of each row or of all rows together.

S series of T steps each; those of a row's features are each a series too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from recurray import checks
from recurray.arrays import Array, Namespace, device_of, in_order, is_tracer, on_host, sum_over_rows
from recurray.losses.arguments import Reduction, elementwise
from recurray.losses.reduction import reduced
from recurray.messages import in_words


@dataclass(frozen=True)
class Series:
    """Predictions and targets by time, (T, S), zero where they don't count."""

    xp: Namespace
    x: Array  # (T, S)
    y: Array  # (T, S)
    counts: Array  # (T, S): 1 where a step counts, else 0
    counted: Array  # (T, S), of bool
    shape: tuple[int, ...]  # of the prediction
    per_row: bool

    @property
    def losses_shape(self) -> tuple[int, ...]:
        """That of the elementwise losses: the prediction's without time."""
        return (*self.shape[:1], *self.shape[2:]) if self.per_row and len(self.shape) > 1 else ()

    @property
    def number(self) -> Array:
        """How many steps of each series count, at least 1: (S,)."""
        number = sum_over_rows(self.counts)
        return self.xp.maximum(number, self.xp.ones_like(number))

    def deviations(self, a: Array) -> tuple[Array, Array]:
        """The mean of each series, (S,), and what it deviates from that by, (T, S), zero where it doesn't count."""
        mean = sum_over_rows(a) / self.number
        return mean, self.xp.where(self.counted, a - mean, self.xp.zeros_like(a))

    def constant(self, a: Array) -> Array:
        """Which series, of those with a step that counts, have one value alone: (S,)."""
        xp = self.xp
        if not a.shape[0]:
            return xp.zeros((a.shape[1],), dtype=xp.bool, device=device_of(a))
        least = xp.min(xp.where(self.counted, a, xp.full_like(a, math.inf)), axis=0)
        return least == xp.max(xp.where(self.counted, a, xp.full_like(a, -math.inf)), axis=0)

    def refuse(self, wrong: Array, what: str) -> Array | None:
        """Raise an error where a series is wrong; return which are wrong where that can't be seen on the host."""
        xp = self.xp
        if not on_host(wrong) or is_tracer(wrong):
            return wrong
        if bool(xp.any(wrong)):
            row = int(xp.argmax(xp.astype(wrong, xp.int8)))
            place = row // max(1, math.prod(self.losses_shape[1:]))
            where = f"of row {place} " if self.losses_shape else ""
            raise ValueError(f"target {where}{what}")
        return None

    def reduced(self, loss: Array, gradient: Array, reduction: Reduction, wrong: Array | None) -> tuple[Array, Array]:
        """The value and gradient of losses (S,) and gradients (T, S), in the prediction's shape; NaN where wrong."""
        xp = self.xp
        if wrong is not None:
            loss = xp.where(wrong, xp.full_like(loss, math.nan), loss)
            gradient = xp.where(wrong, xp.full_like(gradient, math.nan), gradient)
        gradient = xp.where(self.counted, gradient, xp.zeros_like(gradient))
        some = sum_over_rows(self.counts) > 0
        loss, gradient = reduced(xp, loss, xp.permute_dims(gradient, (1, 0)), reduction, some)
        if reduction == "none":
            loss = xp.reshape(loss, self.losses_shape)
        if not self.losses_shape:
            return xp.asarray(loss), xp.reshape(gradient, self.shape)
        last = (*self.losses_shape, self.shape[1])
        axes = (0, len(last) - 1, *range(1, len(last) - 1))
        return loss, xp.permute_dims(xp.reshape(gradient, last), axes)


def series(prediction: Array, target: Array, reduction: Reduction, mask: Array | None, per_row: bool) -> Series:
    """Check a prediction and target, (batch, time, ...) or (time,), and bring time to the front."""
    per_row = checks.flag("per_row", per_row)
    xp, x, y, mask = elementwise(prediction, target, reduction, mask)
    shape = tuple(x.shape)
    if not shape:
        raise ValueError(f"prediction must have the shape (batch, time, ...) or (time,), not {in_words(shape)}")
    counted = xp.ones_like(x, dtype=xp.bool) if mask is None else mask
    steps = shape[1] if per_row and len(shape) > 1 else math.prod(shape) if not per_row else shape[0]
    count = math.prod(shape[:1] + shape[2:]) if per_row and len(shape) > 1 else 1

    def by_time(a: Array) -> Array:
        a = in_order(a)
        if count > 1 or (per_row and len(shape) > 1):
            a = xp.permute_dims(a, (1, 0, *range(2, len(shape))))
        return in_order(xp.reshape(a, (steps, count)))

    counted = by_time(counted)
    return Series(xp, by_time(x), by_time(y), xp.astype(counted, x.dtype), counted, shape, per_row)
