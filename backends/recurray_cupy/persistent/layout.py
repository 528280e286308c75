"""How a recurrence is laid out on a GPU whose blocks make the recurrent product themselves: plain arithmetic.

Each block of threads has some of the units, for some of the rows of the batch. It keeps in its shared memory the
weights that lead to its units, so they are read once for all steps of a launch; where they are too many, a part of them
is read anew at each step, which most of them come to from the second-level cache. Blocks with the same rows wait for
each other at each step; rows don't wait for other rows. `layout_for` chooses how many units and rows a block has.

The clocks are estimates by `recurray_cupy.costs`; none of this has been timed on a GPU yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

from recurray_cupy.costs import (
    BARRIER,
    CHUNK,
    ELEMENT,
    FETCH,
    ISSUED,
    MEETING,
    NO_BARRIER,
    TILE,
    Work,
    weights_rate,
)
from recurray_cupy.library import Device

# Sums that a thread has in registers: rows of the weights x rows of the batch. More mean fewer reads for each sum.
TILES = ((1, 1), (2, 1), (4, 1), (4, 4), (4, 8), (6, 8))
TENSOR_TILES = (
    *((16, 8), (16, 16), (16, 32), (16, 64)),
    *((32, 8), (32, 16), (32, 32), (64, 8), (64, 16), (64, 32)),
)  # of a warp, on tensor cores
BUFFERS = (1, 2, 4)  # chunks that have room at a time
HELD = 96  # registers of a thread for weights, and with those of its sums:
HELD_WITH_SUMS = 144
HELD_FOURS, HELD_FOURS_WITH_SUMS = 128, 136  # not on tensor cores, and then with those of the operand too
HELD_CHUNKS = 4  # at most, in which there are such weights: each has a text of its own
FOUR = 4  # numbers are read four at a time
FLAG = 4  # numbers' room for what the threads of a block tell each other


@dataclass(frozen=True)
class Layout:
    """A layout.

    Attributes
    ----------
    block_units, block_rows : int
        Of a block, at most.
    unit_groups, row_groups : int
        How many blocks share the units, and the rows.
    tile : tuple of int
        One of `TILES`, or of `TENSOR_TILES`.
    threads : int
        Of a block.
    slices : int
        How many threads share the depth of a sum.
    chunk : int
        How much of the operand's depth is in shared memory at a time, in fours, or in sixteens on tensor cores.
    resident : int
        For how much of the depth, in the same, the weights stay on the multiprocessor: for all of it, or for some
        chunks, and then there is room for others of the rest.
    area : int
        Numbers of the shared memory that hold the chunks, and then the slices' sums.
    shared : int
        Bytes of shared memory of a block.
    clocks : float
        What a step is estimated to take.
    buffers : int
        How many chunks there is room for: while one is multiplied the next ones come.
    held : int
        For how many of its steps through the depth, the first ones, a thread (on tensor cores a warp) has the weights
        in registers; those aren't in shared memory.
    """

    block_units: int
    block_rows: int
    unit_groups: int
    row_groups: int
    tile: tuple[int, int]
    threads: int
    slices: int
    chunk: int
    resident: int
    area: int
    shared: int
    clocks: float
    buffers: int = 1
    held: int = 0

    @property
    def blocks(self) -> int:
        """Blocks of a launch."""
        return self.unit_groups * self.row_groups


@lru_cache(maxsize=1024)
def layout_for(work: Work, device: Device, *, resident: bool, holding: bool = True) -> Layout | None:
    """Return the layout that is estimated to be the fastest, None if there is none.

    Parameters
    ----------
    work : Work
    device : Device
    resident : bool
        Whether all blocks have to be on the GPU at once: they have if they wait for each other, and a launch of one
        step needn't.
    holding : bool
        Whether weights may be in registers, which only a kernel for one layout can have there.

    Examples
    --------
    A block holds 64 units of an LSTM in float32, which need no other block; 512 units are spread over the GPU:

    >>> h200 = Device(multiprocessors=132, shared=232_448)
    >>> layout_for(Work(1, 64, 4, 64, 4, 8, 2, 4), h200, resident=True).unit_groups
    1
    >>> layout = layout_for(Work(64, 512, 4, 512, 4, 8, 2, 4), h200, resident=True)
    >>> layout.blocks <= 132, layout.unit_groups > 1
    (True, True)

    The weights of 2048 units are more than the shared memory of the whole GPU holds. A part of them stays there:

    >>> layout = layout_for(Work(1, 2048, 4, 2048, 4, 8, 2, 4), h200, resident=True)
    >>> layout.blocks, 4 * layout.resident, layout.tile  # resident: of 2048
    (128, 1024, (4, 1))
    """
    if work.rounded and not device.tensor_cores:
        return None
    most = device.multiprocessors if resident else max(device.multiprocessors, work.units)
    best: Layout | None = None
    for block_units in dict.fromkeys(-(-work.units // groups) for groups in range(1, most + 1)):
        unit_groups = -(-work.units // block_units)
        if resident and unit_groups > 1 and not device.cooperative:
            continue
        row_groups = min(work.batch, max(1, most // unit_groups))
        block_rows = -(-work.batch // row_groups)
        groups = unit_groups, -(-work.batch // block_rows)
        for tile in TENSOR_TILES if work.rounded else TILES:
            options = {"stays": resident, "holding": holding and resident}
            layout = _laid_out(work, device, block_units, block_rows, groups, tile, **options)
            if layout is not None and (best is None or layout.clocks < best.clocks):
                best = layout
    return best


def _laid_out(
    work: Work,
    device: Device,
    block_units: int,
    block_rows: int,
    groups: tuple[int, int],
    tile: tuple[int, int],
    *,
    stays: bool = True,
    holding: bool = False,
) -> Layout | None:
    """The fastest layout of blocks with a tile: as many of the weights stay as there is room for beside the chunks.

    ``stays`` tells whether what is resident is there at the next step, or is read by a launch of its own.
    """
    rows, elements = work.parts * block_units, block_units * block_rows
    places = -(-rows // tile[0]) * -(-block_rows // tile[1])
    depth = -(-work.depth // (16 if work.rounded else FOUR))
    workers = device.threads // 32 if work.rounded else device.threads
    slices = min(workers // places, depth)
    if slices < 1:
        return None
    weight_rows = _up(rows, tile[0]) if work.rounded else rows
    apart = weight_rows + 4 if work.rounded else rows
    fixed = elements * (work.early + work.carried) + block_units * work.fixed + FLAG
    room = device.shared // work.itemsize - fixed
    most_held = _most_held(tile, work) if holding else 0

    def numbers(rows: int, count: int) -> int:
        """Of so many rows, so much of the depth; two to a word on tensor cores. Rows begin in different banks."""
        return rows * (8 * count + 4 if work.rounded else FOUR * (count | 1))

    def laid_out(chunk: int, buffers: int, held: int, resident: int) -> Layout | None:
        area = max(buffers * numbers(block_rows, chunk), _up(slices * apart * block_rows, FOUR))
        weights = numbers(weight_rows, resident - held * slices)
        weights += buffers * numbers(weight_rows, chunk) if resident < depth else 0
        if weights + area > room:
            return None
        of_block = block_units, block_rows, *groups, tile, device.threads, slices
        shared = (fixed + weights + area) * work.itemsize
        estimate = clocks(chunk, buffers, held, resident if stays else 0)
        return Layout(*of_block, chunk, resident, area, shared, estimate, buffers, held)

    def clocks(chunk: int, buffers: int, held: int, resident: int) -> float:
        """Estimate the clocks of a step, to which so much of the weights is there."""
        words, warps, chunks = work.itemsize / 4, device.threads / 32, -(-depth // chunk)
        rounds = -(-chunk // slices) * chunks
        itemsize = 2 if work.rounded else work.itemsize
        if work.rounded:  # by a tensor core in each quarter of a multiprocessor
            multiply = rounds * tile[0] / 16 * tile[1] / 8 * TILE * warps / 4
            read = ((rounds - held) * tile[0] + rounds * tile[1]) / 4 * warps
        else:
            reads = (rounds - held) * tile[0] + rounds * tile[1]
            multiply = (rounds * (FOUR * tile[0] * tile[1] + ISSUED) + reads) * warps / 4 * words  # 4 warps at a time
            read = reads * warps * 2 * words
        add_up = -(-rows * block_rows // device.threads) * slices * 4 + 100
        elementwise = -(-elements // device.threads) * ELEMENT
        wait = BARRIER if stays and groups[0] > 1 else NO_BARRIER
        # Weights wait for nothing that the operand of the chunk doesn't wait for. Of the first chunks they come while
        # the step before ends, and while other blocks are waited for.
        fetch = block_rows * work.depth * itemsize / FETCH
        anew = (depth - resident) * (16 if work.rounded else FOUR) * itemsize
        rate = weights_rate(anew * work.parts * work.units, device)
        ahead = min(weight_rows * anew, buffers * chunk * per_depth * work.itemsize) / rate if stays else 0
        fetch += weight_rows * anew / rate - min(ahead, add_up + elementwise + wait)
        coming, used = fetch / chunks, max(multiply, read) / chunks  # of a chunk
        between = max(coming, used)
        if buffers < chunks:  # a chunk can come when another has been used
            between = max(between, (CHUNK + coming + used) / buffers)
        multiplied = CHUNK + coming + (chunks - 1) * between + used + MEETING * chunks
        # If there are more blocks than multiprocessors, they run in turns, and read their weights anew.
        turns = -(-groups[0] * groups[1] // device.multiprocessors)
        return turns * (multiplied + add_up + elementwise) + wait

    chunks, best = [depth >> k for k in range(depth.bit_length())], None
    per_depth = weight_rows * (8 if work.rounded else FOUR)
    # In float32 a register holds one number, so they are only taken where that makes a step faster.
    holds = (most_held,) if work.rounded else tuple(dict.fromkeys((0, most_held)))
    for chunk, buffers, most in product(chunks[:6], BUFFERS, holds):  # more and smaller ones would take longer
        if (buffers - 1) * chunk >= depth:
            continue
        most_here = chunk // slices * (1 if chunk % slices else HELD_CHUNKS)
        held = min(most, depth // slices, most_here)
        whole = laid_out(chunk, buffers, held, depth)
        if whole is None and groups[0] * groups[1] <= device.multiprocessors:  # else all are read anew in any case
            # As many chunks of the weights as there is room for, beside some of the others.
            left = room - buffers * (numbers(block_rows, chunk) + numbers(weight_rows, chunk)) - 4 * weight_rows
            fitting = left // per_depth + held * slices
            counts = range(min(fitting, depth - 1) // chunk, -1, -1)
            parts = ((min(held, count * chunk // slices), count * chunk) for count in counts)
            whole = next(filter(None, (laid_out(chunk, buffers, *part) for part in parts)), None)
        if whole is not None and (best is None or whole.clocks < best.clocks):
            best = whole
    return best


def _most_held(tile: tuple[int, int], work: Work) -> int:
    """For how many of its steps through the depth a thread has registers for the weights."""
    if work.rounded:
        return min(HELD, HELD_WITH_SUMS - tile[0] * tile[1] // 32) // (tile[0] // 4)
    words = work.itemsize // 4
    others = (tile[0] + FOUR) * tile[1] * words
    return max(0, min(HELD_FOURS, HELD_FOURS_WITH_SUMS - others)) // (FOUR * tile[0] * words)


def _up(count: int, step: int) -> int:
    return step * -(-count // step)
