"""Which steps of ragged rows count, as a mask."""

from __future__ import annotations

import math
from typing import Any

from recurray import checks
from recurray.arrays import Array, device_of, is_tracer, namespace_of, on_host, plain, to_numpy
from recurray.messages import in_words, shown

__all__ = ["lengths_to_mask"]


def lengths_to_mask(lengths: Any, steps: int | None = None, batch_first: bool = True) -> Array:
    """Return which steps of each row are valid, as a mask for layers and losses.

    Parameters
    ----------
    lengths : sequence or array of int, shape (batch,)
        How many steps of each row are valid.
    steps : int, optional
        How many steps the mask has; the largest length if omitted, for which a GPU's host has to wait.
    batch_first : bool
        Whether the mask is (batch, time); (time, batch) if False.

    Returns
    -------
    array of bool, shape (batch, steps) or (steps, batch)
        True at a row's first ``lengths[row]`` steps. Of the library and on the device of ``lengths``; NumPy's for a
        sequence.

    Raises
    ------
    ValueError
        ``lengths`` has not one axis, or a length is negative or above ``steps`` (checked on the host; on a GPU only
        where ``steps`` is omitted).
    TypeError
        ``lengths`` or ``steps`` are no integers, ``batch_first`` is no boolean, or ``steps`` is omitted within
        ``jax.jit``.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> rr.lengths_to_mask([2, 0, 3])
    array([[ True,  True, False],
           [False, False, False],
           [ True,  True,  True]])

    Padding doesn't count in a loss:

    >>> y, target = np.ones((2, 4, 5)), np.zeros((2, 4, 5))
    >>> y[0, 3:] = np.nan
    >>> value, dy = rr.losses.mse(y, target, mask=rr.lengths_to_mask([3, 4], steps=4))
    >>> float(value)
    1.0
    """
    batch_first = checks.flag("batch_first", batch_first)
    steps = None if steps is None else checks.size("steps", steps, least=0)
    lengths = _integers(lengths)
    xp = namespace_of(lengths)
    if steps is None and is_tracer(lengths):
        raise TypeError("steps must be given where the lengths are not known yet, within jax.jit")
    if not is_tracer(lengths) and (steps is None or on_host(lengths)):
        rows = [int(length) for length in to_numpy(lengths)]
        steps = max(rows, default=0) if steps is None else steps
        for row, length in enumerate(rows):
            if not 0 <= length <= steps:
                raise ValueError(f"lengths must be between 0 and the {steps} steps, but row {row} has {length}")
    places = xp.arange(steps, device=device_of(lengths))
    lengths = xp.astype(lengths, places.dtype)  # uint64 doesn't mix with other integers
    return places < lengths[:, None] if batch_first else places[:, None] < lengths


def _integers(lengths: Any) -> Array:
    """Check the kind and shape of lengths; return an array."""
    lengths = plain("lengths", lengths)
    try:
        namespace_of(lengths)
    except TypeError:
        try:
            lengths = to_numpy(lengths, "lengths")
        except TypeError:
            raise TypeError(f"lengths must be one integer for each row, not {shown(lengths)}") from None
    if len(lengths.shape) != 1:
        raise ValueError(f"lengths must have the shape (batch,), one for each row, not {in_words(lengths.shape)}")
    xp = namespace_of(lengths)
    if not math.prod(lengths.shape):
        return xp.astype(lengths, xp.int32)
    if not xp.isdtype(lengths.dtype, "integral"):
        raise TypeError(f"lengths must be integers, not {lengths.dtype}")
    return lengths
