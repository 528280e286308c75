"""Sizes at which the code goes on in another way, on both sides, on every engine, against the loop that has none.

`edges` lists them. The answer is `recurray.scan`'s, which runs any number of steps, rows and units in one piece.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import edges, here, obtain, why_absent
from harness.compare_scans import both_ways, scan_arguments
from harness.edges import EDGES, IN_C, IN_NUMPY, ON_GPU, Edge, Sizes
from recurray import scan
from recurray.arrays import AT_A_TIME, IN_BLOCK, MANY, SMALL, product_over_rows, sum_over_rows, tanh
from recurray.backend import Backend
from recurray.cells import Cell, CellGradients, DiagonalLSTMCell, GRUCell, LSTMCell, RNNCell
from recurray_numpy.backend import NumpyBackend
from recurray_numpy.buffers import LEAST, Buffers

if why_absent("native") is None:
    from recurray_native import library

    LEVELS = library.levels()
else:
    LEVELS = ("any",)


def check(run: Any, cell: Any, sizes: Sizes, **options: Any) -> None:
    """Compare a problem's results with the loop's; weights as they are drawn for a layer."""
    rng = np.random.default_rng(3)
    masked, reverse = options.pop("masked", False), options.pop("reverse", False)
    options.setdefault("ragged", False)
    weights, x, start, lengths = scan_arguments(
        cell, rng, batch=sizes.batch, steps=sizes.steps, size=sizes.units, features=sizes.features, **options
    )
    for field in ("input", "recurrent", "projection"):
        if getattr(weights, field) is not None:
            getattr(weights, field)[...] *= (sizes.units + sizes.features) ** -0.5
    both_ways(run.scan_forward, cell, weights, x, start, lengths, rng=rng, masked=masked, reverse=reverse)


def through(found: list[Edge]) -> Any:
    return pytest.mark.parametrize("edge", edges.named(found), ids=str)


@through(EDGES)
def test_the_numpy_engine_on_both_sides(edge: Edge) -> None:
    backend = NumpyBackend(engine="numpy")
    for k, sizes in enumerate(edge.problems):
        projected, last = 2 if "projected" in edge.name else 0, k == len(edge.problems) - 1
        check(backend, edge.cell, sizes, reverse=k % 2 == 1 and not last, ragged=last, projection=projected)


@pytest.mark.parametrize("level", LEVELS)
@through(EDGES)
def test_the_compiled_engine_on_both_sides(edge: Edge, level: str) -> None:
    """On each instruction set, whose vectors and register tiles differ."""
    engine = type(obtain("native"))(level=level)
    for k, sizes in enumerate(edge.problems):
        if edge in IN_NUMPY and edge.problems[-1].steps > 1000 and level != LEVELS[0]:
            continue  # long, and of no meaning to a vector
        projected, last = 2 if "projected" in edge.name else 0, k == len(edge.problems) - 1
        options = {"masked": k % 3 == 2, "reverse": k % 2 == 1 and not last, "ragged": last}
        check(engine, edge.cell, sizes, projection=projected, **options)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("level", LEVELS)
def test_every_register_tile(level: str, dtype: str) -> None:
    """All numbers of rows up to two tiles', with columns around a vector, a tile and what a row takes at a time."""
    engine = type(obtain("native"))(level=level)
    lanes = library.lanes(level, dtype == "float64")
    for columns in sorted({n for k in (1, 2, 3, 4) for n in edges.around(k * lanes)}):
        for batch in (1, 2, 3, 4, 5, 6, 7, 11, 12, 13):
            if columns:
                check(engine, RNNCell(), Sizes(batch, 2, columns, 3), dtype=dtype)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize(
    "cell", [LSTMCell(layer_norm=True), GRUCell(reset_after=False), DiagonalLSTMCell(True)], ids=repr
)
def test_the_compiled_engine_where_its_threads_share_rows_and_where_each_has_its_own(cell: Any, count: int) -> None:
    engine = obtain("native")
    import recurray_native

    for batch in edges.around(count * edges.ROWS_EACH):
        for units in edges.around(edges.BLOCK):
            with recurray_native.threads.limited_threads(count):
                check(engine, cell, Sizes(batch, 5, units, 40), ragged=batch % 2 == 0, masked=units % 2 == 0)


def test_sizes_that_stand_in_python_and_in_c_agree() -> None:
    for in_python, in_c in edges.AGREE.items():
        assert edges.in_python(in_python) == edges.in_c(in_c), in_c


