"""The options that the LSTM layers share, as users give them: their checks, and the cell that they make."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import fields
from typing import Any

from recurray import checks
from recurray.activations import Elementwise, activation
from recurray.arrays import Array, namespace_of
from recurray.cells.cell import Cell
from recurray.cells.diagonal_lstm import DiagonalLSTMCell
from recurray.cells.lstm import LSTMCell
from recurray.cells.lstm_update import Activations
from recurray.cells.zoneout import with_zoneout

ACTIVATIONS = ("gate_activation", "cell_activation", "output_activation")
ZONEOUT = ("zoneout_h", "zoneout_c")
OPTIONS = {field.name for field in fields(LSTMCell)} - {"activations"} | {*ZONEOUT, *ACTIVATIONS}


def of_cell(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Of a constructor's arguments, by name, those that are options of the cell: its fields, above all."""
    return {name: value for name, value in arguments.items() if name in OPTIONS}


def make_cell(kind: type[LSTMCell | DiagonalLSTMCell], given: Mapping[str, Any], **own: Any) -> Cell:
    """Make a cell from the options that users give a layer; ``own`` are those of this kind of cell alone."""
    options = {name: value for name, value in given.items() if name not in (*ZONEOUT, *ACTIVATIONS)}
    zoneout = {name: checks.probability(name, given[name]) for name in ZONEOUT}
    return with_zoneout(kind(activations=_activations(given), **options, **own), **zoneout)


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
