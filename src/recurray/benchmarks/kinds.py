"""The kinds of layer that can be timed: how recurray makes each, and what its products cost.

Another kind needs an entry here, and a maker in each contender that has it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import recurray as rr

if TYPE_CHECKING:
    from recurray.benchmarks.problems import Problem


@dataclass(frozen=True)
class Kind:
    """A kind of layer.

    Attributes
    ----------
    make : callable
        ``make(problem, backend, **options)`` returns recurray's layer, time-major.
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

    make: Callable[..., rr.Layer]
    flops: Callable[[int, int], int]
    kept: int = 5  # i, f, g, o, c
    stacks: bool = True
    has_c: bool = True
    products_dominate: bool = True


def _stack(make: Callable[..., rr.Layer]) -> Callable[..., rr.Layer]:
    def made(problem: Problem, backend: Any, **options: Any) -> rr.Layer:
        return make(
            problem.inputs,
            problem.hidden,
            problem.layers,
            bidirectional=problem.bidirectional,
            batch_first=False,
            dtype=problem.array_dtype,
            backend=backend,
            **options,
        )

    return made


def _diagonal(problem: Problem, backend: Any, **options: Any) -> rr.Layer:
    return rr.DiagonalLSTM(
        problem.inputs, problem.hidden, batch_first=False, dtype=problem.array_dtype, backend=backend, **options
    )


KINDS: dict[str, Kind] = {
    "lstm": Kind(_stack(rr.LSTM), lambda features, hidden: 2 * 4 * hidden * (features + hidden)),
    "gru": Kind(
        _stack(rr.GRU),
        lambda features, hidden: 2 * 3 * hidden * (features + hidden),
        kept=4,  # r, z, n, and the product that r scales
        has_c=False,
    ),
    "diagonal": Kind(
        _diagonal,
        lambda features, hidden: 2 * hidden * features,
        kept=6,  # the projected input too
        stacks=False,
        products_dominate=False,
    ),
}
