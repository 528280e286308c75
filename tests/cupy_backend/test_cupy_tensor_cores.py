"""Products with operands in float16 or bfloat16: by the library, and by the CuPy backend's kernels on tensor cores.

No GPU is needed: the instruction is carried out by the 32 threads of a warp, each with its registers.
"""

from __future__ import annotations

import ctypes
import itertools
import re
import subprocess
from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from harness import compare_scans, obtain
from harness.compare_scans import both_ways, scan_arguments, scan_by
from harness.cuda.compilers import ARCHITECTURES, compile_for_gpus
from harness.cuda.host_backend import backend_on
from harness.cuda.host_cpp import HEAD, HostLibrary, numbers_of
from harness.cuda.layouts import H200, LARGE, Forced
from harness.needs import needs_compiler, needs_nvrtc
from recurray.cells import GRUCell, LSTMCell, MGUCell
from recurray_cupy import persistent
from recurray_cupy.backward import backward
from recurray_cupy.compiled import Way
from recurray_cupy.forward import forward
from recurray_cupy.kernel import fixed_text
from recurray_cupy.persistent.layout import TENSOR_TILES, layout_for
from recurray_cupy.persistent.of_cell import recurrence_of
from recurray_cupy.products import Products, rounded

SMALL = {"float16": 4e-3, "bfloat16": 3e-2}  # how far from float32 results may be


# As in `test_cupy_strategies`, but of the depth the sixteens.
SIZE_CLASSES = {
    "one block": (5, 3, 5, 3, (16, 8), 64, 0, None),
    "units and rows shared": (21, 11, 7, 6, (16, 8), 64, 0, None),
    "two tiles side by side": (21, 11, 11, 11, (16, 16), 96, 0, None),
    "two by two tiles": (21, 11, 11, 11, (32, 16), 64, 0, None),
    "tiles of many rows": (21, 11, 21, 6, (64, 8), 96, 0, None),
    "depth in chunks": (36, 9, 9, 5, (16, 8), 96, 1, None),
    "several slices of the depth": (36, 3, 18, 3, (16, 32), 160, 2, None),
    "a part of the weights resident": (20, 5, 10, 5, (16, 8), 96, 1, 1),
    "no weights resident": (20, 5, 10, 5, (16, 8), 96, 1, 0),
}


ROUNDED = [(LSTMCell(), "float16"), (GRUCell(), "bfloat16")]