@pytest.mark.parametrize(
    "platform", ["reference", *(pytest.param(name, marks=pytest.mark.slow) for name in here("torch", "jax"))]
)
@through([edge for edge in IN_NUMPY if edge.parts and edge.value < 100])
def test_parts_of_any_librarys_scan_on_both_sides(edge: Edge, platform: str) -> None:
    """By a layer of both directions, against the whole in one part; and computed again, which changes no bit."""
    if platform == "jax":
        edge = Edge(edge.name, edge.value, RNNCell(), edge.problems[2:3])  # it compiles each step
    backend = obtain(platform)
    whole = Backend(np)
    whole.steps_together = 1 << 30
    for sizes in edge.problems:
        lengths = [sizes.steps - 1, 0, sizes.steps // 2]
        expected, found, again = (
            layer_results(edge.cell, sizes, lengths, on, recompute=recompute)
            for on, recompute in ((whole, None), (backend, None), (backend, 1))
        )
        for name, value in found.items():
            assert value.tobytes() == again[name].tobytes(), name
            np.testing.assert_allclose(value, expected[name], rtol=0, atol=1e-11, err_msg=name)


def layer_results(cell: Any, sizes: Sizes, lengths: Any, backend: Backend, **options: Any) -> dict[str, np.ndarray]:
    shape = {"backend": backend, "dtype": "float64", "bidirectional": True, "seed": 0}
    layer = rr.Recurrent(cell, sizes.features, sizes.units, **shape, **options)
    rng = np.random.default_rng(4)
    features = (sizes.features, 2 * sizes.units)
    x, dy = (backend.asarray(rng.standard_normal((sizes.batch, sizes.steps, n))) for n in features)
    y, state, cache = layer.forward(x, lengths=lengths)
    dx, dstate, grads = layer.backward(cache, dy)
    named = {"y": y, "h": state.h, "dx": dx, "dh": dstate.h, **grads}
    return {name: backend.to_numpy(a) for name, a in named.items()}


def test_buffers_around_the_least_size_and_the_most_that_is_kept() -> None:
    for size in edges.around(LEAST):
        buffers = Buffers()
        a = buffers.empty((size,), np.dtype("uint8"))
        assert a.shape == (size,)
        del a
        assert (buffers.kept > 0) == (size >= LEAST)
    for most, kept in ((2 * LEAST - 1, LEAST), (2 * LEAST, 2 * LEAST), (3 * LEAST - 1, 2 * LEAST), (LEAST - 1, 0)):
        buffers = Buffers(most)
        lent = [buffers.empty((LEAST,), np.dtype("uint8")) for _ in range(2)]
        del lent
        assert buffers.kept == kept, most
        assert buffers.kept <= most
        lent = [buffers.empty((LEAST,), np.dtype("uint8")) for _ in range(3)]
        assert buffers.kept == 0
        lent[0][:] = 1
        assert not np.shares_memory(lent[0], lent[1])


@pytest.mark.parametrize("least", [1, 3000, 1 << 18])
def test_the_numpy_engine_whatever_fits_the_cache(least: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer steps are worked on at a time where their numbers are many: one, a few, all."""
    monkeypatch.setattr("recurray_numpy.forward.CHUNK_BYTES", least)
    backend = NumpyBackend(engine="numpy")
    for cell in (LSTMCell(layer_norm=True), DiagonalLSTMCell(True), GRUCell(reset_after=False)):
        for batch in (1, 5):
            for steps in (1, 2, 3, 4, 5, 8, 9, 17, 65):
                check(backend, cell, Sizes(batch, steps, 4, 3), ragged=steps == 17)


@pytest.mark.filterwarnings("ignore:.* by the strategy 'fused':UserWarning")  # where means are taken
@through([*ON_GPU, *(edge for edge in IN_C if edge.name == "rows of a register tile")])
def test_cupy_on_both_sides(edge: Edge) -> None:
    backend = obtain("cupy")
    for k, sizes in enumerate(edge.problems):
        rng = np.random.default_rng(3)
        options = {"batch": sizes.batch, "steps": sizes.steps, "size": sizes.units, "features": sizes.features}
        weights, x, start, _ = scan_arguments(edge.cell, rng, **options, ragged=False)
        for strategy in ("fused", "step", "persistent") if k < 3 else ("fused",):
            compare_on_device(rr.get_backend("cupy", strategy=strategy), edge.cell, weights, x, start)
    assert backend.name == "cupy"


def compare_on_device(backend: Backend, cell: Any, weights: Any, x: Any, start: Any) -> None:
    def handed(a: Any) -> Any:
        return None if a is None else backend.asarray(a)

    fields = ("input", "recurrent", "input_bias", "recurrent_bias", "projection")
    given = type(weights)(
        **{name: handed(getattr(weights, name)) for name in fields},
        pointwise={name: handed(a) for name, a in weights.pointwise.items()},
    )
    dy = np.random.default_rng(5).standard_normal((*x.shape[:2], start[0].shape[1]))
    found, expected = (
        both(scan_forward, *arrays)
        for scan_forward, *arrays in (
            (
                partial(backend.scan_forward, cell, given),
                handed(x),
                tuple(map(handed, start)),
                handed(dy),
            ),
            (partial(scan.forward, cell, weights), x, start, dy),
        )
    )
    for name, value in expected.items():
        scale = max(1.0, float(np.abs(value).max(initial=0)))
        np.testing.assert_allclose(backend.to_numpy(found[name]), value, rtol=0, atol=1e-11 * scale, err_msg=name)


def both(forward: Any, x: Any, start: Any, dy: Any) -> dict[str, Any]:
    y, end, cache = forward(x, start, keep=True)
    dx, dstart, grads = cache.backward(dy, start)
    named = {"y": y, "end": end[0], "dx": dx, "dstart": dstart[0], "input": grads.input, "bias": grads.input_bias}
    if grads.recurrent is not None:
        named["recurrent"] = grads.recurrent
    return named | dict(grads.pointwise)


@pytest.mark.parametrize(
    "count", [1, *edges.around(2 * AT_A_TIME), *edges.around(AT_A_TIME * (2 * AT_A_TIME + 1)), 9999]
)
def test_sums_on_both_sides_of_what_is_added_up_at_a_time(count: int, backend: Backend) -> None:
    """Of whole numbers, which have one sum."""
    rng = np.random.default_rng(6)
    a = rng.integers(-9, 10, size=(count, 3)).astype(float)
    np.testing.assert_array_equal(backend.to_numpy(sum_over_rows(backend.asarray(a))), a.sum(axis=0))
    index = np.where(rng.random(count) < 0.1, 2, 0)  # one that is there often, one seldom, one never
    found = backend.to_numpy(backend.sum_rows(backend.asarray(a), backend.asarray(index), 3))
    np.testing.assert_array_equal(found, [a[index == k].sum(axis=0) for k in range(3)])


@pytest.mark.parametrize(
    "count", [0, *edges.around(IN_BLOCK), *edges.around(40 * IN_BLOCK), *edges.around(2 * MANY), 150_000]
)
def test_products_over_rows_on_both_sides_of_their_blocks(count: int, backend: Backend) -> None:
    rng = np.random.default_rng(6)
    for columns in (1, 8) if count > 4 * IN_BLOCK else edges.around(SMALL // 32):
        a, b = (rng.integers(-9, 10, size=(count, n)).astype(float) for n in (32 if columns > 8 else 2, columns))
        found = backend.to_numpy(product_over_rows(backend.asarray(a), backend.asarray(b)))
        np.testing.assert_array_equal(found, a.T @ b)


def test_large_products_over_rows_are_cut_in_two() -> None:
    """Wider than what is multiplied a block at a time."""
    rng = np.random.default_rng(6)
    for count in (*edges.around(2 * MANY), 4 * MANY + 3):
        a, b = (rng.integers(-9, 10, size=(count, n)).astype(float) for n in (SMALL // 32, 33))
        np.testing.assert_array_equal(product_over_rows(a, b), a.T @ b)


class ManyGates(Cell):
    """A cell of six gates, more than any built-in one."""

    input_gates = recurrent_gates = ("a", "b", "c", "d", "e", "f")

    def step(self, x: Any, h: Any, before: Any, params: Any) -> Any:
        gates = {name: tanh(getattr(x, name) + getattr(h, name)) for name in self.input_gates}
        a, b, c, d, e, f = gates.values()
        return {"h": a * b + c * d + e * f}, gates

    def step_backward(self, d: Any, saved: Any, before: Any, params: Any) -> CellGradients:
        other = dict(zip("abcdef", "badcfe", strict=True))
        da = {k: d.h * getattr(saved, other[k]) * (1 - getattr(saved, k) * getattr(saved, k)) for k in other}
        return CellGradients(x=da, h=da, before={})


@pytest.mark.parametrize("engine", ["numpy", "native"])
@pytest.mark.parametrize("bias", [False, True])
def test_cells_of_many_gates(engine: str, bias: bool) -> None:
    backend = obtain(engine)
    for sizes in (Sizes(1, 5, 8, 8), Sizes(1, 3, 8, 8), Sizes(5, 6, 9, 3), Sizes(40, 3, 65, 2)):
        check(backend, ManyGates(), sizes, bias=bias, masked=sizes.batch == 5)
