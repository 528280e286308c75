"""Calls into NumPy on arrays that are there already, and the functions that are made of them.

A function is ordinary Python, one call a line: ``multiply(z_f, before_c, t0)``. Its text is made once, at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from recurray.arrays import WHOLE

Kind = str | float  # of an array: one of the following, or the number that an array (H, n) is filled with
Bound = Callable[[], Any]  # a function with its arguments
FLOATS, FLAG, ROW = "floats", "flags", "rows"  # (H, n), the same of booleans, and (1, n)


def mean_over_units(a: Any, out: Any) -> None:
    """Mean over the units of (..., H, n): (..., 1, n). As a product, which is 4 times as fast as a sum over an axis."""
    np.matmul(_averaging(a.shape[-2], a.dtype), a, out)


@lru_cache(maxsize=64)
def _averaging(size: int, dtype: Any) -> Any:
    return np.full((1, size), 1 / size, dtype)


def mean_over_vector(a: Any, out: Any) -> None:
    """Mean over the units of (..., H): (..., 1)."""
    np.add.reduce(a, axis=-1, out=out, keepdims=True)
    np.multiply(out, 1 / a.shape[-1], out)


FUNCTIONS = {
    name: getattr(np, name)
    for name in (
        *("absolute", "exp", "expm1", "log", "log1p", "sqrt", "tanh"),
        *("add", "divide", "maximum", "minimum", "multiply", "subtract"),
        *("greater", "greater_equal", "less", "less_equal", "logical_and"),
        *("clip", "copyto", "dot", "matmul"),
    )
} | {"mean_over_units": mean_over_units, "mean_over_vector": mean_over_vector}


def carry_out(calls: Iterable[Bound]) -> None:
    """Make calls, one after the other."""
    for call in calls:
        call()


def negation(a: Any, out: Any) -> Bound:
    """Return what fills ``out`` with -a.

    As a product: `numpy.negative` is wrong where the elements of ``a`` lie some distances apart, and those of ``out``
    don't lie side by side (NumPy 2.4.6, with AVX-512).
    """
    return partial(np.multiply, a, np.asarray(-1, out.dtype), out)


class Array(NamedTuple):
    """An array that a function is given by name."""

    name: str
    timed: bool = True  # whether it has the steps along its first axis; else it is the same for every step
    kind: Kind = FLOATS
    is_work: bool = False  # whether it is mere work space


class Number(NamedTuple):
    """A number, which a function has as an array of no dimensions: NumPy takes that faster than a Python number."""

    name: str
    number: float


Source = Array | Number


class Call(NamedTuple):
    """A call of one of `FUNCTIONS` that fills an array.

    Examples
    --------
    >>> print(Call("maximum", (Array("z_f"), Number("t_constant0", -1.0)), Array("t0")))
    maximum(z_f, t_constant0, out=t0)
    """

    function: str
    operands: tuple[Source, ...]
    out: Source  # an array
    where: Source | None = None  # of copyto: flags

    def arguments(self) -> Iterator[tuple[str, Source]]:
        """Yield the operands in their order in the text, each with what stands before its name."""
        if self.function == "copyto":
            yield "", self.out
        for operand in self.operands:
            yield "", operand
        if self.where is not None:
            yield "where=", self.where
        if self.function != "copyto":  # NumPy wants the output of maximum and minimum named
            yield "out=" if self.function in ("maximum", "minimum") else "", self.out

    def __str__(self) -> str:
        return f"{self.function}({', '.join(word + operand.name for word, operand in self.arguments())})"


def bounds(rows: int, dtype: Any, prefix: str = "") -> dict[str, Any]:
    """Make the arrays (rows,) that a bounded logistic function wants beside what it is of."""
    return {f"{prefix}most": np.full(rows, WHOLE, dtype), f"{prefix}divisor": np.empty(rows, dtype)}


def quietly() -> Any:
    """Return a context in which no warning comes of exp(-a) for a gate that is closed for good, or open."""
    return np.errstate(over="ignore", under="ignore")


class Code:
    """A function on arrays that it is given by name.

    Attributes
    ----------
    calls : tuple of Call
        Its body, or the body of its loop over time.
    is_loop : bool
        Whether the calls are for one step, rather than for all steps at once.
    timed, shared : list of str
        The arrays with the steps along the first axis, which a loop takes apart, and those that are the same for every
        step.
    work, work_of_steps : dict of str to kind
        The work space for one step at a time, and for many.
    """

    def __init__(self, calls: Iterable[Call], *, is_loop: bool = False) -> None:
        self.calls, self.is_loop = tuple(calls), is_loop
        operands = list(dict.fromkeys(operand for each in self.calls for _, operand in each.arguments()))
        arrays = [operand for operand in operands if isinstance(operand, Array)]
        self.timed = [array.name for array in arrays if array.timed]
        self.shared = [array.name for array in arrays if not array.timed]
        self.work = {array.name: array.kind for array in arrays if array.is_work and not array.timed}
        self.work_of_steps = {array.name: array.kind for array in arrays if array.is_work and array.timed}
        self._numbers = [operand for operand in operands if isinstance(operand, Number)]
        self._functions: dict[Any, Callable[..., None]] = {}

    def _function(self, dtype: Any) -> Callable[..., None]:
        """The function for arrays of ``dtype``, compiled when it is first wanted."""
        if dtype not in self._functions:
            found: dict[str, Any] = FUNCTIONS | self.numbers(dtype)
            exec(compile(self.text(), "<written for a recorded cell>", "exec"), found)  # noqa: S102 - our own text
            self._functions[dtype] = found["function"]
        return self._functions[dtype]

    def numbers(self, dtype: Any) -> dict[str, Any]:
        """Make the numbers that it wants, by name."""
        return {each.name: np.asarray(each.number, dtype) for each in self._numbers}

    def run(
        self, dtype: Any, arrays: Mapping[str, Any], work: Mapping[str, Any], steps: slice, *, descending: bool = False
    ) -> None:
        """Run over some steps: those of ``arrays``, the first ones of the work space; a loop perhaps from the last."""
        self.bound(dtype, arrays, work, steps, descending=descending)()

    def bound(
        self,
        dtype: Any,
        arrays: Mapping[str, Any],
        work: Mapping[str, Any],
        steps: slice,
        *,
        descending: bool = False,
        often: bool = False,
    ) -> Bound:
        """What `run` runs; where it runs ``often``, a loop's arrays are taken apart into steps beforehand."""
        found = []
        for name in self.timed:
            part = arrays[name][steps] if name in arrays else work[name][: steps.stop - steps.start]
            part = part[::-1] if descending and self.is_loop else part
            found.append(list(part) if often and self.is_loop else part)
        return partial(self._function(dtype), *found, *(arrays[name] for name in self.shared))

    def text(self) -> str:
        """Return the function as Python text."""
        bound = [*FUNCTIONS, *(each.name for each in self._numbers)]
        arguments = [*self.timed, *self.shared, *(f"{name}={name}" for name in bound)]  # locals are found fastest
        body = [str(each) for each in self.calls] or ["pass"]
        if self.is_loop:
            arrays = ", ".join(self.timed)
            body = [f"for {arrays}, in zip({arrays}):", *(f"    {line}" for line in body)]
        return "\n".join([f"def function({', '.join(arguments)}):", *(f"    {line}" for line in body)])
