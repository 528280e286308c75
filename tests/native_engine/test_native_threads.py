"""The compiled engine with several threads: the same bits for any number of them, forks, callers at the same time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import recurray as rr
from harness import obtain
from harness.needs import need, needs
from harness.processes import in_child
from recurray import processors
from recurray.cells import Cell, DiagonalLSTMCell, GRUCell, LSTMCell

SIZES = [(1, 40, 200, 20), (5, 30, 130, 20), (50, 9, 70, 33)]  # rows, steps, units, features: enough for 3 threads


@pytest.fixture
def native():
    """The engine's package, with its number of threads put back afterwards."""
    obtain("native")
    import recurray_native

    yield recurray_native
    recurray_native.set_num_threads(None)


def results(cell: Cell, batch, steps, size, features, dtype="float32"):
    """What forward and backward return, for a ragged batch."""
    rng = np.random.default_rng(5)
    layer = rr.Recurrent(cell, features, size, seed=1, dtype=dtype, backend=obtain("native"))
    x = rng.standard_normal((batch, steps, features)).astype(dtype)
    lengths = [steps, *rng.integers(1, steps + 1, batch - 1)]
    y, state, cache = layer.forward(x, lengths=lengths)
    dx, dstate, grads = layer.backward(cache, rng.standard_normal(y.shape).astype(dtype))
    return [y, *state, dx, *dstate, *grads.values()]


def threads_here():
    """How many threads this process has, where the system tells."""
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.exists() else None


