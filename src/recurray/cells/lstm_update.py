"""What the LSTM's cells share: a memory c, the gates before it, and the output behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from recurray import checks
from recurray.activations import Elementwise, Sigmoid, Tanh
from recurray.arrays import Array
from recurray.cells.cell import Cell
from recurray.cells.gate import clip, gate, gate_slope, within
from recurray.messages import shown

Grads = dict[str, dict[str, Array]]  # of pointwise params, by name and row


class Activations(NamedTuple):
    """The functions of the gates i, f, g, o, and the one that c goes through on its way out."""

    i: Elementwise = Sigmoid()
    f: Elementwise = Sigmoid()
    g: Elementwise = Tanh()
    o: Elementwise = Sigmoid()
    out: Elementwise = Tanh()


USUAL = Activations()


@dataclass(frozen=True, kw_only=True, repr=False)
class MemoryCell(Cell):
    """A cell with a memory behind gates. Its subclasses say what the gates' pre-activations are.

    From the pre-activations a, with the activations φ,

    - i = φ_i(a_i + p_i c_prev), f = φ_f(a_f + p_f c_prev), g = φ_g(a_g),
    - c = f c_prev + i g,
    - o = φ_o(a_o + p_o c), h = o φ_out(c).

    Parameters
    ----------
    activations : Activations
        The functions φ.
    peepholes : bool
        Whether the gates see the memory: i and f the one before the step, o the one after it. The weights are the
        param ``peephole``, rows i f o (without f where coupled); without peepholes they are zero.
    coupled : bool
        Whether f is 1 - i. There is no gate f then, nor are there weights for it.
    cell_clip : float, optional
        c is clamped to [-cell_clip, cell_clip].
    gate_clip : float, optional
        What goes into φ is clamped to [-gate_clip, gate_clip]: the sums above and, for the output, c; in the state c
        stays as it is.
    clip_output : bool
        Whether ``gate_clip`` holds for what goes into φ_out; else for the sums alone.

    Notes
    -----
    What is clamped has no gradient.
    """

    activations: Activations = USUAL
    peepholes: bool = False
    coupled: bool = False
    cell_clip: float | None = None
    gate_clip: float | None = None
    clip_output: bool = True

    states = ("h", "c")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.activations, Activations):
            raise TypeError(f"activations must be recurray.cells.Activations, not {shown(self.activations)}")
        checks.bound("cell_clip", self.cell_clip)
        checks.bound("gate_clip", self.gate_clip)
        if self.gate_clip is None and not self.clip_output:
            raise ValueError("clip_output=False says what gate_clip leaves as it is: it needs gate_clip")

    @property
    def gates(self) -> tuple[str, ...]:
        """The gates that have weights."""
        return ("i", "g", "o") if self.coupled else ("i", "f", "g", "o")

    @property
    def pointwise(self) -> dict[str, tuple[str, ...]]:
        """The peepholes' weights."""
        return {"peephole": self._peephole_gates} if self.peepholes else {}

    # The update of c and h

    def update(self, a: Mapping[str, Array], before: Any, params: Any) -> tuple[dict[str, Array], dict[str, Array]]:
        """From the pre-activations by gate to the states; returns what `Cell.step` does."""
        c_prev, saved = before.c, dict[str, Array]()
        a = self._with_peepholes(a, ("i", "f"), c_prev, params)
        i = gate("i", a["i"], *self._function("i"), saved)
        f = 1 - i if self.coupled else gate("f", a["f"], *self._function("f"), saved)
        g = gate("g", a["g"], *self._function("g"), saved)
        c = f * c_prev + i * g
        if self.cell_clip is not None:
            c = clip(c, self.cell_clip)
        if self.peepholes or self.cell_clip is not None:
            saved["c"] = c
        a = self._with_peepholes(a, ("o",), c, params)
        o = gate("o", a["o"], *self._function("o"), saved)
        out = gate("out", self._seen(c, params, saved), *self._function("out"), saved)
        return {"h": o * out, "c": c}, saved

    def update_backward(self, d: Any, saved: Any, before: Any, params: Any) -> tuple[dict[str, Array], Array, Grads]:
        """From the gradients of h and c to those of the pre-activations, of c before the step, and of the params."""
        c_prev, i, g, o, out = before.c, saved.i, saved.g, saved.o, saved.out
        # Partial derivatives, none of which depends on d: of h by what the output sees of c, and by the pre-activation
        # of o; of c by those of i, f and g.
        h_by_seen = self._slope("out", o, saved)
        c_by = {"i": self._slope("i", g - c_prev if self.coupled else g, saved)}
        if not self.coupled:
            c_by["f"] = self._slope("f", c_prev, saved)
        c_by["g"] = self._slope("g", i, saved)
        h_by_o = self._slope("o", out, saved)

        dc_seen, grads = self._seen_backward(d.h, h_by_seen, saved, params)
        dc = d.c + dc_seen
        if self.peepholes:
            dc = dc + d.h * (h_by_o * params.peephole.o)
        if self.cell_clip is not None:
            dc = dc * within(saved.c, self.cell_clip)
        da = {gate: dc * slope for gate, slope in c_by.items()} | {"o": d.h * h_by_o}

        c_by_c = 1 - i if self.coupled else saved.f
        if self.peepholes:
            seen = {gate: saved.c if gate == "o" else c_prev for gate in self._peephole_gates}
            grads["peephole"] = {gate: da[gate] * c for gate, c in seen.items()}
            for gate in self._peephole_gates[:-1]:
                c_by_c = c_by_c + c_by[gate] * getattr(params.peephole, gate)
        return da, dc * c_by_c, grads

    # Peepholes

    @property
    def _peephole_gates(self) -> tuple[str, ...]:
        """The gates with peepholes, of which the last sees c after the step."""
        return tuple(gate for gate in self.gates if gate != "g") if self.peepholes else ()

    def _with_peepholes(
        self, a: Mapping[str, Array], gates: tuple[str, ...], c: Array, params: Any
    ) -> Mapping[str, Array]:
        """The pre-activations, those of ``gates`` with what they see of c."""
        return {
            **a,
            **{gate: a[gate] + getattr(params.peephole, gate) * c for gate in gates if gate in self._peephole_gates},
        }

    # A gate's activation, and the bound of what goes into it

    def _function(self, name: str) -> tuple[Elementwise, float | None]:
        bound = self.gate_clip if self.clip_output or name != "out" else None
        return getattr(self.activations, name), bound

    def _slope(self, name: str, factor: Array, saved: Any) -> Array:
        return gate_slope(name, factor, *self._function(name), saved)

    # What the output sees of c: c itself, where a subclass doesn't say otherwise

    def _seen(self, c: Array, params: Any, saved: dict[str, Array]) -> Array:
        return c

    def _seen_backward(self, dh: Array, slope: Array, saved: Any, params: Any) -> tuple[Array, Grads]:
        """From the gradient of h, and ``slope``, h's derivative by what it sees of c, to those of c and of params."""
        return dh * slope, {}

    def __repr__(self) -> str:
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        options = [
            f"{field.name}={given[field.name]!r}" for field in fields(self) if given[field.name] != field.default
        ]
        return f"{type(self).__name__}({', '.join(options)})"
