"""A kernel: the text of a CUDA function, and what it is called with."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from recurray_cupy.prelude import ROW_BLOCK, prelude
from recurray_cupy.recurrence_text import recurrence_prelude

ELEMENT_BLOCK = 128  # threads of a block where each thread has an element: few, to spread small layers over the GPU
MOST_BLOCKS = 2**31 - 1  # of a grid's first axis

# The last arguments of every kernel.
#   batch, units   rows B, and H, or whatever else the features are
#   reverse        1 where time runs from the end, else 0
#   first          the step that `x_gates` begins with
#   start, steps   the step to start with, and how many there are
INTEGERS = ("batch", "units", "reverse", "first", "start", "steps")

# And, before them, of the kernels that make the recurrent product themselves; see `recurray_cupy.recurrence`.
#   skip           the step that has no product, -1 if there is none
LAYOUT_INTEGERS = ("block_units", "block_rows", "slices", "chunk", "resident", "area", "skip")

OTHER_TYPES = {  # of arrays that aren't of real numbers
    "lengths": "int",
    "order": "long long",
    "ends": "long long",
    "arrivals": "unsigned",
    "fault": "int",
    "rounded": "unsigned short",
}


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
    small : str
        The type of that product's operands, if it isn't that of the arrays.
    """

    name: str
    lines: tuple[str, ...]
    arguments: tuple[Argument, ...]
    by_row: bool
    threads: int = 0
    small: str = ""

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
        body = "\n".join(f"    {line}" for line in self.lines)
        most = self.threads or (ROW_BLOCK if self.by_row else ELEMENT_BLOCK)
        bounds = f"{most}, 1" if self.threads else f"{most}"  # 1: all the registers there are
        head = f'extern "C" __global__ void __launch_bounds__({bounds}) {self.name}(\n    '
        sums = "block_sums" in body
        own = recurrence_prelude(self.threads, self.small) if self.threads else ""
        return f"{prelude(dtype, sums=sums)}{own}\n{head}" + ",\n    ".join(restricted) + f")\n{{\n{body}\n}}\n"


def kernel(
    name: str,
    lines: Iterable[str],
    written: Collection[str],
    *,
    by_row: bool = False,
    threads: int = 0,
    own: Collection[str] = (),
    small: str = "",
) -> Kernel:
    """Make a kernel of lines, its arguments being what they mention.

    ``written`` are the arrays that they write to, ``own`` those that the kernel itself declares.
    """
    lines = tuple(lines)
    text = re.sub("//.*", "", "\n".join(lines))  # notes hold names of the cell's own
    arrays = [
        name
        for name in dict.fromkeys(re.findall(r"([A-Za-z_]\w*)\[", text))
        if name not in own and not re.match(r"sums\d", name)
    ]
    means = dict.fromkeys(re.findall(r"\bmean_\w+", text))
    arguments = [
        Argument(f"{'' if name in written else 'const '}{OTHER_TYPES.get(name, 'real')}*", name) for name in arrays
    ]
    arguments += [Argument("real", name) for name in means]
    arguments += [Argument("int", name) for name in (*(LAYOUT_INTEGERS if threads else ()), *INTEGERS)]
    return Kernel(name, lines, tuple(arguments), by_row, threads, small)


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
