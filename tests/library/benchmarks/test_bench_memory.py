"""`recurray bench memory`: what it measures and what it shows. Nothing here depends on speed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import array_api_strict
import numpy as np
import pytest

import recurray as rr
from harness import obtain
from harness.needs import need
from recurray.benchmarks import memory
from recurray.benchmarks.kinds import KINDS
from recurray.benchmarks.memory import Measured, Need, Recompute, Taken
from recurray.benchmarks.problems import Problem
from recurray.benchmarks.results import Case
from recurray.benchmarks.timing import Budget
from recurray.command_line import main

need("threadpoolctl")

TINY = Problem(3, 5, 4, 6)
FAST = Budget(repeats=2, seconds=600.0, block=1e-4, pause=0.0)
MB = 1_000_000


class Hungry:
    """In place of an LSTM: takes memory of known sizes."""

    def __init__(self, recompute: Recompute = None) -> None:
        self.backend = rr.get_backend("numpy")
        self.params = {"w": np.zeros(10, dtype="float32")}
        self.recompute = recompute
        self.held: Any = None

    def forward(self, x: Any, state: Any, lengths: Any) -> Any:
        first = np.zeros(40 * MB if self.held is None else 0, dtype="int8")
        self.held = np.zeros(3 * MB + first[:0].size, dtype="int8")  # anew in each call, as long as the former is there
        kept = np.zeros((2 if self.recompute else 20) * MB, dtype="int8")
        return x, None, kept

    def backward(self, cache: Any, dy: Any) -> Any:
        more = np.zeros(5 * MB, dtype="int8")
        return dy, None, {"w": more[:10].copy()}

    def state_dict(self) -> dict[str, Any]:
        return dict(self.params)


@pytest.fixture
def hungry(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Make layers that take memory of known sizes; returns what they are made with, once for each."""
    made: list[dict[str, Any]] = []

    def make(inputs: int, hidden: int, params: Any = None, seed: Any = None, **given: Any) -> Any:
        usual = {"num_layers", "bidirectional", "batch_first", "dtype", "backend"}
        made.append(options := {name: value for name, value in given.items() if name not in usual})
        return Hungry(**options)

    monkeypatch.setitem(KINDS, "lstm", replace(KINDS["lstm"], layer=make))
    monkeypatch.setattr(memory, "_apart", memory.taken)
    return made


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_the_least_that_is_needed(kind: str) -> None:
    """Counted by the arrays that there are."""
    problem = replace(TINY, layers=2, bidirectional=True, ragged=True, dtype="float64", layer=kind)
    layer = problem.make_layer("numpy")
    x = np.zeros((5, 3, 4))
    y, _, cache = layer.forward(x, None, problem.lengths())
    dx, _, grads = layer.backward(cache, y)
    arrays = sum(a.nbytes for a in (x, y, y, dx, *layer.params.values(), *grads.values()))
    rows = 5 + 3 + 1
    gates_and_c = 8 * rows * 2 * 2 * (5 if kind == "lstm" else 4) * 6
    lower_output = 8 * rows * 2 * 6
    assert memory.need(problem) == Need(arrays, gates_and_c + lower_output)
    assert memory.need(replace(TINY, layer="diagonal")).kept == 4 * 15 * 6 * 6


@pytest.mark.parametrize("recompute", [None, "sqrt", 7])
def test_what_is_taken(hungry: list[dict[str, Any]], recompute: Recompute) -> None:
    found = memory.taken(TINY, recompute)
    kept = 20 * MB if recompute is None else 2 * MB
    assert (
        kept + 8 * MB <= found.peak <= kept + 8.2 * MB
    )  # what is held from the former call is freed when it's renewed
    assert 3 * MB <= found.between <= 4 * MB
    assert hungry[-1] == ({} if recompute is None else {"recompute": recompute})


def test_a_layer_takes_no_less_than_it_must() -> None:
    found, need = memory.taken(replace(TINY, steps=400)), memory.need(replace(TINY, steps=400))
    assert found.peak > sum(need)
    assert 0 <= found.between < found.peak


def test_it_is_measured_in_a_process_of_its_own() -> None:
    problem = replace(TINY, steps=2000)
    here, apart = memory.taken(problem), memory._apart(problem, None)
    assert apart.peak == pytest.approx(here.peak, rel=0.02)
    assert apart.peak > sum(memory.need(problem))


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        ("raise MemoryError('too much')", MemoryError, "3x5x4x6 was ended"),
        ("import os; os.kill(os.getpid(), 9)", MemoryError, "3x5x4x6 was ended"),
        ("raise ValueError('what is wrong')", RuntimeError, "what is wrong"),
    ],
)
def test_a_process_that_fails(monkeypatch: pytest.MonkeyPatch, code: str, error: type[Exception], message: str) -> None:
    monkeypatch.setattr(memory, "_CHILD", code)
    with pytest.raises(error, match=message):
        memory._apart(TINY, None)


