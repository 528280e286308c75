"""The benchmarks' machinery: who is compared with whom, on what, and what is shown. Nothing here depends on speed."""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import numpy as np
import pytest

import recurray as rr
from harness.cuda.host_backend import backend_on
from harness.cuda.host_cpp import HostLibrary
from harness.needs import need, needs_compiler
from recurray import blas
from recurray.benchmarks import command, compare, machine, measure, record, summary, tables
from recurray.benchmarks.contenders import Job, LiteRT, OnnxRuntime, Own, PyTorch, Reference, product
from recurray.benchmarks.problems import PROBLEMS, Problem, make_data, select
from recurray.benchmarks.results import Case, Report, Result
from recurray.benchmarks.timing import Budget, Spread, geometric_mean, interleaved
from recurray.blas import Blas
from recurray.command_line import main, options
from recurray.plot import bench, drawing
from recurray_cupy.library import Device

TINY = Problem(3, 5, 4, 6)
FAST = Budget(repeats=2, seconds=600.0, block=1e-4, pause=0.0)
VARIANTS = {
    "plain": TINY,
    "one step": replace(TINY, batch=1, steps=1),
    "carried": replace(TINY, batch=1, steps=1, carried=True),
    "carried, two layers": replace(TINY, layers=2, carried=True),
    "both directions": replace(TINY, layers=2, bidirectional=True),
    "ragged": replace(TINY, ragged=True),
    "ragged, both directions": replace(TINY, ragged=True, layers=2, bidirectional=True),
    "holes": replace(TINY, steps=9, gaps="holes"),
    "holes, gru, two layers": replace(TINY, steps=9, gaps="holes", layer="gru", layers=2),
    "left": replace(TINY, gaps="left"),
    "left, both directions": replace(TINY, gaps="left", layers=2, bidirectional=True),
    "resets": replace(TINY, steps=70, gaps="resets"),
    "float64": replace(TINY, dtype="float64"),
    "gru": replace(TINY, layer="gru"),
    "gru, carried, two layers": replace(TINY, layer="gru", layers=2, carried=True),
    "gru, ragged, both directions": replace(TINY, layer="gru", ragged=True, layers=2, bidirectional=True),
    "diagonal": replace(TINY, layer="diagonal"),
    "diagonal, carried": replace(TINY, layer="diagonal", carried=True),
    "linear": replace(TINY, bidirectional=True, linear=7),
    "linear, gru, carried": replace(TINY, layer="gru", carried=True, linear=7),
}


@pytest.fixture
def own():
    return Own(rr.get_backend("numpy"))


def contender(name):
    if name == "reference":
        return Reference(rr.get_backend("numpy"))
    if name == "frozen":
        return Own(rr.get_backend("numpy"), frozen=True)
    made = {"torch": PyTorch, "onnxruntime": OnnxRuntime, "litert": LiteRT}[name]()
    for package in made.packages:
        need(package)
    return made


# Numbers ---------------------------------------------------------------------------------------------------------


ONNX_HAS_NOT = ("float64", "diagonal", "diagonal, carried", *(name for name, each in VARIANTS.items() if each.gaps))


@pytest.mark.parametrize(
    ("name", "mode", "variant"),
    [
        (name, mode, variant)
        for name in ("reference", "torch", "onnxruntime", "litert", "frozen")
        for variant, problem in VARIANTS.items()
        for mode in problem.modes
        if name in ("reference", "torch") or mode == "forward"
        if name != "onnxruntime" or variant not in ONNX_HAS_NOT
        if name != "litert" or LiteRT().refuses(problem, mode) is None
    ],
)
def test_contenders_give_recurrays_numbers(own, name, mode, variant):
    problem, other = VARIANTS[variant], contender(name)
    assert other.refuses(problem, mode) is None
    data = make_data(problem)
    jobs = [made.prepare(problem, mode, data, 1) for made in (own, other)]
    for _ in range(3):  # calls after the first: the state is carried, or nothing has changed
        with nullcontext() if name == "reference" else other.threads(1):
            expected, given = (measure._numbers(job) for job in jobs)
        states = {"h"} if problem.layer == "gru" else {"h", "c"}
        wanted = {"y", "dx", *data.params} if mode == "training" else {"y", *states}
        assert set(expected) == wanted
        deviations = measure.deviations(given, expected)
        assert max(deviations.values()) < (1e-12 if problem.dtype == "float64" else 1e-5), deviations


