"""Timing several jobs fairly in one process: whole blocks of calls, in turn, with a rest before each.

Thread pools keep spinning for a while after their last work and slow whatever runs next, so each block waits
until they sleep. And the machine's speed drifts, so jobs take turns and are compared within a turn.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from recurray.benchmarks.contenders.base import Job

_LEAST_TURNS = 3  # however long they take: fewer have no spread

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass(frozen=True)
class Budget:
    """How long to measure.

    Attributes
    ----------
    repeats : int
        How many turns each job has.
    seconds : float
        No turn begins later than this, after the first three.
    block : float
        Seconds of calls in a turn, at least one call.
    pause : float
        Seconds of rest before each block.
    clock : str
        "wall", or "cpu" for the process's own CPU time: on a busy machine, with one thread, the better measure.
    """

    repeats: int = 7
    seconds: float = 8.0
    block: float = 0.05
    pause: float = 0.08
    clock: str = "wall"


class Spread(NamedTuple):
    """A median and the quartiles around it."""

    low: float
    median: float
    high: float


def ratios(own: Sequence[float], others: Sequence[float]) -> Spread:
    """Return the spread of the times of one over those of another, turn by turn."""
    return spread([mine / other for mine, other in zip(own, others, strict=True)])


def spread(values: Sequence[float]) -> Spread:
    """Return the quartiles of at least one value.

    Examples
    --------
    >>> from recurray.benchmarks.timing import spread
    >>> spread([4.0, 1.0, 3.0, 2.0, 5.0])
    Spread(low=2.0, median=3.0, high=4.0)
    """
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    return Spread(*statistics.quantiles(values, n=4, method="inclusive"))


def geometric_mean(values: Sequence[float]) -> float:
    """Return the geometric mean, the right one for ratios.

    Examples
    --------
    >>> from recurray.benchmarks.timing import geometric_mean
    >>> round(geometric_mean([0.5, 2.0]), 12)
    1.0
    """
    return math.exp(statistics.fmean(math.log(value) for value in values))


def interleaved(jobs: Mapping[str, Job], budget: Budget) -> dict[str, list[float]]:
    """Time the jobs in turns.

    Returns
    -------
    dict of str to list of float
        For each job, the seconds of one call in each turn: equal places belong to one turn.
    """
    names = list(jobs)
    blocks = {name: _block(job, budget) for name, job in jobs.items()}
    times: dict[str, list[float]] = {name: [] for name in names}
    began = time.perf_counter()
    for turn in range(budget.repeats):
        if turn >= _LEAST_TURNS and time.perf_counter() - began > budget.seconds:
            break
        gc.collect()  # once a turn: with a large library loaded it takes as long as a block
        first = turn % len(names)  # nobody always follows the same one
        for name in names[first:] + names[:first]:
            times[name].append(_timed(jobs[name], blocks[name], budget))
    return times


class _Block(NamedTuple):
    calls: int
    warm: int  # calls before, not timed


def _block(job: Job, budget: Budget) -> _Block:
    """How many calls make a block."""
    time.sleep(budget.pause)
    calls = 1
    with job.around():
        while (seconds := _run(job, calls, budget)) < budget.block / 4:
            calls *= 2
    calls = max(1, round(budget.block * calls / seconds))
    return _Block(calls, max(1, calls // 4))


def _timed(job: Job, block: _Block, budget: Budget) -> float:
    """Seconds of one call in a block of them."""
    time.sleep(budget.pause)
    with job.around():
        _run(job, block.warm, budget)
        return _run(job, block.calls, budget) / block.calls


def _run(job: Job, calls: int, budget: Budget) -> float:
    """Seconds that ``calls`` calls take, with garbage collection held off."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        call, clock = job.call, CLOCKS[budget.clock]
        began = clock()
        for _ in range(calls):
            call()
        job.synchronize()
        return clock() - began
    finally:
        if collecting:
            gc.enable()
