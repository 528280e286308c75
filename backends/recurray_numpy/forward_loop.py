"""Writing a cell's forward.

What depends on the input alone is computed ahead of the loop, for many steps at once; the rest is in the loop.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from recurray.program import INNER, Constant, Operand, Program
from recurray_numpy.code import Code, as_loop, at_once
from recurray_numpy.goals import Copies, lines_of, targets_of
from recurray_numpy.joint import Joint, joint_activations
from recurray_numpy.names import is_called, name_of, places_of_inputs
from recurray_numpy.plan import Gates, Plan
from recurray_numpy.writer import FLOATS, Stretch, Writer, bounded_logistic, kinds, logistic


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
    program, gates = plan.step, plan.gates_for(vector=vector)
    values = _values(
        plan, training=training, vector=vector, inner=bool(gates.inner) and not masked, projected=projected
    )
    ahead, stretch = _stretches(plan, values, training=training, vector=vector, masked=masked)
    homes = {}
    for name, home in values.homes.items():
        value = program.outputs[f"saved.{name}"]
        homes[name] = stretch.places[value] if isinstance(value, int) else home
    lines = [
        *_products(gates, training, vector, masked),
        *_activation(gates, vector, as_they_lie, stretch),
        *stretch.lines,
        *lines_of(values.copies, stretch),
    ]
    if projected:
        lines.append("dot(output, w_projection, after_h)" if vector else "matmul(w_projection, output, after_h)")
    if masked:
        lines.append("multiply(after_h, output_mask, masked_after)")
    kind_of = kinds(program)
    made = {
        place: FLOATS if isinstance(value, Constant) else kind_of[value]
        for value, place in values.goals
        if is_called(place, "saved") and place in homes.values()
    }
    loop = as_loop(lines, stretch, _shared(gates, values.joint, training))
    return Forward(at_once(ahead), loop, homes, made, values.joint)


@dataclass(frozen=True)
class _Values:
    """Where a step's values are, and where they go."""

    places: dict[int, str]  # the arrays of those that are there ahead of the loop, or once the gates are
    joint: Joint
    goals: list[tuple[Operand, str]]
    targets: dict[int, str]  # the goals, split
    copies: Copies
    homes: dict[str, str]  # by saved name: the array that the value is in, or may be
    order: list[int]  # what else is computed, in order


def _values(plan: Plan, *, training: bool, vector: bool, inner: bool, projected: bool) -> _Values:
    """Find out what is wanted, and where; ``inner`` is whether what the inner gates' product is with is a goal."""
    program, states = plan.step, plan.cell.states
    places = places_of_inputs(program, states="before" if training else "state")
    aside = plan.gates_for(vector=vector).aside
    places |= {value: aside.get(gate, name_of("z", gate)) for value, gate in plan.activated.items()}
    wanted = _wanted(plan, training)
    joint = joint_activations(plan, wanted)

    after = {state: name_of("after" if training or state == "h" else "state", state) for state in states}
    if projected:
        after["h"] = "output"
    goals = [(program.outputs[f"after.{state}"], place) for state, place in after.items()]
    homes = _homes(plan, places | joint.results, goals) if training else {}
    if training and inner:  # where it is masked it's written on its way into the product
        goals.append((program.outputs["inner"], "inner_operand"))
    targets, copies = targets_of(goals)
    order = [k for k in program.computed() if k in wanted and k not in places and k not in joint.results]
    return _Values(places, joint, goals, targets, copies, homes, order)


def _stretches(plan: Plan, values: _Values, *, training: bool, vector: bool, masked: bool) -> tuple[Stretch, Stretch]:
    """Write what is ahead of the loop, and what is in it between the gates' activations and the output."""
    program, joint, targets = plan.step, values.joint, values.targets
    of_gates = {place for place in values.places.values() if is_called(place, "x", "z", "h", "tanh")}
    of_gates |= set(plan.gates.inner_names)
    of_gates -= {name_of("x", name) for name in plan.cell.draws}
    in_place = set() if training else {name_of("state", state) for state in plan.cell.states[1:]}
    reusable = of_gates | in_place
    instead = {value: of_gates for value, place in targets.items() if is_called(place, "saved")}
    early = _early(plan, targets)
    in_loop = [value for value in values.order if value not in early]
    ahead = Writer(program, "a", vector=vector).write(
        [value for value in values.order if value in early],
        values.places,
        reusable=reusable,
        targets={value: place for value, place in targets.items() if value in early},
        kept=_operands(program, in_loop) | set(targets),
        instead=instead,
    )
    writer = Writer(program, "t", vector=vector, masked=masked)
    reusable -= {ahead.places[value] for value in early if value in ahead.places}
    late = {value: place for value, place in targets.items() if value not in early}
    before_joint = program.needed(joint.operands) & set(in_loop)
    after_joint = [value for value in in_loop if value not in before_joint]
    stretch = writer.write(
        [value for value in in_loop if value in before_joint],
        ahead.places,
        reusable=reusable,
        targets=joint.operands | {k: p for k, p in late.items() if k in before_joint and is_called(p, "saved")},
        kept=_operands(program, after_joint) | set(late),
    )
    stretch.lines += joint.lines(stretch, vector=vector)
    stretch = writer.write(
        after_joint,
        {value: place for value, place in stretch.places.items() if value not in joint.operands} | joint.results,
        reusable={*reusable, *joint.results.values(), *stretch.work},
        targets=late,
        instead=instead,
        onto=stretch,
    )
    return ahead, stretch


