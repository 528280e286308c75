"""The compiled engine touches nothing but the arrays that it is given, and failures are errors."""

from __future__ import annotations

import ctypes
import mmap
import subprocess
import sys

import numpy as np
import pytest

import recurray as rr
from harness import obtain
from harness.compare_scans import Averaging, scan_arguments
from harness.needs import needs
from recurray import scan
from recurray.cells import DiagonalLSTMCell, GRUCell, LSTMCell, SLSTMCell

PAGE = mmap.PAGESIZE
PROT_NONE = 0
MEMORY: list = []  # mapped for as long as the tests run


def fenced(a, *, at_end):
    """A copy of an array whose memory ends, or begins, where no access is allowed."""
    size = -(-max(a.nbytes, 1) // PAGE) * PAGE
    memory = mmap.mmap(-1, size + 2 * PAGE)
    MEMORY.append(memory)
    first = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    for fence in (first, first + PAGE + size):
        assert libc.mprotect(ctypes.c_void_p(fence), PAGE, PROT_NONE) == 0
    offset = PAGE + (size - a.nbytes if at_end else 0)
    copy = np.frombuffer(memory, a.dtype, a.size, offset).reshape(a.shape)
    copy[...] = a
    return copy


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nothing_beyond_the_arrays_is_touched(monkeypatch, at_end, dtype):
    obtain("native")
    from recurray_native import Engine, library
    from recurray_native import scan as native_scan

    def made(shape, dtype=float):
        return fenced(np.full(shape, np.nan, dtype), at_end=at_end)

    class Fenced:  # what the engine makes is fenced as well as what it is given
        empty = staticmethod(made)
        zeros = staticmethod(lambda shape, dtype=float: fenced(np.zeros(shape, dtype), at_end=at_end))
        empty_like = staticmethod(lambda a: made(a.shape, a.dtype))

        def __getattr__(self, name):
            return getattr(np, name)

    monkeypatch.setattr(native_scan, "np", Fenced())
    rng = np.random.default_rng(6)
    for level in library.levels():
        for cell in (
            LSTMCell(),
            LSTMCell(layer_norm=True),
            GRUCell(reset_after=False),
            DiagonalLSTMCell(True),
            SLSTMCell(),
        ):
            for batch, steps, size, features, projection in ((1, 2, 5, 3, 0), (3, 4, 17, 18, 0), (7, 3, 9, 65, 4)):
                projection = projection if cell == LSTMCell() else 0
                arguments = scan_arguments(
                    cell, rng, batch=batch, steps=steps, size=size, features=features, projection=projection,
                    ragged=False, dtype=dtype,
                )  # fmt: skip
                weights, x, start, _ = arguments
                fields = {k: fenced(v, at_end=at_end) for k, v in vars(weights).items() if isinstance(v, np.ndarray)}
                fields["pointwise"] = {k: fenced(v, at_end=at_end) for k, v in weights.pointwise.items()}
                weights = type(weights)(**fields)
                x, *start = (fenced(a, at_end=at_end) for a in (x, *start))
                run = Engine(level=level)
                y, end, cache = run.scan_forward(cell, weights, x, tuple(start))
                dy, *dend = (fenced(np.ones_like(a), at_end=at_end) for a in (y, *end))
                dx, _, _ = cache.backward(dy, tuple(dend))
                y2, _, cache2 = scan.forward(cell, weights, x, tuple(start))
                np.testing.assert_allclose(y, y2, rtol=0, atol=1e-4)
                dx2, _, _ = cache2.backward(dy, tuple(dend))
                np.testing.assert_allclose(dx, dx2, rtol=0, atol=1e-3 * max(1, abs(dx2).max()))


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_formula_touches_nothing_beyond_its_arrays(at_end, dtype):
    obtain("native")
    from recurray_native import Engine, library

    def formula(arrays, n):
        return {"a": arrays["a"] * n.x + arrays["b"], "c": arrays["b"] / n.x}

    rng = np.random.default_rng(7)
    for level in library.levels():
        run = Engine(level=level).elementwise(formula, ("a", "b"), ("x",))
        for size in (1, 255, 257, 1024, 1537):
            a, b, c = (fenced(rng.standard_normal(size).astype(dtype), at_end=at_end) for _ in range(3))
            expected = a * 0.5 + b
            run({"x": 0.5}, [{"a": a, "b": b}], [{"a": a, "c": c}])
            np.testing.assert_allclose(a, expected, rtol=1e-6, atol=1e-6)
            np.testing.assert_allclose(c, 2 * b, rtol=1e-6)


NO_MEMORY = """
import resource
import numpy as np
import recurray as rr
layer = rr.LSTM(8, 1500, backend=rr.get_backend("numpy", engine="native"), seed=0)
x = np.zeros((1, 6, 8), "float32")
layer(x[:, :1])
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (4 << 20), resource.RLIM_INFINITY))
try:
    layer(x)
except MemoryError as error:
    print("refused:", error)
"""


@needs("Linux")
def test_too_little_memory_is_a_memory_error():
    obtain("native")
    found = subprocess.run([sys.executable, "-c", NO_MEMORY], capture_output=True, text=True, check=False, timeout=120)
    assert "refused" in found.stdout, found.stderr


NO_THREADS = """
import os, resource
import numpy as np
import recurray as rr
import recurray_native
layer = rr.LSTM(20, 200, backend=rr.get_backend("numpy", engine="native"), seed=0)
x = np.random.default_rng(0).standard_normal((1, 40, 20)).astype("float32")
def train():
    y, _, cache = layer.forward(x)
    dx, _, grads = layer.backward(cache, np.cos(y))
    return [y, dx, *grads.values()]
recurray_native.set_num_threads(1)
train()
expected = train()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (6 << 20), resource.RLIM_INFINITY))  # less than a thread's stack
recurray_native.set_num_threads(3)
before = len(os.listdir("/proc/self/task"))
found = train()
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
there = [len(os.listdir("/proc/self/task")) - before]
later = train()
there.append(len(os.listdir("/proc/self/task")) - before)
for other in (found, later):
    assert all(np.array_equal(a, b) for a, b in zip(expected, other, strict=True))
print("threads made:", there)
"""


@needs("Linux")
def test_where_no_thread_can_be_made_the_caller_does_all_the_work():
    obtain("native")
    found = subprocess.run([sys.executable, "-c", NO_THREADS], capture_output=True, text=True, check=False, timeout=120)
    assert found.stdout == "threads made: [0, 2]\n", found.stderr


FAULTS = """
import resource
import numpy as np
import recurray as rr
layer = rr.LSTM(64, 128, backend=rr.get_backend("numpy", engine="native"), seed=0)
x = np.zeros((1, 100, 64), "float32")
def train():
    y, _, cache = layer.forward(x)
    layer.backward(cache, y)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    train()
before = faults()
for _ in range(10):
    train()
print((faults() - before) / 10)
"""


@needs("glibc")
def test_memory_is_not_taken_anew_at_each_call():
    """A small model in a fresh process: its arrays are some 230 pages."""
    obtain("native")
    found = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True, timeout=120)
    assert float(found.stdout) < 50


