"""Writing a cell's backward.

What doesn't depend on the gradients that are carried from step to step is computed ahead of the loop for many steps
at once; what no step waits for, after it. Only the rest is in the loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from recurray.program import INNER_BACKWARD, Constant, is_value, values_of
from recurray_numpy.calls import Array, Code
from recurray_numpy.forward_loop import forward_loop
from recurray_numpy.gate_order import GateOrder
from recurray_numpy.lower import Goals, Lowering, targets_of
from recurray_numpy.names import of_cell, places_of_inputs, shared

ZERO = Constant(0.0)


@dataclass(frozen=True)
class Backward:
    """The parts of backward for a chunk of steps."""

    ahead: Code
    loop: Code
    after: Code
    sums: dict[tuple[str, str], str]  # by pointwise param and row: the timed array whose sum is the gradient


@lru_cache(maxsize=1024)
def backward_loops(order: GateOrder, *, vector: bool, projected: bool, masked: bool) -> Backward:
    """Write backward.

    Parameters
    ----------
    order : GateOrder
    vector, projected, masked : bool
        As in `forward_loop`.
    """
    forward = forward_loop(order, training=True, vector=vector, as_they_lie=False, projected=projected, masked=masked)
    program, gates, states = order.step_backward, order.gates_for(vector=vector), order.cell.states
    outputs = program.outputs
    in_ahead, in_loop, in_after = _parts(order)
    places = places_of_inputs(program, order.cell, each_step=True)
    places |= {k: forward.homes[name] for name, k in program.inputs_of("saved").items()}
    d = {state: of_cell("d", state, timed=False) for state in states}
    carried = {program.find(f"d.{state}"): place for state, place in d.items()}
    if projected:
        carried[program.find("d.h")] = shared("doutput")
    carried.pop(-1, None)  # a state whose gradient isn't read
    places |= carried

    results = values_of(program.outputs_of("params").values())
    read_after = program.read_by(in_after)
    read_later = program.read_by(in_loop) | read_after | values_of(outputs.values())
    ahead = Lowering(program, "a", places, vector=vector, timed=True)
    ahead.lower(in_ahead, kept=read_later & set(in_ahead))

    # Each gate's gradient goes to its rows, a state's to where the step before looks for it.
    gradients = [outputs[f"x.{gate}"] for gate in gates.of_input]
    gradients += [outputs[f"h.{gate}"] for gate in gates.apart + gates.inner]
    gate_goals = [(value, Array(name)) for value, name in zip(gradients, gates.gradient_names, strict=True)]
    goals: Goals = [(value, place) for value, place in gate_goals if value not in in_after]
    goals += [(outputs.get(f"before.{state}", ZERO), place) for state, place in d.items() if state != "h"]
    direct = outputs.get("before.h", ZERO)
    if not gates.of_output:
        goals.append((direct, d["h"]))
    elif direct != ZERO:
        goals.append((direct, shared("direct")))
    targets, copies = targets_of(goals)
    loop = Lowering(program, "t", ahead.places, vector=vector, masked=masked)
    for k, kept in enumerate(sorted((read_after | results) & {*in_loop, *carried} - set(targets))):
        targets[kept] = Array(f"kept{k}", kind=loop.kinds[kept], is_work=True)
    loop.call("add", d["h"], Array("dy"), d["h"])
    if projected:
        loop.call("copyto", d["h"], Array("dprojected"))
        loop.product("w_projection", d["h"], shared("doutput"))
    loop.lower(in_loop, reusable=carried.values(), targets=targets)
    loop.copy(copies)
    if gates.of_output:
        loop.product("w_hidden", Array("dstepwise"), d["h"])
        if masked:
            loop.call("multiply", d["h"], shared("output_mask"), d["h"])
        if direct != ZERO:
            loop.call("add", d["h"], shared("direct"), d["h"])

    targets, copies = targets_of([(value, place) for value, place in gate_goals if value in in_after])
    after = Lowering(program, "b", loop.places, vector=vector, timed=True)
    after.lower(in_after, targets=targets, kept=results)
    after.copy(copies)
    sums = {}
    for param, row in ((param, row) for param, rows in order.cell.pointwise.items() for row in rows):
        value = outputs[f"params.{param}.{row}"]
        if is_value(value):
            sums[param, row] = after.places[value].name
    return Backward(Code(ahead.calls), Code(loop.calls, is_loop=True), Code(after.calls), sums)


def _parts(order: GateOrder) -> tuple[list[int], list[int], list[int]]:
    """Split backward by what waits for what: the values that are computed ahead of the loop, in it, and after it."""
    program, gates, states = order.step_backward, order.gates, order.cell.states
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
    in_order = [k for k in program.computed() if k in wanted]
    return (
        [k for k in in_order if k not in dependent],
        [k for k in in_order if k in in_loop],
        [k for k in in_order if k in dependent and k not in in_loop],
    )
