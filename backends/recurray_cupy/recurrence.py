"""Kernels that make the recurrent product as well as the cell's step, for one step or for all.

The blocks of a launch divide the units and the rows of the batch among them; see `recurray_cupy.layout`. A block reads
the weights that lead to its units into shared memory, or as many as there is room for. Then, step after step:

    early     what doesn't depend on the step before is read
    wait      until the other blocks with the same rows have written what the product is with
    product   each thread adds up some sums over a slice of the depth, chunk by chunk, reading the weights that aren't
              there yet; the slices' sums are added up
    cell      the recorded program, each thread for elements of its own
    arrive    the block says that it has written its part

With one step in a launch nothing waits, and the kernel is otherwise the same. What blocks hand each other goes through
the arrays of the whole sequence, a part for each step, so that nothing is written to twice. If a block waits in vain,
which is a fault, all that it computes from then on is NaN, and `fault` is set.

`part` of the sums, `depth` of a sum, the fours that a depth is read in: see `recurray_cupy.layout.Work`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from recurray.cells.cell import Cell
from recurray_cupy.elements import LENGTH, mentions, written_by
from recurray_cupy.expressions import literal
from recurray_cupy.kernel import Kernel, kernel
from recurray_cupy.layout import Work
from recurray_cupy.schedule import schedule
from recurray_cupy.step import Carried, Step
from recurray_cupy.stretches import Stretches

OWN = (
    "gates",
    "early",
    "kept",
    "partial",
    "weights",
    "staged",
    "operand",
    "to",
    "sums",
)  # arrays that the kernel declares


@dataclass(frozen=True)
class Product:
    """The recurrent product, as a kernel has to make it.

    Attributes
    ----------
    parts : int
        Sums for each unit.
    gates : int
        By what the units are multiplied to give the depth.
    operand : str
        The place of a number of the operand at the step t: of the row `first_row`, the first of the depth.
    factors : str
        What the operand is multiplied by, a place of the same kind; empty if nothing.
    weight : callable
        From an offset j to the place of a weight: for the part p of the unit u, the number k + j of the depth.
    units_together : bool
        Whether a weight's neighbours are those of other units, rather than of the same depth.
    """

    parts: int
    gates: int
    operand: str
    factors: str
    weight: Callable[[int], str]
    units_together: bool


def forward_product(cell: Cell) -> Product:
    """The output before the step, times the weights."""
    return Product(
        parts=len(cell.outer_gates),
        gates=1,
        operand="state_h[(long long)(t + reverse) * n + (long long)first_row * depth]",
        factors="mask[(long long)first_row * depth]",
        weight=lambda j: f"weight[((long long)p * units + u) * depth + k + {j}]",
        units_together=False,
    )


def backward_product(cell: Cell, *, shared: bool) -> Product:
    """The gates' gradients of the step that came after, times the weights."""
    gates = len(cell.outer_gates)
    array = "dx_gates" if shared else "dh_gates"
    return Product(
        parts=1,
        gates=gates,
        operand=f"{array}[((long long)(t + 1 - 2 * reverse) * batch + first_row) * depth]",
        factors="",
        weight=lambda j: f"weight[(long long)(k + {j}) * units + u]",
        units_together=True,
    )