def assert_same_bits(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_array_equal(a, b)


@needs("fork", "/proc")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("sizes", SIZES)
def test_the_sizes_here_are_enough_for_several_threads(native, sizes):
    native.set_num_threads(3)
    child = os.fork()
    if not child:
        made = 0
        try:
            results(LSTMCell(), *sizes)
            made = threads_here() - 1
        finally:
            os._exit(made)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(
    "cell", [LSTMCell(), LSTMCell(layer_norm=True), GRUCell(reset_after=False), DiagonalLSTMCell(True)], ids=repr
)
def test_the_number_of_threads_changes_no_bit(native, cell, sizes):
    native.set_num_threads(1)
    expected = results(cell, *sizes)
    for count in (2, 3):
        native.set_num_threads(count)
        for _ in range(3):
            assert_same_bits(results(cell, *sizes), expected)


def test_callers_at_the_same_time_get_what_each_gets_alone(native):
    native.set_num_threads(2)
    problems = [(LSTMCell(), SIZES[0]), (GRUCell(), SIZES[1]), (LSTMCell(), SIZES[2]), (GRUCell(), SIZES[0])]
    alone = [results(cell, *sizes) for cell, sizes in problems]
    found: list[list] = [[] for _ in problems]

    def work(k):
        found[k] = [results(problems[k][0], *problems[k][1]) for _ in range(8)]

    callers = [threading.Thread(target=work, args=(k,)) for k in range(len(problems))]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for own, expected in zip(found, alone, strict=True):
        assert len(own) == 8
        for result in own:
            assert_same_bits(result, expected)


@needs("fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_can_go_on(native):
    native.set_num_threads(2)
    expected = results(LSTMCell(), *SIZES[0])

    def work():
        assert threads_here() in (1, None)
        assert_same_bits(results(LSTMCell(), *SIZES[0]), expected)
        assert threads_here() in (2, None)  # it has made one of its own

    in_child(work, seconds=60)
    assert_same_bits(results(LSTMCell(), *SIZES[0]), expected)


@needs("/proc")
def test_threads_sleep_between_calls(native):
    native.set_num_threads(3)
    results(LSTMCell(), *SIZES[0])
    own = threading.get_native_id()

    def awake():
        tasks = [task for task in Path("/proc/self/task").iterdir() if int(task.name) != own]
        return [task.name for task in tasks if (task / "stat").read_text().rpartition(")")[2].split()[0] == "R"]

    deadline = time.monotonic() + 30
    while awake():
        assert time.monotonic() < deadline, "a thread spins"
        time.sleep(0.01)


def test_the_number_of_threads_comes_from_the_caller_then_the_environment(native, monkeypatch):
    for name in ("RECURRAY_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert native.get_num_threads() >= 1
    monkeypatch.setenv("OMP_NUM_THREADS", "7,2")
    assert native.get_num_threads() == 7
    monkeypatch.setenv("RECURRAY_NUM_THREADS", "5")
    assert native.get_num_threads() == 5
    native.set_num_threads(3)
    assert native.get_num_threads() == 3
    for wrong in (0, -1, 1.5, True, "2"):
        with pytest.raises(ValueError, match="number of threads"):
            native.set_num_threads(wrong)
    assert native.get_num_threads() == 3


def test_a_container_with_a_quota_has_fewer_threads(native, monkeypatch):
    for name in ("RECURRAY_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(processors, "_allowed", lambda: 16)
    for quota, count in ((1.0, 1), (2.5, 3), (float("inf"), 16)):
        monkeypatch.setattr(processors, "_quota", lambda quota=quota: quota)
        assert native.get_num_threads() == count


def of_engine():
    """What threadpoolctl says of the engine."""
    from threadpoolctl import threadpool_info

    return [
        (library["num_threads"], library["internal_api"])
        for library in threadpool_info()
        if "recurray" in library["prefix"]
    ]


def test_threadpoolctl_limits_the_engine_and_gives_back_what_was_there(native, monkeypatch):
    need("threadpoolctl")
    from threadpoolctl import threadpool_limits

    monkeypatch.setenv("RECURRAY_NUM_THREADS", "5")
    rr.get_backend("numpy", engine="native").level  # noqa: B018  which loads the library
    assert of_engine() == [(5, "recurray")]
    with threadpool_limits(1):
        assert native.get_num_threads() == 1
        assert of_engine() == [(1, "recurray")]
        with threadpool_limits(limits={"recurray": 4}):
            assert native.get_num_threads() == 4
        with threadpool_limits(2, user_api="blas"):
            assert native.get_num_threads() == 1
    assert native.get_num_threads() == 5
    monkeypatch.setenv("RECURRAY_NUM_THREADS", "6")  # which counts again, as nothing was set
    assert native.get_num_threads() == 6
    native.set_num_threads(3)
    with threadpool_limits(1):
        pass
    assert native.get_num_threads() == 3


def test_joblibs_workers_share_the_processors(native, monkeypatch):
    need("joblib")
    import joblib
    from joblib.externals.loky import get_reusable_executor

    for name in ("RECURRAY_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    try:
        with joblib.parallel_config("loky", inner_max_num_threads=3):
            assert joblib.Parallel(n_jobs=2)(joblib.delayed(native.get_num_threads)() for _ in range(2)) == [3, 3]
    finally:
        get_reusable_executor().shutdown(wait=True)


@needs("POSIX")
@pytest.mark.parametrize("sizes", SIZES[:1])
def test_threads_that_share_a_processor_cost_little(native, sizes):
    """Bound to one processor a thread can't help: those that wait must sleep, and soon nobody waits for it."""
    code = f"""
import os, time
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
import numpy as np, recurray as rr, recurray_native
batch, steps, size, features = {sizes}
layer = rr.LSTM(features, size, seed=0)
x = np.ones((batch, steps, features), "float32")
def seconds(count):
    recurray_native.set_num_threads(count)
    began = time.process_time()
    for _ in range(40):
        y, _, cache = layer.forward(x)
        layer.backward(cache, y)
    return time.process_time() - began
print(min(seconds(2) / seconds(1) for _ in range(4)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 3


STOPPED = """
#include "pool.c"

int main(void) {
    const int64_t day = (int64_t)86400 * 1000000000, now = nanoseconds();
    pool.own = pool.others = 1;
    pool.began = now - day;
    pool.waited = day;
    pool.factor = 1000000000;
    account();
    return pool.rests < now || pool.rests > now + (int64_t)60 * 1000000000;
}
"""


@needs("gcc", "POSIX")
def test_a_process_that_was_stopped_uses_its_threads_again_soon(tmp_path):
    """The time for which it is stopped is no loss by threads, whatever the clock says that was waited."""
    sources = Path(__file__).parents[2] / "backends" / "recurray_native" / "c"
    (tmp_path / "check.c").write_text(STOPPED)
    command = ["gcc", "-std=gnu11", "-pthread", "-fsanitize=undefined", "-fno-sanitize-recover"]
    command += [f"-I{sources}", "check.c", "-o", "check"]
    subprocess.run(command, cwd=tmp_path, check=True)
    subprocess.run([tmp_path / "check"], check=True)
