"""A backend: an array library on a device, and how it runs a recurrence over time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, Self

from recurray import chunks, kept, scan
from recurray.arrays import (
    Array,
    Namespace,
    device_of,
    namespace_of,
    on_one_device,
    plain,
    product_over_rows,
    sum_of_all,
    to_numpy,
)
from recurray.cells.cell import Cell, Draws, Weights
from recurray.elementwise import Elementwise, Formula, reference
from recurray.messages import shown

DTYPES = (
    "bool",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    *("float16", "bfloat16", "float32", "float64", "complex64", "complex128"),  # the first two aren't the standard's
)


class Plan(Protocol):
    """What a stack's small calls in inference have in common, for inputs of one shape; see `Backend.plan`.

    It has work space of its own: two threads can't run it at once.
    """

    @property
    def nbytes(self) -> int:
        """About how much memory it holds, the weights apart: plans are kept up to a bound, see `recurray.kept`."""

    def bind(self, weights: Sequence[Weights]) -> None:
        """Take the weights, by layer and direction: before the first call, and whenever they are other arrays.

        Each call reads them as they are by then: they may be written to in place. Where they may not, their ``kept``
        isn't None: what is made of them by `Weights.once` is then made for all plans and calls together.
        """

    def __call__(self, x: Array, before: tuple[Array, ...] | None) -> tuple[Array, tuple[Array, ...]]:
        """Return the output (T, B, D R) and the states after all steps, new arrays.

        ``x`` is (T, B, I), ``before`` an array (L D, B, size) for each of the cell's states, or None for zeros.
        """


class Stack(NamedTuple):
    """What a layer is to a plan: a recurrent one with all its layers and directions, or a product with the weights.

    Attributes
    ----------
    cells : sequence of Cell
        By direction; none where it is ``x @ weights.input.T + weights.input_bias``.
    weights : sequence of Weights
        By layer and direction; of a product one.
    reverse : bool
        Whether the first direction runs from the end.
    """

    cells: Sequence[Cell]
    weights: Sequence[Weights]
    reverse: bool = False


class ChainPlan(Protocol):
    """What small calls of layers one after the other have in common; see `Backend.plan_chain`.

    The arrays, NumPy's or like them, are its own, and the same in each call: who calls copies into them, and out of
    them. Two threads can't use it at once.

    Attributes
    ----------
    x, y : array
        The input (T, B, I), and the output of the last layer.
    before, after : tuple of array
        The states of all layers, (L D, B, size) each, at the start and at the end.
    from_zeros : bool
        Whether it starts with zeros rather than with ``before``; set by `starts_from`.
    """

    x: Array
    y: Array
    before: tuple[Array, ...]
    after: tuple[Array, ...]
    from_zeros: bool

    @property
    def run(self) -> Callable[[], object]:
        """What runs all layers with the weights that were taken last."""

    @property
    def nbytes(self) -> int:
        """As that of a `Plan`."""

    def bind(self, weights: Sequence[Weights]) -> None:
        """Take the weights of all layers one after another, as `Plan.bind`; `run` may be another then."""

    def starts_from(self, *, zeros: bool) -> None:
        """Start with zeros, or with ``before``."""


class BackendUnavailableError(RuntimeError):
    """The backend that was asked for can't run on this machine; the message says what to install."""


