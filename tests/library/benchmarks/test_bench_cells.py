"""`recurray bench cells`: what it times and what it shows. Nothing here depends on speed."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness.needs import need
from recurray.benchmarks import cells
from recurray.benchmarks.contenders import Job, Own
from recurray.benchmarks.problems import Problem
from recurray.benchmarks.results import Case
from recurray.benchmarks.timing import Budget
from recurray.command_line import main
from recurray.layers import lstm_options

need("threadpoolctl")

TINY = Problem(3, 5, 4, 6)
FAST = Budget(repeats=2, seconds=600.0, block=1e-4, pause=0.0)
NAMES = [variant.name for variant in cells.VARIANTS]


@pytest.fixture
def own() -> Own:
    return Own(rr.get_backend("numpy"))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every job work twice, and leave the time out."""

    def twice(jobs: dict[str, Job], budget: Budget) -> dict[str, list[float]]:
        for job in jobs.values():
            job.call()
            job.call()
        return {name: [1e-3, 2e-3] for name in jobs}

    monkeypatch.setattr(cells, "interleaved", twice)


def test_every_option_of_the_lstm_and_every_cell_is_there() -> None:
    made_by = [v.make for v in cells.VARIANTS if isinstance(v.make, partial)]
    options = {name for make in made_by if make.func is rr.LSTM for name in make.keywords}
    assert options >= lstm_options.OPTIONS - set(lstm_options.ACTIVATIONS)
    assert options & set(lstm_options.ACTIVATIONS)
    made = {type(cells._layer(variant.make, TINY, rr.get_backend("numpy")).cell) for variant in cells.VARIANTS}
    assert made >= {getattr(rr.cells, name) for name in rr.cells.__all__ if name.endswith("Cell") and name != "Cell"}
    assert cells.ByHand in made
    assert len(set(NAMES)) == len(NAMES)
    assert {v.name: v.limit for v in cells.VARIANTS if v.limit != 1.3} == {"LSTM, layer_norm": 1.6}


def test_the_users_lstm_is_the_lstm() -> None:
    assert rr.check_gradients(cells.ByHand()).ok
    plain = rr.LSTM(4, 6, dtype="float64", seed=0)
    users = rr.Recurrent(cells.ByHand(), 4, 6, dtype="float64", params=plain.params)
    x = np.random.default_rng(0).standard_normal((3, 5, 4))
    np.testing.assert_allclose(users(x)[0], plain(x)[0], rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    "problem",
    [TINY, replace(TINY, layers=2, bidirectional=True, ragged=True), replace(TINY, dtype="float64", carried=True)],
    ids=["plain", "stack", "carried"],
)
def test_every_variant_can_be_timed(quick: None, own: Own, problem: Problem) -> None:
    for variant in cells.VARIANTS:
        for mode in problem.modes:
            result = cells.measure(Case(problem, mode, 1), variant, own, FAST)
            if problem.layers > 1 and not variant.stacks:
                assert result is None
                continue
            assert result is not None
            assert (result.variant, result.case) == (variant, Case(problem, mode, 1))


def test_times(own: Own) -> None:
    result = cells.measure(Case(TINY, "training", 1), cells.VARIANTS[0], own, FAST)
    assert result is not None
    assert len(result.times) == len(result.plain) == 2
    assert min(*result.times, *result.plain) > 0
    assert result.times != result.plain


@pytest.mark.parametrize(
    ("cell", "gates"),
    [("LSTM, peepholes", 4), ("LSTM, coupled", 3), ("GRU", 3), ("MGU", 2), ("RNN", 1), ("IndRNN", 0.5)],
)
def test_gates(quick: None, own: Own, cell: str, gates: float) -> None:
    result = cells.measure(Case(TINY, "forward", 1), cells.VARIANTS[NAMES.index(cell)], own, FAST)
    assert result is not None
    assert result.gates == gates


