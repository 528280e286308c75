"""Kernels that make the recurrent product as well as the cell's step, for one step or for all.

The blocks of a launch divide the units and the rows of the batch among them; see `recurray_cupy.persistent.layout`. A
block reads the weights that lead to its units into shared memory, or as many as there is room for. Then, step after
step:

    early     what doesn't depend on the step before is read
    wait      until the other blocks with the same rows have written what the product is with
    product   each thread adds up some sums over a slice of the depth, chunk by chunk, reading the weights that aren't
              there yet; the slices' sums are added up
    cell      the recorded program, each thread for elements of its own
    arrive    the block says that it has written its part
    late      what no other block waits for is stored

With one step in a launch nothing waits, and the kernel is otherwise the same. A kernel is written for all sizes, or for
one layout, batch and number of units, which are then constants: the compiler unrolls loops and leaves out most
integers, and a thread keeps its elements' numbers in registers, not in shared memory.

What blocks hand each other goes through the arrays of the whole sequence, a part for each step, so that nothing is
written to twice. If a block waits in vain, which is a fault, all that it computes from then on is NaN, and `fault` is
set.

`part` of the sums, `depth` of a sum, the fours that a depth is read in: see `recurray_cupy.persistent.layout.Work`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

from recurray.cells.cell import Cell
from recurray.program import MEAN
from recurray_cupy.compiled import Way, compiled
from recurray_cupy.costs import Work
from recurray_cupy.forward_step import SUMS, state_array
from recurray_cupy.kernel import LENGTHS, Body, Kernel, fixed_text, literal, variable
from recurray_cupy.kernels import LENGTH, either, indented
from recurray_cupy.persistent.layout import Layout
from recurray_cupy.segments import Segments
from recurray_cupy.step import (
    MASK,
    Array,
    Carried,
    CarriedValue,
    Expression,
    Goal,
    Load,
    Masked,
    Place,
    Step,
    Total,
)

# The arguments of these kernels besides those of every kernel: the layout, and
#   skip           the step that has no product, -1 if there is none
INTEGERS = ("block_units", "block_rows", "slices", "chunk", "buffers", "resident", "area", "skip")

TYPES = {"float16": "f16", "bfloat16": "bf16"}  # of rounded operands, in the instructions

WEIGHT, ARRIVALS, FAULT = Array("weight"), Array("arrivals", "unsigned"), Array("fault", "int")
WEIGHT_BITS, HANDED = Array("weight", "unsigned short"), Array("handed", "unsigned short")
EARLY, KEPT, LATE = Array("early", own=True), Array("kept", own=True), Array("late", own=True)

REGISTERS = 48  # of a thread for its elements' numbers, at most
MOST_PLANS = 16  # for which a recurrence has kernels of their own: each takes a second or two to compile


@dataclass(frozen=True)
class Plan:
    """What a kernel may be written for: a layout, and what it was laid out for."""

    batch: int
    units: int
    layout: Layout

    @property
    def constants(self) -> dict[str, int]:
        """By the names of the arguments in whose place they are."""
        of_layout = {name: getattr(self.layout, name) for name in INTEGERS if name != "skip"}
        return {"batch": self.batch, "units": self.units, **of_layout}


@dataclass(frozen=True)
class Elements:
    """How a thread goes through its elements.

    Attributes
    ----------
    plan : Plan, optional
        Without one there may be any number of them.
    in_registers : bool
        Whether their numbers are in registers, ``each`` of a kind; else in shared memory.
    """

    plan: Plan | None
    in_registers: bool

    def declare(self, numbers: dict[Array, int]) -> list[str]:
        """Write where so many numbers of an element are."""
        if not self.in_registers:
            begin, lines = "partial + area", ["const int each = elements;"]
            for array, count in numbers.items():
                lines.append(f"real* {array.name} = {begin};  // ({count}, block_rows, block_units)")
                begin = f"{array.name} + {count} * elements"
            return [*lines, f"int* gave_up = (int*)({begin});"]
        begin = f"partial + area + {sum(numbers.values())} * elements"
        lines = ["constexpr int each = (elements + THREADS - 1) / THREADS;"]
        lines += [f"real {array.name}[{max(1, count)} * each];" for array, count in numbers.items()]
        return [*lines, f"int* gave_up = (int*)({begin});"]

    def write(self, body: Body, lines: Callable[[], list[str]], now: str = "t") -> list[str]:
        """Write a loop over them, at the step ``now``."""
        before, body.needs = body.needs, set()
        written = lines()
        element = ["const long long e = (long long)b * units + u;"] if "e" in body.needs else []
        if now != "t" and "t" in body.needs:
            element.append(f"const int t = {now};")
        body.needs = before
        if not written:
            return []
        if self.in_registers:
            head = ["#pragma unroll", "for (int own = 0; own < each; ++own) {"]
            head += ["    const int el = threadIdx.x + own * THREADS;"]
        else:
            head = ["for (int el = threadIdx.x; el < elements; el += THREADS) {", "    const int own = el;"]
        head.append("    const int u = first_unit + el % block_units, b = first_row + el / block_units;")
        if beyond := " || ".join(self._beyond()):
            head.append(f"    if ({beyond}) continue;")
        return [*head, "    (void)own;", *indented([*element, *written]), "}"]

    def _beyond(self) -> list[str]:
        """What an element of a thread's that isn't there exceeds."""
        if self.plan is None:
            return ["u >= units", "b >= batch"]
        layout, found = self.plan.layout, []
        if self.in_registers and layout.block_units * layout.block_rows % layout.threads:
            found.append("el >= elements")
        found += ["u >= units"] if self.plan.units % layout.block_units else []
        return found + (["b >= batch"] if self.plan.batch % layout.block_rows else [])


@dataclass(frozen=True)
class Product:
    """The recurrent product, as a kernel has to make it.

    Attributes
    ----------
    parts : int
        Sums for each unit.
    gates : int
        By what the units are multiplied to give the depth.
    operand : Array
        What is multiplied, (steps, B, depth).
    read, written : str
        Of the step t, where in the operand's steps what it reads is, and what it writes.
    masked : bool
        Whether the operand is multiplied by the mask.
    weight : callable
        From an offset j to the place of a weight: for the part p of the unit u, the number k + j of the depth.
    units_together : bool
        Whether a weight's neighbours are those of other units, rather than of the same depth.
    """

    parts: int
    gates: int
    operand: Array
    read: str
    written: str
    masked: bool
    weight: Callable[[int], Place]
    units_together: bool


def forward_product(cell: Cell) -> Product:
    """Return the output before the step, times the weights."""
    return Product(
        parts=len(cell.outer_gates),
        gates=1,
        operand=state_array("h"),
        read="t + reverse",
        written="t + 1 - reverse",
        masked=True,
        weight=lambda j: Place(WEIGHT, f"((long long)p * units + u) * depth + k + {j}", ""),
        units_together=False,
    )


def backward_product(cell: Cell, *, shared: bool) -> Product:
    """Return the gates' gradients of the step that came after, times the weights."""
    return Product(
        parts=1,
        gates=len(cell.outer_gates),
        operand=Array("dx_gates" if shared else "dh_gates"),
        read="t + 1 - 2 * reverse",
        written="t",
        masked=False,
        weight=lambda j: Place(WEIGHT, f"(long long)(k + {j}) * units + u", ""),
        units_together=True,
    )


