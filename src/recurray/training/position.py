"""Where a training stands: what its next updates depend on beside the params, the optimizer and the schedule."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from recurray.training.batch import Generator
from recurray.training.checkpoint import Arrays, as_json, from_json, generator_state
from recurray.training.ranks import Ranks
from recurray.training.sums import Sums


class Position:
    """A place in the course of a training.

    Parameters
    ----------
    seed : int
        Of all that is drawn.

    Attributes
    ----------
    epoch : int
        Epochs begun; the first is 1.
    step : int
        Updates done.
    pieces : int
        Pieces of this epoch done; 0 too where it is at its end.
    dropout : numpy.random.Generator
        What the model draws by.
    validation : numpy.random.SeedSequence
        What each validation draws by, from its beginning.
    state : optional
        Carried from piece to piece.
    sums : Sums
        Since the last row of the history.
    """

    def __init__(self, seed: Any) -> None:
        self.epoch = self.step = self.pieces = 0
        order, dropout, self.validation = np.random.SeedSequence(seed).spawn(3)
        self._order, self.dropout = np.random.default_rng(order), np.random.default_rng(dropout)
        self._order_before = self._order.bit_generator.state  # as the epoch began
        self.state: Any = None
        self.sums = Sums()

    def begin_epoch(self) -> Generator:
        """Begin an epoch, or go on with one that has been begun; return what decides its order."""
        if self.pieces == 0:
            self.epoch += 1
            self._order_before = self._order.bit_generator.state
        else:
            self._order.bit_generator.state = self._order_before
        return self._order

    def contents(self, ranks: Ranks) -> tuple[Arrays, dict[str, Any]]:
        """Return it as arrays, and what JSON can hold."""
        arrays: Arrays = {}
        return arrays, {
            "epoch": self.epoch,
            "step": self.step,
            "position": self.pieces,
            "order": self._order_before if self.pieces else self._order.bit_generator.state,
            "dropout": self.dropout.bit_generator.state,
            "sums": as_json(dataclasses.asdict(self.sums)),
            "state": ranks.flat(self.state, arrays),
        }

    def take(
        self,
        arrays: Arrays,
        training: Mapping[str, Any],
        ranks: Ranks,
        asarray: Callable[[Any], Any],
        *,
        carries: bool,
    ) -> None:
        """Go to where `contents` was made; ``carries`` says whether a state is needed there, amid an epoch."""
        generator_state(self._order, training["order"])
        self._order_before = training["order"]
        generator_state(self.dropout, training["dropout"])
        goes_on = training["position"] > 0 and carries
        self.state = ranks.unflat(training["state"], arrays, asarray, goes_on)
        self.sums = Sums(**from_json(training["sums"]))
        self.epoch, self.step, self.pieces = training["epoch"], training["step"], training["position"]
