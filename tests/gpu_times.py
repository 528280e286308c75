"""What `gpu_check` times. It has not been run on a GPU yet."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any


def seconds_of(call: Callable[[], Any], wait: Callable[[], None], repeats: int = 7) -> float:
    """The median time of a call, after two that don't count."""
    times = []
    for k in range(repeats + 2):
        wait()
        began = time.perf_counter()
        call()
        wait()
        if k > 1:
            times.append(time.perf_counter() - began)
    return median(times)


def parts(report: Any) -> None:
    """Time what a step forward is made of, each part alone: by the host's clock, and until the GPU has done it."""
    import cupy as cp

    from recurray.cells import LSTMCell
    from recurray_cupy.compiled import compiled
    from recurray_cupy.launcher import Launcher
    from recurray_cupy.library import CupyLibrary

    (kernel,) = compiled(LSTMCell()).forward(keep=True, projected=False).kernels
    rows = []
    for batch, units in ((1, 512), (64, 512), (64, 2048)):
        gates = (batch, 4 * units)
        shapes = {"x_gates": gates, "h_gates": gates, "x_bias": gates[1:], "h_bias": gates[1:]}
        shapes |= {"state_h": (2, batch, units), "state_c": (2, batch, units), "saved": (5, batch, units)}
        arrays = {name: cp.zeros(shape, dtype="float32") for name, shape in shapes.items()}
        nothing = {"lengths": None, "mask": None, "h_masked": None}
        options: dict[str, Any] = {"dtype": "float32", "batch": batch, "units": units, "reverse": False}
        launch = Launcher(CupyLibrary(), kernel, arrays | nothing, **options)
        states, out, weight = arrays["state_h"], arrays["h_gates"], cp.zeros((4 * units, units), dtype="float32").T
        for name, part in {
            "kernel": lambda launch=launch: launch(0),
            "product": lambda h=states[0], weight=weight, out=out: h.dot(weight, out=out),
            "view of a step": lambda states=states: states[1],
        }.items():
            rows.append((f"B {batch}, H {units}", name, *(f"{number:.2f}" for number in microseconds(cp, part))))
    report.table(("size", "part", "host, us", "host and GPU, us"), rows)


def microseconds(cp: Any, call: Callable[[], Any], repeats: int = 500) -> tuple[float, float]:
    """How long a call, one of many in a row, takes the host alone, and host and GPU together."""
    for _ in range(10):
        call()
    cp.cuda.Device().synchronize()
    began = time.perf_counter()
    for _ in range(repeats):
        call()
    host = time.perf_counter() - began
    cp.cuda.Device().synchronize()
    return 1e6 * host / repeats, 1e6 * (time.perf_counter() - began) / repeats


def diagonal(report: Any, backend: str) -> None:
    """Time the diagonal LSTM. The least that forward has to move is x, the product, and the output."""
    from recurray.benchmarks.contenders import Own
    from recurray.benchmarks.problems import GPU_DIAGONAL, Problem, make_data

    rows: list[tuple[Any, ...]] = []
    for problem in GPU_DIAGONAL if backend == "cupy" else (Problem(4, 64, 8, 16, layer="diagonal"),):
        if report.left() < 60:
            rows.append((problem.name, "no time left", "", ""))
            continue
        data, seconds = make_data(problem), {}
        for mode in ("forward", "training"):
            job = Own(backend).prepare(problem, mode, data, 1)
            seconds[mode] = seconds_of(job.call, job.synchronize, 3)
        # The product is written and read.
        moved = 4 * problem.batch * problem.steps * (problem.inputs + 3 * problem.hidden)
        times = [f"{1e3 * seconds[mode]:.2f}" for mode in ("forward", "training")]
        rows.append((problem.name, *times, f"{moved / seconds['forward'] / 1e9:.0f}"))
    report.table(("B x T x I x H", "forward, ms", "training, ms", "forward, GB/s"), rows)
