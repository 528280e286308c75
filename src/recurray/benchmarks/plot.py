"""The ratios as a picture."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from recurray import files
from recurray.benchmarks.results import OWN, Report


def formats() -> tuple[str, ...]:
    """Return the endings of file names that a picture can be written to."""
    from matplotlib.backend_bases import FigureCanvasBase

    return tuple(FigureCanvasBase.get_supported_filetypes())


def draw(report: Report, path: Path) -> None:
    """Draw recurray's time over each contender's, one panel for each mode and number of threads.

    Bars reach from 1, equal speed, to the median; the thin lines span the quartiles.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    panels = list(dict.fromkeys((result.case.mode, result.case.threads) for result in report.results))
    names = list(dict.fromkeys(result.case.problem.name for result in report.results))
    others = report.others
    figure = Figure(figsize=(1.5 + 4.5 * len(panels), 1.5 + 0.35 * len(names)), layout="constrained")
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
                color=f"C{k}",
                error_kw={"linewidth": 1},
                label=other,
            )
        axis.axvline(1, color="black", linewidth=1)
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_title(f"{mode}, {threads} thread{'s' if threads > 1 else ''}")
        axis.set_xlabel(f"{OWN}'s time over the other's (left of 1: {OWN} is faster)", fontsize="small")
        axis.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    legend = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    if legend:
        axes[0].legend(legend.values(), legend.keys(), fontsize="small")
    image = BytesIO()
    figure.savefig(image, format=path.suffix.removeprefix(".").lower(), dpi=150)
    with files.Destination(path) as destination:
        destination.replace(image.getvalue())