def test_what_the_engine_cannot_run_goes_to_numpy():
    backend = obtain("native")

    weights, x, start, _ = scan_arguments(Averaging(), np.random.default_rng(7), batch=2, steps=5, ragged=False)
    assert "a step can't call numpy.mean" in backend.refuses(Averaging(), weights, x)
    with pytest.warns(UserWarning, match="runs slowly"):
        y, _, _ = backend.scan_forward(Averaging(), weights, x, start)
    assert y.shape == (5, 2, 4)
    assert backend.refuses(LSTMCell(), weights, x.astype("float16")) is not None
    assert backend.refuses(LSTMCell(), weights, x) is None


def test_an_instruction_set_that_is_not_here_is_refused():
    obtain("native")
    from recurray_native import Engine

    with pytest.raises(ValueError, match="must be one of"):
        Engine(level="sse9").level  # noqa: B018


def test_the_engine_is_chosen_by_name_and_turned_off_by_the_environment(monkeypatch):
    obtain("native")
    from recurray_numpy import NumpyBackend

    class Unshown:
        def __repr__(self):
            raise RuntimeError

    assert NumpyBackend().engine == "native"
    assert type(NumpyBackend(engine="numpy")) is NumpyBackend
    monkeypatch.setenv("RECURRAY_NATIVE", "0")
    assert NumpyBackend().engine == "numpy"
    assert NumpyBackend(engine="native").engine == "native"
    with pytest.raises(rr.BackendUnavailableError, match=r"pip install ./backends/recurray_native"):
        rr.get_backend("numpy", engine="warp")
    with pytest.raises(rr.BackendUnavailableError, match="no engine a Unshown is installed"):
        rr.get_backend("numpy", engine=Unshown())
    with pytest.raises(ValueError, match="takes no engine"):
        rr.get_backend(np, engine="numpy")
