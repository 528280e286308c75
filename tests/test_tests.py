"""The tests keep to their own rules: they share by way of the harness, and have nobody's signals ignored."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
FILES = sorted(TESTS.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """The names of the modules that a file may import: of ``from a import b`` both a and a.b."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(TESTS).as_posix())
def test_no_test_is_imported(path: Path) -> None:
    """What two tests need stands in the harness."""
    modules = {".".join(file.relative_to(TESTS).with_suffix("").parts) for file in FILES}
    tests = {name for name in modules if name.rpartition(".")[2].startswith(("test_", "conftest"))}
    known = {*tests, *(name.rpartition(".")[2] for name in tests)}
    assert not imported(path) & known


@pytest.mark.parametrize(
    "path", sorted(TESTS.glob("harness/**/*.py")), ids=lambda path: path.relative_to(TESTS).as_posix()
)
def test_the_harness_imports_nothing_but_itself(path: Path) -> None:
    folders = {folder.name for folder in TESTS.iterdir() if folder.is_dir()} - {"harness"}
    assert not {name.partition(".")[0] for name in imported(path)} & folders


def test_every_test_that_sends_a_signal_has_it_arrive() -> None:
    """Under nohup, or from a shell's &, some are ignored by all that is started, if nothing is done about it."""
    sends = re.compile(r"(raise_signal|send_signal)\((?!signal\.SIGKILL)|\.started\(")
    for path in TESTS.rglob("test_*.py"):
        text = path.read_text(encoding="utf-8")
        assert "signals_arrive" in text or not sends.search(text), path.name
