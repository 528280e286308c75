"""Losses of audio."""

from __future__ import annotations

from recurray import checks
from recurray.arrays import Array, Namespace, sum_over_rows
from recurray.losses.arguments import Reduction
from recurray.losses.series import series


def esr(
    prediction: Array,
    target: Array,
    reduction: Reduction = "mean",
    *,
    pre_emphasis: float = 0.85,
    dc: bool = False,
    per_row: bool = True,
    eps: float = 1e-8,
    mask: Array | None = None,
) -> tuple[Array, Array]:
    """Error-to-signal ratio of filtered audio, sum (f(prediction) - f(target))^2 / (sum f(target)^2 + eps) [1]_.

    The filter f raises high frequencies, which matter more to the ear than to a sum of squares: it is
    x[t] - pre_emphasis x[t - 1], silence being before the first step.

    Parameters
    ----------
    prediction : array, shape (batch, time, ...) or (time,)
        float32 or float64.
    target : array, the prediction's shape
        Floating-point numbers.
    reduction : {"mean", "sum", "none"}
        See `recurray.losses`. There is a loss for each row, and each feature of it: "mean" is over these, not steps.
    per_row : bool
        Whether each row is a series by itself; all rows are one series if False, with one loss.
    pre_emphasis : float
        From 0 to 1; 0 for none, 0.85 in [1]_ and 0.95 in [2]_.
    dc : bool
        Whether the ratio of the mean error's square to the mean square of the target, neither of them filtered, is
        added: what [1]_ trains with.
    eps : float
        Added to the divisors, above 0, so that a target of silence has a loss too. In the second ratio it is
        added to the mean.
    mask : boolean array, the prediction's shape or its first axes, optional
        Which steps count; all if omitted. A row without any doesn't count.

    Returns
    -------
    value : array
        0-d, or of the prediction's shape without time for "none" (0-d where all is one series).
    gradient : array, the prediction's shape
        With respect to the prediction.

    Raises
    ------
    ValueError
        Shapes or devices differ, the reduction is unknown, or an option is out of range.
    TypeError
        Array libraries differ, or a dtype is of the wrong kind.

    References
    ----------
    .. [1] A. Wright, E.-P. Damskägg and V. Välimäki, "Real-Time Black-Box Modelling with Recurrent Neural Networks",
       DAFx 2019.
    .. [2] A. Wright, E.-P. Damskägg, L. Juvela and V. Välimäki, "Real-Time Guitar Amplifier Emulation with Deep
       Learning", Applied Sciences 10(3), 2020.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> target = np.array([[0.0, 1.0, 0.0, -1.0]])
    >>> value, gradient = rr.losses.esr(0.9 * target, target)
    >>> print(value.round(4))
    0.01

    What doesn't change is hardly heard, but is seen by ``dc``:

    >>> [float(rr.losses.esr(target + 0.5, target, dc=dc)[0].round(3)) for dc in (False, True)]
    [0.098, 0.598]
    """
    share, dc = checks.finite("pre_emphasis", pre_emphasis), checks.flag("dc", dc)
    if not 0 <= share <= 1:
        raise ValueError(f"pre_emphasis must be from 0 to 1, not {share!r}")
    eps = checks.finite("eps", eps)
    if eps <= 0:
        raise ValueError(f"eps must be above 0, not {eps!r}")
    rows = series(prediction, target, reduction, mask, per_row)
    xp, error = rows.xp, rows.x - rows.y
    heard, signal = (_raised(xp, a, share) * rows.counts for a in (error, rows.y))
    scale = sum_over_rows(signal * signal) + eps
    loss = sum_over_rows(heard * heard) / scale
    gradient = _raised_backward(xp, 2.0 * heard / scale, share)
    if dc:
        mean = sum_over_rows(error) / rows.number
        scale = sum_over_rows(rows.y * rows.y) / rows.number + eps
        loss = loss + mean * mean / scale
        gradient = gradient + 2.0 * mean / (rows.number * scale)
    return rows.reduced(loss, gradient, reduction, None)


def _raised(xp: Namespace, a: Array, share: float) -> Array:
    """A less what it was a step before, (T, S)."""
    if not share or not a.shape[0]:
        return a
    return xp.concat([a[:1, ...], a[1:, ...] - share * a[:-1, ...]], axis=0)


def _raised_backward(xp: Namespace, d: Array, share: float) -> Array:
    if not share or not d.shape[0]:
        return d
    return xp.concat([d[:-1, ...] - share * d[1:, ...], d[-1:, ...]], axis=0)
