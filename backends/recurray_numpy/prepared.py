"""A cell's weights in the order and form that the loops want."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from recurray.cells.cell import Weights
from recurray_numpy.plan import Plan


@dataclass(frozen=True)
class Prepared:
    """Weights by the product that they are for, gates in the plan's order, biases in a column of their own.

    I input, H hidden units, R size of the output.
    """

    hoisted: Any  # (hoisted gates * H, I + 1), for [x; 1]
    merged: Any  # (merged gates * H, I + 1 + R), for [x; 1; h]; the logistic gates' rows are halved
    apart: Any  # (apart gates * H, 1 + R), for [1; h]
    inner: Any  # (inner gates * H, 1 + H), for [1; what the cell computes]
    projection: Any  # (R, H), or None
    params: dict[str, Any]  # the rows of the cell's own params by their names in the loops, (H, 1)
    size: int  # H
    features: int  # I
    halved: int  # how many rows of `merged` are halved

    def recurrent(self) -> Any:
        """The part for h, (merged and apart gates * H, R), as backward needs it."""
        rows = np.concatenate([self.merged[:, self.features + 1 :], self.apart[:, 1:]])
        rows[: self.halved] *= 2  # exact
        return rows

    def of_input(self) -> Any:
        """The part for x, (hoisted and merged gates * H, I), as backward needs it."""
        rows = np.concatenate([self.hoisted[:, : self.features], self.merged[:, : self.features]])
        first = len(self.hoisted)
        rows[first : first + self.halved] *= 2  # exact
        return rows

    def params_for(self, rows: int) -> dict[str, Any]:
        """The rows of the cell's own params, (H, rows), or (H,) for one row: a (H, 1) would take twice the time."""
        return {name: row[:, 0] if rows == 1 else np.repeat(row, rows, axis=1) for name, row in self.params.items()}


def prepare(plan: Plan, weights: Weights) -> Prepared:
    """Bring weights into the plan's order and form."""
    cell, gates = plan.cell, plan.gates
    size, features = len(weights.input) // len(cell.input_gates), weights.input.shape[1]
    output = 0 if weights.recurrent is None else weights.recurrent.shape[1]
    of_x = _by_gate(weights.input, cell.input_gates), _by_gate(weights.input_bias, cell.input_gates)
    of_h = _by_gate(weights.recurrent, cell.recurrent_gates), _by_gate(weights.recurrent_bias, cell.recurrent_gates)

    def gathered(names: tuple[str, ...], x: bool, h: bool) -> Any:
        one = features if x else 0  # the column of the biases
        result = np.zeros((len(names), size, one + 1 + (output if h else 0)), weights.input.dtype)
        for block, gate in zip(result, names, strict=True):
            if x:
                block[:, :one] = of_x[0][gate]
                block[:, one] += of_x[1].get(gate, 0)
            if h:
                block[:, one + 1 :] = of_h[0][gate]
                block[:, one] += of_h[1].get(gate, 0)
            if gate in gates.logistic:
                block *= 0.5
        return result.reshape(len(names) * size, result.shape[2])

    return Prepared(
        hoisted=gathered(gates.hoisted, x=True, h=False),
        merged=gathered(gates.merged, x=True, h=True),
        apart=gathered(gates.apart, x=False, h=True),
        inner=gathered(gates.inner, x=False, h=True),
        projection=weights.projection,
        params={
            f"param_{name}_{row}": weights.pointwise[name][k][:, None]
            for name, row_names in cell.pointwise.items()
            for k, row in enumerate(row_names)
        },
        size=size,
        features=features,
        halved=len(gates.logistic) * size,
    )


def in_cells_order(grad: Any, gates: tuple[str, ...], wanted: tuple[str, ...]) -> Any:
    """Bring a gradient's blocks of rows, by ``gates``, into the order ``wanted``."""
    blocks = _by_gate(grad, gates)
    return np.concatenate([blocks[gate] for gate in wanted])


def _by_gate(rows: Any, gates: tuple[str, ...]) -> dict[str, Any]:
    return {} if rows is None else dict(zip(gates, rows.reshape(len(gates), -1, *rows.shape[1:]), strict=True))
