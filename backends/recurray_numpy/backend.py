"""NumPy as a backend."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from recurray.backend import Backend
from recurray.cells.cell import Cell, Weights
from recurray.recording import RecordingError
from recurray_numpy.backward import backward
from recurray_numpy.compiled import compiled
from recurray_numpy.engines import find_engine
from recurray_numpy.forward import ScanCache, forward


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
            raise ValueError(f"NumPy's only device is 'cpu', not {device!r}")
        super().__init__(np)
        self.name = "numpy"
        self.engine = find_engine(engine)

    def scan_forward(
        self, cell: Cell, weights: Weights, x: Any, start: tuple[Any, ...], **options: Any
    ) -> tuple[Any, tuple[Any, ...], Any]:
        """Run a cell over time; see `recurray.scan.forward`."""
        if self.engine is not None and self.engine.refuses(cell, weights, x) is None:
            run: tuple[Any, tuple[Any, ...], Any] = self.engine.scan_forward(cell, weights, x, start, **options)
            return run
        try:
            compiled(cell)
        except RecordingError as error:
            warnings.warn(f"{type(cell).__name__} runs slowly, by the reference path: {error}", stacklevel=2)
            return super().scan_forward(cell, weights, x, start, **options)
        return forward(cell, weights, x, start, **options)

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

    def sum_rows(self, values: Any, index: Any, count: int) -> Any:
        """Add up the rows of ``values`` (N, n) by ``index`` (N,), in the order in which they stand."""
        result = np.zeros((count, values.shape[1]), values.dtype)
        if len(index):
            order = np.argsort(index, kind="stable")
            present, first = np.unique(index[order], return_index=True)
            result[present] = np.add.reduceat(values[order], first, axis=0)
        return result
