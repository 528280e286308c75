"""The backward step of a cell, for its kernels to be written from.

T time, B batch, H hidden units. The arrays, besides those that forward has filled and the cell's params:

    dy             (T, B, H)         the gradient of the output
    d_h            (B, H)            the gradient of the output before the step, but for what comes through the product
    product        (B, H)            what comes through the product: the gates' gradients times the recurrent weights
    d_c            (B, H)            the gradient of any other state
    doutput        (B, H)            the gradient of the cell's h, where the layer's output is its projection
    dx_gates       (T, B, gates, H)  the gradients of the gates' parts: from the input,
    dh_gates       (T, B, gates, H)  from the output before, where they aren't the same,
    dinner_gates   (T, B, gates, H)  and from what the product amid the step is with
    dinner         (B, H)            the gradient of that
    dparams        (rows, B, H)      the gradients of the cell's own params, added up over the steps
    mask           (B, H)            what the output is multiplied by on its way into the product, or null
    lengths        (B,)              of the rows, or null

Past its length a row's gates have no gradient, and the gradients of its states stay what they are.
"""

from __future__ import annotations

from recurray.cells.cell import Cell
from recurray.program import INNER_BACKWARD, Constant, Program, has_one_gradient
from recurray_cupy.expressions import identifier
from recurray_cupy.forward_step import part, put_params
from recurray_cupy.kernel import Kernel, kernel
from recurray_cupy.saved import Saved, before, timed
from recurray_cupy.step import Carried, Goal, Names, Step, Sum


def backward_step(cell: Cell, program: Program, saved: Saved, *, projected: bool, whole: bool = False) -> Step:
    """Describe the backward step.

    Parameters
    ----------
    cell : Cell
    program : Program
        Its recorded step backward.
    saved : Saved
        Where forward has left what it saved.
    projected : bool
        Whether the layer's output is a projection of the cell's h.
    whole : bool
        Whether the kernel makes the product with the recurrent weights as well; see `recurray_cupy.recurrence`.
    """
    outputs = program.outputs
    names = Names(program)
    for name, place in saved.places.items():
        names.put(f"saved.{name}", place)
    put_params(cell, names)
    for state in cell.states:
        names.put(f"before.{state}", before(state))
        names.put(f"d.{state}", f"{{dstate_{identifier(state)}}}")
    names.put("d.h", "doutput[e]" if projected else f"{{dstate_h}} + {timed('dy')}")
    inputs = names.places

    goals = [
        Goal(outputs[f"x.{gate}"], gate_gradient("dx_gates", k, len(cell.input_gates)))
        for k, gate in enumerate(cell.input_gates)
    ]
    if not shares_gradients(cell, program):
        goals += [
            Goal(outputs[f"h.{gate}"], gate_gradient("dh_gates", k, len(cell.outer_gates)))
            for k, gate in enumerate(cell.outer_gates)
        ]
    for k, value in enumerate(program.values):
        if value.operation == INNER_BACKWARD:
            inputs[k] = "dinner[e]"
            count = len(value.operands)
            goals += [
                Goal(operand, gate_gradient("dinner_gates", j, count), for_product=True)
                for j, operand in enumerate(value.operands)
            ]

    carried = []
    for state in cell.states:
        name, place = f"dstate_{identifier(state)}", f"d_{identifier(state)}[e]"
        result = outputs.get(f"before.{state}", Constant(0.0))
        if state == "h" and projected:
            if result != Constant(0.0):
                carried.append(Carried(name, result, place, place))
        elif state == "h" and whole:
            carried.append(Carried(name, result, place, place, through=f"(mask ? {part(0)} * mask[e] : {part(0)})"))
        else:
            carried.append(Carried(name, result, incoming(cell) if state == "h" else place, place))
    sums = []
    for k, row in enumerate(params_of(cell)):
        if outputs[f"params.{row}"] != Constant(0.0):
            sums.append(Sum(outputs[f"params.{row}"], f"dparams[{k} * n + e]"))
    row_names = {f"saved.{name}" for name in saved.by_row}
    return Step(
        name=f"{identifier(type(cell).__name__)}_backward",
        program=program,
        inputs=inputs,
        row_inputs=frozenset(k for k, value in enumerate(program.values) if value.name in row_names),
        goals=tuple(goals),
        carried=tuple(carried),
        sums=tuple(sums),
        stride="2 * reverse - 1",
    )


def shares_gradients(cell: Cell, program: Program) -> bool:
    """Tell whether each gate's parts from the input and from the output before have one gradient."""
    return cell.outer_gates == cell.input_gates and all(has_one_gradient(gate, program) for gate in cell.input_gates)


def params_of(cell: Cell) -> list[str]:
    """Return the rows of the cell's own params, "name.row", in the order of `dparams`."""
    return [f"{param}.{row}" for param, rows in cell.pointwise.items() for row in rows]


def gate_gradient(array: str, k: int, count: int) -> str:
    """The place of a gate's gradient."""
    return f"{array}[(((long long)t * batch + b) * {count} + {k}) * units + u]"


def incoming(cell: Cell) -> str:
    """The gradient of the output before the step that is carried here from the step after it."""
    return "d_h[e] + (mask ? product[e] * mask[e] : product[e])" if cell.outer_gates else "d_h[e]"


def gather(cell: Cell) -> Kernel:
    """Write the kernel that makes the gradient of a projected output, ``dprojected`` (T, B, R), here H is R."""
    lines = [
        "const long long n = (long long)batch * units;",
        "const long long e = (long long)blockIdx.x * blockDim.x + threadIdx.x;",
        "if (e >= n) return;",
        "const int t = start;",
        "const bool valid = lengths ? t < lengths[e / units] : true;",
        f"const real total = {incoming(cell)};",
        f"{timed('dprojected')} = valid ? total + {timed('dy')} : (real)0;",
        "d_h[e] = valid ? (real)0 : total;",
    ]
    return kernel("gather", lines, {"dprojected", "d_h"})


def hold() -> Kernel:
    """Write the kernel that keeps the projected output of rows past their length what it was; here H is R."""
    lines = [
        "const long long n = (long long)batch * units;",
        "const long long e = (long long)blockIdx.x * blockDim.x + threadIdx.x;",
        "if (e >= n) return;",
        "const int t = start;",
        "if (t >= lengths[e / units])",
        "    state_h[(long long)(t + 1 - reverse) * n + e] = state_h[(long long)(t + reverse) * n + e];",
    ]
    return kernel("hold", lines, {"state_h"})
