"""Whether it pays to run the layers of a stack as a wave, and in how many parts: plain arithmetic.

In a wave a layer works on some steps while the one below works on those that come next, each with its share of the GPU.
With C parts and L layers a wave takes the time of C + L - 1 parts: it has to rise and to ebb away. Many short parts
make that little, but each of them is a launch, and an input product, of its own.

As in `recurray_cupy.plan`, the clocks are guesses; none of this has been timed on a GPU yet.
"""

from __future__ import annotations

from recurray_cupy.plan import Device, Work, clocks_by_library, clocks_of_product, plan_for

COUNTS = (2, 4, 8, 16, 32, 64)  # of parts
PART = 20_000  # clocks that a part takes the GPU beyond its steps: its launches, and reading the weights anew
QUEUE = 150_000  # clocks until the host has queued a part of a layer
WORTH_IT = 0.9  # what a wave takes of the time of layers one after another, at most


def clocks_of_wave(steps: int, layers: int, count: int, clocks: float) -> float:
    """Estimate what a wave of so many parts takes, where a step takes each of the layers at the same time ``clocks``.

    Examples
    --------
    If the GPU is to be kept waiting for the host, more parts take longer:

    >>> [clocks_of_wave(512, 4, count, clocks=3000) for count in (2, 4, 8, 16)]
    [3940000.0, 2828000.0, 4800000, 9600000]
    """
    part = -(-steps // count)
    count = -(-steps // part)
    return max((count + layers - 1) * (part * float(clocks) + PART), layers * count * QUEUE)


def part_steps(work: Work, device: Device, *, layers: int, steps: int) -> int:
    """Return the steps of a part; all of them if the layers had better run one after another.

    Parameters
    ----------
    work : Work
        Of each layer's recurrence.
    device : Device
    layers, steps : int

    Examples
    --------
    Four layers of 256 units and one row have room beside each other on an H200, of 1,024 units they haven't:

    >>> h200 = Device(multiprocessors=132, shared=232_448)
    >>> part_steps(Work(1, 256, 4, 256, 4, 2, 4), h200, layers=4, steps=512)
    128
    >>> part_steps(Work(1, 1024, 4, 1024, 4, 2, 4), h200, layers=4, steps=512)
    512
    """
    alone, at_once = (plan_for(work, device, resident=True, count=count) for count in (1, layers))
    if alone is None or at_once is None:
        return steps
    product = clocks_of_product(work, device)  # of the input, most often as large as the output
    clocks = layers * (at_once.clocks + product)  # of a plan these are a layer's part
    one_by_one = layers * steps * (min(alone.clocks, clocks_by_library(work, device)) + product)
    best = min(COUNTS, key=lambda count: clocks_of_wave(steps, layers, count, clocks))
    pays = clocks_of_wave(steps, layers, best, clocks) < WORTH_IT * one_by_one
    return -(-steps // best) if pays else steps
