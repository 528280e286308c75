"""The scan forward: products by the library, and between them the cell's kernels, one launch a step.

T time, B batch, I input, H hidden units, R size of the output. All arrays are time-major, and made before the loop.
Nothing here waits for the GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from recurray.cells.cell import Cell, Draws, Weights
from recurray_cupy.compiled import Compiled, Way, compiled
from recurray_cupy.launcher import Launcher
from recurray_cupy.library import Library, dtype_name
from recurray_cupy.products import BITS, Prepared, Products, prepare, rounding_of
from recurray_cupy.step import identifier
from recurray_cupy.strategies import FUSED, WHOLE

INPUT_PRODUCT_BYTES = 64 * 2**20  # bytes of the input product that are made at a time


class ScanCache(NamedTuple):
    """All that backward reads."""

    weights: Weights
    prepared: Prepared
    x: Any  # (T, B, I), padding zeroed
    arrays: dict[str, Any]  # by the kernels' names: states, output, inner, saved, saved_rows, mask, lengths; or parts
    reverse: bool
    rounded_to: str  # what the products' operands were rounded to; empty if they weren't

    @property
    def projected(self) -> bool:
        """Whether the output is projected."""
        return self.prepared.projection is not None


class Scan(NamedTuple):
    """What the steps of a scan are run with."""

    library: Library
    code: Compiled
    prepared: Prepared
    products: Products
    arrays: dict[str, Any]  # by the kernels' names, or parts; see `recurray_cupy.forward_step`
    reverse: bool
    keep: bool
    strategy: str

    def operands(self) -> list[Any]:
        """The weights of the products at each step, as operands: the outer, the inner gates' and the projection."""
        return [self.products.weight(self.prepared, name) for name in ("outer", "inner", "projection")]


def forward(
    library: Library,
    cell: Cell,
    weights: Weights,
    x: Any,
    start: tuple[Any, ...],
    *,
    lengths: Sequence[int] | None = None,
    reverse: bool = False,
    keep: bool = True,
    draws: Draws | None = None,
    output_mask: Any = None,
    strategy: str = FUSED,
    rounded_to: str = "",
) -> tuple[Any, tuple[Any, ...], ScanCache | None]:
    """Run a cell over time; see `recurray.scan.forward`.

    ``strategy`` is one of `recurray_cupy.strategies`, not "reference"; ``rounded_to`` is what the products' operands
    are rounded to, empty if they aren't.
    """
    xp, steps, dtype = library.xp, x.shape[0], x.dtype
    code = compiled(cell)
    prepared = prepare(xp, code, weights)
    check_projection(code, weights, start[0].shape[1], prepared.size)
    rows = valid = mask = None
    if lengths is not None:
        rows = xp.asarray(lengths, dtype=xp.int32)
        valid = xp.arange(steps, dtype=xp.int32).reshape(steps, 1, 1) < rows.reshape(1, len(lengths), 1)
        x = xp.where(valid, x, dtype.type(0))  # padding may hold anything, NaN included
    x = xp.ascontiguousarray(x)

    arrays = _arrays(library, code, prepared, x, start, reverse=reverse, keep=keep, strategy=strategy)
    if rounded_to and strategy == FUSED:  # operands that its kernels round
        _put_bits(library, code, prepared, arrays)
    if output_mask is not None:
        mask = xp.ascontiguousarray(output_mask, dtype=dtype)
        if code.outer_gates and strategy == FUSED and not rounded_to:
            arrays["h_masked"] = library.array(arrays["state_h"][steps if reverse else 0]) * mask
    arrays |= prepared.arrays
    arrays["lengths"], arrays["mask"] = rows, mask
    for name, value in (draws or {}).items():
        is_number = isinstance(value, float)
        arrays[f"draw_{identifier(name)}"] = None if is_number else xp.ascontiguousarray(value, dtype=dtype)
        arrays[f"mean_{identifier(name)}"] = value if is_number else 0.0
    scan = Scan(library, code, prepared, Products(library, rounded_to), arrays, reverse, keep, strategy)
    run = _step_by_step if strategy == FUSED else _whole
    options = {"dtype": dtype_name(dtype), "batch": x.shape[1], "reverse": reverse}
    for low, high in _input_products(scan, x):
        run(scan, low, high, options)

    h = arrays["state_h"]
    y = h[:steps] if reverse else h[1:]  # after each step
    if valid is not None:
        y = xp.where(valid, library.array(y), dtype.type(0))
    else:  # what the caller does to it mustn't reach the cache
        y = library.copied(y) if keep else library.array(y)
    last = 0 if reverse else steps
    end = tuple(
        [
            library.copied(arrays[place][last] if keep or place == "state_h" else arrays[place])
            for place in code.states.values()
        ]
    )
    if not keep:
        return y, end, None
    kept = ("lengths", "mask", "saved", "saved_rows", "output", "inner", *code.states.values())
    return y, end, ScanCache(weights, prepared, x, {name: arrays[name] for name in kept}, reverse, rounded_to)


