"""Geometric means over the sizes of a report: the figures that stand for all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from recurray.benchmarks.problems import Problem
from recurray.benchmarks.results import OWN, Report, Result
from recurray.benchmarks.tables import NONE, aligned
from recurray.benchmarks.timing import Spread, geometric_mean


def groups(problem: Problem) -> tuple[str, ...]:
    """Return the groups of like problems that a problem counts in.

    Ragged rows, rows with gaps and a state carried from call to call stand for themselves: they are other work of a
    size that is there already.

    Examples
    --------
    >>> from recurray.benchmarks.problems import Problem
    >>> from recurray.benchmarks.summary import groups
    >>> groups(Problem(32, 50, 128, 128))
    ('lstm', 'lstm, batches')
    >>> groups(Problem(1, 50, 128, 128, dtype="float64", layer="diagonal"))
    ('diagonal float64', 'diagonal float64, single rows')
    >>> groups(Problem(1, 1, 64, 128, carried=True)), groups(Problem(32, 50, 128, 128, ragged=True))
    ((), ())
    """
    if problem.carried or problem.ragged or problem.gaps:
        return ()
    kind = problem.layer if problem.dtype == "float32" else f"{problem.layer} {problem.dtype}"
    return kind, f"{kind}, {'single rows' if problem.batch == 1 else 'batches'}"


def summary_table(report: Report) -> str:
    """Return the table of geometric means, with the worst of each in brackets; empty where there is nothing to sum up.

    It has a line for each group of problems, mode and number of threads, if two sizes or more are in it and no line
    above is of the same sizes.
    """
    others = report.others
    lines: dict[tuple[str, str, int], list[Result]] = {}
    for result in report.results:
        for group in groups(result.case.problem):
            lines.setdefault((group, result.case.mode, result.case.threads), []).append(result)
    rows: list[list[str]] = []
    seen: list[list[Result]] = []
    for (group, mode, threads), results in sorted(lines.items()):
        if len(results) > 1 and results not in seen:
            seen.append(results)
            row = [group, mode, str(threads), str(len(results)), _mean(results, lambda result: result.share, min)]
            row += [_mean(results, lambda result, name=name: result.ratio(name), max) for name in others]
            rows.append(row)
    if not rows:
        return ""
    header = ["geometric mean", "mode", "threads", "sizes", "of matmul", *(f"{OWN} / {name}" for name in others)]
    return aligned(header, rows, left=2)


def _mean(
    results: Sequence[Result], get: Callable[..., Spread | None], worst: Callable[[Sequence[float]], float]
) -> str:
    values = [value.median for value in map(get, results) if value is not None]
    return f"{geometric_mean(values):.2f} (worst {worst(values):.2f})" if values else NONE
