"""Cells around another cell, which change what it is given or what it returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recurray.arrays import Array
from recurray.cells.cell import Cell, CellGradients


@dataclass(frozen=True)
class WrapperCell(Cell):
    """A cell around another, whose gates, states, params and draws are its own. Subclasses say what is different."""

    cell: Cell

    @property
    def states(self) -> tuple[str, ...]:  # type: ignore[override]
        """The cell's."""
        return self.cell.states

    @property
    def input_gates(self) -> tuple[str, ...]:
        """The cell's."""
        return self.cell.input_gates

    @property
    def recurrent_gates(self) -> tuple[str, ...]:
        """The cell's."""
        return self.cell.recurrent_gates

    @property
    def inner_gates(self) -> tuple[str, ...]:
        """The cell's."""
        return self.cell.inner_gates

    @property
    def pointwise(self) -> Mapping[str, tuple[str, ...]]:
        """The cell's."""
        return self.cell.pointwise

    @property
    def recurrent_params(self) -> tuple[str, ...]:
        """The cell's."""
        return self.cell.recurrent_params

    @property
    def draws(self) -> Mapping[str, float]:
        """The cell's."""
        return self.cell.draws

    @property
    def sequence_draws(self) -> tuple[str, ...]:
        """The cell's."""
        return self.cell.sequence_draws

    def inner(self, x: Any, h: Any, before: Any, params: Any) -> Array:
        """The cell's."""
        return self.cell.inner(x, h, before, params)

    def inner_backward(self, d: Array, saved: Any, before: Any, params: Any) -> CellGradients:
        """The cell's."""
        return self.cell.inner_backward(d, saved, before, params)
