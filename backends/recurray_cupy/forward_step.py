"""The forward step of a cell, for its kernels to be written from, and where what it saves for backward is.

T time, B batch, H hidden units; S steps of a part of the sequence. The arrays, besides the cell's params:

    x_gates      (S, B, gates, H)  the input product, from the step `first` on
    h_gates      (B, gates, H)     the product with the output before
    inner_gates  (B, gates, H)     the product amid the step
    x_bias, h_bias, inner_bias     (gates, H), or null
    draw_m       (T, B, H)         a draw; or null, and mean_m is the number that stands for it
    state_h      (T + 1, B, H)     the output before and after each step
    state_c      (T + 1, B, H)     any other state, where all steps are kept; else (B, H)
    output       (T, B, H)         the cell's h, where the layer's output is its projection; (B, H) if none is kept
    inner        (T, B, H)         what the product amid the step is with; (B, H) if none is kept
    saved        (T, slots, B, H)  what else backward reads
    saved_rows   (T, row_slots, B) the like, where it is the same for all units of a row
    mask, h_masked  (B, H)         what the output is multiplied by on its way into the product, or null; the result
    h_bits, inner_bits, output_bits  (B, H)  the output, so multiplied, `inner` and `output`, rounded to operands
    lengths      (B,)              of the rows, or null
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from recurray.cells.cell import Cell
from recurray.program import INNER, Constant, Operand, Program, is_value
from recurray_cupy.kernel import ELEMENT_OF_GRID, LENGTHS, Body, Kernel
from recurray_cupy.rounding import rounded_bits, rounding_text
from recurray_cupy.step import (
    MASK,
    Array,
    Carried,
    CarriedValue,
    Expression,
    Given,
    Goal,
    Inputs,
    Load,
    Place,
    Step,
    Total,
    identifier,
    rows_of,
)

OUTPUT, INNER_OPERAND = Array("output"), Array("inner")
BITS = "unsigned short"  # of a rounded number
H_BITS, H_MASKED = Array("h_bits", BITS), Array("h_masked")
SUMS = Array("gates", own=True)  # of the product, in a kernel that makes it


def state_array(state: str) -> Array:
    """Return the array that holds a state."""
    return Array(f"state_{identifier(state)}")


@dataclass(frozen=True)
class Saved:
    """Where saved values are. Not twice: what is a state or a constant as well is read from there.

    Attributes
    ----------
    found : dict of str to Expression
        By name.
    goals : tuple of Goal
        What forward stores.
    by_row : set of str
        The names of those that are the same for all units of a row.
    slots, row_slots : int
        How many are stored in the arrays `saved` and `saved_rows`.
    """

    found: dict[str, Expression]
    goals: tuple[Goal, ...]
    by_row: frozenset[str]
    slots: int
    row_slots: int


def save(cell: Cell, step: Program, *, projected: bool) -> Saved:
    """Say where the values are that a cell's step saves."""
    there: dict[Operand, Place] = {}
    for state in cell.states:
        k = step.find(f"before.{state}")
        if k >= 0:
            there[k] = state_array(state).before()
    for state in cell.states:
        place = OUTPUT.timed() if projected and state == "h" else state_array(state).after()
        there.setdefault(step.outputs[f"after.{state}"], place)

    rows = rows_of(step)
    wanted = step.outputs_of("saved")
    stored = [value for value in dict.fromkeys(wanted.values()) if is_value(value) and value not in there]
    by_row = [value for value in stored if value in rows]
    by_element = [value for value in stored if value not in rows]
    for k, value in enumerate(by_element):
        there[value] = Place(Array("saved"), f"((long long)t * {len(by_element)} + {k}) * n + e", "tne")
    for k, value in enumerate(by_row):
        there[value] = Place(Array("saved_rows"), f"((long long)t * {len(by_row)} + {k}) * batch + b", "tb")
    return Saved(
        found={name: value if isinstance(value, Constant) else Load(there[value]) for name, value in wanted.items()},
        goals=tuple(Goal(value, there[value], padded=False, by_row=value in rows) for value in stored),
        by_row=frozenset(name for name, value in wanted.items() if value in rows),
        slots=len(by_element),
        row_slots=len(by_row),
    )


