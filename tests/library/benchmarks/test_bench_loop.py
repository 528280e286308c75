"""recurray bench loop."""

from __future__ import annotations

import re

from harness.needs import need
from recurray.command_line import main


def test_both_loops_are_timed(capsys) -> None:
    need("threadpoolctl")
    assert main(["bench", "loop", "--sizes", "2,5,3,4", "--repeats", "1", "--seconds", "0.01", "--threads", "1"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"\| 2x5x3x4 \| +[\d,]+ \| +[\d,]+ \| +-?[\d,]+ \| +[\d.]+ \|", out), out


def test_options_of_other_benches_are_refused(capsys) -> None:
    assert main(["bench", "loop", "--dtype", "float64"]) == 2
    assert "bench loop has no --dtype" in capsys.readouterr().err
