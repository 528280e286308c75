"""The forward step of a cell, for its kernels to be written from.

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
    saved, saved_rows              what backward reads; see `recurray_cupy.saved`
    mask, h_masked  (B, H)         what the output is multiplied by on its way into the product, or null; the result
    lengths      (B,)              of the rows, or null
"""

from __future__ import annotations

from recurray.cells.cell import Cell
from recurray.program import INNER, Program
from recurray_cupy.expressions import identifier
from recurray_cupy.saved import Saved, after, before, timed
from recurray_cupy.step import Carried, Goal, Names, Step


def forward_step(
    cell: Cell, program: Program, saved: Saved, *, keep: bool, projected: bool, whole: bool = False
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
        Whether the kernel makes the product with the output before as well; see `recurray_cupy.recurrence`.
    """
    outputs = program.outputs
    names = Names(program)
    for k, gate in enumerate(cell.input_gates):
        row, count = "((long long)(t - first) * batch + b)", len(cell.input_gates)
        names.put(f"x.{gate}", f"x_gates[({row} * {count} + {k}) * units + u] + {_bias('x_bias', k)}")
    for k, gate in enumerate(cell.outer_gates):
        product = f"{part(k)} + {_bias('h_bias', k)}" if whole else _product("h", k, len(cell.outer_gates))
        names.put(f"h.{gate}", product)
    for draw in cell.draws:
        name = identifier(draw)
        names.put(f"x.{draw}", f"(draw_{name} ? {timed(f'draw_{name}')} : mean_{name})")
    put_params(cell, names)
    for state in cell.states:
        names.put(f"before.{state}", f"{{before_{identifier(state)}}}")
    inputs = names.places
    for k, value in enumerate(program.values):
        if value.operation == INNER:
            inputs[k] = _product("inner", cell.inner_gates.index(value.name), len(cell.inner_gates))

    carried, goals = [], []
    for state in cell.states:
        result, each_step = outputs[f"after.{state}"], keep or state == "h"
        now = before(state) if each_step else f"state_{identifier(state)}[e]"
        then = after(state) if each_step else now
        if state == "h" and projected:  # the product with the projection makes the state
            goals.append(Goal(result, timed("output") if keep else "output[e]"))
            inputs = {k: place.replace("{before_h}", now) for k, place in inputs.items()}
        else:
            carried.append(Carried(f"before_{identifier(state)}", result, now, then, each_step))
    if not projected and cell.outer_gates and not whole:
        # Of a row past its length it stays what it is.
        goals.append(Goal(outputs["after.h"], "h_masked[e]", otherwise=None, factor="mask[e]"))
    if cell.inner_gates:
        goals.append(Goal(outputs["inner"], timed("inner") if keep else "inner[e]", for_product=True))
    return Step(
        name=f"{identifier(type(cell).__name__)}_{'forward' if keep else 'inference'}",
        program=program,
        inputs=inputs,
        goals=(*goals, *(saved.goals if keep else ())),
        carried=tuple(carried),
    )


def put_params(cell: Cell, names: Names) -> None:
    """Say where the cell's own params are, arrays (rows, H)."""
    for param, rows in cell.pointwise.items():
        for k, row in enumerate(rows):
            names.put(f"params.{param}.{row}", f"param_{identifier(param)}[{k} * units + u]")


def part(k: int) -> str:
    """The place of a part of the product, where the kernel makes it."""
    return f"gates[g + {k} * block_units]"


def _product(kind: str, k: int, count: int) -> str:
    return f"{kind}_gates[((long long)b * {count} + {k}) * units + u] + {_bias(f'{kind}_bias', k)}"


def _bias(name: str, k: int) -> str:
    return f"({name} ? {name}[{k} * units + u] : (real)0)"
