"""Which cells the CuPy backend runs by kernels, and what it does about the others. No GPU is needed."""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import recurray as rr
from cases import CASES
from cells import CELLS
from compare_scans import both_ways, problem
from harness import assert_all_close, layer_for, results
from harness import problem as give_problem
from host_cpp import HostLibrary, compiler
from recurray import scan
from recurray.cells import Cell, CellGradients, LSTMCell
from recurray_cupy import CupyBackend
from recurray_cupy.compiled import compiled
from recurray_cupy.library import CompilationError, CupyLibrary


def empty(case):
    """The case with an empty batch."""
    return replace(case, name=f"{case.name}, empty", batch=0, lengths=None if case.lengths is None else ())


needs_compiler = pytest.mark.skipif(compiler() is None, reason="g++ is not installed")


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    library = HostLibrary(tmp_path_factory.mktemp("kernels"))
    texts = [compiled(cell) for cell in CELLS]
    kernels = [
        kernel for text in texts for keep in (True, False) for kernel in text.kernels(keep=keep, projected=False)
    ]
    library.prepare([*kernels, *compiled(LSTMCell()).kernels(keep=True, projected=True)], "float64")
    return library


class Averaging(Cell):
    """A cell that reduces, which can't be recorded."""

    input_gates = ("x",)

    def step(self, x, h, before, params):
        after = 0.5 * before.h + x.x - np.mean(x.x, axis=-1, keepdims=True)
        return {"h": after}, {}

    def step_backward(self, d, saved, before, params):
        dx = d.h - np.mean(d.h, axis=-1, keepdims=True)
        return CellGradients(x={"x": dx}, h={}, before={"h": 0.5 * d.h})


class NoCompiler:
    """A library whose compiler refuses some kernels."""

    def __init__(self, library, refused):
        self.xp, self.library, self.refused = library.xp, library, refused

    def function(self, kernel, dtype):
        if kernel.name.endswith(self.refused):
            raise CompilationError(f"the kernel {kernel.name} doesn't compile: line 1")
        return self.library.function(kernel, dtype)


def backend_on(library):
    """The backend, but on the CPU."""
    backend = object.__new__(CupyBackend)
    backend._cupy = SimpleNamespace(ndarray=np.ndarray, asnumpy=np.array)
    backend.xp = np
    backend.device, backend.name = Device("cpu"), "cupy"
    backend.library, backend._slow = library, set()
    return backend


class Device(str):
    """NumPy's device, which CuPy's way of choosing one may be applied to."""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


@needs_compiler
@pytest.mark.parametrize("case", [*CASES, *map(empty, CASES)], ids=str)
def test_layers_equal_the_reference(library, case):
    given, backend = give_problem(case), backend_on(library)
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
    weights, x, start, lengths = problem(cell, rng, batch=3, steps=6, dtype=dtype)
    with pytest.warns(UserWarning, match=warning) as told:
        y, end, cache = backend.scan_forward(cell, weights, x, start, lengths=lengths)
    assert len(told) == 1
    assert type(cache) is scan.ScanCache
    backend.scan_backward(cell, cache, y, end)
    with warnings.catch_warnings(action="error"):  # once is enough
        again, _, _ = backend.scan_forward(cell, weights, x, start, lengths=lengths)
    np.testing.assert_array_equal(again, y)


def test_a_cell_that_cannot_be_recorded_runs_by_the_reference_with_one_warning():
    library = HostLibrary(None)
    runs_by_the_reference(
        backend_on(library), Averaging(), "Averaging runs slowly, by the reference path: .*elementwise"
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
    arguments = problem(LSTMCell(), rng, batch=3, steps=6)
    both_ways(backend.scan_forward, backend.scan_backward, LSTMCell(), *arguments, rng=rng)
    assert len(library.launched) > 20
    np.testing.assert_array_equal(backend.sum_rows(np.eye(2), np.array([1, 1]), 2), [[0, 0], [1, 1]])


def test_kernels_are_compiled_once_for_each_device(monkeypatch):
    cupy = FakeCupy()
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    library = CupyLibrary()
    kernel = compiled(LSTMCell()).forward(keep=True, projected=False).kernels[0]
    first = library.function(kernel, "float32")
    assert library.function(kernel, "float32") is first
    assert library.function(kernel, "float64") is not first
    cupy.number = 1
    assert library.function(kernel, "float32") is not first
    assert [name for _, name in cupy.compiled] == [kernel.name] * 3
    assert cupy.compiled[0][0] == kernel.source("float32")
    cupy.number, cupy.fails = 2, True
    with pytest.raises(CompilationError, match="the kernel LSTMCell_forward doesn't compile: no such"):
        library.function(kernel, "float32")


class FakeCupy:
    """What of CuPy the compiling of kernels uses."""

    class CompilationFailedError(Exception):
        pass

    class CUDADriverError(Exception):
        pass

    def __init__(self):
        self.number, self.fails, self.compiled = 0, False, []
        self.cuda = SimpleNamespace(
            runtime=SimpleNamespace(getDevice=lambda: self.number),
            compiler=SimpleNamespace(CompileException=self.CompilationFailedError),
            driver=SimpleNamespace(CUDADriverError=self.CUDADriverError),
        )

    def RawKernel(self, code, name):  # noqa: N802 - CuPy's name
        def compile_kernel():
            if self.fails:
                raise self.CompilationFailedError("no such operator")
            self.compiled.append((code, name))

        return SimpleNamespace(compile=compile_kernel)
