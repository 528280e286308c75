"""The backward step of a cell, for its kernels to be written from.

T time, B batch, H hidden units. The arrays, besides those that forward has filled and the cell's params:

    dy             (T, B, H)         the gradient of the output
    d_h            (B, H)            the gradient of the output before the step, but for what comes through the product
    product        (B, H)            what comes through the product: the gates' gradients times the recurrent weights
    d_c            (B, H)            the gradient of any other state
    doutput        (B, H)            the gradient of the cell's h, where the layer's output is its projection
    dx_gates       (T, B, gates, H)  the gradients of the gates' parts: from the input,
    dh_gates       (T, B, gates, H)  from the output before, where they aren't the same,
    dh_bits        (T, B, gates, H)  the same, rounded to operands of products,
    dinner_gates   (T, B, gates, H)  and from what the product amid the step is with,
    dinner_bits    (T, B, gates, H)  the same, rounded,
    dinner         (B, H)            the gradient of that, but for the mask
    dparams        (rows, B, H)      the gradients of the cell's own params, added up over the steps
    mask           (B, H)            what the output is multiplied by on its way into the product, or null
    lengths        (B,)              of the rows, or null

Past its length a row's gates have no gradient, and the gradients of its states stay what they are.
"""

from __future__ import annotations

from functools import lru_cache

from recurray.cells.cell import Cell
from recurray.program import INNER_BACKWARD, Constant, Program, has_one_gradient
from recurray_cupy.forward_step import BITS, Saved, put_params, state_array, sum_of_part
from recurray_cupy.kernel import ELEMENT_OF_GRID, LENGTHS, Body, Kernel
from recurray_cupy.rounding import rounded_bits, rounding_text
from recurray_cupy.step import (
    Array,
    Carried,
    CarriedValue,
    Expression,
    Goal,
    Inputs,
    Load,
    Masked,
    Place,
    Step,
    Sum,
    Total,
    identifier,
)

DY, PRODUCT = Array("dy"), Array("product")


def backward_step(
    cell: Cell, program: Program, saved: Saved, *, projected: bool, whole: bool = False, rounded_to: str = ""
) -> Step:
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
        Whether the kernel makes the product with the recurrent weights as well; see `recurray_cupy.persistent`.
    rounded_to : str
        What the kernel rounds the gradients of ``dh_gates`` and ``dinner_gates`` to as well, for products; empty if it
        doesn't.
    """
    outputs = program.outputs
    inputs = Inputs(program)
    for name, expression in saved.found.items():
        inputs.put(f"saved.{name}", expression)
    put_params(cell, inputs)
    for state in cell.states:
        inputs.put(f"before.{state}", Load(state_array(state).before()))
        inputs.put(f"d.{state}", CarriedValue(f"dstate_{identifier(state)}"))
    d_h = Load(Array("doutput").element()) if projected else Total((CarriedValue("dstate_h"), Load(DY.timed())))
    inputs.put("d.h", d_h)

    goals = [
        Goal(outputs[f"x.{gate}"], gate_gradient("dx_gates", k, len(cell.input_gates)))
        for k, gate in enumerate(cell.input_gates)
    ]
    if not shares_gradients(cell, program):
        goals += [
            Goal(outputs[f"h.{gate}"], gate_gradient("dh_gates", k, len(cell.outer_gates)))
            for k, gate in enumerate(cell.outer_gates)
        ]
    if rounded_to:
        count = len(cell.outer_gates)
        goals += [
            Goal(outputs[f"h.{gate}"], gate_gradient("dh_bits", k, count, BITS), rounded_to=rounded_to)
            for k, gate in enumerate(cell.outer_gates)
        ]
    for k, value in enumerate(program.values):
        if value.operation == INNER_BACKWARD:
            inputs.found[k] = Masked(Array("dinner").element())
            for j, operand in enumerate(value.operands):
                goals.append(Goal(operand, gate_gradient("dinner_gates", j, len(value.operands)), for_product=True))
                if rounded_to:
                    place = gate_gradient("dinner_bits", j, len(value.operands), BITS)
                    goals.append(Goal(operand, place, for_product=True, rounded_to=rounded_to))

    carried = []
    for state in cell.states:
        name, place = f"dstate_{identifier(state)}", _gradient(state).element()
        result = outputs.get(f"before.{state}", Constant(0.0))
        if state == "h" and projected:
            if result != Constant(0.0):
                carried.append(Carried(name, result, Load(place), place))
        elif state == "h" and whole:
            carried.append(Carried(name, result, Load(place), place, through=Masked(sum_of_part(0))))
        else:
            carried.append(Carried(name, result, incoming(cell) if state == "h" else Load(place), place))
    sums = []
    for k, row in enumerate(params_of(cell)):
        if outputs[f"params.{row}"] != Constant(0.0):
            sums.append(Sum(outputs[f"params.{row}"], Array("dparams").of_elements(k)))
    row_names = {f"saved.{name}" for name in saved.by_row}
    return Step(
        name=f"{identifier(type(cell).__name__)}_backward{rounded_to and '_' + rounded_to}",
        program=program,
        inputs=inputs.found,
        row_inputs=frozenset(k for k, value in enumerate(program.values) if value.name in row_names),
        goals=tuple(goals),
        carried=tuple(carried),
        sums=tuple(sums),
        backward=True,
    )


def shares_gradients(cell: Cell, program: Program) -> bool:
    """Tell whether each gate's parts from the input and from the output before have one gradient."""
    return cell.outer_gates == cell.input_gates and all(has_one_gradient(gate, program) for gate in cell.input_gates)


def params_of(cell: Cell) -> list[str]:
    """Return the rows of the cell's own params, "name.row", in the order of `dparams`."""
    return [f"{param}.{row}" for param, rows in cell.pointwise.items() for row in rows]


def gate_gradient(array: str, k: int, count: int, kind: str = "real") -> Place:
    """Return the place of a gate's gradient."""
    return Place(Array(array, kind), f"(((long long)t * batch + b) * {count} + {k}) * units + u", "tbu")


def _gradient(state: str) -> Array:
    return Array(f"d_{identifier(state)}")


def incoming(cell: Cell) -> Expression:
    """Return the gradient of the output before the step that is carried here from the step after it."""
    carried = Load(_gradient("h").element())
    return Total((carried, Masked(PRODUCT.element()))) if cell.outer_gates else carried


@lru_cache(maxsize=1024)
def gather(cell: Cell, rounded_to: str) -> Kernel:
    """Write the kernel that makes the gradient of a projected output, ``dprojected`` (T, B, R); here H is R.

    It is an operand alone, so where operands are rounded it is its bits.
    """
    body = Body()
    total = f"valid ? total + {body.load(DY.timed())} : (real)0"
    if rounded_to:
        total = rounded_bits(rounded_to, total)
    projected = Array("dprojected", BITS if rounded_to else "real").timed()
    lengths = body.array(LENGTHS)
    lines = [
        *ELEMENT_OF_GRID,
        "const int t = start;",
        f"const bool valid = {lengths} ? t < {lengths}[e / units] : true;",
        f"const real total = {body.text(incoming(cell))};",
        f"{body.store(projected)} = {total};",
        f"{body.store(_gradient('h').element())} = valid ? (real)0 : total;",
    ]
    name = f"gather{rounded_to and '_' + rounded_to}"
    return Kernel(name, tuple(lines), body.arguments(), ahead=rounding_text(rounded_to))
