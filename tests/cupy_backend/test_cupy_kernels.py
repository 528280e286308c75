"""The kernels that the CuPy backend writes: their text, what it means, and that compilers for GPUs take it."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType

import numpy as np
import pytest

from harness.cells import CELLS
from harness.compare_scans import Normalised, both_ways, scan_arguments, scan_by
from harness.cuda import nvrtc
from harness.cuda.compilers import ARCHITECTURES, nvcc
from harness.cuda.host_cpp import HEAD, HostLibrary
from harness.named_cell import NamedCell
from harness.needs import needs_compiler, needs_nvcc, needs_nvrtc
from harness.random_cell import RandomCell
from recurray.arrays import namespace_of, sigmoid
from recurray.cells import Cell, CellGradients, DiagonalLSTMCell, GRUCell, LSTMCell
from recurray.cells.cell import named
from recurray_cupy.backward import backward
from recurray_cupy.compiled import compiled
from recurray_cupy.forward import forward
from recurray_cupy.kernel import ELEMENT_BLOCK, MOST_BLOCKS, ROW_BLOCK, fixed_text, grid_of
from recurray_cupy.launcher import Launcher
from recurray_cupy.products import rounding_kernel, sum_rows_kernel


def kernels_of(cell, *, projected=False):
    return [kernel for keep in (True, False) for kernel in compiled(cell).kernels(keep=keep, projected=projected)]


def test_no_name_of_a_cells_own_is_taken_for_a_kernels_argument():
    cell = NamedCell(hoisted="mean_p", amid="mean_s", draw="mean_m", kept="mean_k", rows=(("u", ("mean_a",)),))
    for kernel in kernels_of(cell):
        assert {argument.name for argument in kernel.arguments if argument.type == "real"} <= {"mean_mean_m"}


# Launch arithmetic ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 2, 31, 1000, 70_000])
@pytest.mark.parametrize("units", [1, 31, 128, 129, 2048])
def test_grids_cover_all_elements(batch, units):
    blocks, threads = grid_of(False, batch, units)
    assert threads == ELEMENT_BLOCK
    assert (blocks - 1) * threads < batch * units <= blocks * threads
    blocks, threads = grid_of(True, batch, units)
    assert blocks == batch
    assert threads <= ROW_BLOCK
    assert threads % 32 == 0
    assert threads == ROW_BLOCK or units <= threads < units + 32


def test_grids_that_cannot_be():
    with pytest.raises(ValueError, match=r"a launch over \(0, 4\) has no elements"):
        grid_of(False, 0, 4)
    with pytest.raises(ValueError, match=r"a launch over \(4, 0\) has no elements"):
        grid_of(True, 4, 0)
    assert grid_of(False, MOST_BLOCKS, ELEMENT_BLOCK) == (MOST_BLOCKS, ELEMENT_BLOCK)
    with pytest.raises(ValueError, match="more than a grid"):
        grid_of(False, MOST_BLOCKS + 1, ELEMENT_BLOCK)
    with pytest.raises(ValueError, match="more than a grid"):
        grid_of(True, MOST_BLOCKS + 1, 1)


SMALL = re.compile(r"param_|\w+_bias$|work_rows$|sums\d")  # arrays without room for 2**31 elements


@pytest.mark.parametrize("cell", [*CELLS, *map(RandomCell, range(20))], ids=lambda cell: type(cell).__name__)
def test_offsets_into_large_arrays_are_of_64_bits(cell):
    for kernel in (*kernels_of(cell, projected=True), sum_rows_kernel()):
        for line in kernel.lines:
            for array, index in re.findall(r"(\w+)\[([^]]*)\]", line):
                if SMALL.match(array) or index in ("b", "e / units"):
                    continue
                assert re.match(r"\(*\(long long\)|\d+ \* n \+ e$|e$", index) or kernel.name == "sum_rows", line


# What is computed ----------------------------------------------------------------------------------------------------


class Peculiar(Cell):
    """Names beyond ASCII, flags and constants that are saved, infinity, NaN, and results that are mere inputs."""

    input_gates = ("λ", "b")
    recurrent_gates = ("b",)
    states = ("h", "ω", "same")
    pointwise = MappingProxyType({"θ": ("one", "zwei")})
    draws = MappingProxyType({"μ": 0.4})

    def step(self, x, h, before, params):
        xp = namespace_of(x.b)
        a, omega = x.λ, before.ω
        positive = a > 0
        draw = x.μ
        limited = xp.minimum(xp.maximum(a, -np.inf), np.inf)
        after = {"h": sigmoid(limited + x.b + h.b) * draw, "ω": xp.where(positive, before.same, omega), "same": a}
        return after, {"positive": positive, "half": 0.5 + 0 * a, "h": after["h"], "old": omega, "logit": a + h.b}

    def step_backward(self, d, saved, before, params):
        xp = namespace_of(saved.h)
        domega = d.ω
        da = d.same + d.h * saved.h + xp.where(saved.positive, d.h * saved.half, 0.0) * saved.old
        db = d.h * saved.h * xp.expm1(-xp.abs(saved.logit)) + domega * xp.log1p(xp.exp(-xp.abs(saved.logit)))
        dparams = {"θ": {"one": d.h * xp.sqrt(xp.abs(saved.old)), "zwei": xp.zeros_like(d.h)}}
        dbefore = {"ω": domega - xp.where((saved.old < 1) & (saved.h >= 0.5), domega, 0.0), "same": d.h}
        return CellGradients(x={"λ": da, "b": db}, h={"b": db}, before=dbefore, params=dparams)


@needs_compiler
def test_a_peculiar_cell_equals_the_reference(tmp_path):
    library = HostLibrary(tmp_path)
    library.prepare(kernels_of(Peculiar()), "float64")
    rng = np.random.default_rng(1)
    arguments = scan_arguments(Peculiar(), rng, batch=3, steps=6)
    both_ways(scan_by(partial(forward, library), partial(backward, library)), Peculiar(), *arguments, rng=rng)
    assert all(kernel.source("float64").isascii() for kernel in kernels_of(Peculiar()))


@dataclass(frozen=True)
class Function(Cell):
    """A cell whose step is one function of two of its states."""

    name: str

    input_gates = ("x",)
    states = ("h", "a", "b")

    def step(self, x, h, before, params):
        function = getattr(namespace_of(before.a), self.name, sigmoid)
        operands = (before.a, before.b) if self.name in ("maximum", "minimum") else (before.a,)
        return {"h": function(*operands), "a": before.a, "b": before.b}, {}

    def step_backward(self, d, saved, before, params):
        return CellGradients(x={"x": d.h}, h={}, before={})


FUNCTIONS = ("maximum", "minimum", "tanh", "logistic", "exp", "expm1", "log1p", "log", "sqrt", "abs")


@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_functions_of_large_numbers_and_nan_are_those_of_numpy(tmp_path, dtype):
    cells = [
        Function(name)
        for name in ["maximum", "minimum", "tanh", "logistic", "exp", "expm1", "log1p", "log", "sqrt", "abs"]
    ]
    library = HostLibrary(tmp_path)
    library.prepare([compiled(cell).forward(keep=False, projected=False).kernels[0] for cell in cells], dtype)
    special = np.array([-np.inf, -1e30, -100, -1, -0.0, 0.0, 1e-30, 1, 100, 1e30, np.inf, np.nan], dtype)
    a, b = (a.reshape(-1, 1) for a in np.meshgrid(special, special))
    for cell in cells:
        weights, x, _, _ = scan_arguments(cell, np.random.default_rng(2), batch=len(a), steps=1, size=1, dtype=dtype)
        y, _, _ = forward(library, cell, weights, np.zeros_like(x), (a, a, b), keep=False)
        with np.errstate(all="ignore"):
            expected = cell.step(None, None, named(cell.states)(a, a, b), None)[0]["h"]
        np.testing.assert_allclose(y[0], expected, rtol=1e-6, err_msg=cell.name)


@needs_compiler
@pytest.mark.parametrize("threads", [1, 2, 15, 16, 17, 32, 50])
def test_means_with_any_number_of_threads_and_units(tmp_path, threads):
    library = HostLibrary(tmp_path, row_threads=threads)
    library.prepare(kernels_of(Normalised()), "float64")
    rng = np.random.default_rng(3)
    for size in (1, 16, 37):
        arguments = scan_arguments(Normalised(), rng, batch=2, steps=3, size=size)
        both_ways(scan_by(partial(forward, library), partial(backward, library)), Normalised(), *arguments, rng=rng)


RACE = """
typedef double real;
%s

