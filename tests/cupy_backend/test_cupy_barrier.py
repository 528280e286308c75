"""What blocks that wait for each other hand on: no more order than is needed, and no less.

Less is a race, which an emulated device sees in its checking mode: mistakes are planted, and it has to find each.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from harness import obtain
from harness.cells import CELLS
from harness.cuda import nvrtc
from harness.needs import need, needs_nvrtc
from recurray.cells import LSTMCell
from recurray_cupy.compiled import Way
from recurray_cupy.kernel import fixed_text
from recurray_cupy.persistent.layout import TILES
from recurray_cupy.persistent.of_cell import recurrence_of, why_not


@needs_nvrtc
def test_blocks_hand_on_what_they_wrote_by_one_fence():
    """None beside the release, which makes one; and one acquire, after the loop that waits."""
    for rounded_to in ("", "bfloat16"):
        kernel = recurrence_of(LSTMCell(), Way.TRAINING, rounded_to=rounded_to).kernel(
            (16, 8) if rounded_to else (1, 1), 256
        )
        ptx = nvrtc.ptx_of(kernel.source("float32"), "compute_90")
        assert "membar" not in ptx
        assert "fence" not in ptx
        begun = 1 if rounded_to else 0  # the state before the first step is handed on too
        assert len(re.findall(r"red\.release\.gpu", ptx)) == 1 + begun
        assert len(re.findall(r"ld\.acquire\.gpu", ptx)) == 1
        polling = ptx.index("ld.relaxed.gpu.global.u32")
        assert polling < ptx.index("bra", polling) < ptx.index("ld.acquire.gpu")


@pytest.mark.parametrize("cell", [cell for cell in CELLS if why_not(cell, projected=False) is None], ids=repr)
def test_what_needs_no_waiting_is_asked_for_a_step_ahead(cell):
    """Biases once, ahead of all steps: after the product each would be waited for."""
    for way in Way:
        text = "\n".join(recurrence_of(cell, way).kernel((1, 1), 256).lines)
        ahead, _, steps = text.partition("for (int step = 0;")
        once = () if way is Way.BACKWARD else ("x_bias[", "h_bias[")
        each = ("saved[", "dy[") if way is Way.BACKWARD else ("x_gates[",)
        assert not [array for array in once if array in steps or array not in ahead]
        for array in (array for array in each if array in ahead):
            asked = [line for line in steps.splitlines() if array in line]
            assert asked
            assert all("copy_one(&coming[" in line for line in asked)
            assert steps.index(array) > steps.index("release_one(")
        assert "copy_one(&coming[" in ahead


@needs_nvrtc
@pytest.mark.parametrize("tile", TILES, ids=str)
def test_each_product_is_one_instruction(tile):
    """A multiplication and an addition in one: nothing else with floating point is in the loop."""
    rows, columns = tile
    call = f"multiply(s, w, 1, 0, 1, 9, Part<{columns}>(w + 99, 1, 0, 1, 9), 0, 0, 1, count)"
    text = f"""typedef float real;
#define ROW_BLOCK 256
{fixed_text("functions.cuh")}
constexpr int THREADS = 256;
{fixed_text("recurrence.cuh", "recurray_cupy.persistent")}
extern "C" __global__ void only(real* out, int count) {{
    Four* w = (Four*)shared_memory;
    real s[{rows}][{columns}] = {{}};
    {call};
    for (int i = 0; i < {rows}; ++i) for (int j = 0; j < {columns}; ++j) out[i * {columns} + j] = s[i][j];
}}"""
    ptx = nvrtc.ptx_of(text, "compute_90")
    products = len(re.findall(r"\bfma\.rn\.ftz\.f32", ptx))
    assert products % (4 * rows * columns) == 0
    assert products
    assert not re.findall(r"\b(mul|add|sub|mad)(\.rn)?(\.ftz)?\.f32", ptx)


# Run apart: the mode is chosen when CuPy is first used.
PROGRAM = """
import sys
import numpy as np
import recurray as rr
from recurray_cupy.kernel import Kernel
from recurray_cupy.persistent import Recurrence

rounded_to, old, new = sys.argv[1:]
right = Kernel.source
if old == "late":
    Recurrence._is_own = lambda *_: True
    old = ""

def source(kernel, dtype):
    text = right(kernel, dtype)
    if kernel.threads and old:
        assert text.count(old) == 1
        text = text.replace(old, new)
    return text

Kernel.source = source
backend = rr.get_backend("cupy", strategy="persistent", compute_dtype=rounded_to or None)
layer = rr.LSTM(3, 64 if rounded_to else 192, backend=backend, seed=0)  # several blocks share the units
x = backend.asarray(np.random.default_rng(0).standard_normal((1, 5, 3)), "float32")
y, _, cache = layer.forward(x)
layer.backward(cache, y)
backend.synchronize()
"""

MISTAKES = {
    "nothing is released": ("red.release.gpu", "red.relaxed.gpu"),
    "nothing is acquired": ("    acquire(arrivals);\n", ""),
    "what others read is stored after it has been said": ("late", ""),
    "a block says that it has written before its threads have": (
        "__syncthreads();\n        if (unit_groups > 1 && step + 1 < steps",
        "if (unit_groups > 1 && step + 1 < steps",
    ),
}


def checked(rounded_to, old="", new=""):
    """What the checking mode says."""
    obtain("cupy")
    need("emulated device")
    command = [sys.executable, "-c", PROGRAM, rounded_to, old, new]
    environment = os.environ | {"CUDA_ON_CPU_CHECK": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=100).stderr


@pytest.mark.gpu
@pytest.mark.parametrize("rounded_to", ["", "bfloat16"])
def test_blocks_hand_on_all_that_others_read(rounded_to):
    assert "race" not in checked(rounded_to)


@pytest.mark.gpu
@pytest.mark.parametrize("mistake", MISTAKES)
def test_too_little_order_is_seen(mistake):
    """Of what is rounded, two bytes each, it sees no race; that is in `test_cupy_strategies`."""
    assert "a race in global memory: reads what block" in checked("", *MISTAKES[mistake])
