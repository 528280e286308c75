"""The CuPy backend's scan gives the reference path's numbers.

Kernels run as C++ on the CPU, see `host_cpp`; all the rest is what runs on a GPU.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from harness.cells import CELLS
from harness.compare_scans import Centred, Normalised, Squared, both_ways, scan_arguments, scan_by
from harness.cuda.host_cpp import HostLibrary
from harness.needs import need, needs_compiler
from harness.random_cell import RandomCell
from recurray import scan
from recurray.cells import DiagonalLSTMCell, LSTMCell, Weights
from recurray_cupy.backward import backward
from recurray_cupy.compiled import compiled
from recurray_cupy.forward import forward
from recurray_cupy.norm import PARTS, norm
from recurray_cupy.products import FEW, add_up_rows, sum_rows

SEEDS = range(40)
SIZES = [(3, 6), (2, 5), (1, 7), (4, 1), (0, 3), (3, 0)]


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A stand-in for CuPy, with all that the tests run compiled at once."""
    library = HostLibrary(tmp_path_factory.mktemp("kernels"))
    texts = [compiled(cell) for cell in (*CELLS, *map(RandomCell, SEEDS), Normalised(), Centred())]
    kernels = [
        kernel for text in texts for keep in (True, False) for kernel in text.kernels(keep=keep, projected=False)
    ]
    for keep in (True, False):
        kernels += compiled(LSTMCell()).kernels(keep=keep, projected=True)
        kernels += compiled(Squared()).kernels(keep=keep, projected=True)
    library.prepare(kernels, "float64")
    return library


def on_host(library, *arguments, **options):
    """`both_ways` with kernels on the CPU."""
    both_ways(scan_by(partial(forward, library), partial(backward, library)), *arguments, **options)
    library.xp.check_guards()


@needs_compiler
@pytest.mark.parametrize("cell", CELLS, ids=str)
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_built_in_cells_equal_the_reference(library, cell, ragged, reverse):
    rng = np.random.default_rng(7)
    for batch, steps in SIZES:
        arguments = scan_arguments(cell, rng, batch=batch, steps=steps, ragged=ragged)
        on_host(library, cell, *arguments, reverse=reverse, rng=rng)


@needs_compiler
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_bias_of_each_row(library, cell):
    rng = np.random.default_rng(20)
    for k, (batch, steps) in enumerate(SIZES):
        arguments = scan_arguments(cell, rng, batch=batch, steps=steps, ragged=k % 2 == 0, bias="by row")
        on_host(library, cell, *arguments, reverse=k % 3 == 0, masked=k % 4 == 0, rng=rng)


@needs_compiler
@pytest.mark.parametrize("seed", SEEDS)
def test_random_cells_equal_the_reference(library, seed):
    rng = np.random.default_rng(seed)
    cell = RandomCell(seed)
    batch, steps = SIZES[seed % len(SIZES)]
    arguments = scan_arguments(cell, rng, batch=batch, steps=steps, ragged=seed % 2 == 0, bias=seed % 3 > 0)
    on_host(library, cell, *arguments, reverse=seed % 4 > 1, rng=rng, masked=seed % 5 > 2)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("first", range(100, 500, 100))
def test_many_random_cells_equal_the_reference(first, tmp_path):
    library = HostLibrary(tmp_path)
    texts = [compiled(RandomCell(seed)) for seed in range(first, first + 100)]
    library.prepare(
        [k for text in texts for keep in (True, False) for k in text.kernels(keep=keep, projected=False)], "float64"
    )
    for seed in range(first, first + 100):
        test_random_cells_equal_the_reference(library, seed)


@needs_compiler
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_projection_equals_the_reference(library, ragged, reverse, masked):
    rng = np.random.default_rng(8)
    for batch, steps in SIZES:
        arguments = scan_arguments(
            LSTMCell(), rng, batch=batch, steps=steps, projection=2, ragged=ragged, bias=batch != 2
        )
        on_host(library, LSTMCell(), *arguments, reverse=reverse, masked=masked, rng=rng)


