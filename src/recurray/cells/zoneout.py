"""Zoneout: units that keep their state at random."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from recurray import checks
from recurray.arrays import Array
from recurray.cells.cell import Cell, CellGradients
from recurray.cells.wrapper import WrapperCell


@dataclass(frozen=True)
class ZoneoutCell(WrapperCell):
    """Any cell, whose units in training keep their output or cell state of the step before at random.

    Where s is what the cell computes, the state after the step is m s_prev + (1 - m) s, with a new m of 0 and 1 for
    each unit, row and step, so that either is taken to the last bit; in inference m is the probability itself. As in
    the paper, an output that the cell computes from its cell state is computed from that without zoneout.

    Parameters
    ----------
    cell : Cell
        The cell, with a state "h" and, for ``zoneout_c``, a state "c".
    zoneout_h, zoneout_c : float
        The probabilities that a unit keeps its h and its c.

    References
    ----------
    Krueger et al., "Zoneout: Regularizing RNNs by randomly preserving hidden activations", 2017.

    Examples
    --------
    >>> import recurray as rr
    >>> from recurray.cells import GRUCell, ZoneoutCell
    >>> layer = rr.Recurrent(ZoneoutCell(GRUCell(), zoneout_h=0.1), 3, 5, seed=0)
    >>> rr.check_gradients(layer).ok
    True
    """

    zoneout_h: float = 0.0
    zoneout_c: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.probability("zoneout_h", self.zoneout_h)
        checks.probability("zoneout_c", self.zoneout_c)
        for name, probability in self._zones.items():
            if name not in self.cell.states:
                raise ValueError(f"{type(self.cell).__name__} has no state {name!r} for zoneout_{name}={probability!r}")

    @property
    def _zones(self) -> dict[str, float]:
        """The states that are kept at random, and how likely."""
        return {name: p for name, p in (("h", self.zoneout_h), ("c", self.zoneout_c)) if p}

    @property
    def draws(self) -> dict[str, float]:
        """The cell's, and which units keep their state."""
        return {**self.cell.draws, **{f"zoneout_{name}": p for name, p in self._zones.items()}}

    def step(self, x: Any, h: Any, before: Any, params: Any) -> tuple[dict[str, Array], dict[str, Array]]:
        """The cell's step, some states of which aren't taken."""
        after, saved = self.cell.step(x, h, before, params)
        after, saved = dict(after), dict(saved)
        for name in self._zones:
            keep = getattr(x, f"zoneout_{name}")
            take = saved[f"taken_{name}"] = 1 - keep
            after[name] = keep * getattr(before, name) + take * after[name]
        return after, saved

    def step_backward(self, d: Any, saved: Any, before: Any, params: Any) -> CellGradients:
        """The cell's gradients, those of the states being shared with the states before."""
        kept = {}
        for name in self._zones:
            whole = getattr(d, name)
            taken = whole * getattr(saved, f"taken_{name}")
            kept[name] = whole - taken
            d = d._replace(**{name: taken})
        grads = self.cell.step_backward(d, saved, before, params)
        dbefore = {name: grads.before[name] + kept[name] if name in grads.before else kept[name] for name in kept}
        return replace(grads, before={**grads.before, **dbefore})


def with_zoneout(cell: Cell, zoneout_h: float = 0.0, zoneout_c: float = 0.0) -> Cell:
    """Return the cell with zoneout, and as it is where that does nothing."""
    return ZoneoutCell(cell, zoneout_h, zoneout_c) if zoneout_h or zoneout_c else cell
