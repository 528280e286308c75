"""Write the programs of some cells as a C header, for self_check.c."""

from __future__ import annotations

import sys
from typing import Any

from recurray.cells import Cell, DiagonalLSTMCell, GRUCell, LSTMCell, RNNCell, SLSTMCell
from recurray_native.compiled import compiled
from recurray_native.structures import Listing

CELLS = (
    LSTMCell(),
    LSTMCell(peepholes=True, cell_clip=0.5, gate_clip=0.7, layer_norm=True),
    GRUCell(),
    GRUCell(reset_after=False),
    RNNCell(),
    DiagonalLSTMCell(shared=True),
    SLSTMCell(),
)


def array(name: str, kind: str, values: list[Any]) -> str:
    """A definition of an array of at least one element."""
    return f"static const {kind} {name}[] = {{{', '.join(str(value) for value in values) or '0'}}};\n"


def program(name: str, listing: Listing) -> tuple[str, str]:
    """The arrays of a program, and its initialiser."""
    found = listing.program
    slots = [f"{{{found.slot[k].kind}, {found.slot[k].index}}}" for k in range(found.slots)]
    count = found.segment_end[found.segments - 1]
    lines = [found.code[k] for k in range(count)]
    code = [f"{{{line.operation}, {line.to}, {line.a}, {line.b}, {line.c}}}" for line in lines]
    ends = [found.segment_end[k] for k in range(found.segments)]
    text = array(f"{name}_slot", "Slot", slots) + array(f"{name}_code", "Instruction", code)
    text += array(f"{name}_ends", "i64", ends) + array(f"{name}_constant", "double", list(listing.constants))
    sizes = f"{found.slots}, {found.segments}, {found.tiles}, {found.wides}, {found.sums}"
    places = f"{name}_slot, {name}_code, {name}_ends, {found.inner_segment}, {found.inner_slot}"
    return text, f"{{{sizes}, {places}}}"


def cell_text(number: int, cell: Cell) -> tuple[str, str]:
    """A cell's arrays, and its initialiser."""
    ready = compiled(cell)
    forward = ready.forward(training=True, means=False)
    text, initialisers = "", []
    for name, listing in (("forward", forward.listing), ("backward", ready.backward(projected=False))):
        part, initialiser = program(f"{name}_{number}", listing)
        text += part
        initialisers.append(f"{initialiser}, {len(listing.constants)}, {name}_{number}_constant")
    text += array(f"input_gate_{number}", "i64", ready.input_gates)
    text += array(f"recurrent_gate_{number}", "i64", ready.recurrent_gates)
    sizes = (
        *(len(cell.input_gates), len(cell.recurrent_gates), len(ready.input_gates), len(ready.gates.inner)),
        *(len(ready.param_rows), len(cell.states), len(forward.packed), len(ready.kept), int(bool(cell.outer_gates))),
    )
    gates = f"input_gate_{number}, recurrent_gate_{number}"
    return text, f'    {{"{cell!r}", {", ".join(map(str, sizes))}, {gates}, {", ".join(initialisers)}}},\n'


HEAD = """/* Written by write_programs.py. */
struct Cell {
    const char *name;
    i64 inputs, recurrents, blocks, inner_blocks, params, states, packed, kept, has_product;
    const i64 *input_gate, *recurrent_gate;
    Program forward;
    i64 forward_constants;
    const double *forward_constant;
    Program backward;
    i64 backward_constants;
    const double *backward_constant;
};
"""


def main() -> None:
    """Write the header to standard output."""
    parts = [cell_text(number, cell) for number, cell in enumerate(CELLS)]
    table = "".join(initialiser for _, initialiser in parts)
    texts = "".join(text for text, _ in parts)
    sys.stdout.write(
        f"{HEAD}{texts}static const struct Cell cells[] = {{\n{table}}};\nenum {{ CELLS = {len(CELLS)} }};\n"
    )


if __name__ == "__main__":
    main()
