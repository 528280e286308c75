"""The loops that are written for a cell: forward, and backward in three parts.

Their arrays go by names. Each is either timed, with an array for each step, or shared by all steps:

    operand, operand_h       timed   [x; 1; h] and its part [1; h]
    h_prev, h_next           timed   the output before and after the step
    before_c, after_c        timed   any other state before and after it, where all steps are kept
    state_c                  shared  the same in one place, where they are not
    x_k, z_k, h_k            timed   gate k, hoisted, merged or apart
    saved_k                  timed   what else backward reads
    output                   timed   the cell's h where the output is its projection
    dx_k, dz_k, dh_k         timed   the gates' gradients
    dy                       timed   the output's gradient
    dh, d_c                  shared  the gradients of the states, carried from step to step
    param_u_i                shared  a row of the cell's own params
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from recurray.recording import Constant, Program
from recurray_numpy.plan import Plan, dependents, find, needed, operations
from recurray_numpy.ufuncs import FUNCTIONS, Stretch, Writer, constant


@dataclass
class Code:
    """A function written for a cell.

    Attributes
    ----------
    timed, shared : list of str
        The arrays it wants, by name; timed ones with steps along the first axis.
    temporaries, flags : list of str
        Which of the shared arrays are mere work space.
    """

    lines: list[str]
    timed: list[str]
    shared: list[str]
    constants: dict[float, str]
    temporaries: list[str] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    step_by_step: bool = True

    def compile(self, dtype: Any) -> Callable[..., None]:
        """Return the function, for arrays of ``dtype``; it takes the arrays by name."""
        bound = dict(FUNCTIONS)
        bound |= {name: np.asarray(number, dtype) for number, name in self.constants.items()}
        arguments = [*self.timed, *self.shared, *(f"{name}={name}" for name in bound)]  # locals are found fastest
        body = self.lines or ["pass"]
        if self.step_by_step and self.timed:
            names = ", ".join(self.timed)
            body = [f"for {names}, in zip({names}):", *(f"    {line}" for line in body)]
        source = "\n".join([f"def loop({', '.join(arguments)}):", *(f"    {line}" for line in body)])
        namespace: dict[str, Any] = {}
        exec(compile(source, "<written for a recorded cell>", "exec"), bound, namespace)  # noqa: S102 - our own text
        loop: Callable[..., None] = namespace["loop"]
        return loop


@dataclass(frozen=True)
class Forward:
    """The forward loop, and where it leaves what backward reads."""

    loop: Code
    homes: dict[str, str]  # the array that each saved value is in


@dataclass(frozen=True)
class Backward:
    """The parts of backward for a chunk of steps: ahead of the loop, the loop, and after it."""

    ahead: Code
    loop: Code
    after: Code
    sums: dict[tuple[str, str], str]  # by pointwise param and row: the timed array whose sum is the gradient


def forward_loop(plan: Plan, *, training: bool, vector: bool, projected: bool) -> Forward:
    """Write the forward loop.

    Parameters
    ----------
    plan : Plan
    training : bool
        Whether every step is kept for backward.
    vector : bool
        Whether the batch is one row, so that arrays are (features,) and products are dot(h, weights).
    projected : bool
        Whether the output is a projection of the cell's h.
    """
    program, gates, cell = plan.step, plan.gates, plan.cell
    places = _inputs(program, cell.states, "before" if training else "state")
    places |= {value: f"z_{gate}" for value, gate in plan.activated.items()}

    targets, copies = _targets(
        (program.outputs[f"after.{state}"], _after(state, training, projected)) for state in cell.states
    )
    homes: dict[str, str] = {}
    saved = {name[6:]: value for name, value in program.outputs.items() if name.startswith("saved.")}
    for name, value in saved.items() if training else ():
        if isinstance(value, int) and (value in places or value in targets):
            homes[name] = places.get(value, targets.get(value, ""))
        else:
            homes[name] = f"saved_{name}"
            _add_target(value, homes[name], targets, copies)

    results = [value for value in (*program.outputs.values(),) if isinstance(value, int)] if training else [*targets]
    wanted = needed(program, results)
    order = [value for value in operations(program) if value in wanted and value not in places]
    reusable = {place for place in places.values() if place[:2] in ("x_", "z_", "h_") and place != "h_prev"}
    kept = [value for value in saved.values() if isinstance(value, int)] if training else []
    stretch = Writer(program, "t").write(
        order, places, reusable=[*reusable, *_states_in_place(cell.states, training)], targets=targets, kept=kept
    )
    lines = [*_products(plan, vector), *_activation(plan, stretch), *stretch.lines, *_fills(copies, stretch)]
    if projected:
        lines.append("dot(output, w_projection, h_next)" if vector else "matmul(w_projection, output, h_next)")
    stretch.lines = lines
    stepwise = {"rows", "merged", "apart", "logistic_rows", "activated_rows"} | {
        f"{kind}_{gate}" for kind, names in (("z", gates.merged), ("h", gates.apart)) for gate in names
    }
    shared = {"w_merged", "w_apart", "w_hidden", "w_projection", "product"}
    if not training:
        shared |= {"output"} | (set() if vector else stepwise)
    return Forward(_code(stretch, shared), homes)


def backward_loops(plan: Plan, homes: dict[str, str], *, vector: bool, projected: bool) -> Backward:
    """Write backward. What doesn't depend on the gradients that are carried is computed for many steps at once.

    Parameters
    ----------
    plan : Plan
    homes : dict of str to str
        Where forward left what backward reads.
    vector, projected : bool
        As in `forward_loop`.
    """
    program, gates, cell = plan.step_backward, plan.gates, plan.cell
    carried = [find(program, f"d.{state}") for state in cell.states]
    dependent = dependents(program, [value for value in carried if value >= 0])
    outputs = program.outputs
    wanted = needed(program, [value for value in outputs.values() if isinstance(value, int)])
    to_next_step = [f"before.{state}" for state in cell.states] + [f"h.{gate}" for gate in gates.of_output]
    in_loop = [outputs[name] for name in to_next_step if name in outputs]
    # What reads a carried gradient must do so while it is there.
    in_loop += [k for k in wanted if any(operand in carried for operand in program.values[k].operands)]
    loop_values = needed(program, [value for value in in_loop if isinstance(value, int)]) & dependent
    ahead = [k for k in operations(program) if k in wanted and k not in dependent]
    loop = [k for k in operations(program) if k in loop_values]
    after = [k for k in operations(program) if k in wanted and k in dependent and k not in loop_values]

    places = _inputs(program, cell.states, "before")
    for k, value in enumerate(program.values):
        if value.name.startswith("saved."):
            places[k] = homes[value.name[6:]]
        if value.name.startswith("d."):
            state = value.name[2:]
            places[k] = ("d_output" if projected else "dh") if state == "h" else f"d_{state}"

    # Ahead of the loop, on arrays of many steps.
    later = [*loop, *after]
    read_later = {operand for k in later for operand in program.values[k].operands if isinstance(operand, int)}
    read_later |= {value for value in outputs.values() if isinstance(value, int)}
    ahead_stretch = Writer(program, "a").write(ahead, places, kept=[k for k in ahead if k in read_later])
    places = dict(ahead_stretch.places)

    # The loop. Gates' gradients go to their rows, the states' to where the next step looks for them.
    of_gates = [(outputs[f"x.{gate}"], f"{_kind(gate, gates.merged)}{gate}") for gate in gates.of_input]
    of_gates += [(outputs[f"h.{gate}"], f"dh_{gate}") for gate in gates.apart]
    has_product = bool(gates.of_output)
    goals = [(value, place) for value, place in of_gates if value in loop_values or value not in after]
    for state in cell.states:
        value = outputs.get(f"before.{state}", Constant(0.0))
        if state != "h":
            goals.append((value, f"d_{state}"))
        elif not has_product:
            goals.append((value, "dh"))
        elif value != Constant(0.0):
            goals.append((value, "direct"))
    targets, copies = _targets(goals)
    read_after = {operand for k in after for operand in program.values[k].operands} & set(loop)
    summed = {name: value for name, value in outputs.items() if name.startswith("params.")}
    read_after |= {value for value in summed.values() if value in loop_values}
    for k, value in enumerate(sorted(read_after - set(targets))):
        targets[value] = f"kept{k}"
    reusable = [places[value] for value in carried if value >= 0]
    loop_stretch = Writer(program, "t").write(loop, places, reusable=reusable, targets=targets)
    places = dict(loop_stretch.places)
    loop_stretch.lines = [
        *_incoming(vector, projected),
        *loop_stretch.lines,
        *_fills(copies, loop_stretch),
        *_outgoing(vector, has_product, direct="direct" in targets.values()),
    ]

    # After the loop, again on arrays of many steps: what no step waits for.
    targets, copies = _targets((value, place) for value, place in of_gates if value in after)
    kept = [value for value in summed.values() if isinstance(value, int)]
    after_stretch = Writer(program, "b").write(after, places, targets=targets, kept=kept)
    after_stretch.lines += _fills(copies, after_stretch)
    sums = {}
    for name, value in summed.items():
        if not isinstance(value, int):
            continue  # a constant gradient is summed by whoever needs one
        _, param, row = name.split(".")
        sums[param, row] = after_stretch.places[value]

    in_one_place = {"dh", "d_output", "direct", "w_hidden", "w_projection", *(f"d_{state}" for state in cell.states)}
    return Backward(
        _code(ahead_stretch, set(), step_by_step=False),
        _code(loop_stretch, in_one_place),
        _code(after_stretch, set(), step_by_step=False),
        sums,
    )


# Lines around a cell's own arithmetic ----------------------------------------------------------------------------------


def _products(plan: Plan, vector: bool) -> list[str]:
    """The gates' products. For one row, ``rows`` holds already what doesn't depend on h."""
    if vector:
        return ["dot(h_prev, w_hidden, product)", "add(rows, product, rows)"] if plan.gates.of_output else []
    lines = ["matmul(w_merged, operand, merged)"] if plan.gates.merged else []
    return lines + (["matmul(w_apart, operand_h, apart)"] if plan.gates.apart else [])


def _activation(plan: Plan, stretch: Stretch) -> list[str]:
    """The merged gates' activations, the logistic ones' first 0.5 being in the weights."""
    lines = ["tanh(activated_rows, activated_rows)"] if plan.activated else []
    if plan.gates.logistic:
        half = constant(0.5, stretch)
        lines.append(f"multiply(logistic_rows, {half}, logistic_rows)")
        lines.append(f"add(logistic_rows, {half}, logistic_rows)")
    return lines


def _incoming(vector: bool, projected: bool) -> list[str]:
    """Add the output's gradient to the carried one, and take it back through the projection."""
    lines = ["add(dh, dy, dh)"]
    if projected:
        lines.append("copyto(dprojected, dh)")
        lines.append("dot(dh, w_projection, d_output)" if vector else "matmul(w_projection, dh, d_output)")
    return lines


