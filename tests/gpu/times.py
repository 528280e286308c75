"""What `gpu_check` times. It has not been run on a GPU yet; on an emulated one times mean nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from statistics import median
from typing import Any

import numpy as np

import recurray as rr
from gpu.report import Report
from gpu.verdict import Timed
from recurray.benchmarks.contenders import Contender, Own, PyTorch
from recurray.benchmarks.measure import TOLERANCE, deviations
from recurray.benchmarks.problems import GPU_DIAGONAL, MODES, Problem, make_data
from recurray.benchmarks.timing import Budget, interleaved

STRATEGIES = ("persistent", "step", "fused")
RULED = ("auto", "default")  # which leave it to the rule
PRECISIONS = ("float32", "bfloat16", "float16")
BUDGET = Budget(repeats=3, seconds=1.0, pause=0.01)

# Rows and units, the most telling first; the third is what others have published.
SIZES = [(64, 512), (1, 512), (16, 768), (64, 1024), (1, 1024), (64, 128), (1, 128), (1, 2048), (64, 2048)]
SIZES += [(16, 256), (256, 512), (256, 1024), (256, 2048)]
LAYER = [Problem(batch, 512, units, units) for batch, units in SIZES]
STACKS = [
    Problem(batch, 512, units, units, **more)
    for batch, units in ((64, 512), (1, 512), (16, 256), (1, 128))
    for more in ({"layers": 4}, {"bidirectional": True})
]
SMALL = Problem(2, 6, 8, 16)


class OnGpu(Own):
    """recurray on the GPU, where the number of the host's threads doesn't matter."""

    def threads(self, count: int) -> AbstractContextManager[Any]:
        return nullcontext()


def layers(report: Report) -> None:
    """Time a layer by each strategy, and cuDNN's, forward and in training."""
    problems = [SMALL] if report.small else LAYER
    chosen = {name: {"strategy": name} for name in (*RULED, *STRATEGIES)}
    _table(report, "layers.json", problems, PRECISIONS, chosen)


def stacks(report: Report) -> None:
    """Time several layers, and both directions."""
    problems = [replace(SMALL, layers=3), replace(SMALL, bidirectional=True)] if report.small else STACKS
    chosen = {name: {"strategy": name} for name in (*RULED, "fused")}
    _table(report, "stacks.json", problems, PRECISIONS[:2], chosen)


def _table(
    report: Report,
    name: str,
    problems: list[Problem],
    precisions: tuple[str, ...],
    chosen: dict[str, dict[str, Any]],
) -> None:
    """Time contenders and write a table, row by row, and the same as JSON."""
    cudnn, why_not = _cudnn()
    if why_not:
        report.add(f"No times of cuDNN: {why_not}.")
    report.add("Microseconds of a step (a call's time by its number of steps; medians). Training is both ways.")
    done: list[Timed] = []

    def rows() -> Iterator[tuple[Any, ...]]:
        for problem in problems:
            for dtype in precisions:
                for mode in MODES:
                    if report.left() < (5 if report.small else 60):
                        yield problem.name, dtype, mode, "no time left", *("" for _ in range(len(heads) - 4))
                        continue
                    timed = _timed(replace(problem, dtype=dtype), mode, chosen, cudnn)
                    done.append(timed)
                    report.save(name, [asdict(each) for each in done])
                    yield timed.row((*chosen, "cuDNN"))

    heads = Timed.head((*chosen, "cuDNN"))
    report.table(heads, rows())
    wrong = [f"{each.size} {each.dtype} {each.mode}: {each.wrong}" for each in done if each.wrong]
    if wrong:
        raise AssertionError(f"numbers differ from the strategy fused: {'; '.join(wrong)}")


def _cudnn() -> tuple[PyTorch | None, str]:
    """cuDNN through PyTorch, or None and why not."""
    try:
        found = PyTorch("cuda")
        why_not = found.unavailable()
    except Exception as error:  # PyTorch missing, or broken: what is ours is timed in any case
        return None, f"{type(error).__name__}: {error}"
    return (None, why_not) if why_not else (found, "")


