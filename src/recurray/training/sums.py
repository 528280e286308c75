"""What has been added up since the last row of the history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Sums:
    """Losses, metrics and norms of updates: those by what counted, these by the number of updates."""

    weight: float = 0.0
    updates: int = 0
    norm: float = 0.0
    totals: dict[str, float] = field(default_factory=dict)

    def add(self, loss: float, norm: float, weight: float, metrics: Mapping[str, Any]) -> None:
        """Take an update into account."""
        self.weight += weight
        self.updates += 1
        self.norm += norm
        totals = self.totals
        totals["loss"] = totals.get("loss", 0.0) + loss * weight
        for name, number in metrics.items():
            totals[name] = totals.get(name, 0.0) + float(number) * weight

    def means(self) -> dict[str, float]:
        """The means, of the loss first."""
        return {name: total / self.weight if self.weight else 0.0 for name, total in self.totals.items()}

    def mean_norm(self) -> float:
        """The mean of the norms."""
        return self.norm / max(1, self.updates)
