"""Gates and states of a trace over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recurray import checks
from recurray.plot.drawing import (
    FEW,
    draw_lines,
    draw_map,
    label_steps,
    listed,
    new_figure,
    scale_of,
    step_labels,
    title_of,
    width_over,
)
from recurray.plot.values import row_of, steps_of, values_of
from recurray.trace import DirectionTrace, Trace


def gates(
    trace: Trace,
    *,
    row: int = 0,
    names: Sequence[str] | None = None,
    units: Sequence[int] | None = None,
    labels: Sequence[str] | None = None,
) -> Any:
    """Draw gates and states over time: a panel for each below each other, a column for each layer and direction.

    Up to 8 units are drawn as lines, more as a heat map with a line of pixels for each unit. White is 0.

    Parameters
    ----------
    trace : Trace
        What `recurray.Recurrent.trace` returned.
    row : int
        Which row of the batch; steps past its length aren't drawn.
    names : sequence of str, optional
        Which values of the trace; the gates and states of the cell if omitted.
    units : sequence of int, optional
        Which units; all if omitted.
    labels : sequence of str, optional
        What stands at the steps in place of their numbers: the words or letters of a text.

    Returns
    -------
    matplotlib.figure.Figure
        Its ``savefig`` writes it to a file.

    Raises
    ------
    ImportError
        matplotlib isn't installed.
    ValueError, TypeError
        There is nothing to draw, or an argument doesn't fit the trace.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> lstm = rr.LSTM(3, 5, dtype="float64", seed=0)
    >>> seen = lstm.trace(np.random.default_rng(0).standard_normal((1, 20, 3)))
    >>> rr.plot.gates(seen, names=["f", "c"]).savefig("gates.png")  # doctest: +SKIP
    """
    if not isinstance(trace, Trace):
        raise TypeError(f"expected what layer.trace returned, a Trace, not {type(trace).__name__}")
    first = trace.parts[0]
    row = row_of(trace, row)
    names = listed("names", (*first.gates, *first.states[1:], first.states[0]) if names is None else names)
    if units is not None:
        units = [checks.size("each of units", unit, least=0) for unit in listed("units", units)]
    panels = [[_values(trace, part, name, row, units) for part in trace] for name in names]
    steps = steps_of([values for panel in panels for values in panel])
    labels = step_labels(labels, steps, row)

    as_lines = max(values.shape[1] for panel in panels for values in panel) <= FEW
    height = 1.1 if as_lines else min(2.4, max(0.9, 0.04 * panels[0][0].shape[1]))
    width = width_over(steps, len(trace))
    figure = new_figure("gates", 1.4 + width * len(trace), 0.9 + height * len(names))
    axes = figure.subplots(len(names), len(trace), sharex=True, sharey="row", squeeze=False)
    for name, line, values_of_parts in zip(names, axes, panels, strict=True):
        scale = scale_of(np.concatenate([values.ravel() for values in values_of_parts]))
        for axis, values in zip(line, values_of_parts, strict=True):
            if as_lines:
                draw_lines(axis, values, scale)
            else:
                draw_map(axis, values, scale, units)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontweight="bold", fontsize="large")
        if not as_lines:
            figure.colorbar(line[0].images[0], ax=line.tolist(), pad=0.01, aspect=8)
    for axis, part in zip(axes[0], trace, strict=True):
        if len(trace) > 1:
            axis.set_title(title_of(part), fontsize="medium")
    for axis in axes[-1]:
        label_steps(axis, steps, labels)
    counts = [panel[0].shape[1] for panel in panels]
    if as_lines and max(counts) > 1:
        numbers = range(max(counts)) if units is None else units
        handles = axes[counts.index(max(counts)), 0].get_lines()[1:]  # the first is that of zero
        figure.legend(handles, [f"unit {number}" for number in numbers], loc="outside right upper", fontsize="small")
    return figure


def _values(trace: Trace, part: DirectionTrace, name: str, row: int, units: Sequence[int] | None) -> Any:
    """One value of one row over its valid steps, (time, units)."""
    values = values_of(trace, part, name, row)
    if units is None:
        return values
    wrong = [unit for unit in units if unit >= values.shape[1]]
    if wrong:
        raise ValueError(f"units must be below {values.shape[1]}, of which {name!r} has that many, not {wrong[0]}")
    return values[:, list(units)]
