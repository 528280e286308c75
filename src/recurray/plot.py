"""Pictures of what a layer computes. They need matplotlib, which is imported when one is drawn, not before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from recurray import checks, install
from recurray.arrays import to_numpy
from recurray.messages import shown
from recurray.trace import DirectionTrace, Trace

__all__ = ["gates"]

FEW = 8  # units that can still be told apart as lines
WIDTH_OF_STEP, LEAST_WIDTH, MOST_WIDTH = 0.16, 4.0, 11.0  # of a column, in inches
MOST_LABELS = 60  # that fit in a column


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
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"plot.gates needs matplotlib, which is missing: {install.with_extra('plot')}") from error

    first = trace.parts[0]
    batch = first.arrays[first.states[0]].shape[0 if trace.batch_first else 1]
    row = checks.integer("row", row)
    if not -batch <= row < batch:
        raise ValueError(f"row must be below {batch}, the size of the batch, not {shown(row)}")
    names = _listed("names", (*first.gates, *first.states[1:], first.states[0]) if names is None else names)
    for name in names:
        if name not in [*first]:
            raise ValueError(f"the trace has no {shown(name)}, but {', '.join(map(repr, first))}")
    if units is not None:
        units = [checks.size("each of units", unit, least=0) for unit in _listed("units", units)]
    panels = [[_values(trace, part, name, row, units) for part in trace] for name in names]
    if not names or not panels[0][0].size:
        raise ValueError("there is nothing to draw: no steps, units or names")
    steps = len(panels[0][0])
    if labels is not None:
        labels = [str(label) for label in _listed("labels", labels, texts=True)]
    if labels is not None and len(labels) != steps:
        raise ValueError(f"labels must be {steps}, one for each step of row {row}, not {len(labels)}")

    as_lines = max(values.shape[1] for panel in panels for values in panel) <= FEW
    height = 1.1 if as_lines else min(2.4, max(0.9, 0.04 * panels[0][0].shape[1]))
    width = min(MOST_WIDTH, max(LEAST_WIDTH, WIDTH_OF_STEP * steps))
    figure = Figure(figsize=(1.4 + width * len(trace), 0.9 + height * len(names)), layout="constrained")
    axes = figure.subplots(len(names), len(trace), sharex=True, sharey="row", squeeze=False)
    for name, line, values_of_parts in zip(names, axes, panels, strict=True):
        scale = _scale(np.concatenate([values.ravel() for values in values_of_parts]))
        for axis, values in zip(line, values_of_parts, strict=True):
            if as_lines:
                _draw_lines(axis, values, scale)
            else:
                _draw_map(axis, values, scale, units)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontweight="bold", fontsize="large")
        if not as_lines:
            figure.colorbar(line[0].images[0], ax=line.tolist(), pad=0.01, aspect=8)
    for axis, part in zip(axes[0], trace, strict=True):
        if len(trace) > 1:
            axis.set_title(f"layer {part.layer}{', in reverse' if part.reverse else ''}", fontsize="medium")
    for axis in axes[-1]:
        _label_steps(axis, steps, labels)
    counts = [panel[0].shape[1] for panel in panels]
    if as_lines and max(counts) > 1:
        numbers = range(max(counts)) if units is None else units
        handles = axes[counts.index(max(counts)), 0].get_lines()[1:]  # the first is that of zero
        figure.legend(handles, [f"unit {number}" for number in numbers], loc="outside right upper", fontsize="small")
    return figure


class _Scale(NamedTuple):
    """What values lie between, and the colours for them."""

    low: float
    high: float
    colours: str


def _scale(values: Any) -> _Scale:
    """From 0 where no value is negative, else symmetric; to 1 unless there are larger ones."""
    largest = float(np.nanmax(np.abs(values), initial=0.0, where=np.isfinite(values)))
    high = 1.0 if largest <= 1 else largest
    return _Scale(-high, high, "RdBu_r") if np.nanmin(values, initial=0.0) < 0 else _Scale(0.0, high, "Greens")


def _listed(name: str, given: Any, *, texts: bool = False) -> list[Any]:
    """Return what is in a sequence; a text is one of letters where ``texts``."""
    if isinstance(given, (str, bytes)) and not texts:
        raise TypeError(f"{name} must be a sequence, not the text {shown(given)}: give [{shown(given)}]")
    try:
        return list(given)
    except TypeError:
        raise TypeError(f"{name} must be a sequence, not {type(given).__name__} {shown(given)}") from None


def _values(trace: Trace, part: DirectionTrace, name: str, row: int, units: Sequence[int] | None) -> Any:
    """One value of one row over its valid steps, (time, units)."""
    values = to_numpy(part[name])
    values = values if trace.batch_first else values.swapaxes(0, 1)
    values = values[row, : None if trace.lengths is None else trace.lengths[row]]
    if units is None:
        return values
    wrong = [unit for unit in units if unit >= values.shape[1]]
    if wrong:
        raise ValueError(f"units must be below {values.shape[1]}, of which {name!r} has that many, not {wrong[0]}")
    return values[:, list(units)]


def _draw_lines(axis: Any, values: Any, scale: _Scale) -> None:
    axis.axhline(0, color="black", linewidth=0.6)
    for k, unit in enumerate(values.T):
        axis.plot(unit, color=f"C{k}", linewidth=1.2, marker="." if len(unit) == 1 else None)
    margin = 0.06 * (scale.high - scale.low)
    axis.set_ylim(scale.low - margin, scale.high + margin)
    axis.margins(x=0.01)
    axis.grid(alpha=0.25)
    axis.tick_params(labelsize="small")


def _draw_map(axis: Any, values: Any, scale: _Scale, units: Sequence[int] | None) -> None:
    axis.imshow(values.T, aspect="auto", interpolation="nearest", cmap=scale.colours, vmin=scale.low, vmax=scale.high)
    ends = [0, values.shape[1] - 1]
    axis.set_yticks(ends, [f"unit {k if units is None else units[k]}" for k in ends])
    axis.tick_params(labelsize="small")


def _label_steps(axis: Any, steps: int, labels: Sequence[str] | None) -> None:
    if labels is None:
        from matplotlib.ticker import MaxNLocator

        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_xlabel("step")
        return
    shown = range(0, steps, -(-steps // MOST_LABELS))
    axis.set_xticks(list(shown), [labels[k] for k in shown], fontfamily="monospace", fontsize="small")
