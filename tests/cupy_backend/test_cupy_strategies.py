"""The strategies of the CuPy backend: the rule, the kernels that make the recurrent product, what happens on faults.

No GPU is needed: kernels run as C++ on the CPU, with threads for the threads of all blocks.
"""

from __future__ import annotations

import itertools
import re
import subprocess
import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from harness.cells import CELLS
from harness.compare_scans import TwoStates, both_ways, scan_arguments, scan_by
from harness.cuda import nvrtc
from harness.cuda.compilers import ARCHITECTURES, compile_for_gpus, nvcc, recurrences
from harness.cuda.host_backend import backend_on
from harness.cuda.host_cpp import HEAD, SMALL, HostLibrary
from harness.cuda.layouts import H200, LARGE, Forced
from harness.needs import needs_compiler, needs_nvcc, needs_nvrtc
from recurray import scan
from recurray.cells import DiagonalLSTMCell, GRUCell, LSTMCell, RNNCell, ZoneoutCell
from recurray_cupy import costs, persistent
from recurray_cupy.backward import backward
from recurray_cupy.compiled import Way
from recurray_cupy.costs import Work
from recurray_cupy.forward import forward
from recurray_cupy.graphs import MOST, Graphs
from recurray_cupy.library import CompilationError, Device, DoesNotFitError
from recurray_cupy.persistent import Plan
from recurray_cupy.persistent.layout import TILES, layout_for
from recurray_cupy.persistent.of_cell import recurrence_of, why_not
from recurray_cupy.persistent.recurrence import MOST_PLANS
from recurray_cupy.strategies import STRATEGIES, WHOLE, Call, estimates, strategies_for

T4 = Device(multiprocessors=40, shared=65_536)
DENSE = [cell for cell in (*CELLS, TwoStates()) if why_not(cell, projected=False) is None]


# Layouts --------------------------------------------------------------------------------------------------------------


def work(batch, units, *, itemsize=4, backward=False):
    recurrence = recurrence_of(LSTMCell(), Way.BACKWARD if backward else Way.TRAINING)
    return recurrence.work(batch, units, itemsize)


def test_what_a_step_of_the_lstm_is():
    # for each gate what comes of the input; two biases
    assert work(3, 5) == Work(batch=3, units=5, parts=4, depth=5, early=4, fixed=8, carried=2, itemsize=4)
    # dy, c before the step, and what was saved: i f g o and tanh(c)
    assert work(3, 5, backward=True) == Work(
        batch=3, units=5, parts=1, depth=20, early=7, fixed=0, carried=2, itemsize=4
    )


