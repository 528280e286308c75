"""Rows of several lengths, in lists.

N rows of the data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recurray.arrays import to_numpy
from recurray.messages import in_words
from recurray.training.batch import BY_STEP, Batch, Form, Generator
from recurray.training.finite import check_row
from recurray.training.parts import as_array, check_text, spread, take_rows


@dataclass(frozen=True)
class Ragged:
    """Rows of several lengths, each an array of its own (steps, features)."""

    arrays: Mapping[str, Any]
    lengths: Any  # (N,)
    by_step: bool  # whether a row's target has an entry for each of its steps
    form: Form

    @classmethod
    def of(cls, name: str, arrays: Mapping[str, Any], form: Form) -> Ragged:
        """Check the rows."""
        for part in ("lengths", *BY_STEP, "target_mask"):
            if part in arrays:
                raise ValueError(f"{name} has ragged rows, whose lengths are known: it can't have {part} too")
        x = [as_array(name, f"x[{place}]", row) for place, row in enumerate(arrays["x"])]
        if not x:
            raise ValueError(f"{name} is empty: x has no rows")
        for place, row in enumerate(x):
            if tuple(row.shape[1:]) != tuple(x[0].shape[1:]):
                raise ValueError(
                    f"{name}: x[{place}] must be {in_words(('steps', *x[0].shape[1:]))} like x[0], "
                    f"not {in_words(row.shape)}"
                )
            check_row(name, f"x[{place}]", row)
        lengths = np.array([len(row) for row in x])
        target = arrays["target"]
        by_step = False
        if isinstance(target, list):
            target = [to_numpy(row) if hasattr(row, "shape") else np.asarray(row) for row in target]
            by_step = [row.shape[:1] for row in target] == [(length,) for length in lengths]
            if not by_step and len({row.shape for row in target}) > 1:
                place = next((p for p, row in enumerate(target) if p < len(x) and row.shape[:1] != (lengths[p],)), 0)
                raise ValueError(
                    f"{name}: target must have an entry for each step of its row or be of one shape for all rows, but "
                    f"target[{place}] is {in_words(target[place].shape)} and x[{place}] has {lengths[place]} steps"
                )
            if not by_step:
                target = np.stack(target)
        else:
            target = as_array(name, "target", target)
        rest = {part: as_array(name, part, value) for part, value in arrays.items() if part not in ("x", "target")}
        found = {"x": x, "target": target, **rest}
        for part, value in found.items():
            if len(value) != len(x):
                raise ValueError(f"{name}: x has {len(x)} rows, but {part} has {len(value)}")
        check_text(name, target[0] if by_step else target)
        return cls(found, lengths, by_step, form)

    @property
    def batches(self) -> int:
        """How many batches an epoch has."""
        return -(-len(self.lengths) // self.form.batch_size)

    def facts(self) -> dict[str, Any]:
        """See `Source.facts`."""
        return {"rows": len(self.lengths), "batch_size": self.form.batch_size, "shuffle": self.form.shuffle}

    def epoch(self, rng: Generator) -> Iterator[Batch]:
        """Return batches: of similar lengths in a random order, or in the rows' own where they aren't shuffled."""
        size = self.form.batch_size
        order = np.arange(len(self.lengths))
        if self.form.shuffle:  # rows of one length by chance, then the batches
            order = rng.permutation(order)
            order = order[np.argsort(self.lengths[order], kind="stable")]
        batches = [order[begin : begin + size] for begin in range(0, len(order), size)]
        if self.form.shuffle:
            batches = [batches[place] for place in rng.permutation(len(batches))]
        for rows in batches:
            yield self._batch(rows)

    def sample(self) -> dict[str, Any]:
        """See `Source.sample`."""
        size = sum(getattr(row, "nbytes", 0) for row in self.arrays["x"])
        rows = spread(len(self.lengths), size)
        found = self._of(rows, rows)
        return {"x": found.x, "target": found.target, "lengths": self.lengths}

    def _batch(self, rows: Any) -> Batch:
        share = self.form.share
        return self._of(rows[share.of(0, len(rows))], rows)._replace(whole=share.whole(len(rows), self.lengths[rows]))

    def _of(self, own: Any, rows: Any) -> Batch:
        """Some of the rows, as long as all of them."""
        steps, target, static = int(self.lengths[rows].max()), self.arrays["target"], self.arrays.get("static")
        return Batch(
            self._padded(self.arrays["x"], own, steps),
            self._padded(target, own, steps) if self.by_step else take_rows(target, own),
            lengths=self.lengths[own],
            static=None if static is None else take_rows(static, own),
        )

    def _padded(self, arrays: Sequence[Any], rows: Any, steps: int) -> Any:
        """Rows as one array, zero past their ends, in the model's layout."""
        first = to_numpy(arrays[0])
        out = np.zeros((len(rows), steps, *first.shape[1:]), first.dtype)
        for place, row in enumerate(rows):
            out[place, : self.lengths[row]] = to_numpy(arrays[row])
        return out if self.form.batch_first else out.swapaxes(0, 1)