def _step_by_step(scan: Scan, low: int, high: int, options: dict[str, Any]) -> None:
    """Run steps whose products are the library's."""
    library, products, arrays, reverse = scan.library, scan.products, scan.arrays, scan.reverse
    outer, inner, projection = scan.operands()
    h, mask, masked = arrays["state_h"], arrays["mask"], arrays["h_masked"]
    bits = arrays.get("h_bits")
    if bits is not None:
        first = h[high if reverse else low]
        rounding_of(library, first if mask is None else library.array(first) * mask, bits, products.rounded_to)(0)
    projected, rounded_to = projection is not None, products.rounded_to
    ready = bool(rounded_to)
    kernels = scan.code.forward(keep=scan.keep, projected=projected, rounded_to=rounded_to).kernels
    launch = [Launcher(library, each, arrays, units=scan.prepared.size, first=low, **options) for each in kernels]
    if outer is None and inner is None and projection is None:  # no step waits for another unit's output
        launch[0](high - 1 if reverse else low, high - low)
        return

    def operands(name: str) -> Any:
        return arrays[f"{name}_bits" if ready else name]

    hand_on = of_h = of_inner = of_output = None
    if bits is not None:
        of_h = products.each_step(bits, outer, arrays["h_gates"], transposed="b", ready=ready)
    elif outer is not None:
        of_h = products.each_step(h if masked is None else masked, outer, arrays["h_gates"], transposed="b")
    if inner is not None:
        of_inner = products.each_step(operands("inner"), inner, arrays["inner_gates"], transposed="b", ready=ready)
    if projection is not None:
        of_output = products.each_step(operands("output"), projection, h, transposed="b", ready=ready)
        if any(each is not None for each in (arrays["lengths"], masked, bits)):
            kernel = scan.code.hand_on(rounded_to)
            hand_on = Launcher(library, kernel, arrays, units=h.shape[2], **options)
    for t in reversed(range(low, high)) if reverse else range(low, high):
        own = t if scan.keep and not ready else 0  # of arrays that have all steps where these are kept
        if of_h is not None:
            of_h(t + reverse if masked is None and bits is None else 0, 0)
        launch[0](t)
        if of_inner is not None:
            of_inner(own, 0)
            launch[1](t)
        if of_output is not None:
            of_output(own, t + 1 - reverse)
            if hand_on is not None:
                hand_on(t)


def _whole(scan: Scan, low: int, high: int, options: dict[str, Any]) -> None:
    """Run steps by kernels that make the product with the output before themselves."""
    WHOLE[scan.strategy].run(
        scan.library,
        scan.code,
        scan.arrays | {"weight": scan.prepared.outer},
        way=Way.TRAINING if scan.keep else Way.INFERENCE,
        rounded_to=scan.products.rounded_to,
        once=scan.prepared.once,
        units=scan.prepared.size,
        first=low,
        start=high - 1 if scan.reverse else low,
        steps=high - low,
        **options,
    )


