"""`recurray bench import`: what it measures and what it shows. Nothing here depends on speed."""

from __future__ import annotations

import re
import time

import pytest

from harness.needs import need
from recurray.benchmarks import imports
from recurray.command_line import main


def test_imports_are_timed_in_turns_and_in_processes_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "STATEMENTS", {"numpy": "pass", "long": "time.sleep(0.2)"})
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    turns: list[int] = []
    began = time.perf_counter()
    times = imports.measure(2, "wall", turns.append)
    assert turns == [0, 1, 2]
    assert {name: len(values) for name, values in times.items()} == {"numpy": 2, "long": 2}
    assert all(0.2 <= value < time.perf_counter() - began for value in times["long"])
    assert all(value < 0.2 for value in imports.measure(1, "cpu")["long"])


def test_imports_are_from_compiled_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    code = "import sys; assert not sys.dont_write_bytecode; assert sys.pycache_prefix"
    monkeypatch.setattr(imports, "STATEMENTS", {"numpy": code})
    imports.measure(1)


def test_other_libraries_are_imported_where_they_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "find_spec", lambda name: None if name == "torch" else object())
    assert set(imports.statements()) == set(imports.STATEMENTS) - {"torch"}


def test_table() -> None:
    times = {"numpy": [0.1, 0.2, 0.3], "recurray": [0.104, 0.206, 0.32]}
    expected = """\
| what     | statement              |   time |   beyond numpy |
|:---------|:-----------------------|-------:|---------------:|
| numpy    | import numpy           | 200 ms |              - |
| recurray | import numpy, recurray | 206 ms | 6 ms (5 to 13) |
"""
    assert imports.table(times) == expected


def test_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    need("threadpoolctl")
    monkeypatch.setattr(imports, "find_spec", lambda name: None)
    assert main(["bench", "import", "--repeats", "1", "--clock", "cpu"]) == 0
    out, err = capsys.readouterr()
    for name in ("numpy", "recurray", "recurray.LSTM", "all of recurray"):
        assert re.search(rf"^\| {re.escape(name)} +\| .* \|$", out, re.MULTILINE)
    assert "recurray bench import --repeats 1 --clock cpu\n" in out
    assert err.splitlines() == ["0/1", "1/1"]


def test_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "import", "--sizes", "quick"]) == 2
    assert "bench import has no --sizes" in capsys.readouterr().err
