"""A cell's weights by the product that they are for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recurray.cells.cell import Cell, Weights
from recurray_cupy.expressions import identifier


@dataclass(frozen=True)
class Prepared:
    """Weights by the product that they are for. Biases are None where there are none.

    I input, H hidden units, R size of the output.
    """

    input: Any  # (input gates * H, I)
    outer: Any  # (outer gates * H, R), or None
    inner: Any  # (inner gates * H, H), or None
    projection: Any  # (R, H), or None
    arrays: dict[str, Any]  # the biases and the cell's own params by the kernels' names
    size: int  # H


def prepare(xp: Any, cell: Cell, weights: Weights) -> Prepared:
    """Sort weights by product. What is contiguous and in order already isn't copied."""

    def of_gates(a: Any, gates: tuple[str, ...]) -> Any:
        return None if a is None or not gates else xp.ascontiguousarray(_blocks(xp, cell.recurrent_gates, gates, a))

    arrays = {f"param_{identifier(name)}": xp.ascontiguousarray(rows) for name, rows in weights.pointwise.items()}
    arrays["x_bias"] = None if weights.input_bias is None else xp.ascontiguousarray(weights.input_bias)
    arrays["h_bias"] = of_gates(weights.recurrent_bias, cell.outer_gates)
    arrays["inner_bias"] = of_gates(weights.recurrent_bias, cell.inner_gates)
    return Prepared(
        input=xp.ascontiguousarray(weights.input),
        outer=of_gates(weights.recurrent, cell.outer_gates),
        inner=of_gates(weights.recurrent, cell.inner_gates),
        projection=None if weights.projection is None else xp.ascontiguousarray(weights.projection),
        arrays=arrays,
        size=weights.input.shape[0] // len(cell.input_gates),
    )


def _blocks(xp: Any, gates: tuple[str, ...], wanted: tuple[str, ...], a: Any) -> Any:
    """The blocks of rows of ``a``, which stand in the order ``gates``, that are ``wanted``."""
    if wanted == gates:
        return a
    size = a.shape[0] // len(gates)
    places = {gate: slice(k * size, (k + 1) * size) for k, gate in enumerate(gates)}
    return xp.concatenate([a[places[gate]] for gate in wanted])


def joined(xp: Any, gates: tuple[str, ...], parts: list[tuple[tuple[str, ...], Any]]) -> Any:
    """Bring blocks of rows, given in parts with their gates, into the order ``gates``."""
    if len(parts) == 1 and parts[0][0] == gates:
        return parts[0][1]
    blocks: dict[str, Any] = {}
    for names, a in parts:
        size = a.shape[0] // len(names)
        blocks |= {gate: a[k * size : (k + 1) * size] for k, gate in enumerate(names)}
    return xp.concatenate([blocks[gate] for gate in gates])
