"""The environment variables: what each may say, in capitals too, and the one warning about what can't be read."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings

import pytest

import recurray as rr
from harness import obtain
from recurray import environment

VARIABLES = (
    "RECURRAY_BACKEND",
    "RECURRAY_KEPT_MIB",
    "RECURRAY_NATIVE",
    "RECURRAY_NATIVE_LEVEL",
    "RECURRAY_NUM_THREADS",
)


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_warned", set())
    environment._num_threads.cache_clear()
    for name in (*VARIABLES, "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("text", ["", "1", "ON", "Yes", "true", "0", "off", " Off ", "NO", "FALSE"])
def test_the_engine_is_turned_off_in_every_usual_way(monkeypatch, text):
    obtain("native")
    from recurray_numpy import NumpyBackend

    allowed = text.strip().lower() in ("", "1", "on", "yes", "true")
    monkeypatch.setenv("RECURRAY_NATIVE", text)
    assert environment.native() is allowed
    assert (NumpyBackend().engine == "native") is allowed


@pytest.mark.parametrize("text", ["AVX2", "avx512", "Portable", " neon\n"])
def test_an_instruction_set_may_be_written_in_capitals(monkeypatch, text):
    monkeypatch.setenv("RECURRAY_NATIVE_LEVEL", text)
    assert environment.native_level(("avx512", "avx2", "neon", "portable")) == text.strip().lower()


def test_the_engine_takes_its_instruction_set_in_capitals(monkeypatch):
    obtain("native")
    from recurray_native import Engine

    monkeypatch.setenv("RECURRAY_NATIVE_LEVEL", "PORTABLE")
    assert Engine().level == "portable"


@pytest.mark.parametrize(("own", "openmp", "count"), [("4", "2", 4), (" 4 ", "", 4), ("", "7,2", 7), ("", "x", None)])
def test_threads_are_counted_by_the_first_variable_that_is_set(monkeypatch, own, openmp, count):
    monkeypatch.setenv("RECURRAY_NUM_THREADS", own)
    monkeypatch.setenv("OMP_NUM_THREADS", openmp)
    assert environment.num_threads() == count


def test_a_backend_may_be_named_in_capitals(monkeypatch):
    for name, expected in (("NumPy", "numpy"), (" numpy ", "numpy"), ("AUTO", "auto"), ("nunpy", "nunpy"), ("", None)):
        monkeypatch.setenv("RECURRAY_BACKEND", name)
        assert environment.backend(("numpy", "auto")) == expected
    monkeypatch.setenv("RECURRAY_BACKEND", "NUMPY")
    assert rr.get_backend().name == "numpy"


WRONG = [
    ("RECURRAY_NATIVE", "offf", "expected one of 1, on, yes, true, 0, off, no, false; a compiled engine is used"),
    ("RECURRAY_NATIVE_LEVEL", "sse9", "expected one that runs on this machine: .*portable; .* is used"),
    ("RECURRAY_NUM_THREADS", "0", "expected a whole number of at least 1; it is as if it weren't set"),
    ("RECURRAY_NUM_THREADS", "-2", "expected a whole number"),
    ("RECURRAY_NUM_THREADS", "two", "expected a whole number"),
    ("RECURRAY_NUM_THREADS", "1.5", "expected a whole number"),
    ("RECURRAY_NUM_THREADS", "9" * 5000, "expected a whole number"),
    ("RECURRAY_NUM_THREAD", "2", "expected one of the variables RECURRAY_BACKEND, .*; nothing reads it"),
    ("RECURRAY_NATVE", "0", "nothing reads it"),
]


@pytest.mark.parametrize(("name", "text", "message"), WRONG)
def test_what_cannot_be_read_is_said_once_and_does_nothing(monkeypatch, name, text, message):
    obtain("native")
    from recurray_native import Engine, get_num_threads
    from recurray_native.library import levels
    from recurray_numpy import NumpyBackend

    processors = get_num_threads()
    monkeypatch.setenv(name, text)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            assert Engine().level == levels()[0]
            assert NumpyBackend().engine == "native"
            assert get_num_threads() == processors
            rr.LSTM(2, 3)
    assert len(caught) == 1
    assert re.match(rf"{name}='{text}': .*{message}", str(caught[0].message))


@pytest.mark.parametrize("text", ["-1", "1.5", "1 GiB", "9" * 5000])
def test_memory_that_cannot_be_read_is_said(monkeypatch, text):
    monkeypatch.setenv("RECURRAY_KEPT_MIB", text)
    with pytest.warns(UserWarning, match="expected a whole number; 128 MiB of a kind are kept at most"):
        assert environment.kept_bytes(2**27) == 2**27


def test_variables_of_the_tests_are_left_alone(monkeypatch):
    monkeypatch.setenv("RECURRAY_TEST_ANYTHING", "1")
    assert environment.native()


def test_a_whole_process_warns_once_and_goes_on():
    obtain("native")
    code = """
import recurray as rr
for _ in range(2):
    layer = rr.LSTM(2, 3)
    print(layer.backend.level == __import__("recurray_native").library.levels()[0])
"""
    wrong = {"RECURRAY_NATIVE_LEVEL": "AVX3", "RECURRAY_NUM_THREADS": "0", "RECURRAY_NATIVE": "maybe"}
    result = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | wrong, capture_output=True, text=True, check=True
    )
    assert result.stdout == "True\nTrue\n"
    for name, text in wrong.items():
        assert result.stderr.count(f"{name}='{text}': expected") == 1
