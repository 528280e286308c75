"""NumPy as a backend."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from recurray import parts
from recurray.arrays import AT_A_TIME
from recurray.backend import Backend, OneStep
from recurray.cells.cell import Cell, Weights
from recurray.messages import shown
from recurray.program import RecordingError
from recurray_numpy.backward import backward
from recurray_numpy.buffers import BUFFERS, trim
from recurray_numpy.compiled import compiled
from recurray_numpy.engines import find_engine
from recurray_numpy.forward import ScanCache, forward
from recurray_numpy.step import StackStep, step_of

TOGETHER = 512  # steps that an engine runs in one call


class NumpyBackend(Backend):
    """NumPy on the CPU.

    Cells are recorded and run as ufunc calls into preallocated buffers, with one product a step; see
    `recurray_numpy.forward`. A cell that can't be recorded runs by the reference path, after a warning.

    Parameters
    ----------
    device : "cpu" or None
        NumPy has one device.
    engine : str, optional
        What runs recurrences: "numpy", or the name of an installed engine; see `recurray_numpy.engines.find_engine`.
    """

    def __init__(self, device: Any = None, engine: str | None = None) -> None:
        if device not in (None, "cpu"):
            raise ValueError(f"NumPy's only device is 'cpu', not {shown(device)}")
        super().__init__(np)
        self.name = "numpy"
        self.engine = find_engine(engine)

    def __repr__(self) -> str:
        engine = "" if self.engine is None else f", engine {self.engine.name}"
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
        if self.engine is not None and self.engine.refuses(cell, weights, x) is None:
            return parts.forward(self.engine.scan_forward, TOGETHER, cell, weights, x, start, **options)
        try:
            compiled(cell)
        except RecordingError as error:
            warnings.warn(f"{type(cell).__name__} runs slowly, by the reference path: {error}", stacklevel=2)
            return super().scan_forward(cell, weights, x, start, **options)
        return forward(cell, weights, x, start, **options)

    def one_step(self, cell: Cell, weights: Sequence[Weights]) -> OneStep | None:
        """Return a fast way to take one step of one row, if the weights can be used as they lie; see `Backend`."""
        try:
            steps = [step_of(cell, of_layer) for of_layer in weights]
        except RecordingError:
            return None
        if any(step is None for step in steps):
            return None
        first, last = weights[0], weights[-1]
        size = len(first.input) // len(cell.input_gates)
        output = size if last.projection is None else len(last.projection)
        sizes = [output if state == "h" else size for state in cell.states]
        return StackStep([step for step in steps if step], first.input.shape[1], sizes, first.input.dtype)

    def scan_backward(
        self, cell: Cell, cache: Any, dy: Any, dend: tuple[Any, ...]
    ) -> tuple[Any, tuple[Any, ...], Weights]:
        """Backward through time; see `recurray.scan.backward`."""
        if self.engine is not None and self.engine.owns(cache):
            grads: tuple[Any, tuple[Any, ...], Weights] = self.engine.scan_backward(cell, cache, dy, dend)
            return grads
        if not isinstance(cache, ScanCache):
            return super().scan_backward(cell, cache, dy, dend)
        return backward(cell, cache, dy, dend)

    def release_memory(self) -> None:
        """Give back to the system the memory that is kept for later calls, here, in an engine and in the C library."""
        BUFFERS.release()
        if self.engine is not None:
            self.engine.release_memory()
        trim()

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
