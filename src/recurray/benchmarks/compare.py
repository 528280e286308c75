"""Two reports side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from recurray.benchmarks.results import OWN, Case, Report, Result
from recurray.benchmarks.tables import aligned, ratio, seconds
from recurray.benchmarks.timing import Spread, geometric_mean

_SAME = ("CPU", "cores", "BLAS", "NumPy", "backend", "clock")  # facts that times are comparable only under


def verdict(old: Spread, new: Spread) -> str:
    """Return "faster" or "slower" where the quartiles don't overlap, else nothing.

    Examples
    --------
    >>> from recurray.benchmarks.compare import verdict
    >>> from recurray.benchmarks.timing import Spread
    >>> verdict(Spread(0.9, 1.0, 1.1), Spread(0.7, 0.8, 0.85))
    'faster'
    >>> verdict(Spread(0.9, 1.0, 1.1), Spread(1.0, 1.1, 1.2))
    ''
    """
    if new.high < old.low:
        return "faster"
    return "slower" if new.low > old.high else ""


def comparison_table(old: Report, new: Report) -> str:
    """Return a table of recurray's times and ratios in both reports, for the cases and contenders that both have."""
    before = {result.case: result for result in old.results}
    rows: list[list[str]] = []
    quotients: dict[str, list[float]] = {}
    for result in new.results:
        if result.case not in before:
            continue
        for measure, was, now, text in _pairs(before[result.case], result):
            quotient = now.median / was.median
            quotients.setdefault(measure, []).append(quotient)
            rows.append([*_words(result.case), measure, text(was), text(now), f"{quotient:.2f}", verdict(was, now)])
    if not rows:
        return "The two reports have no case in common.\n"
    for measure, values in quotients.items():
        if len(values) > 1:
            rows.append(["geometric mean", "", "", measure, "", "", f"{geometric_mean(values):.2f}", ""])
    header = ["B x T x I x H", "mode", "threads", "measure", "old", "new", "new / old", "change"]
    return aligned(header, rows, left=2)


def differences(old: Report, new: Report) -> list[str]:
    """Return in what the machines or libraries differ so that times can't be compared, one line each."""
    return [
        f"{name} was {old.facts.get(name, 'unknown')}, now {new.facts.get(name, 'unknown')}: times don't compare"
        for name in _SAME
        if old.facts.get(name) != new.facts.get(name)
    ]


def _pairs(old: Result, new: Result) -> Iterator[tuple[str, Spread, Spread, Callable[[Spread], str]]]:
    """What both results have: the measure's name, its old and its new value, and how to write them."""
    was, now = old.time(OWN), new.time(OWN)
    if was is not None and now is not None:
        yield "time", was, now, lambda value: seconds(value.median)
    for name in new.times:
        was, now = old.ratio(name), new.ratio(name)
        if name in old.times and was is not None and now is not None and name != OWN:
            yield f"/ {name}", was, now, ratio


def _words(case: Case) -> list[str]:
    return [case.problem.name, case.mode, str(case.threads)]
