"""A kernel: the text of a CUDA function, what it is called with, and how text comes of what it does."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from struct import Struct

from recurray.lazy import cached_property
from recurray.program import Constant, Operand
from recurray_cupy.step import MASK, Array, CarriedValue, Expression, Given, Load, Masked, Place

ELEMENT_BLOCK = 128  # threads of a block where each thread has an element: few, to spread small layers over the GPU
ROW_BLOCK = 256  # the most threads of a block that has a row to itself
MOST_BLOCKS = 2**31 - 1  # of a grid's first axis

REALS = {"float32": "float", "float64": "double"}

# The last arguments of every kernel.
#   batch, units   rows B, and H, or whatever else the features are
#   reverse        1 where time runs from the end, else 0
#   first          the step that `x_gates` begins with
#   start, steps   the step to start with, and how many there are
INTEGERS = ("batch", "units", "reverse", "first", "start", "steps")

LENGTHS = Array("lengths", "int")

FORMS = {
    "negative": "-{}",
    "abs": "fabs({})",
    "add": "{} + {}",
    "subtract": "{} - {}",
    "multiply": "{} * {}",
    "divide": "{} / {}",
    "greater": "{} > {}",
    "greater_equal": "{} >= {}",
    "less": "{} < {}",
    "less_equal": "{} <= {}",
    "logical_and": "{} && {}",
    "where": "{} ? {} : {}",
}

ELEMENT_OF_GRID = (  # the element that a thread has to itself
    "const long long n = (long long)batch * units;",
    "const long long e = (long long)blockIdx.x * blockDim.x + threadIdx.x;",
    "if (e >= n) return;",
)


@cache
def fixed_text(name: str, package: str = "recurray_cupy") -> str:
    """Return the CUDA C++ in a file of a package."""
    return (files(package) / name).read_text(encoding="utf-8")


@dataclass(frozen=True)
class Argument:
    """An argument of a kernel: an array where ``type`` ends with a star, else a number."""

    type: str
    name: str

    @property
    def is_array(self) -> bool:
        """Whether it is an array."""
        return self.type.endswith("*")

    @property
    def element(self) -> str:
        """Its type without const and star."""
        return self.type.removeprefix("const ").removesuffix("*")


@dataclass(frozen=True)
class Kernel:
    """A kernel.

    Attributes
    ----------
    name : str
    lines : tuple of str
        The body of the function.
    arguments : tuple of Argument
    by_row : bool
        Whether each block has a row of the batch; else each thread has an element of it.
    threads : int
        Of a block, if the kernel makes the recurrent product itself, in a layout of its own; else 0.
    ahead : str
        Fixed text that it calls, besides functions.cuh.
    """

    name: str
    lines: tuple[str, ...]
    arguments: tuple[Argument, ...]
    by_row: bool = False
    threads: int = 0
    ahead: str = ""

    @cached_property
    def given(self) -> tuple[str, ...]:
        """The names of the arguments but for the last, ``steps``."""
        return tuple(each.name for each in self.arguments[:-1])

    @cached_property
    def arrays(self) -> int:
        """How many of them are arrays: these come first."""
        return sum(each.is_array for each in self.arguments)

    @cached_property
    def _packings(self) -> dict[str, Struct]:
        forms = {"float32": {"int": "i4x", "real": "f4x"}, "float64": {"int": "i4x", "real": "d"}}
        kinds = ["array" if each.is_array else each.type for each in self.arguments[:-1]]
        return {
            dtype: Struct("=" + "".join(({"array": "Q"} | form)[kind] for kind in kinds))
            for dtype, form in forms.items()
        }

    def packing(self, dtype: str) -> Struct:
        """What packs the arguments but for the last, ``steps``: each into 8 bytes."""
        return self._packings[dtype]

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:  # a launch looks kernels up, and their text is long
        return hash((self.name, self.lines, self.ahead))

    @cached_property
    def by_table(self) -> Kernel:
        """The same kernel, for a single step, with its arguments in a table on the device, as `packing` puts them.

        So a launch says nothing of the arrays, and can be a part of a CUDA graph that is good for any of them.
        """
        lines = []
        for k, argument in enumerate(self.arguments[:-1]):
            if argument.is_array:
                restrict = "__restrict__ " if argument.type.startswith("const ") else ""
                lines.append(f"{argument.type} {restrict}{argument.name} = ({argument.type})given[{k}];")
            elif argument.type == "int":
                after = " + step_of_graph" if argument.name == "start" else ""
                lines.append(f"const int {argument.name} = (int)given[{k}]{after};")
            else:
                lines.append(f"const {argument.type} {argument.name} = *(const {argument.type}*)&given[{k}];")
        unused = ", ".join(f"(void){each.name}" for each in self.arguments[:-1] if each.type == "int")
        table, place = Argument("const unsigned long long*", "given"), Argument("int", "step_of_graph")
        return replace(self, lines=(*lines, f"{unused};", *self.lines), arguments=(table, place, self.arguments[-1]))

    def source(self, dtype: str) -> str:
        """The whole text for elements of ``dtype``, "float32" or "float64"."""
        # What is only read is no place that is written to, so its loads may be moved ahead of the stores. Places that
        # are written to may be read as well, the states in inference for one.
        restricted = (
            f"{argument.type} __restrict__ {argument.name}"
            if argument.is_array and argument.type.startswith("const ")
            else f"{argument.type} {argument.name}"
            for argument in self.arguments
        )
        most = self.threads or (ROW_BLOCK if self.by_row else ELEMENT_BLOCK)
        bounds = f"{most}, 1" if self.threads else f"{most}"  # 1: all the registers there are
        return "\n".join(
            (
                f"typedef {REALS[dtype]} real;",
                f"#define ROW_BLOCK {ROW_BLOCK}",
                fixed_text("functions.cuh"),
                self.ahead,
                f'extern "C" __global__ void __launch_bounds__({bounds}) {self.name}(',
                ",\n".join(f"    {argument}" for argument in restricted) + ")",
                "{",
                *(f"    {line}" for line in self.lines),
                "}\n",
            )
        )


@dataclass
class Body:
    """What the body of a kernel that is being written uses.

    Attributes
    ----------
    carried : mapping of str to Expression
        What stands for a carried value that has no variable.
    functions : mapping of str to str
        What is called in place of a function of a program.
    needs : set of str
        The letters of the variables that places have.
    """

    carried: Mapping[str, Expression] = field(default_factory=dict)
    functions: Mapping[str, str] = field(default_factory=dict)
    needs: set[str] = field(default_factory=set)
    _arrays: dict[Array, bool] = field(default_factory=dict)  # and whether they are written to
    _numbers: dict[str, None] = field(default_factory=dict)

    def arguments(self, *integers: str) -> tuple[Argument, ...]:
        """Return the kernel's arguments: what it has used, and the integers of every kernel."""
        arrays = [
            Argument(f"{'' if written else 'const '}{array.type}*", array.name)
            for array, written in self._arrays.items()
        ]
        numbers = [Argument("real", name) for name in self._numbers]
        return (*arrays, *numbers, *(Argument("int", name) for name in (*integers, *INTEGERS)))

    def array(self, array: Array, *, written: bool = False) -> str:
        """Return the name of an array that is used."""
        if not array.own:
            self._arrays[array] = self._arrays.get(array, False) or written
        return array.name

    def load(self, place: Place) -> str:
        """Return a place that is read."""
        self.needs.update(place.needs)
        return f"{self.array(place.array)}[{place.index}]"

    def store(self, place: Place) -> str:
        """Return a place that is written to."""
        self.needs.update(place.needs)
        return f"{self.array(place.array, written=True)}[{place.index}]"

    def text(self, expression: Expression) -> str:
        """Return an expression."""
        match expression:
            case Constant(number):
                return literal(number)
            case Load(place):
                return self.load(place)
            case Given(place, _):
                return f"({place.array.name} ? {self.load(place)} : {self.otherwise(expression)})"
            case Masked(place):
                loaded = self.load(place)
                return f"({MASK.array.name} ? {loaded} * {self.load(MASK)} : {loaded})"
            case CarriedValue(name):
                return f"({self.text(self.carried[name])})" if name in self.carried else name
        return " + ".join(map(self.text, expression.terms))

    def otherwise(self, given: Given) -> str:
        """Return what stands for a number whose array is null."""
        if given.otherwise:
            self._numbers[given.otherwise] = None
        return given.otherwise or "(real)0"


