"""Processes that spin beside a measurement: they do, and they end with it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

from harness.needs import need, needs
from recurray.benchmarks import busy, command, record
from recurray.benchmarks.timing import Budget
from recurray.command_line import main

pytestmark = pytest.mark.usefixtures("signals_arrive")


def alive(pid: int) -> bool:
    """Whether a process is there, one that has ended and that nobody has asked for not counted."""
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def seconds_of(pid: int) -> float:
    """Processor time of a process."""
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_for(what) -> None:
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@needs("/proc")
def test_they_spin_until_the_end():
    with contextlib.suppress(KeyError), busy.processes(2) as ids:
        assert len(ids) == 2
        before = {pid: seconds_of(pid) for pid in ids}
        wait_for(lambda: all(seconds_of(pid) > before[pid] for pid in ids))
        raise KeyError  # however it ends
    assert not any(alive(pid) for pid in ids)
    with busy.processes(0) as ids:
        assert ids == []


@needs("/proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_they_end_with_the_process_whatever_ends_it(number):
    code = """
import time
from recurray.benchmarks import busy
with busy.processes(2) as ids:
    print(*ids, flush=True)
    time.sleep(100)
"""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        ids = [int(word) for word in process.stdout.readline().split()]
        assert len(ids) == 2
        assert all(alive(pid) for pid in ids)
        process.send_signal(number)
        process.wait(timeout=30)
    wait_for(lambda: not any(alive(pid) for pid in ids))


@needs("/proc")
@pytest.mark.usefixtures("signals_arrive")
def test_ctrl_c_is_left_to_the_measurement(capfd):
    """A terminal sends it to all of them: they spin on, and print nothing."""
    with busy.processes(1) as ids:
        os.kill(ids[0], signal.SIGINT)
        before = seconds_of(ids[0])
        wait_for(lambda: seconds_of(ids[0]) > before)
    assert capfd.readouterr() == ("", "")


def test_the_heading_and_the_record_say_so(capsys, tmp_path, monkeypatch):
    need("threadpoolctl")
    quick, measure = Budget(repeats=1, block=1e-4, pause=0.0), command.measure
    monkeypatch.setattr(command, "measure", lambda case, own, others, budget: measure(case, own, others, quick))
    path = tmp_path / "report.json"
    arguments = ["bench", "--sizes", "1,2,3,4", "--mode", "forward", "--threads", "1", "--repeats", "1"]
    arguments += ["--against", "reference", "--json", str(path)]
    for count, said in ((1, "1 process spins beside"), (2, "2 processes spin beside")):
        assert main([*arguments, "--busy", str(count)]) == 0
        assert f"- busy: {said}\n" in capsys.readouterr().out
        assert record.load(path).facts["busy"] == said
    assert main(["bench", "--busy", "0"]) == 2
