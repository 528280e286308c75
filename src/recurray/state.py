"""What a recurrent layer carries from one call to the next."""

from __future__ import annotations

from typing import NamedTuple

from recurray.arrays import Array


class State(NamedTuple):
    """Hidden state ``h`` and, for cells that have one, cell state ``c``; also the form of their gradients.

    Both have shape (num_layers * directions, batch, size). Layers without a cell state leave ``c`` None.

    Examples
    --------
    >>> import numpy as np
    >>> from recurray import State
    >>> start = State(np.zeros((1, 2, 4)), np.zeros((1, 2, 4)))
    >>> start.h.shape
    (1, 2, 4)
    """

    h: Array
    c: Array | None = None
