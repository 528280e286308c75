"""What the compiler makes of the kernels: their machine code for several GPUs, read without one.

``python tests/gpu/sass.py`` prints the figures of some layouts, ``--write`` puts them into sass.json and docs/gpu.md. A
test compares them with what is compiled anew, and fails where one is worse. It needs NVIDIA's compiler and
disassemblers from the package index: ``pip install "recurray[sass]"``.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

if __name__ == "__main__":  # a checkout that needn't be installed
    ROOT = Path(__file__).resolve().parents[2]
    sys.path[:0] = [str(ROOT / folder) for folder in ("src", "backends", "tests")]

from gpu import banks, model
from harness.compare_scans import TwoStates
from harness.cuda import nvrtc
from recurray.cells import DiagonalLSTMCell, GRUCell, LSTMCell, RNNCell
from recurray.cells.cell import Cell
from recurray_cupy import persistent
from recurray_cupy.compiled import Way, compiled
from recurray_cupy.costs import Work
from recurray_cupy.persistent import recurrence_of
from recurray_cupy.persistent.layout import Layout, layout_for

HERE = Path(__file__).resolve()
TABLE, DOCS = HERE.with_name("sass.json"), HERE.parents[2] / "docs" / "gpu.md"
ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
OLDER = 1.05  # another version of the compiler may need so much more


@dataclass(frozen=True)
class Plan:
    """A kernel that a size and a mode bring: of a strategy that makes the product, or "fused"."""

    cell: Cell
    way: Way
    rounded_to: str
    batch: int
    units: int
    strategy: str = "persistent"
    for_the_plan: bool = True  # else the text for all sizes

    def __str__(self) -> str:
        name = type(self.cell).__name__.removesuffix("Cell")
        sizes = f"H {self.units}, B {self.batch}, {self.rounded_to or 'float32'}"
        return f"{name} {self.way.name.lower()}, {sizes}, {self.strategy}{'' if self.for_the_plan else ', any size'}"

    @property
    def waits(self) -> bool:
        """Whether blocks wait for each other in the text."""
        return self.laid_out is not None and (not self.for_the_plan or self.laid_out[1].unit_groups > 1)

    @property
    def whole(self) -> bool:
        """Whether all weights stay in shared memory."""
        assert self.laid_out is not None
        work, layout = self.laid_out
        return layout.resident == -(-work.depth // (16 if work.rounded else 4))

    @property
    def laid_out(self) -> tuple[Work, Layout] | None:
        """The work and its layout, where there is one."""
        if self.strategy == "fused":
            return None
        work = recurrence_of(self.cell, self.way, self.rounded_to).work(self.batch, self.units, 4)
        resident = self.strategy == "persistent"
        layout = layout_for(work, model.H200, resident=resident, holding=self.for_the_plan)
        assert layout is not None
        return work, layout

    def source(self) -> str:
        """The kernel's text."""
        if self.laid_out is None:
            code = compiled(self.cell)
            if self.way is Way.BACKWARD:
                return code.backward(projected=False, rounded_to=self.rounded_to).kernels[0].source("float32")
            keep = self.way is Way.TRAINING
            return code.forward(keep=keep, projected=False, rounded_to=self.rounded_to).kernels[0].source("float32")
        recurrence, (_, layout) = recurrence_of(self.cell, self.way, self.rounded_to), self.laid_out
        plan = persistent.Plan(self.batch, self.units, layout) if self.for_the_plan else None
        return recurrence.kernel(layout.tile, layout.threads, plan).source("float32")


