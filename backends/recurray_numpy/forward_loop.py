"""Writing a cell's forward.

What depends on the input alone is computed ahead of the loop, for many steps at once; the rest is in the loop.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from recurray.merging import needed
from recurray.recording import INNER, Constant, Operand, Program
from recurray_numpy.code import Code, as_loop, at_once
from recurray_numpy.joint import Joint, joint_activations
from recurray_numpy.names import lines_of, places_of_inputs, targets_of
from recurray_numpy.plan import Gates, Plan, dependents, operations
from recurray_numpy.writer import FLOATS, Stretch, Writer, constant


@dataclass(frozen=True)
class Forward:
    """The parts of forward.

    Attributes
    ----------
    ahead, loop : Code
        For a chunk of steps; without lines `ahead` needn't be called.
    homes : dict of str to str
        The array that each saved value is in.
    kinds : dict of str to str
        The kinds of the arrays made for saved values.
    joint : Joint
        The activations that are computed together, for which arrays are to be made.
    """

    ahead: Code
    loop: Code
    homes: dict[str, str]
    kinds: dict[str, str]
    joint: Joint


def forward_loop(
    plan: Plan, *, training: bool, vector: bool, as_they_lie: bool, projected: bool, masked: bool
) -> Forward:
    """Write forward.

    Parameters
    ----------
    plan : Plan
    training : bool
        Whether every step is kept for backward.
    vector : bool
        Whether the batch is a single row, so that arrays are vectors.
    as_they_lie : bool
        Whether the recurrent weights are used so, rather than prepared; see `recurray_numpy.plan`.
    projected : bool
        Whether the layer's output is a projection of the cell's h.
    masked : bool
        Whether the output is masked on its way into the recurrent product.
    """
    program, states, blocks = plan.step, plan.cell.states, plan.gates_for(vector=vector)
    places = places_of_inputs(program, states="before" if training else "state")
    places |= {value: f"z_{gate}" for value, gate in plan.activated.items()}
    wanted = _wanted(plan, training)
    joint = joint_activations(plan, wanted)

    after = {"h": "output" if projected else "h_next"}
    after |= {state: f"after_{state}" if training else f"state_{state}" for state in states[1:]}
    goals = [(program.outputs[f"after.{state}"], after[state]) for state in states]
    homes = _homes(plan, places | joint.results, goals) if training else {}
    if training and blocks.inner and not masked:  # else it's written on its way into the product
        goals.append((program.outputs["inner"], "inner_operand"))
    targets, copies = targets_of(goals)

    gate_places = {place for place in places.values() if place.startswith(("x_", "z_", "h_"))} - {"h_prev"}
    gate_places |= {f"h_{gate}" for gate in blocks.inner}
    gate_places -= {f"x_{name}" for name in plan.cell.draws}
    in_place = [] if training else [after[state] for state in states[1:]]
    reusable = {*gate_places, *in_place}
    instead = {value: gate_places for value, place in targets.items() if place.startswith("saved_")}
    order = [k for k in operations(program) if k in wanted and k not in places and k not in joint.results]
    early = _early(plan, targets)
    in_loop = [value for value in order if value not in early]
    ahead = Writer(program, "a", vector=vector).write(
        [value for value in order if value in early],
        places,
        reusable=reusable,
        targets={value: place for value, place in targets.items() if value in early},
        kept=_operands(program, in_loop) | set(targets),
        instead=instead,
    )
    writer = Writer(program, "t", vector=vector, masked=masked)
    reusable -= {ahead.places[value] for value in early if value in ahead.places}
    late = {value: place for value, place in targets.items() if value not in early}
    before_joint = needed(program, joint.operands) & set(in_loop)
    after_joint = [value for value in in_loop if value not in before_joint]
    stretch = writer.write(
        [value for value in in_loop if value in before_joint],
        ahead.places,
        reusable=reusable,
        targets=joint.operands | {k: p for k, p in late.items() if k in before_joint and p.startswith("saved_")},
        kept=_operands(program, after_joint) | set(late),
    )
    stretch.lines += joint.lines(stretch)
    stretch = writer.write(
        after_joint,
        {value: place for value, place in stretch.places.items() if value not in joint.operands} | joint.results,
        reusable={*reusable, *joint.results.values(), *stretch.work},
        targets=late,
        instead=instead,
        onto=stretch,
    )
    for name in homes:
        value = program.outputs[f"saved.{name}"]
        homes[name] = stretch.places[value] if isinstance(value, int) else homes[name]
    lines = [
        *_products(blocks, training, vector),
        *_activation(blocks, vector, as_they_lie, stretch),
        *stretch.lines,
        *lines_of(copies, stretch),
    ]
    if projected:
        lines.append("dot(output, w_projection, h_next)" if vector else "matmul(w_projection, output, h_next)")
    if masked:
        lines.append("multiply(h_next, output_mask, h_masked)")
    shared = [
        "w_merged",
        "w_apart",
        "w_hidden",
        "w_inner",
        "b_inner",
        "w_projection",
        "product",
        "scale",
        "shift",
        "output_mask",
    ]
    if not training:
        shared += ["output", "inner", "inner_operand", *(f"h_{gate}" for gate in blocks.inner)]
    if not training:  # one step's gates serve all
        shared += ["stepwise", "merged", "apart", "logistic", "activated", *joint.names]
        shared += [f"{'z' if gate in blocks.merged else 'h'}_{gate}" for gate in blocks.of_output]
    kinds = {
        place: FLOATS if isinstance(value, Constant) else writer.kinds[value]
        for value, place in goals
        if place.startswith("saved_") and place in homes.values()
    }
    return Forward(at_once(ahead), as_loop(lines, stretch, shared), homes, kinds, joint)


def _wanted(plan: Plan, training: bool) -> set[int]:
    """The values that the states, and in training what is saved, and all products need."""
    program = plan.step
    groups = ("after.", "saved.") if training else ("after.",)
    wanted = {value for name, value in program.outputs.items() if name.startswith(groups)}
    wanted |= {k for k, value in enumerate(program.values) if value.operation == INNER}
    return needed(program, (value for value in wanted if isinstance(value, int)))


def _homes(plan: Plan, places: dict[int, str], goals: list[tuple[Operand, str]]) -> dict[str, str]:
    """Choose where each saved value is to be; where it isn't there already by itself, add that to the goals."""
    homes = {}
    there = places | targets_of(goals)[0]
    for output, value in plan.step.outputs.items():
        group, _, name = output.partition(".")
        if group == "saved":
            own = f"saved_{name}"
            homes[name] = own if isinstance(value, Constant) else there.setdefault(value, own)
            if (value, homes[name]) not in goals:
                goals.append((value, homes[name]))
    return homes


