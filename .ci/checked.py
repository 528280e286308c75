"""A pytest plugin for the checking mode of the emulated device: a test fails if it finds a fault in its kernels.

Each array then has memory of its own, with a zone behind it, so that nothing beside it is taken for a part of it.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest


def pytest_configure() -> None:
    import cupy

    from recurray_cupy.parts import Memory

    cupy.cuda.set_allocator(None)
    Memory.apart = True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    found = [line for line in report.capstderr.splitlines() if "CHECK" in line]
    if found:
        report.outcome = "failed"
        report.longrepr = "\n".join(found[:20])
    return report
