"""Cutting a step into stretches: a value that needs a number of all units has to wait for all units.

A mean over the units ends a stretch: in a kernel with a block for each row, the threads meet there. A product amid the
step ends a stretch and the launch. Each value is computed once, in the last stretch that is early enough for all who
read it, so that little has to be stored on the way from one stretch to another.
"""

from __future__ import annotations

from dataclasses import dataclass

from recurray.program import ELEMENTWISE, PRODUCTS, Program, earliest_segments, latest_segments
from recurray_cupy.expressions import rows_of
from recurray_cupy.step import Goal, Step


@dataclass(frozen=True)
class Schedule:
    """When the values of a step's program are computed.

    Attributes
    ----------
    stretch : dict of int to int
        By value the stretch in which it is computed, or for a mean and a product the one from which on it is there.
    count : int
        How many stretches there are.
    second : int
        The stretch that the second launch begins with; ``count`` if there is one launch alone.
    rows : set of int
        Values that are the same for all units of a row. The elementwise ones of them are computed in every stretch
        that reads them.
    """

    stretch: dict[int, int]
    count: int
    second: int
    rows: set[int]

    def launches(self) -> list[range]:
        """The stretches of each launch."""
        parts = [range(self.second), range(self.second, self.count)]
        return [part for part in parts if part]

    def of_goal(self, goal: Goal, program: Program) -> int:
        """The stretch in which a goal is stored: as soon as its value is there, if it is computed at all."""
        value = goal.value
        if isinstance(value, int) and value not in self.rows and program.values[value].operation in ELEMENTWISE:
            return self.stretch[value]
        return (self.second if goal.for_product else self.count) - 1


def schedule(step: Step) -> Schedule:
    """Say when the values of a step are computed."""
    values = step.program.values
    earliest = earliest_segments(step.program)
    products = [k for k, value in enumerate(values) if value.operation in PRODUCTS]
    wanted = step.program.needed([*step.results(), *products])
    count = 1 + max((earliest[k] for k in wanted), default=0)
    second = max((earliest[k] for k in products), default=count)
    stretch = latest_segments(step.program, wanted, count - 1, dict.fromkeys(products, second))
    return Schedule(stretch, count, second, rows_of(step.program, set(step.row_inputs)))
