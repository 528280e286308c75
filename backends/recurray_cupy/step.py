"""What a kernel for one time step is written from: a recorded program, and where its values come from and go to.

Places are C++ text. The variables in them, besides arrays and the integers of every kernel:

    b, u     the row of the batch, and the unit
    n, e     batch * units, and the element: b * units + u
    t        the time step
    length   of the row

In the texts of `Step.inputs` the name of a `Carried` may stand in braces.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from recurray.program import Operand, Program


@dataclass(frozen=True)
class Goal:
    """A value that a kernel stores.

    Attributes
    ----------
    value : Operand
    place : str
    otherwise : str or None
        What is stored where the row is past its length; None for nothing, where nothing will read it.
    factor : str
        An array's element that the value is multiplied by on its way; where that array is null, nothing is stored.
    by_row : bool
        Whether the place is one for each row, not one for each element.
    for_product : bool
        Whether the product amid the step reads it.
    """

    value: Operand
    place: str
    otherwise: str | None = "0"
    factor: str = ""
    by_row: bool = False
    for_product: bool = False


@dataclass(frozen=True)
class Carried:
    """A number of each element that is carried from step to step; past the row's length it stays what it is.

    Attributes
    ----------
    name : str
        Of the variable.
    value : Operand
        What it becomes.
    load, store : str
        Where it is before a step, and goes after it.
    each_step : bool
        Whether the place after it is another one at each step.
    through : str
        What is added to it ahead of each step, in a kernel that makes the recurrent product itself.
    """

    name: str
    value: Operand
    load: str
    store: str
    each_step: bool = False
    through: str = ""


@dataclass(frozen=True)
class Sum:
    """A number of each element to which a value is added at each step."""

    value: Operand
    place: str


@dataclass(frozen=True)
class Step:
    """One time step.

    Attributes
    ----------
    name : str
        Of the kernels.
    program : Program
    inputs : mapping of int to str
        Where inputs are, and the results of the product amid the step.
    row_inputs : set of int
        Those that are the same for all units of a row.
    goals, carried, sums
        What becomes of the results.
    stride : str
        What the time step changes by.
    """

    name: str
    program: Program
    inputs: Mapping[int, str]
    row_inputs: frozenset[int] = frozenset()
    goals: tuple[Goal, ...] = ()
    carried: tuple[Carried, ...] = ()
    sums: tuple[Sum, ...] = ()
    stride: str = "1 - 2 * reverse"

    def results(self) -> list[Operand]:
        """The values that are wanted, but for those that only the product reads."""
        wanted = [goal.value for goal in self.goals if not goal.for_product]
        return wanted + [carried.value for carried in self.carried] + [each.value for each in self.sums]


@dataclass
class Names:
    """The places of a program's inputs, collected."""

    program: Program
    places: dict[int, str] = field(default_factory=dict)

    def put(self, name: str, place: str) -> None:
        """Say where the input ``name`` is, if the program has it."""
        for k, value in enumerate(self.program.values):
            if value.operation == "input" and value.name == name:
                self.places[k] = place