def _timed(problem: Problem, mode: str, chosen: dict[str, dict[str, Any]], cudnn: PyTorch | None) -> Timed:
    """Compare the contenders' numbers, and time them in turns."""
    backends = {name: rr.get_backend("cupy", compute_dtype=problem.compute_dtype, **of) for name, of in chosen.items()}
    plain = replace(problem, dtype=problem.array_dtype)  # the backends round
    contenders: dict[str, tuple[Contender, Problem]] = {}
    for name, backend in backends.items():
        contenders[name] = OnGpu(backend, name), plain
    if cudnn is not None:
        contenders["cuDNN"] = cudnn, problem
    data, failed, wrong, jobs = make_data(problem), {}, {}, {}
    expected: dict[str, Any] = {}
    with cudnn.threads(1) if cudnn is not None else nullcontext():
        for name in ("fused", *(name for name in contenders if name != "fused")):
            contender, own = contenders[name]
            try:
                job = contender.prepare(own, mode, data, 1)
                with job.around():
                    numbers = job.numbers(job.call())
            except (MemoryError, RuntimeError) as error:  # PyTorch's of a GPU without memory left is one of these
                failed[name] = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
                continue
            expected = expected or numbers
            worst = float(np.max(list(deviations(numbers, expected).values())))
            if not worst <= TOLERANCE[problem.dtype]:
                wrong[name] = worst
            else:
                jobs[name] = job
        times = interleaved(jobs, BUDGET)
    ruled = [
        backends[name].strategy_of(rr.cells.LSTMCell(), problem.batch, problem.hidden)  # type: ignore[attr-defined]
        for name in RULED
    ]
    microseconds = {name: 1e6 * median(each) / problem.steps for name, each in times.items()}
    facts: dict[str, Any] = {"layers": problem.layers, "directions": problem.directions, "batch": problem.batch}
    facts |= {"units": problem.hidden, "default": ruled[1]}
    return Timed(plain.name, problem.dtype, mode, ruled[0], microseconds, wrong, failed, **facts)


def parts(report: Report) -> None:
    """Time what a step forward is made of, each part alone: by the host's clock, and until the GPU has done it."""
    import cupy as cp

    from recurray.cells import LSTMCell
    from recurray_cupy.compiled import compiled
    from recurray_cupy.launcher import Launcher
    from recurray_cupy.library import Library
    from recurray_cupy.products import Products

    (kernel,) = compiled(LSTMCell()).forward(keep=True, projected=False).kernels
    library = Library()

    def rows() -> Iterator[tuple[Any, ...]]:
        for batch, units in ((2, 16),) if report.small else ((1, 512), (64, 512), (64, 2048)):
            gates = (batch, 4 * units)
            shapes = {"x_gates": gates, "h_gates": gates, "x_bias": gates[1:], "h_bias": gates[1:]}
            shapes |= {"state_h": (2, batch, units), "state_c": (2, batch, units), "saved": (5, batch, units)}
            arrays = {name: cp.zeros(shape, dtype="float32") for name, shape in shapes.items()}
            nothing = {"lengths": None, "mask": None, "h_masked": None}
            options: dict[str, Any] = {"dtype": "float32", "batch": batch, "units": units, "reverse": False}
            launch = Launcher(library, kernel, arrays | nothing, **options)
            states, out, weight = arrays["state_h"], arrays["h_gates"], cp.zeros((4 * units, units), "float32")
            products = {}
            for small in ("", "float16", "bfloat16"):
                one = Products(library, small)
                products[small] = one.each_step(states, one.operand(weight), out, transposed="b")
            for name, part in {
                "kernel": lambda launch=launch: launch(0),
                "product": lambda multiply=products[""]: multiply(0, 0),
                "product, rounded to float16": lambda multiply=products["float16"]: multiply(0, 0),
                "product, rounded to bfloat16": lambda multiply=products["bfloat16"]: multiply(0, 0),
            }.items():
                times = microseconds(cp, part, 3 if report.small else 500)
                yield f"B {batch}, H {units}", name, *(f"{number:.2f}" for number in times)

    report.table(("size", "part", "host, us", "host and GPU, us"), rows())


def microseconds(cp: Any, call: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """How long a call, one of many in a row, takes the host alone, and host and GPU together."""
    for _ in range(min(10, repeats)):
        call()
    cp.cuda.Device().synchronize()
    began = time.perf_counter()
    for _ in range(repeats):
        call()
    host = time.perf_counter() - began
    cp.cuda.Device().synchronize()
    return 1e6 * host / repeats, 1e6 * (time.perf_counter() - began) / repeats


def diagonal(report: Report) -> None:
    """Time the diagonal LSTM. The least that forward has to move is x, the product, and the output."""
    own = OnGpu(rr.get_backend("cupy"))

    def rows() -> Iterator[tuple[Any, ...]]:
        for problem in (Problem(4, 64, 8, 16, layer="diagonal"),) if report.small else GPU_DIAGONAL:
            if report.left() < 60 and not report.small:
                yield problem.name, "no time left", "", ""
                continue
            data, seconds = make_data(problem), {}
            for mode in MODES:
                job = own.prepare(problem, mode, data, 1)
                seconds[mode] = seconds_of(job.call, job.synchronize, 3)
            # The product is written and read.
            moved = 4 * problem.batch * problem.steps * (problem.inputs + 3 * problem.hidden)
            times = [f"{1e3 * seconds[mode]:.2f}" for mode in MODES]
            yield problem.name, *times, f"{moved / seconds['forward'] / 1e9:.0f}"

    report.table(("B x T x I x H", "forward, ms", "training, ms", "forward, GB/s"), rows())


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
