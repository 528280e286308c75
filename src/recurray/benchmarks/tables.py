"""The results as aligned plain text that is Markdown too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recurray.benchmarks.contenders.product import FLOPS, SIZE
from recurray.benchmarks.results import OWN, PRODUCT, Report, Result
from recurray.benchmarks.timing import Spread, spread

NONE = "-"


def seconds(value: float) -> str:
    """Return a time with its unit.

    Examples
    --------
    >>> from recurray.benchmarks.tables import seconds
    >>> [seconds(value) for value in (8.94e-6, 0.0123, 0.25, 1.5)]
    ['8.94 us', '12.3 ms', '250 ms', '1.50 s']
    """
    value, unit = (value * 1e6, "us") if value < 1e-3 else (value * 1e3, "ms") if value < 1 else (value, "s")
    digits = f"{value:#.3g}".rstrip(".") if value < 1000 else f"{value:.0f}"
    return f"{digits} {unit}"


def ratio(value: Spread) -> str:
    """Return a ratio and, in brackets, its quartiles.

    Examples
    --------
    >>> from recurray.benchmarks.tables import ratio
    >>> from recurray.benchmarks.timing import Spread
    >>> ratio(Spread(0.98, 1.0, 1.024))
    '1.00 (0.98 to 1.02)'
    """
    return f"{value.median:.2f} ({value.low:.2f} to {value.high:.2f})"


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Return a table whose first ``left`` columns are aligned to the left and the others to the right.

    Examples
    --------
    >>> from recurray.benchmarks.tables import aligned
    >>> print(aligned(["size", "time"], [["a", "10 us"], ["bcd", "9 us"]]), end="")
    | size |  time |
    |:-----|------:|
    | a    | 10 us |
    | bcd  |  9 us |
    """
    widths = [max(len(row[place]) for row in (header, *rows)) for place in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |\n"

    rule = [f":{'-' * (width + 1)}" if place < left else f"{'-' * (width + 1)}:" for place, width in enumerate(widths)]
    return line(header) + f"|{'|'.join(rule)}|\n" + "".join(line(row) for row in rows)


def heading(report: Report) -> str:
    """Return what was measured on and with, one fact a line."""
    return "".join(f"- {name}: {value}\n" for name, value in report.facts.items())


def results_table(report: Report) -> str:
    """Return the table of all results."""
    others = report.others
    header = ["B x T x I x H", "mode", "threads", OWN, "of matmul"]
    for name in others:
        header += [name, f"{OWN} / {name}"]
    rows = [_row(result, others) for result in report.results]
    return aligned(header, rows, left=2)


def _row(result: Result, others: Sequence[str]) -> list[str]:
    own = result.time(OWN)
    share = result.share
    row = [result.case.problem.name, result.case.mode, str(result.case.threads)]
    row += [NONE if own is None else seconds(own.median), NONE if share is None else f"{share.median:.2f}"]
    for name in others:
        time, against = result.time(name), result.ratio(name)
        if name in result.differs:
            row += ["differs", NONE]
        else:
            row += [NONE if time is None else seconds(time.median), NONE if against is None else ratio(against)]
    return row


def notes(report: Report) -> str:
    """Return what to know beside the table: how to read it, the product's rate, what wasn't timed and why."""
    lines = []
    if report.others:
        lines.append(
            "Medians; in brackets the quartiles of ratios taken turn by turn. A ratio below 1: recurray is faster."
        )
    rates: dict[tuple[str, int], list[float]] = {}
    for result in report.results:
        key = (result.case.problem.dtype, result.case.threads)
        rates.setdefault(key, []).extend(result.times.get(PRODUCT, []))
    for (dtype, threads), times in rates.items():
        if times:
            rate = FLOPS / spread(times).median / 1e9
            lines.append(f"matmul of {SIZE} x {SIZE} {dtype}, threads {threads}: {rate:.0f} GFLOP/s")
    for what, says in (("left_out", "not timed"), ("differs", "not timed, its numbers differ")):
        lines += _reasons(report, what, says)
    return "".join(f"- {line}\n" for line in lines)


def _reasons(report: Report, what: str, says: str) -> list[str]:
    """One line for each contender and reason, with the cases it holds for counted."""
    found: dict[tuple[str, str], list[Any]] = {}
    for result in report.results:
        for name, reason in getattr(result, what).items():
            found.setdefault((name, reason), []).append(result.case)
    return [
        f"{name}: {says}: {reason} ({cases[0] if len(cases) == 1 else f'{len(cases)} cases'})"
        for (name, reason), cases in found.items()
    ]
