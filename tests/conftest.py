"""The `backend` fixture: a test that takes it runs on every backend there is. See `harness.platforms`."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # one of as many as there are processors: before NumPy loads its BLAS
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")

pytest.register_assert_rewrite("harness")

from harness import LONG, here, obtain, platforms, required, why_absent  # noqa: E402 - after the line above, that rewrites asserts
from recurray.backend import Backend  # noqa: E402


@pytest.fixture(params=here())
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each backend in turn."""
    return obtain(request.param)


@pytest.hookimpl(tryfirst=True)  # before tests are left out by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what runs on CuPy as what needs a CUDA device, and most tests as long ones where each takes long.

    That is on a library that compiles each operation for each shape.
    """
    for item in items:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        name = params.get("backend")
        if name in LONG and item.path.name not in LONG[name]:
            item.add_marker(pytest.mark.long)
        if any(isinstance(value, str) and value == "cupy" for value in params.values()):
            item.add_marker(pytest.mark.gpu)


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


def pytest_report_header() -> list[str]:
    if "PYTEST_XDIST_WORKER" in os.environ:
        return []
    lines = [f"backends under test: {', '.join(here())}"]
    lines += [f"not here: {name}: {reason}" for name in platforms() if (reason := why_absent(name)) is not None]
    if required():
        lines.append(f"must be here: {', '.join(required())}")
    return lines
