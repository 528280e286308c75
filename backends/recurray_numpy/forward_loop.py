"""Writing a cell's forward loop."""

from __future__ import annotations

from dataclasses import dataclass

from recurray_numpy.code import Code, as_loop
from recurray_numpy.names import lines_of, places_of_inputs, targets_of
from recurray_numpy.plan import Plan, needed, operations
from recurray_numpy.writer import Stretch, Writer, constant


@dataclass(frozen=True)
class Forward:
    """The forward loop, and the arrays that it leaves what backward reads in, by saved name."""

    loop: Code
    homes: dict[str, str]


def forward_loop(plan: Plan, *, training: bool, vector: bool, projected: bool) -> Forward:
    """Write the forward loop.

    Parameters
    ----------
    plan : Plan
    training : bool
        Whether every step is kept for backward.
    vector : bool
        Whether the batch is one row, so that arrays are vectors.
    projected : bool
        Whether the layer's output is a projection of the cell's h.
    """
    program, states = plan.step, plan.cell.states
    places = places_of_inputs(program, states="before" if training else "state")
    places |= {value: f"z_{gate}" for value, gate in plan.activated.items()}

    after = {"h": "output" if projected else "h_next"}
    after |= {state: f"after_{state}" if training else f"state_{state}" for state in states[1:]}
    goals = [(program.outputs[f"after.{state}"], after[state]) for state in states]
    homes: dict[str, str] = {}
    if training:
        there = places | targets_of(goals)[0]
        for output, value in program.outputs.items():
            group, _, name = output.partition(".")
            if group == "saved":
                homes[name] = there[value] if isinstance(value, int) and value in there else f"saved_{name}"
                goals.append((value, homes[name]))
    targets, copies = targets_of(goals)

    wanted = needed(program, targets)
    gates = [place for place in places.values() if place.startswith(("x_", "z_", "h_")) and place != "h_prev"]
    in_place = [] if training else [after[state] for state in states[1:]]
    stretch = Writer(program, "t").write(
        [value for value in operations(program) if value in wanted and value not in places],
        places,
        reusable=[*gates, *in_place],
        targets=targets,
    )
    lines = [*_products(plan, vector), *_activation(plan, stretch), *stretch.lines, *lines_of(copies, stretch)]
    if projected:
        lines.append("dot(output, w_projection, h_next)" if vector else "matmul(w_projection, output, h_next)")
    shared = ["w_merged", "w_apart", "w_hidden", "w_projection", "product"]
    if not training:
        shared.append("output")
    if not training and not vector:  # one step's gates serve all
        shared += ["stepwise", "merged", "apart", "logistic", "activated"]
        shared += [f"{'z' if gate in plan.gates.merged else 'h'}_{gate}" for gate in plan.gates.of_output]
    return Forward(as_loop(lines, stretch, shared), homes)


def _products(plan: Plan, vector: bool) -> list[str]:
    """The gates' products. For one row ``stepwise`` already holds all that doesn't depend on h."""
    if vector:
        return ["dot(h_prev, w_hidden, product)", "add(stepwise, product, stepwise)"] if plan.gates.of_output else []
    lines = ["matmul(w_merged, operand, merged)"] if plan.gates.merged else []
    return lines + (["matmul(w_apart, operand_h, apart)"] if plan.gates.apart else [])


def _activation(plan: Plan, stretch: Stretch) -> list[str]:
    """The merged gates' activations. The inner 0.5 of logistic(a) = 0.5 tanh(0.5 a) + 0.5 is in the weights."""
    lines = ["tanh(activated, activated)"] if plan.activated else []
    if plan.gates.logistic:
        half = constant(0.5, stretch)
        lines += [f"multiply(logistic, {half}, logistic)", f"add(logistic, {half}, logistic)"]
    return lines
