"""Cutting a step into segments, between which a value needs a number of all units, and what is done in each.

A mean over the units ends a segment: in a kernel with a block for each row, the threads meet there. A product amid the
step ends a segment and the launch. Each value is computed once, in the last segment that is early enough for all who
read it, so that little has to be stored on the way from one segment to another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from recurray.program import (
    ELEMENTWISE,
    FLAGS,
    MEAN,
    PRODUCTS,
    Operand,
    earliest_segments,
    is_value,
    latest_segments,
)
from recurray_cupy.kernel import Body, operation, variable
from recurray_cupy.rounding import rounded_bits
from recurray_cupy.step import (
    MASK,
    Array,
    CarriedValue,
    Expression,
    Goal,
    Load,
    Place,
    Step,
    identifier,
    parts_of,
    rows_of,
)


@dataclass
class Segment:
    """What is done for one element between two cuts.

    Attributes
    ----------
    values : dict of int to Expression or None
        What is read or computed, in order; None for an operation of the program.
    goals : list of Goal
        What is stored; that comes after all values, because what is read and what is stored may be in one place.
    means : list of int
        The means that are known at the end.
    reads : set of str
        The names of the carried values that are read.
    """

    values: dict[int, Expression | None] = field(default_factory=dict)
    goals: list[Goal] = field(default_factory=list)
    means: list[int] = field(default_factory=list)
    reads: set[str] = field(default_factory=set)


class Segments:
    """The segments of a step.

    Parameters
    ----------
    step : Step

    Attributes
    ----------
    of_value : dict of int to int
        By value the segment that computes it; for a mean or a product, the first that can read it.
    rows : set of int
        Values that are the same for all units of a row. The elementwise ones of them are computed in every segment
        that reads them.
    launches : list of range
        The segments of each launch.
    work : dict of int to Place
        Where values are on their way from one segment to another, in an array `work` (len(work), B, H).
    work_rows : dict of int to Place
        Where means are on their way from one launch to the other, in an array `work_rows` (len(work_rows), B).
    """

    def __init__(self, step: Step) -> None:
        self.step, program = step, step.program
        earliest = earliest_segments(program)
        products = [k for k, value in enumerate(program.values) if value.operation in PRODUCTS]
        wanted = program.needed([*step.results(), *products])
        self.count = 1 + max((earliest[k] for k in wanted), default=0)
        self.second = max((earliest[k] for k in products), default=self.count)  # that the second launch begins with
        self.of_value = latest_segments(program, wanted, self.count - 1, dict.fromkeys(products, self.second))
        self.rows = rows_of(program, step.row_inputs)
        self.launches = [part for part in (range(self.second), range(self.second, self.count)) if part]
        self.work: dict[int, Place] = {}
        self.work_rows: dict[int, Place] = {}
        self._segments = [Segment() for _ in range(self.count)]
        for s in reversed(range(self.count)):  # so that a segment is told what later ones read
            self._fill(s)

    def __getitem__(self, s: int) -> Segment:
        return self._segments[s]

    def by_row(self, launch: range) -> bool:
        """Whether a launch has a block for each row: threads have to meet in it."""
        return any(self[s].means for s in launch)

    def _fill(self, s: int) -> None:
        segment, values = self[s], self.step.program.values
        for k in sorted(self.of_value):
            if values[k].operation in ELEMENTWISE and k not in self.rows and self.of_value[k] == s:
                self._need(s, k)
        segment.means = [k for k in sorted(self.of_value) if values[k].operation == MEAN and self.of_value[k] == s + 1]
        wanted: list[Operand] = [values[k].operands[0] for k in segment.means]
        segment.goals = [goal for goal in self.step.goals if self._of_goal(goal) == s]
        segment.goals += [Goal(k, place, padded=False) for k, place in self.work.items() if self.of_value[k] == s]
        wanted += [goal.value for goal in segment.goals]
        if s == self.count - 1:
            wanted += [each.value for each in self.step.carried] + [each.value for each in self.step.sums]
        for operand in wanted:
            self._need(s, operand)

    def _of_goal(self, goal: Goal) -> int:
        """The segment in which a goal is stored: as soon as its value is there, if it is computed at all."""
        k = goal.value
        if is_value(k) and k not in self.rows and self.step.program.values[k].operation in ELEMENTWISE:
            return self.of_value[k]
        return (self.second if goal.for_product else self.count) - 1

    def _need(self, s: int, operand: Operand) -> None:
        """Have a value in a segment, after what makes it known."""
        segment = self[s]
        if not is_value(operand) or operand in segment.values:
            return
        value, home = self.step.program.values[operand], self.of_value[operand]
        if value.operation == MEAN:  # the kernel has it as a variable
            if home <= self.second <= s:
                place = Place(Array("work_rows"), f"{len(self.work_rows)} * batch + b", "b")
                self.work_rows.setdefault(operand, place)
            return
        expression: Expression | None = None
        if value.operation == "input" or value.operation in PRODUCTS:
            expression = self.step.inputs[operand]
            segment.reads |= {part.name for part in parts_of(expression) if isinstance(part, CarriedValue)}
        elif operand in self.rows or home == s:
            for each in value.operands:
                self._need(s, each)
        else:
            expression = Load(self._home(operand))
        segment.values[operand] = expression

    def _home(self, k: int) -> Place:
        """Where an earlier segment leaves a value: where it is stored anyway, else in the work array."""
        for goal in self.step.goals:
            if goal.value == k and not (goal.masked or goal.rounded_to):
                return goal.place
        return self.work.setdefault(k, Array("work").of_elements(len(self.work)))

    # Text -------------------------------------------------------------------------------------------------------------

    def compute(self, s: int, body: Body, goals: Sequence[Goal] | None = None) -> list[str]:
        """Write what a segment reads, computes and stores; of its goals those that are given, if there are such."""
        values, lines = self.step.program.values, []
        for k, expression in self[s].values.items():
            value = values[k]
            name = body.functions.get(value.operation, value.operation)
            text = operation(name, value.operands) if expression is None else body.text(expression)
            note = f"  // {'.'.join(map(identifier, value.name.split('.')))}" if value.name else ""
            lines.append(f"const {'bool' if value.operation in FLAGS else 'real'} {variable(k)} = {text};{note}")
        goals = self[s].goals if goals is None else goals
        return lines + [self.store(goal, body, variable(goal.value)) for goal in goals]

    def store(self, goal: Goal, body: Body, text: str) -> str:
        """Write what stores a number for a goal."""
        mask = MASK.array.name
        if goal.masked:
            masked = f"{text} * {body.load(MASK)}"
            text = masked if goal.if_masked else f"{mask} ? {masked} : {text}"
        if goal.rounded_to:
            text = rounded_bits(goal.rounded_to, text)
        condition = f"if ({mask}) " if goal.if_masked else "if (u == 0) " if goal.by_row else ""
        return f"{condition}{body.store(goal.place)} = {text};"

    def pad(self, s: int, body: Body, goals: Sequence[Goal] | None = None) -> list[str]:
        """Write what a segment stores for a row past its length; goals as in `compute`."""
        goals = self[s].goals if goals is None else goals
        return [f"{body.store(goal.place)} = 0;" for goal in goals if goal.padded]

    def means_before(self, s: int, body: Body) -> list[str]:
        """Write what reads the means of the first launch in the second."""
        return [f"const real {variable(k)} = {body.load(place)};" for k, place in self.work_rows.items()] if s else []
