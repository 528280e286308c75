"""How a thread goes through its elements, the units of rows for which it computes the cell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from recurray_cupy.kernel import Body
from recurray_cupy.kernels import LENGTH, indented
from recurray_cupy.persistent.layout import FLAG
from recurray_cupy.persistent.plan import Plan
from recurray_cupy.step import Array

# Numbers of an element: asked for a step ahead; the same at each step, in shared memory those of a unit; carried from
# step to step; stored when nobody waits.
COMING, FIXED = Array("coming", own=True), Array("fixed", own=True)
KEPT, LATE = Array("kept", own=True), Array("late", own=True)

REGISTERS = 48  # of a thread for its elements' numbers, at most


@dataclass(frozen=True)
class Elements:
    """How a thread goes through its elements.

    Attributes
    ----------
    plan : Plan, optional
        Without one there may be any number of them.
    in_registers : bool
        Whether those that aren't coming are in registers, ``each`` of a kind; else they are in shared memory too.
    """

    plan: Plan | None
    in_registers: bool

    @property
    def length(self) -> str:
        """Write the length of the element's row."""
        return "const int length = ends[own];" if self.in_registers else LENGTH

    def declare(self, coming: int, fixed: int, kept: int) -> list[str]:
        """Write where so many numbers of an element are."""
        lines = ["int* gave_up = (int*)(partial + area);"]
        if coming:
            lines.append(f"real* coming = partial + area + {FLAG};  // ({coming}, block_rows, block_units)")
        if self.in_registers:
            lines += ["constexpr int each = (elements + THREADS - 1) / THREADS;", "int ends[each];"]
            arrays = {"kept": kept, "fixed": fixed}
            lines += ["constexpr int across = each;"] if fixed else []
            return [*lines, *(f"real {name}[{count} * each];" for name, count in arrays.items() if count)]
        lines.append("const int each = elements;")
        begin = f"partial + area + {FLAG} + {coming} * elements"
        if kept:
            lines.append(f"real* kept = {begin};  // ({kept}, block_rows, block_units)")
        if fixed:
            lines.append("const int across = block_units;")
            lines.append(f"real* fixed = {begin} + {kept} * elements;  // ({fixed}, block_units)")
        return lines

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
            head += ["    const int el = threadIdx.x + own * THREADS, along = own;"]
        else:
            head = ["for (int el = threadIdx.x; el < elements; el += THREADS) {"]
            head += ["    const int own = el, along = el % block_units;"]
        head.append("    const int u = first_unit + el % block_units, b = first_row + el / block_units;")
        if beyond := " || ".join(self._beyond()):
            head.append(f"    if ({beyond}) continue;")
        return [*head, "    (void)own, (void)along;", *indented([*element, *written]), "}"]

    def _beyond(self) -> list[str]:
        """What an element of a thread's that isn't there exceeds."""
        if self.plan is None:
            return ["u >= units", "b >= batch"]
        layout, found = self.plan.layout, []
        if self.in_registers and layout.block_units * layout.block_rows % layout.threads:
            found.append("el >= elements")
        found += ["u >= units"] if self.plan.units % layout.block_units else []
        return found + (["b >= batch"] if self.plan.batch % layout.block_rows else [])
