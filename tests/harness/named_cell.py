"""A cell whose every name can be chosen: what a backend's own names are kept apart from a cell's with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pytest

from recurray.arrays import sigmoid, tanh
from recurray.cells import Cell, CellGradients


@dataclass(frozen=True)
class NamedCell(Cell):
    """A cell with something of each kind; without a name there is no such gate, state, draw or saved value.

    As with `random_cell`, its backward isn't the derivative of its step.
    """

    hoisted: str = "p"  # a gate from the input alone
    merged: str = "q"  # that comes as x.q + h.q
    apart: str = "r"  # from the output before alone
    amid: str = ""  # an inner gate
    state: str = "c"
    draw: str = "m"
    kept: str = "k"  # a saved value
    rows: tuple[tuple[str, tuple[str, ...]], ...] = (("u", ("a",)),)
    projectable: bool = False  # whether it doesn't read the output before, whose size a projection changes

    @property
    def states(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(filter(None, ("h", self.state)))

    @property
    def input_gates(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.hoisted, self.merged)))

    @property
    def recurrent_gates(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.merged, self.apart, self.amid)))

    @property
    def inner_gates(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.amid,)))

    @property
    def draws(self) -> Mapping[str, float]:
        return {self.draw: 0.3} if self.draw else {}

    @property
    def pointwise(self) -> Mapping[str, tuple[str, ...]]:
        return MappingProxyType(dict(self.rows))

    def _read(self, before: Any) -> Any:
        return before[-1] if self.projectable else before.h

    def inner(self, x: Any, h: Any, before: Any, params: Any) -> Any:
        return tanh(getattr(x, self.hoisted) + self._read(before))

    def inner_backward(self, d: Any, saved: Any, before: Any, params: Any) -> CellGradients:
        return CellGradients(x={self.hoisted: d * self._read(before)}, h={}, before={"h": tanh(d)})

    def step(self, x: Any, h: Any, before: Any, params: Any) -> Any:
        h_before = self._read(before)
        early = sigmoid(2.0 * getattr(x, self.hoisted) + 0.25) + 0.1  # of the input alone: ahead of the loop
        a = early + 0.3 * h_before
        if self.merged:
            a = a * sigmoid(getattr(x, self.merged) + getattr(h, self.merged))
        if self.apart:
            a = a + 0.7 * tanh(getattr(h, self.apart)) * h_before
        if self.amid:
            a = a + 0.4 * getattr(h, self.amid)
        for number, row in enumerate(row for param in params for row in param):
            a = a + row * (0.2 + number) * before[-1]
        if self.draw:
            a = a * (1.5 - getattr(x, self.draw))
        activated = sigmoid(a) * before[-1] + tanh(a - 0.5 * h_before)
        saved = {self.kept: tanh(a * 1.5)} if self.kept else {}
        return {name: tanh(activated * (number + 0.5)) for number, name in enumerate(self.states)}, saved

    def step_backward(self, d: Any, saved: Any, before: Any, params: Any) -> CellGradients:
        h_before = self._read(before)
        a = tanh(h_before + 0.25) + (saved[0] if saved else 0.5 * before[-1])
        for number, row in enumerate(row for param in params for row in param):
            a = a + row * (0.3 + number)
        da = d.h * (a + 0.5)
        if self.state:
            da = da + d[1] * before[1]
        changed = self.states[1:] if self.projectable else self.states
        gates = {name: da * (number + 1.0) for number, name in enumerate(self.input_gates + self.recurrent_gates)}
        return CellGradients(
            x={gate: gates[gate] for gate in self.input_gates},
            h={gate: gates[gate] for gate in self.recurrent_gates},
            before={name: d[number] * (0.4 + 0.2 * a) for number, name in enumerate(self.states) if name in changed},
            params={
                name: {row: da * (0.1 * place + number + h_before) for number, row in enumerate(rows)}
                for place, (name, rows) in enumerate(self.rows)
            },
        )


def called(word: str, **names: Any) -> NamedCell:
    """Return a cell in which ``word`` is part of every name."""
    first, second, third = word, f"{word}_", f"{word}__"
    rows = ((first, (first, second)), (second, (first, f"{first}_{first}")), (f"{first}_{first}", (first,)))
    own = {"hoisted": first, "merged": second, "draw": third, "apart": first, "state": first, "kept": first}
    return NamedCell(**{**own, "rows": rows, **names})


# Parts of the names of the NumPy backend's own arrays, and such names themselves.
WORDS = (
    *("prev", "next", "operand", "output", "inner", "before_h", "state_c", "z_q", "param_u_a", "stepwise", "t0"),
    *("kept0", "joint_0", "constant", "t_constant0", "t_filled40_0", "x", "d", "out", "Große"),
)
_KINDS: dict[str, dict[str, Any]] = {  # of cells that are otherwise alike
    "outer": {},
    "projected": {"projectable": True},
    "inner": {"amid": "{}__"},
    "inner, of the same name": {"amid": "{}", "apart": ""},
    "without a product": {"merged": "", "apart": ""},  # its activations are computed side by side
}
_ALONE = (
    NamedCell(apart="prev"),
    NamedCell(apart="next"),
    NamedCell(apart="operand"),
    NamedCell(apart="masked"),
    NamedCell(amid="prev"),
    NamedCell(amid="next"),
    NamedCell(amid="operand"),
    NamedCell(state="output", projectable=True),
    NamedCell(hoisted="constant"),
    NamedCell(draw="constant"),
    NamedCell(rows=(("constant", ("constant",)),)),
    NamedCell(rows=(("a_b", ("c",)), ("a", ("b_c",)))),
    NamedCell(rows=(("a", ("p_5_q",)), ("a_1_p", ("q",)), ("a__b", ("c",)), ("a_", ("b_c",)))),
)
CELLS = [pytest.param(cell, id=f"{number}") for number, cell in enumerate(_ALONE)]
CELLS += [
    pytest.param(
        called(word, **{role: name.format(word) if isinstance(name, str) else name for role, name in names.items()}),
        id=f"{word}, {kind}",
    )
    for word in WORDS
    for kind, names in _KINDS.items()
]
