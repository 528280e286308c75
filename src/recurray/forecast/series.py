"""A series: a target at even times, and the columns that go with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from recurray import checks
from recurray.forecast import csv_file, times
from recurray.forecast.csv_file import CsvFile
from recurray.forecast.times import Step, Times
from recurray.messages import shown

Floats = NDArray[np.float64]

MISSING = ("error", "interpolate", "drop")
DUPLICATES = ("error", "mean", "first", "last")
_TIME_NAMES = {
    "date",
    "dates",
    "time",
    "times",
    "datetime",
    "timestamp",
    "year",
    "month",
    "week",
    "day",
    "ds",
    "period",
}


@dataclass(frozen=True)
class Series:
    """A target at even times, and the columns that go with it.

    `of` makes one of arrays or a data frame, `from_csv` of a file.

    Attributes
    ----------
    target : str
        The name of the column that is forecast.
    past : tuple of str
        Columns whose values are known up to now.
    known : tuple of str
        Columns whose values are known in advance: holidays, prices, a plan.
    columns : dict of str to array of float64
        The values, all of the same length.
    times : array or None
        The time of each row, datetime64 or numbers.
    step : Step or None
        From one time to the next.
    observed : dict of str to array of bool
        By column, False where a value was filled in. Such a target is learned from, but no forecast is measured by it.

    Examples
    --------
    >>> import recurray as rr
    >>> months = ["2024-01", "2024-02", "2024-03", "2024-05"]
    >>> data = {"month": months, "sold": [3.0, 4.0, 5.0, 7.0]}
    >>> rr.forecast.Series.of(data, target="sold", missing="interpolate")
    Series(5 rows of 'sold', 2024-01 to 2024-05, step month, 1 filled in)
    """

    target: str
    past: tuple[str, ...]
    known: tuple[str, ...]
    columns: dict[str, Floats]
    times: Times | None
    step: Step | None
    observed: dict[str, NDArray[np.bool_]]

    @classmethod
    def of(
        cls,
        data: Any,
        *,
        target: str | None = None,
        past: Sequence[str] = (),
        known: Sequence[str] = (),
        time: Any = None,
        time_format: str | None = None,
        missing: str = "error",
        duplicates: str = "error",
        sort: bool = False,
    ) -> Self:
        """Make a series of arrays.

        Parameters
        ----------
        data : array (rows,), mapping of str to array, or data frame
            The target alone, or columns by name. NaN, None and the texts "", "NA", "null" and the like are gaps.
        target : str
            Which column is forecast; not for the target alone.
        past, known : sequence of str
            Which columns are inputs: those known up to now, and those known in advance.
        time : str, False or array, optional
            The column with the times, or these themselves, datetimes or numbers. If omitted, a frame's index of
            datetimes, or a first column that is called so ("date", "time", "year", ...) or holds dates. False for none.
        time_format : str, optional
            How times are written, as for ``datetime.strptime``; ISO 8601 and dates such as 20011222 are read without.
        missing : "error", "interpolate" or "drop"
            What becomes of gaps, in values and in times: an error; filled in on the straight line between the
            neighbours (at an end by the nearest value); or left out, so that what stands beside them follow each other.
        duplicates : "error", "mean", "first" or "last"
            What becomes of rows with the same time.
        sort : bool
            Whether rows are brought into the order of their times.

        Returns
        -------
        Series
            With all times one step apart.

        Raises
        ------
        ValueError, TypeError
            There is no such column, one holds text or infinity, there are gaps, or times are not even, unsorted or not
            unique. The message names the row, and what can be done.
        """
        missing = checks.choice("missing", missing, MISSING)
        duplicates = checks.choice("duplicates", duplicates, DUPLICATES)
        sort = checks.flag("sort", sort)
        table = _Table.of(data)
        if target is None and len(table.columns) == 1:
            target = next(iter(table.columns))
        roles = _roles(table, target, past, known)
        taken = table.times(time, time_format)
        columns = {name: table.numbers(name) for name in roles}
        series = cls(
            roles[0],
            tuple(past),
            tuple(known),
            columns,
            taken,
            None,
            {name: ~np.isnan(values) for name, values in columns.items()},
        )
        if not len(series):
            raise ValueError(f"{table.source} has no rows")
        ordered, lines = _ordered(series, np.arange(len(series)), table, duplicates, sort)
        filled: Self = _filled(ordered, lines, table, missing)
        return filled

    @classmethod
    def from_csv(
        cls,
        path: str | Path,
        *,
        target: str,
        delimiter: str | None = None,
        decimal: str = ".",
        names: Sequence[str] | None = None,
        **options: Any,
    ) -> Self:
        """Make a series of a CSV file: in UTF-8, a header, a line for each time.

        Parameters
        ----------
        path : path-like
            The file; "-" is standard input.
        target : str
            Which column is forecast.
        delimiter : str, optional
            What stands between columns; if omitted, the comma, semicolon, tab or bar that the first line has most of.
        decimal : "." or ","
            What stands before decimals.
        names : sequence of str, optional
            The names of the columns, of a file without a header.
        **options
            As of `of`.

        Raises
        ------
        FormatError
            The file is empty, has no header, or a line has other columns than it.
        OSError
            It can't be read.
        ValueError, TypeError
            As of `of`; the message names the line.
        """
        return cls.of(csv_file.read(path, delimiter=delimiter, decimal=decimal, names=names), target=target, **options)

    def __len__(self) -> int:
        return len(self.columns[self.target])

    def __repr__(self) -> str:
        parts = [f"{len(self)} rows of {self.target!r}"]
        if self.times is not None:
            parts.append(" to ".join(times.written(self.times[[0, -1]])))
            parts.append(f"step {self.step}")
        if filled := self.filled:
            parts.append(f"{filled} filled in")
        for name, columns in (("past", self.past), ("known", self.known)):
            if columns:
                parts.append(f"{name}: {', '.join(columns)}")
        return f"Series({', '.join(parts)})"

    @property
    def filled(self) -> int:
        """How many targets were filled in."""
        return int((~self.observed[self.target]).sum())

    def before(self, end: int) -> Self:
        """The rows before this one, with nothing of those after: a gap at their end holds the value before it."""
        columns = {name: values[:end].copy() for name, values in self.columns.items()}
        for name in (self.target, *self.past):
            there = np.flatnonzero(self.observed[name][:end])
            if len(there):
                columns[name][there[-1] + 1 :] = columns[name][there[-1]]
        return replace(
            self,
            columns=columns,
            times=None if self.times is None else self.times[:end],
            observed={name: flags[:end] for name, flags in self.observed.items()},
        )

    def times_after(self, count: int) -> Times | None:
        """The times that would follow."""
        return None if self.times is None or self.step is None else self.step.after(self.times[-1], count)


@dataclass(frozen=True)
class _Table:
    """Columns as they were given, and how a row of them is named in an error."""

    columns: Mapping[str, Any]
    source: str
    where: Callable[[int], str]
    decimal: str = "."
    index: Any = None

    @classmethod
    def of(cls, data: Any) -> Self:
        if isinstance(data, CsvFile):
            return cls(data.columns, data.path, lambda row: f"{data.path}, line {data.lines[row]}:", data.decimal)
        index = None
        if hasattr(data, "columns") and hasattr(data, "__getitem__"):  # pandas, polars and the like
            index = getattr(data, "index", None)
            index = index if getattr(getattr(index, "dtype", None), "kind", "") == "M" else None
            columns = {str(name): np.asarray(data[name]) for name in data.columns}
        elif isinstance(data, Mapping):
            columns = {str(name): np.asarray(values) for name, values in data.items()}
        else:
            columns = {"target": np.asarray(data)}
            if columns["target"].ndim != 1:
                raise ValueError(
                    f"data must be an array (rows,), a mapping of names to such, a data frame or a Series, not one "
                    "of the shape "
                    f"{columns['target'].shape}"
                )
        if not columns:
            raise ValueError("data has no columns")
        sizes = {name: values.shape for name, values in columns.items()}
        if len(set(sizes.values())) > 1 or any(len(shape) != 1 for shape in sizes.values()):
            raise ValueError(f"the columns must be of one length, (rows,) each, not {shown(sizes)}")
        return cls(columns, "data", lambda row: f"row {row}", index=index)

    def column(self, name: Any) -> Any:
        if not isinstance(name, str) or name not in self.columns:
            raise ValueError(f"{self.source} has no column {shown(name)}; it has {', '.join(map(repr, self.columns))}")
        return self.columns[name]

    def times(self, time: Any, form: str | None) -> Times | None:
        rows = len(next(iter(self.columns.values())))
        if time is False:
            return None
        if time is None:
            if self.index is not None:
                return times.of_array(self.index)
            first = next(iter(self.columns))
            texts = self.columns[first]
            named = first.strip().lower() in _TIME_NAMES
            if not rows or not (named or (isinstance(texts[0], str) and times.looks_like_one(texts[0]))):
                return None
            time = first
        if not isinstance(time, str):
            found = times.of_array(time)
            if found.shape != (rows,):
                raise ValueError(f"times must be ({rows},), one for each row, not {found.shape}")
            if np.isnat(found).any() if found.dtype.kind == "M" else not np.isfinite(found).all():
                raise ValueError("times must all be there: one of them is missing or infinite")
            return found
        values = self.column(time)
        if len(values) and isinstance(values[0], str):
            return times.parse(list(values), self.where, time, form)
        return times.of_array(values)

    def numbers(self, name: str) -> Floats:
        """A column as numbers, NaN where one is missing."""
        column = self.column(name)
        if not isinstance(column, list) and np.asarray(column).dtype.kind in "fiub":
            numbers = np.asarray(column, dtype=np.float64)
        else:
            numbers = np.asarray([self._number(name, row, value) for row, value in enumerate(column)], dtype=np.float64)
        if len(infinite := np.flatnonzero(np.isinf(numbers))):
            raise ValueError(
                f"{self.where(infinite[0])} the column {name!r} has an infinite value: write a number, or nothing"
            )
        return numbers

    def _number(self, name: str, row: int, value: Any) -> float:
        if value is None:
            return math.nan
        if isinstance(value, str):
            text = value.strip()
            if text.lower() in csv_file.MISSING:
                return math.nan
            if self.decimal == ",":
                text = text.replace(".", "").replace(",", ".")
            if "_" not in text:  # Python's own way to write numbers
                try:
                    return float(text)
                except ValueError:
                    pass
            comma = ' (for decimals after a comma give decimal=",")' if "," in text else ""
            raise ValueError(
                f"{self.where(row)} the column {name!r} has the text {shown(value)}, and must hold numbers{comma}: "
                "leave the column "
                "out, or write its values as numbers"
            )
        try:
            return checks.number(f"{self.where(row)} {name!r}", value)
        except TypeError:
            raise TypeError(
                f"{self.where(row)} the column {name!r} has {shown(value)}, and must hold numbers"
            ) from None


def _roles(table: _Table, target: Any, past: Any, known: Any) -> list[str]:
    if target is None:
        raise ValueError(f"target must say which column is forecast, one of {', '.join(map(repr, table.columns))}")
    for name, given in (("past", past), ("known", known)):
        if isinstance(given, (str, bytes)) or not isinstance(given, Sequence):
            raise TypeError(f"{name} must be a sequence of names, not {shown(given)}")
    roles = [target, *past, *known]
    for name in roles:
        table.column(name)
        if roles.count(name) > 1:
            raise ValueError(f"the column {name!r} must be one of target, past and known, and is named twice")
    return roles


def _taken(series: Series, rows: Any) -> Series:
    return replace(
        series,
        columns={name: values[rows] for name, values in series.columns.items()},
        times=None if series.times is None else series.times[rows],
        observed={name: flags[rows] for name, flags in series.observed.items()},
    )


def _ordered(
    series: Series, lines: NDArray[np.int64], table: _Table, duplicates: str, sort: bool
) -> tuple[Series, NDArray[np.int64]]:
    """Rows in the order of their times, each time once."""
    if series.times is None:
        return series, lines
    if sort:
        order = np.argsort(series.times, kind="stable")
        series, lines = _taken(series, order), lines[order]
    when = np.asarray(series.times)
    shown_times = times.written(when)
    back = np.flatnonzero(when[1:] < when[:-1])
    if len(back):
        k = int(back[0]) + 1
        raise ValueError(
            f"{table.where(lines[k])} the time {shown_times[k]} comes after {shown_times[k - 1]}: sort the rows, or "
            "give sort=True"
        )
    same = np.flatnonzero(when[1:] == when[:-1])
    if not len(same):
        return series, lines
    if duplicates == "error":
        k = int(same[0]) + 1
        raise ValueError(
            f"{table.where(lines[k])} the time {shown_times[k]} is there a second time: remove one, or give "
            'duplicates="mean" (or "first", "last")'
        )
    firsts = np.flatnonzero(np.append(True, when[1:] != when[:-1]))
    if duplicates == "last":
        rows = np.append(firsts[1:], len(series)) - 1
        return _taken(series, rows), lines[rows]
    result = _taken(series, firsts)
    if duplicates == "mean":
        groups = np.repeat(np.arange(len(firsts)), np.diff(np.append(firsts, len(series))))
        for name, values in series.columns.items():
            there = ~np.isnan(values)
            counts = np.bincount(groups[there], minlength=len(firsts))
            sums = np.bincount(groups[there], values[there], minlength=len(firsts))
            result.columns[name] = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
            result.observed[name] = counts > 0
    return result, lines[firsts]


def _filled(series: Series, lines: NDArray[np.int64], table: _Table, missing: str) -> Any:
    """No value missing, and times one step apart."""
    positions = np.arange(len(series), dtype=np.float64)
    step = None
    if series.times is not None and len(series) > 1:
        step = times.step_of(series.times)
        series = replace(series, step=step)
    gaps = np.any([np.isnan(values) for values in series.columns.values()], axis=0)
    if missing == "drop":
        if gaps.all():
            raise ValueError(f"{table.source} has no row without a gap")
        return _taken(series, ~gaps)
    if gaps.any() and missing == "error":
        row = int(np.flatnonzero(gaps)[0])
        name = next(name for name, values in series.columns.items() if np.isnan(values[row]))
        more = f", and {int(gaps.sum()) - 1} more rows have gaps" if gaps.sum() > 1 else ""
        raise ValueError(
            f'{table.where(lines[row])} the column {name!r} has no value{more}: give missing="interpolate" to fill '
            "gaps in, or "
            'missing="drop" to leave such rows out'
        )
    if step is not None and series.times is not None:
        positions = step.positions(series.times)
        _check_even(series, positions, lines, table, missing)
    for name, values in series.columns.items():
        if np.isnan(values).all():
            raise ValueError(f"{table.source} has no value in the column {name!r}")
    whole = np.round(positions).astype(np.int64)
    grid = np.arange(whole[-1] + 1)
    observed, columns = {}, {}
    for name, values in series.columns.items():
        there = whole[~np.isnan(values)]
        observed[name] = np.isin(grid, there)
        columns[name] = np.interp(grid, there, values[~np.isnan(values)])
    even = series.times
    if even is not None and len(grid) > len(series) and step is not None:
        even = np.append(even[:1], step.after(even[0], len(grid) - 1))
    return replace(series, columns=columns, times=even, observed=observed)


def _check_even(series: Series, positions: Floats, lines: NDArray[np.int64], table: _Table, missing: str) -> None:
    steps = np.diff(positions)
    odd = np.flatnonzero((np.abs(steps - np.round(steps)) > 1e-6) | (np.round(steps) < 1))
    gaps = np.flatnonzero(np.round(steps) > 1)
    texts = [] if series.times is None else times.written(series.times)
    if len(odd):
        k = int(odd[0]) + 1
        raise ValueError(
            f"{table.where(lines[k])} the times aren't even: {texts[k - 1]} is followed by {texts[k]}, and most are "
            f"{series.step} "
            'apart: bring them to even times first, or give missing="drop" to take rows as following each other'
        )
    if len(gaps) and missing == "error":
        k = int(gaps[0]) + 1
        raise ValueError(
            f"{table.where(lines[k])} rows are missing: {texts[k - 1]} is followed by {texts[k]}, and the step is "
            f"{series.step}: give "
            'missing="interpolate" to fill them in, or missing="drop" to take rows as following each other'
        )
    if positions[-1] > 100 * len(series) + 1000:
        raise ValueError(
            f"{table.source}: from {texts[0]} to {texts[-1]} there would be {positions[-1]:.0f} rows with the step "
            f"{series.step}, and "
            f"there are {len(series)}: are the times right?"
        )
