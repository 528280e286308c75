"""Activations side by side, so that one call serves several, in cells without a recurrent product.

There the calls are what takes the time. (Gates with a product stand side by side anyway: `recurray_numpy.gate_order`.)
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from recurray.program import is_value
from recurray_numpy.buffers import empty
from recurray_numpy.calls import FLOATS, Array, bounds
from recurray_numpy.gate_order import GateOrder
from recurray_numpy.lower import Lowering, kinds
from recurray_numpy.names import shared


@dataclass(frozen=True)
class Joint:
    """The activations of a step that are computed together.

    Attributes
    ----------
    operands : dict of int to Array
        The values that they are of, and the parts of ``joint``, an array, that these are brought to.
    results : dict of int to Array
        The activations, and the same parts, where they are left.
    logistic : int
        How many of them, from the first, are logistic; the others are tanh.
    each_step : bool
        Whether the activations of all steps are kept.
    """

    operands: dict[int, Array]
    results: dict[int, Array]
    logistic: int
    each_step: bool

    def add_to(self, loop: Lowering) -> None:
        """Add the activations to the calls."""
        logistic, tanh = Array("joint_logistic", self.each_step), Array("joint_tanh", self.each_step)
        if self.logistic and loop.vector:
            loop.bounded_logistic(logistic, shared("joint_most"), shared("joint_divisor"), logistic)
        elif self.logistic:
            loop.call("negative", logistic, logistic)
            loop.logistic(logistic)
        if self.logistic < len(self.results):
            loop.call("tanh", tanh, tanh)
        loop.places.update(self.results)

    def arrays(self, lead: tuple[int, ...], size: int, columns: tuple[int, ...], dtype: Any) -> dict[str, Any]:
        """Make the arrays that the calls name: parts of one, (*lead, activations * H, *columns), and what is shared."""
        if not self.results:
            return {}
        joint = empty((*lead, len(self.results) * size, *columns), dtype)

        def rows(first: int, last: int) -> Any:
            return joint[(slice(None),) * len(lead) + (slice(first * size, last * size),)]

        parts = {array.name: rows(k, k + 1) for k, array in enumerate(self.results.values())}
        arrays = {"joint_logistic": rows(0, self.logistic), "joint_tanh": rows(self.logistic, len(self.results))}
        return arrays | parts | ({} if columns else bounds(self.logistic * size, dtype, "joint_"))


def joint_activations(order: GateOrder, wanted: AbstractSet[int], *, each_step: bool) -> Joint:
    """Choose among the values of a cell's step that are ``wanted``; none if there aren't two.

    They are tanh or the logistic function of values that are used for nothing else, depend on the state before, and
    don't need one another.
    """
    step = order.step
    kind, uses, outputs = kinds(step, {}), step.uses(), set(step.outputs.values())
    in_loop = step.dependents(step.inputs_of("before").values())
    states = {step.outputs[f"after.{state}"] for state in order.cell.states}
    found: dict[int, int] = {}  # activations and what they are of
    for k in sorted(wanted - states):
        if step.values[k].operation not in ("logistic", "tanh") or kind[k] != FLOATS:
            continue
        (operand,) = step.values[k].operands
        if not is_value(operand) or step.values[operand].operation == "input":
            continue
        if uses[operand] == 1 and operand not in outputs and operand in in_loop - step.dependents(found):
            found[k] = operand
    if len(found) < 2 or order.gates.of_output or order.gates.inner:
        found = {}
    side_by_side = sorted(found, key=lambda k: step.values[k].operation == "tanh")
    places = {k: Array(f"joint_{place}", each_step) for place, k in enumerate(side_by_side)}
    return Joint(
        operands={found[k]: place for k, place in places.items()},
        results=places,
        logistic=sum(step.values[k].operation == "logistic" for k in found),
        each_step=each_step,
    )
