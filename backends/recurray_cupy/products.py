"""Products by the library: of a layer's weights, sorted by product, with operands as they are or rounded; sums of rows.

Rounded operands are multiplied with sums in float32, and so is the result.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import isqrt
from typing import Any, NamedTuple

import numpy as np

from recurray.cells.cell import Weights
from recurray_cupy.compiled import Compiled
from recurray_cupy.kernel import ELEMENT_OF_GRID, Body, Kernel
from recurray_cupy.launcher import Launcher
from recurray_cupy.library import Library, dtype_name
from recurray_cupy.rounding import rounded_bits, rounding_text
from recurray_cupy.step import Array, Place

BITS = np.dtype(np.uint16)

# Weights --------------------------------------------------------------------------------------------------------------


class Prepared(NamedTuple):
    """Weights by the product that they are for. Biases are None where there are none.

    I input, H hidden units, R size of the output.
    """

    input: Any  # (input gates * H, I)
    bias_by_row: Any  # (B, input gates * H) where each row of the batch has a bias of its own, or None
    outer: Any  # (outer gates * H, R), or None
    inner: Any  # (inner gates * H, H), or None
    projection: Any  # (R, H), or None
    arrays: dict[str, Any]  # the biases and the cell's own params by the kernels' names
    size: int  # H
    once: Callable[[Any, Callable[[], Any]], Any]  # of the weights; see `recurray.cells.Weights.once`


def prepare(xp: Any, code: Compiled, weights: Weights) -> Prepared:
    """Sort weights by product. What is contiguous and in order already isn't copied."""

    def of_gates(a: Any, gates: tuple[str, ...]) -> Any:
        return None if a is None or not gates else xp.ascontiguousarray(joined(xp, gates, [(code.recurrent_gates, a)]))

    arrays = {code.params[name]: xp.ascontiguousarray(rows) for name, rows in weights.pointwise.items()}
    bias = None if weights.input_bias is None else xp.ascontiguousarray(weights.input_bias)
    by_row = bias is not None and bias.ndim == 2
    arrays["x_bias"] = None if by_row else bias
    arrays["h_bias"] = of_gates(weights.recurrent_bias, code.outer_gates)
    arrays["inner_bias"] = of_gates(weights.recurrent_bias, code.inner_gates)
    return Prepared(
        input=xp.ascontiguousarray(weights.input),
        bias_by_row=bias if by_row else None,
        outer=of_gates(weights.recurrent, code.outer_gates),
        inner=of_gates(weights.recurrent, code.inner_gates),
        projection=None if weights.projection is None else xp.ascontiguousarray(weights.projection),
        arrays=arrays,
        size=weights.input.shape[0] // len(code.input_gates),
        once=weights.once,
    )


def joined(xp: Any, gates: tuple[str, ...], parts: list[tuple[tuple[str, ...], Any]]) -> Any:
    """Bring blocks of rows, given in parts with their gates, into the order ``gates``."""
    if len(parts) == 1 and parts[0][0] == gates:
        return parts[0][1]
    blocks: dict[str, Any] = {}
    for names, a in parts:
        size = a.shape[0] // len(names)
        blocks |= {gate: a[k * size : (k + 1) * size] for k, gate in enumerate(names)}
    return xp.concatenate([blocks[gate] for gate in gates])


# Products -------------------------------------------------------------------------------------------------------------