# And how many chunks there is room for, and of how many steps through the depth a warp has the weights in registers:
# kernels for one layout each.
PLANS = {
    "two chunks on their way": (36, 9, 9, 5, (16, 8), 96, 1, None, 2, 0),
    "all weights in registers": (36, 5, 18, 5, (16, 8), 160, 3, None, 1, 9),
    "some in registers, some in shared memory": (70, 9, 35, 5, (32, 8), 160, 1, None, 2, 3),
    "some nowhere": (70, 5, 18, 5, (16, 16), 160, 1, 2, 4, 1),
    "all but some nowhere": (36, 3, 36, 3, (64, 8), 96, 1, 0, 2, 1),
}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A stand-in for CuPy, with all that the tests run compiled at once."""
    library = HostLibrary(tmp_path_factory.mktemp("kernels"), gpu=LARGE)
    kernels = [
        recurrence_of(cell, way, rounded_to=rounded_to).kernel(tile, threads)
        for (cell, rounded_to), way in itertools.product(ROUNDED, Way)
        for tile, threads in {(tile, threads) for *_, tile, threads, _, _ in SIZE_CLASSES.values()}
    ]
    library.prepare(kernels, "float32")
    return library


def close_to_float32(monkeypatch, library, strategy, cell, rounded_to, *, units, batch, rng, **options):
    """Compare everything with the reference in float32; recurrent weights are small, as errors grow by them."""
    monkeypatch.setitem(compare_scans.TOLERANCE, "float32", SMALL[rounded_to])
    weights, *rest = scan_arguments(cell, rng, batch=batch, steps=5, size=units, dtype="float32")
    weights = replace(weights, recurrent=weights.recurrent / units**0.5)
    by_kernels = scan_by(
        partial(forward, library, strategy=strategy, rounded_to=rounded_to),
        partial(backward, library, strategy=strategy),
    )
    both_ways(by_kernels, cell, weights, *rest, rng=rng, masked=True, **options)
    library.xp.check_guards()


@needs_compiler
@pytest.mark.parametrize(("cell", "rounded_to"), ROUNDED, ids=repr)
@pytest.mark.parametrize("name", SIZE_CLASSES)
def test_every_size_class_is_close_to_float32(library, monkeypatch, cell, name, rounded_to):
    layout, rng = Forced(SIZE_CLASSES[name]), np.random.default_rng(1)
    monkeypatch.setattr(persistent, "layout_for", layout)
    sizes = {"units": layout.units, "batch": layout.batch}
    reverse = list(SIZE_CLASSES).index(name) % 2 == 0
    close_to_float32(monkeypatch, library, "persistent", cell, rounded_to, rng=rng, reverse=reverse, **sizes)


@needs_compiler
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name.startswith("some ") else ()) for name in PLANS]
)
def test_kernels_for_one_layout_are_close_to_float32(tmp_path, monkeypatch, name):
    layout, library = Forced(PLANS[name]), HostLibrary(tmp_path, gpu=LARGE, plans=True)
    monkeypatch.setattr(persistent, "layout_for", layout)
    rng, sizes = np.random.default_rng(5), {"units": layout.units, "batch": layout.batch}
    cell = GRUCell() if layout.units == 70 else LSTMCell()
    close_to_float32(monkeypatch, library, "persistent", cell, "float16", rng=rng, reverse=layout.batch == 9, **sizes)


@needs_compiler
@pytest.mark.parametrize("rounded_to", SMALL)
def test_kernels_and_library_round_alike(library, monkeypatch, rounded_to):
    """With exact sums, they would be equal; an output near the middle of two roundings may go either way."""
    layout, rng, outputs = Forced(SIZE_CLASSES["units and rows shared"]), np.random.default_rng(2), []
    monkeypatch.setattr(persistent, "layout_for", layout)
    weights, x, start, _ = scan_arguments(LSTMCell(), rng, batch=11, steps=1, size=21, ragged=False, dtype="float32")
    for strategy in ("persistent", "step", "fused"):
        outputs.append(forward(library, LSTMCell(), weights, x, start, strategy=strategy, rounded_to=rounded_to)[0])
    np.testing.assert_allclose(outputs[0], outputs[2], rtol=0, atol=2e-6)
    np.testing.assert_array_equal(outputs[0], outputs[1])
    full = forward(library, LSTMCell(), weights, x, start)[0]
    assert np.abs(full - outputs[0]).max() > 1e-4  # they are rounded


@needs_compiler
@pytest.mark.parametrize("rounded_to", SMALL)
@pytest.mark.parametrize("cell", [LSTMCell(), MGUCell(), GRUCell(reset_after=False)], ids=repr)
def test_the_librarys_products_are_close_to_float32(library, monkeypatch, cell, rounded_to):
    rng = np.random.default_rng(3)
    close_to_float32(monkeypatch, library, "fused", cell, rounded_to, units=6, batch=3, rng=rng)
    monkeypatch.setattr("recurray_cupy.forward.INPUT_PRODUCT_BYTES", 600)  # 2 steps or 4
    close_to_float32(monkeypatch, library, "fused", cell, rounded_to, units=6, batch=3, rng=rng, reverse=True)
    if cell == LSTMCell():
        monkeypatch.setitem(compare_scans.TOLERANCE, "float32", SMALL[rounded_to])
        weights, *rest = scan_arguments(cell, rng, batch=3, steps=6, size=6, projection=4, dtype="float32")
        weights = replace(weights, recurrent=weights.recurrent / 3)
        by_kernels = scan_by(partial(forward, library, rounded_to=rounded_to), partial(backward, library))
        for reverse in (False, True):
            both_ways(by_kernels, cell, weights, *rest, rng=rng, masked=True, reverse=reverse)


@needs_compiler
@pytest.mark.parametrize(
    ("cell", "projection", "names"),
    [
        (LSTMCell(), 0, "LSTMCell_forward_bfloat16 LSTMCell_backward_bfloat16"),
        (LSTMCell(), 2, "LSTMCell_forward_bfloat16 hand_on_bfloat16 gather_bfloat16 LSTMCell_backward_bfloat16"),
        (MGUCell(), 0, "forward_bfloat16_1 forward_bfloat16_2 backward_bfloat16_1 backward_bfloat16_2"),
        (
            GRUCell(reset_after=False),
            0,
            "forward_bfloat16_1 forward_bfloat16_2 backward_bfloat16_1 backward_bfloat16_2",
        ),
    ],
    ids=["LSTM", "projected", "MGU", "GRU"],
)
def test_the_cells_kernels_round_what_the_next_product_takes(library, cell, projection, names):
    """A launch that rounds is for weights, inputs and gradients over all steps, not one for each step."""
    rng, launches = np.random.default_rng(6), []
    for steps in (3, 6):
        sizes = {"batch": 3, "steps": steps, "projection": projection}
        weights, x, start, _ = scan_arguments(cell, rng, ragged=False, dtype="float32", **sizes)
        mask = np.ones_like(start[0])
        library.launched.clear()
        y, end, cache = forward(library, cell, weights, x, start, rounded_to="bfloat16", output_mask=mask)
        backward(library, cell, cache, y, end)
        launches.append(Counter(library.launched))
    each_step = {
        re.sub(r"^(MGU|GRU)85_Cell_", "", name): count // 3 for name, count in (launches[1] - launches[0]).items()
    }
    assert each_step == dict.fromkeys(names.split(), 1)


MISTAKES = {
    "registers of the weights": (
        "weights[lower + down],",
        "weights[lower + down + 4],",
    ),
    "registers of the operand": (
        "b[j][1] = numbers[own[j] + k + 4]",
        "b[j][1] = numbers[own[j] + k]",
    ),
    "lanes": ("g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;", "g = threadIdx.x % 8, t = threadIdx.x % 32 / 8;"),
    "the tile below": ("16 * i * weight_stride", "0"),
    "eights of a row": ("16 * low + 8 * eight", "16 * low"),
    "a column past the last": ("if (c < columns)", "if (c < columns - 1)"),
    "a row of sums": ("8 * (i / 2) + lane.g", "8 * (i / 2 % 2) + lane.g"),
    "the next tile": ("least(column + 8 * j + lane.g,", "least(column + lane.g,"),
}


# In kernels for one layout.
IN_PLANS = {
    "a chunk that hasn't come": ("await_groups(buffers - 1)", "await_groups(buffers)"),
    "a group that isn't ended": (
        "        if (k >= 0) begin(k);\n        end_group();",
        "        if (k >= 0) begin(k);",
    ),
    "another chunk is begun": ("begin(k - buffers);", "begin(k - 1);"),
    "the first chunk's weights": ("(step / EACH != chunk)", "(step / EACH > chunk)"),
    "a step of another slice": ("16 * (slice + slices * j)", "16 * (slice + j)"),
    "registers that are held": ("held[j][i / 2][i % 2 + 2] = pairs[4]", "held[j][i / 2][i % 2 + 2] = pairs[0]"),
    "what is held is multiplied again": ("8 * (slice + slices * begin)", "8 * slice"),
}


def first_outputs(tmp_path, monkeypatch, forced, *, plans=False, old="", new=""):
    """What kernels with a mistake in their fixed text give, and what the library's product gives."""
    right, here = persistent.tensor_cores.fixed_text, "recurray_cupy.persistent"
    assert old in right("recurrence.cuh", here) + right("tensor_cores.cuh", here)
    for module in (persistent.recurrence, persistent.tensor_cores) if old else ():
        monkeypatch.setattr(module, "fixed_text", lambda *names: right(*names).replace(old, new))
    monkeypatch.setattr("recurray_cupy.persistent.recurrence_of", recurrence_of.__wrapped__)  # not to be kept
    monkeypatch.setattr(persistent, "layout_for", forced)
    library, rng = HostLibrary(tmp_path, gpu=LARGE, plans=plans), np.random.default_rng(4)
    sizes = {"batch": forced.batch, "size": forced.units}
    weights, x, start, _ = scan_arguments(LSTMCell(), rng, steps=2, ragged=False, dtype="float32", **sizes)
    weights = replace(weights, recurrent=weights.recurrent / 2)
    arguments = library, LSTMCell(), weights, x, start
    return (
        forward(*arguments, strategy=strategy, rounded_to="float16", keep=False)[0]
        for strategy in ("persistent", "fused")
    )


