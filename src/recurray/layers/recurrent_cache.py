"""What a recurrent layer's forward keeps for its backward."""

from __future__ import annotations

from typing import Any, NamedTuple

from recurray.arrays import Array
from recurray.layers.pieces import Pieces
from recurray.layers.static_input import StaticInput
from recurray.scan import Cache


class DirectionCache(NamedTuple):
    """What one direction of one layer keeps for backward."""

    scan: Cache  # what the backend's scan keeps
    weights_kept: dict[str, Array]  # by param, which of the recurrent weights weight dropout kept


class GroupCache(NamedTuple):
    """What is kept of the rows, or of a group of their pieces, which were run together."""

    directions: list[list[DirectionCache]]  # by layer and direction
    kept: list[Array | None]  # by layer, which elements of its input dropout kept, (T, B, features)


class RecurrentCache(NamedTuple):
    """All that the stack's backward reads."""

    groups: list[GroupCache]
    pieces: Pieces | None  # what the groups are of; None where that is the rows as they lie
    static: StaticInput | None
    steps: int
    batch: int
    state_given: bool
    made_by: dict[str, Any]  # what another layer would have to agree in, to be given this
