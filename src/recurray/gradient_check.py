"""Checking gradients against finite differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from recurray.arrays import Array, to_numpy
from recurray.backend import Backend
from recurray.cells.cell import Cell, named
from recurray.layers import checks
from recurray.layers.layer import Layer
from recurray.selector import get_backend

STEP = 1e-5  # of the differences: truncation, about STEP**2, and rounding, about 1e-16 / STEP, are then alike
FLOOR = 1e-8  # what rounding leaves of a gradient that is zero


@dataclass(frozen=True)
class GradientRow:
    """How the gradient of one array compares."""

    name: str
    shape: tuple[int, ...]
    checked: int  # how many elements were compared
    error: float  # largest difference
    scale: float  # largest element of the finite differences
    ok: bool


@dataclass(frozen=True)
class GradientReport:
    """The result of `check_gradients`: a row for each array, and `ok` if all agree. As text it is a table."""

    rows: tuple[GradientRow, ...]
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether all gradients agree with the finite differences."""
        return all(row.ok for row in self.rows)

    def __str__(self) -> str:
        header = ("gradient of", "shape", "checked", "error", "scale", "")
        table = [header] + [
            (
                row.name,
                checks.in_words(row.shape),
                str(row.checked),
                f"{row.error:.1e}",
                f"{row.scale:.1e}",
                "ok" if row.ok else "WRONG",
            )
            for row in self.rows
        ]
        widths = [max(len(line[k]) for line in table) for k in range(len(header))]
        return "\n".join(
            "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in table
        )


def check_gradients(
    layer_or_cell: Layer | Cell,
    x: Any = None,
    *,
    lengths: Any = None,
    batch: int = 2,
    steps: int = 5,
    training: bool = True,
    samples: int = 40,
    tolerance: float = 1e-6,
    backend: Any = None,
    seed: int = 0,
) -> GradientReport:
    """Compare the gradients of a layer or cell with central finite differences, in float64.

    The loss is a random linear function of the output and the final state, so that mistakes in either's gradient
    show, and the start state is random. Compared are the gradients of the input, the start state and every param.

    Parameters
    ----------
    layer_or_cell : Layer or Cell
        A layer of any dtype (a float64 copy is checked), or a cell.
    x : array, optional
        The input of a layer, of any array library; a random one if omitted.
    lengths : sequence of int, optional
        The lengths of the rows.
    batch, steps : int
        The size of the random input.
    training : bool
        Whether dropout is active; the same elements are then dropped in every run.
    samples : int
        How many elements of each array are compared at most, chosen at random.
    tolerance : float
        The largest error allowed, relative to the largest element of an array's gradient.
    backend : optional
        The backend for a cell; a layer has its own.
    seed : int
        Makes the check repeatable.

    Returns
    -------
    GradientReport
        ``report.ok`` tells whether all agree; as text the report is a table.

    Raises
    ------
    TypeError
        ``layer_or_cell`` is neither.

    Examples
    --------
    >>> import recurray as rr
    >>> report = rr.check_gradients(rr.LSTM(3, 4, seed=0))
    >>> report.ok
    True
    >>> print(str(report).splitlines()[0])
    gradient of   shape      checked  error    scale
    """
    rng = np.random.default_rng(seed)
    checks.size("samples", samples)
    if isinstance(layer_or_cell, Layer):
        problem = _layer_problem(layer_or_cell.astype("float64"), x, lengths, batch, steps, training, rng, seed)
    elif isinstance(layer_or_cell, Cell):
        problem = _cell_problem(layer_or_cell, get_backend(backend), checks.size("batch", batch), rng)
    else:
        raise TypeError(f"expected a recurray layer or cell, not {type(layer_or_cell).__name__}")
    loss, arrays, gradients = problem
    rows = tuple(
        _compare(name, loss, arrays, gradients[name], samples, tolerance, rng) for name in arrays if name in gradients
    )
    return GradientReport(rows, tolerance)


# The loss as a function of named NumPy arrays, the arrays, and the gradients that backward gives for them.
Problem = tuple[Callable[[dict[str, Any]], float], dict[str, Any], dict[str, Any]]


def _layer_problem(
    layer: Layer, x: Any, lengths: Any, batch: int, steps: int, training: bool, rng: np.random.Generator, seed: int
) -> Problem:
    backend = layer.backend
    x = layer.random_input(rng, checks.size("batch", batch), checks.size("steps", steps)) if x is None else to_numpy(x)
    arrays = {name: backend.to_numpy(value) for name, value in layer.params.items()}
    if x.dtype.kind == "f":
        arrays["x"] = x.astype(np.float64)

    y, end, _ = layer.forward(backend.asarray(arrays.get("x", x)), lengths=lengths, training=False)
    dy = rng.standard_normal(y.shape)
    dend = {name: rng.standard_normal(value.shape) for name, value in _leaves("end", end)}
    arrays |= {name: rng.standard_normal(value.shape) for name, value in _leaves("start", end)}

    def run(values: dict[str, Any]) -> tuple[Array, Any, Any]:
        for name in layer.params:
            layer.params[name] = backend.asarray(values[name].copy())
        start = _rebuilt("start", end, values, backend)
        again = np.random.default_rng(seed)  # the same elements are dropped in every run
        return layer.forward(backend.asarray(values.get("x", x).copy()), start, lengths, training, again)

    def loss(values: dict[str, Any]) -> float:
        y, end, _ = run(values)
        ends = sum(np.sum(dend[name] * backend.to_numpy(value)) for name, value in _leaves("end", end))
        return float(np.sum(dy * backend.to_numpy(y)) + ends)

    _, _, cache = run(arrays)
    dx, dstart, grads = layer.backward(cache, backend.asarray(dy), _rebuilt("end", end, dend, backend))
    gradients = {name: backend.to_numpy(value) for name, value in grads.items()}
    gradients |= {name: backend.to_numpy(value) for name, value in _leaves("start", dstart)}
    if dx is not None:
        gradients["x"] = backend.to_numpy(dx)
    return loss, arrays, gradients


