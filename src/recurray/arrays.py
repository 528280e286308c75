"""What the mathematics needs from an array library, in terms of the Python array API standard alone.

The namespace always comes from the arrays themselves, so one text serves NumPy, CuPy, torch, JAX and
array-api-strict, and a symbolic array that records what is done to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

__all__ = ["Array", "Namespace", "clamp", "mean_over_units", "namespace_of", "rows", "sigmoid", "tanh"]

Array = Any  # an array of any library that follows https://data-apis.org/array-api
Namespace = Any  # the module whose functions work on such arrays

EXP_MOST = {32: 88.72283, 64: 709.782712893384}  # the largest of which exp is finite, by the bits of the dtype
WHOLE = 40.0  # the logistic function of it is 1 to rounding
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


def plain(name: str, array: Any) -> Any:
    """Return an array as one of its library's own type: where it is of a subclass, a view of it.

    What isn't an array is returned as it is.

    Raises
    ------
    TypeError
        The array's values don't say all, or its arithmetic is another: a mask, a ``numpy.matrix``, a sparse array.
    """
    kind: Any = type(array)
    treatment = _treatment(kind)
    return array if treatment is None else treatment(name, array)


def is_plain(array: Any) -> bool:
    """Tell whether `plain` certainly leaves ``array`` as it is."""
    kind: Any = type(array)
    return _treatment(kind) is None


_OTHER_ARITHMETIC = {  # by library and name of the type, the way out
    ("numpy", "matrix"): "its * is a matrix product, and it always has two axes: give numpy.asarray of it",
    (
        "numpy",
        "MaskedArray",
    ): "its mask would be lost: give its filled(value), and say what counts by mask= or lengths=",
    (
        "torch",
        "MaskedTensor",
    ): "its mask would be lost: give its to_tensor(value), and say what counts by mask= or lengths=",
}


@lru_cache(maxsize=1024)
def _treatment(kind: type) -> Callable[[str, Any], Any] | None:
    """What `plain` does with arrays of a type; None for nothing. By the type's name: no library is imported here."""
    for base in kind.__mro__:
        library = base.__module__.partition(".")[0]
        way_out = _OTHER_ARITHMETIC.get((library, base.__name__))
        if way_out is not None:
            return _refusal(f"a {library}.{base.__name__}", way_out)
        if (library, base.__name__) in (("numpy", "ndarray"), ("cupy", "ndarray")):
            return None if kind is base else partial(_viewed, base)
        if (library, base.__name__) == ("torch", "Tensor"):
            dispatches = (getattr(a, "__torch_dispatch__", None) for a in (kind, base))
            wraps_others = len(set(dispatches)) > 1  # it has no numbers of its own
            return _dense if kind is base or wraps_others else partial(_dense_view, base)
    return None


def _refusal(what: str, way_out: str) -> Callable[[str, Any], Any]:
    def refuse(name: str, array: Any) -> Any:
        raise TypeError(f"{name} must be a plain array, not {what}: {way_out}")

    return refuse


def _viewed(base: type, name: str, array: Any) -> Any:
    return array.view(type=base)


def _dense_view(base: type, name: str, tensor: Any) -> Any:
    return _dense(name, tensor.as_subclass(base))


def _dense(name: str, tensor: Any) -> Any:
    if not str(tensor.layout).endswith("strided"):
        raise TypeError(f"{name} must be a dense tensor, not one of the layout {tensor.layout}: give its to_dense()")
    return tensor


def to_numpy(array: Any, name: str = "the array") -> Any:
    """Return ``array``, of any library on any device, or nested sequences of numbers, as a NumPy array.

    Floating-point numbers of a type that NumPy has no arithmetic for, bfloat16 and those of 8 bits and fewer, come as
    float32, which holds each of them.
    """
    import numpy as np

    array = plain(name, array)
    if hasattr(array, "detach"):  # torch
        array = array.detach().cpu()
        array = array.float() if str(array.dtype) == "torch.bfloat16" else array
        try:
            return array.numpy()
        except RuntimeError:  # within torch.func a tensor gives its values as a list alone
            return np.asarray(array.tolist(), dtype=str(array.dtype).removeprefix("torch."))
    if hasattr(array, "__cuda_array_interface__") and hasattr(array, "get"):  # CuPy
        return array.get()
    problem = ""
    if hasattr(array, "__dlpack__"):
        try:
            return _usual(np.from_dlpack(array))
        except (
            RuntimeError,
            BufferError,
            TypeError,
            ValueError,
        ) as error:  # a device that NumPy can't reach, read-only
            problem = str(error)
    try:
        found = np.asarray(array)
    except (ValueError, TypeError, OverflowError) as error:
        raise TypeError(
            f"{name} must be an array, or numbers in nested sequences of equal lengths, "
            f"not what this {type(array).__name__} holds: {error}"
        ) from error
    if found.dtype == object and found.ndim == 0 and problem:
        raise TypeError(f"{name} must be an array that NumPy can read, not this {type(array).__name__}: {problem}")
    return _usual(found)


