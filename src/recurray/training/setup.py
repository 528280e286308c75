"""What a training is made of: it decides its course, and stays as it is from the first update to the last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recurray.parallel import Serial
from recurray.training.batch import Source
from recurray.training.best import Best
from recurray.training.pieces import Cut
from recurray.training.ranks import Ranks
from recurray.training.update import Model


@dataclass(frozen=True)
class Plan:
    """When updates come, and how large they are.

    Attributes
    ----------
    epochs, steps : int or None
        The end: after so many epochs, or updates.
    every : int or None
        Updates between two rows of the history; None for a row after each epoch.
    accumulate : int
        Pieces to an update.
    clip_norm, clip_value : float or None
        Limits of the gradients' norm, and of their numbers.
    schedule : callable or None
        From the number of updates done to the learning rate; or what is told the monitored value by ``observe``.
    """

    epochs: int | None = None
    steps: int | None = None
    every: int | None = None
    accumulate: int = 1
    clip_norm: float | None = None
    clip_value: float | None = None
    schedule: Any = None


class Setup:
    """The parts of a training.

    Attributes
    ----------
    model : Model
        What is trained.
    optimizer : Optimizer
        What steps its params.
    source, validation : Source, Source or None
        Where batches come from.
    cut : Cut
        How they are cut in time.
    plan : Plan
        When updates come.
    best : Best
        Which row of the history is the best.
    seed : int
        Of all that is drawn.
    ranks : Ranks
        Who trains it together.
    """

    def __init__(
        self,
        model: Model,
        optimizer: Any,
        source: Source,
        validation: Source | None,
        cut: Cut,
        plan: Plan,
        best: Best,
        seed: Any,
        ranks: Ranks | None = None,
    ) -> None:
        self.model, self.optimizer, self.source, self.validation = model, optimizer, source, validation
        self.cut, self.plan, self.best, self.seed = cut, plan, best, seed
        self.ranks = ranks or Ranks(Serial())

    def options(self) -> dict[str, Any]:
        """What has to be as it was where a training is gone on with: not when it ends, nor what looks on."""
        plan, cut, best = self.plan, self.cut, self.best
        return {
            "accumulate": plan.accumulate,
            "every": plan.every,
            "clip_norm": plan.clip_norm,
            "clip_value": plan.clip_value,
            "chunk": cut.chunk,
            "burn_in": cut.burn_in,
            "carry": cut.carry,
            "monitor": best.monitor,
            "mode": best.mode,
            "validation": self.validation is not None,
            "data": self.source.facts(),
        }

    def facts(self) -> dict[str, Any]:
        """What has to be the same on all ranks."""
        return {
            "epochs": self.plan.epochs,
            "steps": self.plan.steps,
            "schedule": self.plan.schedule,
            "patience": self.best.patience,
            "restore_best": self.best.keep_params,
            "seed": self.seed,
            "loss": self.model.loss,
            "metrics": self.model.metrics,
            "validation": None if self.validation is None else self.validation.facts(),
            **self.options(),
            **_values("data", self.source),
            **_values("validation", self.validation),
            **{f"the optimizer's {name}": value for name, value in self.optimizer.state_dict().items()},
            **self.params(),
        }

    def params(self) -> dict[str, Any]:
        """The params, by what errors call them."""
        return {f"the param {name!r}": value for name, value in self.model.model.params.items()}


def _values(name: str, source: Source | None) -> dict[str, Any]:
    return {} if source is None else {f"the values of {name}'s {part}": some for part, some in source.sample().items()}
