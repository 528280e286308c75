"""What a kernel for one time step is written from: a recorded program, and where its values come from and go to.

Indices of places are C++, of the integers of every kernel and of

    b, u     the row of the batch, and the unit
    n, e     batch * units, and the element: b * units + u
    t        the time step
    g        in a kernel that makes the recurrent product: where the sums of the element begin
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from recurray.program import ELEMENTWISE, MEAN, Constant, Operand, Program, values_of


def identifier(name: str) -> str:
    """Return ``name``, any Python identifier, with ASCII letters alone; no two names become the same.

    Examples
    --------
    >>> identifier("w_1"), identifier("ω")
    ('w_1', 'U969_')
    """
    return "".join(c if c.isascii() and (c.isalnum() or c == "_") and c != "U" else f"U{ord(c)}_" for c in name)


# Places ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Array:
    """An array by its name and the type of its elements."""

    name: str
    type: str = "real"
    own: bool = False  # whether the kernel has it in shared memory, rather than as an argument

    def element(self) -> Place:
        """The element of an array (B, H)."""
        return Place(self, "e", "e")

    def timed(self) -> Place:
        """The element of an array (T, B, H)."""
        return Place(self, "(long long)t * n + e", "tne")

    def before(self) -> Place:
        """Where a state before the step is, in an array (T + 1, B, H)."""
        return Place(self, "(long long)(t + reverse) * n + e", "tne")

    def after(self) -> Place:
        """Where a state after the step is."""
        return Place(self, "(long long)(t + 1 - reverse) * n + e", "tne")

    def of_units(self, k: int) -> Place:
        """The element of the row ``k`` of an array (rows, H)."""
        return Place(self, f"{k} * units + u", "u")

    def of_elements(self, k: int) -> Place:
        """The element of the part ``k`` of an array (parts, B, H)."""
        return Place(self, f"{k} * n + e", "ne")


@dataclass(frozen=True)
class Place:
    """An element of an array; ``needs`` are the letters of the variables that the index has."""

    array: Array
    index: str
    needs: str


# Expressions ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Load:
    """The number at a place."""

    place: Place


@dataclass(frozen=True)
class Given:
    """The number at a place of an array that may be null; then the argument ``otherwise``, or 0."""

    place: Place
    otherwise: str = ""


@dataclass(frozen=True)
class Masked:
    """The number at a place times the mask's, if there is a mask."""

    place: Place


@dataclass(frozen=True)
class CarriedValue:
    """What is carried from step to step under a name; see `Carried`."""

    name: str


@dataclass(frozen=True)
class Total:
    """The sum of expressions."""

    terms: tuple[Expression, ...]


Expression = Load | Given | Masked | CarriedValue | Total | Constant

MASK = Array("mask").element()


def parts_of(expression: Expression) -> Iterator[Expression]:
    """Yield an expression and all that it consists of."""
    yield expression
    for term in expression.terms if isinstance(expression, Total) else ():
        yield from parts_of(term)


# Steps ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Goal:
    """A value that a kernel stores.

    Attributes
    ----------
    value : Operand
    place : Place
    padded : bool
        Whether 0 is stored where the row is past its length; else nothing, where nothing will read it.
    masked : bool
        Whether the value is multiplied by the mask on its way, where there is one.
    if_masked : bool
        Whether it is stored only where there is a mask.
    by_row : bool
        Whether the place is one for each row, not one for each element.
    for_product : bool
        Whether the product amid the step reads it.
    rounded_to : str
        The type to whose nearest it is rounded, to be an operand, if it is: then the bits are stored.
    """

    value: Operand
    place: Place
    padded: bool = True
    masked: bool = False
    if_masked: bool = False
    by_row: bool = False
    for_product: bool = False
    rounded_to: str = ""


@dataclass(frozen=True)
class Carried:
    """A number of each element that is carried from step to step; past the row's length it stays what it is.

    Attributes
    ----------
    name : str
        Of the variable.
    value : Operand
        What it becomes.
    load : Expression
        Where it is before a step.
    store : Place
        Where it goes after it.
    each_step : bool
        Whether the place after it is another one at each step.
    through : Masked, optional
        What is added to it ahead of each step, in a kernel that makes the recurrent product itself.
    """

    name: str
    value: Operand
    load: Expression
    store: Place
    each_step: bool = False
    through: Masked | None = None


@dataclass(frozen=True)
class Sum:
    """A number of each element to which a value is added at each step."""

    value: Operand
    place: Place


@dataclass(frozen=True)
class Step:
    """One time step.

    Attributes
    ----------
    name : str
        Of the kernels.
    program : Program
    inputs : mapping of int to Expression
        Where inputs come from, and the results of the product amid the step.
    row_inputs : set of int
        Those that are the same for all units of a row.
    goals, carried, sums
        What becomes of the results.
    backward : bool
        Whether time runs the other way.
    """

    name: str
    program: Program
    inputs: Mapping[int, Expression]
    row_inputs: frozenset[int] = frozenset()
    goals: tuple[Goal, ...] = ()
    carried: tuple[Carried, ...] = ()
    sums: tuple[Sum, ...] = ()
    backward: bool = False

    @property
    def stride(self) -> str:
        """What the time step changes by, in C++."""
        return "2 * reverse - 1" if self.backward else "1 - 2 * reverse"

    @property
    def rounded_to(self) -> str:
        """The type that some of the goals are rounded to, if any is."""
        return next((goal.rounded_to for goal in self.goals if goal.rounded_to), "")

    def results(self) -> list[Operand]:
        """The values that are wanted, but for those that only the product reads."""
        wanted = [goal.value for goal in self.goals if not goal.for_product]
        return wanted + [carried.value for carried in self.carried] + [each.value for each in self.sums]


@dataclass
class Inputs:
    """Where a program's inputs come from, collected."""

    program: Program
    found: dict[int, Expression] = field(default_factory=dict)

    def put(self, name: str, expression: Expression) -> None:
        """Say where the input ``name`` comes from, if the program has it."""
        k = self.program.find(name)
        if k >= 0:
            self.found[k] = expression


def rows_of(program: Program, inputs: frozenset[int] = frozenset()) -> set[int]:
    """Return the values that are the same for all units of a row; ``inputs`` are the inputs among them."""
    found = set(inputs)
    for k, value in enumerate(program.values):
        operands = values_of(value.operands)
        if value.operation == MEAN or (value.operation in ELEMENTWISE and operands and found >= operands):
            found.add(k)
    return found