@needs_compiler
@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_caught(tmp_path, monkeypatch, name):
    old, new = MISTAKES[name]
    forced = Forced(SIZE_CLASSES["two by two tiles"])
    found, right = first_outputs(tmp_path, monkeypatch, forced, old=old, new=new)
    assert not np.abs(found - right).max() < 0.05


@needs_compiler
@pytest.mark.parametrize("name", ["", *IN_PLANS])
def test_mistakes_in_kernels_for_one_layout_are_caught(tmp_path, monkeypatch, name):
    old, new = IN_PLANS.get(name, ("", ""))
    forced = Forced((134, 3, 16, 3, (64, 8), 64, 4, None, 2, 3))
    found, right = first_outputs(tmp_path, monkeypatch, forced, plans=True, old=old, new=new)
    assert (np.abs(found - right).max() < 0.01) == (not name)


# Of what steps hand each other: the kernel's own lines.
HANDED = {
    "a copy of the step before": ("((t + 1 - reverse) & 1)", "((t + reverse) & 1)"),
    "the mask is forgotten": ("half_of(before_h * (mask ? mask[e] : 1))", "half_of(before_h)"),
    "the state before the first step": ("half_of(kept[", "half_of(0 * kept["),
    "gradients of the step before": ("(long long)(((t) & 1) * batch", "(long long)((1 - (t & 1)) * batch"),
    "gradients of another gate": ("1 * units + u] = half_of(", "2 * units + u] = half_of("),
}


