"""The compiled engine's formulas: the same bits for any number of threads, on each instruction set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness import obtain, why_absent
from recurray import optim

if why_absent("native") is None:
    import recurray_native
    from recurray_native import library

    LEVELS = library.levels()
else:
    LEVELS = ("any",)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threads_change_no_bit(level: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    obtain("native")
    backend = recurray_native.Engine(level=level)
    monkeypatch.setattr("recurray.optim.elementwise.backend_of", lambda param: backend)

    def trained(threads: int) -> dict[str, Any]:
        rng = np.random.default_rng(0)
        shapes = {"large": (300, 301), "larger": (40_001,), "bias": (7,)}

        def draw() -> dict[str, Any]:
            return {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}

        params = draw()
        optimizer = optim.Adam(params, lr=0.01, weight_decay=0.1, amsgrad=True)
        with backend.threads(threads):
            for _ in range(3):
                optimizer.step(draw())
        return params | {name: value for name, value in optimizer.state_dict().items() if name != "settings"}

    one = trained(1)
    for threads in (2, 3, 5):
        for name, value in trained(threads).items():
            np.testing.assert_array_equal(value, one[name], strict=True)
