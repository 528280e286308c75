"""The table of a training over its epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from recurray.messages import shown
from recurray.plot.drawing import COLOURS, listed, new_figure

OTHERS = {"epoch", "step", "seconds", "lr", "grad_norm"}  # columns that aren't a loss or a metric
LOGARITHMIC = {"loss", "lr", "grad_norm"}  # where it helps
FEW_POINTS = 30  # that are marked, each, on its line
WIDE_RANGE = 20.0  # largest over least, from which on it does


def history(rows: Any, *, columns: Sequence[str] | None = None) -> Any:
    """Draw a training: its loss, metrics, learning rate and gradient norm, below each other; the best row is marked.

    What was measured on the validation's data stands beside what was in training. A line has a gap where that is NaN.
    Positive numbers the largest of which is over 20 times the least are on a logarithmic axis. A column that never
    changes is left out, but for the loss.

    Parameters
    ----------
    rows : History or sequence of mappings
        What `recurray.fit` returned, or such rows, ``{"epoch": 1, "loss": 0.5, "validation_loss": 0.6}``: numbers, or
        None where there is none.
    columns : sequence of str, optional
        Which columns, each with its ``validation_`` one; all if omitted.

    Returns
    -------
    matplotlib.figure.Figure
        Its ``savefig`` writes it to a file.

    Raises
    ------
    ImportError
        matplotlib isn't installed.
    ValueError, TypeError
        There is nothing to draw, or no such column.

    Notes
    -----
    The best row is the one that a `History` of a training knows; of plain rows that with the least ``validation_loss``.

    Examples
    --------
    >>> import recurray as rr
    >>> rows = [{"epoch": k + 1, "loss": 1 / (k + 1), "validation_loss": 1 / (k + 1) + 0.02 * k} for k in range(10)]
    >>> rr.plot.history(rows).savefig("history.png")  # doctest: +SKIP
    """
    table = [_row(row) for row in listed("rows", rows)]
    known = list(dict.fromkeys(name for row in table for name, value in row.items() if value is not None))
    if columns is None:
        wanted = [name.removeprefix("validation_") for name in known if name not in OTHERS]
        wanted += [name for name in ("lr", "grad_norm") if len({row.get(name) for row in table}) > 1]
        changing = {name.removeprefix("validation_") for name in known if len({row.get(name) for row in table}) > 1}
        wanted = [name for name in dict.fromkeys(wanted) if name in changing or name == "loss"]
    else:
        wanted = listed("columns", columns)
        for name in wanted:
            if name not in known and f"validation_{name}" not in known:
                raise ValueError(f"the history has no column {shown(name)}; its columns: {', '.join(map(repr, known))}")
    if not wanted:
        raise ValueError("there is nothing to draw: no rows with numbers, or no columns")
    over, places = _places(table)

    figure = new_figure("history", 6.4, 0.7 + 2.0 + 1.4 * (len(wanted) - 1))
    heights = [2.0, *[1.4] * (len(wanted) - 1)]
    axes = figure.subplots(len(wanted), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    best = _best(rows, table)
    for axis, name in zip(axes, wanted, strict=True):
        _draw(axis, name, table, places)
        if best is not None:
            axis.axvline(places[best[0]], color="black", linewidth=0.8, linestyle=":")
    if best is not None:
        label = f"{best[1]}: {over} {places[best[0]]:g}"
        axes[0].set_title(label, loc="right", fontsize="small")
    axes[-1].set_xlabel(over)
    return figure


def _row(row: Any) -> dict[str, float | None]:
    """Check a row: numbers by name."""
    if not isinstance(row, Mapping):
        raise TypeError(f"a row must be a mapping of names to numbers, not {type(row).__name__} {shown(row)}")
    found: dict[str, float | None] = {}
    for name, value in row.items():
        try:
            found[str(name)] = None if value is None else float(value)
        except (TypeError, ValueError):
            raise TypeError(f"{name} must be a number or None, not {type(value).__name__} {shown(value)}") from None
    return found


def _places(table: Sequence[Mapping[str, float | None]]) -> tuple[str, list[float]]:
    """Return what numbers the rows, and the numbers."""
    for name in ("epoch", "step"):
        values = [value for row in table if (value := row.get(name)) is not None]
        if len(values) == len(table) and all(a < b for a, b in pairwise(values)):
            return name, values
    return "row", [float(place) for place in range(1, len(table) + 1)]


def _best(rows: Any, table: Sequence[Mapping[str, float | None]]) -> tuple[int, str] | None:
    """Return the place of the best row and what it is the best of."""
    place = getattr(rows, "best", None)
    if isinstance(place, int):
        return place, "best"
    values = [row.get("validation_loss") for row in table]
    numbers = [math.inf if value is None or math.isnan(value) else value for value in values]
    least = min(numbers, default=math.inf)
    return None if least == math.inf else (numbers.index(least), "least validation_loss")


def _draw(axis: Any, name: str, table: Sequence[Mapping[str, float | None]], places: Sequence[float]) -> None:
    """Draw a column, and the validation's beside it."""
    from matplotlib.ticker import MaxNLocator

    drawn: list[float] = []
    for column, label, colour in ((name, "training", COLOURS[0]), (f"validation_{name}", "validation", COLOURS[1])):
        measured = [
            (place, value) for place, row in zip(places, table, strict=True) if (value := row.get(column)) is not None
        ]
        finite = [value for _, value in measured if math.isfinite(value)]
        if not measured:
            continue
        drawn += finite
        marker = "." if len(measured) <= FEW_POINTS else None
        axis.plot(*zip(*measured, strict=True), color=colour, linewidth=1.2, marker=marker, label=label)
    if name in LOGARITHMIC and drawn and min(drawn) > 0 and max(drawn) > WIDE_RANGE * min(drawn):
        axis.set_yscale("log")
    if len(axis.get_lines()) > 1:
        axis.legend(fontsize="small")
    axis.set_ylabel({"lr": "learning rate", "grad_norm": "gradient norm"}.get(name, name))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if len(places) == 1:
        axis.set_xlim(places[0] - 0.5, places[0] + 0.5)
    axis.margins(x=0.02)
    axis.grid(alpha=0.25)
    axis.tick_params(labelsize="small")
