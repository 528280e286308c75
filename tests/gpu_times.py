"""What `gpu_check` times. It has not been run on a GPU yet."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable
from statistics import median
from typing import Any

# (batch, steps, input features, hidden units, layers, both directions)
GPU_SIZES = [
    (1, 512, 128, 128, 1, False),
    (1, 512, 512, 512, 1, False),
    (1, 512, 1024, 1024, 1, False),
    (1, 512, 2048, 2048, 1, False),
    (16, 512, 256, 256, 1, False),
    (64, 512, 128, 128, 1, False),
    (64, 512, 512, 512, 1, False),
    (64, 512, 1024, 1024, 1, False),
    (64, 512, 2048, 2048, 1, False),
    (256, 512, 512, 512, 1, False),
    (256, 512, 1024, 1024, 1, False),
    (1, 512, 512, 512, 4, False),
    (64, 512, 512, 512, 4, False),
    (1, 512, 512, 512, 1, True),
    (64, 512, 512, 512, 1, True),
]
CPU_SIZES = [(1, 16, 8, 16, 1, False), (4, 16, 8, 16, 2, True)]
SIZES = {"cupy": GPU_SIZES, "numpy": CPU_SIZES}
DIAGONAL_SIZES = {  # (batch, steps, input features, hidden units)
    "cupy": [(32, 1024, 256, 1024), (32, 4096, 256, 1024), (8, 65536, 64, 512)],
    "numpy": [(4, 64, 8, 16)],
}


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


def lstm(report: Any, backend: str, *, seconds: float) -> None:
    """Time forward, for inference, and forward with backward, by each stage and by PyTorch in its precisions.

    PyTorch's float32 is without TF32. Sizes of which a stage has no layout are left out.
    """
    until = time.monotonic() + seconds
    found: list[dict[str, Any]] = []
    rows: list[tuple[Any, ...]] = []
    try:
        for size in SIZES[backend]:
            if time.monotonic() > until:
                rows.append((size, "no time left"))
                continue
            times = lstm_times(backend, size)
            found.append({"size": size, "microseconds a step": times})
            for mode in ("forward", "training"):
                own = {name: by[mode] for name, by in times.items() if not name.startswith("torch")}
                full = [name for name in own if "float" not in name]
                best = min(full, key=own.__getitem__, default="")
                theirs = {name: by[mode] for name, by in times.items() if name.startswith("torch")}
                ratio = f"{own[best] / theirs['torch float32']:.2f}" if best and "torch float32" in theirs else "-"
                rows.append((size, mode, shown(own), shown(theirs), best, ratio))
    finally:  # what there is
        report.add(
            "Microseconds a step; sizes are (B, T, I, H, layers, both directions). The ratio is that of float32."
        )
        report.table(("size", "mode", "recurray", "PyTorch", "best", "ratio"), rows)
        report.save("lstm.json", found)


def shown(times: dict[str, float]) -> str:
    return ", ".join(f"{name.removeprefix('torch ')} {1.0 * number:.1f}" for name, number in times.items())


def lstm_times(backend: str, size: tuple[Any, ...]) -> dict[str, dict[str, float]]:
    """The times of one size, by what was timed and the mode."""
    jobs: dict[str, list[Timed]] = {}
    ways = [("persistent", None), ("fused", None), ("persistent", "float16"), ("persistent", "bfloat16")]
    for stage, small in ways if backend == "cupy" else [(None, None)]:
        with warnings.catch_warnings(action="error", category=UserWarning), contextlib.suppress(UserWarning):
            name = " ".join(filter(None, (stage or "recurray", small)))
            jobs[name] = own_lstm(backend, stage, small, *size)
    with contextlib.suppress(ImportError):
        for dtype in ("float32", "float16", "bfloat16") if backend == "cupy" else ("float32",):
            jobs[f"torch {dtype}"] = torch_lstm("cuda" if backend == "cupy" else "cpu", dtype, *size)
    repeats = 5 if backend == "cupy" else 3
    return {
        name: {
            mode: 1e6 * seconds_of(*timed, repeats) / size[1]
            for mode, timed in zip(("forward", "training"), job, strict=True)
        }
        for name, job in jobs.items()
    }


Timed = tuple[Callable[[], Any], Callable[[], None]]


def own_lstm(
    backend: str,
    stage: str | None,
    small: str | None,
    batch: int,
    steps: int,
    features: int,
    units: int,
    layers: int,
    both: bool,
) -> list[Timed]:
    """What is to be timed of recurray's LSTM: forward, and training."""
    import numpy as np

    import recurray as rr

    be = rr.get_backend(backend, stage=stage, compute_dtype=small)
    lstm = rr.LSTM(features, units, layers, bidirectional=both, batch_first=False, backend=be, seed=0)
    x = be.asarray(np.random.default_rng(0).standard_normal((steps, batch, features)), "float32")
    y, _, cache = lstm.forward(x)
    lstm.backward(cache, y)  # what can't run says so here
    dy = be.asarray(np.random.default_rng(1).standard_normal(y.shape), "float32")
    return [
        (lambda: lstm(x), be.synchronize),
        (lambda: lstm.backward(lstm.forward(x)[2], dy), be.synchronize),
    ]


def torch_lstm(
    device: str, dtype: str, batch: int, steps: int, features: int, units: int, layers: int, both: bool
) -> list[Timed]:
    """What is to be timed of PyTorch's."""
    import torch

    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    options: dict[str, Any] = {"device": device, "dtype": getattr(torch, dtype)}
    lstm = torch.nn.LSTM(features, units, layers, bidirectional=both, **options)
    x = torch.randn(steps, batch, features, requires_grad=True, **options)
    dy = torch.randn(steps, batch, units * (2 if both else 1), **options)

    def forward() -> None:
        with torch.inference_mode():
            lstm(x)

    def training() -> None:
        torch.autograd.grad(lstm(x)[0], [x, *lstm.parameters()], dy)

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    return [(forward, wait), (training, wait)]


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
    import numpy as np

    import recurray as rr

    rows: list[tuple[Any, ...]] = []
    for batch, steps, features, units in DIAGONAL_SIZES[backend]:
        size = batch, steps, features, units
        if report.left() < 60:
            rows.append((size, "no time left", "", ""))
            continue
        layer = rr.DiagonalLSTM(features, units, backend=backend, seed=0, batch_first=False)
        be = layer.backend
        x = be.asarray(np.random.default_rng(0).standard_normal((steps, batch, features), dtype="float32"), "float32")
        dy = be.asarray(np.ones((steps, batch, units), "float32"), "float32")

        def train(layer: Any = layer, x: Any = x, dy: Any = dy) -> None:
            layer.backward(layer.forward(x)[2], dy)

        forward = seconds_of(lambda layer=layer, x=x: layer(x), be.synchronize, 3)
        training = seconds_of(train, be.synchronize, 3)
        moved = 4 * batch * steps * (features + 3 * units)  # the product is written and read
        rows.append((size, f"{1e3 * forward:.2f}", f"{1e3 * training:.2f}", f"{moved / forward / 1e9:.0f}"))
    report.table(("(B, T, I, H)", "forward, ms", "training, ms", "forward, GB/s"), rows)
