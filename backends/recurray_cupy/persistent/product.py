"""The recurrent product, as the kernels of all cells have to make it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from recurray.cells.cell import Cell
from recurray_cupy.forward_step import state_array
from recurray_cupy.step import Array, Place

WEIGHT = Array("weight")


@dataclass(frozen=True)
class Product:
    """The recurrent product, as a kernel has to make it.

    Attributes
    ----------
    parts : int
        Sums for each unit.
    gates : int
        By what the units are multiplied to give the depth.
    operand : Array
        What is multiplied, (steps, B, depth).
    read, written : str
        Of the step t, where in the operand's steps what it reads is, and what it writes.
    masked : bool
        Whether the operand is multiplied by the mask.
    weight : callable
        From an offset j to the place of a weight: for the part p of the unit u, the number k + j of the depth.
    units_together : bool
        Whether a weight's neighbours are those of other units, rather than of the same depth.
    """

    parts: int
    gates: int
    operand: Array
    read: str
    written: str
    masked: bool
    weight: Callable[[int], Place]
    units_together: bool


def forward_product(cell: Cell) -> Product:
    """Return the output before the step, times the weights."""
    return Product(
        parts=len(cell.outer_gates),
        gates=1,
        operand=state_array("h"),
        read="t + reverse",
        written="t + 1 - reverse",
        masked=True,
        weight=lambda j: Place(WEIGHT, f"((long long)p * units + u) * depth + k + {j}", ""),
        units_together=False,
    )


def backward_product(cell: Cell, *, shared: bool) -> Product:
    """Return the gates' gradients of the step that came after, times the weights."""
    return Product(
        parts=1,
        gates=len(cell.outer_gates),
        operand=Array("dx_gates" if shared else "dh_gates"),
        read="t + 1 - 2 * reverse",
        written="t",
        masked=False,
        weight=lambda j: Place(WEIGHT, f"(long long)(k + {j}) * units + u", ""),
        units_together=True,
    )