def _outgoing(vector: bool, has_product: bool, direct: bool) -> list[str]:
    """Carry the gradient back through the recurrent product to the output before."""
    if not has_product:
        return []
    lines = ["dot(drows, w_hidden, dh)" if vector else "matmul(w_hidden, drows, dh)"]
    return [*lines, "add(dh, direct, dh)"] if direct else lines


def _fills(copies: Iterable[tuple[int | Constant, str]], stretch: Stretch) -> list[str]:
    """Copies of values that are wanted in more than one place, and of constants."""
    lines = []
    for value, place in copies:
        source = constant(value.number, stretch) if isinstance(value, Constant) else stretch.places[value]
        if source != place:
            lines.append(f"copyto({place}, {source})")
    return lines


# Names -----------------------------------------------------------------------------------------------------------------


def _inputs(program: Program, states: tuple[str, ...], prefix: str) -> dict[int, str]:
    """The arrays that hold a program's inputs."""
    places = {}
    for k, value in enumerate(program.values):
        if value.operation != "input":
            continue
        group, _, name = value.name.partition(".")
        if group == "before":
            places[k] = "h_prev" if name == "h" else f"{prefix}_{name}"
        elif group == "params":
            places[k] = f"param_{name.replace('.', '_')}"
        else:
            places[k] = f"{group}_{name}"
    return places