class Changed:
    """A library whose kernels have lines changed."""

    def __init__(self, library, old, new):
        self.library, self.old, self.new, self.found = library, old, new, False

    def __getattr__(self, name):
        return getattr(self.library, name)

    def shaped(self, kernel, dtype, layout, **options):
        lines = tuple(line.replace(self.old, self.new) for line in kernel.lines)
        self.found |= lines != kernel.lines
        return self.library.shaped(replace(kernel, lines=lines), dtype, layout, **options)


@needs_compiler
@pytest.mark.parametrize("name", HANDED)
def test_mistakes_in_what_is_handed_on_are_caught(tmp_path, monkeypatch, name):
    monkeypatch.setattr(persistent, "layout_for", Forced(SIZE_CLASSES["units and rows shared"]))
    library, rng = Changed(HostLibrary(tmp_path, gpu=LARGE), *HANDED[name]), np.random.default_rng(4)
    sizes = {"units": 21, "batch": 11}
    with pytest.raises(AssertionError):
        close_to_float32(monkeypatch, library, "persistent", LSTMCell(), "float16", rng=rng, **sizes)
    assert library.found


# Activations ----------------------------------------------------------------------------------------------------------

ARGUMENTS = np.concatenate([np.linspace(-20, 20, 40001), np.logspace(-30, 3, 500), -np.logspace(-30, 3, 500)])
ARGUMENTS = np.concatenate([ARGUMENTS, [0.0, np.inf, -np.inf]]).astype("float32")
QUICK = """typedef float real;
#define ROW_BLOCK 256
{functions}
constexpr int THREADS = 256;
{recurrence}
#define TYPE bf16
{tensor_cores}
"""


