"""What the pictures share: a figure, colours, lines and maps over time, and files."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recurray import files, install
from recurray.messages import shown

# Told apart by colour-blind people too: M. A. Petroff, "Accessible Color Sequences for Data Visualization", 2021.
COLOURS = ("#1845fb", "#ff5e02", "#c91f16", "#c849a9", "#adad7d", "#86c8dd", "#578dff", "#656364")
FEW = len(COLOURS)  # lines that can still be told apart
WIDTH_OF_STEP, LEAST_WIDTH, MOST_WIDTH, MOST_WIDTH_OF_ALL = (
    0.16,
    4.0,
    11.0,
    18.0,
)  # of what is drawn over time, in inches
MOST_LABELS = 60  # that fit in such a width
MOST_UNITS = 32  # each of which is named beside a map


def new_figure(function: str, width: float, height: float) -> Any:
    """Return an empty figure of this size in inches.

    Raises
    ------
    ImportError
        matplotlib isn't installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            f"plot.{function} needs matplotlib, which is missing: {install.with_extra('plot')}"
        ) from error
    return Figure(figsize=(width, height), layout="constrained")


def formats() -> tuple[str, ...]:
    """Return the endings of file names that a picture can be written to."""
    from matplotlib.backend_bases import FigureCanvasBase

    return tuple(FigureCanvasBase.get_supported_filetypes())


def save(figure: Any, path: Path) -> None:
    """Write a figure to a file, whole or not at all."""
    image = BytesIO()
    figure.savefig(image, format=path.suffix.removeprefix(".").lower(), dpi=150)
    with files.Destination(path) as destination:
        destination.replace(image.getvalue())


def listed(name: str, given: Any, *, texts: bool = False) -> list[Any]:
    """Return what is in a sequence; a text is one of letters where ``texts``."""
    if isinstance(given, (str, bytes)) and not texts:
        raise TypeError(f"{name} must be a sequence, not the text {shown(given)}: give [{shown(given)}]")
    try:
        return list(given)
    except TypeError:
        raise TypeError(f"{name} must be a sequence, not {type(given).__name__} {shown(given)}") from None


def step_labels(labels: Any, steps: int, row: int) -> list[str] | None:
    """Check what is to stand at the steps."""
    if labels is None:
        return None
    found = [str(label) for label in listed("labels", labels, texts=True)]
    if len(found) != steps:
        raise ValueError(f"labels must be {steps}, one for each step of row {row}, not {len(found)}")
    return found


def title_of(part: Any) -> str:
    """Return what stands over one direction of one layer."""
    return f"layer {part.layer}{', in reverse' if part.reverse else ''}"


def width_over(steps: int, columns: int = 1) -> float:
    """Return the width of each of so many columns that are drawn over so many steps."""
    return max(LEAST_WIDTH, min(MOST_WIDTH, MOST_WIDTH_OF_ALL / columns, WIDTH_OF_STEP * steps))


class Scale(NamedTuple):
    """What values lie between, and the colours for them."""

    low: float
    high: float
    colours: str


def scale_of(values: Any, least: float = 1.0) -> Scale:
    """From 0 where no value is negative, else symmetric; to the largest value, but not less than ``least``."""
    high = max(least, float(np.nanmax(np.abs(values), initial=0.0, where=np.isfinite(values)))) or 1.0
    return Scale(-high, high, "RdBu_r") if np.nanmin(values, initial=0.0) < 0 else Scale(0.0, high, "Greens")


def draw_lines(axis: Any, values: Any, scale: Scale) -> None:
    """Draw (time, units) as a line for each unit."""
    axis.axhline(0, color="black", linewidth=0.6)
    for unit, colour in zip(values.T, COLOURS, strict=False):
        axis.plot(unit, color=colour, linewidth=1.2, marker="." if len(unit) == 1 else None)
    margin = 0.06 * (scale.high - scale.low)
    axis.set_ylim(scale.low - margin, scale.high + margin)
    axis.margins(x=0.01)
    axis.grid(alpha=0.25)
    axis.tick_params(labelsize="small")


def draw_map(axis: Any, values: Any, scale: Scale, units: Sequence[int] | None, *, most_units: int = 2) -> None:
    """Draw (time, units) as a map with a line of pixels for each unit; more than ``most_units`` aren't all named."""
    axis.imshow(values.T, aspect="auto", interpolation="nearest", cmap=scale.colours, vmin=scale.low, vmax=scale.high)
    count = values.shape[1]
    named = range(count) if count <= most_units else (0, count - 1)
    axis.set_yticks(list(named), [f"unit {k if units is None else units[k]}" for k in named])
    axis.tick_params(labelsize="small")


def label_steps(axis: Any, steps: int, labels: Sequence[str] | None) -> None:
    """Number the steps, or write what stands at them."""
    if steps == 1:
        axis.set_xlim(-0.5, 0.5)
    if labels is None:
        from matplotlib.ticker import MaxNLocator

        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axis.set_xlabel("step")
        return
    places = range(0, steps, -(-steps // MOST_LABELS))
    upright = max(len(labels[k]) for k in places) > 2
    axis.set_xticks(
        list(places),
        [labels[k] for k in places],
        fontfamily="monospace",
        fontsize="small",
        rotation=90 if upright else 0,
    )