def test_carried_state_moves_on(own):
    problem = VARIANTS["carried"]
    job = own.prepare(problem, "forward", make_data(problem), 1)
    first, second = (measure._numbers(job)["y"] for _ in range(2))
    assert np.max(np.abs(first - second)) > 1e-3


def test_what_a_contender_has_not_is_refused_with_a_reason():
    assert "float64" in OnnxRuntime().refuses(VARIANTS["float64"], "forward")
    assert "backward" in OnnxRuntime().refuses(TINY, "training")
    assert "operator" in LiteRT().refuses(VARIANTS["gru"], "forward")
    assert "backward" in LiteRT().refuses(TINY, "training")
    assert "whole" in LiteRT().refuses(VARIANTS["ragged"], "forward")
    assert "float64" in LiteRT().refuses(VARIANTS["float64"], "forward")
    assert "packed" in PyTorch().refuses(replace(TINY, layer="diagonal", ragged=True), "forward")
    assert "packed" in PyTorch().refuses(replace(TINY, layer="diagonal", gaps="left"), "forward")
    assert "loop" in PyTorch().refuses(replace(TINY, bidirectional=True, gaps="holes"), "forward")
    assert "resets" in OnnxRuntime().refuses(VARIANTS["resets"], "forward")


def test_rows_with_gaps_are_timed_beside_rows_without(own):
    need("threadpoolctl")
    result = measure.measure(Case(VARIANTS["holes"], "training", 1), own, [], FAST)
    assert set(result.times) == {"recurray", "without gaps", "matmul"}
    assert result.ratio("without gaps").median > 0
    assert "recurray / without gaps" in tables.results_table(Report({}, [result]))
    assert "without gaps" not in measure.measure(Case(TINY, "forward", 1), own, [], FAST).times


def test_gaps_are_what_they_say():
    problem = Problem(40, 400, 2, 3)
    holes, left, resets = (replace(problem, gaps=gaps) for gaps in ("holes", "left", "resets"))
    assert abs(holes.mask().mean() - 0.7) < 0.01
    assert holes.without_gaps().valid() == pytest.approx(holes.valid(), rel=0.01)
    assert left.valid() == left.without_gaps().valid() == replace(problem, ragged=True).valid()
    assert not left.mask()[0, 1:].any()
    assert left.mask()[-1].all()
    assert 1 / resets.resets().mean() == pytest.approx(40, rel=0.1)
    assert resets.valid() == resets.without_gaps().valid() == 16_000


def test_threads_are_set_and_given_back(own):
    torch = contender("torch")
    need("threadpoolctl")
    import torch as library

    before = library.get_num_threads(), blas.in_use().threads
    for count in (1, 2):
        with own.threads(count), torch.threads(count):
            assert (library.get_num_threads(), blas.in_use().threads) == (count, count)
    assert (library.get_num_threads(), blas.in_use().threads) == before


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, "missing"),
        ({"y": np.array([1.0, np.nan])}, "NaN"),
        ({"y": np.array([[1.0, 2.0]])}, "shape"),
        ({"y": np.array([1.0, 2.0], dtype="float32")}, "dtype"),
        ({"y": np.array([1.0, 2.0]), "h": np.zeros(1)}, "unexpected"),
    ],
)
def test_deviation_is_infinite(given, why):
    deviations = measure.deviations(given, {"y": np.array([1.0, 2.0])})
    assert max(deviations.values()) == float("inf"), why


class Wrong(Reference):
    """The reference with one gradient off by a thousandth of its largest number."""

    def prepare(self, problem, mode, data, threads):
        job = super().prepare(problem, mode, data, threads)

        def numbers(results):
            good = job.numbers(results)
            bad = good["weight_hh_l0"].copy()
            bad[0, 0] += 1e-3 * np.max(np.abs(bad))
            return good | {"weight_hh_l0": bad}

        return replace(job, numbers=numbers)


class Full(Reference):
    """A library without memory left."""

    def prepare(self, problem, mode, data, threads):
        raise MemoryError("Out of memory\nand more")


def test_who_has_no_memory_left_is_left_out(own):
    need("threadpoolctl")
    result = measure.measure(Case(TINY, "training", 1), own, [Full(own.backend)], FAST)
    assert result.left_out == {"reference": "MemoryError: Out of memory"}
    assert set(result.times) == {"recurray", "matmul"}