def quick_text():
    here = "recurray_cupy.persistent"
    return QUICK.format(
        functions=fixed_text("functions.cuh"),
        recurrence=fixed_text("recurrence.cuh", here),
        tensor_cores=fixed_text("tensor_cores.cuh", here),
    )


def within_their_bound(logistics, tanhs):
    a = ARGUMENTS.astype("float64")
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(logistics, 1 / (1 + np.exp(-a)), rtol=2**-18, atol=2**-21)
    np.testing.assert_allclose(tanhs, np.tanh(a), rtol=0, atol=2**-21)


@needs_compiler
def test_quick_activations_are_within_their_bound(tmp_path):
    ends = "for (int k = 0; k < n; ++k) b[k] = quick_logistic(a[k]), c[k] = quick_tanh(a[k]);"
    text = f'{HEAD}{quick_text()}extern "C" void run(const float* a, float* b, float* c, int n) {{ {ends} }}'
    (tmp_path / "quick.cpp").write_text(text)
    command = ["g++", "-std=c++20", "-shared", "-fPIC", "-pthread", "-Wno-unknown-pragmas"]
    subprocess.run([*command, "-o", "quick.so", "quick.cpp"], cwd=tmp_path, check=True)
    found = np.empty((2, len(ARGUMENTS)), "float32")
    places = (ctypes.c_void_p(each.ctypes.data) for each in (ARGUMENTS, found[0], found[1]))
    ctypes.CDLL(str(tmp_path / "quick.so")).run(*places, len(ARGUMENTS))
    within_their_bound(*found)


