"""Rows in arrays, all of one length.

N rows of the data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from recurray.arrays import device_of, namespace_of
from recurray.training.batch import Batch, Form, Generator
from recurray.training.finite import check_finite
from recurray.training.parts import as_array, axis_of_rows, check_text, count_of, spread, take_rows


@dataclass(frozen=True)
class Rows:
    """Rows in arrays: N of each, whole sequences."""

    arrays: Mapping[str, Any]
    count: int
    form: Form

    @classmethod
    def of(cls, name: str, arrays: Mapping[str, Any], form: Form) -> Rows:
        """Check the arrays."""
        checked = {part: as_array(name, part, value) for part, value in arrays.items()}
        count = count_of(name, checked, form.batch_first)
        check_text(name, checked["target"])
        check_finite(name, checked, form.batch_first)
        return cls(checked, count, form)

    @property
    def batches(self) -> int:
        """How many batches an epoch has."""
        return -(-self.count // self.form.batch_size)

    def facts(self) -> dict[str, Any]:
        """See `Source.facts`."""
        return {"rows": self.count, "batch_size": self.form.batch_size, "shuffle": self.form.shuffle}

    def epoch(self, rng: Generator) -> Iterator[Batch]:
        """Return batches of rows, in a random order or in their own."""
        order = rng.permutation(self.count) if self.form.shuffle else None
        taken = [(part, _taking(value, self._axis(part), order)) for part, value in self.arrays.items()]
        share, size, lengths = self.form.share, self.form.batch_size, self.arrays.get("lengths")
        for begin in range(0, self.count, size):
            end = min(begin + size, self.count)
            rows = share.of(begin, end)
            batch = Batch(**{part: take(rows) for part, take in taken})
            if share.size > 1:
                of_all = slice(begin, end) if order is None else order[begin:end]
                batch = batch._replace(whole=share.whole(end - begin, None if lengths is None else lengths[of_all]))
            yield batch

    def sample(self) -> dict[str, Any]:
        """See `Source.sample`."""
        rows = spread(self.count, sum(getattr(value, "nbytes", 0) for value in self.arrays.values()))
        return {part: take_rows(value, rows, self._axis(part)) for part, value in self.arrays.items()}

    def _axis(self, part: str) -> int:
        return axis_of_rows(part, self.arrays[part], self.arrays["x"], self.form.batch_first)


def _taking(value: Any, axis: int, order: Any) -> Callable[[slice], Any]:
    """A function that takes rows at some places of an order, or of their own."""
    if order is None:
        return lambda places: take_rows(value, places, axis)
    if isinstance(value, np.ndarray):
        take = np.asarray(value).take  # of a file that is mapped, an array
        return lambda places: take(order[places], axis)
    xp = namespace_of(value)
    on_device = xp.asarray(order, device=device_of(value))
    return lambda places: xp.take(value, on_device[places], axis=axis)
