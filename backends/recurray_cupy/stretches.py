"""Writing the stretches of a step: what is read, computed and stored for one element."""

from __future__ import annotations

from dataclasses import dataclass, field

from recurray.program import ELEMENTWISE, MEAN, PRODUCTS, Constant, Operand
from recurray_cupy.expressions import expression, flags_of, identifier, literal
from recurray_cupy.schedule import schedule
from recurray_cupy.step import Goal, Step


@dataclass
class Stretch:
    """The text of one stretch.

    Attributes
    ----------
    lines : list of str
        What reads and computes.
    stores : list of str
        What stores; it comes after all lines, because what is read and what is stored may be in one place.
    finished : list of str
        What is stored instead for a row past its length.
    means : dict of int to str
        The means that are known at the end, and the names of what they are means of.
    carried, sums : list of str
        In the last stretch, the names of the values of the step's `carried` and `sums`.
    """

    lines: list[str] = field(default_factory=list)
    stores: list[str] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    means: dict[int, str] = field(default_factory=dict)
    carried: list[str] = field(default_factory=list)
    sums: list[str] = field(default_factory=list)


class Stretches:
    """The stretches of a step, written.

    Parameters
    ----------
    step : Step

    Attributes
    ----------
    schedule : Schedule
    texts : dict of int to Stretch
    work : dict of int to str
        Places of values on their way from one stretch to another, in an array `work` (len(work), B, H).
    work_rows : dict of int to str
        Places of means on their way from one launch to the other, in an array `work_rows` (len(work_rows), B).
    """

    def __init__(self, step: Step) -> None:
        self.step = step
        self.schedule = schedule(step)
        self.work: dict[int, str] = {}
        self.work_rows: dict[int, str] = {}
        self.texts: dict[int, Stretch] = {}
        self._flags = flags_of(step.program)
        for s in reversed(range(self.schedule.count)):  # so that a stretch is told what later ones read
            self.texts[s] = _Writer(self, s).stretch

    def by_row(self, launch: range) -> bool:
        """Whether a launch has a block for each row: threads have to meet in it."""
        return any(self._means(s) for s in launch)

    def _means(self, s: int) -> list[int]:
        values, stretch = self.step.program.values, self.schedule.stretch
        return [k for k in sorted(stretch) if values[k].operation == MEAN and stretch[k] == s + 1]

    def _home(self, k: int) -> str:
        """Where an earlier stretch leaves a value: where it is stored anyway, else in the work array."""
        for goal in self.step.goals:
            if goal.value == k and not goal.factor:
                return goal.place
        return self.work.setdefault(k, f"work[{len(self.work)} * n + e]")


class _Writer:
    """Writes one stretch."""

    def __init__(self, stretches: Stretches, s: int) -> None:
        self.all = stretches
        self.step = step = stretches.step
        self.schedule = schedule = stretches.schedule
        self.values = step.program.values
        self.s = s
        self.stretch = Stretch()
        self.known: set[int] = set()
        # A thread that has an element alone keeps what it carries in variables. One that has several reads it anew.
        launch = next(launch for launch in schedule.launches() if s in launch)
        by_row = stretches.by_row(launch)
        self.carried = {each.name: f"({each.load})" if by_row else each.name for each in step.carried}

        for k in sorted(schedule.stretch):
            is_computed = self.values[k].operation in ELEMENTWISE and k not in schedule.rows
            if is_computed and schedule.stretch[k] == s:
                self.name(k)
        self.stretch.means = {k: self.name(self.values[k].operands[0]) for k in stretches._means(s)}
        for goal in step.goals:
            if schedule.of_goal(goal, step.program) == s:
                self.store(goal)
        for k, place in stretches.work.items():
            if schedule.stretch[k] == s:
                self.stretch.stores.append(f"{place} = {self.name(k)};")
        if s == schedule.count - 1:
            self.stretch.carried = [self.name(each.value) for each in step.carried]
            self.stretch.sums = [self.name(each.value) for each in step.sums]

    def store(self, goal: Goal) -> None:
        """Store a goal."""
        value, stretch = self.name(goal.value), self.stretch
        if goal.factor:
            stretch.stores.append(f"if ({goal.factor.partition('[')[0]}) {goal.place} = {value} * {goal.factor};")
        elif goal.by_row:
            stretch.stores.append(f"if (u == 0) {goal.place} = {value};")
        else:
            stretch.stores.append(f"{goal.place} = {value};")
        if goal.otherwise is not None:
            stretch.finished.append(f"{goal.place} = {goal.otherwise};")

    def name(self, operand: Operand) -> str:
        """Return the name, or the literal, of a value, after writing what makes it known."""
        if isinstance(operand, Constant):
            return literal(operand.number)
        name = f"v{operand}"
        if operand in self.known:
            return name
        self.known.add(operand)
        value, stretch = self.values[operand], self.schedule.stretch[operand]
        if value.operation == MEAN:  # the kernel has it as a variable
            if stretch <= self.schedule.second <= self.s:
                self.all.work_rows.setdefault(operand, f"work_rows[{len(self.all.work_rows)} * batch + b]")
            return name
        if value.operation == "input" or value.operation in PRODUCTS:
            text = self.step.inputs[operand].format_map(self.carried)
        elif operand in self.schedule.rows or stretch == self.s:
            text = expression(value.operation, [self.name(each) for each in value.operands])
        else:
            text = self.all._home(operand)
        kind = "bool" if operand in self.all._flags else "real"
        note = f"  // {'.'.join(map(identifier, value.name.split('.')))}" if value.name else ""
        self.stretch.lines.append(f"const {kind} {name} = {text};{note}")
        return name
