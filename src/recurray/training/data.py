"""What a batch is, and where batches come from: rows in arrays, ragged rows in lists, or whoever made them.

B rows of a batch, N of the data, T steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from recurray.arrays import device_of, namespace_of, on_host, plain, to_numpy
from recurray.messages import in_words, kind_of, shown
from recurray.training.share import ALONE, Share, Whole

Generator = np.random.Generator

_ROWS_COMPARED, _BYTES_COMPARED = 64, 2**22  # between ranks, at most

BY_STEP = ("mask", "resets")  # flags (batch, time)
NAMES = ("x", "target", "lengths", *BY_STEP, "static", "target_mask")
FORMS = (
    'data must be (x, target), a mapping with "x" and "target", an iterable of such batches, '
    "or a function of a generator that returns one"
)


class Batch(NamedTuple):
    """Rows that are trained on together.

    Attributes
    ----------
    x, target : array
        As they were given, of the host or of the model's backend.
    lengths, mask, resets : numpy.ndarray or None
        As for `Layer.forward`, of the host; flags in the model's layout.
    static : array or None
        As for `Layer.forward`.
    target_mask : numpy.ndarray or None
        Which elements of the loss count.
    whole : Whole or None
        The batch of which these are a rank's rows; None where they are all.
    """

    x: Any
    target: Any
    lengths: Any = None
    mask: Any = None
    resets: Any = None
    static: Any = None
    target_mask: Any = None
    whole: Whole | None = None


class Source(Protocol):
    """Where batches come from."""

    def epoch(self, rng: Generator) -> Iterator[Batch]:
        """Return the batches of one epoch, in an order that ``rng`` decides: of each this rank's rows."""

    @property
    def batches(self) -> int | None:
        """How many batches an epoch has; None where that isn't known before."""

    def facts(self) -> dict[str, Any]:
        """What has to be as it was where a training goes on."""

    def sample(self) -> dict[str, Any]:
        """Some of the values, which have to be the same on all ranks."""


@dataclass(frozen=True)
class Form:
    """How rows become batches.

    Attributes
    ----------
    batch_size : int
        Rows of a batch; the last may have fewer.
    shuffle : bool
        Whether each epoch draws an order.
    batch_first : bool
        The model's layout.
    share : Share
        Which of a batch's rows are this rank's.
    """

    batch_size: int
    shuffle: bool
    batch_first: bool
    share: Share = ALONE


def source(name: str, data: Any, form: Form) -> Source:
    """Find out which form ``data`` has, and check it as far as it can be before work starts."""
    if isinstance(data, (Mapping, tuple)):
        arrays = _named(name, data)
        if isinstance(arrays["x"], list):
            return Ragged.of(name, arrays, form)
        return Rows.of(name, arrays, form)
    if callable(data) or isinstance(data, Iterable):
        return Made(name, data, form)
    raise TypeError(f"{FORMS.replace('data', name, 1)}, not {type(data).__name__}")


def split(data: Any, share: float, rng: Generator, *, batch_first: bool) -> tuple[Any, Any]:
    """Split rows at random: what is left to train on, and the share to validate on, at least one row each."""
    arrays = _named("data", data) if isinstance(data, (Mapping, tuple)) else None
    if arrays is None:
        raise TypeError(
            f"validation={share!r} is a share of rows, so data must be arrays with all rows, not "
            f"{type(data).__name__}: give validation data of its own"
        )
    count = _count("data", arrays, batch_first)
    if count < 2:
        raise ValueError(f"validation={share!r} needs at least 2 rows in data, which has {count}")
    held = min(count - 1, max(1, round(share * count)))
    order = rng.permutation(count)
    return tuple(  # type: ignore[return-value]
        {
            part: _rows(value, np.sort(rows), axis_of_rows(part, value, arrays["x"], batch_first))
            for part, value in arrays.items()
        }
        for rows in (order[held:], order[:held])
    )


