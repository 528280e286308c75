"""Killed runs and damaged checkpoints, by the hundred; the scripts beside this do it by the thousand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.needs import needs


def figures(script: str, *arguments: str) -> dict:
    """Run a script in a process of its own, and return what it found; fail if anything is wrong."""
    command = [sys.executable, str(Path(__file__).with_name(script)), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return json.loads(result.stdout)


@needs("fork")
@pytest.mark.parametrize("kills", [5, pytest.param(60, marks=pytest.mark.slow)])
def test_killed_runs_lose_nothing(kills):
    found = figures("kill_trainers.py", "--kills", str(kills), "--seed", "1")
    assert found["kills"] == kills
    assert found["last_step"] > 0


@pytest.mark.parametrize("count", [200, pytest.param(2000, marks=pytest.mark.slow)])
def test_damaged_checkpoints_are_refused_or_as_they_were_written(count):
    found = figures("corrupt_checkpoints.py", "--count", str(count), "--seed", "2")
    assert found["count"] == count
    assert found["refused"] > count / 2
    assert found["as_written"] > 0


@needs("onnx")
@pytest.mark.parametrize("count", [60, pytest.param(500, marks=pytest.mark.slow)])
def test_damaged_model_files_are_refused_or_read_and_nothing_runs(count):
    found = figures("corrupt_models.py", "--count", str(count), "--seed", "3")
    assert found.pop("ran") is False
    assert set(found) == {"pt", "onnx", "json"}
    for kind in found.values():
        assert kind["count"] == count
        assert kind["refused"] > count / 4
        assert kind["read"] > 0


@pytest.mark.parametrize("count", [300, pytest.param(3000, marks=pytest.mark.slow)])
def test_damaged_saved_models_are_refused_or_as_they_were_written(count):
    found = figures("corrupt_saved_models.py", "--count", str(count), "--seed", "4")
    assert found["count"] == count
    assert found["refused"] > count / 2
    assert found["as_written"] > 0


@needs("onnx")
@needs("onnxruntime")
@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_onnx_nodes_are_what_onnxruntime_makes_of_them(count):
    found = figures("onnx_nodes.py", "--count", str(count), "--seed", "4")
    assert found["count"] == count
    assert found["departures"] == {}