def test_numbers_that_differ_are_reported_and_not_timed(own):
    need("threadpoolctl")
    result = measure.measure(Case(TINY, "training", 1), own, [Wrong(own.backend)], FAST)
    assert set(result.times) == {"recurray", "matmul"}
    assert result.differs["reference"].startswith("weight_hh_l0 by 0.00")
    report = Report({"CPU": "a"}, [result])
    assert "differs" in tables.results_table(report)
    assert "its numbers differ: weight_hh_l0" in tables.notes(report)


# Problems --------------------------------------------------------------------------------------------------------


def test_flops():
    rows = 3 * 5
    lower, upper = 2 * 4 * 6 * (4 + 6), 2 * 4 * 6 * (12 + 6)
    assert TINY.flops("forward") == rows * lower
    both = VARIANTS["both directions"]
    assert both.flops("forward") == rows * 2 * (lower + upper)
    assert both.flops("training") == 3 * both.flops("forward")
    assert VARIANTS["ragged"].flops("forward") == (5 + 3 + 1) * lower  # padding isn't work
    assert PROBLEMS["1x100x64x128"].flops("forward") == 100 * 8 * 128 * 192


def test_data_fits_the_problem():
    data = make_data(VARIANTS["carried, two layers"])
    assert (data.x.shape, data.dy.shape, data.h.shape, data.c.shape) == ((5, 3, 4), (5, 3, 6), (2, 3, 6), (2, 3, 6))
    assert {value.dtype.name for value in (data.x, data.dy, data.h, *data.params.values())} == {"float32"}
    assert make_data(TINY).h is None


def test_every_problem_has_a_name_of_its_own():
    names = [problem.name for problem in PROBLEMS.values()]
    assert len(set(names)) == len(names)


def test_select():
    assert select(["all"]) == list(PROBLEMS.values())
    assert select(["3", "1x100x64x128", "1,100,64,128", "(1,100,64,128)"]) == [PROBLEMS["1x100x64x128"]]
    assert select(["quick"], dtypes=["float64"]) == [replace(problem, dtype="float64") for problem in select(["quick"])]
    assert select(["6", "float64"], dtypes=["float64"]) == [PROBLEMS["float64"]]
    assert select(["diagonal", "6"], layer="lstm") == [PROBLEMS["32x100x128x256"]]
    assert select(["stack", "5"], layer="diagonal") == [replace(PROBLEMS["32x50x128x128"], layer="diagonal")]


@pytest.mark.parametrize("word", ["0", "99", "1,2,3", "1,2,3,0", "1,2,3,-4", "big", ""])
def test_select_refuses_what_is_no_size(word):
    with pytest.raises(ValueError, match="there are 1 step, 2 stream"):
        select([word])


def test_select_refuses_what_the_layer_has_not():
    with pytest.raises(ValueError, match="'diagonal'"):
        select(["stack"], layer="diagonal")


# Timing ----------------------------------------------------------------------------------------------------------


def test_turns_are_whole_and_nobody_always_comes_first():
    log = []

    def job(name):
        @contextmanager
        def around():
            log.append(name)
            yield

        return Job(lambda: None, dict, around=around, synchronize=lambda: log.append("waited"))

    names = ["a", "b", "c"]
    times = interleaved({name: job(name) for name in names}, replace(FAST, repeats=4))
    assert {name: len(values) for name, values in times.items()} == dict.fromkeys(names, 4)
    assert all(value > 0 for values in times.values() for value in values)
    blocks = [entry for entry in log if entry in names][len(names) :]  # without the first look at each
    assert "".join(blocks) == "abc" + "bca" + "cab" + "abc"
    assert "waited" in log


def test_time_ends_the_turns_but_not_before_three():
    jobs = {"a": Job(lambda: None, dict)}
    assert len(interleaved(jobs, replace(FAST, repeats=9, seconds=1e-9))["a"]) == 3
    assert len(interleaved(jobs, replace(FAST, repeats=2, seconds=1e-9))["a"]) == 2
    assert len(interleaved(jobs, replace(FAST, repeats=1, clock="cpu"))["a"]) == 1


@pytest.mark.parametrize("seconds", [0.0, 0.02])
def test_every_block_is_warmed_up(seconds):
    """However long a call takes."""
    log = []

    def around():
        log.append("|")
        return nullcontext()

    job = Job(lambda: (log.append("."), time.sleep(seconds)), dict, around=around)
    interleaved({"a": job}, replace(FAST, repeats=2, block=0.01))
    blocks = "".join(log).split("|")[2:]  # after the first look
    assert len(blocks) == 2
    assert all(len(calls) >= 2 for calls in blocks)


