"""The options that the LSTM layers share, as users give them: their checks, and the cell that they make."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

from recurray import checks
from recurray.activations import Elementwise, activation
from recurray.arrays import Array, namespace_of
from recurray.cells.cell import Cell
from recurray.cells.diagonal_lstm import DiagonalLSTMCell
from recurray.cells.lstm import LSTMCell
from recurray.cells.lstm_update import Activations
from recurray.cells.zoneout import ZoneoutCell

DEFAULTS: Mapping[str, Any] = {
    "peepholes": False,
    "coupled": False,
    "cell_clip": None,
    "gate_clip": None,
    "layer_norm": False,
    "zoneout_h": 0.0,
    "zoneout_c": 0.0,
    "gate_activation": "sigmoid",
    "cell_activation": "tanh",
    "output_activation": "tanh",
}


def make_cell(kind: type[LSTMCell | DiagonalLSTMCell], given: Mapping[str, Any], **own: Any) -> Cell:
    """Make a cell from the options, by name, that users give a layer; ``own`` are those of this kind of cell alone."""
    options: dict[str, Any] = {name: checks.flag(name, given[name]) for name in ("peepholes", "coupled", "layer_norm")}
    options |= {name: checks.bound(name, given[name]) for name in ("cell_clip", "gate_clip")}
    cell = kind(activations=_activations(given), **options, **own)
    zoneout = {name: checks.probability(name, given[name]) for name in ("zoneout_h", "zoneout_c")}
    return ZoneoutCell(cell, **zoneout) if any(zoneout.values()) else cell


def in_words(given: Mapping[str, Any]) -> list[str]:
    """The options that differ from the defaults, as they would stand in a call."""
    return [f"{name}={given[name]!r}" for name, default in DEFAULTS.items() if given[name] != default]


def start_neutral(params: MutableMapping[str, Array]) -> None:
    """Make normalisation's gains 1 and its shifts 0."""
    for name, value in params.items():
        if name.startswith("gamma_"):
            params[name] = namespace_of(value).ones_like(value)
        elif name.startswith("beta_"):
            params[name] = namespace_of(value).zeros_like(value)


def _activations(given: Mapping[str, Any]) -> Activations:
    gates = given["gate_activation"]
    if isinstance(gates, Mapping) and gates and "name" not in gates:  # by gate
        if set(gates) - {"i", "f", "o"}:
            raise ValueError(f"gate_activation by gate must have the names 'i', 'f', 'o', not {list(gates)}")
        if given["coupled"] and "f" in gates:
            raise ValueError("gate_activation names 'f', but where coupled f is 1 - i")
        of_gates = {gate: activation(spec, f"gate_activation[{gate!r}]") for gate, spec in gates.items()}
    else:
        of_gates = dict.fromkeys(("i", "f", "o"), activation(gates, "gate_activation"))
    others: dict[str, Elementwise] = {
        "g": activation(given["cell_activation"], "cell_activation"),
        "out": activation(given["output_activation"], "output_activation"),
    }
    return Activations(**of_gates, **others)
