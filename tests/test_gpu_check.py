"""The script for a machine with a GPU, `gpu_check`: one part of it going wrong leaves the others their turn."""

from __future__ import annotations

import os
import time

import pytest

import gpu_check


def hang(report):
    report.add("it begins")
    time.sleep(60)


def crash(report):
    os._exit(3)


def fail(report):
    raise ValueError("it is wrong")


def succeed(report, number):
    report.table(("number",), [(number,)])
    report.save("number.json", number)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_what_goes_wrong_is_told_and_the_rest_goes_on(tmp_path):
    report = gpu_check.Report(tmp_path, time.monotonic() + 100)
    for work, arguments, seconds in ((hang, (), 0.3), (crash, (), 50), (fail, (), 50), (succeed, (7,), 50)):
        with report.section(work.__name__):
            report.apart(work, *arguments, seconds=seconds)
    text = (tmp_path / "report.md").read_text()
    assert report.failed == ["hang", "crash", "fail"]
    for words in ("it begins", "not done in 0 s", "has ended without a word", "ValueError: it is wrong", "| 7 |"):
        assert words in text
    assert (tmp_path / "number.json").read_text() == "7\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_nothing_is_waited_for_when_time_is_up(tmp_path):
    report = gpu_check.Report(tmp_path, time.monotonic() - 1)
    with report.section("late"):
        report.apart(hang)
    assert report.failed == ["late"]
    assert "or by the end" in (tmp_path / "report.md").read_text()