def test_product(own):
    job = product(own.backend, "float64")
    result = measure._numbers(job)["product"]
    a = np.random.default_rng(0).standard_normal((1024, 1024))
    np.testing.assert_allclose(result[:2], a[:2] @ a, atol=1e-10)


# Results and how they are shown ------------------------------------------------------------------------------------


def report(scale=1.0, facts=None, other=2e-3):
    small, large = Case(TINY, "forward", 1), Case(PROBLEMS["stream"], "forward", 1)
    results = [
        Result(
            small,
            {"recurray": [1e-3 * scale, 1.1e-3 * scale, 1.2e-3 * scale], "torch": [other] * 3, "matmul": [0.02] * 3},
            deviation={"torch": 1e-7},
        ),
        Result(large, {"recurray": [9e-6] * 3, "matmul": [0.02] * 3}, left_out={"torch": "it is asleep"}),
        Result(replace(small, threads=2), {"recurray": [1.5] * 3, "matmul": [0.01] * 3}, differs={"torch": "y by 1"}),
    ]
    return Report(facts or {"CPU": "one", "date": "today"}, results)


def test_ratio_and_share():
    result = report().results[0]
    assert result.ratio("torch") == pytest.approx(Spread(0.525, 0.55, 0.575))
    assert result.ratio("reference") is None
    assert result.share.median == pytest.approx(TINY.flops("forward") / 1.1e-3 / (2 * 1024**3 / 0.02))
    diagonal = Result(Case(VARIANTS["diagonal"], "forward", 1), result.times)
    assert diagonal.share is None


def test_table():
    expected = """\
| B x T x I x H            | mode    | threads | recurray | of matmul |   torch |    recurray / torch |
|:-------------------------|:--------|--------:|---------:|----------:|--------:|--------------------:|
| 3x5x4x6                  | forward |       1 |  1.10 ms |      0.00 | 2.00 ms | 0.55 (0.53 to 0.57) |
| 1x1x64x128 state carried | forward |       1 |  9.00 us |      0.20 |       - |                   - |
| 3x5x4x6                  | forward |       2 |   1.50 s |      0.00 | differs |                   - |
"""
    assert tables.results_table(report()) == expected


def test_summary():
    """Means over like sizes; lines that would be of the same sizes, or of one, are left out."""
    row, batch = Problem(1, 9, 4, 6), replace(TINY, layers=2)
    times = {
        "forward": {row: (2.0, 1.0), TINY: (1.0, 2.0), batch: (1.0, 4.0)},
        "training": {TINY: (1, 2), batch: (1, 8)},
    }
    results = [
        Result(Case(problem, mode, 2), {"recurray": [own], "torch": [other], "matmul": [1e5]})
        for mode, problems in times.items()
        for problem, (own, other) in problems.items()
    ]
    results += [
        Result(Case(PROBLEMS["stream"], "forward", 2), {"recurray": [5.0], "torch": [1.0], "matmul": [1e5]}),
        Result(Case(VARIANTS["ragged"], "forward", 2), {"recurray": [5.0], "torch": [1.0], "matmul": [1e-3]}),
        Result(Case(VARIANTS["diagonal"], "forward", 2), {"recurray": [5.0], "torch": [1.0], "matmul": [1e5]}),
    ]
    lines = summary.summary_table(Report({}, results)).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["geometric mean", "mode", "threads", "sizes", "of matmul", "recurray / torch"]
    assert [row[:4] + row[5:] for row in cells[2:]] == [
        ["lstm", "forward", "2", "3", "0.63 (worst 2.00)"],
        ["lstm", "training", "2", "2", "0.25 (worst 0.50)"],
        ["lstm, batches", "forward", "2", "2", "0.35 (worst 0.50)"],
    ]
    shares = [result.share.median for result in results[3:5]]
    assert cells[3][4] == f"{geometric_mean(shares):.2f} (worst {min(shares):.2f})"
    assert summary.summary_table(Report({}, results[-3:])) == ""


def test_notes():
    notes = tables.notes(report())
    assert "below 1: recurray is faster" in notes
    assert "float32, threads 2: 215 GFLOP/s" in notes
    assert "torch: not timed: it is asleep (1x1x64x128 state carried, forward, 1 thread)" in notes
    assert "torch: not timed, its numbers differ: y by 1 (3x5x4x6, forward, 2 threads)" in notes


