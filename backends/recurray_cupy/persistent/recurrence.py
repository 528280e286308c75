"""Kernels that make the recurrent product as well as the cell's step, for one step or for all.

The blocks of a launch divide the units and the rows of the batch among them; see `recurray_cupy.persistent.layout`. A
block reads the weights that lead to its units into shared memory, or as many as there is room for. Then, step after
step:

    wait      until the other blocks with the same rows have written what the product is with
    product   each thread adds up some sums over a slice of the depth, chunk by chunk, reading the weights that aren't
              there yet; the slices' sums are added up
    cell      the recorded program, each thread for elements of its own
    arrive    the block says that it has written its part
    late      what the next step needs besides is asked for, and what no other block waits for is stored

With one step in a launch nothing waits, and the kernel is otherwise the same. A kernel is written for all sizes, or for
one layout, batch and number of units, which are then constants: the compiler unrolls loops and leaves out most
integers, and a thread keeps its elements' numbers in registers, not in shared memory, and some of the weights, where
that makes a step faster.

What blocks hand each other goes through the arrays of the whole sequence, a part for each step, so that nothing is
written to twice. If a block waits in vain, which is a fault, all that it computes from then on is NaN, and `fault` is
set.

`part` of the sums, `depth` of a sum, the fours that a depth is read in: see `recurray_cupy.persistent.layout.Work`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from recurray_cupy.costs import Work
from recurray_cupy.forward_step import SUMS
from recurray_cupy.kernel import LENGTHS, Body, Kernel, fixed_text, literal, variable
from recurray_cupy.kernels import either, indented
from recurray_cupy.persistent.ahead import Ahead
from recurray_cupy.persistent.elements import KEPT, LATE, REGISTERS, Elements
from recurray_cupy.persistent.plan import INTEGERS, Plan
from recurray_cupy.persistent.product import Product
from recurray_cupy.persistent.waiting import say, wait
from recurray_cupy.segments import Segments
from recurray_cupy.step import MASK, Carried, CarriedValue, Expression, Goal, Load, Masked, Place, Step, Total

MOST_PLANS = 16  # for which a recurrence has kernels of their own: each takes a second or two to compile
_NAN = literal(float("nan"))
_OF_ROW = [
    "const int u = least(first_unit + (unsigned)r % block_units, units - 1);",
    "const int p = (unsigned)r / block_units;",
    "(void)p;",
]  # which unit and part a row of the block's weights is for; past the last unit the last one, whose sum nobody reads


class Recurrence:
    """A step and its product, to be written as a kernel.

    Parameters
    ----------
    step : Step
        Without means, and without a product amid it.
    product : Product

    Attributes
    ----------
    ahead : Ahead
        What is asked for a step ahead.
    rounded_to : str
        The type of the product's operands in shared memory, if it isn't that of the arrays; else empty.
    """

    rounded_to = ""
    _depth, _at_a_time = "depth4", 4  # the name of the depth in what shared memory is read in
    _functions: ClassVar[dict[str, str]] = {}
    _counted_ahead = "0"  # how often a block has said that it is done before the first step

    def __init__(self, step: Step, product: Product) -> None:
        self.product = product
        self.ahead = Ahead()
        needed = step.program.needed(step.results())
        inputs = {k: self._divided(each) if k in needed else each for k, each in step.inputs.items()}
        self.step = replace(step, inputs=inputs)
        self.segments = Segments(self.step)
        self._kernels: dict[tuple[tuple[int, int], int, Plan | None], Kernel] = {}

    def _divided(self, expression: Expression) -> Expression:
        """Keep what can be read ahead of the product; carried numbers and the product's sums are there later."""
        terms = expression.terms if isinstance(expression, Total) else (expression,)
        late = tuple(term for term in terms if _is_late(term))
        early = tuple(term for term in terms if not _is_late(term))
        if not early:
            return expression
        come = self.ahead.put(early[0] if len(early) == 1 else Total(early))
        return Total((*late, come)) if late else come

    def work(self, batch: int, units: int, itemsize: int) -> Work:
        """What a step is, for a layout to be chosen."""
        product = self.product
        depth, carried = product.gates * units, len(self.step.carried)
        early, fixed = len(self.ahead.coming), len(self.ahead.fixed)
        return Work(batch, units, product.parts, depth, early, fixed, carried, itemsize, bool(self.rounded_to))

    def kernel(self, tile: tuple[int, int], threads: int, plan: Plan | None = None) -> Kernel:
        """The kernel for a tile and a number of threads of a block, or for a plan alone."""
        key = tile, threads, plan
        if key not in self._kernels:
            self._kernels[key] = self._write(tile, threads, plan)
        return self._kernels[key]

    def kernel_of(self, plan: Plan) -> Kernel | None:
        """The kernel for a plan: its own; None for plans after the first few, as each kernel has to be compiled."""
        tile, threads = plan.layout.tile, plan.layout.threads
        known = sum(each is not None for *_, each in self._kernels)
        own = (tile, threads, plan) in self._kernels or known < MOST_PLANS
        return self.kernel(tile, threads, plan) if own else None

    def _ahead(self, threads: int) -> str:
        """The fixed text that the kernel calls."""
        return f"constexpr int THREADS = {threads};\n{fixed_text('recurrence.cuh', __package__)}"

    def _write(self, tile: tuple[int, int], threads: int, plan: Plan | None) -> Kernel:
        body, late = Body(functions=self._functions), self._late()
        numbers = len(self.ahead.coming), len(self.ahead.fixed), len(self.step.carried)
        constants: dict[str, int] = {}
        elements = Elements(plan, in_registers=False)
        if plan is not None:
            constants, each = plan.constants, -(-plan.layout.block_units * plan.layout.block_rows // threads)
            elements = Elements(plan, in_registers=each * (sum(numbers) + len(late)) <= REGISTERS)
        if not elements.in_registers:
            late = []
        carried = [
            (each, Place(KEPT, f"{k} * each + own", "")) for k, each in enumerate(self.step.carried)
        ]  # and where it is kept

        def keep() -> list[str]:
            return [f"{body.store(kept)} = {body.text(each.load)};" for each, kept in carried]

        def hand_on() -> list[str]:
            return [f"{body.store(each.store)} = {body.load(kept)};" for each, kept in carried if not each.each_step]

        lines = [
            *(f"constexpr int {name} = {number};" for name, number in constants.items()),
            *self._shared(tile, plan),
            *elements.declare(*numbers),
            *([f"real late[{len(late)} * each];"] if late else []),
            *self._read_weights(body, tile, plan),
            *self._begin_weights(plan),
            *elements.write(body, keep, "start"),
            *elements.write(body, lambda: self.ahead.begin(body, elements), "start"),
            "end_group();",
            *self._begin(body, elements),
            "bool failed = false;",
            "int t = start;",
            f"for (int step = 0; step < steps; ++step, t += {self.step.stride}) {{",
            *indented(
                [
                    *wait(body, self._counted_ahead),
                    *self._multiply(body, tile, plan),
                    "await_groups(0);",
                    *self._weights_ahead(plan),
                    *elements.write(body, lambda: self._cell(body, elements, carried, late)),
                    *say(body, "unit_groups > 1 && step + 1 < steps"),
                    *elements.write(body, lambda: self._store_late(body, elements, late)),
                    "end_group();",
                ]
            ),
            "}",
            *elements.write(body, hand_on),
        ]
        name = f"{self.step.name}_by_{tile[0]}_{tile[1]}"
        arguments = tuple(each for each in body.arguments(*INTEGERS) if each.name not in constants)
        return Kernel(name, tuple(lines), arguments, threads=threads, ahead=self._ahead(threads))

    def _begin(self, body: Body, elements: Elements) -> list[str]:
        """What is done before the first step."""
        return []

    def _hand_on(self, body: Body, elements: Elements) -> tuple[list[str], list[str], list[str]]:
        """What the cell writes for the product besides: within a row's length, past it, and in any case."""
        return [], [], []

    def _late(self) -> list[Goal | Carried]:
        """What is stored that no other block reads: it can wait until the block has said that it is done."""
        found: list[Goal | Carried] = [
            each for each in self.step.carried if each.each_step and self._is_own(each.store)
        ]
        return found + [goal for goal in self.step.goals if self._is_own(goal.place)]

    def _is_own(self, place: Place) -> bool:
        return place.array != self.product.operand

    def _store_late(self, body: Body, elements: Elements, late: list[Goal | Carried]) -> list[str]:
        """Ask for what comes next, and store what has been computed; of a row past its length what it then is."""
        body.array(LENGTHS)
        asked = [elements.length, *self.ahead.ask(body, self.step.stride)]
        always: list[str] = []
        valid: list[str] = []
        past: list[str] = []
        for k, each in enumerate(late):
            number = body.load(Place(LATE, f"{k} * each + own", ""))
            if isinstance(each, Carried):
                always.append(f"{body.store(each.store)} = {number};")
            else:
                valid.append(self.segments.store(each, body, number))
                past += [f"{body.store(each.place)} = 0;"] if each.padded else []
        return [*asked, *always, *(either(valid, past) if valid else [])]

    def _shared(self, tile: tuple[int, int], plan: Plan | None) -> list[str]:
        """Which units and rows the block has, where its arrays are, and which sums the thread has."""
        parts, gates = self.product.parts, self.product.gates
        own_rows, const = "least(block_rows, batch - first_row)", "const"
        if plan is not None:
            const = "constexpr"
            own_rows = own_rows if plan.batch % plan.layout.block_rows else "block_rows"
        return [
            f"{const} long long n = (long long)batch * units;",
            f"{const} int unit_groups = (units + block_units - 1) / block_units;",
            "const int row_group = blockIdx.x / unit_groups;",
            "const int first_unit = (blockIdx.x - row_group * unit_groups) * block_units;",
            f"const int first_row = row_group * block_rows, own_rows = {own_rows};",
            f"{const} int depth = {gates} * units;",
            f"{const} int rows = {parts} * block_units, elements = block_units * block_rows;",
            *self._sums(tile, 0 if plan is None else plan.layout.held),
            "real* partial = (real*)operand;  // (slices, block_rows, apart)",
        ]

    def _sums(self, tile: tuple[int, int], held: int) -> list[str]:
        """How the weights and the operand lie in shared memory, and which of the sums the thread has."""
        return [
            "const int depth4 = (depth + 3) / 4, chunks = (depth4 + chunk - 1) / chunk;",
            f"const int in_registers = {held} * slices;  // of the depth",
            "const int stride = (resident - in_registers) | 1;  // odd: rows begin in different banks",
            "const int chunk_stride = chunk | 1;",
            "Four* weights = (Four*)shared_memory;  // (rows, stride)",
            "const int staged_size = resident < depth4 ? rows * chunk_stride : 0;  // if some aren't there",
            "Four* staged = weights + rows * stride;  // (buffers, rows, chunk_stride)",
            "Four* operand = staged + buffers * staged_size;  // (buffers, block_rows, chunk_stride)",
            f"const int rows_apart = (rows + {tile[0] - 1}) / {tile[0]};",
            f"const int columns_apart = (block_rows + {tile[1] - 1}) / {tile[1]};",
            "const int slice = threadIdx.x / (rows_apart * columns_apart);",
            "const int column = (threadIdx.x - slice * rows_apart * columns_apart) / rows_apart;",
            "const int row = threadIdx.x % rows_apart, apart = rows;",
        ]

    def _weights(self, body: Body, count: int) -> list[str]:
        """Weights side by side, zeros past the depth."""
        places = [body.load(self.product.weight(j)) for j in range(count)]
        return [f"k + {j} < depth ? {place} : (real)0" for j, place in enumerate(places)]

    def _read_weights(self, body: Body, tile: tuple[int, int], plan: Plan | None) -> list[str]:
        """Read those that stay, and declare what reads others."""
        first, ahead = body.load(self.product.weight(0)), []
        if self.product.units_together:
            # A warp copies eight units by four of the depth: whole sectors of the cache, and a bank for each thread.
            loop = [
                "const unsigned eights = (rows + 7) / 8;",
                "#pragma unroll 4",
                "for (unsigned i = threadIdx.x; i < 32u * eights * count; i += THREADS) {",
                "    const int r = i / 32 % eights * 8 + i % 8, j = i / 32 / eights;",
                "    const int one = i / 8 % 4, k = 4 * (low + j) + one;",
                *indented(_OF_ROW),
                "    const bool there = depth % 4 == 0 || k < depth;",
                f"    if (r < rows) copy_or_zero(&to[r * stride + j].a + one, &{first}, there);",
                "}",
            ]
        else:  # a weight's array may be a part of a larger one, which begins anywhere
            ahead = ["const bool in_fours = depth % 4 == 0 && (unsigned long long)weight % 16 == 0;"]

            def loop_of(unroll: int, copy: str, more: str) -> list[str]:
                return [
                    f"    #pragma unroll {unroll}",
                    "    for (unsigned i = threadIdx.x; i < (unsigned)(rows * count); i += THREADS) {",
                    "        const int r = i / (unsigned)count, j = i % (unsigned)count, k = 4 * (low + j);",
                    *(f"        {line}" for line in _OF_ROW),
                    f"        {copy}(to + r * stride + j, &{first}{more});",
                    "    }",
                ]

            whole, some = loop_of(4, "copy_four", ""), loop_of(1, "copy_some", ", depth - k")
            loop = ["if (in_fours) {", *whole, "} else {", *some, "}"]
        return [
            *ahead,
            "auto read_weights = [&](Four* to, int stride, int low, int count) {",
            *indented(loop),
            "};",
            "read_weights(weights, stride, in_registers, resident - in_registers);",
            "end_group();",
            *self._hold_weights(body, tile, 0 if plan is None else plan.layout.held),
        ]

    def _hold_weights(self, body: Body, tile: tuple[int, int], held: int) -> list[str]:
        """Read those of the thread's first steps through the depth, which stay in its registers."""
        if not held:
            return []
        reads = self._weights(body, 4)
        return [
            f"Four held[{held}][{tile[0]}];",
            "#pragma unroll",
            f"for (int i = 0; i < {tile[0]}; ++i) {{",
            "    const int r = least(row + i * rows_apart, rows - 1);",
            *indented(_OF_ROW),
            "#pragma unroll",
            f"    for (int j = 0; j < {held}; ++j) {{",
            "        const int k = 4 * (slice + slices * j);",
            f"        held[j][i] = Four{{{reads[0]},",
            *(f"                          {read}," for read in reads[1:3]),
            f"                          {reads[3]}}};",
            "    }",
            "}",
        ]

    def _multiply(self, body: Body, tile: tuple[int, int], plan: Plan | None) -> list[str]:
        return [
            "const bool multiplies = t != skip && !failed;",
            "if (multiplies) {",
            *self._add_up(body, tile, plan),
            "}",
            f"const Sums gates{{partial, multiplies ? slices : 0, apart * block_rows, failed ? {_NAN} : (real)0}};",
            "__syncthreads();",
        ]

    def _add_up(self, body: Body, tile: tuple[int, int], plan: Plan | None) -> list[str]:
        """Each thread's sums over its slice, into `partial`."""
        first = f"((long long)({self.product.read}) * batch + first_row) * depth"
        operand, masks = body.load(Place(self.product.operand, first, "")), []
        if self.product.masked:
            factors = f"&{body.load(replace(MASK, index='(long long)first_row * depth', needs=''))}"
            masks = [
                f"if ({body.array(MASK.array)})",
                "    scale_operand(operand + buffer * block_rows * chunk_stride, chunk_stride,",
                f"                  {factors}, own_rows, depth, low, count);",
            ]
        begun, by_held = self._by_held(plan)
        chunk = self._chunk(plan)
        return [
            f"    real sums[{tile[0]}][{tile[1]}] = {{}};",
            "    auto begin = [&](int k) {",
            *(f"        {line}" for line in chunk),
            f"        load_operand(operand + buffer * block_rows * chunk_stride, chunk_stride, &{operand},",
            "                     own_rows, depth, low, count);",
            "    };",
            "    auto arrived = [&](int k) {",
            *(f"        {line}" for line in ([*chunk, *masks] if masks else ["(void)k;"])),
            "    };",
            "    auto multiply_chunk = [&](int k) {",
            "        if (slice >= slices) return;",
            *(f"        {line}" for line in chunk),
            f"        const Part<{tile[1]}> own(operand + buffer * block_rows * chunk_stride, chunk_stride,",
            "                          column, columns_apart, own_rows);",
            *by_held,
            "        const bool resides = resident == depth4 || low < resident;  // no chunk is there in part",
            "        const auto* here = resides ? weights + (low - in_registers) : staged + buffer * staged_size;",
            "        const int here_stride = resides ? stride : chunk_stride;",
            f"        multiply(sums, here, here_stride, row, rows_apart, rows, own, {begun}, slice, slices, count);",
            "    };",
            f"    by_chunks(chunks, buffers, {self._weights_of_chunks(plan)}, begin, arrived, multiply_chunk);",
            "    if (slice < slices)",
            "        store_sums(sums, partial + slice * block_rows * apart, apart,",
            "                   row, rows_apart, rows, column, columns_apart, block_rows);",
        ]

    def _depth_of(self, plan: Plan) -> int:
        return -(-self.product.gates * plan.units // self._at_a_time)

    def _chunk(self, plan: Plan | None) -> list[str]:
        """Where the k-th chunk begins in the depth, how much of it it has, and in which buffer it is."""
        count = f"const int count = least(chunk, {self._depth} - low);"
        if plan is not None and self._depth_of(plan) % plan.layout.chunk == 0:
            count = "constexpr int count = chunk;"
        return ["const int low = k * chunk, buffer = k % buffers;", count]

    def _streams(self, plan: Plan | None) -> bool:
        """Whether some weights may be read anew at each step."""
        return plan is None or plan.layout.resident < self._depth_of(plan)

    def _weights_of_chunks(self, plan: Plan | None) -> str:
        return "begin_weights" if self._streams(plan) else "[](int) {}"

    def _begin_weights(self, plan: Plan | None) -> list[str]:
        """Begin to read those that aren't there yet, chunk by chunk."""
        if not self._streams(plan):
            return []
        return [
            "auto begin_weights = [&](int k) {",
            *indented(self._chunk(plan)),
            "    if (low >= resident) read_weights(staged + buffer * staged_size, chunk_stride, low, count);",
            "};",
            "begin_first(chunks, buffers, begin_weights);",
        ]

    def _weights_ahead(self, plan: Plan | None) -> list[str]:
        """Likewise, those that the next step multiplies first, once this one has been multiplied."""
        begin = "if (multiplies && step + 1 < steps) begin_first(chunks, buffers, begin_weights);"
        return [begin] if self._streams(plan) else []

    def _by_held(self, plan: Plan | None) -> tuple[str, list[str]]:
        """The first of a thread's steps through a chunk whose weights aren't in registers, and the text for those."""
        if plan is None or not plan.layout.held:
            return "0", []
        held, each = plan.layout.held, plan.layout.chunk // plan.layout.slices  # of a chunk
        return "begun", [
            f"        const int begun = least({each}, most(0, {held} - {each} * k));",
            f"        if (begun) multiply_held<{each}>(sums, held, own, k, slice, slices);",
        ]

    def _cell(
        self, body: Body, elements: Elements, carried: list[tuple[Carried, Place]], late: list[Goal | Carried]
    ) -> list[str]:
        before, kept = [], []
        body.array(LENGTHS)
        for each, place in carried:
            more = f" + {body.text(each.through)}" if each.through else ""
            before.append(f"real {each.name} = {body.load(place)}{more};")
            kept.append(f"{body.store(place)} = {each.name};")
        held = {each: body.store(Place(LATE, f"{k} * each + own", "")) for k, each in enumerate(late)}
        now = [goal for goal in self.segments[0].goals if goal not in held]
        valid = self.segments.compute(0, body, now)
        valid += [f"{text} = {variable(each.value)};" for each, text in held.items() if isinstance(each, Goal)]
        valid += [f"{body.store(each.place)} += {variable(each.value)};" for each in self.step.sums]
        handed, padding, always = self._hand_on(body, elements)
        valid += handed + [f"{each.name} = {variable(each.value)};" for each, _ in carried]
        stored = [(each, held.get(each) or body.store(each.store)) for each, _ in carried if each.each_step]
        lines = [
            elements.length,
            *before,
            *either(valid, self.segments.pad(0, body, now) + padding),
            *(f"{text} = {each.name};" for each, text in stored),
            *always,
            *kept,
        ]
        if "g" in body.needs:
            lines.insert(0, "const int g = el / block_units * apart + el % block_units;")
        return lines


def _is_late(term: Expression) -> bool:
    return isinstance(term, CarriedValue) or (isinstance(term, Load | Masked) and term.place.array == SUMS)
