"""How many calls there are between the one that a user makes and the arithmetic."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import obtain
from harness.needs import needs_compiler
from recurray.layers import Layer

Is = Callable[[CodeType], bool]


def calls_to(arithmetic: Is, layer: rr.LSTM, x: Any) -> list[str]:
    """The functions from ``layer.forward`` to the first that ``arithmetic`` is true of, both included."""
    found: list[str] = []

    def look(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and not found and arithmetic(frame.f_code):
            outer: FrameType | None = frame
            while outer is not None and outer.f_code is not Layer.forward.__code__:
                found.insert(0, f"{Path(outer.f_code.co_filename).stem}.{outer.f_code.co_name}")
                outer = outer.f_back
            found.insert(0, "layer.forward")

    layer.forward(x)  # what is done once is done
    sys.setprofile(look)
    try:
        layer.forward(x)
    finally:
        sys.setprofile(None)
    return found


def is_in(file: str, name: str) -> Is:
    return lambda code: Path(code.co_filename).as_posix().endswith(file) and code.co_name == name


@pytest.mark.parametrize(
    ("platform", "arithmetic", "most"),
    [
        ("reference", is_in("recurray/arrays.py", "sigmoid"), 10),
        ("numpy", lambda code: code.co_filename == "<written for a recorded cell>", 8),
        ("native", is_in("recurray_native/scan.py", "_run"), 8),
    ],
)
def test_the_way_to_the_arithmetic_is_short(platform: str, arithmetic: Is, most: int) -> None:
    calls = calls_to(arithmetic, rr.LSTM(4, 5, backend=obtain(platform), seed=0), np.ones((3, 6, 4), np.float32))
    assert 3 < len(calls) <= most, " ".join(calls)


@needs_compiler
def test_the_way_to_a_kernel_is_short(tmp_path: Path) -> None:
    from harness.cuda.host_backend import backend_on
    from harness.cuda.host_cpp import HostLibrary

    backend: Any = backend_on(HostLibrary(tmp_path))
    backend.strategy = "fused"
    layer = rr.LSTM(4, 5, backend=backend, seed=0)
    calls = calls_to(is_in("recurray_cupy/launcher.py", "__call__"), layer, np.ones((3, 6, 4), np.float32))
    assert 3 < len(calls) <= 11, " ".join(calls)