def test_json_round_trip(tmp_path):
    path = tmp_path / "report.json"
    path.write_text("what was there before")
    record.save(report(), path)
    assert record.load(path) == report()
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.json"]
    assert json.loads(path.read_text())["results"][0]["median_seconds"]["torch"] == 2e-3


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "facts": {}, "results": [{}]}', "1"])
def test_what_is_no_report_is_refused(tmp_path, text):
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"report\.json"):
        record.load(path)


@pytest.mark.parametrize(("scale", "change"), [(1.0, ""), (1.05, ""), (0.5, "faster"), (2.0, "slower")])
def test_comparison_marks_changes_beyond_the_spread(scale, change):
    lines = compare.comparison_table(report(), report(scale)).splitlines()
    (line,) = [line for line in lines if "| 3x5x4x6 " in line and "/ torch" in line]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[3:5] == ["/ torch", "0.55 (0.53 to 0.57)"]
    assert cells[-2:] == [f"{scale:.2f}", change]


def test_comparison_of_what_has_nothing_in_common():
    assert "no case in common" in compare.comparison_table(Report({}, []), report())
    (line,) = compare.differences(report(), report(facts={"CPU": "another"}))
    assert line.startswith("CPU was one, now another")


def test_picture(tmp_path):
    need("matplotlib")
    path = tmp_path / "ratios.png"
    drawing.save(bench(report()), path)
    assert path.read_bytes().startswith(b"\x89PNG")


# The machine -------------------------------------------------------------------------------------------------------


def test_the_machine_is_described_with_the_advice(monkeypatch):
    monkeypatch.setattr(machine.blas, "in_use", lambda: Blas("OpenBLAS", "1.2", "Haswell", 2))
    monkeypatch.setattr(machine.blas, "advice", lambda: "take others")
    facts = machine.facts()
    assert (facts["BLAS"], facts["advice"]) == ("OpenBLAS 1.2 with Haswell kernels", "take others")
    monkeypatch.setattr(machine.blas, "advice", lambda: None)
    assert "advice" not in machine.facts()


def test_the_command_is_told_with_what_set_the_kernels(monkeypatch):
    for name in machine._BLAS_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert machine.command(["bench", "--sizes", "1, 2, 3, 4"]) == "recurray bench --sizes '1, 2, 3, 4'"
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    assert machine.command(["bench"]) == "OPENBLAS_CORETYPE=Haswell recurray bench"