def test_what_is_timed(quick: None, own: Own) -> None:
    """The forward pass alone or with backward; a state that is carried moves on."""
    counts = {"call": 0, "forward": 0, "backward": 0}

    class Counting(rr.LSTM):
        def __call__(self, x: Any, state: Any = None, lengths: Any = None) -> Any:
            counts["call"] += 1
            assert (state is not None) == (counts["call"] > 1)
            return super().__call__(x, state, lengths)

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            counts["forward"] += 1
            return super().forward(*args, **kwargs)

        def backward(self, *args: Any, **kwargs: Any) -> Any:
            counts["backward"] += 1
            return super().backward(*args, **kwargs)

    variant = cells.Variant("counting", partial(Counting))
    cells.measure(Case(TINY, "training", 1), variant, own, FAST)
    assert counts["forward"] == counts["backward"] == 2
    assert counts["call"] == 0
    cells.measure(Case(replace(TINY, carried=True), "forward", 1), variant, own, FAST)
    assert counts["call"] == 2


def test_table() -> None:
    case = Case(TINY, "forward", 1)
    within = cells.Variant("within", rr.GRU)
    over = cells.Variant("over", rr.LSTM)
    results = [
        cells.Measured(within, case, [2e-3, 2e-3, 4e-3], [2e-3, 2e-3, 2e-3], 3),
        cells.Measured(over, case, [3e-3, 3e-3, 3e-3], [2e-3, 2e-3, 2e-3], 4),
        cells.Measured(over, replace(case, mode="training"), [1.0], [1.0], 4),
    ]
    expected = """\
3x5x4x6, forward, 1 thread

| cell   |    time |              / LSTM |   at most | gates | / LSTM per gate |
|:-------|--------:|--------------------:|----------:|------:|----------------:|
| LSTM   | 2.00 ms |                   1 |         - |     4 |               1 |
| within | 2.00 ms | 1.00 (1.00 to 1.50) |       1.3 |     3 |            1.33 |
| over   | 3.00 ms | 1.50 (1.50 to 1.50) | 1.3: over |     4 |            1.50 |

3x5x4x6, training, 1 thread
"""
    assert cells.table(results).startswith(expected)


ARGUMENTS = ["bench", "cells", "--sizes", "3,5,4,6", "--threads", "1"]


def test_command(quick: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(ARGUMENTS) == 0
    out, err = capsys.readouterr()
    assert "NumPy" in out
    for mode in ("forward", "training"):
        assert f"3x5x4x6, {mode}, 1 thread\n" in out
    for name in ["LSTM", *NAMES]:
        assert len(re.findall(rf"^\| {name} +\|", out, re.MULTILINE)) == 2
    assert "per gate is the ratio times 4 over the gates" in out
    assert err.splitlines()[0] == f"1/{2 * len(NAMES)} LSTM, peepholes: 3x5x4x6, forward, 1 thread"


def test_the_size_where_none_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(cells, "measure", lambda case, variant, own, budget: seen.append(case))
    assert main(["bench", "cells"]) == 0
    assert {str(case) for case in seen} == {f"32x100x128x256, {mode}, 1 thread" for mode in ("forward", "training")}


def test_interrupted(quick: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    measured = cells.measure

    def interrupted(case: Any, variant: Any, own: Any, budget: Any) -> Any:
        if variant.name == NAMES[2]:
            raise KeyboardInterrupt
        return measured(case, variant, own, budget)

    monkeypatch.setattr(cells, "measure", interrupted)
    assert main(ARGUMENTS) == 130
    out = capsys.readouterr().out
    assert f"| {NAMES[1]} " in out
    assert f"| {NAMES[2]} " not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--against", "reference"], "bench cells has no --against"),
        (["--json", "a.json"], "bench cells has no --json"),
        (["--plot", "a.png"], "bench cells has no --plot"),
        (["--compare", "a.json"], "bench cells has no --compare"),
        (["--layer", "diagonal"], "bench cells has no --layer"),
        (["--sizes", "stream", "--mode", "training"], "has the mode training"),
        (["--sizes", "huge"], "there is no size 'huge'"),
    ],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert main(["bench", "cells", *arguments]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert out == ""


def test_what_is_no_kind_of_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "sells"]) == 2
    assert "invalid choice: 'sells'" in capsys.readouterr().err


def test_help_of_the_command_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--help"]) == 0
    assert "bench cells" in capsys.readouterr().out
