"""What the pictures of gates and states draw: one row of what a trace or an array holds, checked."""

from __future__ import annotations

from typing import Any

from recurray import checks
from recurray.arrays import to_numpy
from recurray.messages import shown
from recurray.trace import DirectionTrace, Trace


def checked_row(row: Any, batch: int) -> int:
    """Check the number of a row of a batch."""
    number = checks.integer("row", row)
    if not -batch <= number < batch:
        raise ValueError(f"row must be below {batch}, the size of the batch, not {shown(row)}")
    return number


def row_of(trace: Trace, row: Any) -> int:
    """Check the number of a row of a trace."""
    first = trace.parts[0]
    return checked_row(row, first.arrays[first.states[0]].shape[0 if trace.batch_first else 1])


def values_of(trace: Trace, part: DirectionTrace, name: str, row: int) -> Any:
    """One row of one of a trace's values over its valid steps, (time, units)."""
    if name not in [*part]:
        raise ValueError(f"the trace has no {shown(name)}, but {', '.join(map(repr, part))}")
    values = to_numpy(part[name])
    values = values if trace.batch_first else values.swapaxes(0, 1)
    return values[row, : None if trace.lengths is None else trace.lengths[row]]


def steps_of(panels: Any) -> int:
    """How many steps all panels have, each (time, units); refuse one without anything to draw."""
    if not panels or any(not panel.size for panel in panels):
        raise ValueError("there is nothing to draw: no steps, units or names")
    return len(panels[0])
