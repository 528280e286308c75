"""How many processors a process may use: its binding, and its control group's quota."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from harness.needs import need
from recurray import processors

NONE = math.inf


def quota(folder: Path, own: str, files: dict[str, str]) -> float:
    """The least quota that a made-up system has."""
    (folder / "own").write_text(own)
    for name, text in files.items():
        path = folder / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return min(processors._quotas(folder / "own", folder / "fs"), default=NONE)


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("", {}, NONE),
        ("0::/\n", {}, NONE),
        ("0::/\n", {"cpu.max": "max 100000\n"}, NONE),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "200000 100000\n", "cpu.max": "max 1\n"}, 2.0),
        ("0::/a/b\n", {"a/b/cpu.max": "50000 100000\n", "a/cpu.max": "200000 100000\n"}, 0.5),
        ("0::/../other\n", {"cpu.max": "300000 100000\n"}, 3.0),
        ("0::/of/the/host\n", {"cpu.max": "400000 100000\n"}, 4.0),
        ("0::/\n", {"cpu.max": "0 100000\n"}, NONE),
        ("0::/\n", {"cpu.max": "nonsense\n"}, NONE),
        ("4:memory:/\n3:cpu,cpuacct:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, NONE),
        (
            "3:cpu,cpuacct:/docker/x\n",
            {"cpu/cpu.cfs_quota_us": "250000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            2.5,
        ),
        (
            "5:cpuset:/d\n3:cpuacct,cpu:/d\n0::/\n",
            {"cpu/d/cpu.cfs_quota_us": "20000\n", "cpu/d/cpu.cfs_period_us": "10000\n", "cpu.max": "max 1\n"},
            2.0,
        ),
    ],
)
def test_the_least_quota_of_all_groups_around(tmp_path, own, files, expected):
    assert quota(tmp_path, own, files) == expected


@pytest.mark.parametrize(
    ("allowed", "share", "expected"), [(8, NONE, 8), (8, 2.0, 2), (8, 1.5, 2), (8, 0.1, 1), (2, 6, 2)]
)
def test_the_lesser_of_binding_and_quota(monkeypatch, allowed, share, expected):
    monkeypatch.setattr(processors, "_allowed", lambda: allowed)
    monkeypatch.setattr(processors, "_quota", lambda: share)
    assert processors.usable() == expected


def test_a_process_bound_to_one_processor_uses_one():
    if not hasattr(os, "sched_setaffinity"):
        need("POSIX")
        return
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert processors.usable() == 1
    finally:
        os.sched_setaffinity(0, before)
