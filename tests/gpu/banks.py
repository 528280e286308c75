"""How often shared memory has to be asked, by arithmetic on the addresses that the kernels' layout gives a warp.

Shared memory has 32 banks of a word, four bytes, and answers a warp in wavefronts of 32 words, one of each bank: what
several threads want of one word comes once, two words of one bank take two. Accesses of two words go by half a warp,
those of four words by a quarter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from recurray_cupy.costs import Work
from recurray_cupy.persistent.layout import Layout

BANKS = 32
LANES = range(32)


def wavefronts(addresses: Iterable[int], words: int = 1) -> int:
    """How many a warp's access takes: its threads' addresses, in words, and how many words each wants.

    Examples
    --------
    >>> wavefronts(range(32)), wavefronts([0] * 32), wavefronts(range(0, 64, 2)), wavefronts(range(0, 128, 4), words=4)
    (1, 1, 2, 4)
    """
    total, every, together = 0, list(addresses), 32 // words
    for first in range(0, len(every), together):
        wanted = {address + k for address in every[first : first + together] for k in range(words)}
        total += max(sum(word % BANKS == bank for word in wanted) for bank in range(BANKS))
    return total


def of_tiles(layout: Layout, work: Work) -> float:
    """Those of the product's loads for each tile of 16 by 8 by 16, on tensor cores."""
    in_registers = layout.held * layout.slices
    stride, operand_stride = 8 * (layout.resident - in_registers) + 4, 8 * layout.chunk + 4
    down, across = layout.tile[0] // 16, layout.tile[1] // 8
    weights = [
        [(8 * i + lane // 4) * stride + lane % 4 + right for lane in LANES] for right in (0, 4) for i in range(2 * down)
    ]
    operand = [
        [min(8 * j + lane // 4, layout.block_rows - 1) * operand_stride + lane % 4 + right for lane in LANES]
        for j in range(across)
        for right in (0, 4)
    ]
    from_shared = 1 - in_registers / -(-work.depth // 16)
    return (from_shared * sum(map(wavefronts, weights)) + sum(map(wavefronts, operand))) / (down * across)


def of_partial_stores(layout: Layout, work: Work) -> float:
    """Those of a store of a warp's sums, of a tile inside the block's."""
    stores = list(_partial_stores(layout, layout.tile[0] * -(-work.parts * layout.block_units // layout.tile[0]) + 4))
    return sum(map(wavefronts, stores)) / len(stores)


def _partial_stores(layout: Layout, apart: int) -> Iterator[list[int]]:
    for j in range(layout.tile[1] // 8):
        for i in range(4):
            yield [(8 * j + lane % 4 * 2 + i % 2) * apart + lane // 4 + i // 2 * 8 for lane in LANES]
