"""What `recurray.fit` costs beside the forward, backward and optimizer's step that it runs.

The bare loop takes prepared batches one after the other, without checks, history or clipping; `fit` draws an order of
the rows, gathers each batch of them, and looks whether the loss and the gradients are finite.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

import recurray as rr
from recurray.benchmarks.contenders import Own
from recurray.benchmarks.contenders.base import Job
from recurray.benchmarks.problems import Problem
from recurray.benchmarks.results import Case
from recurray.benchmarks.timing import Budget, interleaved

SIZES = ("32,24,8,32", "32,100,128,256")
BATCHES = 50  # of an epoch
NOTES = f"A step is an update: the medians of epochs of {BATCHES} batches, one by fit and one by the bare loop.\n"


@dataclass(frozen=True)
class Measured:
    """Seconds of an update in each turn."""

    case: Case
    bare: Sequence[float]
    fit: Sequence[float]


def measure(case: Case, own: Own, budget: Budget) -> Measured:
    """Time both loops on a model of a problem's size."""
    problem, backend = case.problem, own.backend
    rng = np.random.default_rng(0)
    rows = problem.batch * BATCHES
    x = rng.standard_normal((rows, problem.steps, problem.inputs)).astype("float32")
    target = rng.standard_normal((rows, problem.steps, 1)).astype("float32")
    batches = [
        (backend.asarray(x[i : i + problem.batch]), backend.asarray(target[i : i + problem.batch]))
        for i in range(0, rows, problem.batch)
    ]
    bare_model, fit_model = model(problem, backend), model(problem, backend)
    bare_optimizer, fit_optimizer = (rr.optim.Adam(model.params) for model in (bare_model, fit_model))

    def bare() -> None:
        for inputs, wanted in batches:
            y, _, cache = bare_model.forward(inputs)
            _, dy = rr.losses.mse(y, wanted)
            bare_optimizer.step(bare_model.backward(cache, dy)[2])

    def fitted() -> None:
        rr.fit(fit_model, rr.losses.mse, fit_optimizer, (x, target), epochs=1, batch_size=problem.batch, progress=False)

    jobs = {name: Job(call, dict, synchronize=backend.synchronize) for name, call in (("bare", bare), ("fit", fitted))}
    with own.threads(case.threads):
        times = interleaved(jobs, budget)
    return Measured(case, *([seconds / BATCHES for seconds in times[name]] for name in ("bare", "fit")))


def table(results: Sequence[Measured]) -> str:
    """The results as a table in Markdown."""
    lines = ["| size | bare loop, us a step | fit, us a step | more, us | fit / bare |", "|---|---:|---:|---:|---:|"]
    for result in results:
        ratio = statistics.median(fit / bare for fit, bare in zip(result.fit, result.bare, strict=True))
        bare, fit = (1e6 * statistics.median(times) for times in (result.bare, result.fit))
        more = 1e6 * statistics.median(fit - bare for fit, bare in zip(result.fit, result.bare, strict=True))
        lines.append(f"| {result.case.problem.name} | {bare:,.0f} | {fit:,.0f} | {more:,.0f} | {ratio:.3f} |")
    return "\n".join(lines) + "\n"


def model(problem: Problem, backend: rr.Backend) -> rr.Sequential:
    """An LSTM of a problem's size with a Linear on top."""
    return rr.Sequential(
        rr.LSTM(problem.inputs, problem.hidden, backend=backend, seed=0),
        rr.Linear(problem.hidden, 1, backend=backend, seed=1),
    )
