"""Measuring one case: the contenders' numbers are compared first, and only those that agree are timed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from recurray.benchmarks.contenders import Contender, Job, Own, product
from recurray.benchmarks.problems import make_data
from recurray.benchmarks.results import OWN, PRODUCT, WITHOUT_GAPS, Case, Result
from recurray.benchmarks.timing import Budget, interleaved

# The largest difference allowed, relative to the largest number of the array: sums over thousands of steps and rows
# differ by far less, a fault in the mathematics by far more.
# In half precision PyTorch rounds the states and all gradients too.
TOLERANCE = {"float32": 1e-4, "float64": 1e-10, "float16": 0.05, "bfloat16": 0.1}


def measure(case: Case, own: Own, others: Sequence[Contender], budget: Budget) -> Result:
    """Compare and time the contenders on one case."""
    problem, mode, threads = case.problem, case.mode, case.threads
    data = make_data(problem)
    left_out, differs, deviation = {}, {}, {}
    with ExitStack() as stack:
        for contender in (own, *others):
            stack.enter_context(contender.threads(threads))
        jobs = {OWN: own.prepare(problem, mode, data, threads)}
        expected = _numbers(jobs[OWN])
        for contender in others:
            reason = contender.refuses(problem, mode)
            if reason is not None:
                left_out[contender.name] = reason
                continue
            try:
                job = contender.prepare(problem, mode, data, threads)
                found = deviations(_numbers(job), expected)
            except (MemoryError, RuntimeError) as error:  # PyTorch's of a GPU without memory left is one of these
                left_out[contender.name] = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
                continue
            worst = max(found, key=lambda name: found[name])
            if found[worst] > TOLERANCE[problem.dtype]:
                differs[contender.name] = f"{worst} by {found[worst]:.2g} of its largest number"
                continue
            deviation[contender.name] = found[worst]
            jobs[contender.name] = job
        if problem.gaps:
            whole = problem.without_gaps()
            jobs[WITHOUT_GAPS] = own.prepare(whole, mode, make_data(whole), threads)
        if problem.compute_dtype is None:
            jobs[PRODUCT] = product(own.backend, problem.dtype)
        times = interleaved(jobs, budget)
    return Result(case, times, left_out, differs, deviation)


def deviations(numbers: Mapping[str, Any], expected: Mapping[str, Any]) -> dict[str, float]:
    """Return the largest difference in each array, relative to the largest number expected in it.

    An array that is missing on either side, has another shape or dtype, or holds NaN differs infinitely.

    Examples
    --------
    >>> import numpy as np
    >>> from recurray.benchmarks.measure import deviations
    >>> deviations({"y": np.array([1.0, 4.0])}, {"y": np.array([2.0, 4.0])})
    {'y': 0.25}
    """
    return {name: _deviation(numbers.get(name), expected.get(name)) for name in {**expected, **numbers}}


def _deviation(value: Any, expected: Any) -> float:
    if value is None or expected is None or value.shape != expected.shape or value.dtype != expected.dtype:
        return float("inf")
    if not value.size:
        return 0.0
    scale = max(float(np.max(np.abs(expected))), float(np.finfo(expected.dtype).tiny))
    difference = float(np.max(np.abs(value - expected))) / scale
    return float("inf") if np.isnan(difference) else difference


def _numbers(job: Job) -> dict[str, Any]:
    with job.around():
        return job.numbers(job.call())