class Recurrence:
    """A step and its product, to be written as a kernel.

    Parameters
    ----------
    step : Step
        Without means, and without a product amid it.
    product : Product
    backward : bool
        Whether it is a step backward.

    Attributes
    ----------
    early : dict of str to str
        The places that are read ahead of the product, and where they are kept until the cell's turn.
    small : str
        The type of the product's operands in shared memory, if it isn't that of the arrays; else empty.
    """

    small = ""

    def __init__(self, step: Step, product: Product, *, backward: bool) -> None:
        self.product, self.backward = product, backward
        needed = schedule(step).stretch
        early: dict[str, str] = {}

        def kept(place: str) -> str:
            return early.setdefault(place, f"early[{len(early)} * elements + el]")

        inputs = {}
        for k, place in step.inputs.items():
            # Carried numbers and the product's sums are there later, but what is added to them can be read ahead.
            is_sum = "gates[g" in place
            late, plus, rest = place.partition("] + ") if is_sum else place.rpartition("} + ")
            if k not in needed or ((is_sum or "{" in place) and not plus):
                inputs[k] = place
            else:
                inputs[k] = f"{late}{plus}{kept(rest)}"
        self.step = replace(step, inputs=inputs)
        self.early = early
        self.stretches = Stretches(self.step)
        self._kernels: dict[tuple[tuple[int, int], int], Kernel] = {}

    def work(self, batch: int, units: int, itemsize: int) -> Work:
        """What a step is, for a layout to be chosen."""
        product = self.product
        depth, carried = product.gates * units, len(self.step.carried)
        return Work(batch, units, product.parts, depth, len(self.early), carried, itemsize, bool(self.small))

    def kernel(self, tile: tuple[int, int], threads: int) -> Kernel:
        """The kernel for a tile and a number of threads of a block."""
        key = tile, threads
        if key not in self._kernels:
            self._kernels[key] = self._write(tile, threads)
        return self._kernels[key]

    def _write(self, tile: tuple[int, int], threads: int) -> Kernel:
        lines = [
            *self._layout(tile),
            *self._read_weights(),
            *_for_each_element([f"kept[{k} * elements + el] = {each.load};" for k, each in self._carried()], "start"),
            "bool failed = false;",
            "int t = start;",
            f"for (int step = 0; step < steps; ++step, t += {self.step.stride}) {{",
            *_indented(
                [
                    *_for_each_element(
                        ["if (lengths && t >= lengths[b]) continue;"]
                        + [f"{slot} = {place};" for place, slot in self.early.items()]
                    ),
                    *WAIT,
                    *self._multiply(tile),
                    *(["__syncthreads();"] if self.product.parts > 1 else []),  # else a thread reads its own sums alone
                    *self._cell(),
                    "__syncthreads();",
                    *ARRIVE,
                ]
            ),
            "}",
            *_for_each_element(
                [f"{each.store} = kept[{k} * elements + el];" for k, each in self._carried() if not each.each_step]
            ),
        ]
        name = f"{self.step.name}_by_{tile[0]}_{tile[1]}"
        written = (written_by(lines) | {"arrivals", "fault"}) - set(OWN)
        return kernel(name, lines, written, threads=threads, own=OWN, small=self.small)

    def _carried(self) -> list[tuple[int, Carried]]:
        return list(enumerate(self.step.carried))

    def _layout(self, tile: tuple[int, int]) -> list[str]:
        """Which units and rows the block has, where its arrays are, and which sums the thread has."""
        parts, gates = self.product.parts, self.product.gates
        return [
            "const long long n = (long long)batch * units;",
            "const int unit_groups = (units + block_units - 1) / block_units, row_group = blockIdx.x / unit_groups;",
            "const int first_unit = (blockIdx.x - row_group * unit_groups) * block_units;",
            "const int first_row = row_group * block_rows, own_rows = least(block_rows, batch - first_row);",
            f"const int depth = {gates} * units;",
            f"const int rows = {parts} * block_units, elements = block_units * block_rows;",
            *self._sums(tile),
            "real* partial = (real*)operand;  // (slices, block_rows, rows)",
            "real* gates = partial + area;  // (block_rows, parts, block_units)",
            "real* early = gates + rows * block_rows;  // (early, block_rows, block_units)",
            f"real* kept = early + {len(self.early)} * elements;  // (carried, block_rows, block_units)",
            f"int* gave_up = (int*)(kept + {len(self.step.carried)} * elements);",
        ]

    def _sums(self, tile: tuple[int, int]) -> list[str]:
        """How the weights and the operand lie in shared memory, and which of the sums the thread has."""
        return [
            "const int depth4 = (depth + 3) / 4;",
            "const int stride = resident | 1, chunk_stride = chunk | 1;  // odd: rows begin in different banks",
            "Four* weights = (Four*)shared_memory;  // (rows, stride)",
            "Four* staged = weights + rows * stride;  // (rows, chunk_stride) if not all weights are resident",
            "Four* operand = staged + (resident < depth4 ? rows * chunk_stride : 0);",
            f"const int rows_apart = (rows + {tile[0] - 1}) / {tile[0]};",
            f"const int columns_apart = (block_rows + {tile[1] - 1}) / {tile[1]};",
            "const int slice = threadIdx.x / (rows_apart * columns_apart);",
            "const int column = (threadIdx.x - slice * rows_apart * columns_apart) / rows_apart;",
            "const int row = threadIdx.x % rows_apart;",
        ]

    def _read_weights(self) -> list[str]:
        reads = [f"inside && k + {j} < depth ? {self.product.weight(j)} : (real)0" for j in range(4)]
        fours = [
            "        if (in_fours && inside) {",
            f"            to[r * stride + j] = *(const Four*)&{self.product.weight(0)};",
            "            continue;",
            "        }",
        ]
        if self.product.units_together:
            aligned, fours = [], []
        else:  # a weight's array may be a part of a larger one, which begins anywhere
            aligned = ["const bool in_fours = depth % 4 == 0 && (unsigned long long)weight % sizeof(Four) == 0;"]
        return [
            *aligned,
            "auto read_weights = [&](Four* to, int stride, int low, int count) {",
            "#pragma unroll 4",
            "    for (int i = threadIdx.x; i < rows * count; i += THREADS) {",
            *_indented(self._which_weight("rows", "4")),
            *fours,
            f"        to[r * stride + j] = Four{{{reads[0]},",
            *(f"                                  {read}," for read in reads[1:3]),
            f"                                  {reads[3]}}};",
            "    }",
            "};",
            "read_weights(weights, stride, 0, resident);",
        ]

    def _which_weight(self, rows: str, width: str) -> list[str]:
        """Find what a thread is to read, the i-th of ``rows`` times ``count``, so that neighbours read side by side."""
        order = (f"i % {rows}", f"i / {rows}") if self.product.units_together else ("i / count", "i % count")
        place = f"    const int r = {order[0]}, j = {order[1]}, k = {width} * (low + j);"
        unit = "    const int u = first_unit + r % block_units, p = r / block_units;"
        return [place, unit, "    const bool inside = u < units && r < rows;", "    (void)p;"]

    def _multiply(self, tile: tuple[int, int]) -> list[str]:
        factors = self.product.factors
        factors = f"mask ? &{factors} : (const real*)0" if factors else "(const real*)0"
        return [
            "if (t == skip || failed) {",
            "    for (int i = threadIdx.x; i < rows * block_rows; i += THREADS)",
            f"        gates[i] = failed ? {literal(float('nan'))} : (real)0;",
            "} else {",
            *self._add_up(tile, factors),
            "    __syncthreads();",
            "    for (int i = threadIdx.x; i < rows * block_rows; i += THREADS) {",
            "        real total = 0;",
            "        for (int s = 0; s < slices; ++s) total += partial[s * rows * block_rows + i];",
            "        gates[i] = total;",
            "    }",
            "}",
        ]

    def _add_up(self, tile: tuple[int, int], factors: str) -> list[str]:
        """Each thread's sums over its slice, into `partial`."""
        return [
            f"    real sums[{tile[0]}][{tile[1]}] = {{}};",
            "    for (int low = 0; low < depth4; low += chunk) {",
            "        const int count = least(chunk, depth4 - low);",
            "        if (low) __syncthreads();  // what was here has been read",
            f"        load_operand(operand, chunk_stride, &{self.product.operand},",
            f"                     {factors}, own_rows, depth, low, count);",
            *staging(1),
            "        if (slice < slices)",
            "            multiply(sums, here, here_stride, row, rows_apart, rows,",
            "                     operand, chunk_stride, column, columns_apart, own_rows, slice, slices, count);",
            "    }",
            "    __syncthreads();",
            "    if (slice < slices) {",
            "#pragma unroll",
            f"        for (int i = 0; i < {tile[0]}; ++i) {{",
            "#pragma unroll",
            f"            for (int j = 0; j < {tile[1]}; ++j) {{",
            "                const int r = row + i * rows_apart, c = column + j * columns_apart;",
            "                if (r >= rows || c >= block_rows) continue;",
            "                partial[(slice * block_rows + c) * rows + r] = sums[i][j];",
            "            }",
            "        }",
            "    }",
        ]

    def _cell(self) -> list[str]:
        step, text = self.step, self.stretches.texts[0]
        through = [f" + {each.through}" if each.through else "" for each in step.carried]
        valid = [*text.lines, *text.stores]
        valid += [f"{each.place} += {value};" for each, value in zip(step.sums, text.sums, strict=True)]
        valid += [f"{each.name} = {value};" for each, value in zip(step.carried, text.carried, strict=True)]
        lines = [
            LENGTH,
            *(
                f"real {each.name} = kept[{k} * elements + el]{more};"
                for k, (each, more) in enumerate(zip(step.carried, through, strict=True))
            ),
            "if (t < length) {",
            *_indented(valid),
            *(["} else {", *_indented(text.finished)] if text.finished else []),
            "}",
            *(f"{each.store} = {each.name};" for each in step.carried if each.each_step),
            *(f"kept[{k} * elements + el] = {each.name};" for k, each in enumerate(step.carried)),
        ]
        if mentions(lines, "g"):
            lines.insert(
                0, f"const int g = (el / block_units * {self.product.parts}) * block_units + el % block_units;"
            )
        return _for_each_element(lines)


