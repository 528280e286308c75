"""NumPy as a backend."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from recurray.arrays import AT_A_TIME
from recurray.backend import Backend, Plan
from recurray.cells.cell import Cell, Weights
from recurray.elementwise import Elementwise, Formula
from recurray.messages import shown
from recurray.program import RecordingError
from recurray_numpy.buffers import BUFFERS, trim
from recurray_numpy.elementwise import NumpyElementwise
from recurray_numpy.engines import engine_class
from recurray_numpy.gate_order import order_of
from recurray_numpy.plan import StackPlan
from recurray_numpy.scan import forward
from recurray_numpy.step import StackStep

SQUARED = 1024  # numbers of a row whose squares are added up at a time
LEAST, MOST = 1e-31, 3e38  # a sum of squares, for each number and in all: float32 loses none that matters between them


class NumpyBackend(Backend):
    """NumPy on the CPU.

    Cells are recorded and run as ufunc calls into preallocated buffers, with one product a step; see
    `recurray_numpy.scan`. A cell that can't be recorded runs by the reference path, after a warning.

    Parameters
    ----------
    device : "cpu" or None
        NumPy has one device.
    engine : {"numpy", "native"}, optional
        What runs recurrences: NumPy, or the compiled engine, which is a subclass of this; by default the engine, where
        it is installed and runs and the environment variable ``RECURRAY_NATIVE`` doesn't say 0, off, no or false.

    Attributes
    ----------
    engine : str

    Raises
    ------
    BackendUnavailableError
        The engine named isn't installed, or can't run here.
    ValueError
        There is no such device.
    """

    engine = "numpy"
    in_place = True

    def __new__(cls, device: Any = None, engine: str | None = None, **own: Any) -> Self:
        """Make a backend of the class that is the engine asked for."""
        chosen = engine_class(engine) if cls is NumpyBackend else None
        return super().__new__(chosen or cls)

    def __init__(self, device: Any = None, engine: str | None = None) -> None:
        if device not in (None, "cpu"):
            raise ValueError(f"NumPy's only device is 'cpu', not {shown(device)}")
        super().__init__(np)
        self.name = "numpy"

    def __repr__(self) -> str:
        engine = "" if self.engine == NumpyBackend.engine else f", engine {self.engine}"
        return f"<recurray backend {self.name!r} on {self.device}{engine}>"

    def owns(self, a: Any) -> bool:
        """Tell whether ``a`` is a NumPy array."""
        return isinstance(a, np.ndarray)

    def on_device(self, a: Any) -> bool:
        """Tell that a NumPy array is on NumPy's only device."""
        return True

    def scan_forward(
        self, cell: Cell, weights: Weights, x: Any, start: tuple[Any, ...], **options: Any
    ) -> tuple[Any, tuple[Any, ...], Any]:
        """Run a cell over time; see `recurray.scan.forward`."""
        try:
            order_of(cell)
        except RecordingError as error:
            warnings.warn(f"{type(cell).__name__} runs slowly, by the reference path: {error}", stacklevel=2)
            return super().scan_forward(cell, weights, x, start, **options)
        return forward(cell, weights, x, start, **options)

    def plan(
        self, cells: Sequence[Cell], weights: Sequence[Weights], shape: tuple[int, int, int], *, reverse: bool
    ) -> Plan | None:
        """Return a plan for small calls in inference; see `recurray.backend.Backend.plan`."""
        if type(self).scan_forward is not NumpyBackend.scan_forward:
            return None  # a class that runs scans in another way
        return self.plan_of_numpy(cells, weights, shape, reverse=reverse)

    def plan_of_numpy(
        self, cells: Sequence[Cell], weights: Sequence[Weights], shape: tuple[int, int, int], *, reverse: bool
    ) -> Plan | None:
        """Return NumPy's own plan."""
        try:
            if shape[:2] == (1, 1) and len(cells) == 1:
                return StackStep(cells[0], weights)
            return StackPlan(cells, weights, shape, reverse=reverse)
        except RecordingError:
            return None

    def elementwise(self, formula: Formula, arrays: Sequence[str], numbers: Sequence[str]) -> Elementwise:
        """Return what runs a formula number by number; see `recurray.backend.Backend.elementwise`."""
        return NumpyElementwise(formula, arrays, numbers)

    def release_memory(self) -> None:
        """Give back to the system the memory that is kept for later calls, here and in the C library."""
        super().release_memory()
        BUFFERS.release()
        trim()

    def norm(self, arrays: Sequence[Any]) -> Any:
        """Return the root of the sum of all squares; see `recurray.backend.Backend.norm`."""
        total = sum(map(_sum_of_squares, arrays))
        if LEAST * sum([array.size for array in arrays]) < total < MOST:
            dtypes = {array.dtype for array in arrays}
            return np.asarray(math.sqrt(total), dtypes.pop() if len(dtypes) == 1 else np.result_type(*dtypes))
        return super().norm(arrays)

    def sum_rows(self, values: Any, index: Any, count: int) -> Any:
        """Add up the rows of ``values`` (N, n) by ``index`` (N,)."""
        result = np.zeros((count, values.shape[1]), values.dtype)
        if len(index):
            order = np.argsort(index, kind="stable")
            values, index = values[order], index[order]
            present, first, lengths = np.unique(index, return_index=True, return_counts=True)
            while lengths.max() > 2 * AT_A_TIME:  # some rows of an index at a time: see `recurray.arrays.sum_over_rows`
                place = np.arange(len(index)) - np.repeat(first, lengths)  # among those of the same index
                cuts = np.flatnonzero(place % AT_A_TIME == 0)
                values, index = np.add.reduceat(values, cuts, axis=0), index[cuts]
                _, first, lengths = np.unique(index, return_index=True, return_counts=True)
            result[present] = np.add.reduceat(values, first, axis=0)
        return result


def _sum_of_squares(a: Any) -> float:
    """Add up the squares of an array's numbers, along rows by BLAS: so no sum is of many, and none is shared out."""
    if a.size <= 8 * SQUARED:  # which BLAS does not share out; vdot, unlike dot, doesn't look for overflow
        return float(np.vdot(a, a))
    flat = a.ravel("K")
    whole = flat.size // SQUARED * SQUARED
    rows, rest = flat[:whole].reshape(-1, SQUARED), flat[whole:]
    with np.errstate(all="ignore"):
        return float(np.vecdot(rows, rows).sum(dtype=np.float64)) + float(rest.dot(rest))
