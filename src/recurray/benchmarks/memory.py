"""The memory that training takes, beside the least that it needs, and the time: ``recurray bench memory``."""

from __future__ import annotations

import gc
import json
import math
import subprocess
import sys
import tracemalloc
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import recurray as rr
from recurray.benchmarks.contenders import Job, Own
from recurray.benchmarks.kinds import KINDS
from recurray.benchmarks.problems import Problem, make_data
from recurray.benchmarks.results import Case
from recurray.benchmarks.tables import NONE, aligned, ratio, seconds
from recurray.benchmarks.timing import Budget, Spread, interleaved, ratios, spread

# A large one, and another as its steps grow.
SIZES = ("64x1000x256x512", "4x1000x64x128", "4x10000x64x128", "4x100000x64x128")
_ITEM_BYTES = {"float32": 4, "float64": 8}

_CHILD = "import sys; from recurray.benchmarks import memory; print(memory.answer(sys.argv[1]))"

Recompute = str | int | None  # what layers take: "sqrt", a number of steps, or None where everything is kept


class Need(NamedTuple):
    """Bytes that training can't do without.

    Attributes
    ----------
    arrays : int
        The input, the output, their gradients, the params and theirs.
    kept : int
        What backward reads beside them: of every step the gates and the memory, and the outputs of lower layers.
    """

    arrays: int
    kept: int


def need(problem: Problem) -> Need:
    """Return the least that training needs where nothing is computed twice.

    Examples
    --------
    >>> from recurray.benchmarks.memory import need
    >>> from recurray.benchmarks.problems import Problem
    >>> steps = 3 * 5  # of all rows, with 2 inputs, 4 units, and so i, f, g, o and c; 4 bytes a number
    >>> need(Problem(3, 5, 2, 4)).kept == steps * 5 * 4 * 4
    True
    """
    padded = problem.batch * problem.steps
    rows = problem.valid()
    output = problem.directions * problem.hidden
    kept = rows * problem.layers * output * KINDS[problem.layer].kept + rows * (problem.layers - 1) * output
    params = sum(math.prod(param.shape) for param in layer(problem, None).params.values())
    arrays = 2 * padded * (problem.inputs + output) + 2 * params
    size = _ITEM_BYTES[problem.dtype]
    return Need(arrays * size, kept * size)


class Taken(NamedTuple):
    """Bytes of arrays that training took, what it was given among them.

    Attributes
    ----------
    peak : int
        The most at any time of a call, in the second call, which finds the work buffers of the first.
    between : int
        What stays allocated between calls, beside the params and what the caller holds.
    """

    peak: int
    between: int


def taken(problem: Problem, recompute: Recompute = None) -> Taken:
    """Measure what training takes, in this process, by what NumPy tells tracemalloc."""
    own = contender(recompute)
    # First a little, to load and compile what isn't to be counted.
    small = replace(problem, batch=min(problem.batch, 2), steps=2)
    contender(None).prepare(small, "training", make_data(small), 1).call()
    tracemalloc.start()
    try:
        job = own.prepare(problem, "training", make_data(problem), 1)
        gc.collect()
        held = tracemalloc.get_traced_memory()[0]
        job.call()
        gc.collect()
        tracemalloc.reset_peak()
        job.call()
        peak = tracemalloc.get_traced_memory()[1]
        gc.collect()
        return Taken(peak, tracemalloc.get_traced_memory()[0] - held)
    finally:
        tracemalloc.stop()


def layer(problem: Problem, recompute: Recompute) -> rr.Layer:
    """Make the layer alone, which checks what is asked for."""
    return problem.make_layer(_numpy(), **_options(recompute))


def _numpy() -> rr.Backend:
    """NumPy alone: a compiled engine's memory would not be seen."""
    return rr.get_backend("numpy", engine="numpy")


def _options(recompute: Recompute) -> dict[str, Any]:
    return {} if recompute is None else {"recompute": recompute}


def contender(recompute: Recompute) -> Own:
    """Return recurray on NumPy, with layers that keep as much as ``recompute`` says."""
    return Own(_numpy(), options=_options(recompute))


