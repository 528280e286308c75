"""Times of a series: read from text, how far apart they are, how they go on, and where in the day, week and year they
lie.

Times are datetime64 in microseconds, without a zone, or plain numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurray.messages import shown

Times = NDArray[Any]

CALENDAR = ("day", "week", "year")  # periods that a step's place in is an input
_UNIT = "datetime64[us]"
_DAY = 86_400_000_000  # in microseconds
_DIGITS = {4: "%Y", 6: "%Y%m", 8: "%Y%m%d"}  # dates without a sign between their parts
_MONTH = re.compile(r"\d{4}-\d{2}")


@dataclass(frozen=True)
class Step:
    """From one time to the next.

    Attributes
    ----------
    unit : str
        "month", "microsecond", or "number" of times that are plain numbers.
    size : float
        How many of them.
    """

    unit: str
    size: float

    def positions(self, times: Times) -> NDArray[np.float64]:
        """How many steps each time is after the first."""
        if self.unit == "month":
            months = _months(times)
            return np.asarray((months - months[0]) / self.size, dtype=np.float64)
        plain = times if self.unit == "number" else times.astype(np.int64)
        return np.asarray((plain - plain[0]) / self.size, dtype=np.float64)

    def after(self, first: Any, count: int) -> Times:
        """The ``count`` times that follow this one."""
        numbers = np.arange(1, count + 1)
        if self.unit == "number":
            return np.asarray(first + self.size * numbers)
        if self.unit == "microsecond":
            return np.asarray(first + (numbers * int(self.size)).astype("timedelta64[us]"))
        month = first.astype("datetime64[M]")
        within = first - month.astype(_UNIT)
        months = month + numbers * int(self.size)
        return np.asarray(months.astype(_UNIT) + (_last_day(months) if _is_last_day(first) else within))

    @property
    def season(self) -> int | None:
        """How many steps a season has that is usual for such times: a day, a week or a year."""
        if self.unit == "month":
            return {1: 12, 3: 4}.get(int(self.size))
        if self.unit == "microsecond":
            return {_DAY // 24: 24, _DAY: 7, 7 * _DAY: 52}.get(int(self.size))
        return None

    @property
    def calendar(self) -> tuple[str, ...]:
        """The periods that a step is short enough for to be somewhere in."""
        size = self.size * (30 * _DAY if self.unit == "month" else 1)
        if self.unit == "number":
            return ()
        return tuple(name for name, days in zip(CALENDAR, (1, 7, 360), strict=True) if size < days * _DAY)

    def __str__(self) -> str:
        if self.unit == "number":
            return f"{self.size:g}"
        names = (("year", 12), ("month", 1)) if self.unit == "month" else _UNITS
        name, unit = next((name, unit) for name, unit in names if self.size % unit == 0)
        count = int(self.size // unit)
        return f"{count} {name}s" if count > 1 else name


_UNITS = (
    ("week", 7 * _DAY),
    ("day", _DAY),
    ("hour", _DAY // 24),
    ("minute", _DAY // 1440),
    ("second", 1_000_000),
    ("microsecond", 1),
)


def parse(texts: Sequence[str], where: Callable[[int], str], column: str, form: str | None = None) -> Times:
    """Read times: ISO 8601, 2001, 200112 and 20011222, numbers, or in the form of ``strptime``.

    Raises
    ------
    ValueError
        One of them isn't a time; ``where`` says where it is.
    """
    texts = [text.strip() for text in texts]
    for row, text in enumerate(texts):
        if not text:
            raise ValueError(f"{where(row)} has no time in the column {shown(column)}: write it, or remove the line")
    lengths = {len(text) for text in texts}
    if form is None and len(lengths) == 1 and all(text.isdecimal() for text in texts):
        form = _DIGITS.get(lengths.pop())
        if form is not None and not all(_parsed(text, form) for text in texts):
            form = None  # numbers of so many digits
    if form is None and (numbers := _numbers(texts)) is not None:
        return numbers
    times = []
    for row, text in enumerate(texts):
        time = _parsed(text, form)
        if time is None:
            way = (
                'time_format="%Y-%m-%d" or the like' if form is None else f"a time_format that fits, not {shown(form)}"
            )
            raise ValueError(
                f"{where(row)} has {shown(text)} in the column {shown(column)}, which isn't a time: give {way}"
            )
        times.append(time)
    return np.asarray(times, dtype=_UNIT)


def of_array(values: Any) -> Times:
    """Take times from an array or a sequence: datetime64, datetimes, or numbers."""
    times = np.asarray(values)
    if not times.ndim:
        raise TypeError(f"times must be an array or a sequence of them, not {shown(values)}")
    if times.dtype.kind == "O":
        times = np.asarray([_parsed(str(value), None) or "NaT" for value in times], dtype=_UNIT)
    if times.dtype.kind in "iuf":
        return times.astype(np.float64)
    if times.dtype.kind != "M":
        raise TypeError(f"times must be datetimes or numbers, not {times.dtype}")
    return times.astype(_UNIT)


def looks_like_one(text: str) -> bool:
    """Whether a text is a date or a time that can be told without its form."""
    return _numbers([text]) is None and _parsed(text.strip(), None) is not None


def step_of(times: Times) -> Step:
    """The step that most neighbours are apart; times rise."""
    if times.dtype.kind == "f":
        return Step("number", float(_commonest(np.diff(times))))
    within = times - times.astype("datetime64[M]").astype(_UNIT)
    if (within == within[0]).all() or _is_last_day(times).all():
        return Step("month", int(_commonest(np.diff(_months(times)))))
    return Step("microsecond", int(_commonest(np.diff(times.astype(np.int64)))))


def calendar(times: Times, periods: Sequence[str]) -> NDArray[np.float64]:
    """Where in each period the times lie, as the sine and the cosine of an angle: (times, 2 periods)."""
    days = times.astype("datetime64[D]")
    years = times.astype("datetime64[Y]")
    share = (times - days.astype(_UNIT)).astype(np.int64) / _DAY
    begin, end = (year.astype("datetime64[D]").astype(np.int64) for year in (years, years + 1))
    places = {
        "day": share,
        "week": ((days.astype(np.int64) + 3) % 7 + share) / 7,  # day 0, in 1970, was a Thursday
        "year": (days.astype(np.int64) - begin + share) / (end - begin),
    }
    angles = [2 * np.pi * places[name] for name in periods]
    parts = [function(angle) for angle in angles for function in (np.sin, np.cos)]
    return np.stack(parts, axis=-1) if parts else np.zeros((len(times), 0))


def written(times: Times) -> list[str]:
    """Times as text, as short as all of them allow."""
    if times.dtype.kind == "f":
        return [f"{time:.12g}" for time in times]
    for unit in ("Y", "M", "D", "m", "s", "us"):
        if (times.astype(f"datetime64[{unit}]") == times).all():
            return [str(time) for time in times.astype(f"datetime64[{unit}]")]
    raise AssertionError


def _numbers(texts: Sequence[str]) -> Times | None:
    try:
        numbers = np.asarray([float(text) for text in texts])
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None


def _parsed(text: str, form: str | None) -> datetime | None:
    try:
        if form is not None:
            time = datetime.strptime(text, form)
        else:
            time = datetime.fromisoformat(f"{text}-01" if _MONTH.fullmatch(text) else text)
    except ValueError:
        return None
    return time if time.tzinfo is None else time.astimezone(UTC).replace(tzinfo=None)


def _months(times: Times) -> NDArray[np.int64]:
    return times.astype("datetime64[M]").astype(np.int64)


def _is_last_day(times: Any) -> Any:
    day = times.astype("datetime64[D]")
    return ((day + 1).astype("datetime64[M]") != day.astype("datetime64[M]")) & (day == times)


def _last_day(months: Any) -> Any:
    """From a month's first moment to its last day."""
    ends = (months + 1).astype("datetime64[D]") - np.timedelta64(1, "D")
    return ends.astype(_UNIT) - months.astype(_UNIT)


def _commonest(numbers: Any) -> Any:
    values, counts = np.unique(numbers, return_counts=True)
    return values[counts.argmax()]
