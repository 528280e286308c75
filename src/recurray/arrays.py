"""What the mathematics needs from an array library, in terms of the Python array API standard alone.

The namespace always comes from the arrays themselves, so one text serves NumPy, CuPy, torch, JAX and
array-api-strict, and a symbolic array that records what is done to it.
"""

from __future__ import annotations

import math
from typing import Any

Array = Any  # an array of any library that follows https://data-apis.org/array-api
Namespace = Any  # the module whose functions work on such arrays

AT_A_TIME = 16  # rows that are added up one after the other
MANY = 32_768  # rows of a product
IN_BLOCK = 256  # rows of a small product that are multiplied at a time
SMALL = 1024  # numbers


def namespace_of(array: Array) -> Namespace:
    """Return the array-API namespace that ``array`` belongs to."""
    own = getattr(array, "__array_namespace__", None)
    if own is not None:
        return own()
    from array_api_compat import array_namespace  # costs 0.2 s to import, and NumPy does without it

    return array_namespace(array)


def device_of(array: Array) -> Any:
    """Return the device that ``array`` lives on, None where it is a tracer: JAX's, that stands for arrays to come."""
    if hasattr(array, "__array_namespace__"):  # the standard asks for the attribute; tracers have none
        return getattr(array, "device", None)
    from array_api_compat import device

    return device(array)


def is_tracer(array: Array) -> bool:
    """Tell whether ``array`` has no values yet: in `jax.jit` results are so, even those of arrays that have."""
    return device_of(array) is None


def on_one_device(*devices: Any) -> bool:
    """Tell whether what `device_of` returned, of several arrays, is one device as far as it is known."""
    known = [device for device in devices if device is not None]
    return all(device == known[0] for device in known[1:])


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


def sum_over_rows(a: Array) -> Array:
    """Sum over the first axis, (N, ...) -> (...), with a rounding error that hardly grows with N.

    One row after the other, 10 million equal rows of float32 add up to a sum that is 9 % off. So rows of a number are
    added up `AT_A_TIME` at a time, then their sums, and so on.
    """
    xp = namespace_of(a)
    while a.shape[0] > 2 * AT_A_TIME:
        count, rest = divmod(a.shape[0], AT_A_TIME)
        whole = a[: count * AT_A_TIME, ...]
        sums = xp.sum(xp.reshape(whole, (AT_A_TIME, count, *a.shape[1:])), axis=0)
        a = xp.concat([sums, a[count * AT_A_TIME :, ...]], axis=0) if rest else sums
    return xp.sum(a, axis=0)


def sum_of_all(a: Array) -> Array:
    """Sum of all elements, with the care of `sum_over_rows`."""
    return sum_over_rows(namespace_of(a).reshape(a, (math.prod(a.shape),)))


def product_over_rows(a: Array, b: Array) -> Array:
    """a^T b, (N, m) and (N, n) -> (m, n), which is a sum over rows too.

    A BLAS adds up the rows of a product in blocks, and does for `MANY` of them, unless it is as small as `SMALL`.
    """
    xp, (count, m), n = namespace_of(a), a.shape, b.shape[1]
    if m * n <= SMALL and count > IN_BLOCK:
        whole = count // IN_BLOCK * IN_BLOCK
        blocks = [xp.reshape(part[:whole, ...], (whole // IN_BLOCK, IN_BLOCK, part.shape[1])) for part in (a, b)]
        product = sum_over_rows(xp.matmul(xp.matrix_transpose(blocks[0]), blocks[1]))
        return product if whole == count else product + a[whole:, ...].T @ b[whole:, ...]
    if count <= 2 * MANY:
        return a.T @ b
    half = count // 2
    return product_over_rows(a[:half, ...], b[:half, ...]) + product_over_rows(a[half:, ...], b[half:, ...])


def mean_over_units(a: Array) -> Array:
    """Mean over the last axis, the units, which is kept with size 1: (B, H) -> (B, 1).

    In a cell's step this is the one operation that is not elementwise.
    """
    xp = namespace_of(a)
    own = getattr(xp, "mean_over_units", None)
    return xp.mean(a, axis=-1, keepdims=True) if own is None else own(a)
