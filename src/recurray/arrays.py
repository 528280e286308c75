"""What the mathematics needs from an array library, in terms of the Python array API standard alone.

The namespace always comes from the arrays themselves, so one text serves NumPy, CuPy, torch, JAX and
array-api-strict, and a symbolic array that records what is done to it.
"""

from __future__ import annotations

from typing import Any

Array = Any  # an array of any library that follows https://data-apis.org/array-api
Namespace = Any  # the module whose functions work on such arrays


def namespace_of(array: Array) -> Namespace:
    """Return the array-API namespace that ``array`` belongs to."""
    own = getattr(array, "__array_namespace__", None)
    if own is not None:
        return own()
    from array_api_compat import array_namespace  # costs 0.2 s to import, and NumPy does without it

    return array_namespace(array)


def device_of(array: Array) -> Any:
    """Return the device that ``array`` lives on."""
    if hasattr(array, "__array_namespace__"):  # the standard asks for the attribute
        return array.device
    from array_api_compat import device

    return device(array)


def to_numpy(array: Any) -> Any:
    """Return ``array``, of any library on any device, or nested sequences of numbers, as a NumPy array."""
    import numpy as np

    if hasattr(array, "detach"):  # torch
        array = array.detach().cpu()
        return (array.float() if str(array.dtype) == "torch.bfloat16" else array).numpy()
    if hasattr(array, "__cuda_array_interface__") and hasattr(array, "get"):  # CuPy
        return array.get()
    if hasattr(array, "__dlpack__"):
        try:
            return np.from_dlpack(array)
        except (RuntimeError, BufferError, TypeError, ValueError):  # a device that NumPy can't reach, read-only memory
            pass
    return np.asarray(array)


def tanh(a: Array) -> Array:
    """Hyperbolic tangent, elementwise."""
    return namespace_of(a).tanh(a)


def sigmoid(a: Array) -> Array:
    """Logistic function 1 / (1 + exp(-a)), elementwise, by way of tanh because exp(-a) overflows at -89 in float32."""
    xp = namespace_of(a)
    own = getattr(xp, "logistic", None)  # a symbolic namespace keeps it whole, for its backend to choose the form
    if own is not None:
        return own(a)
    return 0.5 * xp.tanh(0.5 * a) + 0.5


def rows(a: Array) -> Array:
    """Join all axes but the last: (..., n) -> (N, n)."""
    count = 1
    for size in a.shape[:-1]:
        count *= size
    return namespace_of(a).reshape(a, (count, a.shape[-1]))  # no -1: it can't be inferred when n is 0


def mean_over_units(a: Array) -> Array:
    """Mean over the last axis, the units, which is kept with size 1: (B, H) -> (B, 1).

    In a cell's step this is the one operation that is not elementwise.
    """
    xp = namespace_of(a)
    own = getattr(xp, "mean_over_units", None)
    return xp.mean(a, axis=-1, keepdims=True) if own is None else own(a)
