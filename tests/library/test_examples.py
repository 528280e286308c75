"""The examples run, and find what they are to find."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.needs import need

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"

# By example: what a line of its output says, and between what its number has to be.
FINDS = {
    "adding_problem": [(r"^RNN: error ([\d.]+)", 0.1, 0.3), (r"^LSTM: error ([\d.]+)", 0, 0.02)],
    "co2_forecast": [(r"^naive +([\d.]+)", 2.5, 3), (r"^LSTM +([\d.]+)", 0.5, 1.2)],
    "ea_lstm": [(r"told the river: ([\d.]+)", 0.5, 0.8), (r"^EA-LSTM: ([\d.]+)", 0.8, 1)],
    "guitar_amp": [(r"^ESR [\d.]+, then ([\d.]+)", 0, 0.2)],
    "japanese_vowels": [(r"others ([\d.]+)% told", 94, 100)],
    "number_sequence": [(r"\[40, 41, 42\] +([\d.]+)", 42.5, 43.5), (r"\[237, 238, 239\] +([\d.]+)", 60, 200)],
    "number_words": [(r"new ([\d.]+)% are right", 90, 100)],
    "reber_grammar": [(r"^LSTM: ([\d.]+)% right", 80, 100)],
    "recurrent_ppo": [(r"^the last 50: ([\d.]+) steps", 200, 500)],
}

PACKAGES = {"japanese_vowels": ["sklearn"], "recurrent_ppo": ["gymnasium"]}


def test_every_example_is_run_here_and_told_of() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == set(FINDS)
    page = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
    for name in names:
        assert f"../examples/{name}.py" in page
        assert f"figures/{name}.png" in page
        assert (ROOT / "docs" / "figures" / f"{name}.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", FINDS)
def test_an_example_finds_what_it_is_to(name: str, tmp_path: Path) -> None:
    need("matplotlib")
    for package in PACKAGES.get(name, ()):
        need(package)
    figure = tmp_path / "figure.png"
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), "--figure", str(figure)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert max(map(len, done.stdout.splitlines())) <= 40
    for words, low, high in FINDS[name]:
        found = re.search(words, done.stdout, re.MULTILINE)
        assert found, done.stdout
        assert low <= float(found[1]) <= high, done.stdout
