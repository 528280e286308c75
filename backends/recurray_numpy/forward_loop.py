"""Writing a cell's forward.

What depends on the input alone is computed ahead of the loop, for many steps at once; the rest is in the loop.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import lru_cache, partial

from recurray.program import INNER, Program, is_value
from recurray_numpy.calls import FLOATS, Array, Code, Kind
from recurray_numpy.gate_order import GateOrder, Gates
from recurray_numpy.joint import Joint, joint_activations
from recurray_numpy.lower import Goals, Lowering, kinds, targets_of
from recurray_numpy.names import name_of, of_cell, places_of_inputs, shared


@dataclass(frozen=True)
class Forward:
    """The parts of forward.

    Attributes
    ----------
    ahead, loop : Code
        For a chunk of steps; without calls `ahead` needn't be called.
    homes : dict of str to Array
        The array that each saved value is in.
    saved : dict of str to kind
        The arrays that are there for saved values alone.
    joint : Joint
        The activations that are computed together, for which arrays are to be made.
    """

    ahead: Code
    loop: Code
    homes: dict[str, Array]
    saved: dict[str, Kind]
    joint: Joint


@lru_cache(maxsize=1024)
def forward_loop(
    order: GateOrder,
    *,
    training: bool,
    vector: bool,
    as_they_lie: bool,
    projected: bool,
    masked: bool,
    bias_by_row: bool = False,
) -> Forward:
    """Write forward.

    Parameters
    ----------
    order : GateOrder
    training : bool
        Whether every step is kept for backward.
    vector : bool
        Whether the batch is a single row, so that arrays are vectors.
    as_they_lie : bool
        Whether the recurrent weights are used so, rather than prepared; see `recurray_numpy.gate_order`.
    projected : bool
        Whether the layer's output is a projection of the cell's h.
    masked : bool
        Whether the output is masked on its way into the recurrent product.
    bias_by_row : bool
        Whether each row of the batch has a bias of its own.
    """
    program, gates, states = order.step, order.gates_for(vector=vector), order.cell.states
    of_step = partial(Array, timed=training)  # where not all steps are kept, one step's serve all
    places = places_of_inputs(program, order.cell, each_step=training)
    places |= {value: of_step(gates.aside.get(gate, name_of("z", gate))) for value, gate in order.activated.items()}
    wanted = _wanted(program, training=training)
    joint = joint_activations(order, wanted, each_step=training)

    after = {state: of_cell("after", state) for state in states}
    if not training:
        after |= {state: of_cell("state", state, timed=False) for state in states if state != "h"}
    goals: Goals = [(program.outputs[f"after.{state}"], place) for state, place in after.items()]
    if projected:
        goals[states.index("h")] = program.outputs["after.h"], of_step("output")
    own = _own(program) if training else {}
    homes = _homes(program, own, places | joint.results, goals)
    if training and gates.inner and not masked:  # where it is masked it's written on its way into the product
        goals.append((program.outputs["inner"], Array("inner_operand")))
    targets, copies = targets_of(goals)

    of_gates = {of_cell("x", gate) for gate in gates.hoisted}
    of_gates |= {of_step(name) for name in (*gates.stepwise_names, *gates.aside.values(), *gates.inner_names)}
    reusable = of_gates | (set() if training else {place for state, place in after.items() if state != "h"})
    saved = {value: place for value, place in targets.items() if place in own.values()}
    instead = dict.fromkeys(saved, of_gates)
    to_do = [k for k in program.computed() if k in wanted and k not in places and k not in joint.results]
    early = _early(order, targets.keys() - saved.keys())
    in_loop = [value for value in to_do if value not in early]
    ahead = Lowering(program, "a", places, vector=vector, timed=True)
    ahead.lower(
        [value for value in to_do if value in early],
        reusable=reusable,
        targets={value: place for value, place in targets.items() if value in early},
        kept=program.read_by(in_loop) | set(targets),
        instead=instead,
    )
    reusable -= {ahead.places[value] for value in early if value in ahead.places}

    loop = Lowering(program, "t", ahead.places, vector=vector, each_step=training, masked=masked)
    _add_products(loop, gates, of_step, training=training, bias_by_row=bias_by_row)
    _add_activations(loop, gates, of_step, as_they_lie=as_they_lie)
    late = {value: place for value, place in targets.items() if value not in early}
    before_joint = program.needed(joint.operands) & set(in_loop)
    after_joint = [value for value in in_loop if value not in before_joint]
    loop.lower(
        [value for value in in_loop if value in before_joint],
        reusable=reusable,
        targets=joint.operands | {value: saved[value] for value in before_joint & late.keys() & saved.keys()},
        kept=program.read_by(after_joint) | set(late),
    )
    joint.add_to(loop)
    loop.lower(after_joint, reusable={*reusable, *joint.results.values()}, targets=late, instead=instead)
    loop.copy(copies)
    if projected:
        loop.product("w_projection", of_step("output"), Array("after_h"))
    if masked:
        loop.call("multiply", Array("after_h"), shared("output_mask"), Array("masked_after"))
    for name in homes:
        value = program.outputs[f"saved.{name}"]
        homes[name] = loop.places[value] if is_value(value) else homes[name]
    made = {place.name: place.kind for place in own.values() if place in homes.values()}
    return Forward(Code(ahead.calls), Code(loop.calls, is_loop=True), homes, made, joint)


def _wanted(program: Program, *, training: bool) -> set[int]:
    """The values that the states, and in training what is saved, and all products need."""
    saved = program.outputs_of("saved") if training else {}
    products = (k for k, value in enumerate(program.values) if value.operation == INNER)
    return program.needed([*program.outputs_of("after").values(), *saved.values(), *products])


def _own(program: Program) -> dict[str, Array]:
    """By name an array for each saved value, for where no other holds it."""
    kind_of = kinds(program, {})
    return {
        name: of_cell("saved", name)._replace(kind=kind_of[value] if is_value(value) else FLOATS)
        for name, value in program.outputs_of("saved").items()
    }


def _homes(program: Program, own: dict[str, Array], places: dict[int, Array], goals: Goals) -> dict[str, Array]:
    """Choose where each saved value is to be; where it isn't there already by itself, add that to the goals."""
    homes = {}
    there = places | targets_of(goals)[0]
    for name, place in own.items():
        value = program.outputs[f"saved.{name}"]
        homes[name] = there.setdefault(value, place) if is_value(value) else place
        if (value, homes[name]) not in goals:
            goals.append((value, homes[name]))
    return homes


