"""Processes that tests start, and terminals that they write to."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from typing import Any

import pytest


def in_child(work: Callable[[], Any], seconds: float = 30) -> None:
    """Run ``work`` in a forked child; fail if it raises there, or doesn't end."""
    child = os.fork()
    if not child:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    deadline = time.monotonic() + seconds
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, 9)
            os.waitpid(child, 0)
            pytest.fail("the child hangs")
        time.sleep(0.001)
    assert os.waitstatus_to_exitcode(ended[1]) == 0


def read_terminal(ours: int, seconds: float) -> bytes:
    """All that is written to a terminal until its other side is closed, or for some time; close this side."""
    output, end = b"", time.monotonic() + seconds
    while time.monotonic() < end and select.select([ours], [], [], seconds)[0]:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # how Linux says that the other side has been closed
            break
        if not piece:
            break
        output += piece
    os.close(ours)
    return output
