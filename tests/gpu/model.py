"""A model of the CuPy backend's speed, without a GPU: ``python tests/gpu/model.py`` prints all tables that docs have.

What a step of an LSTM does is counted from the layouts that the backend chooses; `test_gpu_model` compares the counts
with what the kernels do on an emulated device. Over public rates of an H200 they give a bound: no step of these kernels
can be faster. Beside it stands what the backend's own rule estimates, with its guesses of what waiting costs. A bound
above a target shows that the target can't be met; one below it shows nothing.

T time, B batch, H hidden units.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":  # a checkout that needn't be installed
    ROOT = Path(__file__).resolve().parents[2]
    sys.path[:0] = [str(ROOT / folder) for folder in ("src", "backends", "tests")]

from gpu.verdict import target
from harness.compare_scans import TwoStates
from recurray.cells import DiagonalLSTMCell, GRUCell, LSTMCell, RNNCell
from recurray_cupy import persistent
from recurray_cupy.compiled import Way, compiled
from recurray_cupy.costs import NUMBERS, Work, step_by_library
from recurray_cupy.library import H200
from recurray_cupy.persistent.layout import FOUR, Layout, layout_for
from recurray_cupy.step import Given, Load, parts_of
from recurray_cupy.strategies import AUTO, DEFAULT, Call, estimates, strategies_for

# Each rate, and where it is from.
CLOCK = 1.98e9  # a second, at most: 67 TFLOP/s in float32 (NVIDIA's data sheet of the H200) by 132 * 128 * 2
MEMORY = 4.8e12  # bytes a second: the data sheet
PRODUCTS = 128  # multiply-adds in float32 of a multiprocessor's clock: NVIDIA's H100 white paper
TILES = 1  # of 16 x 8 x 16, likewise: 989 TFLOP/s in float16 without sparsity (data sheet), at 1.83 GHz
WAVEFRONTS = 1  # of 128 bytes of shared memory, likewise: 32 banks of 4 bytes (CUDA's programming guide)
L2_OF_ONE, L2 = 64, 5120  # bytes a clock from the second-level cache, of a multiprocessor, of all: A100 white paper
LATENCY = 260  # clocks until a number comes from that cache: measured on an H100 (Luo et al. 2024, arXiv 2402.13499)
LAUNCH, IN_A_GRAPH = 0.9e-6, 0.5e-6  # seconds beyond a short kernel: NVIDIA's "Getting started with CUDA graphs"

PUBLISHED = {  # us a step forward, on an H100 at H 768, B 16, T 1024
    (CUDNN := "cuDNN, float16"): 1.96,
    "FlashRNN fused, bfloat16": 4.8,
    (CUBLAS := "cuBLAS and a kernel each step"): 10.5,
    "haste, float32": 18.0,
    "PyTorch, step by step": 144.0,
}


@dataclass(frozen=True)
class Counts:
    """What a step does; of bytes, multiply-adds and tiles that of all blocks together.

    Attributes
    ----------
    launches, barriers : int
        Barriers are those between blocks.
    memory : int
        Bytes that come from or go to memory once: what is read ahead, the states, what is saved.
    operand, weights : int
        Bytes that blocks read from the second-level cache, of the output before (backward the gates' gradients) and of
        weights that aren't in shared memory.
    shared : int
        Bytes that threads ask shared memory for in the product and in adding up, each thread for itself.
    wavefronts : int
        How often shared memory has to be asked for them, as each warp gets 128 bytes at a time, and what several of its
        threads want once.
    products : int
        Multiply-adds in float32.
    tiles : int
        Tensor-core instructions.
    """

    launches: int
    barriers: int
    memory: int
    operand: int
    weights: int
    shared: int
    wavefronts: int
    products: int
    tiles: int


def recurrence_of(dtype: str, *, backward: bool) -> persistent.Recurrence:
    """The step of a layer in training."""
    rounded_to = "" if dtype == "float32" else dtype
    return persistent.recurrence_of(LSTMCell(), Way.BACKWARD if backward else Way.TRAINING, rounded_to=rounded_to)


def counts_of(recurrence: persistent.Recurrence, work: Work, layout: Layout, *, persistent: bool) -> Counts:
    """Count a step of a kernel that makes the product itself."""
    rows_of = [min(layout.block_rows, work.batch - k * layout.block_rows) for k in range(layout.row_groups)]
    depth = -(-work.depth // (16 if work.rounded else FOUR))
    anew = work.depth  # a launch reads all
    if persistent:
        anew -= min(work.depth, layout.resident * (16 if work.rounded else FOUR))
    rows = work.parts * layout.block_units
    in_float32 = 4 * layout.blocks * rows * anew
    sixteens = 16 * (depth - (layout.resident if persistent else 0))
    weight_rows = layout.tile[0] * -(-rows // layout.tile[0]) if work.rounded else rows
    stored = layout.blocks * weight_rows * layout.block_rows
    added_up = 4 * layout.slices * (stored + work.parts * work.units * work.batch)
    from_shared = depth - layout.held * layout.slices  # of the weights
    if work.rounded:
        across, down = layout.tile[1] // 8, layout.tile[0] // 16
        of_warps = weight_rows // layout.tile[0] * -(-layout.block_rows // layout.tile[1])  # at each of the depth
        tiles, products = of_warps * depth * across * down, 0
        read = of_warps * (from_shared * 512 * down + depth * 256 * across)
        wavefronts = read // 128  # the threads of a warp read 32 different words
    else:
        places = -(-rows // layout.tile[0]) * -(-layout.block_rows // layout.tile[1])
        tiles, products = 0, places * depth * FOUR * layout.tile[0] * layout.tile[1]
        read = places * 16 * (from_shared * layout.tile[0] + depth * layout.tile[1])
        of_weights, of_operand = map(sum, zip(*wavefronts_of(rows, layout), strict=True))
        wavefronts = -(-(from_shared * of_weights + depth * of_operand) // layout.slices)
    return Counts(
        launches=0 if persistent else 1,
        barriers=int(persistent and layout.unit_groups > 1),
        memory=4 * work.batch * work.units * streams_of(recurrence),
        operand=layout.unit_groups * sum(rows_of) * (32 * depth if work.rounded else 4 * work.depth),
        weights=2 * layout.blocks * weight_rows * sixteens if work.rounded else in_float32,
        shared=layout.blocks * read + added_up,
        wavefronts=layout.blocks * wavefronts + added_up // 128,
        products=layout.blocks * products,
        tiles=layout.blocks * tiles,
    )


def wavefronts_of(rows: int, layout: Layout) -> Iterator[tuple[int, int]]:
    """How often each warp of a block asks shared memory for a four of the depth, of weights and operand, in float32."""
    rows_apart, columns_apart = -(-rows // layout.tile[0]), -(-layout.block_rows // layout.tile[1])
    places = rows_apart * columns_apart
    for first in range(0, layout.slices * places, 32):
        warp = range(first, min(first + 32, layout.slices * places))
        of_weights = len({(thread // places, thread % places % rows_apart) for thread in warp})
        of_operand = len({thread // rows_apart for thread in warp})
        yield layout.tile[0] * -(-of_weights // 8), layout.tile[1] * -(-of_operand // 8)


def streams_of(recurrence: persistent.Recurrence) -> int:
    """How many numbers of each element a step reads from memory, or writes to it."""
    step = recurrence.step
    return len(recurrence.ahead.coming) + len(step.goals) + sum(each.each_step for each in step.carried)


def counts_of_fused(recurrence: persistent.Recurrence, work: Work) -> Counts:
    """Count a step whose product is the library's: its bytes and multiply-adds are the least that there can be."""
    numbers = work.batch * work.units
    products = numbers * work.parts * work.depth
    itemsize = 2 if work.rounded else 4
    rounded = work.batch * work.depth * 2 if work.rounded else 0  # the operand, written rounded
    return Counts(
        launches=2,
        barriers=0,
        memory=4 * numbers * streams_of(recurrence),
        operand=itemsize * work.batch * work.depth
        + rounded
        + 2 * 4 * numbers * work.parts,  # the product goes by there
        weights=itemsize * work.units * work.parts * work.depth,
        shared=0,
        wavefronts=0,
        products=0 if work.rounded else products,
        tiles=-(-products // 2048) if work.rounded else 0,
    )


def bound(counts: Counts, blocks: int, chunks: int, *, graph: bool = True, together: bool = False) -> float:
    """The seconds that a step takes at least. What a block does comes one after another, as in the kernels.

    Parameters
    ----------
    counts : Counts
    blocks : int
        That share the work; all of the GPU's if it is the library that shares it.
    chunks : int
        How often a block waits for something to come from the second-level cache.
    graph : bool
        Whether launches are a graph's.
    together : bool
        Whether something else comes while what has come is multiplied.
    """
    at_once = min(blocks, H200.multiprocessors)
    rate = min(at_once * L2_OF_ONE, L2)
    coming = (counts.operand + counts.weights) / rate
    used = max(counts.products / PRODUCTS, counts.tiles / TILES, counts.wavefronts / WAVEFRONTS) / at_once
    clocks = LATENCY * (chunks + 2 * counts.barriers) + (max(coming, used) if together else coming + used)
    launching = counts.launches * (IN_A_GRAPH if graph else LAUNCH)
    return max(counts.memory / MEMORY, clocks / CLOCK) + launching


@dataclass(frozen=True)
class Modelled:
    """A size by one strategy: the counts, and microseconds of a step. None where there is no layout."""

    counts: Counts | None
    bound: float
    estimate: float


def modelled(strategy: str, dtype: str, batch: int, units: int, *, backward: bool) -> Modelled:
    """Model a step."""
    recurrence = recurrence_of(dtype, backward=backward)
    work = recurrence.work(batch, units, 4)
    if strategy == "fused":
        counts = counts_of_fused(recurrence, work)
        seconds = bound(counts, H200.multiprocessors, counts.launches, graph=False)
        return Modelled(counts, 1e6 * seconds, step_by_library(work, H200))
    resident = strategy == "persistent"
    layout = layout_for(work, H200, resident=resident)
    if layout is None:
        return Modelled(None, float("nan"), float("nan"))
    counts = counts_of(recurrence, work, layout, persistent=resident)
    depth = -(-work.depth // (16 if work.rounded else FOUR))
    chunks = -(-depth // (layout.chunk * layout.buffers))
    seconds = bound(counts, layout.blocks, chunks, together=layout.buffers > 1)
    estimated = persistent.estimate(recurrence, batch, units, "float32", H200, resident=resident)
    assert estimated is not None
    return Modelled(counts, 1e6 * seconds, estimated[0])


STRATEGIES = ("persistent", "step", "fused")
BATCHES, UNITS = (1, 16, 64, 256), (128, 512, 1024, 2048)
DTYPES = ("float32", "bfloat16")


def tables() -> list[str]:
    """The tables of docs/gpu.md, and those of docs/gpu-model.md."""
    return ["\n".join(table()) for table in (published, beside, others, diagonal, numbers, counted, timed)]


def _rows(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'|'.join([':---'] * len(head))}|"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def numbers() -> Iterator[str]:
    """What the rule reckons with."""
    rows = ((each.name, f"{each.value:g} {each.unit}", each.source) for each in NUMBERS)
    yield from _rows(("what", "number", "from"), rows)


# Microseconds of a step of the LSTM in training, bfloat16, by rows and units: estimated from the kernels' machine code
# as it was when it was first read, and what changes to it can bring; floors, of the bytes and latencies of an H200.
ESTIMATED = {
    (1, 512): (2.0, 1.3, 1.2),
    (16, 512): (2.4, 1.5, 1.4),
    (64, 512): (3.2, 1.7, 1.6),
    (16, 768): (3.2, 1.6, None),
    (1, 1024): (2.5, 1.4, 1.3),
    (16, 1024): (3.7, 1.8, 1.8),
    (64, 1024): (7.4, 3.2, 2.8),
    (1, 2048): (13.0, 1.9, 1.7),
    (16, 2048): (16.0, 3.6, 3.6),
    (64, 2048): (32.0, 11.0, 10.8),
}


def beside() -> Iterator[str]:
    """The persistent kernel then, and as it can be, beside the rule's estimates, the floor, and cuDNN."""

    def rows() -> Iterator[tuple[str, ...]]:
        for (batch, units), (then, can_be, floor) in ESTIMATED.items():
            call = Call(LSTMCell(), "float32", (1, batch), units, False, Way.TRAINING, "bfloat16")
            found, default = estimates(call, H200, waiting=True), strategies_for(DEFAULT, call, H200)[0]
            cudnn = f"{PUBLISHED[CUDNN]:g}" if (batch, units) == (16, 768) else ""
            rule = _short(found["persistent"]), f"{default}, {_short(found[default])}"
            yield f"{units}, {batch}", f"{then:g}", f"{can_be:g}", *rule, "" if floor is None else f"{floor:g}", cudnn

    heads = "persistent then", "as it can be", "by the rule", "default, by the rule", "floor", "cuDNN, float16, H100"
    yield from _rows(("H, B", *heads), rows())


def others() -> Iterator[str]:
    """What the rule expects of other cells, one of a user's own among them, in training, forward."""

    def rows() -> Iterator[tuple[str, ...]]:
        for cell in (LSTMCell(), GRUCell(), RNNCell(), TwoStates()):
            for batch, units in ((1, 512), (16, 512), (64, 1024)):
                for rounded_to in ("", "bfloat16"):
                    call = Call(cell, "float32", (1, batch), units, False, Way.TRAINING, rounded_to)
                    found = estimates(call, H200, waiting=True)
                    times = (_short(found[strategy]) for strategy in STRATEGIES)
                    chosen = (strategies_for(strategy, call, H200)[0] for strategy in (DEFAULT, AUTO))
                    yield type(cell).__name__, f"{units}, {batch}", rounded_to or "float32", *times, *chosen

    yield from _rows(("cell", "H, B", "operands", *STRATEGIES, "default", "auto"), rows())


def diagonal() -> Iterator[str]:
    """What a step of the diagonal LSTM has to move, by the numbers that its kernel reads and writes at each step.

    There is one launch for all steps, and what the input's product has written is read from memory.
    """

    def rows() -> Iterator[tuple[str, ...]]:
        code = compiled(DiagonalLSTMCell(shared=False))
        steps = {
            "inference": code.forward_step(keep=False),
            "training, forward": code.forward_step(keep=True),
            "backward": code.backward_step(),
        }
        for way, step in steps.items():
            needed = step.program.needed(step.results())
            expressions = [step.inputs[k] for k in needed if k in step.inputs]
            read = {part.place for each in expressions for part in parts_of(each) if isinstance(part, Load | Given)}
            numbers = sum("t" in place.needs for place in read)
            numbers += len(step.goals) + sum(each.each_step for each in step.carried)
            for batch, units in ((4, 256), (64, 512)):
                moved = 4 * numbers * batch * units
                yield way, f"{units}, {batch}", str(numbers), f"{moved / 1e6:.3g}", f"{1e6 * moved / MEMORY:.2g}"

    heads = "DiagonalLSTM, float32", "H, B", "numbers of an element", "MB of a step", "us at 4.8 TB/s"
    yield from _rows(heads, rows())


def counted() -> Iterator[str]:
    """The counts of a step forward, for some sizes."""

    def rows() -> Iterator[tuple[str, ...]]:
        for batch, units in ((1, 512), (64, 512), (16, 768), (64, 1024), (64, 2048)):
            for dtype in DTYPES:
                for strategy in STRATEGIES:
                    counts = modelled(strategy, dtype, batch, units, backward=False).counts
                    assert counts is not None
                    megabytes = [counts.memory, counts.operand, counts.weights, counts.shared]
                    numbers = [_short(number / 1e6) for number in (*megabytes, counts.products, counts.tiles)]
                    fixed = f"{counts.launches}", f"{counts.barriers}"
                    yield f"{units}, {batch}", dtype, strategy, *fixed, *numbers

    heads = "launches", "barriers", "memory, MB", "operand, MB", "weights, MB", "shared, MB", "FMA, M", "tiles, M"
    yield from _rows(("H, B", "operands", "strategy", *heads), rows())


def timed() -> Iterator[str]:
    """Bounds and estimates of all sizes."""

    def rows() -> Iterator[tuple[str, ...]]:
        for backward in (False, True):
            for dtype in DTYPES:
                for strategy in STRATEGIES:
                    for units in UNITS:
                        found = [modelled(strategy, dtype, batch, units, backward=backward) for batch in BATCHES]
                        cells = ["none" if each.counts is None else _both(each) for each in found]
                        yield "backward" if backward else "forward", dtype, strategy, str(units), *cells

    yield from _rows(("", "operands", "strategy", "H", *(f"B {batch}" for batch in BATCHES)), rows())


def published() -> Iterator[str]:
    """What others have published, and what is modelled at the same size, with the targets that follow from it.

    Of cuDNN only its kernel for float16 is published. Of its other kernels it is known that they launch at each step,
    as cuBLAS and a kernel do; that stands for them.
    """
    one = {"batch": 16, "units": 768}

    def rows() -> Iterator[tuple[str, ...]]:
        for name, published_us in PUBLISHED.items():
            yield name, "published, H100", f"{published_us:g}", "", "", ""
        for dtype in ("float16", *DTYPES):
            at_most = target(16, 768, dtype) * PUBLISHED[CUDNN if dtype == "float16" else CUBLAS]
            for strategy in STRATEGIES:
                found = modelled(strategy, dtype, **one, backward=False)
                verdict = (
                    "kept" if found.estimate <= at_most else f"missed, {found.estimate / at_most:.1f} times as long"
                )
                verdict = "can't be met" if found.bound > at_most else verdict
                numbers = map(_short, (found.bound, found.estimate, at_most))
                yield f"recurray, `{strategy}`, {dtype}", "model, H200", *numbers, verdict

    heads = "H 768, B 16, forward", "", "us a step; bound", "estimate", "target", "by the estimate"
    yield from _rows(heads, rows())


def _both(each: Modelled) -> str:
    return f"{_short(each.bound)} / {_short(each.estimate)}"


def _short(number: float) -> str:
    return f"{number:.2g}" if number < 99.5 else f"{number:.0f}"


if __name__ == "__main__":
    print("\n\n".join(tables()))