def _cell_problem(cell: Cell, backend: Backend, batch: int, rng: np.random.Generator) -> Problem:
    size = 3
    arrays = {f"x.{gate}": rng.standard_normal((batch, size)) for gate in cell.input_gates}
    arrays |= {f"h.{gate}": rng.standard_normal((batch, size)) for gate in cell.recurrent_gates}
    arrays |= {f"before.{name}": rng.standard_normal((batch, size)) for name in cell.states}
    for name, row_names in cell.pointwise.items():
        arrays |= {f"params.{name}.{row}": rng.standard_normal(size) for row in row_names}
    d = {name: rng.standard_normal((batch, size)) for name in cell.states}

    def group(prefix: str, names: tuple[str, ...], values: dict[str, Any]) -> Any:
        return named(names)(*(backend.asarray(values[f"{prefix}.{name}"]) for name in names))

    def run(values: dict[str, Any]) -> tuple[dict[str, Array], dict[str, Array], Any, Any]:
        before = group("before", cell.states, values)
        params = named(tuple(cell.pointwise))(
            *(group(f"params.{name}", row_names, values) for name, row_names in cell.pointwise.items())
        )
        x = group("x", cell.input_gates, values)
        h = group("h", cell.recurrent_gates, values)
        return *cell.step(x, h, before, params), before, params

    def loss(values: dict[str, Any]) -> float:
        after = run(values)[0]
        return float(sum(np.sum(d[name] * backend.to_numpy(after[name])) for name in cell.states))

    _, saved, before, params = run(arrays)
    gradients = cell.step_backward(
        named(cell.states)(*(backend.asarray(d[name]) for name in cell.states)),
        named(tuple(saved))(**saved),
        before,
        params,
    )
    found = {f"x.{gate}": gradients.x[gate] for gate in cell.input_gates}
    found |= {f"h.{gate}": gradients.h[gate] for gate in cell.recurrent_gates}
    found |= {f"before.{name}": gradients.before[name] for name in cell.states if name in gradients.before}
    result = {f"before.{name}": np.zeros((batch, size)) for name in cell.states}
    result |= {name: backend.to_numpy(value) for name, value in found.items()}
    for name, row_names in cell.pointwise.items():
        for row in row_names:
            result[f"params.{name}.{row}"] = backend.to_numpy(gradients.params[name][row]).sum(axis=0)
    return loss, arrays, result


def _compare(
    name: str,
    loss: Callable[[dict[str, Any]], float],
    arrays: dict[str, Any],
    gradient: Any,
    samples: int,
    tolerance: float,
    rng: np.random.Generator,
) -> GradientRow:
    value = arrays[name]
    chosen = rng.permutation(value.size)[:samples]
    error = scale = 0.0
    for position in chosen:
        ends = []
        for step in (STEP, -STEP):
            moved = value.copy()
            moved.flat[position] += step
            ends.append(loss(arrays | {name: moved}))
        difference = (ends[0] - ends[1]) / (2 * STEP)
        error = np.fmax(error, abs(difference - gradient.flat[position])) if np.isfinite(difference) else np.inf
        scale = max(scale, abs(difference))
    fits = gradient.shape == value.shape and bool(np.isfinite(gradient).all())
    return GradientRow(name, value.shape, len(chosen), error, scale, fits and error <= tolerance * scale + FLOOR)


def _leaves(name: str, state: Any) -> Iterator[tuple[str, Array]]:
    """The arrays of a state, however layers nest it, by dotted names."""
    if isinstance(state, tuple):
        fields = getattr(state, "_fields", range(len(state)))
        for field, value in zip(fields, state, strict=True):
            yield from _leaves(f"{name}.{field}", value)
    elif state is not None:
        yield name, state


def _rebuilt(name: str, like: Any, values: dict[str, Any], backend: Backend) -> Any:
    """The inverse of `_leaves`: a state of the form of ``like`` from arrays by dotted names."""
    if isinstance(like, tuple):
        fields = getattr(like, "_fields", range(len(like)))
        parts = [_rebuilt(f"{name}.{field}", value, values, backend) for field, value in zip(fields, like, strict=True)]
        return type(like)(*parts) if hasattr(like, "_fields") else tuple(parts)
    return None if like is None else backend.asarray(values[name].copy())
