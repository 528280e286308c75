"""What a batch is, and what batches come from.

B rows of a batch, T steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from recurray.training.share import ALONE, Share, Whole

Generator = np.random.Generator

BY_STEP = ("mask", "resets")  # flags (batch, time)


class Batch(NamedTuple):
    """Rows that are trained on together.

    Attributes
    ----------
    x, target : array
        As they were given, of the host or of the model's backend.
    lengths, mask, resets : numpy.ndarray or None
        As for `Layer.forward`, of the host; flags in the model's layout.
    static : array or None
        As for `Layer.forward`.
    target_mask : numpy.ndarray or None
        Which elements of the loss count.
    whole : Whole or None
        The batch of which these are a rank's rows; None where they are all.
    """

    x: Any
    target: Any
    lengths: Any = None
    mask: Any = None
    resets: Any = None
    static: Any = None
    target_mask: Any = None
    whole: Whole | None = None


class Source(Protocol):
    """Where batches come from."""

    def epoch(self, rng: Generator) -> Iterator[Batch]:
        """Return the batches of one epoch, in an order that ``rng`` decides: of each this rank's rows."""

    @property
    def batches(self) -> int | None:
        """How many batches an epoch has; None where that isn't known before."""

    def facts(self) -> dict[str, Any]:
        """What has to be as it was where a training goes on."""

    def sample(self) -> dict[str, Any]:
        """Some of the values, which have to be the same on all ranks."""


@dataclass(frozen=True)
class Form:
    """How rows become batches.

    Attributes
    ----------
    batch_size : int
        Rows of a batch; the last may have fewer.
    shuffle : bool
        Whether each epoch draws an order.
    batch_first : bool
        The model's layout.
    share : Share
        Which of a batch's rows are this rank's.
    """

    batch_size: int
    shuffle: bool
    batch_first: bool
    share: Share = ALONE