def test_describing_the_machine_imports_no_other_library():
    code = (
        "import sys; from recurray.benchmarks import machine; machine.facts();"
        "print(sorted({'torch', 'onnx', 'onnxruntime', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# The command -------------------------------------------------------------------------------------------------------

ARGUMENTS = ["bench", "--sizes", "3,5,4,6", "--against", "reference", "--threads", "1", "--repeats", "1"]


@pytest.fixture
def quick(monkeypatch):
    """Measure without pauses."""
    need("threadpoolctl")
    real = measure.measure
    monkeypatch.setattr(command, "measure", lambda case, own, others, budget: real(case, own, others, FAST))


def test_command(quick, capsys, tmp_path):
    path = str(tmp_path / "report.json")
    assert main([*ARGUMENTS, "--json", path]) == 0
    out, err = capsys.readouterr()
    assert "NumPy" in out
    assert f"recurray {' '.join(ARGUMENTS)} --json {path}\n" in out
    assert "| recurray / reference |" in out
    assert "| 3x5x4x6       | training |       1 |" in out
    assert err.splitlines() == ["1/2 3x5x4x6, forward, 1 thread", "2/2 3x5x4x6, training, 1 thread"]
    assert main([*ARGUMENTS, "--compare", path, "--json", path]) == 0  # the old one is read first
    assert "| new / old |" in capsys.readouterr().out


def test_interrupted(quick, monkeypatch, capsys, tmp_path):
    measured = command.measure

    def interrupted(case, own, others, budget):
        if case.mode == "training":
            raise KeyboardInterrupt
        return measured(case, own, others, budget)

    monkeypatch.setattr(command, "measure", interrupted)
    path = tmp_path / "report.json"
    assert main([*ARGUMENTS, "--json", str(path)]) == 130
    out, err = capsys.readouterr()
    assert "| 3x5x4x6 " in out
    assert "| training |" not in out
    assert "interrupted after 1 of 2" in err
    assert len(record.load(path).results) == 1


def test_an_error_loses_nothing(quick, monkeypatch, capsys):
    measured = command.measure

    def failing(case, own, others, budget):
        if case.mode == "training":
            raise MemoryError
        return measured(case, own, others, budget)

    monkeypatch.setattr(command, "measure", failing)
    assert main(ARGUMENTS) == 1
    out, err = capsys.readouterr()
    assert "| 3x5x4x6 " in out
    assert "out of memory" in err


def test_differing_numbers_fail(quick, monkeypatch, capsys):
    monkeypatch.setattr(command, "Reference", Wrong)
    assert main([*ARGUMENTS, "--mode", "training"]) == 1
    assert "numbers differ" in capsys.readouterr().out


def test_without_the_other_libraries(quick, monkeypatch, capsys):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    assert main(["bench", "--sizes", "3,5,4,6", "--threads", "1", "--mode", "forward"]) == 0
    out = capsys.readouterr().out
    assert 'torch missing: no times of torch; in a checkout of recurray, pip install ".[bench]"' in out
    assert "onnxruntime and onnx missing" in out
    assert "| of matmul |" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sizes", "huge"], "there is no size 'huge'"),
        (["--sizes", "stack", "--layer", "diagonal"], "'diagonal'"),
        (["--sizes", "stream", "--mode", "training"], "has the mode training"),
        (["--threads", "0"], "expected a whole number of at least 1, got '0'"),
        (["--seconds", "nan"], "expected a number above 0, got 'nan'"),
        (["--against", "thinc"], "invalid choice: 'thinc'"),
        (["--clock", "cpu", "--threads", "1", "2"], "--threads 1"),
        (["--json", "/nowhere/report.json"], "can't be written: No such file or directory"),
        (["--json", "."], "can't be written"),
        (["--compare", "/nowhere/report.json"], "No such file"),
    ],
)
def test_wrong_usage(capsys, arguments, message):
    need("threadpoolctl")
    assert main(["bench", "--against", "reference", *arguments]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert out == ""


@pytest.mark.parametrize("option", ["--json", "--plot"])
def test_what_is_no_file_is_not_replaced_by_a_report(capsys, tmp_path, option):
    need("threadpoolctl")
    pipe = tmp_path / "report.png"  # stands for /dev/null
    need("POSIX")
    os.mkfifo(pipe)
    assert main(["bench", "--sizes", "step", "--against", "reference", option, str(pipe)]) == 2
    assert "report.png can't be written: it is a pipe, not a file" in capsys.readouterr().err


def test_a_report_goes_where_a_link_points_to(tmp_path):
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "report.json")
    record.save(report(), link)
    assert link.is_symlink()
    assert record.load(tmp_path / "report.json") == report()


@pytest.mark.parametrize(
    ("arguments", "package"),
    [(["--plot", "a.png"], "matplotlib"), (["--against", "torch"], "torch"), ([], "threadpoolctl")],
)
def test_what_is_asked_for_and_missing(monkeypatch, capsys, arguments, package):
    for module in (command, options):
        real = module.find_spec
        monkeypatch.setattr(module, "find_spec", lambda name, real=real: None if name == package else real(name))
    if package != "threadpoolctl":
        need("threadpoolctl")
    assert main(["bench", "--sizes", "1", "--against", "reference", *arguments]) == 2
    err = capsys.readouterr().err
    assert f"needs {package}, which is missing" in err
    assert ".[bench]" in err


def test_picture_of_an_unknown_kind(capsys):
    for package in ("matplotlib", "threadpoolctl"):
        need(package)
    assert main(["bench", "--against", "reference", "--plot", "ratios.docx"]) == 2
    assert "ends in one of" in capsys.readouterr().err


def test_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "recurray.benchmarks", "--help"], capture_output=True, text=True, check=True
    )
    assert "12 float64" in done.stdout


# On a GPU -----------------------------------------------------------------------------------------------------------


def test_half_precision_is_a_matter_of_products():
    problem = replace(TINY, dtype="bfloat16")
    assert (problem.name, problem.array_dtype, problem.compute_dtype) == ("3x5x4x6 bfloat16", "float32", "bfloat16")
    assert (TINY.array_dtype, TINY.compute_dtype) == ("float32", None)
    assert make_data(problem).x.dtype == "float32"
    assert problem.make_layer("numpy").dtype == "float32"


