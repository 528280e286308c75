"""Batches that the caller makes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from recurray.training.batch import Batch, Form, Generator
from recurray.training.parts import as_array, axis_of_rows, named, take_rows


class Made:
    """Batches that the caller makes: an iterable of them, or a function that returns one for each epoch."""

    def __init__(self, name: str, data: Iterable[Any] | Callable[[Generator], Iterable[Any]], form: Form) -> None:
        self._name, self._data, self._form = name, data, form
        self._begun = False

    @property
    def batches(self) -> int | None:
        """How many batches an epoch has, where that can be told."""
        try:
            return len(self._data)  # type: ignore[arg-type]
        except TypeError:
            return None

    def facts(self) -> dict[str, Any]:
        """See `Source.facts`."""
        return {"batches": self.batches}

    def sample(self) -> dict[str, Any]:
        """Nothing, for there are no values yet: each epoch's first batch is compared when it comes."""
        return {}

    def epoch(self, rng: Generator) -> Iterator[Batch]:
        """Return the batches as they come."""
        data = self._data(rng) if callable(self._data) else self._data
        if self._begun and iter(data) is data and not callable(self._data):
            raise ValueError(
                f"{self._name} is an iterator, which is used up after one epoch: give a list, or a function that "
                "returns a new iterator for each epoch"
            )
        self._begun = True
        for place, batch in enumerate(data):
            if not isinstance(batch, (Mapping, tuple)):
                raise TypeError(
                    f"batch {place} of {self._name} must be (x, target) or a mapping, not {type(batch).__name__}"
                )
            parts = {part: as_array(self._name, part, value) for part, value in named(self._name, batch).items()}
            if place == 0:
                self._form.share.check_same(
                    {f"the first batch of {self._name}, in its {part}": value for part, value in parts.items()}
                )
            yield Batch(**parts) if self._form.share.size == 1 else self._own(parts)

    def _own(self, parts: Mapping[str, Any]) -> Batch:
        """Take this rank's rows of a batch."""
        x, batch_first = parts["x"], self._form.batch_first
        count = x.shape[axis_of_rows("x", x, x, batch_first)]
        own = self._form.share.of(0, count)
        found = {
            part: take_rows(value, own, axis_of_rows(part, value, x, batch_first)) for part, value in parts.items()
        }
        return Batch(**found, whole=self._form.share.whole(count, parts.get("lengths")))
