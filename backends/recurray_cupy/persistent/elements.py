"""How a thread goes through its elements, the units of rows for which it computes the cell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from recurray_cupy.kernel import Body
from recurray_cupy.kernels import indented
from recurray_cupy.persistent.plan import Plan
from recurray_cupy.step import Array

# Numbers of an element: read ahead of the product, carried from step to step, stored when nobody waits.
EARLY, KEPT, LATE = Array("early", own=True), Array("kept", own=True), Array("late", own=True)

REGISTERS = 48  # of a thread for its elements' numbers, at most


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
