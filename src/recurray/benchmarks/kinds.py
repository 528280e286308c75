"""The kinds of layer that can be timed: recurray's layer, and what its products cost.

Another kind needs an entry here, and a maker in each contender that has it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import recurray as rr


@dataclass(frozen=True)
class Kind:
    """A kind of layer.

    Attributes
    ----------
    layer : callable
        recurray's class.
    flops : callable
        ``flops(features, hidden)``: operations of the matrix products of one step of one row.
    kept : int
        How many numbers backward needs of each unit at each step, beside the layer's input and output.
    stacks : bool
        Whether it has several layers and directions.
    has_c : bool
        Whether its state has a ``c``.
    products_dominate : bool
        Whether its time is the products' time, so that a share of the machine's product rate says something.
    """

    layer: Callable[..., rr.Layer]
    flops: Callable[[int, int], int]
    kept: int = 5  # i, f, g, o, c
    stacks: bool = True
    has_c: bool = True
    products_dominate: bool = True


KINDS: dict[str, Kind] = {
    "lstm": Kind(rr.LSTM, lambda features, hidden: 2 * 4 * hidden * (features + hidden)),
    "gru": Kind(
        rr.GRU,
        lambda features, hidden: 2 * 3 * hidden * (features + hidden),
        kept=4,  # r, z, n, and the product that r scales
        has_c=False,
    ),
    "diagonal": Kind(
        rr.DiagonalLSTM,
        lambda features, hidden: 2 * hidden * features,
        kept=6,  # the projected input too
        stacks=False,
        products_dominate=False,
    ),
}