def test_sizes_of_a_gpu():
    problems = select(["gpu"], dtypes=["float32", "float16"])
    assert [problem.dtype for problem in problems] == ["float32", "float16"] * (len(problems) // 2)
    assert {problem.steps for problem in problems} == {512}
    for name, values in (("batch", (1, 256)), ("hidden", (128, 2048)), ("layers", (1, 4)), ("directions", (1, 2))):
        found = {getattr(problem, name) for problem in problems}
        assert (min(found), max(found)) == values
    assert max(problem.steps for problem in select(["gpu-diagonal"])) == 65_536


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("mode", ["forward", "training"])
def test_pytorch_in_half_precision_is_near_recurrays_float32(own, dtype, mode):
    problem = Problem(16, 100, 64, 128, dtype=dtype)
    data, torch = make_data(problem), contender("torch")
    exact = measure._numbers(own.prepare(replace(problem, dtype="float32"), mode, data, 1))
    rounded = measure._numbers(torch.prepare(problem, mode, data, 1))
    worst = max(measure.deviations(rounded, exact).values())
    assert 1e-4 < worst < measure.TOLERANCE[dtype]


def test_pytorch_is_told_from_cudnn():
    contender("torch")
    torch = PyTorch("cuda")
    assert "finds no GPU" in (torch.unavailable() or "PyTorch finds no GPU")
    assert PyTorch("cpu").unavailable() is None
    assert "too long" in torch.refuses(select(["gpu-diagonal"])[-1], "training")
    assert torch.refuses(select(["gpu-diagonal"])[0], "training") is None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--dtype", "float32", "bfloat16"], "--dtype: float16 and bfloat16 are for a GPU"),
        (
            ["--strategy", "auto"],
            "the backend 'numpy' takes no strategy, but strategy='auto' was asked for: it takes engine",
        ),
        (["--against", "fused"], "--against fused: a strategy is for a GPU"),
        (["import", "--strategy", "auto"], "bench import has no --strategy"),
    ],
)
def test_what_is_for_a_gpu_is_refused_elsewhere(words, says, capsys):
    where = [] if words[0] == "import" else ["--backend", "numpy", "--sizes", "3,5,4,6"]
    assert main(["bench", *words, *where]) == 2
    assert says in capsys.readouterr().err


@needs_compiler
def test_the_command_on_the_cupy_backend(quick, tmp_path, monkeypatch, capsys):
    """With a stand-in for CuPy: products in several precisions, and one strategy against another."""
    need("torch")
    library, asked = HostLibrary(tmp_path, gpu=Device(multiprocessors=4, shared=10**5, threads=32)), []

    def get_backend(name, device=None, **options):
        if name != "cupy":
            return right(name, device, **options)
        asked.append(options)
        backend = backend_on(library)
        backend.strategy = options.get("strategy", "fused")
        backend.compute_dtype = options.get("compute_dtype")
        backend.device.id = 0
        return backend

    right = rr.get_backend
    monkeypatch.setattr(rr, "get_backend", get_backend)
    words = ["--backend", "cupy", "--strategy", "persistent", "--against", "fused", "torch", "--sizes", "3,5,4,6"]
    words += ["--dtype", "float32", "bfloat16"]
    path = tmp_path / "times.json"
    monkeypatch.setattr(PyTorch, "unavailable", lambda self: None)
    monkeypatch.setattr(PyTorch, "refuses", lambda self, problem, mode: f"not here, on {self.device}")
    monkeypatch.setattr(PyTorch, "threads", lambda self, count: nullcontext())
    monkeypatch.setattr(PyTorch, "describe", lambda self: "")
    assert main(["bench", *words, "--json", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "strategy 'persistent'" in shown
    assert shown.count("3x5x4x6 bfloat16") == 2
    assert "torch: not timed: not here, on cuda (4 cases)" in shown
    assert "matmul of 1024 x 1024 float32" in shown
    assert "matmul of 1024 x 1024 bfloat16" not in shown
    assert {"strategy": "fused", "compute_dtype": "bfloat16"} in asked
    assert any("_by_" in name for name in library.launched)
    results = record.load(path).results
    assert [(result.case.problem.dtype, result.case.mode) for result in results] == [
        (dtype, mode) for dtype in ("float32", "bfloat16") for mode in ("forward", "training")
    ]
    assert all(set(result.times) >= {"recurray", "fused"} for result in results)
