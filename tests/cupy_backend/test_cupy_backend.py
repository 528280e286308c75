"""Which cells the CuPy backend runs by kernels, and what it does about the others. No GPU is needed."""

from __future__ import annotations

import struct
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest

import recurray as rr
from harness import assert_all_close, layer_for, problem, results
from harness.cases import CASES
from harness.cells import CELLS
from harness.compare_scans import Averaging, both_ways, scan_arguments
from harness.cuda.fake_cupy import CUDADriverError, FakeCupy
from harness.cuda.host_backend import NoCompiler, backend_on
from harness.cuda.host_cpp import HostLibrary
from harness.named_cell import NamedCell
from harness.needs import needs_compiler
from recurray import scan
from recurray.cells import LSTMCell
from recurray_cupy.compiled import Way, compiled
from recurray_cupy.library import CompilationError, Device, DoesNotFitError, Library
from recurray_cupy.persistent.layout import layout_for
from recurray_cupy.persistent.of_cell import recurrence_of


def empty(case):
    """The case with an empty batch."""
    return replace(case, name=f"{case.name}, empty", batch=0, lengths=None if case.lengths is None else ())


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    library = HostLibrary(tmp_path_factory.mktemp("kernels"))
    texts = [compiled(cell) for cell in CELLS]
    kernels = [
        kernel for text in texts for keep in (True, False) for kernel in text.kernels(keep=keep, projected=False)
    ]
    library.prepare([*kernels, *compiled(LSTMCell()).kernels(keep=True, projected=True)], "float64")
    return library


@needs_compiler
@pytest.mark.parametrize("case", [*CASES, *map(empty, CASES)], ids=str)
def test_layers_equal_the_reference(library, case):
    given, backend = problem(case), backend_on(library)
    library.launched.clear()
    layer = layer_for(case, given, backend)
    found = results(layer, given)
    expected = results(layer_for(case, given, rr.get_backend(np)), given)
    assert_all_close(backend, found, expected)
    has_kernels = isinstance(layer, rr.Recurrent | rr.Embedding) and given.x.size
    assert library.launched or not has_kernels
    library.xp.check_guards()


def runs_by_the_reference(backend, cell, warning, dtype="float64"):
    rng = np.random.default_rng(16)
    weights, x, start, lengths = scan_arguments(cell, rng, batch=3, steps=6, dtype=dtype)
    with pytest.warns(UserWarning, match=warning) as told:
        y, end, cache = backend.scan_forward(cell, weights, x, start, lengths=lengths)
    assert len(told) == 1
    assert type(cache.cache) is scan.ScanCache
    cache.backward(y, end)
    with warnings.catch_warnings(action="error"):  # once is enough
        again, _, _ = backend.scan_forward(cell, weights, x, start, lengths=lengths)
    np.testing.assert_array_equal(again, y)


def test_a_cell_that_cannot_be_recorded_runs_by_the_reference_with_one_warning():
    library = HostLibrary(None)
    runs_by_the_reference(
        backend_on(library), Averaging(), "Averaging runs slowly, by the reference path: a step can't call numpy.mean"
    )
    assert not library.launched


@needs_compiler
@pytest.mark.parametrize("refused", ["forward", "backward"])
def test_a_cell_that_does_not_compile_runs_by_the_reference_with_one_warning(library, refused):
    library.launched.clear()
    backend = backend_on(NoCompiler(library, refused))
    runs_by_the_reference(backend, LSTMCell(), f"LSTMCell runs slowly, .* LSTMCell_{refused} doesn't compile: line 1")
    assert not library.launched


def test_another_precision_runs_by_the_reference_with_one_warning():
    backend = backend_on(HostLibrary(None))
    runs_by_the_reference(backend, LSTMCell(), "there are kernels for float32 and float64, not for float16", "float16")


