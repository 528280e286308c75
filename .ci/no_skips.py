"""A pytest plugin: a test that would be skipped fails, unless its reason is one of a few."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

import pytest

ALLOWED = (
    # what pip can't bring, or what is of use with a GPU alone
    "CUDA device",
    "CuPy",
    "g++, which compiles kernels for the CPU",
    "nvcc, the CUDA compiler",
    # what depends on who runs the tests, and where
    "only root",
    "extended attributes",
    "asynchronous pools",
    "vectors of one width alone",
    # combinations of parameters that say nothing
    "arrays of the same library",
)
Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _refused((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _refused((yield))


def _refused(report: Report) -> Report:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if report.skipped and not hasattr(report, "wasxfail") and not any(word in reason for word in ALLOWED):
        report.outcome = "failed"
        report.longrepr = f"may not be skipped here: {reason}"
    return report
