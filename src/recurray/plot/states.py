"""The states of many units as a map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recurray import checks
from recurray.arrays import to_numpy
from recurray.messages import in_words, shown
from recurray.plot.drawing import (
    MOST_UNITS,
    draw_map,
    label_steps,
    new_figure,
    scale_of,
    step_labels,
    title_of,
    width_over,
)
from recurray.plot.values import checked_row, row_of, steps_of, values_of
from recurray.trace import Trace

SORTS = ("peak", "mean", "alike")


def states(
    values: Any,
    *,
    row: int = 0,
    name: str | None = None,
    sort: str | None = None,
    labels: Sequence[str] | None = None,
) -> Any:
    """Draw what units hold over time as a map: a line of pixels for each unit, steps from left to right. White is 0.

    Parameters
    ----------
    values : Trace, or array (time, units) or (batch, time, units)
        What `recurray.Recurrent.trace` returned, each of whose layers and directions gets a panel; or a layer's output.
    row : int
        Which row of the batch; of a trace, steps past its length aren't drawn.
    name : str, optional
        Which value of a trace; its first state, an LSTM's h, if omitted.
    sort : {None, "peak", "mean", "alike"}
        The units' order from top to bottom: by number; by the step at which they are farthest from 0, which shows what
        follows what; by their mean, the largest first; or with those side by side that go up and down together: by
        their share in the direction in which the states vary most (the first principal component).
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
        There is nothing to draw, or an argument doesn't fit the values.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> lstm = rr.LSTM(3, 40, seed=0)
    >>> y, _ = lstm(np.ones((2, 30, 3), dtype="float32"))
    >>> rr.plot.states(y, row=1, sort="peak").savefig("states.png")  # doctest: +SKIP
    """
    if sort is not None:
        checks.choice("sort", sort, SORTS)
    panels = _of_trace(values, row, name) if isinstance(values, Trace) else [("", _of_array(values, row, name))]
    steps = steps_of([panel for _, panel in panels])
    labels = step_labels(labels, steps, row)

    heights = [min(6.0, max(0.9, 0.17 * min(panel.shape[1], MOST_UNITS))) for _, panel in panels]
    figure = new_figure("states", 1.9 + width_over(steps), 0.7 + sum(heights) + 0.3 * len(panels))
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    scale = scale_of(np.concatenate([panel.ravel() for _, panel in panels]), least=0.0)
    for axis, (title, panel) in zip(axes, panels, strict=True):
        order = _order(panel, sort)
        draw_map(axis, panel[:, order], scale, order, most_units=MOST_UNITS)
        axis.set_title(title, fontsize="medium")
    label_steps(axes[-1], steps, labels)
    figure.colorbar(axes[0].images[0], ax=axes.tolist(), pad=0.01, aspect=30)
    return figure


def _of_trace(trace: Trace, row: int, name: str | None) -> list[tuple[str, Any]]:
    """Return a title and (time, units) for each layer and direction."""
    row = row_of(trace, row)
    panels = []
    for part in trace:
        chosen = part.states[0] if name is None else name
        title = f"{chosen}, {title_of(part)}" if len(trace) > 1 else chosen
        panels.append((title, values_of(trace, part, chosen, row)))
    return panels


def _of_array(values: Any, row: int, name: str | None) -> Any:
    """Return one row of an array, (time, units)."""
    if name is not None:
        raise ValueError(f"name is for a trace: an array has no {shown(name)}")
    values = to_numpy(values, "values")
    if values.ndim not in (2, 3) or values.dtype.kind not in "fiub":
        raise ValueError(
            "values must be a trace, or numbers of the shape (time, units) or (batch, time, units), "
            f"not {values.dtype} {in_words(values.shape)}"
        )
    row = checked_row(row, len(values) if values.ndim == 3 else 1)
    return (values[row] if values.ndim == 3 else values).astype("float64")


def _order(values: Any, sort: str | None) -> list[int]:
    """Return the numbers of the units from top to bottom."""
    values = np.nan_to_num(values)
    if sort is None:
        key = np.arange(values.shape[1])
    elif sort == "peak":
        key = np.abs(values).argmax(axis=0)
    elif sort == "mean":
        key = -values.mean(axis=0)
    else:
        _, _, directions = np.linalg.svd(values - values.mean(axis=0), full_matrices=False)
        first = directions[0]
        key = -first * np.sign(first[np.abs(first).argmax()])  # of either sign that a direction can have, one
    return [int(unit) for unit in np.argsort(key, kind="stable")]
