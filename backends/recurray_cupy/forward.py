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


@dataclass(frozen=True)
class Ragged:
    """Which steps are within their row's length."""

    lengths: Any  # (B,), int32
    valid: Any  # (T, B, 1)


def ragged(xp: Any, lengths: Sequence[int] | None, steps: int) -> Ragged | None:
    """Put lengths where kernels can read them; None if all rows have all steps."""
    if lengths is None:
        return None
    rows = xp.asarray(lengths, dtype=xp.int32)
    return Ragged(rows, xp.arange(steps, dtype=xp.int32).reshape(steps, 1, 1) < rows.reshape(1, len(lengths), 1))


def input_of(xp: Any, x: Any, rows: Ragged | None) -> Any:
    """Make an input contiguous, with zeros where it is padding, which may hold anything, NaN included."""
    return xp.ascontiguousarray(x if rows is None else xp.where(rows.valid, x, x.dtype.type(0)))


def forward(
    library: Library,
    cell: Cell,
    weights: Weights,
    x: Any,
    start: tuple[Any, ...],
    *,
    lengths: Sequence[int] | None = None,
    **options: Any,
) -> tuple[Any, tuple[Any, ...], ScanCache | None]:
    """Run a cell over time; see `recurray.scan.forward`, and for the other options `ScanForward`."""
    xp, steps = library.xp, x.shape[0]
    rows = ragged(xp, lengths, steps)
    scan = ScanForward(library, cell, weights, input_of(xp, x, rows), start, rows=rows, **options)
    scan.run(0, steps)
    return scan.result()