def _put_bits(library: Library, code: Compiled, prepared: Prepared, arrays: dict[str, Any]) -> None:
    """Make the arrays in which kernels leave operands rounded, each of one step."""
    _, batch, output = arrays["state_h"].shape
    projected = prepared.projection is not None
    sizes = {
        "h_bits": output if code.outer_gates else 0,
        "inner_bits": prepared.size if code.inner_gates else 0,
        "output_bits": prepared.size if projected else 0,
    }
    arrays |= {name: library.part(BITS, (batch, size)) for name, size in sizes.items() if size}


def check_projection(code: Compiled, weights: Weights, output: int, size: int) -> None:
    """Refuse a projection that makes the output another size than a cell can do with."""
    if output != size and weights.projection is not None and code.recording.reads_output:
        raise ValueError(
            f"{type(code.cell).__name__} combines the output before the step with its {size} units, "
            f"so it can't be projected to {output}"
        )


def _arrays(
    library: Library,
    code: Compiled,
    prepared: Prepared,
    x: Any,
    start: tuple[Any, ...],
    *,
    reverse: bool,
    keep: bool,
    strategy: str,
) -> dict[str, Any]:
    """Make the arrays that the kernels read and write; see `recurray_cupy.forward_step`.

    What is kept has memory of its own, and so has the output.
    """
    size, inner = prepared.size, bool(code.inner_gates)
    steps, batch, _ = x.shape
    projected = prepared.projection is not None
    launches, saved = code.forward(keep=keep, projected=projected), code.saved(projected=projected)

    lead = (steps,) if keep else ()
    each_step = {
        "inner": (*lead, batch, size) if inner else None,
        "output": (*lead, batch, size) if projected else None,
        "saved": (steps, saved.slots, batch, size) if keep else None,
        "saved_rows": (steps, saved.row_slots, batch) if keep and saved.row_slots else None,
    }
    meanwhile = {
        "h_gates": (batch, len(code.outer_gates) * size) if code.outer_gates and strategy == FUSED else None,
        "inner_gates": (batch, len(code.inner_gates) * size) if inner else None,
        "h_masked": None,
        "work": (launches.work, batch, size) if launches.work else None,
        "work_rows": (launches.work_rows, batch) if launches.work_rows else None,
    }
    for place, value in zip(code.states.values(), start, strict=True):
        if keep:
            each_step[place] = (steps + 1, *value.shape)
        elif place != "state_h":
            meanwhile[place] = value.shape
    if keep:
        arrays = library.parts(x.dtype, meanwhile) | library.parts(x.dtype, each_step)
    else:
        arrays = library.parts(x.dtype, meanwhile | each_step)
        arrays["state_h"] = library.part(x.dtype, (steps + 1, *start[0].shape))
    first = steps if reverse else 0
    for place, value in zip(code.states.values(), start, strict=True):
        library.copy(arrays[place][first] if keep or place == "state_h" else arrays[place], value)
    return arrays


def _input_products(scan: Scan, x: Any) -> Iterator[tuple[int, int]]:
    """Make the input product of some steps at a time, in the order of the loop, and yield which these are."""
    products, (steps, batch, features) = scan.products, x.shape
    if not batch:
        return
    width = len(scan.code.cell.input_gates) * scan.prepared.size
    chunk = max(1, INPUT_PRODUCT_BYTES // (batch * width * x.dtype.itemsize))
    x_gates = scan.library.part(x.dtype, (min(chunk, steps) * batch, width))
    rows, weight = x.reshape(steps * batch, features), products.weight(scan.prepared, "input")
    firsts = range(0, steps, chunk)
    for low in reversed(firsts) if scan.reverse else firsts:
        high = min(steps, low + chunk)
        scan.arrays["x_gates"] = x_gates if chunk >= steps else x_gates[: (high - low) * batch]
        here = products.operand(rows if chunk >= steps else rows[low * batch : high * batch])
        products.with_transposed(here, weight, out=scan.arrays["x_gates"])
        if scan.prepared.bias_by_row is not None:
            gates = scan.library.array(scan.arrays["x_gates"].reshape(high - low, batch, width))
            scan.library.xp.add(gates, scan.prepared.bias_by_row, out=gates)
        yield low, high
