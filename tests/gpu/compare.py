"""The comparisons of `gpu_check`: each strategy with the one before, options with none, every layer with NumPy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np

import recurray as rr
from gpu.report import Report
from harness.cells import CELLS, GRUCell, LSTMCell

ALLOWED = {"float32": 1e-3, "float64": 1e-10}  # relative to the largest element
STRATEGIES = ("persistent", "step", "fused", "reference")
SIZES = [(3, 301), (1, 128), (64, 128), (16, 256), (1, 512), (64, 512), (256, 512)]  # rows and units
SIZES += [(1, 1024), (64, 1024), (256, 1024), (1, 2048), (64, 2048)]
SMALL = [(3, 37), (2, 64), (5, 20)]


def compare_strategies(report: Report) -> None:
    """Compare the LSTM and the GRU by each strategy with the next slower one, over 200 steps."""
    wrong: list[str] = []

    def rows() -> Iterator[tuple[Any, ...]]:
        sizes = SMALL if report.small else SIZES
        for cell, own in ((LSTMCell(), sizes), (GRUCell(), sizes[:6:2])):
            for batch, units in own:
                found = [
                    of_strategy(report, cell, batch, units, strategy=strategy) for strategy in reversed(STRATEGIES)
                ]
                errors = [furthest(slower, faster) for slower, faster in pairwise(found)]
                bad = [error for error in errors if not error <= ALLOWED["float32"]]
                wrong.extend([f"{cell} {batch} x {units}"] * bool(bad))
                yield cell, batch, units, *(f"{error:.1e}" for error in errors), "WRONG" if bad else "ok"

    heads = [f"{faster} to {slower}" for slower, faster in pairwise(STRATEGIES[::-1])]
    report.table(("cell", "B", "H", *heads, ""), rows())
    if wrong:
        raise AssertionError(f"further from the strategy before than {ALLOWED['float32']}: {', '.join(wrong)}")


def compare_options(report: Report) -> None:
    """Compare what else there is to choose with the strategy fused in float32."""
    wrong: list[str] = []
    both, stack = {"bidirectional": True}, {"num_layers": 4}
    choices: list[tuple[dict[str, Any], dict[str, Any], float]] = [
        ({"strategy": strategy, "compute_dtype": small}, both, 3e-2)
        for small in ("float16", "bfloat16")
        for strategy in ("persistent", "step", "fused")
    ]
    choices += [({"strategy": strategy}, stack, 1e-3) for strategy in ("persistent", "step")]
    choices += [({"strategy": strategy}, both, 1e-3) for strategy in ("auto", "default")]

    def rows() -> Iterator[tuple[Any, ...]]:
        for batch, units in SMALL[:1] if report.small else SIZES[:6]:
            cell = LSTMCell()
            expected = [of_strategy(report, cell, batch, units, layer, strategy="fused") for layer in (both, stack)]
            for options, layer, allowed in choices:
                found = of_strategy(report, cell, batch, units, layer, **options)
                worst = furthest(expected[layer is stack], found)
                wrong.extend([] if worst <= allowed else [f"{options} {batch} x {units}"])
                yield batch, units, " ".join(map(str, options.values())), f"{worst:.1e}", allowed

    report.table(("B", "H", "options", "difference", "allowed"), rows())
    if wrong:
        raise AssertionError(f"further from the strategy fused than allowed: {', '.join(wrong)}")


def compare_choices(report: Report) -> None:
    """Say what the rule chooses, forward and backward, and compare its numbers with the strategy fused.

    By default no block may wait for another: that is asked of the kernels' launches themselves.
    """
    wrong: list[str] = []

    def rows() -> Iterator[tuple[Any, ...]]:
        for batch, units in [SMALL[0], (2, 300)] if report.small else SIZES[1:10:2]:
            for cell in (LSTMCell(), GRUCell()):
                expected = of_strategy(report, cell, batch, units, strategy="fused")
                for strategy in ("default", "auto"):
                    backend: Any = rr.get_backend("cupy", strategy=strategy)
                    ways = [backend.strategy_of(cell, batch, units, backward=back) for back in (False, True)]
                    launches = backend.library.bound
                    waited: list[str] = []

                    def watched(function: Any, *rest: Any, launches: Any = launches, waited: Any = waited) -> Any:
                        waited.extend([function.name] if function.cooperative else [])
                        return launches(function, *rest)

                    backend.library.bound = watched
                    try:
                        worst = furthest(expected, of_strategy(report, cell, batch, units, strategy=strategy))
                    finally:
                        del backend.library.bound
                    bad = not worst <= ALLOWED["float32"] or (strategy == "default" and waited)
                    wrong.extend([f"{strategy} {cell} {batch} x {units}: {waited}"] * bool(bad))
                    yield cell, batch, units, strategy, *ways, f"{worst:.1e}", "WRONG" if bad else "ok"

    report.table(("cell", "B", "H", "strategy", "forward", "backward", "difference to fused", ""), rows())
    if wrong:
        raise AssertionError(f"further from the strategy fused than {ALLOWED['float32']}, or waits: {', '.join(wrong)}")


def of_strategy(
    report: Report, cell: Any, batch: int, units: int, layer: dict[str, Any] | None = None, **options: Any
) -> list[Any]:
    """The output and all gradients of a layer by one strategy."""
    steps = 7 if report.small else 200
    be, rng = rr.get_backend("cupy", **options), np.random.default_rng(5)
    model = rr.Recurrent(cell, 16, units, backend=be, seed=0, **(layer or {}))
    x = be.asarray(rng.standard_normal((batch, steps, 16)), "float32")
    y, _, cache = model.forward(x)
    dx, _, grads = model.backward(cache, be.asarray(rng.standard_normal(y.shape), "float32"))
    return [be.to_numpy(a) for a in (y, dx, *grads.values())]


def furthest(right: list[Any], found: list[Any]) -> float:
    """The largest difference, relative to the largest number of its array; infinite where there is a NaN."""
    pairs = zip(right, found, strict=True)
    error = float(np.max([abs(a - b).max(initial=0) / max(1.0, abs(a).max(initial=0)) for a, b in pairs]))
    return error if error == error else float("inf")


def compare_layers(report: Report) -> None:
    """Compare layers of several blocks of threads, ragged and not, with the NumPy backend."""
    size = 20 if report.small else 200
    makers: dict[str, Callable[..., Any]] = {
        f"{cell}": lambda cell=cell, **options: rr.Recurrent(cell, 50, size, **options) for cell in CELLS
    }
    makers["LSTM, 2 layers, both directions"] = lambda **options: rr.LSTM(50, size, 2, bidirectional=True, **options)
    makers["LSTM, projected"] = lambda **options: rr.LSTM(50, size, proj_size=7, **options)
    wrong: list[str] = []

    def rows() -> Iterator[tuple[Any, ...]]:
        for name, make in list(makers.items())[:: 6 if report.small else 1]:
            errors = dict.fromkeys(ALLOWED, 0.0)
            for dtype in ALLOWED:
                for lengths in (None, [0, 20, 1, 17, 20, 19, 2]):
                    right, found = (results(make(backend=be, dtype=dtype, seed=0), lengths) for be in ("numpy", "cupy"))
                    errors[dtype] = max(errors[dtype], furthest(right, found))
            bad = [dtype for dtype, error in errors.items() if not error <= ALLOWED[dtype]]
            wrong.extend(f"{name} {dtype}" for dtype in bad)
            yield name, *(f"{error:.1e}" for error in errors.values()), "WRONG" if bad else "ok"

    report.table(("layer", *ALLOWED, ""), rows())
    if wrong:
        raise AssertionError(f"further from NumPy than {ALLOWED}: {', '.join(wrong)}")


def results(layer: Any, lengths: Any) -> list[Any]:
    """The output, the final state and all gradients, as NumPy arrays."""
    backend = layer.backend
    x, other = np.random.default_rng(2).standard_normal((7, 20, 50)), np.random.default_rng(3)
    y, state, cache = layer.forward(backend.asarray(x, layer.dtype), None, lengths, True, np.random.default_rng(4))
    dy = other.standard_normal(y.shape)
    dx, dstate, grads = layer.backward(cache, backend.asarray(dy, layer.dtype))
    arrays = [y, *state, dx, *dstate, *grads.values()]
    return [backend.to_numpy(a) for a in arrays if a is not None]
