"""The `backend` fixture: a test that takes it runs on every backend there is. See `harness.platforms`."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # one of as many as there are processors: before NumPy loads its BLAS
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")

pytest.register_assert_rewrite("harness")

from harness import here, obtain, platforms, required, takes_long, why_absent  # noqa: E402 - after the line above, that rewrites asserts
from harness.needs import need  # noqa: E402
from recurray.backend import Backend  # noqa: E402

TESTS = Path(__file__).parent
Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


@pytest.fixture(params=here())
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each backend in turn."""
    return obtain(request.param)


@pytest.hookimpl(tryfirst=True)  # before tests are left out by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what runs on CuPy as what needs a CUDA device, and as long what `takes_long` says."""
    for item in items:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        name = params.get("backend")
        if takes_long(name, item.path.name):
            item.add_marker(pytest.mark.long)
        if any(isinstance(value, str) and value == "cupy" for value in params.values()):
            item.add_marker(pytest.mark.gpu)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test where something that it needs isn't here."""
    for mark in item.iter_markers("needs"):
        for name in mark.args:
            need(name)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return told_once((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return told_once((yield))


def told_once(report: Report) -> Report:
    """Give all skips one place: pytest prints a reason once for each."""
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2]
        if "got empty parameter set" in reason:
            reason = "none of the backends that the test is for is here"
        report.longrepr = (str(TESTS), None, reason)  # type: ignore[assignment]
    return report


@pytest.fixture
def signals_arrive() -> Iterator[None]:
    """Signals that are sent arrive, though whoever started the tests had them ignored, as nohup and a shell's & do."""
    if os.name != "posix":
        yield
        return
    handlers = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    former = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


def pytest_collection_finish() -> None:
    """Take the tests, which stay to the end, out of what is searched for garbage: that takes a second each time."""
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each process tests that stand together, unless another ``--dist`` is asked for.

    What a module's tests share is then made by one process: compiled kernels, answers of formulas, functions of JAX.
    """
    if config.getoption("dist") != "load":
        return None
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)


def pytest_report_header() -> list[str]:
    if "PYTEST_XDIST_WORKER" in os.environ:
        return []
    lines = [f"backends under test: {', '.join(here())}"]
    lines += [f"not here: {name}: {reason}" for name in platforms() if (reason := why_absent(name)) is not None]
    if required():
        lines.append(f"must be here: {', '.join(required())}")
    return lines