def _early(order: GateOrder, goals: AbstractSet[int]) -> set[int]:
    """The values that can be computed ahead of the loop: of the input alone, and none of ``goals``."""
    program = order.step
    ready = {program.find(f"x.{name}") for name in (*order.gates.hoisted, *order.cell.draws)}
    ready |= {*program.inputs_of("params").values()}
    computed = set(program.computed())
    late = {k for k, value in enumerate(program.values) if k not in computed | ready or value.operation == INNER}
    return computed - program.dependents(late | goals & computed)


def _add_products(
    loop: Lowering, gates: Gates, of_step: Callable[[str], Array], *, training: bool, bias_by_row: bool
) -> None:
    """Add the gates' products. For one row ``from_input`` already holds all that doesn't depend on h."""
    if loop.vector and gates.of_output:
        made = shared("product") if training else of_step("stepwise")  # from_input and stepwise are one in training
        loop.product("w_hidden", Array("masked" if loop.masked else "before_h"), made)
        loop.call("add", made, Array("from_input"), of_step("stepwise"))
    elif not loop.vector:
        for block, members, operand in (("merged", gates.merged, "operand"), ("apart", gates.apart, "operand_h")):
            if members:
                loop.product(f"w_{block}", Array(operand), of_step(block))
        if bias_by_row and gates.merged:
            loop.call("add", of_step("merged"), shared("bias_merged"), of_step("merged"))


def _add_activations(loop: Lowering, gates: Gates, of_step: Callable[[str], Array], *, as_they_lie: bool) -> None:
    """Add the merged gates' activations; see `recurray_numpy.gate_order`."""
    for gate, place in gates.aside.items():
        loop.call("tanh", of_step(name_of("z", gate)), of_step(place))
    logistic = of_step("logistic")
    if gates.logistic and as_they_lie:
        loop.bounded_logistic(logistic, shared("most"), shared("divisor"), logistic)
    elif gates.logistic:
        loop.logistic(logistic)
    others = [name_of("z", gate) for gate in gates.hyperbolic if gate not in gates.aside]
    for name in others if loop.vector else ["hyperbolic"] if gates.hyperbolic else []:
        loop.call("tanh", of_step(name), of_step(name))
