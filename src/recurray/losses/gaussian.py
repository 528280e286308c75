"""The loss of a prediction that says how sure it is."""

from __future__ import annotations

import math

from recurray import checks
from recurray.arrays import Array, is_tracer, on_host
from recurray.losses.arguments import Reduction, elementwise, taken_in
from recurray.losses.reduction import exp_below_0, reduced
from recurray.messages import in_words


def gaussian_nll(
    prediction: Array,
    target: Array,
    reduction: Reduction = "mean",
    *,
    log_variance: bool = True,
    full: bool = False,
    eps: float = 1e-6,
    mask: Array | None = None,
) -> tuple[Array, Array]:
    """Negative log-likelihood of a normal distribution, (log variance + (target - mean)^2 / variance) / 2 [1]_.

    The prediction has the means first and then as many logarithms of variances, which may be any numbers, so that a
    `Linear` with twice the target's features can end a model; with ``log_variance=False`` variances themselves, as in
    PyTorch's ``gaussian_nll_loss``.

    Parameters
    ----------
    prediction : array, shape (..., 2 features)
        float32 or float64: the means, then the log variances or variances.
    target : array, shape (..., features)
        Floating-point numbers.
    reduction : {"mean", "sum", "none"}
        See `recurray.losses`. The elementwise losses have the target's shape.
    log_variance : bool
        Whether the prediction holds logarithms (natural ones) of variances.
    full : bool
        Whether log(2 pi) / 2, which doesn't depend on the prediction, is added.
    eps : float
        Above 0. A smaller variance counts as this; the gradient is then that at ``eps``, as in PyTorch, so that the
        variance can grow again.
    mask : boolean array, the target's shape or its first axes, optional
        Which elements count; all if omitted.

    Returns
    -------
    value : array
        0-d, or the target's shape for "none".
    gradient : array, shape (..., 2 features)
        With respect to the prediction.

    Raises
    ------
    ValueError
        Shapes don't fit, devices differ, the reduction is unknown, ``eps`` isn't above 0, or a variance is negative
        (checked on the host; on a GPU it counts as ``eps``).
    TypeError
        Array libraries differ, or a dtype is of the wrong kind.

    References
    ----------
    .. [1] D. A. Nix and A. S. Weigend, "Estimating the Mean and Variance of the Target Probability Distribution",
       ICNN 1994.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> prediction = np.array([[1.0, 0.0]])  # mean 1, log variance 0
    >>> value, gradient = rr.losses.gaussian_nll(prediction, np.array([[3.0]]))
    >>> print(value, gradient)
    2.0 [[-2.  -1.5]]
    >>> value, gradient = rr.losses.gaussian_nll(np.array([[1.0, 4.0]]), np.array([[3.0]]), log_variance=False)
    >>> print(value.round(3), gradient.tolist())
    1.193 [[-0.5, 0.0]]
    """
    log_variance, full = checks.flag("log_variance", log_variance), checks.flag("full", full)
    eps = checks.finite("eps", eps)
    if eps <= 0:
        raise ValueError(f"eps must be above 0, not {eps!r}")
    xp, prediction, target, mask = taken_in(prediction, target, reduction, mask)
    shape = tuple(target.shape)
    wanted = (*shape[:-1], 2 * shape[-1]) if shape else (2,)
    if not shape or tuple(prediction.shape) != wanted:
        kind = "log variances" if log_variance else "variances"
        raise ValueError(
            f"prediction must have the means and then the {kind} on its last axis, so twice the target's features: "
            f"the shape {in_words(wanted)} for a target of {in_words(shape)}, not {in_words(prediction.shape)}"
        )
    features = shape[-1]
    mean, spread = prediction[..., :features], prediction[..., features:]
    xp, mean, target, mask = elementwise(mean, target, reduction, mask)
    if mask is not None:
        spread = xp.where(mask, spread, xp.zeros_like(spread))
    error = mean - target
    if log_variance:
        log = xp.maximum(spread, xp.full_like(spread, math.log(eps)))
        precision = exp_below_0(xp, -log)
    else:
        if on_host(spread):
            negative = xp.any(spread < 0)
            if not is_tracer(negative) and bool(negative):
                raise ValueError("prediction must hold variances, none negative, after the means; see log_variance=")
        variance = xp.maximum(spread, xp.full_like(spread, eps))
        log, precision = xp.log(variance), 1.0 / variance
    distance = error * (error * precision)
    loss = 0.5 * (log + distance) + (0.5 * math.log(2 * math.pi) if full else 0.0)
    slope = 0.5 * (1.0 - distance)
    gradient = xp.stack([error * precision, slope if log_variance else slope * precision], axis=-1)
    value, gradient = reduced(xp, loss, gradient, reduction, mask)
    return value, xp.concat([gradient[..., 0], gradient[..., 1]], axis=-1)