def variable(operand: Operand) -> str:
    """Return a value's variable, or a constant."""
    return literal(operand.number) if isinstance(operand, Constant) else f"v{operand}"


def operation(name: str, operands: tuple[Operand, ...]) -> str:
    """Return an elementwise operation on operands."""
    given = map(variable, operands)
    if name in FORMS:
        return FORMS[name].format(*given)
    return f"{name}({', '.join(given)})"  # the others have their C++ names, or are in functions.cuh


def literal(number: float) -> str:
    """Return a number as text.

    Examples
    --------
    >>> literal(0.5), literal(float("-inf"))
    ('(real)0.5', '(-INFINITE)')
    """
    if math.isnan(number):
        return "(INFINITE - INFINITE)"
    if math.isinf(number):
        return "INFINITE" if number > 0 else "(-INFINITE)"
    return f"(real){number!r}"


def grid_of(by_row: bool, batch: int, units: int) -> tuple[int, int]:
    """Return how many blocks a launch over (batch, units) has, and of how many threads.

    Examples
    --------
    >>> grid_of(False, 3, 100)
    (3, 128)
    >>> grid_of(True, 3, 100)
    (3, 128)
    >>> grid_of(True, 3, 1000)
    (3, 256)

    Raises
    ------
    ValueError
        There is nothing to launch, or more than a grid can hold.
    """
    if batch < 1 or units < 1:
        raise ValueError(f"a launch over ({batch}, {units}) has no elements")
    if by_row:
        blocks, threads = batch, min(ROW_BLOCK, 32 * -(-units // 32))
    else:
        blocks, threads = -(-batch * units // ELEMENT_BLOCK), ELEMENT_BLOCK
    if blocks > MOST_BLOCKS:
        raise ValueError(f"a launch over ({batch}, {units}) is more than a grid of {MOST_BLOCKS} blocks can hold")
    return blocks, threads