@needs_compiler
def test_the_backend_runs_kernels(library):
    rng = np.random.default_rng(17)
    backend = backend_on(library)
    library.launched.clear()
    arguments = scan_arguments(LSTMCell(), rng, batch=3, steps=6)
    both_ways(backend.scan_forward, LSTMCell(), *arguments, rng=rng)
    assert len(library.launched) == 5  # each way one launch for all steps
    np.testing.assert_array_equal(backend.sum_rows(np.eye(2), np.array([1, 1]), 2), [[0, 0], [1, 1]])


@needs_compiler
@pytest.mark.parametrize(
    "cell",
    [
        NamedCell(state="output", projectable=True),
        NamedCell(state="inner", amid="q2"),
        NamedCell(rows=(("u969", ("a",)), ("ω", ("a",)), ("U969_", ("a",)))),
    ],
)
def test_names_of_a_cells_own_are_not_taken_for_the_backends(library, cell):
    rng = np.random.default_rng(18)
    backend = backend_on(library)
    arguments = scan_arguments(cell, rng, batch=3, steps=5, projection=2 if cell.projectable else 0)
    both_ways(backend.scan_forward, cell, *arguments, rng=rng)


TEN = Device(multiprocessors=10, shared=100_000, cooperative=True, tensor_cores=True)


def test_kernels_are_compiled_once_for_each_device(monkeypatch):
    cupy = FakeCupy(TEN)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    library = Library()
    kernel = compiled(LSTMCell()).forward(keep=True, projected=False).kernels[0]
    first = library.function(kernel, "float32")
    assert library.function(kernel, "float32") is first
    assert library.function(kernel, "float64") is not first
    cupy.cuda.runtime.number = 1
    assert library.function(kernel, "float32") is not first
    assert [name for _, name in cupy.compiled] == [kernel.name] * 3
    assert cupy.compiled[0][0] == kernel.source("float32")
    cupy.cuda.runtime.number, cupy.fails = 2, True
    with pytest.raises(CompilationError, match="the kernel LSTMCell_forward doesn't compile: no such"):
        library.function(kernel, "float32")


def laid_out(library, layout, cooperative=True):
    recurrence = recurrence_of(LSTMCell(), Way.TRAINING)
    return library.shaped(recurrence.kernel(layout.tile, layout.threads), "float32", layout, cooperative=cooperative)


def bound(library, function, layout):
    """A launch with an array, a number and the step as its arguments."""
    return library.bound(function, layout.blocks, layout.threads, struct.pack("=Qi4xi4x", 2**40, 9, 0), None)


