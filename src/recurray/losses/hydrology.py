"""Losses of hydrology."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from recurray import checks
from recurray.arrays import Array, namespace_of, sum_over_rows
from recurray.losses.arguments import Reduction, weights
from recurray.losses.series import series

Method = Literal["2009", "2012"]
METHODS = get_args(Method)

CONSTANT = (
    "must have two different values among those that count, or its {measure} has no meaning: leave such rows out by "
    "mask={way_out}"
)


def nse(
    prediction: Array,
    target: Array,
    reduction: Reduction = "mean",
    *,
    per_row: bool = True,
    deviation: Sequence[float] | Array | None = None,
    eps: float = 0.1,
    mask: Array | None = None,
) -> tuple[Array, Array]:
    """One minus the Nash-Sutcliffe efficiency, sum (prediction - target)^2 / sum (target - mean target)^2 [1]_.

    It is 0 where the prediction is right, 1 where it is as good as the mean of the observations. Batches that hold a
    piece of each basin's series do better with the deviation of the whole: with ``deviation`` it is
    mean (prediction - target)^2 / (deviation + eps)^2 of each row, the NSE* of [2]_.

    Parameters
    ----------
    prediction : array, shape (batch, time, ...) or (time,)
        float32 or float64.
    target : array, the prediction's shape
        Floating-point numbers, the observations.
    reduction : {"mean", "sum", "none"}
        See `recurray.losses`. There is a loss for each row, and each feature of it: "mean" is over these, not steps.
    per_row : bool
        Whether each row is a series by itself, as a basin's is; all rows are one series if False, with one loss.
    deviation : sequence or array of float, shape (batch, ...), optional
        The standard deviation of each row's observations, over the training period; the shape is the prediction's
        without time.
    eps : float
        Added to ``deviation``, 0.1 in [2]_; at least 0.
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
        Shapes or devices differ, the reduction is unknown, or the observations of a row that counts are all equal
        (checked on the host; on a GPU such a row becomes NaN; with ``deviation`` they may be).
    TypeError
        Array libraries differ, or a dtype is of the wrong kind.

    References
    ----------
    .. [1] J. E. Nash and J. V. Sutcliffe, "River Flow Forecasting through Conceptual Models Part I", Journal of
       Hydrology 10(3), 1970.
    .. [2] F. Kratzert, D. Klotz, G. Shalev, G. Klambauer, S. Hochreiter and G. Nearing, "Towards Learning Universal,
       Regional, and Local Hydrological Behaviors via Machine Learning Applied to Large-Sample Datasets", Hydrology and
       Earth System Sciences 23, 2019, equation 13.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> observed = np.array([[1.0, 2.0, 3.0, 2.0]])
    >>> value, gradient = rr.losses.nse(observed + np.array([0.0, 0.0, 1.0, 0.0]), observed)
    >>> print(value, gradient)
    0.5 [[0. 0. 1. 0.]]
    >>> value, gradient = rr.losses.nse(np.full((1, 4), 2.0), observed)  # the mean
    >>> print(value)
    1.0
    """
    eps = checks.finite("eps", eps)
    if eps < 0:
        raise ValueError(f"eps must be at least 0, not {eps!r}")
    rows = series(prediction, target, reduction, mask, per_row)
    xp, error, wrong = rows.xp, rows.x - rows.y, None
    if deviation is None:
        wrong = rows.refuse(rows.constant(rows.y), CONSTANT.format(measure="NSE", way_out=" or give deviation="))
        _, apart = rows.deviations(rows.y)
        scale = sum_over_rows(apart * apart)
        scale = xp.where(scale == 0, xp.ones_like(scale), scale)
    else:
        if not rows.losses_shape:
            raise ValueError("deviation must be None where all is one series: it is for rows, of each one")
        given = weights(xp, "deviation", deviation, rows.x, rows.losses_shape)
        spread = xp.reshape(given, (rows.x.shape[1],)) + eps
        scale = rows.number * spread * spread
    return rows.reduced(sum_over_rows(error * error) / scale, 2.0 * error / scale, reduction, wrong)


def kge(
    prediction: Array,
    target: Array,
    reduction: Reduction = "mean",
    *,
    per_row: bool = True,
    method: Method = "2009",
    mask: Array | None = None,
) -> tuple[Array, Array]:
    """One minus the Kling-Gupta efficiency, sqrt((r - 1)^2 + (alpha - 1)^2 + (beta - 1)^2) [1]_.

    r is the correlation of prediction and target, alpha the standard deviation of the prediction over that of the
    target, beta the mean of the prediction over that of the target. So the numbers must be in units that have a zero,
    not standardized ones. KGE' of [2]_ has gamma = alpha / beta, the coefficient of variation of the prediction over
    that of the target, in the place of alpha: a bias in the mean doesn't count again as one in the spread.

    Where all predictions of a row are equal r counts as 0, and it and alpha have the gradient 0; where their mean is 0
    so does gamma. Where the loss is 0 its gradient is 0.

    Parameters
    ----------
    prediction : array, shape (batch, time, ...) or (time,)
        float32 or float64.
    target : array, the prediction's shape
        Floating-point numbers, the observations.
    reduction : {"mean", "sum", "none"}
        See `recurray.losses`. There is a loss for each row, and each feature of it: "mean" is over these, not steps.
    per_row : bool
        Whether each row is a series by itself, as a basin's is; all rows are one series if False, with one loss.
    method : {"2009", "2012"}
        KGE of [1]_, or KGE' of [2]_.
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
        Shapes or devices differ, the reduction or method is unknown, or the observations of a row that counts are all
        equal or their mean is 0 (checked on the host; on a GPU such a row becomes NaN).
    TypeError
        Array libraries differ, or a dtype is of the wrong kind.

    References
    ----------
    .. [1] H. V. Gupta, H. Kling, K. K. Yilmaz and G. F. Martinez, "Decomposition of the Mean Squared Error and NSE
       Performance Criteria: Implications for Improving Hydrological Modelling", Journal of Hydrology 377, 2009,
       equations 9 and 10.
    .. [2] H. Kling, M. Fuchs and M. Paulin, "Runoff Conditions in the Upper Danube Basin under an Ensemble of Climate
       Change Scenarios", Journal of Hydrology 424-425, 2012, equations 1 to 3.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> observed = np.array([[1.0, 2.0, 3.0, 2.0]])
    >>> value, gradient = rr.losses.kge(1.5 * observed, observed)  # alpha and beta are 1.5
    >>> print(value.round(4))
    0.7071
    >>> value, gradient = rr.losses.kge(1.5 * observed, observed, method="2012")  # gamma is 1
    >>> print(value.round(4))
    0.5
    """
    checks.choice("method", method, METHODS)
    rows = series(prediction, target, reduction, mask, per_row)
    xp, number = rows.xp, rows.number
    (x_mean, x), (y_mean, y) = rows.deviations(rows.x), rows.deviations(rows.y)
    constant = rows.constant(rows.y)
    wrong = rows.refuse(constant, CONSTANT.format(measure="KGE", way_out=""))
    some = sum_over_rows(rows.counts) > 0
    zero_mean = some & (y_mean == 0)
    wrong_mean = rows.refuse(
        zero_mean, "must not have the mean 0, or its KGE has no meaning: it has none for values that were standardized"
    )
    if wrong is not None and wrong_mean is not None:
        wrong = wrong | wrong_mean

    def safe(a: Array, bad: Array) -> Array:
        return xp.where(bad, xp.ones_like(a), a)

    y_mean, y_spread = safe(y_mean, y_mean == 0), _root_mean_square(y, number)
    y_spread = safe(y_spread, y_spread == 0)
    x_spread = _root_mean_square(x, number)
    flat = rows.constant(rows.x) | (x_spread == 0)
    x_spread = safe(x_spread, flat)
    zero = xp.zeros_like(x_spread)
    x = xp.where(flat, xp.zeros_like(x), x)
    r = xp.where(flat, zero, sum_over_rows(x * y) / (number * x_spread * y_spread))
    alpha = xp.where(flat, zero, x_spread / y_spread)
    beta = x_mean / y_mean
    spread, by_alpha, by_beta = alpha, 1.0, 0.0
    if method == "2012":
        centred = beta == 0
        per_beta = xp.where(centred, zero, 1.0 / safe(beta, centred))
        spread, by_alpha, by_beta = alpha * per_beta, per_beta, -alpha * per_beta * per_beta
    loss = xp.sqrt((r - 1.0) ** 2 + (spread - 1.0) ** 2 + (beta - 1.0) ** 2)

    of_r = xp.where(flat, xp.zeros_like(y), y / (x_spread * y_spread) - r * x / (x_spread * x_spread))
    of_alpha = x / (x_spread * y_spread)
    of_spread = by_alpha * of_alpha + by_beta / y_mean
    slope = (r - 1.0) * of_r + (spread - 1.0) * of_spread + (beta - 1.0) / y_mean
    return rows.reduced(loss, slope / (number * safe(loss, loss == 0)), reduction, wrong)


def _root_mean_square(a: Array, number: Array) -> Array:
    return namespace_of(a).sqrt(sum_over_rows(a * a) / number)
