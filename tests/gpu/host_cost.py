"""What a step and a call cost the host by each strategy: ``python tests/gpu/host_cost.py`` prints a table.

A GPU is asked for its work and not waited for. On an emulated device the work itself would take the time, so there the
script starts anew with functions of the driver that do nothing in place of those that launch and copy, compiled by gcc:
what is timed is Python and CuPy's own code, and on a GPU the driver's time comes on top of it.

A call of few steps is taken from one of many; the rest is what the call costs besides its steps.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # a checkout that needn't be installed
    ROOT = Path(__file__).resolve().parents[2]
    sys.path[:0] = [str(ROOT / folder) for folder in ("src", "backends", "tests")]

NOTHING = (
    "int cuLaunchKernel() { return 0; }\n"
    "int cuLaunchCooperativeKernel() { return 0; }\n"
    "int cudaGraphLaunch() { return 0; }\n"
    "int cudaMemcpyAsync() { return 0; }\n"
    "int cudaMemsetAsync() { return 0; }\n"
    "int cublasGemmEx() { return 0; }\n"
)
FEW, MANY = 8, 520
STRATEGIES = ("step", "step, no graph", "fused", "persistent")


def table(repeats: int = 40) -> Iterator[tuple[str, ...]]:
    """The rows of the table."""
    import numpy as np

    import recurray as rr
    from recurray_cupy import CupyBackend
    from recurray_cupy.graphs import graphs_of

    for dtype in (None, "bfloat16"):
        for name in STRATEGIES:
            strategy = name.partition(",")[0]
            backend = CupyBackend(strategy=strategy, compute_dtype=dtype)
            if name != strategy:
                graphs_of(backend.library).run_graphs = False
            layer = rr.LSTM(8, 16, backend=backend, seed=0)
            costs = []
            for way in ("forward", "training", "backward"):
                times = {}
                for steps in (FEW, MANY):
                    x = backend.asarray(np.ones((1, steps, 8)), "float32")
                    times[steps] = of_a_call(layer, x, way, repeats)
                step = (times[MANY] - times[FEW]) / (MANY - FEW)
                costs += [f"{max(0.0, 1e6 * step):.2f}", f"{1e6 * (times[FEW] - FEW * step):.0f}"]
            yield name, dtype or "float32", *costs


def of_a_call(layer: Any, x: Any, way: str, repeats: int) -> float:
    """The least of the seconds that a call takes a thread of the host, which has other work."""
    y, _, cache = layer.forward(x)
    calls: dict[str, Callable[[], Any]] = {
        "forward": lambda: layer(x),
        "training": lambda: layer.forward(x),
        "backward": lambda: layer.backward(cache, y),
    }
    times = []
    for _ in range(repeats):
        layer.backend.synchronize()
        began = time.thread_time()
        calls[way]()
        times.append(time.thread_time() - began)
    return min(times)


def yardstick() -> float:
    """The least of the microseconds that NumPy takes for a sum of two numbers, by which to compare machines."""
    import numpy as np

    times = []
    for _ in range(2000):
        began = time.thread_time()
        np.add(1.0, 2.0)
        times.append(time.thread_time() - began)
    return 1e6 * min(times)


def launch_nothing(library: str) -> None:
    """Let CuPy, which asks the driver's library itself for its functions, find these in another one."""
    own = ctypes.CDLL(library)

    class Library(ctypes.CDLL):
        def __getattr__(self, name: str) -> Any:
            return getattr(own, name) if name.startswith("cuLaunch") else super().__getattr__(name)

    ctypes.CDLL = Library  # type: ignore[misc]


def main() -> None:
    """Print the table, on an emulated device with a driver that does nothing."""
    if "DRIVER_DOES_NOTHING" not in os.environ and "CUDA_ON_CPU" in "".join(os.environ):
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder) / "nothing.so"
            subprocess.run(["gcc", "-shared", "-fPIC", "-xc", "-", "-o", library], input=NOTHING, text=True, check=True)
            environment = os.environ | {"LD_PRELOAD": str(library), "DRIVER_DOES_NOTHING": str(library)}
            subprocess.run([sys.executable, __file__], env=environment, check=True)
        return
    if "DRIVER_DOES_NOTHING" in os.environ:
        launch_nothing(os.environ["DRIVER_DOES_NOTHING"])
    print(f"NumPy's sum of two numbers: {yardstick():.2f} us\n")
    print("| strategy | operands | forward, us a step | a call | training | a call | backward | a call |")
    print("|:---|:---|:---|:---|:---|:---|:---|:---|")
    for row in table():
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
