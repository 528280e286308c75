"""The loss and metrics of data that isn't trained on."""

from __future__ import annotations

from typing import Any

from recurray.training.data import Generator, Source
from recurray.training.pieces import Cut
from recurray.training.update import Model


def evaluated(model: Model, source: Source, cut: Cut, rng: Generator) -> dict[str, float]:
    """Return the means over all that counts, the loss's under "loss"."""
    totals: dict[str, Any] = {}
    weight, state = 0.0, None
    for piece in cut.pieces(source.epoch(rng)):
        state = None if piece.fresh else state
        if piece.warm_up:
            state = model.carried(piece, state)
            continue
        value, metrics, count, state = model.evaluated(piece, state)
        for name, number in {"loss": value, **metrics}.items():
            totals[name] = totals.get(name, 0.0) + number * count
        weight += count
    if not weight:
        raise ValueError("validation has no rows that count")
    return {name: float(total) / weight for name, total in totals.items()}