def _usual(array: Any) -> Any:
    """A NumPy array, in float32 where its type is one that packages add to NumPy."""
    added = array.dtype.kind == "V" and array.dtype.names is None and array.dtype.name.lstrip("b").startswith("float")
    return array.astype("float32") if added else array


def on_host(array: Array) -> bool:
    """Tell whether the array's values can be looked at without waiting for a device."""
    ask = getattr(array, "__dlpack_device__", None)
    return ask is not None and ask()[0] == 1  # DLPack's number for the CPU


def tanh(a: Array) -> Array:
    """Hyperbolic tangent, elementwise."""
    return namespace_of(a).tanh(a)


def clamp(a: Array, low: float | None, high: float | None) -> Array:
    """Clamp a to [low, high], elementwise; NaN stays. (On CuPy array-api-compat's clip waits for the device.)"""
    xp = namespace_of(a)
    own = getattr(xp, "clamp", None)  # a symbolic namespace, which keeps it whole, and PyTorch have it
    if own is not None:
        return own(a, low, high)
    if low is not None:
        a = xp.where(a < low, xp.full_like(a, low), a)
    return a if high is None else xp.where(a > high, xp.full_like(a, high), a)


def positive_part(a: Array) -> Array:
    """A where it is above 0, else 0; NaN stays."""
    return namespace_of(a).maximum(a, namespace_of(a).zeros_like(a))


def exp(a: Array) -> Array:
    """Exponential, elementwise: infinite where it is too large, of which NumPy's own would warn."""
    xp = namespace_of(a)
    if hasattr(xp, "logistic"):  # a symbolic namespace, whose backend sees to it
        return xp.exp(a)
    most = EXP_MOST[xp.finfo(a.dtype).bits]
    return xp.where(a > most, xp.full_like(a, math.inf), xp.exp(clamp(a, None, most)))


def sigmoid(a: Array) -> Array:
    """Logistic function 1 / (1 + exp(-a)), elementwise.

    Computed as exp(a) / (1 + exp(a)), which is as precise where it is tiny as where it isn't, and with an a of at most
    `WHOLE`, so that nothing overflows.
    """
    xp = namespace_of(a)
    own = getattr(xp, "logistic", None)  # a symbolic namespace keeps it whole, for its backend to choose the form
    if own is not None:
        return own(a)
    e = xp.exp(clamp(a, None, WHOLE))
    return e / (1 + e)


def in_order(a: Array) -> Array:
    """The array in C order, a view of it if it is so: along its last axis sums are good then, and always the same."""
    xp = namespace_of(a)
    return xp.reshape(xp.reshape(a, (math.prod(a.shape),)), a.shape)


def below_largest(a: Array) -> Array:
    """A less its largest element along the last axis, which changes no softmax and keeps exp from overflowing.

    Infinity less infinity is 0 here: elements that are infinite share all the probability. Where all are minus infinity
    nothing is possible, and the result is NaN.
    """
    xp = namespace_of(a)
    largest = xp.max(a, axis=-1, keepdims=True)
    finite = xp.all(xp.isfinite(largest))
    if on_host(largest) and not is_tracer(finite) and bool(finite):
        return a - largest
    is_largest, zero = a == largest, xp.zeros_like(a)
    result = xp.where(is_largest, zero, xp.where(is_largest, zero, a) - largest)
    return xp.where(largest == -math.inf, xp.full_like(a, math.nan), result)


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


def dropped(a: Array, kept: Array, p: float) -> Array:
    """Dropout where the draws are made, and equally its backward: zero what isn't kept, scale the rest."""
    xp = namespace_of(a)
    return xp.where(kept, a / (1 - p), xp.zeros_like(a))


def mean_over_units(a: Array) -> Array:
    """Mean over the last axis, the units, which is kept with size 1: (B, H) -> (B, 1).

    In a cell's step this is the one operation that is not elementwise.
    """
    xp = namespace_of(a)
    own = getattr(xp, "mean_over_units", None)
    return xp.mean(a, axis=-1, keepdims=True) if own is None else own(a)
