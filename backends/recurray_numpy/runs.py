"""Cutting a ragged batch into runs, in each of which the same rows are valid, so that no padding is computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
    """

    runs: tuple[Run, ...]
    order: Any
    reverse: bool

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs)

    def parts(self) -> list[slice]:
        """The columns of each run, where the steps of all runs stand side by side."""
        ends = np.cumsum([run.steps * run.rows for run in self.runs], dtype=int).tolist()
        return [slice(end - run.steps * run.rows, end) for run, end in zip(self.runs, ends, strict=True)]

    def side_by_side(self, features: int, dtype: Any) -> Any:
        """Make an array (features, N) for the steps of all runs."""
        count = sum(run.steps * run.rows for run in self.runs)
        # One row's steps come as (S, features): then that is how they stand in memory.
        return empty((count, features), dtype).T if self._is_vector else empty((features, count), dtype)

    def joined(self, arrays: list[Any], features: int, dtype: Any) -> Any:
        """Put the runs' arrays (S, features, n) side by side, (features, N)."""
        if self._is_vector:
            return arrays[0].T
        result = self.side_by_side(features, dtype)
        for part, array in zip(self.parts(), arrays, strict=True):
            put_columns(result[:, part], array)
        return result

    @property
    def _is_vector(self) -> bool:
        return len(self.runs) == 1 and self.runs[0].rows == 1

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

    def write(self, a: Any, run: Run, part: Any) -> None:
        """The inverse of `read`: put a run's (steps, n, rows) into (T, B, n)."""
        part = part[::-1] if self.reverse else part
        a[run.first : run.last, self.rows_of(run)] = part.transpose(0, 2, 1)


def put_columns(into: Any, steps: Any) -> None:
    """Write (S, features, n), or (S, features), into (features, S * n)."""
    into.reshape(len(into), len(steps), -1)[...] = steps.reshape(*steps.shape[:2], -1).transpose(1, 0, 2)


def cut(steps: int, batch: int, lengths: Sequence[int] | None, reverse: bool) -> Runs:
    """Cut a batch into runs.

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
    return Runs(tuple(runs[::-1] if reverse else runs), order, reverse)
