"""What a kernel asks memory for a step ahead: what the cell reads that no step before has made.

A thread copies those of its own elements for the next step to shared memory, past its registers, once it has handed on
what other blocks wait for. So they come while it waits for others and multiplies, however many they are. What is the
same at each step, biases and the cell's params, is read once. Both meet where the cell begins.
"""

from __future__ import annotations

from recurray_cupy.kernel import LENGTHS, Body
from recurray_cupy.kernels import indented
from recurray_cupy.persistent.elements import COMING, FIXED, Elements
from recurray_cupy.step import Expression, Given, Load, Place, Total


class Ahead:
    """The numbers of an element.

    Attributes
    ----------
    coming, fixed : dict of Load or Given to Place
        What is read for each step, and what once, and where it is until the cell's turn.
    """

    def __init__(self) -> None:
        self.coming: dict[Load | Given, Place] = {}
        self.fixed: dict[Load | Given, Place] = {}

    def put(self, expression: Expression) -> Expression:
        """Have what an expression reads asked for ahead, and return the expression of what has come."""
        if isinstance(expression, Total):
            return Total(tuple(map(self.put, expression.terms)))
        if not isinstance(expression, Load | Given):
            return expression
        if "t" in expression.place.needs:
            place = Place(COMING, f"{len(self.coming)} * elements + el", "")
            return Load(self.coming.setdefault(expression, place))
        return Load(self.fixed.setdefault(expression, Place(FIXED, f"{len(self.fixed)} * across + along", "")))

    def begin(self, body: Body, elements: Elements) -> list[str]:
        """Write what is read once, and what for the first step."""
        fixed = [f"{body.store(place)} = {body.text(expression)};" for expression, place in self.fixed.items()]
        if fixed and not elements.in_registers:
            fixed = ["if (el < block_units) {", *indented(fixed), "}"]
        ends = [f"ends[own] = {body.array(LENGTHS)} ? lengths[b] : 2147483647;"] if elements.in_registers else []
        return [*ends, *fixed, elements.length, "if (t < length) {", *indented(self._copies(body)), "}"]

    def ask(self, body: Body, stride: str) -> list[str]:
        """Write what is asked for, for the step after: nothing past a row's end, or past the last step."""
        return [
            f"const int next = t + {stride};",
            "if (step + 1 < steps && next < length) {",
            "    const int t = next;",
            *indented(self._copies(body)),
            "}",
        ]

    def _copies(self, body: Body) -> list[str]:
        lines = []
        for expression, place in self.coming.items():
            to, text = body.store(place), f"copy_one(&{body.store(place)}, &{body.load(expression.place)});"
            if isinstance(expression, Given):
                array = expression.place.array.name
                text = f"if ({array}) {text} else {to} = {body.otherwise(expression)};"
            lines.append(text)
        return lines
