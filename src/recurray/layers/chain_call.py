"""A call by a plan of layers one after the other: a function that is written for them, with all its arrays in place.

Of a call that takes some microseconds, loops and look-ups would be the greater part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from types import CodeType
from typing import Any, NamedTuple
from weakref import WeakMethod

from recurray.arrays import Array
from recurray.backend import ChainPlan, Stack
from recurray.layers.state_form import StateForm

STALE: Any = object()  # what a call returns whose layer isn't any more as it was when the call was made


class Part(NamedTuple):
    """What a layer is to a plan, and the form of its state; None if it carries nothing."""

    stack: Stack
    form: StateForm | None


class ChainCall:
    """The call on inputs of one shape.

    Parameters
    ----------
    layer : Layer
        What is called: a layer, or a model of several.
    plan : ChainPlan
    parts : sequence of Part
        Of each of its layers.
    turned : callable
        What brings arrays (T, B, features) into the layer's layout, as views.
    structure : str
        The attribute of ``layer`` that is to be the same in all calls.
    together : bool
        Whether it is a model: then the state is a tuple with an entry for each layer, and what needs to be converted,
        or is wrong, goes the long way.

    Attributes
    ----------
    run : callable
        Of the layer, x of the shape, and the state or None: the output and the new state. `STALE` where the layer has
        changed; None for the long way.
    """

    def __init__(
        self,
        layer: Any,
        plan: ChainPlan,
        parts: Sequence[Part],
        turned: Callable[[Array], Array],
        structure: str,
        *,
        together: bool = False,
    ) -> None:
        self.plan, self.nbytes, self.parts, self.together = plan, plan.nbytes, parts, together
        self.names: dict[str, Any] = {
            "STALE": STALE,
            "backend": layer.backend,
            "structure": getattr(layer, structure),
            "array_type": type(plan.x),
            "dtype": plan.x.dtype,
            "bind": WeakMethod(self._bind),  # so that the function, which the call has, doesn't have the call
            "as_wanted": WeakMethod(self._as_wanted),
            "plan": plan,
            "run_plan": plan.run,
            "x_in": turned(plan.x),
            "copy_of_y": turned(plan.y).copy,
            "new": tuple.__new__,
        }
        self.names |= {f"before{k}": value for k, value in enumerate(plan.before)}
        self.names |= {f"shape{k}": value.shape for k, value in enumerate(plan.before)}
        self.names |= {f"copy_of_after{k}": value.copy for k, value in enumerate(plan.after)}
        self.names |= {f"kind{k}": part.form.kind for k, part in enumerate(parts) if part.form is not None}
        self._hold(layer)
        exec(_compiled(self._text(layer, structure)), self.names)  # noqa: S102 - our own text
        self.run: Callable[[Any, Array, Any], Any] = self.names.pop("run")

    def _layers(self, layer: Any) -> Sequence[Any]:
        layers: Sequence[Any] = layer.layers if self.together else (layer,)
        return layers

    def _text(self, layer: Any, structure: str) -> str:
        """The function as Python text."""
        lines = [
            f"if layer.backend is not backend or layer.{structure} is not structure:",
            "    return STALE",
            "if type(x) is not array_type or x.dtype is not dtype:",
            f"    {'return None' if self.together else 'x = layer.checked_input(x)'}",
        ]
        for place, own in enumerate(self._layers(layer)):
            if own._fixed is not None:
                continue
            changed = [f"p.get({name!r}) is not param{place}_{k}" for k, name in enumerate(own.params)]
            if self.together and self.parts[place].stack.weights:  # its options are seen by its own plans
                lines += [f"if layer.layers[{place}]._plans is not plans{place}:", "    return STALE"]
            lines += [
                f"p = layer.layers[{place}].params" if self.together else "p = layer.params",
                f"if {' or '.join([f'p is not params{place}', f'len(p) != {len(changed)}', *changed])}:",
                "    if not bind()(layer):",
                "        return None",
            ]
        lines += ["if state is None:", "    if not plan.from_zeros:", "        plan.starts_from(zeros=True)", "else:"]
        lines += [f"    {line}" for line in [*self._lines_of_start(), "if plan.from_zeros:"]]
        lines += ["        plan.starts_from(zeros=False)"]
        lines += ["x_in[...] = x", "run_plan()", f"return copy_of_y(), {self._end()}"]
        return "\n".join(["def run(layer, x, state):", *(f"    {line}" for line in lines)])

    def _lines_of_start(self) -> list[str]:
        """Lines that check the state and copy it into the plan."""
        lines, first = [], 0
        if self.together:
            wrong = ["type(state) is not tuple", f"len(state) != {len(self.parts)}"]
            wrong += [f"state[{place}] is not None" for place, part in enumerate(self.parts) if part.form is None]
            lines += [f"if {' or '.join(wrong)}:", "    return None"]
        for place, part in enumerate(self.parts):
            if part.form is None:
                continue
            count, fields = len(part.form.sizes), len(part.form.kind._fields)
            starts, others = [f"start{first + k}" for k in range(count)], [f"other{k}" for k in range(fields - count)]
            given, to = f"state[{place}]" if self.together else "state", ", ".join(starts)
            wrong = [f"{name} is not None" for name in others]
            for k, name in enumerate(starts, start=first):
                wrong += [f"type({name}) is not array_type", f"{name}.dtype is not dtype", f"{name}.shape != shape{k}"]
            lines += [
                f"{', '.join([*starts, *others])}, = {given} if type({given}) is kind{place} else {(None,) * fields}",
                f"if {' or '.join(wrong)}:",
                "    return None" if self.together else f"    {to}, = as_wanted()(layer, state)",
                *(f"before{k}[...] = {name}" for k, name in enumerate(starts, start=first)),
            ]
            first += count
        return lines if first else ["return None"]

    def _end(self) -> str:
        """The new state, as text."""
        ends, first = [], 0
        for place, part in enumerate(self.parts):
            if part.form is None:
                ends.append("None")
                continue
            count, fields = len(part.form.sizes), len(part.form.kind._fields)
            copies = [f"copy_of_after{first + k}()" for k in range(count)] + ["None"] * (fields - count)
            ends.append(f"new(kind{place}, ({', '.join(copies)},))")
            first += count
        return f"({', '.join(ends)},)" if self.together else ends[0]

    def _as_wanted(self, layer: Any, state: Any) -> Any:
        """A state's arrays, as the plan's are."""
        form = layer._state_form
        return form.join(form.split("state", state, self.plan.x.shape[1]))[: len(form.sizes)]

    def _bind(self, layer: Any) -> bool:
        """Take the layer's params; tell whether they can be taken."""
        try:
            parts = [own._part() for own in self._layers(layer)]
            self.plan.bind([own for part in parts for own in part.stack.weights])
        except (TypeError, ValueError):
            if self.together:
                return False
            raise
        self._hold(layer)
        return True

    def _hold(self, layer: Any) -> None:
        """Remember what was taken."""
        self.names["run_plan"] = self.plan.run
        for place, own in enumerate(self._layers(layer)):
            if own._fixed is None:
                self.names[f"params{place}"], self.names[f"plans{place}"] = own.params, getattr(own, "_plans", None)
                self.names |= {f"param{place}_{k}": value for k, value in enumerate(own.params.values())}


@lru_cache(maxsize=64)
def _compiled(text: str) -> CodeType:
    return compile(text, "<written for a chain of layers>", "exec")