int main() {
    int wrong = 0;
    together(3, 20, [&] {
        for (int round = 0; round < 20; ++round) {
            real one[1] = {(real)round}, two[2] = {(real)threadIdx.x, (real)blockIdx.x};
            block_sums(one);
            block_sums(two);
            block_sums(one);
            if (one[0] != 400 * round || two[0] != 190 || two[1] != 20 * blockIdx.x) __atomic_store_n(&wrong, 1, 0);
        }
    });
    return wrong;
}
"""


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("barrier", [None, 0, 1])
def test_threads_do_not_race_in_sums(tmp_path, barrier):
    """ThreadSanitizer finds nothing, and it does where a barrier is taken out."""
    parts = f"#define ROW_BLOCK {ROW_BLOCK}\n{fixed_text('functions.cuh')}".split("__syncthreads();")
    assert len(parts) == 3
    if barrier is not None:
        parts[barrier : barrier + 2] = ["".join(parts[barrier : barrier + 2])]
    (tmp_path / "race.cpp").write_text(HEAD + RACE % "__syncthreads();".join(parts))
    command = ["g++", "-std=c++20", "-O1", "-g", "-pthread", "-fsanitize=thread", "-o", "race", "race.cpp"]
    subprocess.run(command, cwd=tmp_path, check=True)
    done = subprocess.run([tmp_path / "race"], capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == (barrier is None), done.stderr[:4000]


@needs_compiler
def test_arrays_that_are_not_contiguous_are_refused(tmp_path):
    library = HostLibrary(tmp_path)
    arrays = {"values": np.zeros((2, 3)).T, "order": np.arange(3), "ends": np.array([3]), "sums_of_rows": np.zeros(2)}
    options = {"dtype": "float64", "batch": 1, "units": 2, "reverse": False}
    with pytest.raises(ValueError, match="values isn't contiguous"):
        Launcher(library, sum_rows_kernel(), arrays, **options)


# Mistakes in kernels are caught --------------------------------------------------------------------------------------

# None of them writes past the ends of an array, which would end the tests.
MISTAKES = {
    "a step too many": ("if (t < length)", "if (t <= length)"),
    "lengths ignored": ("if (t < length)", "if (t < length || true)"),
    "finished gates keep their gradient": ("dx_gates[(((long long)t * batch + b) * 4 + 2) * units + u] = 0;", ""),
    "the state after the step": ("= state_c[(long long)(t + reverse)", "= state_c[(long long)(t + 1 - reverse)"),
    "the state of another step": ("state_c[(long long)(t + 1 - reverse) * n + e] =", "state_c[(long long)t * n + e] ="),
    "another part's steps": ("(t - first)", "t"),
    "no bias of the input": ("x_bias ? x_bias[2 * units + u]", "x_bias ? 0 * x_bias[2 * units + u]"),
    "no bias of the product": ("h_bias ? h_bias[3 * units + u]", "h_bias ? 0 * h_bias[3 * units + u]"),
    "another gate": ("* batch + b) * 4 + 1) * units", "* batch + b) * 4 + 0) * units"),
    "mask forgotten forward": ("h_masked[e] = v22 * mask[e]", "h_masked[e] = v22"),
    "mask forgotten backward": ("product[e] * mask[e] : product[e]", "product[e] : product[e]"),
    "nothing through the product": ("d_h[e] + (mask", "d_h[e] + 0 * (mask"),
    "no direct gradient": ("= d_h[e] +", "= 0 * d_h[e] +"),
    "dy forgotten": ("+ dy[(long long)t * n + e]", "+ 0 * dy[(long long)t * n + e]"),
    "dy of another row": ("+ dy[(long long)t * n + e]", "+ dy[(long long)t * n + u]"),
    "saved in the wrong place": ("saved[((long long)t * 5 + 3)", "saved[((long long)t * 5 + 2)"),
    "the mean is a sum": (" / units;", ";"),
    "the mean of one's own units": ("block_sums(sums0);", "__syncthreads();"),
    "params' gradients start anew": ("sum1 += ", "sum1 = "),
    "params' gradients of another row": ("dparams[1 * n + e]", "dparams[2 * n + e]"),
}


class Mistaken:
    """A library whose kernels have a mistake."""

    def __init__(self, library, old, new):
        self.library, self.old, self.new = library, old, new

    def __getattr__(self, name):
        return getattr(self.library, name)

    def function(self, kernel, dtype):
        return self.library.function(self.changed(kernel), dtype)

    def changed(self, kernel):
        return replace(kernel, lines=tuple(line.replace(self.old, self.new) for line in kernel.lines))


@needs_compiler
def test_mistakes_are_caught(tmp_path, monkeypatch):
    monkeypatch.setattr("recurray_cupy.forward.INPUT_PRODUCT_BYTES", 2000)  # several parts
    library = HostLibrary(tmp_path, row_threads=2)
    cells = [LSTMCell(), DiagonalLSTMCell(False), Normalised()]
    kernels = [kernel for cell in cells for kernel in kernels_of(cell)]
    mistaken = {name: Mistaken(library, *mistake) for name, mistake in MISTAKES.items()}
    library.prepare([each.changed(kernel) for each in mistaken.values() for kernel in kernels], "float64")
    for name, each in {"none": Mistaken(library, "", ""), **mistaken}.items():
        changed = [cell for cell in cells if any(each.changed(kernel) != kernel for kernel in kernels_of(cell))]
        assert changed or name == "none", f"{name}: no kernel has the text that is to be changed"
        caught = False
        for cell in changed or cells:
            rng = np.random.default_rng(4)
            for reverse in (False, True):
                arguments = scan_arguments(cell, rng, batch=3, steps=11)
                with np.errstate(all="ignore"):
                    try:
                        both_ways(
                            scan_by(partial(forward, each), partial(backward, each)),
                            cell,
                            *arguments,
                            rng=rng,
                            reverse=reverse,
                            masked=True,
                        )
                    except AssertionError:
                        caught = True
        assert caught == (name != "none"), name


# Compilers for GPUs --------------------------------------------------------------------------------------------------


def device_text(cells, dtype):
    """All kernels of some cells, in namespaces of their own."""
    kernels = [kernel for cell in cells for kernel in kernels_of(cell)]
    kernels += [*kernels_of(LSTMCell(), projected=True), sum_rows_kernel()]
    kernels += [rounding_kernel(small) for small in ("float16", "bfloat16")] if dtype == "float32" else []
    kernels.append(kernels_of(LSTMCell())[0].by_table)
    sources = dict.fromkeys(kernel.source(dtype).replace('extern "C"', "") for kernel in kernels)
    return "\n".join(f"namespace k{k} {{\n{source}\n}}" for k, source in enumerate(sources))


ALL = [*CELLS, Normalised(), Peculiar(), *(RandomCell(seed) for seed in (2, 29, 47))]


FEW = [LSTMCell(), GRUCell(), Normalised(), Peculiar()]


def compiled_for(architecture):
    """All cells in both precisions for the oldest and the newest, all in float32 for an H200, few for those between."""
    if architecture in (ARCHITECTURES[0], ARCHITECTURES[-1]):
        return [("float32", ALL), ("float64", ALL)]
    return [("float32", ALL if architecture == "sm_90" else FEW)]


@needs_nvcc
@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kernels_compile_for_gpus_by_nvcc(tmp_path, dtype):
    """Without warnings, which are errors here and don't depend on the architecture."""
    nvcc(tmp_path, device_text(ALL, dtype), "-arch=sm_90", "--cubin", "-o", "kernels.cubin")
    assert (tmp_path / "kernels.cubin").read_bytes()[:4] == b"\x7fELF"


@needs_nvrtc
@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_kernels_compile_for_gpus_by_nvrtc(architecture):
    for dtype, cells in compiled_for(architecture):
        resources = nvrtc.resources_of(device_text(cells, dtype), architecture)
        assert len(resources) > (100 if cells is ALL else 10)
        for name, (registers, spilled) in resources.items():
            assert registers <= 128, name
            assert spilled <= 16, name  # a few kernels have four registers in memory
        kernel = compiled(LSTMCell()).forward(keep=True, projected=False).kernels[0]
        assert nvrtc.compiled(kernel.source(dtype), architecture)[:4] == b"\x7fELF"  # as it stands, extern "C" and all


@needs_nvcc
@pytest.mark.slow
def test_float32_kernels_compute_nothing_in_float64(tmp_path):
    nvcc(tmp_path, device_text(ALL, "float32"), "-arch=compute_75", "--ptx", "-o", "kernels.ptx")
    text = (tmp_path / "kernels.ptx").read_text()
    assert text.count(".entry") > 20
    assert ".f64" not in text


def test_importing_the_backend_imports_no_cupy():
    code = "import sys, recurray_cupy; assert 'cupy' not in sys.modules, 'cupy was imported'"
    subprocess.run([sys.executable, "-c", code], check=True)
