"""Processes that keep processors busy beside a measurement."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Its input is a pipe that nobody writes to, and that the system closes when this process ends, however it ends.
_SPIN = """
import os, signal, sys, threading

signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all of a terminal's processes

def wait():
    sys.stdin.buffer.read()
    os._exit(0)

threading.Thread(target=wait, daemon=True).start()
sys.stdout.write("spinning\\n")
sys.stdout.flush()
while True:
    pass
"""


@contextmanager
def processes(count: int) -> Iterator[list[int]]:
    """Return a context in which ``count`` processes do nothing but spin; their ids.

    They end with the context, and with this process whatever ends it.
    """
    started: list[subprocess.Popen[str]] = []
    try:
        for _ in range(count):
            command = [sys.executable, "-I", "-S", "-c", _SPIN]
            pipe = subprocess.PIPE
            started.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True))  # noqa: S603
        for process in started:
            assert process.stdout is not None  # noqa: S101
            process.stdout.readline()  # it runs
        yield [process.pid for process in started]
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.communicate()