LSTM, FORWARD, BACKWARD = LSTMCell(), Way.TRAINING, Way.BACKWARD
PLANS = (
    *(
        Plan(LSTM, way, dtype, batch, units)
        for way in (FORWARD, BACKWARD)
        for dtype, batch, units in (
            ("", 64, 128),
            ("", 64, 512),
            ("bfloat16", 64, 128),
            ("bfloat16", 64, 512),
            ("bfloat16", 16, 768),
            ("bfloat16", 1, 2048),
            ("", 1, 2048),
        )
    ),
    Plan(LSTM, Way.INFERENCE, "bfloat16", 16, 768),
    Plan(LSTM, FORWARD, "bfloat16", 16, 768, "step"),
    Plan(LSTM, FORWARD, "bfloat16", 16, 768, for_the_plan=False),
    Plan(GRUCell(), FORWARD, "bfloat16", 16, 768),
    Plan(GRUCell(), BACKWARD, "bfloat16", 16, 768),
    *(
        Plan(cell, way, dtype, 16, 768)
        for cell, dtypes in ((GRUCell(), ("",)), (RNNCell(), ("", "bfloat16")), (TwoStates(), ("", "bfloat16")))
        for dtype in dtypes
        for way in (FORWARD, BACKWARD)
    ),
    Plan(LSTM, FORWARD, "", 16, 768, "fused"),
    Plan(LSTM, FORWARD, "bfloat16", 16, 768, "fused"),
    Plan(LSTM, BACKWARD, "bfloat16", 16, 768, "fused"),
    Plan(TwoStates(), FORWARD, "", 16, 768, "fused"),
    Plan(DiagonalLSTMCell(True), FORWARD, "", 16, 768, "fused"),
    Plan(DiagonalLSTMCell(True), BACKWARD, "", 16, 768, "fused"),
)


# Reading --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figures:
    """What is read from a kernel's machine code.

    Attributes
    ----------
    instructions : int
        Of the kernel.
    step : int
        Of the loop over the steps.
    registers : int
        Of a thread.
    spilled : int
        Loads and stores of registers for which there was no room.
    integer : int
        Instructions with integers.
    loads_and_stores : int
        Of shared memory, in the loop over the steps.
    fences, invalidations : int
        MEMBAR and CCTL, in the loop over the steps.
    in_the_poll : int
        Invalidations in a loop that waits for other blocks.
    ahead : int
        Stores in the loop over the steps before the fence: it waits for these.
    """

    instructions: int
    step: int
    registers: int
    spilled: int
    integer: int
    loads_and_stores: int
    fences: int
    invalidations: int
    in_the_poll: int
    ahead: int


INTEGER = (
    "IMAD",
    "IADD",
    "VIADD",
    "ISETP",
    "IABS",
    "LEA",
    "SHF",
    "LOP3",
    "I2F",
    "F2I",
    "IMNMX",
    "VIMNMX",
    "PRMT",
    "SEL",
)


@dataclass(frozen=True)
class Code:
    """A kernel's instructions, and its loops as ranges of them."""

    instructions: tuple[str, ...]
    loops: tuple[range, ...]

    def among(self, names: tuple[str, ...], where: range | None = None) -> list[int]:
        """Where instructions are whose names begin so; those for a whole warp, with a U, among them."""
        every = range(len(self.instructions)) if where is None else where
        return [k for k in every if self.instructions[k].removeprefix("U").startswith(names)]


def version() -> str:
    """The compiler's version."""
    numbers = nvrtc.version()
    return ".".join(map(str, numbers))


def read(text: str) -> Code:
    """Take nvdisasm's text apart."""
    instructions: list[str] = []
    labels: dict[str, int] = {}
    jumps: list[tuple[int, str]] = []
    for line in text.splitlines():
        if label := re.match(r"(\.L_x_\d+):", line):
            labels[label[1]] = len(instructions)
        elif found := re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*.*?)\s*;", line):
            if found[1].startswith("NOP"):
                continue
            if jump := re.match(r"BRA.*`\((\.L_x_\d+)\)", found[1]):
                jumps.append((len(instructions), jump[1]))
            instructions.append(found[1])
    loops = {range(labels[to], at + 1) for at, to in jumps if labels[to] < at}  # the last jumps to itself
    return Code(tuple(instructions), tuple(sorted(loops, key=len)))


