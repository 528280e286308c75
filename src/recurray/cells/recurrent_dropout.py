"""Recurrent dropout, for cells that recur without a product."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from recurray import checks
from recurray.arrays import Array
from recurray.cells.cell import Cell, CellGradients
from recurray.cells.wrapper import WrapperCell


@dataclass(frozen=True)
class RecurrentDropoutCell(WrapperCell):
    """A cell without a product with the output before, which in training doesn't see all of that output.

    Wherever the cell reads the output before, elements of it are dropped, the same ones at each step of a sequence, and
    the others are divided by 1 - p. Where there is a product, a layer's ``recurrent_dropout`` does that on the way into
    it; where there is none, it puts this around the cell.

    Parameters
    ----------
    cell : Cell
        The cell. Zoneout goes around this, so that what it keeps is the output itself, not what is left of it.
    p : float
        The probability that an element of the output is dropped.

    References
    ----------
    Gal & Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks", 2016.

    Examples
    --------
    >>> import recurray as rr
    >>> from recurray.cells import IndRNNCell, RecurrentDropoutCell
    >>> layer = rr.Recurrent(IndRNNCell(), 3, 5, recurrent_dropout=0.2, seed=0)
    >>> layer.cell == RecurrentDropoutCell(IndRNNCell(), 0.2)
    True
    >>> rr.check_gradients(layer).ok
    True
    """

    p: float

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.probability("p", self.p)
        name = type(self.cell).__name__
        if isinstance(self.cell, WrapperCell):
            raise ValueError(f"recurrent dropout goes inside {name}, around {type(self.cell.cell).__name__}")
        if self.cell.outer_gates:
            raise ValueError(f"{name} has a recurrent product, which a layer's recurrent_dropout is for")

    @property
    def draws(self) -> dict[str, float]:
        """Which elements of the output are kept, and the cell's."""
        return {"recurrent_dropout": 1 - self.p, **self.cell.draws}

    @property
    def sequence_draws(self) -> tuple[str, ...]:
        """Which elements of the output are kept, and the cell's."""
        return ("recurrent_dropout", *self.cell.sequence_draws)

    def step(self, x: Any, h: Any, before: Any, params: Any) -> tuple[dict[str, Array], dict[str, Array]]:
        """The cell's step from what it sees of the output before."""
        factor = self._factor(x)
        after, saved = self.cell.step(x, h, _seen(before, factor), params)
        return after, {**saved, "recurrent_dropout": factor}

    def step_backward(self, d: Any, saved: Any, before: Any, params: Any) -> CellGradients:
        """The cell's gradients, that of the output before through what was seen of it."""
        factor = saved.recurrent_dropout
        return _seen_backward(self.cell.step_backward(d, saved, _seen(before, factor), params), factor)

    def inner(self, x: Any, h: Any, before: Any, params: Any) -> Array:
        """The cell's, from what it sees of the output before."""
        return self.cell.inner(x, h, _seen(before, self._factor(x)), params)

    def inner_backward(self, d: Array, saved: Any, before: Any, params: Any) -> CellGradients:
        """The cell's gradients, that of the output before through what was seen of it."""
        factor = saved.recurrent_dropout
        return _seen_backward(self.cell.inner_backward(d, saved, _seen(before, factor), params), factor)

    def _factor(self, x: Any) -> Array:
        """What the output is multiplied by: 0 or 1 / (1 - p) in training, and exactly 1 in inference."""
        factor: Array = x.recurrent_dropout / (1 - self.p)
        return factor


def with_recurrent_dropout(cell: Cell, p: float) -> Cell:
    """Put recurrent dropout around ``cell``, which has no recurrent product: inside its wrappers, if it has any."""
    if isinstance(cell, WrapperCell) and not isinstance(cell, RecurrentDropoutCell):
        return replace(cell, cell=with_recurrent_dropout(cell.cell, p))
    return RecurrentDropoutCell(cell, p)


def _seen(before: Any, factor: Array) -> Any:
    return before._replace(h=before.h * factor)


def _seen_backward(grads: CellGradients, factor: Array) -> CellGradients:
    if "h" not in grads.before:
        return grads
    return replace(grads, before={**grads.before, "h": grads.before["h"] * factor})
