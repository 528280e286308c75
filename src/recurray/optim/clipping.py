"""Gradient clipping: by the norm of all gradients together, and number by number."""

from __future__ import annotations

import math
from collections.abc import Mapping

from recurray import checks
from recurray.arrays import Array, clamp, device_of, namespace_of, on_one_device
from recurray.messages import kind_of, shown
from recurray.optim.arrays import float_array
from recurray.selector import backend_of


def clip_grad_norm(grads: Mapping[str, Array], max_norm: float) -> tuple[dict[str, Array], Array]:
    """Scale gradients down together so that their norm is at most ``max_norm`` [1]_.

    The norm is the root of the sum of all squares in all arrays. As in PyTorch the
    gradients are multiplied by min(1, max_norm / (norm + 1e-6)); a factor of 1 leaves every bit as it is.

    Parameters
    ----------
    grads : mapping of str to array
        The gradients, all of one library and on one device; they aren't changed.
    max_norm : float
        The largest norm wanted, at least 0; infinity to learn the norm and clip nothing.

    Returns
    -------
    clipped : dict of str to array
        New arrays, by the same names.
    norm : array, 0-d
        The norm before clipping, on the gradients' device: the host waits for it only where it is
        looked at, by ``float(norm)`` say. (The float 0.0 where ``grads`` holds no numbers at all.)

    Raises
    ------
    ValueError
        ``max_norm`` is negative or NaN.
    TypeError
        ``max_norm`` is no number, or ``grads`` is no mapping of floating-point arrays.

    Notes
    -----
    The norm is right however large or small the gradients are; it is inf only where it is beyond the dtype's largest
    number.

    Gradients that aren't finite are PyTorch's business as usual: if one holds NaN, the norm is NaN and so is every
    clipped gradient; if one holds infinity, the norm is inf, the infinities become NaN and all else 0. Look at
    ``norm`` before the step where that may happen.

    References
    ----------
    .. [1] R. Pascanu, T. Mikolov and Y. Bengio, "On the difficulty of training recurrent neural networks", ICML 2013,
       arXiv:1211.5063, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> clipped, norm = rr.optim.clip_grad_norm({"w": np.array([3.0, 0.0]), "b": np.array([-4.0])}, max_norm=1.0)
    >>> print(norm, clipped["w"].round(3), clipped["b"].round(3))
    5.0 [0.6 0. ] [-0.8]
    """
    max_norm = checks.number("max_norm", max_norm)
    if not max_norm >= 0:
        raise ValueError(f"max_norm must be at least 0, not {shown(max_norm)}")
    if not isinstance(grads, Mapping):
        raise TypeError(f"grads must be a mapping of names to arrays, not {type(grads).__name__}")
    grads = {name: float_array(f"the gradient of {shown(name)}", grad) for name, grad in grads.items()}
    filled = [grad for grad in grads.values() if math.prod(grad.shape)]
    if not filled:
        return dict(grads), 0.0
    xp = namespace_of(filled[0])
    for name, grad in grads.items():
        if namespace_of(grad) is not xp or not on_one_device(device_of(grad), device_of(filled[0])):
            raise TypeError(
                f"the gradients must be arrays of one library on one device, but that of {shown(name)} is "
                f"{kind_of(grad)} on {device_of(grad)}, another {kind_of(filled[0])} on "
                f"{device_of(filled[0])}"
            )
    norm = backend_of(filled[0]).norm(filled)
    max_norm = min(max_norm, float(xp.finfo(norm.dtype).max))
    factor = xp.asarray(max_norm / xp.maximum(norm + 1e-6, xp.full_like(norm, max_norm)))  # at most 1
    factors = {dtype: xp.astype(factor, dtype, copy=False) for dtype in {grad.dtype for grad in grads.values()}}
    return {name: xp.asarray(grad * factors[grad.dtype]) for name, grad in grads.items()}, norm


def clip_grad_value(grads: Mapping[str, Array], limit: float) -> dict[str, Array]:
    """Bring each number of the gradients to between ``-limit`` and ``limit`` [1]_.

    Unlike `clip_grad_norm` this changes the direction of the step.

    Parameters
    ----------
    grads : mapping of str to array
        The gradients, of any libraries and devices; they aren't changed.
    limit : float
        The largest size of a number wanted, at least 0.

    Returns
    -------
    clipped : dict of str to array
        New arrays, by the same names. NaN stays NaN; infinity becomes the limit.

    Raises
    ------
    ValueError
        ``limit`` is negative or NaN.
    TypeError
        ``limit`` is no number, or ``grads`` is no mapping of floating-point arrays.

    References
    ----------
    .. [1] T. Mikolov, "Statistical Language Models Based on Neural Networks", PhD thesis, Brno University of
       Technology, 2012. As ``torch.nn.utils.clip_grad_value_``.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> rr.optim.clip_grad_value({"w": np.array([3.0, -0.5]), "b": np.array([-4.0])}, limit=1.0)
    {'w': array([ 1. , -0.5]), 'b': array([-1.])}
    """
    limit = checks.number("limit", limit)
    if not limit >= 0:
        raise ValueError(f"limit must be at least 0, not {shown(limit)}")
    if not isinstance(grads, Mapping):
        raise TypeError(f"grads must be a mapping of names to arrays, not {type(grads).__name__}")
    grads = {name: float_array(f"the gradient of {shown(name)}", grad) for name, grad in grads.items()}
    found = {}
    for name, grad in grads.items():
        xp = namespace_of(grad)
        most = min(limit, float(xp.finfo(grad.dtype).max)) if limit < math.inf else limit
        found[name] = xp.asarray(clamp(xp.astype(grad, grad.dtype), -most, most))
    return found