def _operands(program: Program, values: Iterable[int]) -> set[int]:
    """The values that ``values`` are computed from."""
    return {operand for value in values for operand in program.values[value].operands if isinstance(operand, int)}


def _early(plan: Plan, targets: dict[int, str]) -> set[int]:
    """The values that can be computed ahead of the loop: of the input alone, and not a state."""
    program = plan.step
    known = {f"x.{name}" for name in (*plan.gates.hoisted, *plan.cell.draws)}
    late = {
        k
        for k, value in enumerate(program.values)
        if (value.operation == "input" and value.name not in known and not value.name.startswith("params."))
        or value.operation == INNER
        or (value.operation != "input" and not targets.get(k, "saved_").startswith("saved_"))
    }
    return set(operations(program)) - dependents(program, late)


def _products(gates: Gates, training: bool, vector: bool) -> list[str]:
    """The gates' products. For one row ``from_input`` already holds all that doesn't depend on h."""
    if vector:
        product = "product" if training else "stepwise"  # in training from_input and stepwise are the same memory
        return (
            [f"dot(h_operand, w_hidden, {product})", f"add({product}, from_input, stepwise)"] if gates.of_output else []
        )
    lines = ["matmul(w_merged, operand, merged)"] if gates.merged else []
    return lines + (["matmul(w_apart, operand_h, apart)"] if gates.apart else [])


def _activation(gates: Gates, vector: bool, as_they_lie: bool, stretch: Stretch) -> list[str]:
    """The merged gates' activations, logistic(a) being 0.5 tanh(0.5 a) + 0.5; see `recurray_numpy.plan`."""
    tanh = ["tanh(activated, activated)"] if gates.activated else []
    if not gates.logistic:
        return tanh
    if vector:
        scaled = "multiply(activated, scale, activated)"
        return [*([scaled] if as_they_lie else []), *tanh, scaled, "add(activated, shift, activated)"]
    half = constant(0.5, stretch)
    return [*tanh, f"multiply(logistic, {half}, logistic)", f"add(logistic, {half}, logistic)"]
