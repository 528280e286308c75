"""A cell's weights in the order and form that the loops want.

I input, H hidden units, R size of the output. Nothing is kept from call to call: params may be changed in place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from recurray.cells.cell import Cell, Weights
from recurray_numpy.buffers import copied, empty
from recurray_numpy.gate_order import Gates
from recurray_numpy.names import param_name


@dataclass(frozen=True)
class Prepared:
    """The weights of a cell, by gate."""

    cell: Cell
    gates: Gates
    weights: Weights
    as_they_lie: bool = False  # whether the recurrent weights are used so: for fewer than PREPARE_FROM steps of a row

    @property
    def size(self) -> int:
        """H."""
        return len(self.weights.input) // len(self.cell.input_gates)

    @property
    def features(self) -> int:
        """I."""
        return int(self.weights.input.shape[1])

    @property
    def bias_by_row(self) -> bool:
        """Whether each row of a batch has a bias of its own; a single row's is as one for all."""
        bias = self.weights.input_bias
        return bias is not None and bias.ndim == 2 and len(bias) != 1

    def of_input(self, gates: tuple[str, ...]) -> Any:
        """The weights of the product with the input, (gates * H, I)."""
        return rows_of(self.weights.input, self.cell.input_gates, gates)

    def of_output(self, gates: tuple[str, ...]) -> Any:
        """The weights of the product with the output before, (gates * H, R), or of the one amid the step."""
        return rows_of(self.weights.recurrent, self.cell.recurrent_gates, gates)

    def bias(self, gates: tuple[str, ...], *, x: bool = False, h: bool = False) -> Any:
        """The biases of the product with the input, or of a recurrent one, or their sum, (gates * H,); not by row."""
        biases = []
        if x and self.weights.input_bias is not None and not self.bias_by_row:
            biases = [rows_of(self.weights.input_bias.reshape(-1), self.cell.input_gates, gates)]
        biases += [rows_of(self.weights.recurrent_bias, self.cell.recurrent_gates, gates)] if h else []
        first, *others = [bias for bias in biases if bias is not None] or [
            np.zeros(len(gates) * self.size, self.weights.input.dtype)
        ]
        return first + others[0] if others else first

    def joined(self, gates: tuple[str, ...], *, x: bool = False, h: bool = False) -> Any:
        """The weights for [x; 1; h], for [x; 1] or for [1; h], the biases in the column of the 1."""
        one = self.features if x else 0
        output = self.weights.recurrent.shape[1] if h and self.weights.recurrent is not None else 0
        result = empty((len(gates) * self.size, one + 1 + output), self.weights.input.dtype)
        if not gates:
            return result
        result[:, one] = self.bias(gates, x=x, h=h)
        if x:
            result[:, :one] = self.of_input(gates)
        if output:
            result[:, one + 1 :] = self.of_output(gates)
        return result


def for_forward(prepared: Prepared, *, vector: bool) -> dict[str, Any]:
    """The weights that forward reads, by their names in the loops and in `recurray_numpy.forward`."""
    gates, weights = prepared.gates, prepared.weights
    arrays = dict[str, Any]()
    if vector:
        w_hidden = prepared.of_output(gates.of_output).T if gates.of_output else None
        if w_hidden is not None and not prepared.as_they_lie:
            w_hidden = copied(w_hidden)  # BLAS is a fifth faster so
            for gate in gates.logistic:
                w_hidden[:, gates.rows((gate,), prepared.size)] *= -1
        arrays["w_hidden"] = w_hidden
    else:
        arrays["w_hoisted"] = prepared.joined(gates.hoisted, x=True)
        arrays["w_merged"] = prepared.joined(gates.merged, x=True, h=True)
        arrays["w_merged"][gates.rows(gates.logistic, prepared.size)] *= -1
        arrays["w_apart"] = prepared.joined(gates.apart, h=True)
    if gates.inner:
        w_inner, b_inner = prepared.of_output(gates.inner), prepared.bias(gates.inner, h=True)
        arrays |= (
            {"w_inner": w_inner.T, "b_inner": b_inner} if vector else {"w_inner": w_inner, "b_inner": b_inner[:, None]}
        )
    if weights.projection is not None:
        arrays["w_projection"] = weights.projection.T if vector else weights.projection
    return arrays


def biases_by_row(prepared: Prepared, bias: Any) -> dict[str, Any]:
    """The biases that rows have of their own, (input gates * H, B), by their names in the loops."""
    gates, have = prepared.gates, prepared.cell.input_gates
    merged = rows_of(bias, have, gates.merged).copy()
    merged[gates.rows(gates.logistic, prepared.size)] *= -1
    return {"bias_hoisted": rows_of(bias, have, gates.hoisted), "bias_merged": merged}


def for_backward(prepared: Prepared, *, vector: bool) -> dict[str, Any]:
    """The weights that backward's loop reads: those that gradients go back through."""
    gates = prepared.gates
    arrays = {
        "w_hidden": prepared.of_output(gates.of_output) if gates.of_output else None,
        "w_inner": prepared.of_output(gates.inner) if gates.inner else None,
        "w_projection": prepared.weights.projection,
    }
    if vector:
        return arrays
    return {name: None if a is None else copied(a.T) for name, a in arrays.items()}


def pointwise(prepared: Prepared, rows: int, *, vector: bool) -> dict[str, Any]:
    """The rows of the cell's own params: (H, rows), as a (H, 1) would take twice the time, or (H,) for one row."""
    given = {
        param_name(name, row): prepared.weights.pointwise[name][k]
        for name, row_names in prepared.cell.pointwise.items()
        for k, row in enumerate(row_names)
    }
    return given if vector else {name: np.repeat(row[:, None], rows, axis=1) for name, row in given.items()}


def rows_of(array: Any, gates: tuple[str, ...], wanted: tuple[str, ...]) -> Any:
    """The rows of some gates: the array's own where they stand there in that order, else a copy."""
    if array is None:
        return None
    size = len(array) // len(gates)
    first = gates.index(wanted[0]) if wanted else 0
    if gates[first : first + len(wanted)] == wanted:
        return array[first * size : (first + len(wanted)) * size]
    blocks = array.reshape(len(gates), size, *array.shape[1:])
    result = empty((len(wanted), *blocks.shape[1:]), array.dtype)
    for k, gate in enumerate(wanted):
        result[k] = blocks[gates.index(gate)]
    return result.reshape(len(wanted) * size, *array.shape[1:])
