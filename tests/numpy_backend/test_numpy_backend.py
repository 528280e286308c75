"""The NumPy backend's written code gives the reference path's numbers, for any cell, batch and lengths."""

from __future__ import annotations

from dataclasses import fields
from typing import get_args

import numpy as np
import pytest

from harness import compare_scans
from harness.compare_scans import SIZES, Averaging, scan_arguments
from harness.named_cell import CELLS as NAMED_CELLS
from harness.named_cell import NamedCell
from harness.random_cell import RandomCell
from recurray.arrays import namespace_of, sigmoid, tanh
from recurray.cells import (
    Cell,
    CellGradients,
    DiagonalLSTMCell,
    GRUCell,
    LSTMCell,
    MGUCell,
    RNNCell,
    SLSTMCell,
    Weights,
    ZoneoutCell,
)
from recurray_numpy.backend import NumpyBackend
from recurray_numpy.backward_loops import backward_loops
from recurray_numpy.forward_loop import forward_loop
from recurray_numpy.gate_order import order_of
from recurray_numpy.names import Word
from recurray_numpy.prepared import InOrder, Prepared, as_they_lie_for, for_backward
from recurray_numpy.runs import Run, cut

FAST = NumpyBackend(engine="numpy")


def both_ways(*arguments, **options):
    """Compare the backend's scan with the reference's."""
    compare_scans.both_ways(FAST.scan_forward, *arguments, **options)


@pytest.mark.parametrize("cell", [LSTMCell(), DiagonalLSTMCell(True), DiagonalLSTMCell(False)], ids=repr)
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_built_in_cells_equal_the_reference(cell, ragged, reverse):
    rng = np.random.default_rng(7)
    for batch, steps in SIZES:
        both_ways(cell, *scan_arguments(cell, rng, batch=batch, steps=steps, ragged=ragged), reverse=reverse, rng=rng)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
def test_projection_equals_the_reference(bias, batch):
    rng = np.random.default_rng(8)
    cell = LSTMCell()
    arguments = scan_arguments(cell, rng, batch=batch, steps=6, projection=2, bias=bias)
    both_ways(cell, *arguments, reverse=False, rng=rng)


@pytest.mark.parametrize("seed", range(60))
def test_random_cells_equal_the_reference(seed):
    rng = np.random.default_rng(seed)
    cell = RandomCell(seed)
    batch, steps = SIZES[seed % len(SIZES)]
    arguments = scan_arguments(cell, rng, batch=batch, steps=steps, ragged=seed % 2 == 0, bias=seed % 3 > 0)
    both_ways(cell, *arguments, reverse=seed % 4 > 1, rng=rng, masked=seed % 5 > 2)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("cell", NAMED_CELLS)
def test_a_cells_names_are_kept_apart_from_the_backends(cell, batch):
    rng = np.random.default_rng(14)
    arguments = scan_arguments(cell, rng, batch=batch, steps=5, projection=2 if cell.projectable else 0)
    for masked in (False, True) if cell.recurrent_gates else (False,):
        both_ways(cell, *arguments, reverse=False, rng=rng, masked=masked)