def figures_of(plan: Plan, architecture: str) -> Figures:
    """Compile and read a kernel."""
    disassembler, dumper = nvrtc.tool("nvdisasm"), nvrtc.tool("cuobjdump")
    assert disassembler, "nvdisasm isn't here"
    assert dumper, "cuobjdump isn't here"
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernel.cubin"
        cubin.write_bytes(nvrtc.compiled(plan.source(), architecture))
        path = os.pathsep.join((str(Path(disassembler).parent), os.environ.get("PATH", "")))

        def said(*command: str) -> str:
            done = subprocess.run(
                [*command, cubin], capture_output=True, text=True, check=True, env=os.environ | {"PATH": path}
            )
            return done.stdout

        code, resources = read(said(disassembler, "-c")), said(dumper, "--dump-resource-usage")
    registers = re.search(r"REG:(\d+)", resources)
    assert registers is not None
    fences, cached = code.among(("MEMBAR",)), code.among(("CCTL",))
    polls = [loop for loop in code.loops if len(loop) < 64 and _polls(code, loop)]
    step = max((loop for loop in code.loops if not fences or fences[-1] in loop), key=len, default=range(0))
    return Figures(
        instructions=len(code.instructions),
        step=len(step),
        registers=int(registers[1]),
        spilled=len(code.among(("LDL", "STL"))),
        integer=len(code.among(INTEGER)),
        loads_and_stores=len(code.among(("LDS", "STS"), step)),
        fences=len(code.among(("MEMBAR",), step)),
        invalidations=len(code.among(("CCTL",), step)),
        in_the_poll=sum(at in loop for loop in polls for at in cached),
        ahead=len([at for at in code.among(("STG",), step) if fences and at < fences[-1]]),
    )


def _polls(code: Code, loop: range) -> bool:
    text = [code.instructions[at] for at in loop]
    return any("SR_CLOCKLO" in each for each in text) and any(each.startswith("LDG") for each in text)


def of_layout(plan: Plan) -> dict[str, float]:
    """What follows from the layout alone: wavefronts of shared memory, and bytes of a step."""
    if plan.laid_out is None:
        return {}
    work, layout = plan.laid_out
    recurrence = recurrence_of(plan.cell, plan.way, plan.rounded_to)
    counts = model.counts_of(recurrence, work, layout, persistent=plan.strategy == "persistent")
    found: dict[str, float] = {"operand": counts.operand, "weights": counts.weights, "memory": counts.memory}
    if work.rounded:
        found["wavefronts of a tile"] = banks.of_tiles(layout, work)
        found["of a sum's store"] = banks.of_partial_stores(layout, work)
    return {name: round(number, 2) for name, number in found.items()}


# The table ------------------------------------------------------------------------------------------------------------


def worse(kept: dict[str, float], found: dict[str, float], allowed: float = 1) -> list[str]:
    """What has become worse, and by what."""
    return [f"{name}: {found[name]:g}, not {kept[name]:g}" for name in kept if found[name] > allowed * kept[name]]


def all_figures(plan: Plan) -> dict[str, dict[str, float]]:
    """The figures of a plan by architecture, and those of its layout."""
    return {"layout": of_layout(plan)} | {each: asdict(figures_of(plan, each)) for each in ARCHITECTURES}


def table(kept: dict[str, dict[str, dict[str, float]]], architecture: str = "sm_90") -> Iterator[str]:
    """The rows of docs/gpu.md."""
    names = "instructions", "step", "registers", "integer", "loads_and_stores", "ahead"
    layout = "wavefronts of a tile", "of a sum's store"
    heads = ("kernel", "instructions", "of a step", "registers", "with integers", "LDS, STS", "stores ahead")
    yield f"| {' | '.join((*heads, 'wavefronts: tile', 'sum', 'MB of a step'))} |"
    yield f"|{'|'.join([':---'] * (len(heads) + 3))}|"
    for name, each in kept.items():
        of = each["layout"]
        cells = [f"{each[architecture][figure]:g}" for figure in names]
        cells += [f"{of[figure]:g}" if figure in of else "" for figure in layout]
        moved = sum(of.get(k, 0) for k in ("operand", "weights")) / 1e6
        yield f"| {' | '.join((name, *cells, f'{moved:.2g}' if of else ''))} |"


BEGIN, END = "<!-- by tests/gpu/sass.py --write -->\n\n", "\n\n<!-- up to here -->"


def main() -> None:
    """Print the figures, and with --write put them where they are kept."""
    figures = {str(plan): all_figures(plan) for plan in PLANS}
    text = "\n".join(table(figures))
    print(text)
    if "--write" in sys.argv[1:]:
        TABLE.write_text(json.dumps({"compiler": version(), "kernels": figures}, indent=1) + "\n")
        before, _, rest = DOCS.read_text().partition(BEGIN)
        DOCS.write_text(before + BEGIN + text + END + rest.partition(END)[2])


if __name__ == "__main__":
    main()
