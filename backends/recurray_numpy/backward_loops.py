"""Writing a cell's backward.

What doesn't depend on the gradients that are carried from step to step is computed ahead of the loop for many steps
at once; what no step waits for, after it. Only the rest is in the loop.
"""

from __future__ import annotations

from dataclasses import dataclass

from recurray.program import INNER_BACKWARD, Constant, values_of
from recurray_numpy.code import Code, as_loop, at_once
from recurray_numpy.forward_loop import Forward
from recurray_numpy.goals import lines_of, targets_of
from recurray_numpy.names import name_of, places_of_inputs
from recurray_numpy.plan import Plan
from recurray_numpy.writer import ROW, Writer


@dataclass(frozen=True)
class Backward:
    """The parts of backward for a chunk of steps."""

    ahead: Code
    loop: Code
    after: Code
    sums: dict[tuple[str, str], str]  # by pointwise param and row: the timed array whose sum is the gradient


@dataclass(frozen=True)
class _Parts:
    """Which values are computed where, in order."""

    ahead: list[int]
    loop: list[int]
    after: list[int]


def backward_loops(plan: Plan, forward: Forward, *, vector: bool, projected: bool, masked: bool) -> Backward:
    """Write backward.

    Parameters
    ----------
    plan : Plan
    forward : Forward
        Where forward left what backward reads.
    vector, projected, masked : bool
        As in `forward_loop`.
    """
    program, gates, states = plan.step_backward, plan.gates_for(vector=vector), plan.cell.states
    outputs = program.outputs
    parts = _parts(plan)
    places = places_of_inputs(program, states="before")
    for k, read in enumerate(program.values):
        if read.name.startswith("saved."):
            places[k] = forward.homes[read.name.removeprefix("saved.")]
    rows = [k for k, place in places.items() if forward.kinds.get(place) == ROW]
    carried = {program.find(f"d.{state}"): name_of("d", state) for state in states}
    if projected:
        carried[program.find("d.h")] = "doutput"
    carried.pop(-1, None)  # a state whose gradient isn't read
    places |= carried

    param_gradients = {name: value for name, value in outputs.items() if name.startswith("params.")}
    results = values_of(param_gradients.values())
    read_later = {operand for k in parts.loop + parts.after for operand in program.values[k].reads}
    read_later |= values_of(outputs.values())
    ahead = Writer(program, "a", vector=vector, rows=rows).write(
        parts.ahead, places, kept=read_later & set(parts.ahead)
    )

    # Each gate's gradient goes to its rows, a state's to where the step before looks for it.
    gradients = [outputs[f"x.{gate}"] for gate in gates.of_input]
    gradients += [outputs[f"h.{gate}"] for gate in gates.apart + gates.inner]
    gate_goals = list(zip(gradients, gates.gradient_names, strict=True))
    goals = [(value, place) for value, place in gate_goals if value not in parts.after]
    goals += [(outputs.get(f"before.{state}", Constant(0.0)), name_of("d", state)) for state in states[1:]]
    direct = outputs.get("before.h", Constant(0.0))
    if not gates.of_output:
        goals.append((direct, "d_h"))
    elif direct != Constant(0.0):
        goals.append((direct, "direct"))
    targets, copies = targets_of(goals)
    read_after = {operand for k in parts.after for operand in program.values[k].reads} | results
    for k, kept in enumerate(sorted(read_after & {*parts.loop, *carried} - set(targets))):
        targets[kept] = f"kept{k}"
    loop = Writer(program, "t", vector=vector, masked=masked, rows=rows).write(
        parts.loop, ahead.places, reusable=carried.values(), targets=targets
    )
    lines = ["add(d_h, dy, d_h)"]
    if projected:
        lines.append("copyto(dprojected, d_h)")
        lines.append("dot(d_h, w_projection, doutput)" if vector else "matmul(w_projection, d_h, doutput)")
    lines += [*loop.lines, *lines_of(copies, loop)]
    if gates.of_output:
        lines.append("dot(dstepwise, w_hidden, d_h)" if vector else "matmul(w_hidden, dstepwise, d_h)")
        if masked:
            lines.append("multiply(d_h, output_mask, d_h)")
        if direct != Constant(0.0):
            lines.append("add(d_h, direct, d_h)")
    shared = ["direct", "doutput", "w_hidden", "w_inner", "w_projection", "output_mask"]
    shared += [name_of("d", state) for state in states]

    targets, copies = targets_of((value, place) for value, place in gate_goals if value in parts.after)
    after = Writer(program, "b", vector=vector, rows=rows).write(
        parts.after, loop.places, targets=targets, kept=results
    )
    after.lines += lines_of(copies, after)
    sums = {}
    for name, value in param_gradients.items():
        if isinstance(value, int):
            _, param, row = name.split(".")
            sums[param, row] = after.places[value]
    return Backward(at_once(ahead), as_loop(lines, loop, shared), at_once(after), sums)


def _parts(plan: Plan) -> _Parts:
    """Split backward by what waits for what."""
    program, gates, states = plan.step_backward, plan.gates, plan.cell.states
    outputs = program.outputs
    carried = {program.find(f"d.{state}") for state in states} - {-1}
    dependent = program.dependents(carried)
    wanted = program.needed(outputs.values())
    for_step_before = {f"before.{state}" for state in states}
    for_step_before |= {f"h.{gate}" for gate in gates.of_output + gates.inner}
    results = values_of(value for name, value in outputs.items() if name in for_step_before)
    results |= {k for k in wanted if program.values[k].operation == INNER_BACKWARD}  # a product of one step
    results |= {k for k in wanted if carried & set(program.values[k].operands)}  # to be read before it is carried on
    in_loop = program.needed(results) & dependent
    order = [k for k in program.computed() if k in wanted]
    return _Parts(
        ahead=[k for k in order if k not in dependent],
        loop=[k for k in order if k in in_loop],
        after=[k for k in order if k in dependent and k not in in_loop],
    )
