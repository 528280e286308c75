"""The same kernels with the product on tensor cores."""

from __future__ import annotations

from typing import ClassVar

from recurray_cupy.kernel import Body, fixed_text, variable
from recurray_cupy.kernels import indented
from recurray_cupy.persistent.elements import KEPT, Elements
from recurray_cupy.persistent.plan import Plan
from recurray_cupy.persistent.product import Product
from recurray_cupy.persistent.recurrence import Recurrence
from recurray_cupy.persistent.waiting import say
from recurray_cupy.step import MASK, Array, Place, Step

TYPES = {"float16": "f16", "bfloat16": "bf16"}  # of rounded operands, in the instructions
WEIGHT_BITS, HANDED = Array("weight", "unsigned short"), Array("handed", "unsigned short")


class TensorCoreRecurrence(Recurrence):
    """A `Recurrence` whose product is on tensor cores: operands in float16 or bfloat16, sums in float32.

    The arrays of the kernel are float32 but for `weight` (parts * H, depth16 * 16), rounded, and `handed` (2, B,
    depth16 * 16), in which blocks hand each other what the product is with, masked and rounded: of two steps that
    follow each other, as nobody needs what was before. With zeros at the end of each row both can be copied to shared
    memory as they are. A kernel for several steps begins by rounding the state that it starts with; for a single step
    that is there.

    A warp, 32 threads, multiplies 16, 32, ... rows of the weights by 8, 16, ... rows of the batch, the tile of the
    kernel, 16 by 8 with 16 products for each sum at a time, by the instruction mma.m16n8k16. It needs compute
    capability 8.0. Several chunks of the operand may be on their way to shared memory at a time, and in a kernel for
    one layout a warp may have the weights of its first steps through the depth in registers.

    Which thread has which numbers of a tile, with g = lane / 4 and t = lane % 4:

        of the weights, row by depth   (g, 2t), (g + 8, 2t), (g, 2t + 8), (g + 8, 2t + 8), each and its right neighbour
        of the operand, row by depth   (g, 2t), (g, 2t + 8), each and its right neighbour
        of the sums, row by row        (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1)

    Parameters
    ----------
    step, product
        See `Recurrence`.
    rounded_to : str
        "float16" or "bfloat16".
    """

    # Whose absolute error is that of float32 near 1: what they give is rounded in each product.
    _depth, _at_a_time = "depth16", 16
    _functions: ClassVar[dict[str, str]] = {"tanh": "quick_tanh", "logistic": "quick_logistic"}

    def __init__(self, step: Step, product: Product, *, rounded_to: str) -> None:
        super().__init__(step, product)
        self.rounded_to = rounded_to
        self._state = next((each for each in self.step.carried if each.store.array == product.operand), None)
        if self._state is not None:
            self._counted_ahead = "(steps > 1)"

    def _ahead(self, threads: int) -> str:
        more = fixed_text("tensor_cores.cuh", __package__)
        return f"{super()._ahead(threads)}\n#define TYPE {TYPES[self.rounded_to]}\n{more}"

    def _is_own(self, place: Place) -> bool:
        return True

    def _handed(self, body: Body, written: str, k: int = 0) -> str:
        """The place of a number of the element, the k-th, that is handed on."""
        gate = f"{k} * units + " if k else ""
        return body.store(Place(HANDED, f"(long long)((({written}) & 1) * batch + b) * pitch + {gate}u", "bu"))

    def _state_handed(self, body: Body, elements: Elements, written: str, number: str) -> str:
        factor = "factor[own]" if elements.in_registers else self._factor(body)
        return f"{self._handed(body, written)} = half_of({number} * {factor});"

    def _factor(self, body: Body) -> str:
        return f"({body.array(MASK.array)} ? {body.load(MASK)} : 1)"

    def _begin(self, body: Body, elements: Elements) -> list[str]:
        if self._state is None:
            return []
        kept = body.load(Place(KEPT, f"{self.step.carried.index(self._state)} * each + own", ""))

        def hand_on() -> list[str]:
            return [self._state_handed(body, elements, self.product.read, kept)]

        factor = []
        if elements.in_registers:
            factor = ["real factor[each];", *elements.write(body, lambda: [f"factor[own] = {self._factor(body)};"])]
        return [
            *factor,
            "if (steps > 1) {",
            *indented(["const int t = start;", *elements.write(body, hand_on), *say(body, "unit_groups > 1")]),
            "}",
        ]

    def _hand_on(self, body: Body, elements: Elements) -> tuple[list[str], list[str], list[str]]:
        if self._state is not None:
            return [], [], [self._state_handed(body, elements, self.product.written, self._state.name)]
        goals = [goal for goal in self.step.goals if goal.place.array == self.product.operand]
        places = [self._handed(body, self.product.written, k) for k in range(len(goals))]
        valid = [f"{place} = half_of({variable(goal.value)});" for place, goal in zip(places, goals, strict=True)]
        return valid, [f"{place} = 0;" for place in places], []

    def _sums(self, tile: tuple[int, int], held: int) -> list[str]:
        return [
            f"const int row_tiles = (rows + {tile[0] - 1}) / {tile[0]};",
            f"const int column_tiles = (block_rows + {tile[1] - 1}) / {tile[1]};",
            "const int depth16 = (depth + 15) / 16, pitch = 16 * depth16;  // a chunk is of so many, too",
            "const int chunks = (depth16 + chunk - 1) / chunk;",
            f"const int in_registers = {held} * slices;  // of the depth",
            "const int stride = 8 * (resident - in_registers) + 4;  // the 32 threads' banks differ",
            "const int chunk_stride = 8 * chunk + 4;",
            "const int places = row_tiles * column_tiles, warp = threadIdx.x / 32, slice = warp / places;",
            "const int column = (warp % places) / row_tiles, row = warp % row_tiles;",
            f"const int weight_rows = {tile[0]} * row_tiles;",
            "const int apart = weight_rows + 4;  // sums of two rows of the batch are in different banks",
            "unsigned* weights = (unsigned*)shared_memory;  // (weight_rows, stride)",
            "const int staged_size = resident < depth16 ? weight_rows * chunk_stride : 0;  // if some aren't there",
            "unsigned* staged = weights + weight_rows * stride;  // (buffers, weight_rows, chunk_stride)",
            "unsigned* operand = staged + buffers * staged_size;  // (buffers, block_rows, chunk_stride)",
        ]

    def _read_weights(self, body: Body, tile: tuple[int, int], plan: Plan | None) -> list[str]:
        units = f"{self.product.parts}, units, first_unit, block_units"
        weight, held = body.array(WEIGHT_BITS), 0 if plan is None else plan.layout.held
        lines = [
            "auto read_weights = [&](unsigned* to, int stride, int low, int count) {",
            f"    load_weights(to, stride, {weight}, pitch, weight_rows, {units}, low, count);",
            "};",
            "read_weights(weights, stride, in_registers, resident - in_registers);",
            "end_group();",
        ]
        if held:
            lines += [
                f"unsigned held[{held}][{tile[0] // 16}][4];",
                "if (slice < slices)",
                f"    hold_weights(held, {weight}, pitch, {units}, {tile[0]} * row, slice, slices);",
            ]
        return lines

    def _add_up(self, body: Body, tile: tuple[int, int], plan: Plan | None) -> list[str]:
        first = f"(long long)((({self.product.read}) & 1) * batch + first_row) * pitch"
        handed = body.store(Place(HANDED, first, ""))
        begun, by_held = self._by_held(plan)
        chunk = self._chunk(plan)
        return [
            f"    float sums[{tile[0] // 16}][{tile[1] // 8}][4] = {{}};",
            "    auto begin = [&](int k) {",
            *(f"        {line}" for line in chunk),
            f"        load_handed(operand + buffer * block_rows * chunk_stride, chunk_stride, &{handed},",
            "                    pitch, own_rows, low, count);",
            "    };",
            "    auto multiply_chunk = [&](int k) {",
            "        if (slice >= slices) return;",
            *(f"        {line}" for line in chunk),
            f"        const Operand<{tile[1] // 8}> own(operand + buffer * block_rows * chunk_stride, chunk_stride,",
            f"                             {tile[1]} * column, own_rows);",
            *by_held,
            "        const bool resides = resident == depth16 || low < resident;  // no chunk is there in part",
            "        const unsigned* here = resides ? weights + 8 * (low - in_registers)",
            "                                       : staged + buffer * staged_size;",
            "        const int here_stride = resides ? stride : chunk_stride;",
            f"        multiply_rounded(sums, here + {tile[0]} * row * here_stride, here_stride,",
            f"                         own, {begun}, slice, slices, count);",
            "    };",
            f"    by_chunks(chunks, buffers, {self._weights_of_chunks(plan)}, begin, [](int) {{}}, multiply_chunk);",
            "    if (slice < slices)",
            f"        store_sums(sums, partial + slice * block_rows * apart + {tile[0]} * row, apart,",
            f"                   {tile[1]} * column, block_rows);",
        ]
