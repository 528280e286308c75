"""Trying out a cell: one step of it on small arrays, and whether what it returns is of the kind that it should be."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from recurray.arrays import Array
from recurray.backend import Backend
from recurray.cells.cell import Cell, check_declared, named
from recurray.cells.contract import checked_gradients, checked_step
from recurray.messages import in_words
from recurray.program import RecordingError, record

SHAPE = (2, 3)


def check_cell(cell: Cell, backend: Backend) -> None:
    """Refuse a cell that returns anything of a wrong name, shape or dtype; nothing is said of the numbers."""
    check_declared(cell)
    try:
        record(cell)
    except RecordingError:  # it may be anything, and another thing the next time
        _try(cell, backend)
    else:
        _try_once(cell, backend)


def _try(cell: Cell, backend: Backend) -> None:
    names = [f"x.{name}" for name in (*cell.input_gates, *cell.draws)]
    names += [f"h.{gate}" for gate in cell.recurrent_gates] + [f"before.{name}" for name in cell.states]
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(names, SHAPE)
    shapes |= {f"params.{name}.{row}": SHAPE[1:] for name, rows in cell.pointwise.items() for row in rows}
    shapes |= {f"weight.{gate}": (SHAPE[1], SHAPE[1]) for gate in cell.inner_gates}
    xp, dtype, device = backend.xp, backend.xp.float32, backend.device
    values = {name: xp.full(shape, 0.5, dtype=dtype, device=device) for name, shape in shapes.items()}
    trial = Trial(cell, backend, SHAPE, "float32", values)
    for name, gradient in trial.backward({name: values[f"before.{name}"] for name in cell.states}).items():
        fault = fault_of(backend, gradient, SHAPE, "float32")
        if fault:
            raise ValueError(f"{type(cell).__name__}.step_backward returned a wrong gradient of {name}: {fault}")


_try_once = lru_cache(maxsize=256)(_try)


class Trial:
    """One step of a cell, with a check of what it returns.

    An inner gate's product is with a matrix "weight.<gate>"; to that is added what `values` holds for the gate.
    """

    def __init__(
        self, cell: Cell, backend: Backend, shape: tuple[int, ...], dtype: str, values: Mapping[str, Any]
    ) -> None:
        self.cell, self.backend, self.shape, self.dtype = cell, backend, shape, dtype

        def group(prefix: str, names: tuple[str, ...]) -> Any:
            return named(names)(*(backend.asarray(values[f"{prefix}.{name}"], dtype) for name in names))

        rows = (group(f"params.{name}", row_names) for name, row_names in cell.pointwise.items())
        self.params, self.before = named(tuple(cell.pointwise))(*rows), group("before", cell.states)
        self.weights = group("weight", cell.inner_gates)
        x, h = group("x", (*cell.input_gates, *cell.draws)), group("h", cell.outer_gates)
        if cell.inner_gates:
            inner = cell.inner(x, h, self.before, self.params)
            self._check("inner", "result", inner)
            added_to = group("h", cell.inner_gates)
            products = (inner @ weight + extra for weight, extra in zip(self.weights, added_to, strict=True))
            h = named((*cell.outer_gates, *cell.inner_gates))(*h, *products)
        self.after, saved = checked_step(cell, x, h, self.before, self.params)
        for name, value in self.after.items():
            self._check("step", f"state {name!r}", value)
        self.saved = named(tuple(saved))(**saved)

    def backward(self, d: Mapping[str, Any]) -> dict[str, Any]:
        """The gradients, by the names of what they are the gradients of."""
        ends = named(self.cell.states)(*(self.backend.asarray(d[name], self.dtype) for name in self.cell.states))
        grads = checked_gradients(self.cell, ends, self.saved, self.before, self.params, self._through_inner)
        found = {f"x.{gate}": value for gate, value in grads.x.items()}
        found |= {f"h.{gate}": value for gate, value in grads.h.items()}
        found |= {f"before.{name}": grads.before.get(name, 0 * value) for name, value in self.before._asdict().items()}
        return found | {f"params.{name}.{row}": a for name, rows in grads.params.items() for row, a in rows.items()}

    def _through_inner(self, dh: Mapping[str, Array]) -> Array:
        for gate in self.cell.inner_gates:
            self._check("step_backward", f"gradient of the recurrent gate {gate!r}", dh[gate])
        terms = [dh[gate] @ weight.T for gate, weight in self.weights._asdict().items()]
        return sum(terms[1:], start=terms[0])

    def _check(self, method: str, what: str, value: Any) -> None:
        fault = fault_of(self.backend, value, self.shape, self.dtype)
        if fault:
            raise ValueError(f"{type(self.cell).__name__}.{method} returned a wrong {what}: {fault}")


def fault_of(backend: Backend, value: Any, shape: tuple[int, ...], dtype: str) -> str:
    """What is wrong with an array, apart from its numbers; nothing if it is right."""
    if value is None:
        return "it is missing"
    if not backend.owns(value):
        return f"it is of the type {type(value).__name__}, not an array of the backend {backend.name!r}"
    if tuple(value.shape) != shape:
        return f"its shape is {in_words(value.shape)}, not {in_words(shape)}"
    found = str(value.dtype).rpartition(".")[2]
    return "" if found == dtype else f"it is {found} where all else is {dtype}"