@pytest.mark.gpu
def test_quick_activations_are_within_their_bound_on_a_gpu():
    obtain("cupy")
    import cupy

    ends = "if (k < n) b[k] = quick_logistic(a[k]), c[k] = quick_tanh(a[k]);"
    text = f"""{quick_text()}extern "C" __global__ void run(const float* a, float* b, float* c, int n) {{
    const int k = blockIdx.x * blockDim.x + threadIdx.x;
    {ends}
}}"""
    a, found = cupy.asarray(ARGUMENTS), cupy.empty((2, len(ARGUMENTS)), "float32")
    cupy.RawKernel(text, "run")((len(ARGUMENTS) // 128 + 1,), (128,), (a, found[0], found[1], np.int32(len(a))))
    within_their_bound(*cupy.asnumpy(found))


@needs_compiler
def test_rounding_to_bfloat16_is_to_nearest_even(tmp_path):
    library = HostLibrary(tmp_path)
    bits = np.random.default_rng(5).integers(0, 2**32, 4000, dtype=np.uint32)
    special = [0x3F808000, 0x3F818000, 0x7F7FFFFF, 0x7F800000, 0xFF800000, 0x7FC00001, 0x00000001, 0x80000000]
    values = np.concatenate([bits, np.array(special, np.uint32)]).view(np.float32).reshape(8, -1)
    with np.errstate(all="ignore"):
        _, exponents = np.frexp(values)
        steps = np.ldexp(1.0, np.maximum(exponents, -125) - 8)  # from one bfloat16 to the next
        expected = (np.rint(values.astype("float64") / steps) * steps).astype("float32")
        np.testing.assert_array_equal(
            numbers_of(rounded(library, values, "bfloat16"), "bfloat16"), np.where(np.isinf(values), values, expected)
        )


# Layouts and the backend ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [Way.TRAINING, Way.BACKWARD], ids=["forward", "backward"])
def test_layouts_cover_everything_and_fit(way):
    recurrence, found = recurrence_of(LSTMCell(), way, rounded_to="bfloat16"), 0
    for batch, units in itertools.product([1, 9, 64, 256], [1, 50, 128, 500, 1024, 1500]):
        work = recurrence.work(batch, units, 4)
        layout = layout_for(work, H200, resident=True)
        if layout is None:
            continue
        found += 1
        rows, depth16 = work.parts * layout.block_units, -(-work.depth // 16)
        row_tiles, column_tiles = -(-rows // layout.tile[0]), -(-layout.block_rows // layout.tile[1])
        weight_rows = row_tiles * layout.tile[0]
        assert layout.tile in TENSOR_TILES
        assert 1 <= layout.slices * row_tiles * column_tiles <= H200.threads // 32
        assert layout.slices <= depth16
        assert layout.area >= layout.slices * (weight_rows + 4) * layout.block_rows
        assert layout.area >= layout.buffers * layout.block_rows * (8 * layout.chunk + 4)
        elements = layout.block_units * layout.block_rows
        assert layout.resident == depth16 or layout.resident % layout.chunk == 0
        in_registers = layout.held * layout.slices
        assert in_registers <= layout.resident
        assert in_registers <= layout.chunk or layout.chunk % layout.slices == 0
        numbers = weight_rows * (8 * (layout.resident - in_registers) + 4) + layout.area
        numbers += layout.buffers * weight_rows * (8 * layout.chunk + 4) if layout.resident < depth16 else 0
        assert layout.shared == 4 * (
            numbers + elements * (work.early + work.carried) + layout.block_units * work.fixed + 4
        )
        assert layout.shared <= H200.shared
        assert layout.blocks <= H200.multiprocessors
    assert found > 15
    assert layout_for(recurrence.work(1, 64, 4), replace(H200, tensor_cores=False), resident=True) is None


@needs_compiler
def test_the_backend_rounds_float32_alone(tmp_path):
    library = HostLibrary(tmp_path, gpu=LARGE)
    outputs = {}
    for dtype, rounded_to in itertools.product(("float32", "float64"), (None, *SMALL)):
        backend = backend_on(library)
        backend.strategy, backend.compute_dtype = "fused", rounded_to
        arguments = scan_arguments(LSTMCell(), np.random.default_rng(7), batch=3, steps=5, ragged=False, dtype=dtype)
        outputs[dtype, rounded_to] = backend.scan_forward(LSTMCell(), *arguments[:3])[0]
        assert outputs[dtype, rounded_to].dtype == dtype
    np.testing.assert_array_equal(outputs["float64", "float16"], outputs["float64", None])
    for rounded_to, error in SMALL.items():
        difference = np.abs(outputs["float32", rounded_to] - outputs["float32", None]).max()
        assert 1e-5 < difference < 10 * error


def test_products_without_rounding_are_the_librarys(tmp_path):
    rng = np.random.default_rng(9)
    a, b = rng.standard_normal((2, 3, 5)), rng.standard_normal((4, 5))
    out, products = np.full((3, 3, 4), np.nan), Products(HostLibrary(tmp_path))
    assert products.operand(b) is b
    products.with_transposed(a[0], b, out=out[0])
    np.testing.assert_array_equal(out[0], a[0] @ b.T)
    products.plain(a[0], np.ascontiguousarray(b.T), out=out[0])
    np.testing.assert_allclose(out[0], a[0] @ b.T, rtol=1e-12)
    np.testing.assert_array_equal(products.of_transposed(a[0], a[0]), a[0].T @ a[0])
    products.each_step(a, b, out, transposed="b")(1, 2)
    np.testing.assert_array_equal(out[2], a[1] @ b.T)
    assert np.isnan(out[1]).all()


# Compilers for GPUs ---------------------------------------------------------------------------------------------------


@needs_nvrtc
@pytest.mark.slow
@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name != "sm_75"])
def test_kernels_compile_for_gpus_without_spilling(architecture):
    tile = TENSOR_TILES[1]
    compile_for_gpus([(LSTMCell(), tile), (GRUCell(), tile)], architecture, rounded_to="bfloat16")
    if architecture == "sm_90":
        compile_for_gpus(
            [(LSTMCell(), tile) for tile in TENSOR_TILES], architecture, rounded_to="float16", ways=(Way.TRAINING,)
        )
