"""Several ranks: threads of this process that exchange arrays, and processes that mpiexec has started."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import recurray as rr


class Meeting:
    """Where threads put what they have, and take what all have put."""

    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size, timeout=60)
        self.failures = threading.Barrier(size, timeout=2)
        self.values: list[Any] = [None] * size

    def exchange(self, rank: int, value: Any) -> list[Any]:
        self.values[rank] = value
        self.barrier.wait()
        found = list(self.values)
        self.barrier.wait()
        return found


class ThreadRank(rr.parallel.Communicator):
    """A rank that is a thread."""

    def __init__(self, meeting: Meeting, rank: int, size: int) -> None:
        self._meeting, self.rank, self.size = meeting, rank, size

    def sums(self, numbers: Sequence[float]) -> list[float]:
        return [float(sum(each)) for each in zip(*self._meeting.exchange(self.rank, list(numbers)), strict=True)]

    def total(self, arrays: Mapping[str, Any], share: float) -> dict[str, Any]:
        own = {name: value * share if share else 0 * np.ones_like(value) for name, value in arrays.items()}
        found = self._meeting.exchange(self.rank, own)
        return {name: sum(each[name] for each in found) for name in arrays}

    def gather(self, text: bytes) -> list[bytes]:
        return self._meeting.exchange(self.rank, text)

    def failed(self, error: BaseException) -> None:
        try:
            self._meeting.failures.wait()
        except threading.BrokenBarrierError:
            self._meeting.barrier.abort()  # which raises where another waits


def in_threads(size: int, work: Callable[[ThreadRank], Any]) -> list[Any]:
    """Return what ``work`` does for each rank: its result, or what it raises."""
    meeting = Meeting(size)
    found: list[Any] = [None] * size

    def run(rank: int) -> None:
        try:
            found[rank] = work(ThreadRank(meeting, rank, size))
        except BaseException as error:
            found[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def mpiexec() -> str | None:
    """The launcher of this Python's MPI; where its environment has none, the system's."""
    beside = Path(sys.executable).with_name("mpiexec")
    return str(beside) if beside.exists() else shutil.which("mpiexec")


class Ranks:
    """A program that runs on several ranks."""

    def __init__(self, size: int, program: str | Path, *arguments: Any) -> None:
        launcher = mpiexec()
        assert launcher is not None
        said = subprocess.run([launcher, "--version"], capture_output=True, text=True, check=False).stdout
        options = ["--allow-run-as-root", "--oversubscribe"] if "Open MPI" in said or "OpenRTE" in said else []
        self.process = subprocess.Popen(
            [launcher, *options, "-n", str(size), sys.executable, "-W", "error", str(program), *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )

    def ended(self, seconds: float = 60) -> tuple[int, str]:
        """The exit code and what was said; fail if it takes longer."""
        try:
            said, _ = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            said, _ = self.process.communicate()
            raise AssertionError(f"the ranks have not ended within {seconds} s, and said: {said}") from None
        return self.process.returncode, said
