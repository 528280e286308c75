"""The loss and metrics of data that isn't trained on."""

from __future__ import annotations

from typing import Any

from recurray.training.batch import Generator, Source
from recurray.training.pieces import Cut
from recurray.training.ranks import Ranks
from recurray.training.update import Model


def evaluated(model: Model, source: Source, cut: Cut, rng: Generator, ranks: Ranks) -> dict[str, float]:
    """Return the means over all that counts, the loss's under "loss"."""
    totals: dict[str, Any] = dict.fromkeys(["loss", *model.metrics], 0.0)
    weight, state = 0.0, None
    for piece in cut.pieces(source.epoch(rng)):
        if piece.idle:
            continue
        state = None if piece.fresh else state
        if piece.warm_up:
            state = model.carried(piece, state)
            continue
        value, metrics, count, state = model.evaluated(piece, state)
        for name, number in {"loss": value, **metrics}.items():
            totals[name] = totals[name] + number * count
        weight += count
    weight, *sums = ranks.sums([weight, *map(float, totals.values())])
    if not weight:
        raise ValueError("validation has no rows that count")
    return {name: total / weight for name, total in zip(totals, sums, strict=True)}