def test_a_launch_has_the_shared_memory_of_its_layout(monkeypatch):
    cupy = FakeCupy(TEN)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    library = Library()
    assert library.device() == TEN
    layout = layout_for(recurrence_of(LSTMCell(), Way.TRAINING).work(3, 80, 4), TEN, resident=True, holding=False)
    assert 5 < layout.blocks <= 10
    function = laid_out(library, layout)
    assert laid_out(library, layout) is function
    launch = bound(library, function, layout)
    launch(5, 3)
    assert cupy.launched == [(layout.blocks, 256, layout.shared, 7, True, [2**40, 9, 5, 3])]
    bound(library, laid_out(library, replace(layout, shared=layout.shared // 2)), layout)(0)
    launch(6)  # still has its shared memory
    assert [each[2] for each in cupy.launched] == [layout.shared, layout.shared // 2, layout.shared]
    assert cupy.launched[-1][-1] == [2**40, 9, 6, 1]
    bound(library, laid_out(library, layout, cooperative=False), layout)(0)
    assert cupy.launched[-1][4] is False
    cupy.most_shared = 99_999
    with pytest.raises(DoesNotFitError, match="can't have the shared memory that it needs: CUDA_ERROR_1"):
        laid_out(Library(), layout, cooperative=False)
    assert len(cupy.launched) == 4


def test_a_launch_that_is_refused_is_left_to_another_strategy_and_a_broken_one_is_not(monkeypatch):
    cupy = FakeCupy(TEN)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    library = Library()
    layout = layout_for(recurrence_of(LSTMCell(), Way.TRAINING).work(3, 80, 4), TEN, resident=True)
    launch = bound(library, laid_out(library, layout), layout)
    for status, error in ((701, DoesNotFitError), (720, DoesNotFitError), (700, CUDADriverError)):
        cupy.refuses = CUDADriverError(status)
        with pytest.raises(error, match=str(status)):
            launch(0)


@needs_compiler
@pytest.mark.parametrize("strategy", ["persistent", "fused"])
def test_a_frozen_layers_weights_are_rounded_once(tmp_path, strategy):
    library = HostLibrary(tmp_path, gpu=Device(multiprocessors=2, shared=40_000, threads=64))
    backend = backend_on(library)
    backend.strategy, backend.compute_dtype = strategy, "bfloat16"
    layer = rr.LSTM(3, 8, backend=backend, seed=0)
    x, launched = np.ones((2, 5, 3), np.float32), []
    frozen = layer.frozen()
    for own in (layer, layer, frozen, frozen):
        library.launched.clear()
        y, _ = own(x)
        launched.append(sum("to_bfloat16" in name for name in library.launched))
        np.testing.assert_array_equal(y, layer(x)[0])
    assert launched[0] == launched[1]
    assert launched[3] < launched[0]


class Full:
    """A library whose GPU has no memory left after some arrays."""

    def __init__(self, library, arrays):
        self.library, self.left, self.xp = library, arrays, self

    def __getattr__(self, name):
        return getattr(self.library if hasattr(self.library, name) else np, name)

    def empty(self, dtype, shape):
        self.left -= 1
        if self.left < 0:
            raise MemoryError(f"Out of memory allocating {np.prod(shape)} numbers")
        return np.empty(shape, dtype)

    def part(self, dtype, shape):
        return self.empty(dtype, shape)

    def parts(self, dtype, shapes):
        return {name: None if shape is None else self.part(dtype, shape) for name, shape in shapes.items()}


def train(layer, x):
    y, _, cache = layer.forward(x)
    layer.backward(cache, y)


@needs_compiler
def test_too_little_memory_is_said_plainly_and_leaves_no_trace(library):
    backend = backend_on(library)
    backend.strategy = "fused"
    layer = rr.LSTM(3, 4, backend=backend, dtype="float64", seed=0)
    x = np.ones((2, 6, 3))
    for arrays in range(12):
        backend.library = Full(library, arrays)
        with warnings.catch_warnings(action="error"), pytest.raises(MemoryError, match="allocating") as told:
            train(layer, x)
        assert "LSTM with 4 units, over 6 steps of 2 rows. Fewer rows" in told.value.__notes__[0]
        assert "recompute='sqrt'" in told.value.__notes__[0]
    backend.library = library
    y, _, cache = layer.forward(x)
    expected = rr.LSTM(3, 4, backend=np, dtype="float64", params=layer.params)
    np.testing.assert_allclose(y, expected(x)[0], rtol=1e-12)
    np.testing.assert_allclose(layer.backward(cache, y)[0], expected.backward(expected.forward(x)[2], y)[0], rtol=1e-11)


@needs_compiler
def test_arrays_of_another_gpu_are_refused_before_any_work(library):
    backend, elsewhere = backend_on(library), []
    backend.on_device = lambda a: all(a.ctypes.data != other.ctypes.data for other in elsewhere)

    def there(*shape):
        elsewhere.append(np.ones(shape, "float32"))
        return elsewhere[-1]

    layer = rr.LSTM(3, 4, backend=backend, seed=0)
    library.launched.clear()
    with pytest.raises(ValueError, match=r"x must be on the device .*layer.backend.asarray\(x\)"):
        layer(there(2, 6, 3))
    assert not library.launched
    x = np.ones((2, 6, 3), "float32")
    _, state, cache = layer.forward(x)
    launched = len(library.launched)
    with pytest.raises(ValueError, match=r"state\.h must be on the device"):
        layer(x, rr.State(there(1, 2, 4), state.c))
    with pytest.raises(ValueError, match="dy must be on the device"):
        layer.backward(cache, there(2, 6, 4))
    assert len(library.launched) == launched