@dataclass(frozen=True)
class Measured:
    """What training took.

    Attributes
    ----------
    case : Case
    recompute : str, int or None
    times, plain : list of float
        Seconds of one call in each turn, and those where everything is kept; equal places belong to one turn.
    taken : Taken
    need : Need
    """

    case: Case
    recompute: Recompute
    times: Sequence[float]
    plain: Sequence[float]
    taken: Taken
    need: Need

    @property
    def ratio(self) -> Spread:
        """The time over that where everything is kept, turn by turn."""
        return ratios(self.times, self.plain)


def measure(case: Case, recomputes: Sequence[Recompute], budget: Budget) -> list[Measured]:
    """Measure one case, with everything kept and with each of ``recomputes``: time in turns, memory by itself."""
    variants = list(dict.fromkeys([None, *recomputes]))
    memory = {variant: _apart(case.problem, variant) for variant in variants}
    data = make_data(case.problem)
    owns = {variant: contender(variant) for variant in variants}
    jobs: dict[str, Job] = {str(v): own.prepare(case.problem, "training", data, 1) for v, own in owns.items()}
    with owns[None].threads(case.threads):
        times = interleaved(jobs, budget)
    least = need(case.problem)
    return [Measured(case, v, times[str(v)], times[str(None)], memory[v], least) for v in variants]


def _apart(problem: Problem, recompute: Recompute) -> Taken:
    """Measure in a process of its own, where no work buffers are left of others."""
    given = json.dumps([asdict(problem), recompute])
    done = subprocess.run(  # noqa: S603 - our own
        [sys.executable, "-c", _CHILD, given], capture_output=True, text=True, check=False
    )
    if done.returncode < 0 or "MemoryError" in done.stderr:  # the system ends processes that take more than it has
        raise MemoryError(f"the process that trained on {problem.name} was ended")
    if done.returncode:
        raise RuntimeError(f"training on {problem.name} failed:\n{done.stderr}")
    return Taken(*json.loads(done.stdout))


def answer(given: str) -> str:
    """Return, as JSON, what training takes on a problem and with a ``recompute`` that are given as JSON."""
    problem, recompute = json.loads(given)
    return json.dumps(taken(Problem(**problem), recompute))


def size(value: float) -> str:
    """Return a number of bytes with its unit.

    Examples
    --------
    >>> from recurray.benchmarks.memory import size
    >>> [size(value) for value in (0, 700, 12_345, 2.5e9)]
    ['0 MB', '0.0007 MB', '0.0123 MB', '2.5 GB']
    """
    value, unit = (value / 1e9, "GB") if value >= 1e9 else (value / 1e6, "MB")
    return f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"


def table(results: Sequence[Measured]) -> str:
    """Return the table of the results."""
    header = ["B x T x I x H", "recompute", "threads", "time", "/ none", "a step", "peak", "least", "peak / least"]
    header += ["work", "between calls"]
    rows: list[list[Any]] = []
    for result in results:
        median = spread(result.times).median
        least = sum(result.need)
        rows.append(
            [
                result.case.problem.name,
                "none" if result.recompute is None else str(result.recompute),
                str(result.case.threads),
                seconds(median),
                NONE if result.recompute is None else ratio(result.ratio),
                seconds(median / result.case.problem.steps),
                size(result.taken.peak),
                size(least),
                f"{result.taken.peak / least:.2f}",
                size(result.taken.peak - result.need.arrays),
                size(result.taken.between),
            ]
        )
    return aligned(header, rows, left=2)


NOTES = (
    "- Training: a forward pass and all gradients. Times are medians; in brackets quartiles of ratios taken in turns.\n"
    "- peak: of all arrays, the caller's x and dy among them, as NumPy reports them to tracemalloc.\n"
    "- least: x, y, the params, the gradients of all three, and what backward reads of every step: the gates and c.\n"
    "- work: the peak without x, y, the params and their gradients; what recomputing makes smaller.\n"
)