class Products(NamedTuple):
    """The products of a layer.

    Attributes
    ----------
    library : Library
    rounded_to : str
        What operands are rounded to, "float16" or "bfloat16"; empty if they aren't.
    """

    library: Library
    rounded_to: str = ""

    def operand(self, a: Any) -> Any:
        """Return what is made of a contiguous matrix to be an operand; worth while for one that comes again."""
        return rounded(self.library, a, self.rounded_to) if self.rounded_to else a

    def weight(self, prepared: Prepared, name: str) -> Any:
        """Return one of the weights as an operand, or None: of a frozen layer made once for a stream."""
        a = getattr(prepared, name)
        if a is None or not self.rounded_to:
            return a
        return prepared.once((name, self.rounded_to, self.library.queue()), lambda: self.operand(a))

    def with_transposed(self, a: Any, b: Any, out: Any) -> None:
        """Write to ``out`` (m, n) the product of the operands ``a`` (m, k) and ``b`` (n, k) transposed."""
        self.library.product(a, b, out, rounded_to=self.rounded_to, transposed="b")

    def plain(self, a: Any, b: Any, out: Any, *, add: bool = False) -> None:
        """Write to ``out`` (m, n), or ``add``, the product of the operands ``a`` (m, k) and ``b`` (k, n)."""
        self.library.product(a, b, out, rounded_to=self.rounded_to, add=add)

    def of_transposed(self, a: Any, b: Any) -> Any:
        """Return the product (m, n) of the operand ``a`` (k, m) transposed and ``b`` (k, n), no operand yet."""
        out = self.library.empty(b.dtype, (a.shape[1], b.shape[1]))
        self.library.product(a, self.operand(b), out, rounded_to=self.rounded_to, transposed="a")
        return out

    def each_step(
        self, a: Any, b: Any, out: Any, *, transposed: str = "", ready: bool = False
    ) -> Callable[[int, int], None]:
        """Return what multiplies the i-th matrix of ``a`` by the operand ``b``, into the j-th of out.

        ``a`` are operands if it is ``ready``. What is a single matrix has the number 0; "b" or neither is
        ``transposed``.
        """
        options: dict[str, Any] = {"rounded_to": self.rounded_to, "transposed": transposed}
        if ready or not self.rounded_to:
            return self.library.bound_product(a, b, out, **options)
        *_, rows, columns = a.shape
        operand = self.library.part(BITS, (rows, columns))
        multiply = self.library.bound_product(operand, b, out, **options)
        if not rows * columns:
            return multiply
        make = rounding_of(self.library, a, operand, self.rounded_to)

        def run(i: int, j: int) -> None:
            make(i)
            multiply(0, j)

        return run


def rounded(library: Library, a: Any, rounded_to: str) -> Any:
    """Return the bits of a contiguous matrix in float32 rounded to ``rounded_to``, to the nearest: a part."""
    result = library.part(BITS, a.shape)
    if a.nbytes:
        rounding_of(library, a, result, rounded_to)(0)
    return result


def round_rows(library: Library, a: Any, out: Any, rounded_to: str, *, turned: bool = False) -> None:
    """Round a contiguous matrix, or where it is to be ``turned`` its transpose, to ``out``, with zeros behind its rows.

    One launch, in which what is a row of ``out`` is read down a column if it is turned.
    """
    (rows, columns), depth = out.shape, a.shape[not turned]
    if rows * columns:
        arrays, integers = {"values": a, "rounded": out}, {"depth": depth, "turned": int(turned)}
        options: dict[str, Any] = {"dtype": "float32", "batch": rows, "units": columns, "reverse": False}
        Launcher(library, row_rounding_kernel(rounded_to), arrays, integers=integers, **options)(0)


def rounding_of(library: Library, a: Any, out: Any, rounded_to: str) -> Launcher:
    """Return what rounds one of several matrices."""
    options: dict[str, Any] = {"dtype": "float32", "batch": out.shape[0], "units": out.shape[1], "reverse": False}
    return Launcher(library, rounding_kernel(rounded_to), {"values": a, "rounded": out}, **options)


@cache  # a step may need it: writing it would take the host longer than running it takes the GPU
def rounding_kernel(rounded_to: str) -> Kernel:
    """Write the kernel: a matrix of ``values`` (T, B, H), float32, to the nearest of a type, ``rounded`` its bits."""
    body = Body()
    value = body.load(Place(Array("values"), "(long long)start * n + e", ""))
    to = body.store(Array("rounded", "unsigned short").element())
    lines = (*ELEMENT_OF_GRID, f"{to} = {rounded_bits(rounded_to, value)};")
    return Kernel(f"to_{rounded_to}", lines, body.arguments(), ahead=rounding_text(rounded_to))


@cache
def row_rounding_kernel(rounded_to: str) -> Kernel:
    """Write the kernel: a matrix (m, depth), or where it is ``turned`` (depth, m), to longer rows with zeros behind."""
    body = Body()
    place = Place(Array("values"), "turned ? u * batch + b : b * depth + u", "")
    value = f"(u < depth ? {body.load(place)} : 0)"
    to = body.store(Array("rounded", "unsigned short").element())
    of_row = "const long long b = e / units, u = e - b * units;"
    lines = (*ELEMENT_OF_GRID, of_row, f"{to} = {rounded_bits(rounded_to, value)};")
    return Kernel(f"rows_to_{rounded_to}", lines, body.arguments("depth", "turned"), ahead=rounding_text(rounded_to))