@pytest.mark.parametrize("device", [H200, T4, SMALL], ids=["H200", "T4", "small"])
@pytest.mark.parametrize("resident", [False, True])
@pytest.mark.parametrize("backward", [False, True])
def test_layouts_cover_everything_and_fit(device, resident, backward):
    found = streamed = 0
    for batch, units, itemsize in itertools.product([1, 2, 31, 64, 256], [1, 3, 50, 128, 500, 1024, 2048], [4, 8]):
        one = work(batch, units, itemsize=itemsize, backward=backward)
        layout = layout_for(one, device, resident=resident)
        if layout is None:
            continue
        found += 1
        assert (layout.unit_groups - 1) * layout.block_units < units <= layout.unit_groups * layout.block_units
        assert (layout.row_groups - 1) * layout.block_rows < batch <= layout.row_groups * layout.block_rows
        assert layout.shared <= device.shared
        assert layout.blocks <= device.multiprocessors or not resident
        assert layout.tile in TILES
        rows, depth4 = one.parts * layout.block_units, -(-one.depth // 4)
        places = -(-rows // layout.tile[0]) * -(-layout.block_rows // layout.tile[1])
        assert 1 <= layout.slices <= depth4
        assert places * layout.slices <= layout.threads == device.threads
        assert 1 <= layout.chunk <= depth4
        assert layout.area >= layout.slices * rows * layout.block_rows  # the slices' sums
        assert layout.area >= layout.buffers * layout.block_rows * (layout.chunk | 1) * 4  # and, before, the operand
        assert layout.resident == depth4 or 0 <= layout.resident < depth4
        assert layout.resident == depth4 or layout.resident % layout.chunk == 0
        streamed += layout.resident < depth4
        elements = layout.block_units * layout.block_rows
        in_registers = layout.held * layout.slices
        assert in_registers <= layout.resident
        assert in_registers <= layout.chunk or layout.chunk % layout.slices == 0
        weights = rows * ((layout.resident - in_registers) | 1) * 4
        weights += layout.buffers * rows * (layout.chunk | 1) * 4 if layout.resident < depth4 else 0
        numbers = weights + layout.area + elements * (one.early + one.carried) + layout.block_units * one.fixed + 4
        assert layout.shared == numbers * itemsize
    assert found > 10
    assert streamed > 2 or not resident or device == SMALL


def test_the_rule():
    def first(strategy, batch, units, cell=LSTMCell(), dtype="float32", device=H200, rounded_to=""):  # noqa: B008 - cells don't change
        return strategies_for(strategy, Call(cell, dtype, (1, batch), units, False, True, rounded_to), device)

    for batch, units in [(1, 64), (1, 512), (1, 1024), (16, 256), (64, 512), (64, 1024), (1, 2048)]:
        assert first("auto", batch, units) == STRATEGIES, (batch, units)
    assert first("auto", 64, 512, rounded_to="bfloat16") == STRATEGIES
    for batch, units in [(256, 2048), (64, 4096)]:  # there is no room
        assert first("auto", batch, units) == ("fused", "reference"), (batch, units)
    assert first("auto", 0, 64) == ("fused", "reference")
    assert first("auto", 4, 512, DiagonalLSTMCell(True)) == ("fused", "reference")
    assert first("persistent", 4, 512, DiagonalLSTMCell(True)) == ("fused", "reference")
    assert first("auto", 4, 512, GRUCell(reset_after=False)) == ("fused", "reference")
    for k, strategy in enumerate(STRATEGIES):
        assert first(strategy, 64, 2048) == STRATEGIES[k:]
    for batch, units in [(1, 256), (1, 512), (16, 256), (1, 1024)]:  # little to read, and a graph's step costs no host
        assert first("default", batch, units) == STRATEGIES[1:], (batch, units)
    for batch, units in [(64, 512), (16, 1024), (1, 2048), (0, 64)]:  # cuBLAS reads the weights once for all rows
        assert first("default", batch, units) == ("fused", "reference"), (batch, units)
    for batch, units in [(16, 32), (1, 128), (64, 128)]:  # one block has all units, and waits for none
        assert first("default", batch, units) == STRATEGIES, (batch, units)


@pytest.mark.parametrize("rounded_to", ["", "bfloat16"])
@pytest.mark.parametrize("cell", [LSTMCell(), GRUCell(), RNNCell(), TwoStates()], ids=lambda cell: type(cell).__name__)
def test_the_rule_takes_the_least_estimate_of_any_cell(cell, rounded_to):
    """For cells of a user's own as for the built-in ones, and by default none whose blocks wait for each other."""
    chosen = set()
    for way, batch, units in itertools.product(Way, [1, 64, 256], [32, 128, 512, 4096]):
        call = Call(cell, "float32", (5, batch), units, False, way, rounded_to)
        all_of_them = estimates(call, H200, waiting=True)
        assert {"fused"} <= set(all_of_them) <= {"persistent", "step", "fused"}
        assert all(time > 0 for time in all_of_them.values())
        for strategy, waiting in (("default", False), ("auto", True)):
            first = strategies_for(strategy, call, H200)[0]
            found = estimates(call, H200, waiting=waiting)
            assert found[first] == min(found.values())
            assert found == {name: all_of_them[name] for name in found}
            chosen.add((strategy, first))
            layout = layout_for(call.recurrence.work(batch, units, 4), H200, resident=True)
            if strategy == "default" and first == "persistent":
                assert layout.unit_groups == 1
    assert {("default", "step"), ("default", "fused"), ("auto", "persistent"), ("auto", "fused")} <= chosen


def test_the_host_is_a_bound_of_the_librarys_step_alone():
    """What the host queues meanwhile: however fast the GPU is, two launches take their time."""
    fast = replace(H200, clock=1e15)
    found = estimates(Call(LSTMCell(), "float32", (5, 1), 512, False, Way.TRAINING, ""), fast, waiting=True)
    assert found["fused"] == pytest.approx(costs.HOST_LAUNCH + costs.HOST_PRODUCT + costs.DRIVER + costs.CUBLAS)
    assert found["step"] == costs.REPLAYED
    assert found["persistent"] < 1e-3


def test_every_number_of_the_rule_says_where_it_is_from():
    assert len({number.name for number in costs.NUMBERS}) == len(costs.NUMBERS) > 10
    for number in costs.NUMBERS:
        assert number.value > 0
        assert number.unit
        assert re.match("assumed|measured|published|from|likewise", number.source), number


def test_blocks_that_may_not_wait_for_each_other_make_no_layout_of_several():
    lonely = replace(H200, cooperative=False)
    assert layout_for(work(1, 64), lonely, resident=True).unit_groups == 1
    assert layout_for(work(1, 512), lonely, resident=True) is None
    assert layout_for(work(1, 512), lonely, resident=False).unit_groups > 1


def test_a_launch_of_one_step_is_laid_out_to_read_the_weights_seldom():
    """Each group of rows reads them all anew at every step; where they stay, it doesn't matter."""
    for batch, most in ((1, 1), (16, 2), (64, 4), (256, 8)):
        for units in (128, 512, 768, 1024, 2048):
            assert layout_for(work(batch, units), H200, resident=False).row_groups <= most, (batch, units)


# Numbers --------------------------------------------------------------------------------------------------------------

# units, rows, then of a block: units, rows, tile, threads, and of its depth the fours at a time (0 for all), and the
# chunks whose weights stay in shared memory (None for all)
SIZE_CLASSES = {
    "one block": (4, 3, 4, 3, (4, 1), 24, 0, None),
    "one block for each row": (5, 3, 5, 1, (1, 1), 20, 0, None),
    "units shared": (8, 3, 3, 3, (2, 1), 20, 0, None),
    "units and rows shared": (9, 5, 4, 2, (2, 1), 32, 0, None),
    "several slices of the depth": (21, 2, 7, 2, (4, 4), 16, 0, None),
    "depth in chunks": (21, 5, 11, 3, (4, 8), 24, 2, None),
    "large tiles": (17, 9, 9, 9, (6, 8), 12, 1, None),
    "a unit a block": (6, 2, 1, 2, (1, 1), 8, 1, None),
    "a part of the weights resident": (21, 5, 11, 3, (4, 8), 24, 2, 1),
    "no weights resident": (8, 3, 4, 3, (4, 1), 16, 1, 0),
}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A stand-in for CuPy, with all that the tests run compiled at once."""
    library = HostLibrary(tmp_path_factory.mktemp("kernels"), gpu=LARGE)
    kernels = []
    for cell in (LSTMCell(), GRUCell()):
        for way, (*_, tile, threads, _, _) in itertools.product(Way, SIZE_CLASSES.values()):
            kernel = recurrence_of(cell, way).kernel(tile, threads)
            kernels += [kernel, kernel.by_table]
    for cell in DENSE:
        kernels += [recurrence_of(cell, way).kernel((2, 1), 20) for way in Way]
    library.prepare(kernels, "float64")
    return library


def on_host(library, strategy, *arguments, **options):
    """`both_ways` with kernels on the CPU."""
    by_kernels = scan_by(partial(forward, library, strategy=strategy), partial(backward, library, strategy=strategy))
    both_ways(by_kernels, *arguments, **options)
    library.xp.check_guards()
    assert not library.found_fault()


@needs_compiler
@pytest.mark.parametrize("strategy", WHOLE)
@pytest.mark.parametrize("name", SIZE_CLASSES)
@pytest.mark.parametrize("cell", [LSTMCell(), GRUCell()], ids=str)
def test_every_size_class_equals_the_reference(library, monkeypatch, cell, name, strategy):
    forced = Forced(SIZE_CLASSES[name])
    monkeypatch.setattr(persistent, "layout_for", forced)
    rng = np.random.default_rng(1)
    ways = {"persistent": [(False, True), (True, False)], "step": [(True, True)]}[strategy]
    if strategy == "persistent" and cell == LSTMCell():
        ways += [(False, False), (True, True)]
    for ragged, reverse in ways:
        arguments = scan_arguments(
            cell, rng, batch=forced.batch, steps=6, size=forced.units, ragged=ragged, bias=ragged
        )
        library.launched.clear()
        on_host(library, strategy, cell, *arguments, rng=rng, reverse=reverse, masked=reverse != ragged)
        assert len(library.launched) == (5 if strategy == "persistent" else 30)  # 3 times forward, twice backward


@needs_compiler
@pytest.mark.parametrize("cell", DENSE, ids=repr)
def test_every_cell_with_a_product_equals_the_reference(library, monkeypatch, cell):
    forced = Forced(SIZE_CLASSES["units shared"])
    monkeypatch.setattr(persistent, "layout_for", forced)
    rng = np.random.default_rng(2)
    for batch, steps in [(3, 6), (2, 5), (1, 7), (4, 1), (0, 3), (3, 0)]:
        for bias in (True, "by row"):
            arguments = scan_arguments(cell, rng, batch=batch, steps=steps, size=forced.units, bias=bias)
            on_host(library, "persistent", cell, *arguments, rng=rng, masked=batch == 3)


# Kernels for one layout each, in which numbers of an element are in registers: one a thread, several, some threads
# without any, more than there are registers.
PLANS = {
    **{
        name: SIZE_CLASSES[name]
        for name in (
            "units and rows shared",
            "several slices of the depth",
            "large tiles",
            "a part of the weights resident",
        )
    },
    "weights in registers, of two chunks": (21, 5, 11, 3, (4, 4), 24, 2, None, 1, 2),
    "in registers, of one that slices don't divide": (21, 5, 11, 3, (4, 8), 33, 4, 1, 1, 1),
    "in registers, backward": (21, 5, 11, 3, (4, 4), 24, 8, None, 1, 2),
    "two chunks on their way": (36, 5, 12, 3, (4, 4), 24, 2, 2, 2, 0),
    "four on their way, some weights in registers": (44, 5, 22, 3, (4, 8), 24, 2, 1, 4, 2),
    "two, of a depth that isn't of fours": (21, 5, 11, 3, (2, 1), 72, 1, 1, 2, 0),
}


@needs_compiler
@pytest.mark.parametrize("name", PLANS)
def test_kernels_for_one_layout_equal_the_reference(tmp_path, monkeypatch, name):
    forced, library = Forced(PLANS[name]), HostLibrary(tmp_path, gpu=LARGE, plans=True)
    monkeypatch.setattr(persistent, "layout_for", forced)
    cell = GRUCell() if name == "units and rows shared" else LSTMCell()
    written = recurrence_of(cell, Way.TRAINING).kernel_of(
        Plan(forced.batch, forced.units, forced(work(forced.batch, forced.units), LARGE, resident=True))
    )
    text = "\n".join(written.lines)
    assert "constexpr int units" in text
    assert ("multiply_held" in text) == ("registers" in name)
    for reverse in (False, True):
        rng = np.random.default_rng(15)
        arguments = scan_arguments(cell, rng, batch=forced.batch, steps=5, size=forced.units, ragged=reverse)
        on_host(library, "persistent", cell, *arguments, rng=rng, reverse=reverse, masked=reverse)


# In how chunks come and go: each leaves numbers as they are by chance only.
OF_CHUNKS = {
    "a chunk is waited for too late": ("await_groups(buffers - 1)", "await_groups(buffers)"),
    "a group isn't ended": (
        "        if (k >= 0) begin(k);\n        end_group();",
        "        if (k >= 0) begin(k);",
    ),
    "a chunk is overwritten while it is read": (
        "        multiply(k);\n        if (k >= buffers) {\n",
        "        if (k >= buffers) begin(k - buffers);\n        multiply(k);\n        if (k >= buffers) {\n",
    ),
    "weights are overwritten while they are read": (
        "        multiply(k);\n",
        "        if (k >= buffers) begin_weights(k - buffers);\n        multiply(k);\n",
    ),
    "other weights are begun": ("begin_weights(k - buffers);\n", "begin_weights(k - 1);\n"),
    "what comes first isn't all": ("k >= most(0, count - buffers); --k) begin_w", "k >= count - 1; --k) begin_w"),
    "another chunk is begun": ("begin(k - buffers);", "begin(k - 1);"),
    "a four of a row": ("k = 4 * (low + four);\n        const", "k = 4 * four;\n        const"),
    "numbers past the end of a row": ("&to->a + j, from + j, j < left", "&to->a + j, from + j, true"),
    "the mask of another four": ("factors + (long long)row * depth + k", "factors + (long long)row * depth + k % 4"),
}


@needs_compiler
@pytest.mark.parametrize("name", ["", *OF_CHUNKS])
def test_mistakes_in_chunks_are_caught(tmp_path, monkeypatch, name):
    old, new = OF_CHUNKS.get(name, ("", ""))
    right = persistent.recurrence.fixed_text
    assert not old or right("recurrence.cuh", "recurray_cupy.persistent").count(old) == 1
    monkeypatch.setattr(persistent.recurrence, "fixed_text", lambda *names: right(*names).replace(old, new))
    monkeypatch.setattr("recurray_cupy.persistent.recurrence_of", recurrence_of.__wrapped__)  # not to be kept
    odd = name == "numbers past the end of a row"
    forced = Forced((21, 5, 11, 3, (2, 1), 72, 1, 1, 2, 0) if odd else PLANS["two chunks on their way"])
    monkeypatch.setattr(persistent, "layout_for", forced)
    library, rng = HostLibrary(tmp_path, gpu=LARGE, plans=True), np.random.default_rng(17)
    weights, x, start, _ = scan_arguments(LSTMCell(), rng, batch=5, steps=5, size=forced.units, ragged=False)
    mask = rng.random((5, forced.units)) if not odd else None
    arguments = LSTMCell(), weights, x, start
    found = forward(library, *arguments, strategy="persistent", keep=False, output_mask=mask)[0]
    expected = scan.forward(*arguments, output_mask=mask)[0]
    assert (np.abs(found - expected).max() < 1e-9) == (not name)


def test_only_so_many_kernels_are_for_one_layout():
    recurrence, layout = (
        recurrence_of.__wrapped__(LSTMCell(), Way.TRAINING),
        layout_for(work(4, 64), H200, resident=True),
    )
    kernels = [recurrence.kernel_of(Plan(batch, 64, layout)) for batch in range(1, MOST_PLANS + 3)]
    assert len(set(kernels)) == MOST_PLANS + 1
    assert kernels[-1] is kernels[-2] is None  # there is one for all sizes
    assert recurrence.kernel_of(Plan(1, 64, layout)) == kernels[0]


def test_what_no_block_reads_is_stored_after_the_others_are_told():
    for way, first, later in ((Way.TRAINING, "state_h[", ("saved[", "state_c[")), (Way.BACKWARD, "dx_gates[", ())):
        recurrence = recurrence_of(LSTMCell(), way)
        layout = layout_for(recurrence.work(16, 64, 4), H200, resident=True)
        text = "\n".join(recurrence.kernel_of(Plan(16, 64, layout)).lines)
        ahead, _, after = text.rpartition("release_one(")
        stores = {name: [f"\n{' ' * k}{name}" for k in (8, 12)] for name in (first, *later)}
        assert any(each in ahead for each in stores[first])
        assert not any(each in after for each in stores[first])
        for array in later:
            assert any(each in after for each in stores[array])
            assert not any(each in ahead for each in stores[array])


def test_which_cells_have_such_kernels():
    names = {type(cell).__name__ for cell in DENSE}
    assert names == {"LSTMCell", "GRUCell", "RNNCell", "SLSTMCell", "ZoneoutCell", "TwoStates"}
    for cell, why in [
        (LSTMCell(layer_norm=True), "means"),
        (GRUCell(reset_after=False), "amid the step"),
        (DiagonalLSTMCell(True), "no product with the output before"),
    ]:
        assert why in why_not(cell, projected=False)
    assert "projected" in why_not(LSTMCell(), projected=True)


@needs_compiler
def test_the_layouts_that_are_chosen_equal_the_reference_in_float32(tmp_path):
    library = HostLibrary(tmp_path, gpu=SMALL)
    rng = np.random.default_rng(3)
    for strategy, cell in (("persistent", LSTMCell()), ("step", GRUCell())):
        for size, batch in [(13, 5)]:
            arguments = scan_arguments(cell, rng, batch=batch, steps=6, size=size, dtype="float32")
            on_host(library, strategy, cell, *arguments, rng=rng)
    assert any(layout.unit_groups > 1 for layout in library.layouts)


@needs_compiler
@pytest.mark.parametrize("offset", [0, 1])
def test_weights_may_begin_anywhere_in_memory(library, monkeypatch, offset):
    monkeypatch.setattr(persistent, "layout_for", Forced(SIZE_CLASSES["units shared"]))
    rng = np.random.default_rng(14)
    weights, *rest = scan_arguments(LSTMCell(), rng, batch=3, steps=5, size=8)
    buffer = np.empty(weights.recurrent.size + 8)
    first = -(buffer.ctypes.data // 8) % 4 + offset  # from an address that four numbers may be read from, or not
    moved = buffer[first : first + weights.recurrent.size].reshape(weights.recurrent.shape)
    moved[...] = weights.recurrent
    assert moved.ctypes.data % 32 == 8 * offset
    on_host(library, "persistent", LSTMCell(), replace(weights, recurrent=moved), *rest, rng=rng)


@needs_compiler
def test_parts_of_the_input_product_are_launches_of_their_own(library, monkeypatch):
    monkeypatch.setattr("recurray_cupy.forward.INPUT_PRODUCT_BYTES", 2000)  # 2 steps
    monkeypatch.setattr(persistent, "layout_for", Forced(SIZE_CLASSES["units shared"]))
    rng = np.random.default_rng(4)
    for reverse in (False, True):
        library.launched.clear()
        arguments = scan_arguments(LSTMCell(), rng, batch=3, steps=6, size=8)
        on_host(library, "persistent", LSTMCell(), *arguments, rng=rng, reverse=reverse)
        assert len(library.launched) > 5


# Faults ---------------------------------------------------------------------------------------------------------------


class Changed:
    """A library whose kernels have lines changed or refused."""

    def __init__(self, library, change=lambda line: line, refused=None):
        self.library, self.change, self.refused = library, change, refused

    def __getattr__(self, name):
        return getattr(self.library, name)

    def shaped(self, kernel, dtype, layout, *, cooperative):
        if self.refused is not None:
            self.refused(kernel, cooperative)
        changed = replace(kernel, lines=tuple(map(self.change, kernel.lines)))
        return self.library.shaped(changed, dtype, layout, cooperative=cooperative)


@needs_compiler
@pytest.mark.parametrize("way", [Way.TRAINING, Way.BACKWARD], ids=["forward", "backward"])
def test_blocks_that_wait_in_vain_give_nan_and_a_fault_not_a_hang(tmp_path, monkeypatch, way):
    monkeypatch.setattr(persistent, "layout_for", Forced(SIZE_CLASSES["units shared"]))
    host = HostLibrary(tmp_path, gpu=LARGE, options=("-DPATIENCE=300000000LL",))
    absent = Changed(host, lambda line: line.replace("release_one(", "if (blockIdx.x != 1) release_one("))
    rng = np.random.default_rng(5)
    weights, x, start, _ = scan_arguments(LSTMCell(), rng, batch=3, steps=6, size=8, ragged=False)
    backend = backend_on(absent if way is Way.TRAINING else host)
    backend.strategy = "persistent"
    y, end, cache = backend.scan_forward(LSTMCell(), weights, x, start)
    if way is Way.BACKWARD:
        assert np.isfinite(y).all()
        backend.library = absent
        dx, dstart, _ = cache.backward(y, end)
        assert np.isnan(dx[:3]).any()
        assert np.isnan(dstart[0]).any()
    else:
        assert np.isfinite(y[0]).all()
        assert np.isnan(y[-1]).all()
        assert np.isnan(end[0]).all()
    with pytest.raises(RuntimeError, match=r"'persistent' waited in vain .* From now on this backend uses .*'step'"):
        backend.synchronize()
    backend.synchronize()
    assert backend.strategy == "step"
    again, _, _ = backend.scan_forward(LSTMCell(), weights, x, start)
    assert np.isfinite(again).all()


# A planted mistake each: none of them writes past the end of an array.
MISTAKES = {
    "nobody waits": ("if (times && unit_groups > 1 && !failed)", "if (step < 0)"),
    "a row group's blocks wait for another's": ("&arrivals[32 * row_group], (u", "&arrivals[0], (u"),
    "the step after": ("state_h[((long long)(t + reverse) * batch + first_row)", "state_h[((long long)first_row)"),
    "rows of another block": ("batch + first_row) * depth]", "batch) * depth]"),
    "chunks of the weights": ("staged_size, chunk_stride, low, ", "staged_size, chunk_stride, 0, "),
    "the stride of a chunk": ("resides ? stride : chunk_stride", "chunk_stride + 2"),
    "weights of the chunk before": ("if (low >= resident)", "if (!low)"),
    "one slice alone": ("multiplies ? slices", "multiplies ? 1"),
    "kept is not kept": ("kept[1 * each + own] = before_c;", ""),
    "a state of the gradient": ("kept[1 * each + own] = dstate_c;", ""),
    "the product is forgotten": ("gates[g + 0 * block_units] * mask[e]", "0"),
    "the mask is forgotten": ("        if (mask)", "        if (!mask)"),
    "the first step has no product": ("t != skip", "t != start"),
    "the last step has one": ("t != skip", "true"),
    "lengths ignored": ("if (t < length)", "if (t < length || true)"),
    "this step's numbers once more": ("const int t = next;", ""),
    "the next step the other way": ("const int next = t + 1 - 2 * reverse", "const int next = t + 1"),
    "nothing for a row's last step": ("next < length", "next < length - 1"),
    "a row that hasn't begun is left out": ("&& next < length", "&& next < length && t < length"),
    "what hasn't come": ("await_groups(0);", ""),
    "a bias of another unit": ("own = el, along = el % block_units", "own = el, along = 0"),
    "another unit's weights": ("(long long)(k + 0) * units + u]", "(long long)(k + 0) * units + first_unit]"),
}


@needs_compiler
def test_mistakes_are_caught(tmp_path, monkeypatch):
    forced = Forced(SIZE_CLASSES["units and rows shared"])
    forced.layout = [4, 2, (2, 1), 16, 2, 0]
    monkeypatch.setattr(persistent, "layout_for", forced)
    patient = HostLibrary(tmp_path, gpu=LARGE)
    host = HostLibrary(tmp_path, gpu=LARGE, options=("-DPATIENCE=300000000LL", "-Wno-unused"))
    kernels = [recurrence_of(LSTMCell(), way).kernel((2, 1), 16) for way in Way]

    def changed(kernel, old, new):
        return replace(kernel, lines=tuple(line.replace(old, new) for line in kernel.lines))

    host.prepare([changed(kernel, *mistake) for mistake in MISTAKES.values() for kernel in kernels], "float64")
    for name, (old, new) in {"none": ("", ""), **MISTAKES}.items():
        assert name == "none" or any(changed(kernel, old, new) != kernel for kernel in kernels), f"{name}: no such text"
        library = Changed(host, lambda line, old=old, new=new: line.replace(old, new)) if old else patient
        caught = False
        for reverse in (False, True):
            rng = np.random.default_rng(6)
            arguments = scan_arguments(LSTMCell(), rng, batch=5, steps=6, size=9)
            with np.errstate(all="ignore"):
                try:
                    on_host(library, "persistent", LSTMCell(), *arguments, rng=rng, masked=True, reverse=reverse)
                except AssertionError:
                    caught = True
                    host.found_fault()
            if caught:
                break
        assert caught == (name != "none"), name


@needs_compiler
def test_nothing_is_asked_for_past_the_last_step(tmp_path, monkeypatch):
    forced = Forced(SIZE_CLASSES["units and rows shared"])
    monkeypatch.setattr(persistent, "layout_for", forced)
    host = HostLibrary(tmp_path, gpu=LARGE)
    arguments = scan_arguments(LSTMCell(), np.random.default_rng(6), batch=5, steps=6, size=9, ragged=False)
    for old, fault in (("", False), ("step + 1 < steps && next", True)):

        def watched(line, old=old):
            line = line.replace("copy_one(", "if (t < 0 || t >= 6) *fault = 1; else copy_one(")
            return line.replace(old, "next") if old else line

        for reverse in (False, True):
            library = Changed(host, watched)
            by_kernels = scan_by(
                partial(forward, library, strategy="persistent"), partial(backward, library, strategy="persistent")
            )
            both_ways(by_kernels, LSTMCell(), *arguments, rng=np.random.default_rng(7), reverse=reverse)
            assert host.found_fault() == fault


RACE = """
int main() {
    const int B = 4, H = UNITS, T = STEPS;
    auto filled = [](int size) {
        real* a = (real*)malloc(size * sizeof(real));
        for (int k = 0; k < size; ++k) a[k] = 0.01 * (k % 17) - 0.05;
        return a;
    };
    ARRAYS
    unsigned arrivals[64] = {};
    int fault[1] = {};
    grid_together(20000, 6, THREADS, [&] { CALL; });
    return fault[0];
}
"""


def race_kernel(way, rounded_to):
    """A kernel of the LSTM for few threads."""
    return recurrence_of(LSTMCell(), way, rounded_to=rounded_to).kernel(*(((16, 8), 64) if rounded_to else ((2, 1), 8)))


def race_program(way, rounded_to, lines):
    """A program that runs it by threads: 3 groups of units, 2 groups of 2 rows, in chunks."""
    kernel = replace(race_kernel(way, rounded_to), lines=tuple(lines))
    numbers = {"block_units": "7" if rounded_to else "2", "block_rows": "2", "area": "160" if rounded_to else "64"}
    numbers |= {"slices": "1", "chunk": "1"} if way is Way.TRAINING else {"slices": "2", "chunk": "2"}
    numbers["buffers"] = "2" if way is Way.BACKWARD else "1"
    numbers["resident"] = "0" if rounded_to else numbers["chunk"]  # all other weights are read anew at each step
    numbers |= {
        "skip": "T - 1" if way is Way.BACKWARD else "-1",
        "batch": "B",
        "units": "H",
        "reverse": "0",
        "first": "0",
    }
    numbers |= {
        "start": "T - 1" if way is Way.BACKWARD else "0",
        "steps": "T",
        "arrivals": "arrivals",
        "fault": "fault",
    }
    nothing = ("mask", "lengths")
    arrays = [a.name for a in kernel.arguments if a.is_array and a.name not in (*numbers, *nothing)]
    values = numbers | dict.fromkeys(nothing, "nullptr") | {name: name for name in arrays}
    call = f"{kernel.name}({', '.join(values[a.name] for a in kernel.arguments)})"
    rounded = [name for name in arrays if rounded_to and name in ("handed", "weight")]
    declared = "\n    ".join(f"real* {name} = filled((T + 1) * 6 * B * H);" for name in arrays if name not in rounded)
    declared += "".join(f"\n    static unsigned short {name}[20000];" for name in rounded)
    text = kernel.source("float32" if rounded_to else "float64").replace('extern "C"', "")
    main = RACE.replace("UNITS", "20" if rounded_to else "6").replace("STEPS", "10" if rounded_to else "40")
    return HEAD + text + main.replace("ARRAYS", declared).replace("CALL", call)


def races(folder, program, *, times, seconds):
    """Whether ThreadSanitizer finds something in a program, or it doesn't end, some waiting for others in vain."""
    (folder / "race.cpp").write_text(program)
    command = ["g++", "-std=c++20", "-O1", "-g", "-pthread", "-fsanitize=thread", "-Wno-unknown-pragmas"]
    subprocess.run([*command, "-o", "race", "race.cpp"], cwd=folder, check=True)
    for _ in range(times):
        try:
            if subprocess.run([folder / "race"], capture_output=True, check=False, timeout=seconds).returncode:
                return True
        except subprocess.TimeoutExpired:
            return True
    return False


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("rounded_to", ["", "bfloat16"])
@pytest.mark.parametrize("way", [Way.TRAINING, Way.BACKWARD], ids=["forward", "backward"])
def test_threads_do_not_race(tmp_path, way, rounded_to):
    assert not races(tmp_path, race_program(way, rounded_to, race_kernel(way, rounded_to).lines), times=1, seconds=100)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("way", [Way.TRAINING, Way.BACKWARD], ids=["forward", "backward"])
def test_a_missing_barrier_is_a_race(tmp_path, way):
    """Wherever one is taken out, in the block or across the grid."""
    program, caught = race_program(way, "", race_kernel(way, "").lines), []
    ours = program.index("constexpr int THREADS")
    for old, new in (("__syncthreads();", ";"), ("if (times && un", "if (step < 0 && un")):
        for found in re.finditer(re.escape(old), program[ours:]):
            first, end = (ours + at for at in found.span())
            caught.append(races(tmp_path, program[:first] + new + program[end:], times=2, seconds=5))
    assert len(caught) == 7
    assert all(caught)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize(
    "mistake", ["released before it is written", "nothing is released", "nothing is acquired", "overwritten too early"]
)
def test_too_little_order_of_rounded_numbers_is_a_race(tmp_path, mistake):
    """They have two bytes, of which an emulated device sees no race."""
    lines = list(race_kernel(Way.TRAINING, "bfloat16").lines)
    if mistake == "released before it is written":
        say = next(k for k, line in enumerate(lines) if "unit_groups > 1 && step + 1 < steps" in line)
        cell = next(k for k, line in enumerate(lines) if "const Sums gates" in line)
        moved = lines[say : say + 2]
        del lines[say : say + 2]
        lines[cell + 2 : cell + 2] = moved
    program = race_program(Way.TRAINING, "bfloat16", lines)
    if mistake == "nothing is released":
        program = program.replace("__ATOMIC_RELEASE", "__ATOMIC_RELAXED")
    if mistake == "nothing is acquired":
        program = program.replace("    acquire(arrivals);\n", "")
    if mistake == "overwritten too early":
        program = program.replace("__syncthreads();  // what was here has been read", "")
    assert races(tmp_path, program, times=2, seconds=20)


# Compilers for GPUs ---------------------------------------------------------------------------------------------------

COMMON = [(LSTMCell(), (4, 1)), (LSTMCell(), (6, 8)), (GRUCell(), (4, 8))]  # on all architectures
REST = [(cell, (2, 1)) for cell in DENSE[1:]] + [(LSTMCell(), tile) for tile in TILES]


@needs_nvrtc
@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_kernels_compile_for_gpus_without_spilling(architecture):
    compile_for_gpus(COMMON, architecture)


@needs_nvrtc
@pytest.mark.slow
def test_the_other_kernels_compile_for_gpus_without_spilling():
    compile_for_gpus(REST, "sm_80", ways=(Way.BACKWARD,))
    compile_for_gpus(REST, "sm_90", ways=(Way.TRAINING,))
    compile_for_gpus([(LSTMCell(), (4, 4))], "sm_90", dtype="float64", ways=Way)
    kernel = recurrence_of(LSTMCell(), Way.TRAINING).kernel((4, 8), 256)
    assert nvrtc.compiled(kernel.source("float32"), "sm_90")[:4] == b"\x7fELF"  # as it stands, extern "C" and all


@needs_nvcc
def test_the_product_reads_what_others_wrote_past_the_first_cache(tmp_path):
    """And it has all its other operands in shared memory, read four at a time."""
    text, _ = recurrences([(LSTMCell(), (4, 8))], ways=(Way.TRAINING,))
    nvcc(tmp_path, text, "-arch=compute_90", "--ptx", "-o", "kernels.ptx")
    ptx = (tmp_path / "kernels.ptx").read_text()
    for wanted in ("cp.async.cg.shared.global", "ld.acquire.gpu", "red.release.gpu", "ld.shared.v4.f32"):
        assert wanted in ptx
    assert not re.search(r"\bld\.(v\d\.)?[fub]\d", ptx)  # a load from anywhere
    assert ".local" not in ptx
    assert ".f64" not in ptx


# Which strategy runs --------------------------------------------------------------------------------------------------


def launches(library):
    return {re.sub(r".*_(forward|backward|inference)", "", name) for name in library.launched}


@needs_compiler
def test_the_backend_runs_the_strategy_that_is_asked_for(tmp_path):
    library = HostLibrary(tmp_path)
    backend = backend_on(library)
    rng = np.random.default_rng(7)
    arguments = scan_arguments(LSTMCell(), rng, batch=3, steps=6)
    counts = {"auto": 5, "persistent": 5, "step": 30, "fused": 30, "reference": 0}
    for strategy, count in counts.items():
        backend.strategy = strategy
        library.launched.clear()
        both_ways(backend.scan_forward, LSTMCell(), *arguments, rng=rng)
        assert len(library.launched) == count
        assert any("_by_" in name for name in library.launched) == (strategy in ("auto", "persistent", "step"))
    assert backend.strategy_of(LSTMCell(), 3, 4) == "reference"
    backend.strategy = "auto"
    assert backend.strategy_of(LSTMCell(), 3, 4) == backend.strategy_of(LSTMCell(), 3, 4, backward=True) == "persistent"
    assert "strategy 'auto' (for an LSTM of 64 rows, by its units: 128: fused, " in backend.describe()


@needs_compiler
@pytest.mark.parametrize("reverse", [False, True])
def test_parts_that_are_computed_again_equal_the_reference(tmp_path, reverse):
    library = HostLibrary(tmp_path)
    backend = backend_on(library)
    backend.steps_together = 2
    rng = np.random.default_rng(10)
    weights, x, start, lengths = scan_arguments(LSTMCell(), rng, batch=3, steps=7)
    dy, dend = rng.standard_normal((7, 3, 4)), tuple(rng.standard_normal((3, 4)) for _ in start)
    options = {"lengths": lengths, "reverse": reverse}
    y, end, cache = backend.scan_forward(LSTMCell(), weights, x, start, recompute=3, **options)
    found = cache.backward(dy, dend)
    expected_y, expected_end, expected_cache = scan.forward(LSTMCell(), weights, x, start, **options)
    expected = expected_cache.backward(dy, dend)
    pairs = [(y, expected_y), *zip(end, expected_end, strict=True), (found[0], expected[0])]
    pairs += [*zip(found[1], expected[1], strict=True), (found[2].recurrent, expected[2].recurrent)]
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-11)
    assert all("_by_" in name for name in library.launched)
    assert len(library.launched) == 4 + 4 + 4  # forward, forward again, backward


def refuse(error, what):
    """Refuse kernels, by whether they are cooperative."""

    def refused(kernel, cooperative):
        if what == "all" or cooperative:
            raise error(f"{kernel.name} can't be")

    return refused


@needs_compiler
@pytest.mark.parametrize("error", [CompilationError, DoesNotFitError])
@pytest.mark.parametrize(("what", "then"), [("all", "fused"), ("waiting", "step")])
def test_a_strategy_that_fails_leaves_it_to_the_next_with_one_warning(tmp_path, error, what, then):
    library = HostLibrary(tmp_path, gpu=replace(SMALL, shared=6000))
    backend = backend_on(Changed(library, refused=refuse(error, what)))
    backend.strategy = "persistent"
    rng = np.random.default_rng(8)
    weights, x, start, _ = scan_arguments(LSTMCell(), rng, batch=3, steps=6, size=16, ragged=False)
    expected = scan.forward(LSTMCell(), weights, x, start)[0]
    with pytest.warns(
        UserWarning, match=f"LSTMCell runs by the strategy '{then}': LSTMCell_forward.* can't be"
    ) as told:
        y, end, cache = backend.scan_forward(LSTMCell(), weights, x, start)
    assert len(told) == 1
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
    assert any("_by_" in name for name in library.launched) == (then == "step")
    with warnings.catch_warnings(action="error"):  # once is enough
        backend.scan_forward(LSTMCell(), weights, x, start)
    with warnings.catch_warnings(action="ignore"):
        cache.backward(y, end)


@needs_compiler
def test_a_strategy_that_does_not_suit_a_cell_or_a_size_says_why(tmp_path):
    library = HostLibrary(tmp_path, gpu=replace(SMALL, shared=1000))
    backend = backend_on(library)
    backend.strategy = "persistent"
    rng = np.random.default_rng(9)
    for cell, size, strategy, why in [
        (GRUCell(reset_after=False), 4, "fused", "it has a product amid the step"),
        (
            RNNCell(),
            40,
            "step",
            "the weights of 40 units, in float64, don't fit into the shared memory of the whole GPU",
        ),
        (RNNCell(), 400, "fused", "the weights of 400 units, in float64, don't fit into"),
    ]:
        weights, x, start, _ = scan_arguments(cell, rng, batch=3, steps=5, size=size, ragged=False)
        with pytest.warns(UserWarning, match=f"{type(cell).__name__} runs by the strategy '{strategy}': {why}") as told:
            backend.scan_forward(cell, weights, x, start)
        assert len(told) == 1
    backend.strategy = "auto"
    with warnings.catch_warnings(action="error"):  # the rule knows
        weights, x, start, _ = scan_arguments(RNNCell(), rng, batch=3, steps=5, size=40, ragged=False)
        backend.scan_forward(RNNCell(), weights, x, start)
        weights, x, start, _ = scan_arguments(DiagonalLSTMCell(True), rng, batch=3, steps=5, ragged=False)
        backend.strategy = "persistent"
        backend.scan_forward(DiagonalLSTMCell(True), weights, x, start)


@needs_compiler
@pytest.mark.parametrize("reverse", [False, True])
def test_steps_in_several_graphs(library, monkeypatch, reverse):
    """Of 16 and of 8 steps, and 3 one by one; the library stands for a GPU that replays them."""
    monkeypatch.setattr(persistent, "layout_for", Forced(SIZE_CLASSES["units shared"]))
    rng = np.random.default_rng(15)
    arguments = scan_arguments(LSTMCell(), rng, batch=3, steps=27, size=8)
    scaled = replace(arguments[0], recurrent=arguments[0].recurrent / 3)
    for _ in range(2):
        on_host(library, "step", LSTMCell(), scaled, *arguments[1:], rng=rng, reverse=reverse, masked=True)


@needs_compiler
def test_more_arguments_than_a_table_holds_are_left_to_another_strategy(tmp_path, monkeypatch):
    monkeypatch.setattr("recurray_cupy.graphs.TABLE", 5)
    backend, rng = backend_on(HostLibrary(tmp_path)), np.random.default_rng(16)
    backend.strategy = "step"
    weights, x, start, _ = scan_arguments(RNNCell(), rng, batch=3, steps=5, ragged=False)
    with pytest.warns(UserWarning, match=r"'fused': RNNCell_forward\w* has \d+ arguments, of which .* 5"):
        y = backend.scan_forward(RNNCell(), weights, x, start)[0]
    np.testing.assert_allclose(y, scan.forward(RNNCell(), weights, x, start)[0], atol=1e-12)


# Graphs ---------------------------------------------------------------------------------------------------------------


def test_work_that_comes_again_is_captured_and_replayed():
    done, captured = [], []

    def capture(work):
        captured.append(1)
        return lambda: done.append("replayed")

    graphs = Graphs(capture)
    for _ in range(4):
        graphs.run("a", lambda: done.append("a"))
    graphs.run("b", lambda: done.append("b"))
    assert done == ["a", "replayed", "replayed", "replayed", "b"]
    assert len(captured) == 1
    for k in range(2 * MOST):
        graphs.run(k, lambda: None)
    assert len(graphs._known) == MOST
    graphs.run("a", lambda: done.append("a anew"))
    assert done[-1] == "a anew"
    graphs.release()
    graphs.run("a", lambda: done.append("a once more"))
    assert done[-1] == "a once more"


def test_work_that_cannot_be_captured_is_done_all_the_same():
    def capture(work):
        raise RuntimeError("operation not permitted when stream is capturing")

    graphs, done = Graphs(capture), []
    graphs.run("a", lambda: done.append(1))
    with pytest.warns(UserWarning, match="steps are launched one by one: .* not permitted"):
        graphs.run("a", lambda: done.append(2))
    with warnings.catch_warnings(action="error"):
        for k in (3, 4):
            graphs.run("a", lambda k=k: done.append(k))
    assert done == [1, 2, 3, 4]


def test_zoneout_of_dense_cells_has_kernels_of_its_own():
    assert why_not(ZoneoutCell(LSTMCell(), 0.3), projected=False) is None