def test_measuring(hungry: list[dict[str, Any]]) -> None:
    results = memory.measure(Case(TINY, "training", 1), ["sqrt", 7, "sqrt"], FAST)
    assert [result.recompute for result in results] == [None, "sqrt", 7]
    for result in results:
        assert len(result.times) == len(result.plain) == 2
        assert min(result.times) > 0
        assert result.plain == results[0].times
        assert result.need == memory.need(TINY)
    assert results[0].taken.peak > 2 * results[1].taken.peak
    assert {str(options) for options in hungry} == {"{}", "{'recompute': 'sqrt'}", "{'recompute': 7}"}


def test_table() -> None:
    case = Case(Problem(3, 5, 4, 6), "training", 2)
    need = Need(2 * MB, 8 * MB)
    results = [
        Measured(case, None, [1e-3, 1e-3], [1e-3, 1e-3], Taken(12 * MB, 4000), need),
        Measured(case, "sqrt", [1.2e-3, 1.4e-3], [1e-3, 1e-3], Taken(5 * MB, MB), need),
    ]
    lines = memory.table(results).splitlines()
    header, _, plain, bounded = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert header[3:] == [
        *("time", "/ none", "a step", "peak", "least", "peak / least", "work", "between calls"),
    ]
    assert plain == [
        *("3x5x4x6", "none", "2", "1.00 ms", "-", "200 us"),
        *("12 MB", "10 MB", "1.20", "10 MB", "0.004 MB"),
    ]
    assert bounded == [
        *("3x5x4x6", "sqrt", "2", "1.30 ms", "1.30 (1.25 to 1.35)", "260 us"),
        *("5 MB", "10 MB", "0.50", "3 MB", "1 MB"),
    ]


ARGUMENTS = ["bench", "memory", "--sizes", "3,5,4,6", "2,7,4,6", "--threads", "1"]


def test_command(hungry: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ARGUMENTS, "--repeats", "1", "--recompute", "sqrt", "4"]) == 0
    out, err = capsys.readouterr()
    lines = [line.split("|")[1:3] for line in out.splitlines() if line.startswith("| ")]
    found = [tuple(cell.strip() for cell in cells) for cells in lines]
    assert found[1:] == [(size, kept) for size in ("3x5x4x6", "2x7x4x6") for kept in ("none", "sqrt", "4")]
    assert "recurray bench memory --sizes 3,5,4,6" in out
    assert "as NumPy reports them" in out
    assert err.splitlines() == ["1/2 3x5x4x6, training, 1 thread", "2/2 2x7x4x6, training, 1 thread"]


def test_the_sizes_where_none_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(memory, "measure", lambda case, recomputes, budget: seen.append(str(case)) or [])
    assert main(["bench", "memory"]) == 0
    assert seen == [f"{size}, training, 1 thread" for size in memory.SIZES]
    assert memory.SIZES[0] == "64x1000x256x512"


def test_interrupted(hungry: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    measured = memory.measure

    def interrupted(case: Case, recomputes: Any, budget: Budget) -> Any:
        if case.problem.batch == 2:
            raise KeyboardInterrupt
        return measured(case, recomputes, FAST)

    monkeypatch.setattr(memory, "measure", interrupted)
    assert main(ARGUMENTS) == 130
    out = capsys.readouterr().out
    assert "| 3x5x4x6 " in out
    assert "| 2x7x4x6 " not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["memory", "--json", "a.json"], "bench memory has no --json"),
        (["memory", "--mode", "training"], "bench memory has no --mode"),
        (["memory", "--sizes", "stream"], "has the mode training"),
        (["memory", "--recompute", "0"], "expected sqrt or a whole number of at least 1, got '0'"),
        (["memory", "--recompute", "root"], "expected sqrt or a whole number of at least 1, got 'root'"),
        (["cells", "--recompute", "sqrt"], "bench cells has no --recompute"),
        (["--recompute", "sqrt"], "bench layers has no --recompute"),
    ],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert main(["bench", *arguments]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert out == ""


def test_a_layer_that_refuses_is_asked_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*sizes: int, **options: Any) -> Any:
        raise ValueError("recompute must be less") if options.get("recompute") else AssertionError

    monkeypatch.setitem(KINDS, "lstm", replace(KINDS["lstm"], layer=refuse))
    assert main([*ARGUMENTS, "--recompute", "9"]) == 2
    assert "--recompute: recompute must be less" in capsys.readouterr().err


def test_other_memory_than_numpys_is_not_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from recurray.command_line import options

    monkeypatch.setattr(options, "backend", lambda name, **options: rr.get_backend(array_api_strict))
    monkeypatch.setattr(memory, "measure", pytest.fail)
    assert main(["bench", "memory"]) == 2
    assert "--backend numpy" in capsys.readouterr().err


def test_the_head_names_what_is_measured(hungry: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ARGUMENTS, "--repeats", "1"]) == 0
    assert "engine:" not in capsys.readouterr().out  # installed or not, it isn't used


def test_the_engine_is_not_measured(capsys: pytest.CaptureFixture[str]) -> None:
    need("threadpoolctl")
    obtain("native")
    assert main([*ARGUMENTS, "--engine", "native"]) == 2
    assert "--engine numpy" in capsys.readouterr().err