@needs_compiler
def test_projection_of_a_cell_that_reads_its_output(library):
    rng = np.random.default_rng(9)
    on_host(library, Squared(), *scan_arguments(Squared(), rng, batch=3, steps=6, projection=4), rng=rng)
    with pytest.raises(ValueError, match=r"Squared combines .* its 4 units, so it can't be projected to 2"):
        on_host(library, Squared(), *scan_arguments(Squared(), rng, batch=3, steps=6, projection=2), rng=rng)


@needs_compiler
@pytest.mark.parametrize("masked", [False, True])
def test_an_output_that_is_read_again_after_a_mean(library, masked):
    rng = np.random.default_rng(19)
    on_host(library, Centred(), *scan_arguments(Centred(), rng, batch=3, steps=6), masked=masked, rng=rng)


@needs_compiler
@pytest.mark.parametrize("reverse", [False, True])
def test_input_products_in_parts_equal_the_reference(library, monkeypatch, reverse):
    monkeypatch.setattr("recurray_cupy.forward.INPUT_PRODUCT_BYTES", 2000)  # 3 or 5 steps of these cells
    rng = np.random.default_rng(10)
    for cell in (LSTMCell(), DiagonalLSTMCell(False), DiagonalLSTMCell(True), Normalised()):
        for bias in (True, "by row"):
            arguments = scan_arguments(cell, rng, batch=4, steps=11, bias=bias)
            on_host(library, cell, *arguments, reverse=reverse, rng=rng)


@needs_compiler
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_float32_equals_the_reference(library, cell):
    library.prepare(
        [k for keep in (True, False) for k in compiled(cell).kernels(keep=keep, projected=False)], "float32"
    )
    rng = np.random.default_rng(11)
    on_host(library, cell, *scan_arguments(cell, rng, batch=3, steps=6, dtype="float32"), rng=rng)