def staging(width: int) -> list[str]:
    """Bring the weights of a chunk, of which each unit of the depth takes ``width``, to where they are then read."""
    return [
        "        const bool resides = low < resident;  // that is a number of chunks, or all of the depth",
        "        if (!resides) read_weights(staged, chunk_stride, low, count);",
        "        __syncthreads();",
        f"        const auto* here = resides ? weights + {width} * low : staged;",
        "        const int here_stride = resides ? stride : chunk_stride;",
    ]


# Of the block's threads the first waits, and tells the others.
WAIT = (
    "if (step && unit_groups > 1 && !failed) {",
    "    if (threadIdx.x == 0)",
    "        *gave_up = !wait_for(&arrivals[32 * row_group], (unsigned)step * unit_groups, &fault[0]);",
    "    __syncthreads();",
    "    failed = *gave_up;",
    "}",
)

ARRIVE = (
    "if (unit_groups > 1 && step + 1 < steps && threadIdx.x == 0)",
    "    release_one(&arrivals[32 * row_group]);",
)


def _for_each_element(body: list[str], now: str = "t") -> list[str]:
    if not body:
        return []
    element = ["const long long e = (long long)b * units + u;"] if mentions(body, "e") else []
    if now != "t" and mentions(body, "t"):
        element.append(f"const int t = {now};")
    return [
        "for (int el = threadIdx.x; el < elements; el += THREADS) {",
        "    const int u = first_unit + el % block_units, b = first_row + el / block_units;",
        "    if (u >= units || b >= batch) continue;",
        *_indented([*element, *body]),
        "}",
    ]


def _indented(lines: list[str] | tuple[str, ...]) -> list[str]:
    return [line if line.startswith("#") else f"    {line}" for line in lines]