@lru_cache(maxsize=1024)
def why_not(cell: Cell, *, projected: bool) -> str | None:
    """Return why kernels can't make a cell's recurrent product themselves; None if they can."""
    if not cell.outer_gates:
        return "it has no product with the output before"
    if cell.inner_gates:
        return "it has a product amid the step"
    if projected:
        return "its output is projected"
    recording = compiled(cell).recording
    programs = recording.step, recording.step_backward
    if any(value.operation == MEAN for program in programs for value in program.values):
        return "it takes means over the units"
    return None


@lru_cache(maxsize=1024)
def recurrence_of(cell: Cell, way: Way, rounded_to: str = "") -> Recurrence:
    """Return a step and its product, in one kernel.

    ``rounded_to`` is the type of the product's operands, if it isn't that of the arrays; then it is on tensor cores.
    """
    code = compiled(cell)
    if way is Way.BACKWARD:
        step, product = code.backward_step(whole=True), backward_product(cell, shared=code.shares_gradients)
    else:
        step, product = code.forward_step(keep=way is Way.TRAINING, whole=True), forward_product(cell)
    return TensorCoreRecurrence(step, product, rounded_to=rounded_to) if rounded_to else Recurrence(step, product)


class Recurrence:
    """A step and its product, to be written as a kernel.

    Parameters
    ----------
    step : Step
        Without means, and without a product amid it.
    product : Product

    Attributes
    ----------
    early : dict of Expression to Place
        What is read ahead of the product, and where it is kept until the cell's turn.
    rounded_to : str
        The type of the product's operands in shared memory, if it isn't that of the arrays; else empty.
    """

    rounded_to = ""
    _functions: ClassVar[dict[str, str]] = {}
    _counted_ahead = "0"  # how often a block has said that it is done before the first step

    def __init__(self, step: Step, product: Product) -> None:
        self.product = product
        self.early: dict[Expression, Place] = {}
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
        whole = early[0] if len(early) == 1 else Total(early)
        kept = Load(self.early.setdefault(whole, Place(EARLY, f"{len(self.early)} * each + own", "")))
        return Total((*late, kept)) if late else kept

    def work(self, batch: int, units: int, itemsize: int) -> Work:
        """What a step is, for a layout to be chosen."""
        product = self.product
        depth, carried = product.gates * units, len(self.step.carried)
        return Work(batch, units, product.parts, depth, len(self.early), carried, itemsize, bool(self.rounded_to))

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
        numbers = {EARLY: len(self.early), KEPT: len(self.step.carried)}
        constants: dict[str, int] = {}
        elements = Elements(plan, in_registers=False)
        if plan is not None:
            constants, each = plan.constants, -(-plan.layout.block_units * plan.layout.block_rows // threads)
            elements = Elements(plan, in_registers=each * (sum(numbers.values()) + len(late)) <= REGISTERS)
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
            *elements.declare(numbers),
            *([f"real late[{len(late)} * each];"] if late else []),
            *self._read_weights(body, tile, plan),
            *elements.write(body, keep, "start"),
            *self._begin(body, elements),
            "bool failed = false;",
            "int t = start;",
            f"for (int step = 0; step < steps; ++step, t += {self.step.stride}) {{",
            *indented(
                [
                    *elements.write(body, lambda: self._read_early(body)),
                    *_wait(body, self._counted_ahead),
                    *self._multiply(body, tile, plan),
                    *elements.write(body, lambda: self._cell(body, carried, late)),
                    *_say(body, "unit_groups > 1 && step + 1 < steps"),
                    *elements.write(body, lambda: self._store_late(body, late)),
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

    def _hand_on(self, body: Body) -> tuple[list[str], list[str], list[str]]:
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

    def _store_late(self, body: Body, late: list[Goal | Carried]) -> list[str]:
        """Store what has been computed; of a row past its length what it then is."""
        if not late:
            return []
        body.array(LENGTHS)
        always, valid, past = [], [], []
        for k, each in enumerate(late):
            number = body.load(Place(LATE, f"{k} * each + own", ""))
            if isinstance(each, Carried):
                always.append(f"{body.store(each.store)} = {number};")
            else:
                valid.append(self.segments.store(each, body, number))
                past += [f"{body.store(each.place)} = 0;"] if each.padded else []
        return [*always, *([LENGTH, *either(valid, past)] if valid else [])]

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
            "const int depth4 = (depth + 3) / 4;",
            "const int stride = resident | 1, chunk_stride = chunk | 1;  // odd: rows begin in different banks",
            "Four* weights = (Four*)shared_memory;  // (rows, stride)",
            "Four* staged = weights + rows * stride;  // (rows, chunk_stride) if not all weights are resident",
            "Four* operand = staged + (resident < depth4 ? rows * chunk_stride : 0);",
            f"const int rows_apart = (rows + {tile[0] - 1}) / {tile[0]};",
            f"const int columns_apart = (block_rows + {tile[1] - 1}) / {tile[1]};",
            "const int slice = threadIdx.x / (rows_apart * columns_apart);",
            "const int column = (threadIdx.x - slice * rows_apart * columns_apart) / rows_apart;",
            "const int row = threadIdx.x % rows_apart, apart = rows;",
            "(void)buffers;  // there is room for one chunk",
        ]

    def _weights(self, body: Body, count: int) -> list[str]:
        """Weights side by side, zeros past the depth."""
        places = [body.load(self.product.weight(j)) for j in range(count)]
        return [f"inside && k + {j} < depth ? {place} : (real)0" for j, place in enumerate(places)]

    def _read_weights(self, body: Body, tile: tuple[int, int], plan: Plan | None) -> list[str]:
        """Read those that stay, and declare what reads others."""
        reads, first = self._weights(body, 4), body.load(self.product.weight(0))
        fours = [
            "        if (in_fours && inside) {",
            f"            to[r * stride + j] = *(const Four*)&{first};",
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
            *indented(self._which_weight("rows", "4")),
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

    def _read_early(self, body: Body) -> list[str]:
        return [
            f"if ({body.array(LENGTHS)} && t >= lengths[b]) continue;",
            *(f"{body.store(place)} = {body.text(expression)};" for expression, place in self.early.items()),
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
        operand, factors = body.load(Place(self.product.operand, first, "")), "(const real*)0"
        if self.product.masked:
            factors = f"mask ? &{body.load(replace(MASK, index='(long long)first_row * depth', needs=''))} : {factors}"
        return [
            f"    real sums[{tile[0]}][{tile[1]}] = {{}};",
            "    for (int low = 0; low < depth4; low += chunk) {",
            "        const int count = least(chunk, depth4 - low);",
            "        if (low) __syncthreads();  // what was here has been read",
            f"        load_operand(operand, chunk_stride, &{operand},",
            f"                     {factors}, own_rows, depth, low, count);",
            "        const bool resides = low < resident;  // that is a number of chunks, or all of the depth",
            "        if (!resides) read_weights(staged, chunk_stride, low, count);",
            "        __syncthreads();",
            "        const auto* here = resides ? weights + low : staged;",
            "        const int here_stride = resides ? stride : chunk_stride;",
            "        if (slice < slices)",
            "            multiply(sums, here, here_stride, row, rows_apart, rows,",
            "                     operand, chunk_stride, column, columns_apart, own_rows, slice, slices, count);",
            "    }",
            "    __syncthreads();",
            "    if (slice < slices)",
            "        store_sums(sums, partial + slice * block_rows * apart, apart,",
            "                   row, rows_apart, rows, column, columns_apart, block_rows);",
        ]

    def _cell(self, body: Body, carried: list[tuple[Carried, Place]], late: list[Goal | Carried]) -> list[str]:
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
        handed, padding, always = self._hand_on(body)
        valid += handed + [f"{each.name} = {variable(each.value)};" for each, _ in carried]
        stored = [(each, held.get(each) or body.store(each.store)) for each, _ in carried if each.each_step]
        lines = [
            LENGTH,
            *before,
            *either(valid, self.segments.pad(0, body, now) + padding),
            *(f"{text} = {each.name};" for each, text in stored),
            *always,
            *kept,
        ]
        if "g" in body.needs:
            lines.insert(0, "const int g = el / block_units * apart + el % block_units;")
        return lines


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

    def _state_handed(self, body: Body, written: str, number: str) -> str:
        mask = f"({body.array(MASK.array)} ? {body.load(MASK)} : 1)" if self.product.masked else "1"
        return f"{self._handed(body, written)} = half_of({number} * {mask});"

    def _begin(self, body: Body, elements: Elements) -> list[str]:
        if self._state is None:
            return []
        kept = body.load(Place(KEPT, f"{self.step.carried.index(self._state)} * each + own", ""))

        def hand_on() -> list[str]:
            return [self._state_handed(body, self.product.read, kept)]

        return [
            "if (steps > 1) {",
            *indented(["const int t = start;", *elements.write(body, hand_on), *_say(body, "unit_groups > 1")]),
            "}",
        ]

    def _hand_on(self, body: Body) -> tuple[list[str], list[str], list[str]]:
        if self._state is not None:
            return [], [], [self._state_handed(body, self.product.written, self._state.name)]
        goals = [goal for goal in self.step.goals if goal.place.array == self.product.operand]
        places = [self._handed(body, self.product.written, k) for k in range(len(goals))]
        valid = [f"{place} = half_of({variable(goal.value)});" for place, goal in zip(places, goals, strict=True)]
        return valid, [f"{place} = 0;" for place in places], []

    def _sums(self, tile: tuple[int, int], held: int) -> list[str]:
        return [
            f"const int row_tiles = (rows + {tile[0] - 1}) / {tile[0]};",
            f"const int column_tiles = (block_rows + {tile[1] - 1}) / {tile[1]};",
            "const int depth16 = (depth + 15) / 16, pitch = 16 * depth16;  // a chunk is of so many, too",
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
        handed, of_plan = body.store(Place(HANDED, first, "")), plan and plan.layout
        first_chunks, by_held, begun = 0, [], "0"
        if of_plan and of_plan.held:
            held, each = of_plan.held, of_plan.chunk // of_plan.slices  # of a chunk
            first_chunks, begun = -(-held // each), "here_held"
            by_held = [
                f"        const int before = k * {each};",
                f"        const int here_held = among_the_first ? least({each}, {held} - before) : 0;",
                "        if (among_the_first) multiply_held(sums, held, own, before, here_held, slice, slices);",
            ]
        return [
            f"    float sums[{tile[0] // 16}][{tile[1] // 8}][4] = {{}};",
            "    auto begin = [&](int k) {",
            "        const int low = k * chunk, count = least(chunk, depth16 - low), buffer = k % buffers;",
            f"        load_handed(operand + buffer * block_rows * chunk_stride, chunk_stride, &{handed},",
            "                    pitch, own_rows, low, count);",
            "        if (resident < depth16 && low >= resident)",
            "            read_weights(staged + buffer * staged_size, chunk_stride, low, count);",
            "    };",
            "    auto multiply_chunk = [&](int k, bool among_the_first) {",
            "        if (slice >= slices) return;",
            *([] if by_held else ["        (void)among_the_first;"]),
            "        const int low = k * chunk, count = least(chunk, depth16 - low), buffer = k % buffers;",
            f"        const Operand<{tile[1] // 8}> own(operand + buffer * block_rows * chunk_stride, chunk_stride,",
            f"                             {tile[1]} * column, own_rows);",
            *by_held,
            "        const bool resides = resident == depth16 || low < resident;  // no chunk is there in part",
            "        const unsigned* here = resides ? weights + 8 * (low - in_registers)",
            "                                       : staged + buffer * staged_size;",
            "        const int here_stride = resides ? stride : chunk_stride;",
            *([f"        if ({begun} * slices < count)"] if by_held else []),
            f"        multiply_rounded(sums, here + {tile[0]} * row * here_stride, here_stride,",
            f"                         own, {begun}, slice, slices, count);",
            "    };",
            f"    by_chunks<{first_chunks}>((depth16 + chunk - 1) / chunk, buffers, begin, multiply_chunk);",
            "    if (slice < slices)",
            f"        store_sums(sums, partial + slice * block_rows * apart + {tile[0]} * row, apart,",
            f"                   {tile[1]} * column, block_rows);",
        ]


_NAN = literal(float("nan"))
_OF_ROWS = Place(ARRIVALS, "32 * row_group", "")  # the counter of the blocks with the same rows


def _is_late(term: Expression) -> bool:
    return isinstance(term, CarriedValue) or (isinstance(term, Load | Masked) and term.place.array == SUMS)


def _wait(body: Body, ahead: str) -> list[str]:
    """Have the first of the block's threads wait, and tell the others; see `Recurrence._counted_ahead`."""
    arrivals, fault = body.store(_OF_ROWS), body.store(Place(FAULT, "0", ""))
    return [
        f"const int times = step + {ahead};",
        "if (times && unit_groups > 1 && !failed) {",
        "    if (threadIdx.x == 0)",
        f"        *gave_up = !wait_for(&{arrivals}, (unsigned)times * unit_groups, &{fault});",
        "    __syncthreads();",
        "    failed = *gave_up;",
        "}",
    ]


def _say(body: Body, when: str) -> list[str]:
    """Once all of the block's threads have written their parts, say so."""
    return ["__syncthreads();", f"if ({when} && threadIdx.x == 0)", f"    release_one(&{body.store(_OF_ROWS)});"]