# Sums of rows ---------------------------------------------------------------------------------------------------------

FEW = 64  # rows that one thread adds up; of more it is that many threads, or fewer


def add_up_rows(library: Library, rows: Any) -> Any:
    """Add up the rows of a contiguous matrix, (N, n) -> (n,), with a rounding error that doesn't grow with N.

    The sums are Kahan's, by at most two launches whatever N is, and the same bits each time.
    """
    count, columns = rows.shape
    result = library.empty(rows.dtype, (columns,))
    if not count or not columns:
        library.fill_zero(result)
        return result
    options: dict[str, Any] = {"dtype": dtype_name(rows.dtype), "units": columns, "reverse": False}
    if count > FEW:
        parts = min(FEW, isqrt(count))
        sums = library.part(rows.dtype, (parts, columns))
        arrays, integers = {"values": rows, "sums_of_rows": sums}, {"count": count}
        Launcher(library, add_up_kernel(), arrays, batch=parts, integers=integers, **options)(0)
        rows, count = sums, parts
    arrays, integers = {"values": rows, "sums_of_rows": result}, {"count": count}
    Launcher(library, add_up_kernel(), arrays, batch=1, integers=integers, **options)(0)
    return result


# One more of a sum, as W. Kahan adds up: what rounding has added to the total is taken off the next term.
KAHAN = (
    "    const real term = {} - excess, sum = total + term;",
    "    excess = (sum - total) - term;",
    "    total = sum;",
)


@cache
def add_up_kernel() -> Kernel:
    """Write the kernel: each of the ``batch`` sums is of every so many of the ``count`` rows of ``values``."""
    body = Body()
    value = body.load(Place(Array("values"), "row * units + u", ""))
    lines = [
        *ELEMENT_OF_GRID,
        "const long long b = e / units, u = e - b * units;",
        "real total = 0, excess = 0;  // of the total: what rounding has added to it",
        "for (long long row = b; row < count; row += batch) {",
        *(line.format(value) for line in KAHAN),
        "}",
        f"{body.store(Array('sums_of_rows').element())} = total;",
    ]
    return Kernel("add_up_rows", tuple(lines), body.arguments("count"))


def sum_rows(library: Library, values: Any, index: Any, count: int) -> Any:
    """Add up the rows of ``values`` (N, n) by ``index`` (N,): result[k] = sum of values[index == k], (count, n).

    Rows are sorted by their index, and one thread adds up each element in the order in which the rows stood: no
    atomic additions, so equal calls give equal bits. The sums are Kahan's, whose error doesn't grow with N.
    """
    xp = library.xp
    features = values.shape[1]
    result = xp.zeros((count, features), dtype=values.dtype)
    if not (len(index) and count and features):
        return result
    index = index.astype(np.int64)
    order = xp.argsort(index, kind="stable").astype(np.int64)
    arrays = {
        "values": xp.ascontiguousarray(values),
        "order": order,
        "ends": xp.searchsorted(index[order], xp.arange(count, dtype=np.int64), side="right").astype(np.int64),
        "sums_of_rows": result,
    }
    options: dict[str, Any] = {"dtype": str(values.dtype), "batch": count, "units": features, "reverse": False}
    Launcher(library, sum_rows_kernel(), arrays, **options)(0)
    return result


@cache
def sum_rows_kernel() -> Kernel:
    """Write the kernel: ``order`` (N,) are the rows sorted by index, ``ends`` (count,) where each index ends in it."""
    body = Body()
    ends, order = body.array(Array("ends", "long long")), body.array(Array("order", "long long"))
    value = body.load(Place(Array("values"), f"{order}[p] * units + u", ""))
    lines = [
        *ELEMENT_OF_GRID,
        "const long long k = e / units, u = e - k * units;",
        "real total = 0, excess = 0;  // of the total: what rounding has added to it",
        f"for (long long p = k ? {ends}[k - 1] : 0; p < {ends}[k]; ++p) {{",
        *(line.format(value) for line in KAHAN),
        "}",
        f"{body.store(Array('sums_of_rows').element())} = total;",
    ]
    return Kernel("sum_rows", tuple(lines), body.arguments())
