"""What is kept for later calls: no more than so many bytes, and all of it given back when that is asked for."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import here, obtain
from harness.needs import needs
from harness.processes import in_child
from recurray import kept
from recurray.kept import Kept
from recurray_numpy.buffers import BUFFERS, memory_of

MIB = 2**20
AROUND = kept.LEAST


@pytest.fixture
def nothing_kept() -> None:
    gc.collect()
    kept.release()
    gc.collect()


@pytest.mark.usefixtures("nothing_kept")
def test_what_was_used_longest_ago_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST", kept.total.nbytes + 8 * (1000 + AROUND))
    first, second = Kept[int](), Kept[int]()
    for key in range(8):
        (first, second)[key % 2].put(key, key, 1000)
    assert first.get(0) == 0  # so it has been used since
    second.put("more", -1, 1000)
    gone = {key for key in range(8) if (first, second)[key % 2].get(key) is None}
    assert gone == {1, 2, 3}  # in the place of one, so that there is a quarter of the room
    assert second.get("more") == -1


@pytest.mark.usefixtures("nothing_kept")
def test_what_is_larger_than_all_is_not_kept_and_drives_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST", kept.total.nbytes + 5000 + 4 * AROUND)
    own = Kept[int]()
    own.put("a", 1, 100)
    own.put("b", 2, 10**6)
    assert own.get("b") is None
    assert own.get("a") == 1
    own.put("c", 3, 4900 + AROUND)  # nearly all
    assert own.get("c") == 3


@pytest.mark.parametrize("engine", ["numpy", "native"])
def test_nothing_is_planned_where_nothing_is_kept(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = rr.LSTM(3, 5, backend=obtain(engine), seed=0), np.ones((2, 4, 3), "float32")
    expected, _ = layer(x)
    monkeypatch.setattr(kept, "MOST", 0)
    kept.release()
    monkeypatch.setattr(layer.backend, "plan", None)  # nobody calls it
    np.testing.assert_allclose(layer(x)[0], expected, rtol=1e-5)


@pytest.mark.usefixtures("nothing_kept")
def test_the_count_is_of_what_there_is() -> None:
    before = kept.total.nbytes
    own = Kept[int]()
    own.put("a", 1, 1000)
    own.put("b", 2, 2000)
    taken = own.lists["b"].pop()
    assert own.get("b") is None
    kept.release()
    assert own.get("a") is None
    assert kept.total.nbytes == before + 2000 + AROUND  # what is in use is counted
    own.list_for(taken).append(taken)
    assert own.get("b") == 2
    del own, taken
    gc.collect()
    assert kept.total.nbytes == before


def layers(engine: str) -> dict[str, Callable[[], Any]]:
    """Calls by what they leave behind, each of as many kinds as it is called times."""
    backend = rr.get_backend("numpy", engine=engine)
    large = rr.GRU(16, 128, 2, backend=backend, seed=0)  # whose weights are brought into another order
    steps = iter(range(1, 1000))
    small = rr.LSTM(8, 32, bidirectional=True, backend=backend, seed=0)
    one = rr.RNN(1, 1, backend=backend, seed=0)
    rows = iter(range(20_000, 30_000))

    def train() -> None:
        y, _, cache = small.forward(np.ones((5, 20, 8), "float32"))
        small.backward(cache, np.ones_like(y))

    return {
        "copies of weights": lambda: large(np.ones((1, next(steps), 16), "float32")),
        "small calls": lambda: small(np.ones((2, next(steps), 8), "float32")),
        "steps of one row": lambda: small(np.ones((1, 1, 8), "float32")),
        "many rows": lambda: one.forward(np.ones((next(rows), 1, 1), "float32"), training=False),
        "training": train,
    }


@pytest.mark.parametrize("what", ["copies of weights", "small calls", "steps of one row", "many rows", "training"])
@pytest.mark.parametrize("engine", here("numpy", "native"))
def test_what_is_kept_is_bounded_and_goes_back(engine: str, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    obtain(engine)
    call = layers(engine)[what]
    backend = rr.get_backend("numpy", engine=engine)
    for _ in range(3):
        call()
    backend.release_memory()
    gc.collect()
    monkeypatch.setattr(kept, "MOST", kept.total.nbytes + MIB)
    tracemalloc.start()
    try:
        held = []
        for _ in range(16):
            call()
            held.append(tracemalloc.get_traced_memory()[0] - BUFFERS.kept)
        backend.release_memory()
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert max(held) < 1.3 * MIB
    assert after < 0.1 * MIB


@pytest.mark.parametrize("engine", here("numpy", "native"))
def test_memory_is_released_while_others_compute(engine: str) -> None:
    obtain(engine)
    layer = rr.GRU(3, 5, 2, backend=rr.get_backend("numpy", engine=engine), seed=0)
    inputs = np.random.default_rng(0).standard_normal((9, 4, 9, 3)).astype("float32")
    expected = [layer(x)[0] for x in inputs]

    def compute(number: int) -> None:
        for k in range(100):
            place = (number + k) % len(inputs)
            steps = 1 + k % 9
            np.testing.assert_allclose(layer(inputs[place, :, :steps])[0], expected[place][:, :steps], atol=1e-6)
            if number == 0:
                layer.backend.release_memory()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(compute, range(4)))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@needs("fork")
def test_a_fork_amid_a_count() -> None:
    def work() -> None:
        Kept[int]().put("a", 1, 10)

    with ThreadPoolExecutor(1) as thread, kept.total._lock:
        thread.submit(os.getpid).result()
        pid = thread.submit(lambda: in_child(work, seconds=10))
        pid.result()


def test_memory_is_counted_once_and_without_the_weights() -> None:
    a, weights = np.zeros(1000), rr.LSTM(3, 5, backend="numpy", seed=0).weights()
    parts = {"half": a[:500], "all": [a, (a,)], "weights": weights[0].input[2:], "text": "b"}
    assert 8000 <= memory_of(parts, weights) <= 8000 + 4 * 120


@pytest.mark.parametrize(("text", "most"), [(" 2 ", 2), ("0", 0)])
def test_a_variable_says_how_much(text: str, most: int) -> None:
    code = f"""
from recurray.environment import kept_bytes
assert kept_bytes(7 * {MIB}) == {most} * {MIB}
import gc, numpy as np, recurray as rr
from recurray import kept
from recurray_numpy.buffers import BUFFERS
assert (kept.MOST, BUFFERS.most) == (kept_bytes(128 * {MIB}), kept_bytes(512 * {MIB}))
layer = rr.LSTM(3, 64, backend=rr.get_backend("numpy", engine="numpy"), seed=0)
x = np.ones((20, 99, 3), "float32")
for _ in range(2):
    layer.forward(x)
    layer(x[:1])
gc.collect()
assert bool(BUFFERS.kept) is bool(kept.total.nbytes) is (kept.MOST > 0)
"""
    given = os.environ | {"RECURRAY_KEPT_MIB": text}
    result = subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True, check=False)
    assert result.stderr == ""