class Backend:
    """An array library on a device. This class alone is the reference path, for any array-API namespace.

    A backend for one library subclasses it and replaces what that library does better: most of all
    `scan_forward`, which must give the numbers of the reference to rounding, as must its cache's backward.

    Parameters
    ----------
    namespace : module
        A namespace of the array API: ``array_api_strict``, ``torch``, ``jax.numpy``, ...
    device : object, optional
        One of the library's devices; its default device if omitted.

    Attributes
    ----------
    name : str
        How users ask for it.
    xp : module
        The array-API namespace.
    device : object
        Where its arrays live.
    steps_together : int
        How many steps of a scan are computed together; longer ones are cut into such chunks.
    in_place : bool
        Whether what `elementwise` returns writes results where it is told to.

    Examples
    --------
    >>> import array_api_strict
    >>> import recurray as rr
    >>> backend = rr.get_backend(array_api_strict)
    >>> backend.asarray([1.0, 2.0], dtype="float32")
    Array([1., 2.], dtype=array_api_strict.float32)
    """

    name: str
    xp: Namespace
    device: Any
    steps_together = 64
    in_place = False
    origin: tuple[Callable[..., Backend], tuple[Any, ...]] | None = (
        None  # a function, and with what it makes this again
    )

    def __init__(self, namespace: Namespace, device: Any = None) -> None:
        probe = namespace.asarray(0.0)
        self.xp = namespace_of(plain("what its asarray makes", probe))
        if device is not None:  # which CuPy's own functions don't take
            probe = self.xp.asarray(0.0, device=device)
        self.name = namespace.__name__
        self.device = device_of(probe)

    def asarray(self, x: Any, dtype: str | None = None) -> Array:
        """Return ``x`` (an array of any library, a list, a number) as an array of this backend on its device.

        ``dtype`` is a name of the array API's, such as "float32".

        Raises
        ------
        ValueError
            There is no such dtype.
        TypeError
            ``x`` isn't numbers, or says more than they do (a mask, a ``numpy.matrix``); ``dtype`` is no text, or a
            precision that the array library can't hold (JAX without ``jax_enable_x64``).
        """
        if dtype is not None and not isinstance(dtype, str):
            raise TypeError(f"dtype must be a name of the array API's, such as 'float32', not {shown(dtype)}")
        wanted = getattr(self.xp, dtype, None) if dtype in DTYPES else None
        if wanted is None and dtype is not None:
            raise ValueError(f"dtype must be a name of the array API's, such as 'float32', not {shown(dtype)}")
        x = plain("x", x)
        if not self.owns(x):
            import numpy as np

            x = to_numpy(x, "x")
            wide = x.dtype.kind == "f" and x.dtype.itemsize > 8
            # A copy: not every library takes memory that is read-only or runs backwards, bytes in another order, or
            # numbers of more than 64 bits.
            x = np.array(x, np.float64 if wide else x.dtype.newbyteorder("="))
        if getattr(x.dtype, "kind", "f") in "OSUMm" or getattr(x.dtype, "names", None):
            raise TypeError(f"x must be numbers, not {x.dtype}")
        if self.owns(x) and self.on_device(x) and (wanted is None or x.dtype == wanted):
            return x
        try:
            result = self.xp.asarray(x, dtype=wanted, device=self.device)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"x must be of a dtype that {self.name!r} can make {dtype or 'an array'} of, not {x.dtype}: {error}"
            ) from error
        if wanted is not None and result.dtype != wanted:
            raise TypeError(f"the backend {self.name!r} made {result.dtype} where {dtype} was asked for")
        return result

    def to_numpy(self, a: Array) -> Any:
        """Return a NumPy copy of ``a``, wherever it lives."""
        import numpy as np

        # A copy: nobody writes through it into a layer's params. In C order: safetensors scrambles any other.
        return np.array(to_numpy(a, "a"), order="C")

    def synchronize(self) -> None:
        """Wait until the device has finished what was asked of it. Nothing to wait for here."""

    def check_ready(self) -> None:
        """Raise an error if products and looks at values aren't possible now. Here they always are."""

    def describe(self) -> str:
        """Where this backend works, and how, in a line."""
        return str(self.device)

    @classmethod
    def outlook(cls, here: Backend | None = None) -> dict[str, list[tuple[str, str]]]:
        """What is expected of the speed, as titles with lines of a name and a text: nothing is said here.

        ``here`` is a backend of this kind that works on this machine, if one does.
        """
        return {}

    def release_memory(self) -> None:
        """Give back the memory that is kept for later calls. A backend that keeps some of its own adds that."""
        kept.release()

    def owns(self, a: Any) -> bool:
        """Tell whether ``a`` is an array of this backend's library (on whatever device)."""
        try:
            return bool(namespace_of(a) is self.xp)
        except TypeError:
            return False

    def on_device(self, a: Array) -> bool:
        """Tell whether the array ``a`` of this library lives on this backend's device."""
        return on_one_device(device_of(a), self.device)

    def scan_forward(
        self,
        cell: Cell,
        weights: Weights,
        x: Array,
        start: tuple[Array, ...],
        *,
        lengths: Sequence[int] | None = None,
        reverse: bool = False,
        keep: bool = True,
        draws: Draws | None = None,
        output_mask: Array | None = None,
        recompute: int | None = None,
    ) -> tuple[Array, tuple[Array, ...], scan.Cache | None]:
        """Run ``cell`` over time; see `recurray.scan.forward`, which this calls and any replacement must equal.

        The cache goes backward by itself, as `recurray.scan.Cache` says. With ``recompute`` it holds the states before
        every so many steps (a multiple of `steps_together`, so rounded up), and computes the rest again from ``x``,
        which must still be what it was. That changes no bit.
        """
        options: dict[str, Any] = {"lengths": lengths, "reverse": reverse, "keep": keep, "draws": draws}
        options["output_mask"] = output_mask
        if x.shape[0] <= self.steps_together:
            return scan.forward(cell, weights, x, start, **options)
        return chunks.forward(
            scan.forward, self.steps_together, cell, weights, x, start, recompute=recompute, **options
        )

    def plan(
        self, cells: Sequence[Cell], weights: Sequence[Weights], shape: tuple[int, int, int], *, reverse: bool
    ) -> Plan | None:
        """Return a plan for small calls in inference, if this backend makes any for such cells.

        Parameters
        ----------
        cells : sequence of Cell
            By direction; a second one runs from the end.
        weights : sequence of Weights
            By layer and direction. What matters is what they are; their numbers come by `Plan.bind`.
        shape : tuple of int
            Of the input, (T, B, I): nowhere zero.
        reverse : bool
            Whether the first direction runs from the end.

        Returns
        -------
        Plan or None
            Its numbers are those of `scan_forward` of layer after layer, to rounding; None is for whatever ``shape``.
        """
        return None

    def plan_chain(self, stacks: Sequence[Stack], shape: tuple[int, int, int]) -> ChainPlan | None:
        """Return a plan for small calls of layers one after the other, if this backend makes any for these.

        Parameters
        ----------
        stacks : sequence of Stack
            The layers: what matters is what their weights are; the weights' numbers come by `ChainPlan.bind`.
        shape : tuple of int
            Of the input, (T, B, I): nowhere zero.

        Returns
        -------
        ChainPlan or None
            Its numbers are those of `scan_forward` and `affine` of layer after layer, a product's to the bit.
        """
        return None

    def affine(self, x: Array, weight: Array, bias: Array | None) -> Array:
        """Return ``x @ weight.T + bias``: of (N, I), (R, I) and (R,), which may be None, (N, R)."""
        y = x @ weight.T
        return y if bias is None else y + bias

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Array:
        """Return zeros to which nobody writes, for a state or its gradient."""
        return self.xp.zeros(shape, dtype=getattr(self.xp, dtype), device=self.device)

    def stacked(self, values: Sequence[Array]) -> Array:
        """Return arrays of one shape and dtype along a new first axis: final states, or start states' gradients.

        It may be a view of a single one if a scan of this backend returns new arrays as such.
        """
        return self.xp.concat([value[None, ...] for value in values])  # NumPy's is much faster than its stack

    def elementwise(self, formula: Formula, arrays: Sequence[str], numbers: Sequence[str]) -> Elementwise:
        """Return what runs a formula on arrays, each number of them by itself: an optimizer's step.

        Parameters
        ----------
        formula : callable
            ``formula(arrays, numbers)`` with the arrays by name and the numbers, that may be others at each call, as
            attributes; it returns its results by name. The formula's own arithmetic is the reference, which
            any other way of running it equals to rounding.
        arrays, numbers : sequence of str
            The names that it is given.
        """
        return reference(formula, arrays, numbers)

    def norm(self, arrays: Sequence[Array]) -> Array:
        """Return the root of the sum of the squares of all numbers in arrays, 0-d, however large or small they are."""
        xp = self.xp
        arrays = [array for array in arrays if math.prod(array.shape)]
        if not arrays:
            return xp.asarray(0.0, dtype=xp.float32, device=self.device)
        largest = xp.max(xp.stack([xp.asarray(xp.max(xp.abs(array))) for array in arrays]))
        limit = float(xp.finfo(largest.dtype).max)
        scale = xp.minimum(largest, xp.full_like(largest, limit))  # finite even where a number isn't; NaN stays NaN
        scale = xp.where(scale == 0, xp.ones_like(scale), scale)
        total = xp.zeros_like(scale)
        for array in arrays:
            part = array / scale
            total = total + sum_of_all(part * part)
        return xp.asarray(scale * xp.sqrt(total))

    def sum_rows(self, values: Array, index: Array, count: int) -> Array:
        """Add up the rows of ``values`` (N, n) by ``index`` (N,): result[k] = sum of values[index == k], (count, n)."""
        xp = self.xp
        numbers = xp.arange(count, dtype=index.dtype, device=self.device)
        return product_over_rows(xp.astype(index[:, None] == numbers[None, :], values.dtype), values)

    def __copy__(self) -> Self:
        return self  # it holds nothing of its own

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> Any:
        if self.origin is None:
            raise TypeError(f"{self!r} can't be pickled or copied, because it was not made by get_backend")
        return self.origin

    def __repr__(self) -> str:
        path = ", reference path" if type(self) is Backend else ""
        return f"<recurray backend {self.name!r} on {self.device}{path}>"
