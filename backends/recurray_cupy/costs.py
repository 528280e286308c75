"""The numbers that strategies are chosen by, each with where it is from, and what a step is estimated to take.

None of them has been measured on a GPU. Clocks are those of a multiprocessor. ``python tests/gpu/model.py`` prints
`NUMBERS` for the docs.
"""

from __future__ import annotations

from dataclasses import dataclass

from recurray_cupy.library import Device


@dataclass(frozen=True)
class Work:
    """What a step of a recurrence is.

    Attributes
    ----------
    batch, units : int
    parts : int
        Sums that each unit gets from the product: the gates forward, 1 backward.
    depth : int
        Products that are added up for each sum: the units forward, gates times units backward.
    early, fixed, carried : int
        Numbers of each element that are asked for a step ahead, of each unit that are the same at each step, and of
        each element that are carried from step to step.
    itemsize : int
        Bytes of a number.
    rounded : bool
        Whether the product's operands are numbers of half a word, for tensor cores. Others then have a word.
    """

    batch: int
    units: int
    parts: int
    depth: int
    early: int
    fixed: int
    carried: int
    itemsize: int
    rounded: bool = False


@dataclass(frozen=True)
class Number:
    """A number, and where it is from."""

    name: str
    value: float
    unit: str
    source: str


NUMBERS: list[Number] = []


def _number(name: str, value: float, unit: str, source: str) -> float:
    NUMBERS.append(Number(name, value, unit, source))
    return value


# What blocks of ours do.
STREAM = _number(
    "weights that are read anew from memory",
    16,
    "bytes a clock and multiprocessor",
    "assumed: 4.8 TB/s (NVIDIA's data sheet of the H200) are 20 of 132 multiprocessors",
)
FETCH = _number(
    "the operand, and weights of which the second-level cache holds two copies, one in each half",
    27,
    "bytes a clock and multiprocessor",
    "assumed: of 5,120 for all (NVIDIA's A100 white paper) 39 at most",
)
CHUNK = _number(
    "the wait for a chunk of the operand", 800, "clocks", "assumed: three latencies of the second-level cache"
)
ISSUED = _number(
    "in float32, of a step through the depth, besides multiplying and reading what is multiplied",
    5,
    "instructions of a warp",
    "from the kernels' machine code: 4.5 with tiles of 4 x 4, 7 with 4 x 8",
)
MEETING = _number("a block's threads meet, twice a chunk", 60, "clocks", "assumed")
ELEMENT = _number("the cell's step, of a thread's element", 250, "clocks", "assumed")
BARRIER = _number(
    "a barrier between blocks",
    1500,
    "clocks",
    "assumed: a fence, the count, a poll, the reading, each a latency or two of 260 clocks (H100; Luo et al. 2024)",
)
NO_BARRIER = _number("what one block waits for itself", 200, "clocks", "assumed")
EARLY = _number(
    "from when a number is asked of memory until it is there",
    520,
    "clocks",
    "assumed: two latencies of the second-level cache, 260 clocks each (H100; Luo et al. 2024)",
)
TILE = _number(
    "a tile of 16 x 8 x 16 by a tensor core",
    8,
    "clocks",
    "published: 312 TFLOP/s of 108 x 4 at 1.41 GHz (NVIDIA's data sheet of the A100); assumed on an H200",
)
# Launches.
LAUNCHED = _number(
    "from a launch's begin to the next one's",
    1750,
    "clocks",
    "assumed: twice the 0.5 us in a graph (V100; NVIDIA, Getting Started with CUDA Graphs)",
)
TABLE = _number("a launch's arguments from a table", 350, "clocks", "assumed: a latency and a miss")
# The library's product.
RATE = _number("of the arithmetic that the library reaches", 0.75, "of all", "assumed")
LIBRARY = _number(
    "what its product takes at least",
    2500,
    "clocks",
    "from two launches a step in a graph: 4 us at 512 units (floors by the bytes and latencies of an H200)",
)
# The host.
HOST_LAUNCH = _number(
    "Python and CuPy, a launch",
    0.5,
    "us",
    "measured on the host: `python tests/gpu/host_cost.py`, 0.4 to 0.5 for a step without a graph",
)
HOST_PRODUCT = _number(
    "Python and CuPy, a product",
    0.6,
    "us",
    "measured on the host: likewise, 1.0 to 1.1 for a step of fused, launch and all",
)
DRIVER = _number(
    "the driver, a launch",
    2.5,
    "us",
    "assumed: at most 3.8, with the kernel (V100; NVIDIA, Getting Started with CUDA Graphs)",
)
CUBLAS = _number("cuBLAS, which chooses a kernel and launches it", 4.0, "us", "assumed")
REPLAYED = _number(
    "a step of a graph", 0.1, "us", "measured on the host: likewise, two launches for a graph of 512 steps"
)


def step_by_library(work: Work, device: Device) -> float:
    """Estimate the microseconds of a step whose product is the library's, with a kernel for the cell after it.

    The host queues both; meanwhile the product is made, as fast as it can be or as the weights come. Whichever takes
    longer is what a step takes. Where operands are rounded, the kernel for the cell rounds the output as well.
    """
    host = HOST_LAUNCH + DRIVER + HOST_PRODUCT + CUBLAS
    size = work.units * work.parts * work.depth * (2 if work.rounded else work.itemsize)
    fetch = size / weights_rate(size, device)
    rate = RATE * (2048 if work.rounded else 128)  # of a multiprocessor
    multiply = work.units * work.parts * work.depth * work.batch * work.itemsize / 4 / rate
    numbers = 2 * work.parts + work.early + 2 * work.carried  # the product goes to memory and comes from there
    cell = numbers * work.batch * work.units * work.itemsize / STREAM
    clocks = LAUNCHED + LIBRARY + (max(multiply, fetch) + cell) / device.multiprocessors
    return max(host, microseconds(clocks, device))


def weights_rate(size: float, device: Device) -> float:
    """The rate at which so many bytes of weights come, at each step the same."""
    return FETCH if 2 * size <= device.cache else STREAM


def early(work: Work, elements: int, waiting: bool) -> float:
    """Estimate the clocks for which a block waits for what is asked for a step ahead.

    It comes while other blocks are waited for, and until the operand of the product has come: a thread waits for its
    copies in order.
    """
    coming = EARLY + elements * work.early * work.itemsize / STREAM
    return max(0.0, coming - (BARRIER if waiting else NO_BARRIER) - CHUNK)


def step_by_launch(clocks: float, device: Device) -> float:
    """Estimate the microseconds of a step that is a launch of ours, of which the kernel takes so many clocks."""
    return max(REPLAYED, microseconds(clocks + LAUNCHED + TABLE, device))


def microseconds(clocks: float, device: Device) -> float:
    """Turn a device's clocks into time."""
    return 1e6 * clocks / device.clock