@dataclass(frozen=True)
class Rows:
    """Rows in arrays: N of each, whole sequences."""

    arrays: Mapping[str, Any]
    count: int
    form: Form

    @classmethod
    def of(cls, name: str, arrays: Mapping[str, Any], form: Form) -> Rows:
        """Check the arrays."""
        checked = {part: _array(name, part, value) for part, value in arrays.items()}
        count = _count(name, checked, form.batch_first)
        _check_text(name, checked["target"])
        _check_finite(name, checked, form.batch_first)
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
        rows = _spread(self.count, sum(getattr(value, "nbytes", 0) for value in self.arrays.values()))
        return {part: _rows(value, rows, self._axis(part)) for part, value in self.arrays.items()}

    def _axis(self, part: str) -> int:
        return axis_of_rows(part, self.arrays[part], self.arrays["x"], self.form.batch_first)


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
        x = [_array(name, f"x[{place}]", row) for place, row in enumerate(arrays["x"])]
        if not x:
            raise ValueError(f"{name} is empty: x has no rows")
        for place, row in enumerate(x):
            if tuple(row.shape[1:]) != tuple(x[0].shape[1:]):
                raise ValueError(
                    f"{name}: x[{place}] must be {in_words(('steps', *x[0].shape[1:]))} like x[0], "
                    f"not {in_words(row.shape)}"
                )
            _check_row(name, f"x[{place}]", row)
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
            target = _array(name, "target", target)
        rest = {part: _array(name, part, value) for part, value in arrays.items() if part not in ("x", "target")}
        found = {"x": x, "target": target, **rest}
        for part, value in found.items():
            if len(value) != len(x):
                raise ValueError(f"{name}: x has {len(x)} rows, but {part} has {len(value)}")
        _check_text(name, target[0] if by_step else target)
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
        rows = _spread(len(self.lengths), size)
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
            self._padded(target, own, steps) if self.by_step else _rows(target, own),
            lengths=self.lengths[own],
            static=None if static is None else _rows(static, own),
        )

    def _padded(self, arrays: Sequence[Any], rows: Any, steps: int) -> Any:
        """Rows as one array, zero past their ends, in the model's layout."""
        first = to_numpy(arrays[0])
        out = np.zeros((len(rows), steps, *first.shape[1:]), first.dtype)
        for place, row in enumerate(rows):
            out[place, : self.lengths[row]] = to_numpy(arrays[row])
        return out if self.form.batch_first else out.swapaxes(0, 1)


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
            named = {part: _array(self._name, part, value) for part, value in _named(self._name, batch).items()}
            if place == 0:
                self._form.share.check_same(
                    {f"the first batch of {self._name}, in its {part}": value for part, value in named.items()}
                )
            yield Batch(**named) if self._form.share.size == 1 else self._own(named)

    def _own(self, parts: Mapping[str, Any]) -> Batch:
        """Take this rank's rows of a batch."""
        x, batch_first = parts["x"], self._form.batch_first
        count = x.shape[axis_of_rows("x", x, x, batch_first)]
        own = self._form.share.of(0, count)
        found = {part: _rows(value, own, axis_of_rows(part, value, x, batch_first)) for part, value in parts.items()}
        return Batch(**found, whole=self._form.share.whole(count, parts.get("lengths")))


def _named(name: str, data: Any) -> dict[str, Any]:
    """The parts of data by their names."""
    if isinstance(data, tuple):
        if len(data) != 2:
            raise ValueError(f"{name} must be (x, target), a tuple of 2, not of {len(data)}: name others in a mapping")
        data = {"x": data[0], "target": data[1]}
    unknown = [part for part in data if part not in NAMES]
    if unknown:
        raise ValueError(f"{name} has an unknown part {shown(unknown[0])}; the known ones are {', '.join(NAMES)}")
    missing = [part for part in ("x", "target") if data.get(part) is None]
    if missing:
        raise ValueError(f"{name} lacks {' and '.join(missing)}")
    if data.get("lengths") is not None and data.get("mask") is not None:
        raise ValueError(f"{name} has lengths and mask: give one of them, which say the same")
    return {part: value for part, value in data.items() if value is not None}


def _array(name: str, part: str, value: Any) -> Any:
    """Take an array of any library, or a sequence of numbers, as an array; flags and lengths on the host."""
    if part in ("lengths", *BY_STEP, "target_mask"):
        value = to_numpy(value) if hasattr(value, "shape") else np.asarray(value)
        kind, wanted = ("iu", "integers") if part == "lengths" else ("b", "booleans")
        if value.dtype.kind not in kind:
            raise TypeError(f"{name}: {part} must be {wanted}, not {value.dtype}")
        return value
    if not hasattr(value, "shape"):
        try:
            value = np.asarray(value)
        except ValueError as error:
            raise ValueError(f"{name}: {part} must be an array or a list of arrays: {error}") from None
    return plain(part, value)


def axis_of_rows(part: str, value: Any, x: Any, batch_first: bool) -> int:
    """The axis of the rows in a part of data: 1 where time comes first in it, as in ``x``."""
    if batch_first or isinstance(value, (list, tuple)) or np.ndim(value) < 2 or part in ("lengths", "static"):
        return 0
    return 1 if part in ("x", *BY_STEP) or tuple(value.shape[:2]) == tuple(x.shape[:2]) else 0


