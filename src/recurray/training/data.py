"""The forms that data has: rows in arrays, ragged rows in lists, batches that the caller makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recurray import checks
from recurray.training.batch import Form, Generator, Source
from recurray.training.made import Made
from recurray.training.parts import axis_of_rows, count_of, named, take_rows
from recurray.training.ragged import Ragged
from recurray.training.rows import Rows

FORMS = (
    'data must be (x, target), a mapping with "x" and "target", an iterable of such batches, '
    "or a function of a generator that returns one"
)


def source(name: str, data: Any, form: Form) -> Source:
    """Find out which form ``data`` has, and check it as far as it can be before work starts."""
    if isinstance(data, (Mapping, tuple)):
        arrays = named(name, data)
        if isinstance(arrays["x"], list):
            return Ragged.of(name, arrays, form)
        return Rows.of(name, arrays, form)
    if callable(data) or checks.are_several(data):
        return Made(name, data, form)
    raise TypeError(f"{FORMS.replace('data', name, 1)}, not {type(data).__name__}")


def split(data: Any, share: float, rng: Generator, *, batch_first: bool) -> tuple[Any, Any]:
    """Split rows at random: what is left to train on, and the share to validate on, at least one row each."""
    arrays = named("data", data) if isinstance(data, (Mapping, tuple)) else None
    if arrays is None:
        raise TypeError(
            f"validation={share!r} is a share of rows, so data must be arrays with all rows, not "
            f"{type(data).__name__}: give validation data of its own"
        )
    count = count_of("data", arrays, batch_first)
    if count < 2:
        raise ValueError(f"validation={share!r} needs at least 2 rows in data, which has {count}")
    held = min(count - 1, max(1, round(share * count)))
    order = rng.permutation(count)
    return tuple(  # type: ignore[return-value]
        {
            part: take_rows(value, np.sort(rows), axis_of_rows(part, value, arrays["x"], batch_first))
            for part, value in arrays.items()
        }
        for rows in (order[held:], order[:held])
    )
