"""What ``recurray bench`` measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

from recurray.plot.drawing import COLOURS, new_figure

TICKS = {0.9: (1, 1.5, 2, 3, 5, 7), 1.7: (1, 2, 5), 3.0: (1, 3), math.inf: (1,)}  # of a decade, by the decades shown


class Report(Protocol):
    """What is needed of a report: see `recurray.benchmarks.results`."""

    @property
    def results(self) -> Sequence[Any]:
        """What was measured of each problem, in each mode, with each number of threads."""

    @property
    def others(self) -> Sequence[str]:
        """The contenders beside recurray."""


def bench(report: Report) -> Any:
    """Draw recurray's time over each contender's, one panel for each mode and number of threads.

    Bars reach from 1, equal speed, to the median; the thin lines span the quartiles.

    Parameters
    ----------
    report : recurray.benchmarks.results.Report
        What a file that ``recurray bench --json`` wrote holds; `recurray.benchmarks.record.load` reads it.

    Returns
    -------
    matplotlib.figure.Figure
        Its ``savefig`` writes it to a file.

    Raises
    ------
    ImportError
        matplotlib isn't installed.
    ValueError, TypeError
        There is nothing to draw, or this is no report.

    Examples
    --------
    >>> import recurray as rr
    >>> from recurray.benchmarks import record
    >>> rr.plot.bench(record.load("layers.json")).savefig("layers.png")  # doctest: +SKIP
    """
    if not hasattr(report, "results") or not hasattr(report, "others"):
        raise TypeError(f"expected a report, as recurray.benchmarks.record.load returns, not {type(report).__name__}")
    if not report.results or not report.others:
        raise ValueError("there is nothing to draw: no results, or nobody to compare with")
    panels = list(dict.fromkeys((result.case.mode, result.case.threads) for result in report.results))
    names = list(dict.fromkeys(result.case.problem.name for result in report.results))
    others = report.others
    figure = new_figure("bench", 1.5 + 4.5 * len(panels), 1.5 + 0.35 * len(names))
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    thickness = 0.8 / max(1, len(others))
    for axis, (mode, threads) in zip(axes, panels, strict=True):
        results = [result for result in report.results if (result.case.mode, result.case.threads) == (mode, threads)]
        for k, other in enumerate(others):
            timed = [(result, value) for result in results if (value := result.ratio(other)) is not None]
            if not timed:
                continue
            places = [names.index(result.case.problem.name) + (k + 0.5) * thickness - 0.4 for result, _ in timed]
            medians = [value.median for _, value in timed]
            spans = [[v.median - v.low for _, v in timed], [v.high - v.median for _, v in timed]]
            axis.barh(
                places,
                [median - 1 for median in medians],
                thickness * 0.9,
                left=1,
                xerr=spans,
                color=COLOURS[k % len(COLOURS)],
                error_kw={"linewidth": 1},
                label=other,
            )
        axis.axvline(1, color="black", linewidth=1)
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_title(f"{mode}, {threads} thread{'s' if threads > 1 else ''}")
        axis.set_xlabel("recurray's time over the other's (left of 1: recurray is faster)", fontsize="small")
        axis.grid(axis="x", alpha=0.3)
    low, high = axes[0].get_xlim()
    decades = math.log10(high / low)
    axes[0].xaxis.set_major_locator(LogLocator(subs=next(subs for most, subs in TICKS.items() if decades < most)))
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    legend = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    if legend:
        axes[0].legend(legend.values(), legend.keys(), fontsize="small")
    return figure
