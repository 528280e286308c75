"""Activations side by side, so that one call serves several, in cells without a recurrent product.

There the calls are what takes the time. (Gates with a product stand side by side anyway; see `recurray_numpy.plan`.)
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from recurray_numpy.buffers import empty
from recurray_numpy.plan import Plan
from recurray_numpy.writer import FLOATS, Stretch, bounded_logistic, bounds, kinds, logistic


@dataclass(frozen=True)
class Joint:
    """The activations of a step that are computed together.

    Attributes
    ----------
    operands : dict of int to str
        The values that they are of, and the parts of ``joint``, an array, that these are brought to.
    results : dict of int to str
        The activations, and the same parts, where they are left.
    logistic : int
        How many of them, from the first, are logistic; the others are tanh.
    """

    operands: dict[int, str]
    results: dict[int, str]
    logistic: int

    @property
    def names(self) -> tuple[str, ...]:
        """All arrays that the lines name."""
        return ("joint_logistic", "joint_tanh", "joint_most", "joint_divisor", *self.results.values())

    def lines(self, stretch: Stretch, *, vector: bool) -> list[str]:
        """Write the activations; see `recurray_numpy.writer`."""
        lines, place = [], "joint_logistic"
        if self.logistic and vector:
            lines += bounded_logistic(place, place, "joint_most", "joint_divisor", stretch)
        elif self.logistic:
            lines += [f"negative({place}, {place})", *logistic(place, stretch)]
        return lines + (["tanh(joint_tanh, joint_tanh)"] if self.logistic < len(self.results) else [])

    def arrays(self, lead: tuple[int, ...], size: int, columns: tuple[int, ...], dtype: Any) -> dict[str, Any]:
        """Make the arrays that the lines name: parts of one, (*lead, activations * H, *columns), and what is shared."""
        if not self.results:
            return {}
        joint = empty((*lead, len(self.results) * size, *columns), dtype)

        def rows(first: int, last: int) -> Any:
            return joint[(slice(None),) * len(lead) + (slice(first * size, last * size),)]

        parts = {name: rows(k, k + 1) for k, name in enumerate(self.results.values())}
        arrays = {"joint_logistic": rows(0, self.logistic), "joint_tanh": rows(self.logistic, len(self.results))}
        return arrays | parts | ({} if columns else bounds(self.logistic * size, dtype, "joint_"))


def joint_activations(plan: Plan, wanted: AbstractSet[int]) -> Joint:
    """Choose among the values of a cell's step that are ``wanted``; none if there aren't two.

    They are tanh or the logistic function of values that are used for nothing else, depend on the state before, and
    don't need one another.
    """
    step = plan.step
    kind, uses, outputs = kinds(step), step.uses(), set(step.outputs.values())
    in_loop = step.dependents(k for k, value in enumerate(step.values) if value.name.startswith("before."))
    states = {step.outputs[f"after.{state}"] for state in plan.cell.states}
    found: dict[int, int] = {}  # activations and what they are of
    for k in sorted(wanted - states):
        if step.values[k].operation not in ("logistic", "tanh") or kind[k] != FLOATS:
            continue
        (operand,) = step.values[k].operands
        if not isinstance(operand, int) or step.values[operand].operation == "input":
            continue
        if uses[operand] == 1 and operand not in outputs and operand in in_loop - step.dependents(found):
            found[k] = operand
    if len(found) < 2 or plan.gates.of_output or plan.gates.inner:
        found = {}
    order = sorted(found, key=lambda k: step.values[k].operation == "tanh")
    places = {k: f"joint_{place}" for place, k in enumerate(order)}
    return Joint(
        operands={found[k]: place for k, place in places.items()},
        results=places,
        logistic=sum(step.values[k].operation == "logistic" for k in found),
    )