def forward_step(
    cell: Cell,
    program: Program,
    saved: Saved,
    *,
    keep: bool,
    projected: bool,
    whole: bool = False,
    rounded_to: str = "",
) -> Step:
    """Describe the forward step.

    Parameters
    ----------
    cell : Cell
    program : Program
        Its recorded step.
    saved : Saved
        Where what it saves goes.
    keep : bool
        Whether every step is kept for backward.
    projected : bool
        Whether the layer's output is a projection of the cell's h.
    whole : bool
        Whether the kernel makes the product with the output before as well; see `recurray_cupy.persistent`.
    rounded_to : str
        What the kernel rounds the operands of products to; empty if it doesn't.
    """
    outputs = program.outputs
    inputs = Inputs(program)
    for k, gate in enumerate(cell.input_gates):
        row, count = "((long long)(t - first) * batch + b)", len(cell.input_gates)
        product = Place(Array("x_gates"), f"({row} * {count} + {k}) * units + u", "tbu")
        inputs.put(f"x.{gate}", Total((Load(product), _bias("x", k))))
    for k, gate in enumerate(cell.outer_gates):
        product = sum_of_part(k) if whole else _product("h", k, len(cell.outer_gates))
        inputs.put(f"h.{gate}", Total((Load(product), _bias("h", k))))
    for draw in cell.draws:
        name = identifier(draw)
        inputs.put(f"x.{draw}", Given(Array(f"draw_{name}").timed(), f"mean_{name}"))
    put_params(cell, inputs)
    for k, value in enumerate(program.values):
        if value.operation == INNER:
            j, count = cell.inner_gates.index(value.name), len(cell.inner_gates)
            inputs.found[k] = Total((Load(_product("inner", j, count)), _bias("inner", j)))

    carried, goals = [], []
    for state in cell.states:
        result, each_step, array = outputs[f"after.{state}"], keep or state == "h", state_array(state)
        now = array.before() if each_step else array.element()
        then = array.after() if each_step else now
        if state == "h" and projected:  # the product with the projection makes the state
            inputs.put("before.h", Load(now))
            goals.append(Goal(result, OUTPUT.timed() if keep else OUTPUT.element()))
            if rounded_to:
                goals.append(Goal(result, Array("output_bits", BITS).element(), rounded_to=rounded_to))
        else:
            name = f"before_{identifier(state)}"
            inputs.put(f"before.{state}", CarriedValue(name))
            carried.append(Carried(name, result, Load(now), then, each_step))
    if not projected and cell.outer_gates and not whole:
        # Of a row past its length it stays what it is.
        place = (H_BITS if rounded_to else H_MASKED).element()
        options: dict[str, Any] = {"masked": True, "if_masked": not rounded_to, "rounded_to": rounded_to}
        goals.append(Goal(outputs["after.h"], place, padded=False, **options))
    if cell.inner_gates:
        place = INNER_OPERAND.timed() if keep else INNER_OPERAND.element()
        goals.append(Goal(outputs["inner"], place, for_product=True, masked=True))
        if rounded_to:
            place = Array("inner_bits", BITS).element()
            goals.append(Goal(outputs["inner"], place, for_product=True, masked=True, rounded_to=rounded_to))
    return Step(
        name=f"{identifier(type(cell).__name__)}_{'forward' if keep else 'inference'}{rounded_to and '_' + rounded_to}",
        program=program,
        inputs=inputs.found,
        goals=(*goals, *(saved.goals if keep else ())),
        carried=tuple(carried),
    )


@cache
def hand_on(rounded_to: str) -> Kernel:
    """Write the kernel that hands the projected output on, masked or ``rounded_to`` a type; here H is R.

    Of a row past its length it is what it was.
    """
    body, h, lengths = Body(), state_array("h"), LENGTHS.name
    lines = [
        *ELEMENT_OF_GRID,
        "const int t = start;",
        f"const bool past = {body.array(LENGTHS)} && t >= {lengths}[e / units];",
        f"const real now = past ? {body.load(h.before())} : {body.load(h.after())};",
        f"if (past) {body.store(h.after())} = now;",
    ]
    masked = f"now * {body.load(MASK)}"
    if rounded_to:
        bits = rounded_bits(rounded_to, f"{MASK.array.name} ? {masked} : now")
        lines.append(f"{body.store(H_BITS.element())} = {bits};")
    else:
        lines.append(f"if ({H_MASKED.name}) {body.store(H_MASKED.element())} = {masked};")
    return Kernel(f"hand_on_{rounded_to or 'masked'}", tuple(lines), body.arguments(), ahead=rounding_text(rounded_to))


def put_params(cell: Cell, inputs: Inputs) -> None:
    """Say where the cell's own params are, arrays (rows, H)."""
    for param, rows in cell.pointwise.items():
        for k, row in enumerate(rows):
            inputs.put(f"params.{param}.{row}", Load(Array(f"param_{identifier(param)}").of_units(k)))


def sum_of_part(k: int) -> Place:
    """Return the place of a part of the product, where the kernel makes it."""
    return Place(SUMS, f"g + {k} * block_units", "g")


def _product(kind: str, k: int, count: int) -> Place:
    return Place(Array(f"{kind}_gates"), f"((long long)b * {count} + {k}) * units + u", "bu")


def _bias(kind: str, k: int) -> Given:
    return Given(Array(f"{kind}_bias").of_units(k))
