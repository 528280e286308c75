"""Cutting a ragged batch into runs, in each of which the same rows are valid, so that no padding is computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recurray_numpy.buffers import empty


@dataclass(frozen=True)
class Run:
    """Steps ``first`` to ``last`` (exclusive) of the ``rows`` longest rows of the batch."""

    first: int
    last: int
    rows: int

    @property
    def steps(self) -> int:
        """How many steps the run has."""
        return self.last - self.first


@dataclass(frozen=True)
class Runs:
    """A batch's runs in the order of the loop.

    Attributes
    ----------
    order : array of int or None
        The rows by falling length, None where all have the same; the rows of a run are the first of these.
    reverse : bool
        Whether time runs backwards.
    vector : bool
        Whether the batch is a single row.
    """

    runs: tuple[Run, ...]
    order: Any
    reverse: bool
    vector: bool

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Make an array (T, B, n) that `write` will fill: with zeros where there is padding, which it leaves out."""
        result = empty(shape, dtype)
        if self.order is not None:
            result.fill(0)
        return result

    def rows_of(self, run: Run) -> Any:
        """The index of a run's rows."""
        return slice(None) if self.order is None else self.order[: run.rows]

    def read(self, a: Any, run: Run) -> Any:
        """(T, B, n) -> the run's steps and rows in the order of the loop, feature-major: (steps, n, rows)."""
        part = a[run.first : run.last, self.rows_of(run)].transpose(0, 2, 1)
        return part[::-1] if self.reverse else part

    def write(self, a: Any, run: Run, part: Any, steps: slice | None = None) -> None:
        """The inverse of `read`: put a run's (steps, n, rows), or some of its ``steps``, into (T, B, n)."""
        if steps is not None:
            run = _within(run, steps.start, steps.stop, self.reverse)
        part = part[::-1] if self.reverse else part
        a[run.first : run.last, self.rows_of(run)] = part.transpose(0, 2, 1)


def cut(steps: int, batch: int, lengths: Sequence[int] | None, reverse: bool, *, every: int | None = None) -> Runs:
    """Cut a batch into runs, of at most ``every`` steps each, if that is given.

    Examples
    --------
    >>> cut(5, 3, [2, 5, 2], reverse=False).runs
    (Run(first=0, last=2, rows=3), Run(first=2, last=5, rows=1))
    """
    order = None
    ends = [steps] * batch
    if lengths is not None and any(length != steps for length in lengths):
        order = np.argsort(np.negative(lengths), kind="stable")
        ends = [lengths[row] for row in order]
    runs = []
    first = 0
    for rows in range(batch, 0, -1):
        last = ends[rows - 1]
        if last > first:
            runs.append(Run(first, last, rows))
            first = last
    if reverse:
        runs.reverse()
    if every is not None:
        runs = [part for run in runs for part in _parts(run, every, reverse)]
    return Runs(tuple(runs), order, reverse, vector=batch == 1)


def _parts(run: Run, most: int, reverse: bool) -> Iterator[Run]:
    """Cut a run into parts in the order of the loop, all but the last of ``most`` steps."""
    for first in range(0, run.steps, most):
        yield _within(run, first, min(first + most, run.steps), reverse)


def _within(run: Run, first: int, last: int, reverse: bool) -> Run:
    """The part of a run from ``first`` to ``last``, counted in the order of the loop."""
    if reverse:
        return replace(run, first=run.last - last, last=run.last - first)
    return replace(run, first=run.first + first, last=run.first + last)
