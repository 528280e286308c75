"""recurray bench optimizers."""

from __future__ import annotations

import re

import pytest

import recurray as rr
from harness.needs import need
from recurray.command_line import main

SMALL = ["bench", "optimizers", "--sizes", "2,5,3,4", "--repeats", "1", "--seconds", "0.01", "--threads", "1"]


@pytest.fixture
def _short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recurray.benchmarks.optimizers.STEPS", {"SGD": ("SGD", {}), "NAdam": ("NAdam", {})})


@pytest.mark.usefixtures("_short_blocks")
def test_each_is_timed_beside_pytorchs(capsys: pytest.CaptureFixture[str]) -> None:
    need("threadpoolctl")
    need("torch")
    assert main(SMALL) == 0
    out = capsys.readouterr().out
    for line in (
        r"SGD \| [\d,]+ \| [\d,]+ \| [\d,]+",
        r"NAdam \| [\d,]+ \| [\d,]+ \| ",
        r"clip_grad_norm \| [\d,]+ \| [\d,]+ \| ",
    ):
        assert re.search(rf"\| 2x5x3x4 \| {line} \|", out), out


@pytest.mark.usefixtures("_short_blocks")
def test_a_step_that_differs_from_pytorchs_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    need("threadpoolctl")
    need("torch")
    monkeypatch.setattr(rr.optim.SGD, "_formula", lambda self, param, grad, moments, n: (param + n.lr * grad, {}))
    assert main(SMALL) == 1
    out = capsys.readouterr().out
    assert "| SGD, **other numbers** |" in out
    assert "| NAdam |" in out


def test_options_of_other_benches_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "optimizers", "--dtype", "float64"]) == 2
    assert "bench optimizers has no --dtype" in capsys.readouterr().err
