"""The names of the arrays that the written functions work on.

S steps, n rows of the batch, H hidden units. Each array is either timed, with the steps along its first axis, or
shared by all steps. Where the batch is a single row there is no axis for it.

    operand, operand_h       timed   [x; 1; h] before the step, (I + 1 + R, n), and its part [1; h]
    h_operand, h_masked      timed   the h in it, and the one in the next step's; it is multiplied by output_mask
    h_prev, h_next           timed   the output before and after the step, (R, n)
    output_mask              shared
    before_c, after_c        timed   any other state before and after it, (H, n), where all steps are kept
    state_c                  shared  the same in one place, where they are not
    stepwise                 timed   the gates that have a product with the output before (shared where not all steps
                                     are kept), their parts being
    merged, apart                    by product,
    logistic, activated              by what their activation does, with scale and shift where there is one row,
    x_k, z_k, h_k                    and each gate: hoisted; merged; apart or inner
    from_input               timed   for one row, what of stepwise doesn't depend on the output before: the same memory
                                     where all steps are kept
    product                  shared  for one row, the product with the output before
    joint, joint_logistic    timed   activations that are computed together, shared where not all steps are kept; and
    joint_0, ...                     each; see `recurray_numpy.joint`
    inner, inner_operand     timed   the inner gates, and what their product is with
    x_m                      timed   a draw of the cell
    saved_k                  timed   what else backward reads
    output                   timed   the cell's h where the layer's output is its projection
    dstepwise, dinner        timed   the gradients of stepwise and of inner, and
    dx_k, dz_k, dh_k                 of each gate
    dy, dprojected           timed   the gradient of the output: what came in, and with what was carried
    dh, d_c, d_output        shared  the gradients of the states, and of the cell's h where it is projected
    direct                   shared  what of the gradient of the output before doesn't come through the product
    param_u_i                shared  a row of the cell's own params
    t0, a0, b0, kept0, ...           work space: of the loop, ahead of it, after it, and from loop to after
"""

from __future__ import annotations

from collections.abc import Iterable

from recurray.recording import Constant, Operand, Program
from recurray_numpy.writer import Stretch, constant

Copies = list[tuple[Operand, str]]


def places_of_inputs(program: Program, *, states: str) -> dict[int, str]:
    """Return the arrays that hold a program's inputs; ``states`` is what the states' names begin with."""
    places = {}
    for k, value in enumerate(program.values):
        group, _, name = value.name.partition(".")
        if value.operation != "input":
            continue
        if group == "before":
            places[k] = "h_prev" if name == "h" else f"{states}_{name}"
        elif group == "params":
            places[k] = f"param_{name.replace('.', '_')}"
        else:
            places[k] = f"{group}_{name}"
    return places


def targets_of(goals: Iterable[tuple[Operand, str]]) -> tuple[dict[int, str], Copies]:
    """Split pairs of a value and the array that it must end in.

    Returns
    -------
    targets : dict of int to str
        By value its first array.
    copies : list
        The other pairs: constants, and values that have an array already.
    """
    targets: dict[int, str] = {}
    copies: Copies = []
    for value, place in goals:
        if isinstance(value, Constant) or value in targets:
            copies.append((value, place))
        else:
            targets[value] = place
    return targets, copies


def lines_of(copies: Copies, stretch: Stretch) -> list[str]:
    """Write the copies that `targets_of` left."""
    lines = []
    for value, place in copies:
        source = constant(value.number, stretch) if isinstance(value, Constant) else stretch.places[value]
        if source != place:
            lines.append(f"copyto({place}, {source})")
    return lines
