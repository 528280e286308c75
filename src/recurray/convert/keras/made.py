"""Where a layer of a file stands, and what it becomes."""

from __future__ import annotations

from dataclasses import dataclass

from recurray.layers import Layer


@dataclass(frozen=True)
class Place:
    """Where a layer stands in the model.

    Attributes
    ----------
    axes : int
        How many axes its input has: 3 with time, 2 without; 0 where that isn't known.
    masked : bool
        Whether a mask reaches it.
    flipped : bool
        Whether its input runs backwards in time in Keras, and doesn't here.
    last : bool
        Whether it is the last layer.
    """

    axes: int
    masked: bool
    flipped: bool
    last: bool


@dataclass(frozen=True)
class Made:
    """A layer of a file in our terms.

    Attributes
    ----------
    layers : tuple of Layer
        What does the same.
    remarks : tuple of str
        What whoever uses it has to know.
    axes : int
        How many axes the output has.
    flipped : bool
        Whether Keras's output runs backwards in time, where ours doesn't.
    """

    layers: tuple[Layer, ...]
    remarks: tuple[str, ...]
    axes: int
    flipped: bool
