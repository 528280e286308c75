"""The scan forward: products by the library, and between them the cell's kernels, one launch a step.

T time, B batch, I input, H hidden units, R size of the output. All arrays are time-major, and made before the loop.
Nothing here waits for the GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from recurray.cells.cell import Cell, Draws, Weights
from recurray_cupy.compiled import Compiled, compiled
from recurray_cupy.expressions import identifier
from recurray_cupy.launcher import Launcher
from recurray_cupy.library import Library
from recurray_cupy.prepared import Prepared, prepare
from recurray_cupy.products import Products
from recurray_cupy.recurrence_launch import run_recurrence

PART = 64 * 2**20  # bytes of the input product that are made at a time


@dataclass(frozen=True)
class ScanCache:
    """All that backward reads."""

    weights: Weights
    prepared: Prepared
    x: Any  # (T, B, I), padding zeroed
    arrays: dict[str, Any]  # by the kernels' names: states, output, inner, saved, saved_rows, mask, lengths
    reverse: bool
    small: str  # what the products' operands were rounded to; empty if they weren't


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
    stage: str = "fused",
    small: str = "",
) -> tuple[Any, tuple[Any, ...], ScanCache | None]:
    """Run a cell over time; see `recurray.scan.forward`, and `recurray_cupy.stages` for the stage.

    ``small`` is what the products' operands are rounded to; empty if they aren't.
    """
    xp, texts = library.xp, compiled(cell)
    steps, batch, _ = x.shape
    prepared = prepare(xp, cell, weights)
    check_projection(texts, weights, start[0].shape[1], prepared.size)

    valid = None
    rows = None if lengths is None else xp.asarray(lengths, dtype=xp.int32)
    if rows is not None:
        valid = xp.arange(steps, dtype=xp.int32).reshape(steps, 1, 1) < rows.reshape(1, batch, 1)
        x = xp.where(valid, x, x.dtype.type(0))  # padding may hold anything, NaN included
    x = xp.ascontiguousarray(x)
    mask = None if output_mask is None else xp.ascontiguousarray(output_mask, dtype=x.dtype)
    arrays = _arrays(xp, texts, prepared, x, start, reverse=reverse, keep=keep)
    arrays |= prepared.arrays | {"lengths": rows, "mask": mask}
    for name, value in (draws or {}).items():
        is_number = isinstance(value, float)
        arrays[f"draw_{identifier(name)}"] = None if is_number else xp.ascontiguousarray(value, dtype=x.dtype)
        arrays[f"mean_{identifier(name)}"] = value if is_number else 0.0
    if batch:
        _run(library, texts, prepared, x, arrays, reverse=reverse, keep=keep, stage=stage, small=small)

    states = arrays["state_h"]
    last = 0 if reverse else steps
    end = tuple(
        arrays[f"state_{identifier(name)}"][last].copy() if keep or name == "h" else arrays[f"state_{identifier(name)}"]
        for name in cell.states
    )
    y = states[:steps] if reverse else states[1:]
    if valid is not None:
        y = xp.where(valid, y, x.dtype.type(0))
    elif keep:
        y = y.copy()  # what the caller does to it mustn't reach the cache
    cache = None
    if keep:
        kept = {name: arrays[name] for name in ("lengths", "mask", "saved", "saved_rows", "output", "inner")}
        kept |= {f"state_{identifier(name)}": arrays[f"state_{identifier(name)}"] for name in cell.states}
        cache = ScanCache(weights, prepared, x, kept, reverse, small)
    return y, end, cache


def check_projection(texts: Compiled, weights: Weights, output: int, size: int) -> None:
    """Refuse a projection that makes the output another size than a cell can do with."""
    if weights.projection is not None and output != size and texts.reads_output():
        raise ValueError(
            f"{type(texts.cell).__name__} combines the output before the step with its {size} units, "
            f"so it can't be projected to {output}"
        )


def _arrays(
    xp: Any, texts: Compiled, prepared: Prepared, x: Any, start: tuple[Any, ...], *, reverse: bool, keep: bool
) -> dict[str, Any]:
    """Make the arrays that the kernels read and write; see `recurray_cupy.forward_step`."""
    cell, size = texts.cell, prepared.size
    steps, batch, _ = x.shape
    projected = prepared.projection is not None
    launches, saved = texts.forward(keep=keep, projected=projected), texts.saved(projected=projected)

    def empty(*shape: int) -> Any:
        return xp.empty(shape, dtype=x.dtype)

    lead = (steps,) if keep else ()
    arrays = {
        "h_gates": empty(batch, len(cell.outer_gates) * size) if cell.outer_gates else None,
        "inner_gates": empty(batch, len(cell.inner_gates) * size) if cell.inner_gates else None,
        "inner": empty(*lead, batch, size) if cell.inner_gates else None,
        "output": empty(*lead, batch, size) if projected else None,
        "saved": empty(steps, saved.slots, batch, size) if keep else None,
        "saved_rows": empty(steps, saved.row_slots, batch) if keep else None,
        "h_masked": None,
        "work": empty(launches.work, batch, size),
        "work_rows": empty(launches.work_rows, batch),
    }
    for name, value in zip(cell.states, start, strict=True):
        place = f"state_{identifier(name)}"
        if keep or name == "h":
            arrays[place] = empty(steps + 1, *value.shape)
            arrays[place][steps if reverse else 0] = value
        else:
            arrays[place] = xp.array(value, dtype=x.dtype, order="C")  # a copy, in which the kernels write
    return arrays


def _run(
    library: Library,
    texts: Compiled,
    prepared: Prepared,
    x: Any,
    arrays: dict[str, Any],
    *,
    reverse: bool,
    keep: bool,
    stage: str,
    small: str,
) -> None:
    """Run the loop."""
    xp, cell, size = library.xp, texts.cell, prepared.size
    steps, batch, features = x.shape
    projection, mask, output = prepared.projection, arrays["mask"], arrays["state_h"].shape[2]
    options: dict[str, Any] = {"dtype": str(x.dtype), "batch": batch, "reverse": reverse}
    whole = stage != "fused"
    kernels = texts.forward(keep=keep, projected=projection is not None).kernels
    h, inner, outputs = arrays["state_h"], arrays["inner"], arrays["output"]
    masked = None
    if mask is not None and cell.outer_gates and not whole:
        masked = arrays["h_masked"] = h[steps if reverse else 0] * mask
    hold = None
    if projection is not None and arrays["lengths"] is not None:
        hold = Launcher(library, texts.hold, arrays, units=output, **options)

    width = len(cell.input_gates) * size
    part = max(1, PART // (batch * width * x.dtype.itemsize))
    x_gates = xp.empty((min(part, steps) * batch, width), dtype=x.dtype)
    rows, products = x.reshape(steps * batch, features), Products(library, small)
    input_weight = products.operand(prepared.input)
    outer, inner_weight, onto = (
        None if a is None or whole else products.operand(a) for a in (prepared.outer, prepared.inner, projection)
    )
    for low, high in _parts(steps, part, reverse):
        arrays["x_gates"] = x_gates[: (high - low) * batch]
        here = products.operand(rows[low * batch : high * batch])
        products.with_transposed(here, input_weight, out=arrays["x_gates"])
        if whole:
            run_recurrence(
                library,
                texts.recurrence(keep=keep, small=small),
                arrays | {"weight": prepared.outer},
                persistent=stage == "persistent",
                units=size,
                first=low,
                start=high - 1 if reverse else low,
                steps=high - low,
                **options,
            )
            continue
        launch = [Launcher(library, kernel, arrays, units=size, first=low, **options) for kernel in kernels]
        if not (cell.recurrent_gates or projection is not None):  # nothing in a step waits for another unit's output
            launch[0](high - 1 if reverse else low, high - low)
            continue
        for t in reversed(range(low, high)) if reverse else range(low, high):
            if outer is not None:
                before = h[t + reverse] if masked is None else masked
                products.with_transposed(products.operand(before), outer, out=arrays["h_gates"])
            launch[0](t)
            if inner_weight is not None:
                amid = inner[t] if keep else inner
                if mask is not None:
                    xp.multiply(amid, mask, out=amid)
                products.with_transposed(products.operand(amid), inner_weight, out=arrays["inner_gates"])
                launch[1](t)
            if onto is not None:
                after = h[t + 1 - reverse]
                products.with_transposed(products.operand(outputs[t] if keep else outputs), onto, out=after)
                if hold is not None:
                    hold(t)
                if masked is not None:
                    xp.multiply(after, mask, out=masked)


def _parts(steps: int, part: int, reverse: bool) -> Iterator[tuple[int, int]]:
    """Cut the time into parts of at most ``part`` steps, in the order of the loop."""
    lows = range(0, steps, part)
    for low in reversed(lows) if reverse else lows:
        yield low, min(steps, low + part)
