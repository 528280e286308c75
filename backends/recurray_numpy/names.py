"""The names of the arrays that the written functions work on.

S steps, n rows of the batch, H hidden units. Each array is either timed, with the steps along its first axis, or
shared by all steps. Where the batch is a single row there is no axis for it.

What is of the cell's own, a gate, a state, a param, is called by its name after a word and an underscore, as `name_of`
joins them: `z_f`. A cell may use any name; so no other array has one of these words before its first underscore.

    operand, operand_h       timed   [x; 1; h] before the step, (I + 1 + R, n), and its part [1; h]
    before_h, after_h        timed   the output before and after the step, (R, n)
    masked, masked_after     timed   where there is an output_mask (shared), the two multiplied by it: the h in this
                                     step's operand and in the next one's
    before_c, after_c        timed   any other state before and after it, (H, n), where all steps are kept
    state_c                  shared  the same in one place, where they are not
    stepwise                 timed   the gates that have a product with the output before (shared where not all steps
                                     are kept), their parts being
    merged, apart                    by product,
    logistic, hyperbolic             by what their activation does; see `recurray_numpy.gate_order`,
    x_k, z_k, h_k                    and each gate: hoisted; merged; apart or inner
    tanh_k                   timed   the tanh of a gate among logistic ones (shared where not all steps are kept)
    most, divisor            shared  for the logistic gates: the bound of what they are of, and work space
    bias_hoisted, bias_merged  shared  where each row of the batch has a bias of its own: that, of these gates
    from_input               timed   for one row, what of stepwise doesn't depend on the output before: the same memory
                                     where all steps are kept
    product                  shared  for one row, the product with the output before
    joint_logistic           timed   activations that are computed together, shared where not all steps are kept, and
    joint_tanh, joint_0, ...         each; see `recurray_numpy.joint`
    joint_most               shared  as most, and joint_divisor as divisor
    inner, inner_operand     timed   the inner gates, and what their product is with
    x_m                      timed   a draw of the cell
    saved_k                  timed   what else backward reads
    output                   timed   the cell's h where the layer's output is its projection
    dstepwise, dinner        timed   the gradients of stepwise and of inner, and
    dx_k, dz_k, dh_k                 of each gate
    dy, dprojected           timed   the gradient of the output: what came in, and with what was carried
    d_h, d_c, doutput        shared  the gradients of the states, and of the cell's h where it is projected
    direct                   shared  what of the gradient of the output before doesn't come through the product
    param_1_u_i              shared  a row of the cell's own params, behind the length of the param's name: else rows
                                     of two params could have one name
    t0, a0, b0, kept0, ...           work space: of the loop, ahead of it, after it, and from loop to after
    t_filled40_0, ...                work space full of a number, here 40, with the letters as above
    t_constant0, ...                 numbers, with the same letters
"""

from __future__ import annotations

from typing import Literal

from recurray.cells.cell import Cell
from recurray.program import Program
from recurray_numpy.calls import Array

Word = Literal["x", "z", "h", "tanh", "before", "after", "state", "saved", "param", "dx", "dz", "dh", "d"]


def name_of(word: Word, name: str) -> str:
    """Return the name of the array of something that is called ``name`` in the cell."""
    return f"{word}_{name}"


def of_cell(word: Word, name: str, *, timed: bool = True) -> Array:
    """Return the array of something that is called ``name`` in the cell."""
    return Array(name_of(word, name), timed)


def shared(name: str) -> Array:
    """Return an array that is the same for every step."""
    return Array(name, timed=False)


def param_name(name: str, row: str) -> str:
    """Return the name of the array of a row of a param."""
    return name_of("param", f"{len(name)}_{name}_{row}")


def places_of_inputs(program: Program, cell: Cell, *, each_step: bool) -> dict[int, Array]:
    """Return the arrays that hold the inputs of a cell's program; ``each_step`` is whether all steps are kept."""
    words: tuple[Word, ...] = ("x", "z", "h", "before", "saved", "d")
    places = {}
    for word in words:
        for name, k in program.inputs_of(word).items():
            places[k] = of_cell(word, name, timed=each_step or word not in ("z", "h"))
            if word == "before" and name != "h" and not each_step:
                places[k] = of_cell("state", name, timed=False)
    rows = {f"{name}.{row}": param_name(name, row) for name, names in cell.pointwise.items() for row in names}
    return places | {k: shared(rows[name]) for name, k in program.inputs_of("params").items()}
