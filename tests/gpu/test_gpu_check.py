"""The script for a machine with a GPU, `gpu_check`: one part of it going wrong leaves the others their turn."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import gpu_check
from gpu.compare import furthest
from gpu.report import Report
from gpu.verdict import RULE, Timed, verdict
from harness import obtain
from harness.needs import needs

needs_fork = needs("fork")


def hang(report):
    report.add("it begins")
    time.sleep(60)


def crash(report):
    def rows():
        yield (1,)
        os._exit(3)

    report.table(("rows before a crash",), rows())


def fail(report):
    raise ValueError("it is wrong")


def succeed(report, number):
    report.table(("number",), [(number,)])
    report.save("number.json", number)


@needs_fork
def test_what_goes_wrong_is_told_and_the_rest_goes_on(tmp_path):
    report = Report(tmp_path, time.monotonic() + 100)
    for work, arguments, seconds in ((hang, (), 0.3), (crash, (), 50), (fail, (), 50), (succeed, (7,), 50)):
        with report.section(work.__name__):
            report.apart(work, *arguments, seconds=seconds)
    text = (tmp_path / "report.md").read_text()
    assert report.failed == ["hang", "crash", "fail"]
    assert report.done == ["succeed"]
    for words in ("it begins", "not done in 0 s", "has ended without a word", "ValueError: it is wrong"):
        assert words in text
    assert "| rows before a crash |\n| --- |\n| 1 |\n\nFAILED" in text  # each row is there once it has been made
    assert "| number |\n| --- |\n| 7 |\n" in text
    assert (tmp_path / "number.json").read_text() == "7\n"


@needs_fork
def test_nothing_is_waited_for_when_time_is_up(tmp_path):
    report = Report(tmp_path, time.monotonic() - 1)
    with report.section("late"):
        report.apart(hang)
    assert report.failed == ["late"]
    assert "or by the end" in (tmp_path / "report.md").read_text()


def timed(times, **more):
    return Timed("64x512x512x512", "float32", "forward", "persistent", times, **more)


def test_the_rule_for_the_default_is_judged():
    fast = timed({"auto": 5.0, "persistent": 5.0, "default": 18.0, "fused": 18.0})
    slow = timed({"auto": 20.0, "default": 18.0})
    found = ["1. holds", "2. holds: at most 0.28", "3. holds: 0.28", "4. holds: at most 1.00", ""]
    assert verdict([fast], []) == [*found, "default holds: at most 1.00"]
    words = verdict([fast, slow], ["tests (failed)"])
    assert words[0] == "1. DOES NOT HOLD: tests (failed)"
    assert words[1].startswith("2. DOES NOT HOLD: 1 of 2 above 1.05, 1.11 at 64x512x512x512")
    assert words[2] == "3. holds: 0.56"
    assert verdict([slow], [])[2] == "3. DOES NOT HOLD: 1.11"
    chosen_badly = timed({"auto": 10.0, "default": 18.0, "step": 5.0, "fused": 18.0, "cuDNN": 1.0})
    assert verdict([chosen_badly], [])[3].startswith("4. DOES NOT HOLD: 1 of 1 above 1.25, 2.00 at")
    assert verdict([chosen_badly], [])[5].startswith("default DOES NOT HOLD: 1 of 1 above 1.25, 3.60 at")
    without_cudnn = timed({"auto": 5.0, "default": 6.0, "cuDNN": 1.0})  # which is no strategy of ours
    assert verdict([without_cudnn], [])[3] == "4. holds: at most 1.00"
    assert all("NOT KNOWN" in line for line in verdict([timed({"default": 18.0}, failed={"auto": "why"})], [])[1:])


def test_a_number_that_is_none_is_far_from_any():
    """Of the largest of a list with a NaN in it Python says what comes first."""
    right, found = [np.ones(2), np.ones(3)], [np.ones(2), np.array([1, np.nan, 1])]
    assert furthest(right, right) == 0
    assert furthest(right, found) == furthest(found, right) == furthest(found, found) == float("inf")


def test_the_docs_have_the_rule():
    assert RULE in (Path(gpu_check.ROOT) / "docs" / "gpu.md").read_text()


def test_a_row_says_whether_the_target_is_kept_and_what_is_missing():
    names = ("auto", "fused", "cuDNN")
    row = timed({"auto": 7.0, "fused": 18.0, "cuDNN": 14.0}, batch=64, units=512).row(names)
    assert row[5:] == ("7.00", "18.00", "14.00", "0.50", "0.7", "kept")
    assert timed({"auto": 7.0, "cuDNN": 8.0}, batch=64, units=512).row(names)[-1] == "MISSED"
    row = timed({"auto": 7.0}, batch=1, wrong={"fused": 0.5}, failed={"cuDNN": "RuntimeError: no room"}).row(names)
    assert row[5:] == ("7.00", "WRONG by 5.0e-01", "RuntimeError: no room", "", "0.5", "")
    assert len(row) == len(Timed.head(names))


@needs("array_api_compat")
def test_a_machine_without_array_api_compat_takes_the_copy_in_scipy(tmp_path, monkeypatch):
    """Here a folder stands for SciPy; what is in it is array-api-compat itself."""
    compat = Path(str(find_spec("array_api_compat").origin)).parent
    scipy = tmp_path / "site" / "scipy"
    (scipy / "_lib").mkdir(parents=True)
    (scipy / "__init__.py").touch()
    (scipy / "_lib" / "array_api_compat").symlink_to(compat)

    found = {"array_api_compat": None, "scipy": SimpleNamespace(origin=str(scipy / "__init__.py"))}
    monkeypatch.setattr(gpu_check, "find_spec", found.__getitem__)
    folder = tmp_path / "announced"
    folder.mkdir()
    gpu_check.announce(folder)
    code = "import array_api_compat, array_api_compat.numpy; print(array_api_compat.__file__)"
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(folder)!r}); {code}"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert told.startswith(str(folder))


@pytest.mark.gpu
@needs_fork
def test_all_of_the_script_on_small_problems(tmp_path):
    """A machine with a GPU is dear: no section is to end by a mistake in the script."""
    obtain("cupy")
    command = [sys.executable, gpu_check.__file__, str(tmp_path), "--small", "--minutes", "8"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    report = (tmp_path / "report.md").read_text()
    assert done.returncode == 0, report
    assert report.endswith("# All passed\n")
    assert "\n1. holds\n2. " in report  # all proofs were made
    in_one_block = "| 2x6x8x16 | bfloat16 | training | persistent | persistent |"  # which waits for none
    assert in_one_block in report
    for strategy, chosen in (("default", "step"), ("auto", "persistent")):
        row = rf"\| LSTMCell\(\) \| 2 \| 300 \| {strategy} \| {chosen} \| {chosen} \| \d\.\de-\d\d \| ok \|"
        assert re.search(row, report)
    assert "| 2x6x8x16 both directions | float32 | forward |" in report
    assert {"layers.json", "stacks.json", "gpu.txt", "layers.txt"} <= {path.name for path in tmp_path.iterdir()}
