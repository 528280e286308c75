"""A loss or gradient that isn't finite: what to say of it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from recurray.arrays import Array
from recurray.training.errors import TrainingError
from recurray.training.finite import not_finite as not_finite_in
from recurray.training.pieces import Piece
from recurray.training.setup import Setup
from recurray.training.update import not_finite


def diverged(
    setup: Setup, epoch: int, piece: Piece, step: int, value: float, norm: float, arrays: Mapping[str, Array]
) -> TrainingError:
    """Return the error for an update whose loss or norm isn't finite; the first of ``arrays`` to blame is named."""
    what = f"the loss became {value}" if not math.isfinite(value) else f"the gradients' norm became {norm}"
    batch = piece.batch
    held = None if piece.idle else not_finite_in(batch.x, batch.lengths, batch.mask, setup.cut.batch_first)
    held = setup.ranks.found(held)
    if held is not None:
        what += f": x holds {held} of the batch"
    else:
        name = not_finite(setup.model.model.params) or not_finite(arrays)
        what += f" (first seen in the param {name})" if name else ""
    return TrainingError(
        f"{what}, in epoch {epoch}, batch {piece.number}, after {step:,} updates; a lower learning rate or "
        "clip_norm may help"
    )