def _rows(value: Any, rows: Any, axis: int = 0) -> Any:
    """Take rows of an array, or of a list."""
    if isinstance(value, list):
        return [value[row] for row in (range(len(value))[rows] if isinstance(rows, slice) else rows)]
    if isinstance(value, np.ndarray):
        return np.asarray(value[:, rows] if axis else value[rows])  # of a file that is mapped, an array
    xp = namespace_of(value)
    if isinstance(rows, slice):
        return value[:, rows, ...] if axis else value[rows, ...]
    return xp.take(value, xp.asarray(np.asarray(rows)), axis=axis)


def _spread(count: int, size: int) -> Any:
    """The numbers of some rows out of ``count``, which are so many bytes: from the first to the last."""
    some = max(1, min(_ROWS_COMPARED, count, _BYTES_COMPARED * count // max(1, size)))
    return np.linspace(0, count - 1, some).astype(int)


def _taking(value: Any, axis: int, order: Any) -> Callable[[slice], Any]:
    """A function that takes rows at some places of an order, or of their own."""
    if order is None:
        return lambda places: _rows(value, places, axis)
    if isinstance(value, np.ndarray):
        take = np.asarray(value).take  # of a file that is mapped, an array
        return lambda places: take(order[places], axis)
    xp = namespace_of(value)
    on_device = xp.asarray(order, device=device_of(value))
    return lambda places: xp.take(value, on_device[places], axis=axis)


def _count(name: str, arrays: Mapping[str, Any], batch_first: bool) -> int:
    """How many rows there are: as many in each part."""
    counts = {}
    for part, value in arrays.items():
        shape = (len(value),) if isinstance(value, (list, tuple)) else tuple(np.shape(value))
        if not shape:
            raise ValueError(f"{name}: {part} must be an array with rows, not a number")
        counts[part] = shape[axis_of_rows(part, value, arrays["x"], batch_first)]
    rows = counts["x"]
    for part, count in counts.items():
        if count != rows:
            raise ValueError(f"{name}: x has {rows} rows, but {part} has {count}")
    if not rows:
        raise ValueError(f"{name} is empty: x has the shape {in_words(arrays['x'].shape)}")
    return int(rows)


def _check_text(name: str, target: Any) -> None:
    """Refuse labels that are text."""
    if isinstance(target, np.ndarray) and target.dtype.kind in "USO":
        raise TypeError(
            f"{name}: target must be numbers, not {kind_of(target)} of {target.dtype}: "
            "np.unique(target, return_inverse=True) gives each label's number"
        )


def _check_row(name: str, what: str, row: Any) -> None:
    """Refuse NaN and infinity in a row of its own."""
    if isinstance(row, np.ndarray) and row.dtype.kind == "f" and not np.isfinite(row).all():
        step = int(np.argwhere(~np.isfinite(row))[0, 0])
        raise ValueError(f"{name}: {what} holds {row[step].ravel()[~np.isfinite(row[step].ravel())][0]} in step {step}")


def _check_finite(name: str, arrays: Mapping[str, Any], batch_first: bool) -> None:
    """Refuse NaN and infinity in steps that are valid, where that takes no reading of files or of a device."""
    x = arrays["x"]
    if not isinstance(x, np.ndarray) or isinstance(x, np.memmap) or x.dtype.kind != "f" or np.isfinite(x).all():
        return
    found = not_finite(x, arrays.get("lengths"), arrays.get("mask"), batch_first)
    if found is not None:
        raise ValueError(f"{name}: x holds {found}: leave such steps out by lengths or a mask, or fill them in")


def not_finite(x: Any, lengths: Any, mask: Any, batch_first: bool) -> str | None:
    """Say what the first value is that is NaN or infinite in a valid step of the host's array, and where."""
    if not on_host(x):
        return None
    x = to_numpy(x)
    if x.dtype.kind != "f":
        return None
    rows = x if batch_first or x.ndim < 2 else x.swapaxes(0, 1)
    bad = ~np.isfinite(rows)
    if rows.ndim > 1:
        if lengths is not None:
            bad[np.arange(rows.shape[1]) >= np.asarray(lengths)[:, None]] = False
        elif mask is not None:
            bad[~(mask if batch_first else mask.T)] = False
    if not bad.any():
        return None
    place = tuple(int(i) for i in np.argwhere(bad)[0])
    return f"{rows[place]} in row {place[0]}" + (f", step {place[1]}" if rows.ndim > 2 else "")
