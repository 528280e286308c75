"""Checking gradients against finite differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from recurray import checks
from recurray.arrays import Array, to_numpy
from recurray.backend import Backend
from recurray.cells.cell import Cell, check_declared
from recurray.cells.contract import check_names
from recurray.layers.layer import Layer
from recurray.layers.static_input import InputGradients
from recurray.layers.trial import Trial, fault_of
from recurray.messages import in_words
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
    fault: str = ""  # what is wrong with the gradient apart from its numbers


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
                in_words(row.shape),
                str(row.checked),
                f"{row.error:.1e}",
                f"{row.scale:.1e}",
                "ok" if row.ok else f"WRONG: {row.fault}" if row.fault else "WRONG",
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
    mask: Any = None,
    resets: Any = None,
    static: Any = None,
    batch: int | None = None,
    steps: int | None = None,
    training: bool = True,
    samples: int = 40,
    tolerance: float = 1e-6,
    backend: Any = None,
    seed: int = 0,
) -> GradientReport:
    """Compare the gradients of a layer or cell with central finite differences, in float64.

    The loss is a random linear function of the output and the final state, so that mistakes in either's gradient
    show, and the start state is random. Compared are the gradients of the input, the start state and every param.
    Shapes are checked too, and that in float32 all is float32.

    Parameters
    ----------
    layer_or_cell : Layer or Cell
        A layer of any dtype (a float64 copy is checked), or a cell.
    x : array, optional
        The input of a layer, of any array library; a random one if omitted.
    lengths : sequence of int, optional
        The lengths of the rows.
    mask, resets : array of bool, optional
        Which steps are valid, and where rows are cut, in the layer's layout; see `Layer.forward`.
    static : array, optional
        The input that doesn't change over time, of a layer that takes one; a random one if omitted.
    batch, steps : int
        The size of the random input: as ``lengths``, ``mask`` or ``resets`` have it, else 2 rows of 5 steps.
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
    ValueError
        It returns other names than it should, or forward returns another shape or dtype (of a gradient, the report
        says so).

    Examples
    --------
    >>> import recurray as rr
    >>> report = rr.check_gradients(rr.LSTM(3, 4, seed=0))
    >>> report.ok
    True
    >>> print(str(report).splitlines()[0])
    gradient of   shape      checked  error    scale
    """
    seed = checks.size("seed", seed, least=0)
    rng = np.random.default_rng(seed)
    checks.size("samples", samples)
    checks.flag("training", training)
    tolerance = checks.finite("tolerance", tolerance)
    which = {"lengths": lengths, "mask": mask, "resets": resets}
    if isinstance(layer_or_cell, Layer):
        layer = layer_or_cell
        batch, steps = _size(layer, which, batch, steps)
        x = layer.random_input(rng, checks.size("batch", batch), checks.size("steps", steps)) if x is None else x
        x = to_numpy(x)
        if static is None and layer.static_size:
            axis = 1 if getattr(layer, "batch_first", None) is False else 0
            static = rng.standard_normal((*x.shape[axis : axis + 1], layer.static_size))
        static = None if static is None else to_numpy(static)
        problem = _layer_problem(layer, x, static, which, training, rng, seed)
    elif isinstance(layer_or_cell, Cell):
        check_declared(layer_or_cell)
        rows = checks.size("batch", 2 if batch is None else batch)
        problem = _cell_problem(layer_or_cell, get_backend(backend), rows, rng)
    else:
        raise TypeError(f"expected a recurray layer or cell, not {type(layer_or_cell).__name__}")
    return GradientReport(tuple(_compare(problem, name, samples, tolerance, rng) for name in problem.arrays), tolerance)


def _size(layer: Layer, which: Mapping[str, Any], batch: int | None, steps: int | None) -> tuple[int, int]:
    """The size of the random input: as asked for, else as what says which steps are valid has it."""
    rows, time = 2, 5
    for value in which.values():
        size: tuple[int, ...] = () if value is None else np.shape(to_numpy(value))
        if getattr(layer, "batch_first", None) is False:
            size = size[::-1]
        if size:
            rows = max(1, size[0])
        if len(size) == 2:
            time = size[1]
    return rows if batch is None else batch, time if steps is None else steps


class _Gradient(NamedTuple):
    """What backward gives for an array."""

    value: Any  # a NumPy array, or None where it can't be compared
    fault: str = ""


class _Problem(NamedTuple):
    """The loss as a function of named NumPy arrays, the arrays, and the gradients that backward gives for them."""

    loss: Callable[[dict[str, Any]], float]
    arrays: dict[str, Any]
    gradients: dict[str, _Gradient]


def _gradient(backend: Backend, value: Any, shape: tuple[int, ...], single: Any) -> _Gradient:
    """See whether a gradient is what it should be; ``single`` is the one of the same computation in float32."""
    for array, dtype in ((value, "float64"), (single, "float32")):
        fault = fault_of(backend, array, shape, dtype)
        if fault:
            return _Gradient(None, fault)
    found = backend.to_numpy(value)
    return _Gradient(found, "" if np.isfinite(found).all() else "not all of it is finite")


# Layers ---------------------------------------------------------------------------------------------------------------


def _layer_problem(
    given: Layer,
    x: Any,
    static: Any,
    which: Mapping[str, Any],
    training: bool,
    rng: np.random.Generator,
    seed: int,
) -> _Problem:
    backend = given.backend
    layer, single = given.astype("float64"), given.astype("float32")
    arrays = {name: backend.to_numpy(value) for name, value in layer.params.items()}
    if x.dtype.kind == "f":
        arrays["x"] = x.astype(np.float64)
    if static is not None:
        arrays["static"] = static.astype(np.float64)

    def options(layer: Layer, values: dict[str, Any]) -> dict[str, Any]:
        if static is None:
            return dict(which)
        return {**which, "static": backend.asarray(values["static"].copy(), layer.dtype)}

    y, end, _ = layer.forward(backend.asarray(arrays.get("x", x)), training=False, **options(layer, arrays))
    dy = rng.standard_normal(y.shape)
    dend = {name: rng.standard_normal(value.shape) for name, value in _leaves("end", end)}
    arrays |= {name: rng.standard_normal(value.shape) for name, value in _leaves("start", end)}

    def run(layer: Layer, values: dict[str, Any]) -> tuple[Array, Any, Any]:
        for name in layer.params:
            layer.params[name] = backend.asarray(values[name].copy(), layer.dtype)
        start = _rebuilt("start", end, values, backend, layer.dtype)
        again = np.random.default_rng(seed)  # the same elements are dropped in every run
        x_now = backend.asarray(values["x"].copy(), layer.dtype) if "x" in values else backend.asarray(x.copy())
        return layer.forward(x_now, start, training=training, rng=again, **options(layer, values))

    def loss(values: dict[str, Any]) -> float:
        y, end, _ = run(layer, values)
        ends = sum(np.sum(dend[name] * backend.to_numpy(value)) for name, value in _leaves("end", end))
        return float(np.sum(dy * backend.to_numpy(y)) + ends)

    def gradients(layer: Layer) -> dict[str, Any]:
        y, end, cache = run(layer, arrays)
        for name, value in {"y": y, **dict(_leaves("end", end))}.items():
            fault = fault_of(backend, value, np.shape(dy if name == "y" else dend[name]), layer.dtype)
            if fault:
                raise ValueError(f"{type(layer).__name__}.forward returned a wrong {name}: {fault}")
        dend_now = _rebuilt("end", end, dend, backend, layer.dtype)
        dx, dstart, grads = layer.backward(cache, backend.asarray(dy, layer.dtype), dend_now)
        check_names(layer, "backward", "gradients of params", grads, tuple(layer.params), some=True)
        inputs = dx._asdict() if isinstance(dx, InputGradients) else {"x": dx}
        return {**grads, **inputs, **dict(_leaves("start", dstart))}

    doubles, singles = gradients(layer), gradients(single)
    found = {
        name: _gradient(backend, doubles.get(name), value.shape, singles.get(name)) for name, value in arrays.items()
    }
    return _Problem(loss, arrays, found)


# Cells ----------------------------------------------------------------------------------------------------------------


def _cell_problem(cell: Cell, backend: Backend, batch: int, rng: np.random.Generator) -> _Problem:
    size = 3
    shape = (batch, size)
    arrays = {f"x.{gate}": rng.standard_normal(shape) for gate in cell.input_gates}
    arrays |= {f"h.{gate}": rng.standard_normal(shape) for gate in cell.recurrent_gates}
    arrays |= {f"before.{name}": rng.standard_normal(shape) for name in cell.states}
    for name, row_names in cell.pointwise.items():
        arrays |= {f"params.{name}.{row}": rng.standard_normal(size) for row in row_names}
    d = {name: rng.standard_normal(shape) for name in cell.states}
    fixed = {f"x.{name}": (rng.random(shape) < p) * 1.0 for name, p in cell.draws.items()}
    fixed |= {f"weight.{gate}": rng.standard_normal((size, size)) for gate in cell.inner_gates}

    def trial(values: Mapping[str, Any], dtype: str) -> Trial:
        return Trial(cell, backend, shape, dtype, {**values, **fixed})

    def loss(values: dict[str, Any]) -> float:
        after = trial(values, "float64").after
        return float(sum(np.sum(d[name] * backend.to_numpy(after[name])) for name in cell.states))

    double, single = (trial(arrays, dtype).backward(d) for dtype in ("float64", "float32"))
    gradients = {}
    for name in arrays:
        found = _gradient(backend, double.get(name), shape, single.get(name))
        if name.startswith("params.") and found.value is not None:  # the scan adds up what the rows of the batch have
            found = found._replace(value=found.value.sum(axis=0))
        gradients[name] = found
    return _Problem(loss, arrays, gradients)


# Both -----------------------------------------------------------------------------------------------------------------


def _compare(problem: _Problem, name: str, samples: int, tolerance: float, rng: np.random.Generator) -> GradientRow:
    value, gradient = problem.arrays[name], problem.gradients[name]
    chosen = rng.permutation(value.size)[:samples]
    if gradient.value is None:
        return GradientRow(name, value.shape, 0, np.inf, 0.0, ok=False, fault=gradient.fault)
    error = scale = 0.0
    for position in chosen:
        ends = []
        for step in (STEP, -STEP):
            moved = value.copy()
            moved.flat[position] += step
            ends.append(problem.loss(problem.arrays | {name: moved}))
        difference = (ends[0] - ends[1]) / (2 * STEP)
        error = np.fmax(error, abs(difference - gradient.value.flat[position])) if np.isfinite(difference) else np.inf
        scale = max(scale, abs(difference))
    ok = not gradient.fault and error <= tolerance * scale + FLOOR
    return GradientRow(name, value.shape, len(chosen), error, scale, ok, gradient.fault)


def _leaves(name: str, state: Any) -> Iterator[tuple[str, Array]]:
    """The arrays of a state, however layers nest it, by dotted names."""
    if isinstance(state, tuple):
        fields = getattr(state, "_fields", range(len(state)))
        for field, value in zip(fields, state, strict=True):
            yield from _leaves(f"{name}.{field}", value)
    elif state is not None:
        yield name, state


def _rebuilt(name: str, like: Any, values: dict[str, Any], backend: Backend, dtype: str) -> Any:
    """The inverse of `_leaves`: a state of the form of ``like`` from arrays by dotted names."""
    if isinstance(like, tuple):
        fields = getattr(like, "_fields", range(len(like)))
        inner = zip(fields, like, strict=True)
        parts = [_rebuilt(f"{name}.{field}", value, values, backend, dtype) for field, value in inner]
        return type(like)(*parts) if hasattr(like, "_fields") else tuple(parts)
    return None if like is None else backend.asarray(values[name].copy(), dtype)
