"""Writing a cell's forward loop."""

from __future__ import annotations

from dataclasses import dataclass

from recurray.recording import Constant
from recurray_numpy.code import Code, as_loop
from recurray_numpy.names import lines_of, places_of_inputs, targets_of
from recurray_numpy.plan import Plan, needed, operations
from recurray_numpy.writer import FLOATS, Stretch, Writer, constant


@dataclass(frozen=True)
class Forward:
    """The forward loop.

    Attributes
    ----------
    homes : dict of str to str
        The array that each saved value is in.
    kinds : dict of str to str
        The kinds of the arrays made for saved values.
    """

    loop: Code
    homes: dict[str, str]
    kinds: dict[str, str]


def forward_loop(plan: Plan, *, training: bool, vector: bool, projected: bool, masked: bool) -> Forward:
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
    masked : bool
        Whether the output is masked on its way into the recurrent product.
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
                homes[name] = (
                    f"saved_{name}" if isinstance(value, Constant) else there.setdefault(value, f"saved_{name}")
                )
                goals.append((value, homes[name]))
    if training and plan.gates.inner:
        goals.append((program.outputs["inner"], "inner_operand"))
    targets, copies = targets_of(goals)

    wanted = needed(program, targets)
    gates = [place for place in places.values() if place.startswith(("x_", "z_", "h_")) and place != "h_prev"]
    gates = [*gates, *(f"h_{gate}" for gate in plan.gates.inner)]
    in_place = [] if training else [after[state] for state in states[1:]]
    writer = Writer(program, "t", vector=vector)
    stretch = writer.write(
        [value for value in operations(program) if value in wanted and value not in places],
        places,
        reusable={*gates, *in_place} - {f"x_{name}" for name in plan.cell.draws},
        targets=targets,
    )
    lines = [*_products(plan, vector), *_activation(plan, stretch), *stretch.lines, *lines_of(copies, stretch)]
    if projected:
        lines.append("dot(output, w_projection, h_next)" if vector else "matmul(w_projection, output, h_next)")
    if masked:
        lines.append("multiply(h_next, output_mask, h_masked)")
    shared = ["w_merged", "w_apart", "w_hidden", "w_inner", "b_inner", "w_projection", "product", "output_mask"]
    if not training:
        shared += ["output", "inner", *(f"h_{gate}" for gate in plan.gates.inner)]
    if not training and not vector:  # one step's gates serve all
        shared += ["stepwise", "merged", "apart", "logistic", "activated"]
        shared += [f"{'z' if gate in plan.gates.merged else 'h'}_{gate}" for gate in plan.gates.of_output]
    kinds = {
        place: FLOATS if isinstance(value, Constant) else writer.kinds[value]
        for value, place in goals
        if place.startswith("saved_")
    }
    return Forward(as_loop(lines, stretch, shared), homes, kinds)


def _products(plan: Plan, vector: bool) -> list[str]:
    """The gates' products. For one row ``stepwise`` already holds all that doesn't depend on h."""
    if vector:
        return ["dot(h_operand, w_hidden, product)", "add(stepwise, product, stepwise)"] if plan.gates.of_output else []
    lines = ["matmul(w_merged, operand, merged)"] if plan.gates.merged else []
    return lines + (["matmul(w_apart, operand_h, apart)"] if plan.gates.apart else [])


def _activation(plan: Plan, stretch: Stretch) -> list[str]:
    """The merged gates' activations. The inner 0.5 of logistic(a) = 0.5 tanh(0.5 a) + 0.5 is in the weights."""
    lines = ["tanh(activated, activated)"] if plan.activated else []
    if plan.gates.logistic:
        half = constant(0.5, stretch)
        lines += [f"multiply(logistic, {half}, logistic)", f"add(logistic, {half}, logistic)"]
    return lines