@pytest.mark.parametrize("vector", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_the_backends_own_names_leave_the_words_of_a_cells_names_alone(vector, masked):
    cells_own = {
        *("x_p", "z_q", "h_r", "h_s", "dx_p", "dz_q", "dh_r", "dh_s", "x_m", "saved_k", "param_1_u_a"),
        *("before_h", "after_h", "d_h", "before_c", "after_c", "state_c", "d_c"),
    }
    found = set()
    for cell in (NamedCell(), NamedCell(amid="s"), NamedCell(merged="", apart=""), NamedCell(projectable=True)):
        for training in (True, False):
            options = {"vector": vector, "masked": masked, "projected": cell.projectable}
            forward = forward_loop(order_of(cell), training=training, as_they_lie=False, **options)
            backward = backward_loops(order_of(cell), **options)
            for part in (forward.ahead, forward.loop, backward.ahead, backward.loop, backward.after):
                found |= {*part.timed, *part.shared, *part.numbers(np.dtype(float))}
    assert {name for name in found if name.partition("_")[0] in get_args(Word) and "_" in name} == cells_own


@pytest.mark.slow
@pytest.mark.parametrize("first", range(100, 700, 100))
def test_many_random_cells_equal_the_reference(first):
    for seed in range(first, first + 100):
        test_random_cells_equal_the_reference(seed)


def test_backward_in_several_chunks_equals_the_reference(monkeypatch):
    monkeypatch.setattr("recurray_numpy.forward.CHUNK_BYTES", 4000)
    rng = np.random.default_rng(9)
    for cell in (LSTMCell(), DiagonalLSTMCell(True)):
        for batch in (1, 3):
            both_ways(cell, *scan_arguments(cell, rng, batch=batch, steps=50), reverse=False, rng=rng)


@pytest.mark.parametrize("seed", [1, 3, 28])
def test_one_unit(seed):
    """NumPy's negative is wrong for some arrays whose elements are a few apart, as those of cells of one unit are."""
    cell, rng = RandomCell(seed), np.random.default_rng(seed)
    arguments = scan_arguments(cell, rng, batch=1, steps=20, size=1, ragged=False, dtype="float32")
    both_ways(cell, *arguments, rng=rng)


def test_runs_cover_every_valid_step_once():
    rng = np.random.default_rng(10)
    for reverse in (False, True):
        for _ in range(50):
            steps, batch = rng.integers(0, 7), rng.integers(0, 6)
            lengths = rng.integers(0, steps + 1, batch).tolist()
            seen = np.zeros((steps, batch), int)
            runs = cut(steps, batch, lengths, reverse)
            for run in runs:
                seen[run.first : run.last, runs.rows_of(run)] += 1
            np.testing.assert_array_equal(seen, np.arange(steps)[:, None] < np.array(lengths, int)[None, :])


@pytest.mark.parametrize(("steps", "size", "lie"), [(23, 2, True), (24, 2, False), (63, 64, True), (64, 64, False)])
def test_a_single_rows_weights_are_prepared_where_that_pays(steps, size, lie):
    weights, *_ = scan_arguments(LSTMCell(), np.random.default_rng(0), batch=1, steps=1, size=size)
    assert as_they_lie_for(steps, weights) == lie


def test_full_rows_are_one_run():
    assert cut(5, 2, [5, 5], reverse=False).runs == (Run(0, 5, 2),)
    assert cut(5, 2, [5, 5], reverse=False).order is None


def test_sigmoid_gates_of_the_lstm_share_one_activation():
    gates = order_of(LSTMCell()).gates
    assert gates.logistic == ("i", "f", "o")
    assert gates.activated == ("i", "f", "o", "g")
    options = {"vector": False, "as_they_lie": False, "projected": False, "masked": False}
    calls = forward_loop(order_of(LSTMCell()), training=True, **options).loop.calls
    assert len(calls) == 10, calls
    assert sum(call.function == "exp" for call in calls) == 1


@pytest.mark.parametrize("many", [0, 9])
def test_a_single_row_with_weights_prepared_or_as_they_lie(many, monkeypatch):
    monkeypatch.setattr("recurray_numpy.prepared.PREPARE_FROM", many)
    rng = np.random.default_rng(13)
    for seed in range(12):
        cell = RandomCell(seed)
        both_ways(cell, *scan_arguments(cell, rng, batch=1, steps=8), reverse=seed % 2 > 0, rng=rng)
    for cell in (LSTMCell(), LSTMCell(peepholes=True, coupled=True), GRUCell(), GRUCell(reset_after=False), RNNCell()):
        both_ways(cell, *scan_arguments(cell, rng, batch=1, steps=8), reverse=False, rng=rng)


def test_gates_without_a_product_share_one_activation():
    options = {"vector": False, "as_they_lie": False, "projected": False, "masked": False}
    for training in (True, False):
        loop = forward_loop(order_of(DiagonalLSTMCell(True)), training=training, **options)
        assert sum(call.function == "tanh" for call in loop.loop.calls) == 2, loop.loop.calls
        assert sum(call.function == "exp" for call in loop.loop.calls) == 1
        assert loop.joint.logistic == 3


class Bounded(Cell):
    """A cell with the same bound ahead of the loop and in it, and gates of one kind around another."""

    input_gates = ("a", "b", "c", "d")
    recurrent_gates = ("a", "b", "c")

    def step(self, x, h, before, params):
        clip = namespace_of(x.a).clip
        a, b, c = tanh(x.a + h.a), sigmoid(x.b + h.b), tanh(x.c + h.c)
        ahead, d = clip(x.d, -1.0, 1.0), clip(a + before.h, -1.0, 1.0)
        return {"h": b * c + ahead * d}, {"a": a, "b": b, "c": c, "ahead": ahead, "d": d, "x": x.d}

    def step_backward(self, d, saved, before, params):
        def within(a):
            return namespace_of(a).where(namespace_of(a).abs(a) < 1.0, namespace_of(a).ones_like(a), 0.0 * a)

        s = saved
        through = d.h * s.ahead * within(s.d)
        dx = {
            "a": through * (1 - s.a * s.a),
            "b": d.h * s.c * (s.b * (1 - s.b)),
            "c": d.h * s.b * (1 - s.c * s.c),
        }
        return CellGradients(x={**dx, "d": d.h * s.d * within(s.x)}, h=dx, before={"h": through})


@pytest.mark.parametrize("batch", [1, 3])
def test_bounds_ahead_of_the_loop_and_in_it_are_kept_apart(batch):
    rng = np.random.default_rng(15)
    both_ways(Bounded(), *scan_arguments(Bounded(), rng, batch=batch, steps=6), reverse=False, rng=rng)


def test_the_weights_of_a_few_steps_of_a_single_row_are_used_as_they_lie():
    rng = np.random.default_rng(11)
    for cell in (LSTMCell(), GRUCell(), GRUCell(reset_after=False), SLSTMCell(), RNNCell(), MGUCell()):
        weights, *_ = scan_arguments(cell, rng, batch=1, steps=6)
        prepared = Prepared(cell, order_of(cell).row_gates, weights, as_they_lie=True)
        used = InOrder(prepared, vector=True).arrays | for_backward(prepared, vector=True)
        for name in ("w_hidden", "w_inner", "w_projection"):
            assert used.get(name) is None or np.shares_memory(used[name], weights.recurrent), (cell, name)
        assert np.shares_memory(prepared.of_input(prepared.gates.merged), weights.input), cell


CELLS = [
    LSTMCell(),
    LSTMCell(layer_norm=True, peepholes=True, cell_clip=1.0),
    DiagonalLSTMCell(True),
    GRUCell(reset_after=False),
    SLSTMCell(),
    ZoneoutCell(LSTMCell(), 0.2, 0.3),
]


@pytest.mark.parametrize("cell", CELLS, ids=repr)
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_computing_again_changes_no_bit(cell, batch, dtype, monkeypatch):
    monkeypatch.setattr("recurray_numpy.products.COLUMNS", 100)
    rng = np.random.default_rng(12)
    for reverse, ragged in ((False, False), (True, True), (False, True)):
        weights, x, start, lengths = scan_arguments(
            cell, rng, batch=batch, steps=150, features=5, size=7, ragged=ragged
        )
        weights = Weights(**{f.name: rounded(getattr(weights, f.name), dtype) for f in fields(weights)})
        x, start = rounded(x, dtype), rounded(start, dtype)
        drawn = {name: (rng.random((150, batch, 7)) < p).astype(dtype) for name, p in cell.draws.items()}
        mask = ((rng.random((batch, 7)) < 0.5) * 2).astype(dtype)
        dy = rng.standard_normal((150, batch, 7)).astype(dtype)
        found = []
        for every in (None, 64, 128, 192):
            y, end, cache = FAST.scan_forward(
                cell,
                weights,
                x,
                start,
                lengths=lengths,
                reverse=reverse,
                draws=drawn,
                output_mask=mask if cell.recurrent_gates else None,
                recompute=every,
            )
            dx, dstart, grads = cache.backward(dy, tuple(dy[k] for k in range(len(start))))
            named = {f.name: getattr(grads, f.name) for f in fields(grads) if f.name != "pointwise"}
            found.append({"y": y, "end": end, "dx": dx, "dstart": dstart, **named, **grads.pointwise})
        plain, *others = found
        for other in others:
            for name, value in plain.items():
                np.testing.assert_array_equal(other[name], value, err_msg=f"{name} {reverse} {ragged}")


def rounded(a, dtype):
    if isinstance(a, dict):
        return {name: rounded(value, dtype) for name, value in a.items()}
    if isinstance(a, tuple):
        return tuple(rounded(value, dtype) for value in a)
    return None if a is None else a.astype(dtype)


def test_equal_cells_are_compiled_once():
    assert order_of(LSTMCell()) is order_of(LSTMCell())
    assert order_of(DiagonalLSTMCell(True)) is not order_of(DiagonalLSTMCell(False))


def test_a_cell_that_cannot_be_recorded_runs_by_the_reference_with_a_warning():
    rng = np.random.default_rng(11)
    weights, x, start, lengths = scan_arguments(Averaging(), rng, batch=2, steps=5)
    with pytest.warns(UserWarning, match="Averaging runs slowly"):
        both_ways(Averaging(), weights, x, start, lengths, reverse=False, rng=rng)
