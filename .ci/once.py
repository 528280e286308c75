"""A pytest plugin for a second run of the same tests, with more installed: what the first has shown is left out.

The variable RECURRAY_TEST_PASSED names a file. A run that finds none writes it: which tests passed. One that finds it
leaves out, of those, the tests to which what else is installed makes no difference: they run on a backend that they
name and that needs none of it, or compile the CUDA kernels for the CPU. The rest runs again: what was skipped; what
names no backend, and so runs on the compiled engine once that is installed; and everything, if NumPy or the standard's
packages are others now.
"""

from __future__ import annotations

import json
import os
from importlib.metadata import version
from pathlib import Path

import pytest

FILE = Path(os.environ["RECURRAY_TEST_PASSED"])
VERSIONS = {name: version(name) for name in ("numpy", "array-api-compat", "array-api-strict", "pytest")}
NEED_NOTHING = {"numpy", "numpy-readonly", "reference", "array-api-strict", "device1"}  # as in `harness.platforms`


class Writer:
    """Writes which tests passed."""

    def __init__(self) -> None:
        self.passed: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self.passed.append(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        FILE.write_text(json.dumps({"versions": VERSIONS, "passed": self.passed}))


class Reader:
    """Leaves out what needn't run again."""

    def __init__(self) -> None:
        found = json.loads(FILE.read_text())
        self.passed = set(found["passed"] if found["versions"] == VERSIONS else ())

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        left = [item for item in items if item.nodeid in self.passed and tells_nothing_new(item)]
        config.hook.pytest_deselected(items=left)
        left_out = set(left)
        items[:] = [item for item in items if item not in left_out]


def tells_nothing_new(item: pytest.Item) -> bool:
    """Whether what else is installed makes no difference to a test."""
    params = item.callspec.params if hasattr(item, "callspec") else {}
    if any(isinstance(value, str) and value in NEED_NOTHING for value in params.values()):
        return True
    return item.path.parent.name == "cupy_backend" and any("g++" in mark.args for mark in item.iter_markers("needs"))


def pytest_configure(config: pytest.Config) -> None:
    if FILE.exists():
        config.pluginmanager.register(Reader())
    elif not hasattr(config, "workerinput"):
        config.pluginmanager.register(Writer())