def _after(state: str, training: bool, projected: bool) -> str:
    if state == "h":
        return "output" if projected else "h_next"
    return f"after_{state}" if training else f"state_{state}"


def _states_in_place(states: tuple[str, ...], training: bool) -> list[str]:
    return [] if training else [f"state_{state}" for state in states if state != "h"]


def _kind(gate: str, merged: tuple[str, ...]) -> str:
    return "dz_" if gate in merged else "dx_"


def _targets(
    goals: Iterable[tuple[int | Constant, str]],
) -> tuple[dict[int, str], list[tuple[int | Constant, str]]]:
    """By value its first goal, and what is left to copy: constants, and values with a goal already."""
    targets: dict[int, str] = {}
    copies: list[tuple[int | Constant, str]] = []
    for value, place in goals:
        _add_target(value, place, targets, copies)
    return targets, copies


def _add_target(
    value: int | Constant, place: str, targets: dict[int, str], copies: list[tuple[int | Constant, str]]
) -> None:
    if isinstance(value, Constant) or value in targets:
        copies.append((value, place))
    else:
        targets[value] = place


def _code(stretch: Stretch, shared: set[str], *, step_by_step: bool = True) -> Code:
    """Find which arrays the lines mention, and split them into timed and shared."""
    known = set(FUNCTIONS) | set(stretch.constants.values()) | {"where"}
    mentioned: dict[str, None] = {}
    for line in stretch.lines:
        for word in line.replace("(", " ").replace(")", " ").replace(",", " ").replace("where=", " ").split():
            if word not in known:
                mentioned[word] = None
    work = [*stretch.temporaries, *stretch.flags]
    in_one_place = shared | (set(work) if step_by_step else set())
    is_shared = {name: name in in_one_place or name.startswith(("param_", "state_")) for name in mentioned}
    return Code(
        lines=stretch.lines,
        timed=[name for name in mentioned if not is_shared[name]],
        shared=[name for name in mentioned if is_shared[name]],
        constants=stretch.constants,
        temporaries=stretch.temporaries,
        flags=stretch.flags,
        step_by_step=step_by_step,
    )
