"""No call of the public API ends in a raw error: `fuzz_api`, for a short while, and whether it would notice."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness.needs import needs
from recurray.arrays import rows
from reliability import fuzz_api
from reliability.fuzz_api import Fuzz, fault_of

pytestmark = needs("POSIX")

SECONDS = 30.0  # in all, for the slow test; `python tests/reliability/fuzz_api.py --calls 50000` takes some minutes


@pytest.mark.parametrize("seed", [0])
def test_a_few_calls(seed: int) -> None:
    fuzz = Fuzz(seed)
    calls = fuzz.run(300)
    assert not fuzz.raw, fuzz.report(calls)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_calls_for_a_while(seed: int) -> None:
    fuzz = Fuzz(seed)
    calls = fuzz.run(50_000, SECONDS / 3)
    assert not fuzz.raw, fuzz.report(calls)
    assert set(fuzz.counts) == set(fuzz.actions)
    assert calls > 300


def test_a_seed_repeats_a_run() -> None:
    runs = [Fuzz(7) for _ in range(2)]
    for fuzz in runs:
        fuzz.run(60)
    assert runs[0].counts == runs[1].counts
    assert runs[0].refused == runs[1].refused


def caught(call: Any) -> BaseException:
    try:
        call()
    except (Exception, fuzz_api.HangError) as error:
        return error
    raise AssertionError("nothing was raised")


def test_what_is_raw_is_noticed() -> None:
    assert fault_of(caught(lambda: np.ones(2) + np.ones(3))) == "comes from test_fuzz_api.py"
    assert fault_of(caught(lambda: float(10**400))) == "is a OverflowError"
    assert fault_of(caught(lambda: np.linalg.inv(np.ones(2)))).startswith(("comes from", "is a"))
    assert fault_of(caught(lambda: rows(np.ones(())))).startswith("comes out of line")
    assert fault_of(fuzz_api.HangError()) == "hung"
    assert fault_of(caught(lambda: rr.LSTM(0, 1))) == ""
    assert fault_of(caught(lambda: rr.get_backend("gpu"))) == ""


def test_a_call_that_hangs_is_noticed(monkeypatch: Any) -> None:
    monkeypatch.setattr(fuzz_api, "LIMIT", 0.05)
    fuzz = Fuzz(0)
    fuzz.actions = {"sleep": lambda: time.sleep(5)}
    fuzz.run(1)
    assert [text.partition("\n")[0] for text in fuzz.raw] == ["call 1, sleep: the error hung"]


def test_a_check_that_is_missing_is_noticed(monkeypatch: Any) -> None:
    monkeypatch.setattr(rr.layers.layer.array_checks, "params", lambda backend, dtype, shapes, given: given)
    fuzz = Fuzz(0)
    fuzz.actions = {name: fuzz.actions[name] for name in ("layer", "params")}
    fuzz.run(300)
    assert fuzz.raw
