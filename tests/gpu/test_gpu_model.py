"""The model of speed counts what the kernels do, and the docs show what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import recurray as rr
from gpu import model
from harness import obtain
from harness.needs import need
from recurray_cupy import CupyBackend
from recurray_cupy.library import Device
from recurray_cupy.persistent import recurrence as persistent
from recurray_cupy.persistent.layout import layout_for

DOCS = Path(__file__).parents[2] / "docs"


def test_the_docs_show_what_the_model_says():
    """`python tests/gpu/model.py` prints it."""
    published, beside, *others = model.tables()
    for table in (published, beside):
        assert table in (DOCS / "gpu.md").read_text()
    for table in others:
        assert table in (DOCS / "gpu-model.md").read_text()


def test_wavefronts_are_those_of_the_addresses():
    """Counted anew, by the places that `multiply` reads: each warp's threads, and 128 bytes at a time."""
    work = model.recurrence_of("float32", backward=False).work(20, 96, 4)
    for groups in (model.H200, Device(multiprocessors=9, shared=232_448)):
        layout = layout_for(work, groups, resident=True)
        rows = work.parts * layout.block_units
        rows_apart, columns_apart = -(-rows // layout.tile[0]), -(-layout.block_rows // layout.tile[1])
        expected = []
        for warp in range(layout.threads // 32):
            count = 0
            for asked in range(sum(layout.tile)):
                places = set()
                for thread in range(32 * warp, 32 * warp + 32):
                    slice_, place = divmod(thread, rows_apart * columns_apart)
                    column, row = divmod(place, rows_apart)
                    if slice_ < layout.slices:
                        own = ("w", row, asked) if asked < layout.tile[0] else ("h", column, asked)
                        places.add((*own, slice_))
                count += -(-16 * len(places) // 128)
            expected.append(count)
        found = [sum(both) for both in model.wavefronts_of(rows, layout)]
        assert found == expected[: len(found)]
        assert not any(expected[len(found) :])


def test_a_bound_is_no_more_than_the_estimate():
    for dtype in model.DTYPES:
        for strategy in model.STRATEGIES:
            for backward in (False, True):
                for units in model.UNITS:
                    for batch in model.BATCHES:
                        found = model.modelled(strategy, dtype, batch, units, backward=backward)
                        assert found.counts is None or 0 < found.bound <= found.estimate


# On an emulated device ------------------------------------------------------------------------------------------------

COUNTED = {"operand": 0, "weights": 1, "products": 2, "shared": 3, "tiles": 4, "memory": 5, "arrivals": 6}
HEAD = """
extern "C" __device__ unsigned long long counted[8];
#define COUNT(k, n) atomicAdd(&counted[k], (unsigned long long)(n))
"""


def counting(text):
    """The kernel's text, which counts as it goes."""

    def put(pattern, new, least=1):
        nonlocal text
        text, count = re.subn(pattern, new, text)
        assert count >= least, pattern

    if "multiply_rounded" in text:
        put(r"(const unsigned a\[4\] = )", r"COUNT(3, 16); \1")
        put(r"(b\[j\]\[0\] = )", r"COUNT(3, 8), \1")
        tile = r"(multiply_tile\(sums\[i\]\[j\], (a|held\[step\]\[i\]), b\[j\]\);)"
        put(tile, r"{ if (threadIdx.x % 32 == 0) COUNT(4, 1); \1 }", least=2)
        put(r"(?=copy<16>\(operand )", "COUNT(0, 16); ")
        put(r"(?=copy<16>\(to \+ row )", "COUNT(1, 16); ")
    else:
        put(r"(?=const real\* from = source)", "COUNT(0, 4 * least(4, depth - k)); ")
        put(r"(?=copy_(four|some)\(to )", "COUNT(1, 4 * least(4, depth - k)); ", least=0)
        put(r"(?=if \(r < rows\) copy_or_zero\()", "COUNT(1, r < rows && k < depth ? 4 : 0); ", least=0)
        put(r"(sum \+= one\.a )", r"COUNT(2, 4); \1")
        put(r"(b\[j\] = numbers\[)", r"COUNT(3, 16), \1")
        put(r"(const Four one = )", r"COUNT(3, 16); \1")
    put(r"(to\[c \* apart \+ r\] = )", r"COUNT(3, 4), \1")
    put(r"total \+= of_slices\[", "COUNT(3, 4), total += of_slices[")
    put(r"(copy_one\(&coming\[[^;]*\Wt\W)", r"COUNT(5, 4); \1")
    put(r"(\n +)((?:state_\w+|saved|d\w_gates)\[[^\n]*\Wt\W[^\n=]*\] = [^0])", r"\1COUNT(5, 4); \2")
    put(r"(asm volatile\(\"red\.release)", r"COUNT(6, 1); \1")
    return HEAD + text


@pytest.mark.gpu
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("strategy", ["persistent", "step"])
@pytest.mark.parametrize(
    ("batch", "units", "multiprocessors", "shared", "fits"),
    [  # where all weights stay on the multiprocessors
        (3, 64, 6, 232_448, ("float32", "bfloat16")),
        (5, 80, 3, 24_000, ("float32", "bfloat16")),
        (2, 36, 2, 8_000, ("float32", "bfloat16")),
        (2, 160, 2, 40_000, ()),
    ],
)
def test_counts_are_what_the_kernels_do(
    batch, units, multiprocessors, shared, fits, strategy, dtype, backward, monkeypatch
):
    """Their text counts as it goes; steps are counted as the difference of two runs."""
    obtain("cupy")
    import cupy

    device = Device(multiprocessors=multiprocessors, shared=shared)
    monkeypatch.setattr(persistent, "MOST_PLANS", 1000)  # tests before may have used up those there are kernels for
    modules = []

    def raw_kernel(text, name):
        modules.append(cupy.RawModule(code=counting(text) if "THREADS" in text else text, options=("-std=c++17",)))
        return modules[-1].get_function(name)

    monkeypatch.setattr(cupy, "RawKernel", raw_kernel)
    small = None if dtype == "float32" else dtype

    def total():
        backend.synchronize()
        places = [module.get_global("counted") for module in modules if HEAD in module.code]
        return sum(cupy.ndarray((8,), cupy.uint64, place).get().astype(np.int64) for place in places)

    backend = CupyBackend(strategy=strategy, compute_dtype=small)  # one of its own, whose kernels nobody else has
    monkeypatch.setattr(backend.library, "device", lambda: device)
    layer = rr.LSTM(3, units, backend=backend, seed=0)

    def run(steps):
        x = backend.asarray(np.random.default_rng(0).standard_normal((batch, steps, 3)), "float32")
        began = total()
        y, _, cache = layer.forward(x)
        amid = total()
        layer.backward(cache, y)
        return total() - amid if backward else amid - began

    run(5)  # makes the kernels, whose counts may go on from those of a test before
    each = (run(9) - run(5)) / 4
    recurrence = model.recurrence_of(dtype, backward=backward)
    work = recurrence.work(batch, units, 4)
    layout = layout_for(work, device, resident=strategy == "persistent")
    counts = model.counts_of(recurrence, work, layout, persistent=strategy == "persistent")
    for name, k in COUNTED.items():
        if name != "arrivals":
            assert each[k] == getattr(counts, name), name
    assert each[COUNTED["arrivals"]] == counts.barriers * layout.blocks
    if strategy == "persistent":
        assert (dtype in fits) == (counts.weights == 0)


PROGRAM = """
import sys
import numpy as np
import recurray as rr
strategy, dtype, steps = sys.argv[1:]
backend = rr.get_backend("cupy", strategy=strategy, compute_dtype=None if dtype == "float32" else dtype)
layer = rr.LSTM(3, 64, backend=backend, seed=0)
x = backend.asarray(np.ones((2, int(steps), 3)), "float32")
y, _, cache = layer.forward(x)
print("BACKWARD", file=sys.stderr, flush=True)
layer.backward(cache, y)
print("DONE", file=sys.stderr, flush=True)
"""


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("strategy", model.STRATEGIES)
def test_launches_are_those_of_the_trace(strategy, dtype):
    """Which tells of each, with its blocks, threads and shared memory."""
    obtain("cupy")
    need("emulated device")

    def trace(steps):
        command = [sys.executable, "-c", PROGRAM, strategy, dtype, str(steps)]
        environment = os.environ | {"CUDA_ON_CPU_TRACE": "1"}
        told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stderr
        return re.split("BACKWARD|DONE", told)[:2]

    def launches(told):
        """Kernels of ours and products; copies, and casts of what comes once, aren't a step's."""
        return Counter(re.findall(r"run (?!copy|memset|record|wait|write_table)(\S+)", told))

    for few, many, backward in zip(trace(5), trace(9), (False, True), strict=True):
        found = model.modelled(strategy, dtype, 2, 64, backward=backward)
        assert (launches(many) - launches(few)).total() == 4 * found.counts.launches
        if strategy == "fused":
            continue
        recurrence = model.recurrence_of(dtype, backward=backward)
        layout = layout_for(recurrence.work(2, 64, 4), model.H200, resident=strategy == "persistent")
        shapes = set(re.findall(r"LSTMCell_\w+ <<<(\d+), (\d+), (\d+)>>>", many))
        assert shapes == {(str(layout.blocks), str(layout.threads), str(layout.shared))}
