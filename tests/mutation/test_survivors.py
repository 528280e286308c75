"""What planted mistakes once got past; `more_mistakes` plants them again."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import obtain
from harness.needs import needs
from recurray.layers.initial import orthogonal_blocks
from recurray_numpy.backend import NumpyBackend
from recurray_numpy.buffers import LEAST, Buffers, _Loan


class Watched(dict[int, list[Any]]):
    """The free blocks, that lets another thread release them while one comes back."""

    def __init__(self, buffers: Buffers) -> None:
        super().__init__()
        self.buffers = buffers

    def setdefault(self, size: int, blocks: Any = None) -> Any:
        found = super().setdefault(size, blocks)
        found.append(b"")  # so that there is something to let go of
        other = threading.Thread(target=self.buffers.release)
        other.start()
        other.join(0.2)  # it waits for the lock, or has not been stopped by one
        self.released = not other.is_alive()
        return found


def test_memory_is_not_released_by_another_thread_while_it_comes_back() -> None:
    buffers = Buffers()
    free = buffers._free = Watched(buffers)
    a = buffers.empty((LEAST,), np.dtype("uint8"))
    del a
    assert not free.released


def test_a_loan_that_an_interruption_broke_off_goes_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C may come between any two lines; what Python then can't raise it would write to the terminal."""
    seen: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", seen.append)
    loan: Any = _Loan.__new__(_Loan)
    del loan
    assert not seen


@pytest.mark.parametrize("rows", [40, 400, 4000])
def test_rows_are_added_up_in_the_order_in_which_they_stand(rows: int) -> None:
    """In float32 another order is another sum, and a sort that isn't stable has another one from some size on."""
    rng = np.random.default_rng(0)
    index = rng.integers(rows // 8, size=rows)
    values = (rng.standard_normal((rows, 3)) * 10.0 ** rng.integers(-4, 5, (rows, 1))).astype(np.float32)
    found = NumpyBackend(engine="numpy").sum_rows(values, index, rows // 8)
    for k in np.unique(index):
        np.testing.assert_array_equal(found[k], np.add.reduceat(values[index == k], [0], axis=0)[0])


@pytest.mark.parametrize("columns", [3, 5, 9])
def test_orthogonal_starts_are_those_of_a_positive_triangle(columns: int) -> None:
    """Of the two signs that each direction may have, which the library's QR chooses in its own way."""
    blocks = orthogonal_blocks(np.random.default_rng(7), (20, columns), 5)
    rng = np.random.default_rng(7)
    for first in range(0, 20, 5):
        tall = rng.standard_normal((max(5, columns), min(5, columns)))
        own = blocks[first : first + 5]
        triangle = (own if columns <= 5 else own.T).T @ tall
        assert (np.diagonal(triangle) > 0).all()
        np.testing.assert_allclose(np.tril(triangle, -1), 0, atol=1e-12)


@needs("/proc")
def test_the_engines_threads_leave_signals_to_pythons() -> None:
    import recurray as rr

    backend = obtain("native")
    import recurray_native

    def threads() -> dict[str, str]:
        return {task.name: (task / "status").read_text() for task in Path("/proc/self/task").iterdir()}

    def resting() -> dict[str, str]:
        """Threads, when all but this one sleep: one that hasn't begun yet blocks whatever it will do later."""
        own, deadline = str(threading.get_native_id()), time.monotonic() + 60
        while any("\nState:\tS" not in text for name, text in threads().items() if name != own):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return threads()

    recurray_native.set_num_threads(3)
    try:
        layer = rr.LSTM(20, 200, backend=backend, seed=0)
        layer.forward(np.zeros((1, 40, 20), "float32"))
    finally:
        recurray_native.set_num_threads(None)
    blocked = {name: int(text.partition("SigBlk:")[2].split()[0], 16) for name, text in resting().items()}
    wanted = {signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGUSR1, signal.SIGCHLD}
    mask = sum(1 << (number - 1) for number in wanted)
    assert sum(found & mask == mask for found in blocked.values()) >= 2
    assert not blocked[str(threading.get_native_id())] & mask


def test_a_header_longer_than_any_is_not_read(tmp_path: Path) -> None:
    """The file has as many bytes as it says, all of them zeros that take no room on the disk."""
    from recurray.language_model import checkpoint
    from recurray.sealed import HEADER_LIMIT

    path = tmp_path / "x"
    with path.open("wb") as file:
        file.write((HEADER_LIMIT + 1).to_bytes(8, "little"))
        file.truncate(HEADER_LIMIT + 20)
    with pytest.raises(checkpoint.CheckpointError, match="isn't a checkpoint, or is cut short"):
        checkpoint.load(path)


@pytest.mark.parametrize("more", [b"x", bytes(1000)])
def test_a_checkpoint_with_something_behind_it_is_refused(more: bytes, tmp_path: Path) -> None:
    from recurray.language_model import checkpoint

    path = tmp_path / "x"
    checkpoint.save(path, {"a": np.ones(3)}, {})
    with path.open("ab") as file:
        file.write(more)
    with pytest.raises(checkpoint.CheckpointError, match="its size isn't what its header says"):
        checkpoint.load(path)