@needs_compiler
def test_arrays_that_are_not_contiguous(library):
    rng = np.random.default_rng(12)
    cell = LSTMCell()
    weights, x, start, _ = scan_arguments(cell, rng, batch=3, steps=6, ragged=False)
    weights = Weights(np.asfortranarray(weights.input), np.asfortranarray(weights.recurrent))
    x = np.asfortranarray(x)
    dy = np.asfortranarray(rng.standard_normal((6, 3, 4)))
    _, _, cache = forward(library, cell, weights, x, tuple(np.asfortranarray(a) for a in start))
    _, _, expected = scan.forward(cell, weights, x, start)
    found = backward(library, cell, cache, dy, start)
    right = expected.backward(dy, start)
    np.testing.assert_allclose(found[0], right[0], rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(found[2].recurrent, right[2].recurrent, rtol=1e-11, atol=1e-12)


@needs_compiler
def test_a_step_is_one_launch(library):
    rng = np.random.default_rng(13)
    weights, x, start, _ = scan_arguments(LSTMCell(), rng, batch=3, steps=6, ragged=False)
    library.launched.clear()
    _, _, cache = forward(library, LSTMCell(), weights, x, start)
    assert library.launched == ["LSTMCell_forward"] * 6
    library.launched.clear()
    forward(library, LSTMCell(), weights, x, start, keep=False, lengths=[6, 1, 0])
    assert library.launched == ["LSTMCell_inference"] * 6
    library.launched.clear()
    backward(library, LSTMCell(), cache, np.zeros((6, 3, 4)), start)
    assert library.launched == ["LSTMCell_backward"] * 6


@needs_compiler
@pytest.mark.parametrize("cell", [DiagonalLSTMCell(True), DiagonalLSTMCell(False), Normalised()], ids=repr)
def test_all_steps_are_one_launch_where_units_do_not_wait_for_each_other(library, cell):
    rng = np.random.default_rng(14)
    weights, x, start, lengths = scan_arguments(cell, rng, batch=3, steps=6)
    library.launched.clear()
    _, _, cache = forward(library, cell, weights, x, start, lengths=lengths)
    backward(library, cell, cache, np.zeros((6, 3, 4)), start)
    name = type(cell).__name__
    assert library.launched == [f"{name}_forward", f"{name}_backward"]


def test_means_take_no_launch_and_a_product_amid_the_step_takes_one_more():
    for seed in SEEDS:
        cell = RandomCell(seed)
        for launches in (compiled(cell).forward(keep=True, projected=False), compiled(cell).backward(projected=False)):
            assert len(launches.kernels) == (2 if cell.inner_gates else 1)
    assert compiled(Normalised()).forward(keep=True, projected=False).kernels[0].by_row


def test_equal_cells_are_compiled_once():
    assert compiled(LSTMCell()) is compiled(LSTMCell())
    assert compiled(DiagonalLSTMCell(True)) is not compiled(DiagonalLSTMCell(False))


@needs_compiler
def test_sum_rows_equals_one_hot_product(library):
    rng = np.random.default_rng(15)
    for rows, count, features in [(20, 5, 3), (4, 300, 2), (0, 3, 2), (3, 0, 2), (1, 1, 1), (6, 3, 0)]:
        index = rng.integers(max(count, 1), size=rows).astype(np.int16)
        if not count:
            index = index[:0]
        values = rng.standard_normal((len(index), features))
        expected = (np.arange(count)[:, None] == index) @ values
        np.testing.assert_allclose(sum_rows(library, values, index, count), expected, rtol=1e-12, atol=1e-12)


@needs_compiler
@pytest.mark.parametrize("size", [1e-40, 1e-20, 1.0, 1e19, 9e37])
def test_norm_is_right_however_large_or_small_the_numbers_are(library, size):
    rng = np.random.default_rng(16)
    shapes = [(1,), (PARTS - 1,), (70, PARTS // 64), (2, 3, PARTS + 1)]
    arrays = [(size * rng.uniform(-1, 1, shape) / 100).astype("float32") for shape in shapes]
    arrays.append(arrays[-1].swapaxes(0, 2))
    exact = np.sqrt(sum((array.astype("float64") ** 2).sum() for array in arrays))
    np.testing.assert_allclose(norm(library, arrays), exact, rtol=1e-6, atol=1e-45)
    for special in (np.nan, np.inf):
        arrays[0][0] = special
        assert np.array_equal(norm(library, arrays), special, equal_nan=True)
    library.xp.check_guards()


@needs_compiler
def test_cupy_has_the_functions_that_the_scan_uses(library):
    cupy = need("cupy")
    rng = np.random.default_rng(18)
    library.xp.used.clear()
    for cell in (LSTMCell(), RandomCell(4), RandomCell(29)):
        on_host(library, cell, *scan_arguments(cell, rng, batch=3, steps=6), masked=True, rng=rng)
    on_host(library, LSTMCell(), *scan_arguments(LSTMCell(), rng, batch=3, steps=6, projection=2), masked=True, rng=rng)
    sum_rows(library, np.ones((3, 2)), np.array([1, 0, 1]), 2)
    assert library.xp.used > {"where", "concatenate", "argsort"}
    for name in library.xp.used:
        assert hasattr(cupy, name), name
    assert cupy.cuda.compiler.CompileException
    assert cupy.cuda.driver.CUDADriverError


@needs_compiler
def test_rows_are_added_up_whatever_their_number(library):
    rng = np.random.default_rng(15)
    for count in (0, 1, 2, FEW, FEW + 1, 70, 4999):
        rows = rng.standard_normal((count, 3)).astype("float32")
        found = add_up_rows(library, rows)
        np.testing.assert_allclose(found, rows.astype("float64").sum(axis=0), rtol=1e-6, atol=1e-5)
    library.xp.check_guards()


@needs_compiler
def test_sums_of_many_equal_rows_are_exact_to_rounding(library):
    """One after the other, 100,000 of 0.1 add up to a sum in float32 that is off by a tenth of a percent."""
    found = add_up_rows(library, np.full((100_000, 2), 0.1, "float32"))
    np.testing.assert_allclose(found, 100_000 * float(np.float32(0.1)), rtol=2e-7)