class ScanForward:
    """A scan, whose steps are run part by part.

    Parameters
    ----------
    library : Library
    cell, weights, start, reverse, keep, draws, output_mask
        See `recurray.scan.forward`.
    x : array, (T, B, I)
        Contiguous, and zero where it is padding. A step's part has to be there when it is run.
    rows : Ragged or None
    stage : str
        See `recurray_cupy.stages`; not "reference".
    small : str
        What the products' operands are rounded to; empty if they aren't.

    Attributes
    ----------
    y : array, (T, B, R)
        The output of the steps that have been run.
    """

    def __init__(
        self,
        library: Library,
        cell: Cell,
        weights: Weights,
        x: Any,
        start: tuple[Any, ...],
        *,
        rows: Ragged | None = None,
        reverse: bool = False,
        keep: bool = True,
        draws: Draws | None = None,
        output_mask: Any = None,
        stage: str = "fused",
        small: str = "",
    ) -> None:
        xp = library.xp
        self._library, self._texts, self._weights = library, compiled(cell), weights
        self._prepared = prepare(xp, cell, weights)
        self._x, self._rows, self._reverse, self._keep = x, rows, reverse, keep
        self._stage, self._products = stage, Products(library, small)
        check_projection(self._texts, weights, start[0].shape[1], self._prepared.size)

        mask = None if output_mask is None else xp.ascontiguousarray(output_mask, dtype=x.dtype)
        arrays = _arrays(xp, self._texts, self._prepared, x, start, reverse=reverse, keep=keep)
        arrays |= self._prepared.arrays | {"lengths": None if rows is None else rows.lengths, "mask": mask}
        for name, value in (draws or {}).items():
            is_number = isinstance(value, float)
            arrays[f"draw_{identifier(name)}"] = None if is_number else xp.ascontiguousarray(value, dtype=x.dtype)
            arrays[f"mean_{identifier(name)}"] = value if is_number else 0.0
        steps, whole = x.shape[0], stage != "fused"
        if mask is not None and cell.outer_gates and not whole:
            arrays["h_masked"] = arrays["state_h"][steps if reverse else 0] * mask
        self._arrays = arrays
        prepared, operand = self._prepared, self._products.operand
        self._input = operand(prepared.input)
        self._outer, self._inner, self._projection = (
            None if a is None or whole else operand(a) for a in (prepared.outer, prepared.inner, prepared.projection)
        )
        self._h = arrays["state_h"][:steps] if reverse else arrays["state_h"][1:]  # after each step
        copied = keep or rows is not None  # what the caller does to it mustn't reach the cache
        self.y = xp.empty(self._h.shape, dtype=x.dtype) if copied else self._h

    def run(self, low: int, high: int) -> None:
        """Run the steps from ``low`` to ``high``, which come next in the order of the loop."""
        if self._x.shape[1]:
            self._loop(low, high)
        if self.y is not self._h:
            h, rows = self._h[low:high], self._rows
            self.y[low:high] = h if rows is None else self._library.xp.where(rows.valid[low:high], h, h.dtype.type(0))

    def result(self) -> tuple[Any, tuple[Any, ...], ScanCache | None]:
        """Return the output, the final state and the cache, once all steps have been run."""
        arrays, keep, names = self._arrays, self._keep, self._texts.cell.states
        places = {name: f"state_{identifier(name)}" for name in names}
        last = 0 if self._reverse else self._x.shape[0]
        end = tuple(
            arrays[place][last].copy() if keep or name == "h" else arrays[place] for name, place in places.items()
        )
        if not keep:
            return self.y, end, None
        kept = ("lengths", "mask", "saved", "saved_rows", "output", "inner", *places.values())
        of_backward = {name: arrays[name] for name in kept}
        small = self._products.small
        cache = ScanCache(self._weights, self._prepared, self._x, of_backward, self._reverse, small)
        return self.y, end, cache

    def _loop(self, low: int, high: int) -> None:
        """Run steps, the input product being made for some at a time."""
        cell, size, batch = self._texts.cell, self._prepared.size, self._x.shape[1]
        width = len(cell.input_gates) * size
        part = max(1, PART // (batch * width * self._x.dtype.itemsize))
        x_gates = self._library.xp.empty((min(part, high - low) * batch, width), dtype=self._x.dtype)
        rows, products = self._x.reshape(self._x.shape[0] * batch, self._x.shape[2]), self._products
        options: dict[str, Any] = {"dtype": str(self._x.dtype), "batch": batch, "reverse": self._reverse}
        for first, stop in _parts(low, high, part, self._reverse):
            self._arrays["x_gates"] = x_gates[: (stop - first) * batch]
            here = products.operand(rows[first * batch : stop * batch])
            products.with_transposed(here, self._input, out=self._arrays["x_gates"])
            if self._stage == "fused":
                self._step_by_step(first, stop, options)
            else:
                run_recurrence(
                    self._library,
                    self._texts.recurrence(keep=self._keep, small=products.small),
                    self._arrays | {"weight": self._prepared.outer},
                    persistent=self._stage == "persistent",
                    units=size,
                    first=first,
                    start=stop - 1 if self._reverse else first,
                    steps=stop - first,
                    **options,
                )

    def _step_by_step(self, low: int, high: int, options: dict[str, Any]) -> None:
        """Run steps whose products are the library's."""
        library, cell, products = self._library, self._texts.cell, self._products
        arrays, reverse = self._arrays, self._reverse
        h, inner, outputs = arrays["state_h"], arrays["inner"], arrays["output"]
        mask, masked = arrays["mask"], arrays["h_masked"]
        kernels = self._texts.forward(keep=self._keep, projected=self._projection is not None).kernels
        launch = [Launcher(library, each, arrays, units=self._prepared.size, first=low, **options) for each in kernels]
        if not (cell.recurrent_gates or self._projection is not None):  # no step waits for another unit's output
            launch[0](high - 1 if reverse else low, high - low)
            return
        hold = None
        if self._projection is not None and self._rows is not None:
            hold = Launcher(library, self._texts.hold, arrays, units=h.shape[2], **options)
        for t in reversed(range(low, high)) if reverse else range(low, high):
            if self._outer is not None:
                before = h[t + reverse] if masked is None else masked
                products.with_transposed(products.operand(before), self._outer, out=arrays["h_gates"])
            launch[0](t)
            if self._inner is not None:
                amid = inner[t] if self._keep else inner
                if mask is not None:
                    library.xp.multiply(amid, mask, out=amid)
                products.with_transposed(products.operand(amid), self._inner, out=arrays["inner_gates"])
                launch[1](t)
            if self._projection is not None:
                after = h[t + 1 - reverse]
                output = products.operand(outputs[t] if self._keep else outputs)
                products.with_transposed(output, self._projection, out=after)
                if hold is not None:
                    hold(t)
                if masked is not None:
                    library.xp.multiply(after, mask, out=masked)


def check_projection(texts: Compiled, weights: Weights, output: int, size: int) -> None:
    """Refuse a projection that makes the output another size than a cell can do with."""
    if weights.projection is not None and output != size and texts.recording.reads_output:
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


def _parts(low: int, high: int, part: int, reverse: bool) -> Iterator[tuple[int, int]]:
    """Cut steps into parts of at most ``part``, in the order of the loop."""
    firsts = range(low, high, part)
    for first in reversed(firsts) if reverse else firsts:
        yield first, min(high, first + part)