def _shared(gates: Gates, joint: Joint, training: bool) -> list[str]:
    """The arrays that aren't timed, beside the params, the states and the work space."""
    weights = ["w_merged", "w_apart", "w_hidden", "w_inner", "b_inner", "w_projection"]
    others = ["product", "most", "divisor", "joint_most", "joint_divisor", "output_mask"]
    if training:
        return weights + others
    of_gates = [*gates.stepwise_names, *gates.aside.values(), *gates.inner_names, *joint.names]  # one step's serve all
    blocks = ["stepwise", "merged", "apart", "logistic", "hyperbolic", "inner", "inner_operand", "output"]
    return weights + others + of_gates + blocks


def _wanted(plan: Plan, training: bool) -> set[int]:
    """The values that the states, and in training what is saved, and all products need."""
    program = plan.step
    groups = ("after.", "saved.") if training else ("after.",)
    wanted = {value for name, value in program.outputs.items() if name.startswith(groups)}
    wanted |= {k for k, value in enumerate(program.values) if value.operation == INNER}
    return program.needed(wanted)


def _homes(plan: Plan, places: dict[int, str], goals: list[tuple[Operand, str]]) -> dict[str, str]:
    """Choose where each saved value is to be; where it isn't there already by itself, add that to the goals."""
    homes = {}
    there = places | targets_of(goals)[0]
    for output, value in plan.step.outputs.items():
        group, _, name = output.partition(".")
        if group == "saved":
            own = name_of("saved", name)
            homes[name] = own if isinstance(value, Constant) else there.setdefault(value, own)
            if (value, homes[name]) not in goals:
                goals.append((value, homes[name]))
    return homes


def _operands(program: Program, values: Iterable[int]) -> set[int]:
    """The values that ``values`` are computed from."""
    return {operand for value in values for operand in program.values[value].reads}


def _early(plan: Plan, targets: dict[int, str]) -> set[int]:
    """The values that can be computed ahead of the loop: of the input alone, and not a state."""
    program = plan.step
    known = {f"x.{name}" for name in (*plan.gates.hoisted, *plan.cell.draws)}
    late = {
        k
        for k, value in enumerate(program.values)
        if (value.operation == "input" and value.name not in known and not value.name.startswith("params."))
        or value.operation == INNER
        or (value.operation != "input" and k in targets and not is_called(targets[k], "saved"))
    }
    return set(program.computed()) - program.dependents(late)


def _products(gates: Gates, training: bool, vector: bool, masked: bool) -> list[str]:
    """The gates' products. For one row ``from_input`` already holds all that doesn't depend on h."""
    if vector:
        product = "product" if training else "stepwise"  # in training from_input and stepwise are the same memory
        h = "masked" if masked else "before_h"
        return [f"dot({h}, w_hidden, {product})", f"add({product}, from_input, stepwise)"] if gates.of_output else []
    lines = ["matmul(w_merged, operand, merged)"] if gates.merged else []
    return lines + (["matmul(w_apart, operand_h, apart)"] if gates.apart else [])


def _activation(gates: Gates, vector: bool, as_they_lie: bool, stretch: Stretch) -> list[str]:
    """The merged gates' activations; see `recurray_numpy.plan`."""
    lines = [f"tanh({name_of('z', gate)}, {place})" for gate, place in gates.aside.items()]
    if gates.logistic and as_they_lie:
        lines += bounded_logistic("logistic", "logistic", "most", "divisor", stretch)
    elif gates.logistic:
        lines += logistic("logistic", stretch)
    if not vector:
        return lines + (["tanh(hyperbolic, hyperbolic)"] if gates.hyperbolic else [])
    others = [name_of("z", gate) for gate in gates.hyperbolic if gate not in gates.aside]
    return lines + [f"tanh({name}, {name})" for name in others]
