"""The recurrent product on tensor cores: operands in float16 or bfloat16, sums in float32.

All arrays of the kernel are float32; its copies of the weights and of the operand in shared memory are rounded, two
numbers to a word. A warp, 32 threads, multiplies tiles of 16 rows of the weights by 8 rows of the batch, 16 products
for each sum at a time, by the instruction mma.m16n8k16. It needs compute capability 8.0.

Which thread has which numbers of a tile, with g = lane / 4 and t = lane % 4:

    of the weights, row by depth     (g, 2t), (g + 8, 2t), (g, 2t + 8), (g + 8, 2t + 8), each with its right neighbour
    of the operand, row by depth     (g, 2t), (g, 2t + 8), each with its right neighbour
    of the sums, row by row          (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1)
"""

from __future__ import annotations

from recurray_cupy.recurrence import Product, Recurrence, staging
from recurray_cupy.step import Step


class TensorCoreRecurrence(Recurrence):
    """A `Recurrence` whose product is on tensor cores. A tile is of 16 rows of the weights and 8, 16, ... of the batch.

    Parameters
    ----------
    step, product, backward
        See `Recurrence`.
    small : str
        "float16" or "bfloat16".
    """

    def __init__(self, step: Step, product: Product, *, backward: bool, small: str) -> None:
        super().__init__(step, product, backward=backward)
        self.small = small

    def _sums(self, tile: tuple[int, int]) -> list[str]:
        return [
            f"const int row_tiles = (rows + 15) / 16, column_tiles = (block_rows + {tile[1] - 1}) / {tile[1]};",
            "const int depth16 = (depth + 15) / 16;  // a chunk is of so many, too",
            "const int stride = 8 * resident + 4, chunk_stride = 8 * chunk + 4;  // the 32 threads' banks differ",
            "const int places = row_tiles * column_tiles, warp = threadIdx.x / 32, slice = warp / places;",
            "const int column = (warp % places) / row_tiles, row = warp % row_tiles;",
            "unsigned* weights = (unsigned*)shared_memory;  // (row_tiles * 16, stride)",
            "unsigned* staged = weights + row_tiles * 16 * stride;  // the like, if not all weights are resident",
            "unsigned* operand = staged + (resident < depth16 ? row_tiles * 16 * chunk_stride : 0);",
        ]

    def _read_weights(self) -> list[str]:
        first, second = (f"inside && k + {j} < depth ? {self.product.weight(j)} : (real)0" for j in range(2))
        return [
            "auto read_weights = [&](unsigned* to, int stride, int low16, int count16) {",
            "    const int low = 8 * low16, count = 8 * count16;",
            "#pragma unroll 4",
            "    for (int i = threadIdx.x; i < row_tiles * 16 * count; i += THREADS) {",
            *(f"    {line}" for line in self._which_weight("(row_tiles * 16)", "2")),
            f"        to[r * stride + j] = rounded({first},",
            f"                                     {second});",
            "    }",
            "};",
            "read_weights(weights, stride, 0, resident);",
        ]

    def _add_up(self, tile: tuple[int, int], factors: str) -> list[str]:
        return [
            f"    float sums[{tile[1] // 8}][4] = {{}};",
            "    for (int low = 0; low < depth16; low += chunk) {",
            "        const int count = least(chunk, depth16 - low);",
            "        if (low) __syncthreads();  // what was here has been read",
            f"        load_rounded(operand, chunk_stride, &{self.product.operand},",
            f"                     {factors}, own_rows, depth, 8 * low, 8 * count);",
            *staging(8),
            "        if (slice < slices)",
            "            multiply_rounded(sums, here + 16 * row * here_stride, here_stride,",
            f"                             operand, chunk_stride, {tile[1]} * column, own_rows, slice, slices, count);",
            "    }",
            "    __syncthreads();",
            "    if (slice < slices) {",
            "#pragma unroll",
            f"        for (int j = 0; j < {tile[1] // 8}; ++j) {{",
            "#pragma unroll",
            "            for (int i = 0; i < 4; ++i) {",
            "                const int lane = threadIdx.x % 32, r = 16 * row + lane / 4 + i / 2 * 8;",
            f"                const int c = {tile[1]} * column + 8 * j + lane % 4 * 2 + i % 2;",
            "                if (r >= rows || c >= block_rows) continue;",
            "                partial[(slice * block_rows + c) * rows + r] = sums[j][i];",
            "            }",
            "        }",
            "    }",
        ]
