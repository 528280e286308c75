"""Series of arrays, frames and CSV files: what is read, filled in, refused, and how it is told."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness.needs import need
from recurray.forecast import Series, times


def csv(tmp_path: Path, text: str | bytes, **options: Any) -> Series:
    path = tmp_path / "data.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return Series.from_csv(path, **{"target": "y", **options})


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("date,y\n2020-01-01,1.5\n2020-01-02,2\n2020-01-03,-3e1\n", {}),
        ("\ufeffdate;y\r\n2020-01-01;1,5\r\n\r\n2020-01-02;2\r\n2020-01-03;-30\r\n", {"decimal": ","}),
        ("20200101\t1.5\n20200102\t2\n20200103\t-30", {"names": ["when", "y"], "time": "when"}),
        ('"when"|"y"\n01.01.2020|1.5\n02.01.2020|2\n03.01.2020|-30', {"time": "when", "time_format": "%d.%m.%Y"}),
        ("y,x,t\n1.5,a,2020-01-01T00:00Z\n2,b,2020-01-02T00:00Z\n-30,c,2020-01-03T00:00Z", {"time": "t"}),
        ("date,y\n2020-01-03,-30\n2020-01-01,1.5\n2020-01-02,2\n", {"sort": True}),
        ("date,y\n2020-01-01,1\n2020-01-01,2\n2020-01-02,2\n2020-01-03,-30", {"duplicates": "mean"}),
        ("date,y\n2020-01-01,1.5\n2020-01-01,2\n2020-01-02,2\n2020-01-03,-30", {"duplicates": "first"}),
        ("date,y\n2020-01-01,1\n2020-01-01,1.5\n2020-01-02,2\n2020-01-03,-30", {"duplicates": "last"}),
    ],
)
def test_what_is_read(text: str, options: dict[str, Any], tmp_path: Path) -> None:
    found = csv(tmp_path, text, **options)
    assert found.columns["y"].tolist() == [1.5, 2, -30]
    assert found.times is not None
    assert times.written(found.times) == ["2020-01-01", "2020-01-02", "2020-01-03"]
    assert str(found.step) == "day"
    assert found.filled == 0


GAPS = "date,y,z\n2020-01-01,1,5\n2020-01-02,,6\n2020-01-03,3,NaN\n2020-01-05,7,9\n"


def test_gaps_are_filled_in_or_left_out(tmp_path: Path) -> None:
    filled = csv(tmp_path, GAPS, past=["z"], missing="interpolate")
    assert filled.columns["y"].tolist() == [1, 2, 3, 5, 7]
    np.testing.assert_allclose(filled.columns["z"], [5, 6, 7, 8, 9])
    assert filled.observed["y"].tolist() == [True, False, True, False, True]
    assert filled.observed["z"].tolist() == [True, True, False, False, True]
    assert filled.filled == 2
    assert filled.times is not None
    assert times.written(filled.times)[3] == "2020-01-04"
    dropped = csv(tmp_path, GAPS, past=["z"], missing="drop")
    assert dropped.columns["y"].tolist() == [1, 7]
    assert str(dropped.step) == "day"
    # At an end the nearest value.
    ends = Series.of([np.nan, 2.0, 3.0, np.nan], missing="interpolate")
    assert ends.columns["target"].tolist() == [2, 2, 3, 3]


def test_before_knows_nothing_of_what_comes_after() -> None:
    data = {"y": [1.0, 2, np.nan, np.nan, 8], "k": [1.0, 2, 3, 4, 5]}
    series = Series.of(data, target="y", known=["k"], missing="interpolate")
    assert series.columns["y"].tolist() == [1, 2, 4, 6, 8]
    assert series.before(4).columns["y"].tolist() == [1, 2, 2, 2]
    assert series.before(4).columns["k"].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "is empty"),
        ("\n \n", {}, "is empty"),
        ("date,y\n", {}, "has no rows"),
        ("1949-01,112\n1949-02,118\n", {}, r"line 1: there is no header, but '1949-01,112'.*names="),
        ("date,z\n2020-01-01,1\n", {}, r"no column 'y'; it has 'date', 'z'"),
        ("date,y\n2020-01-01,1\n2020-01-02,1,2\n", {}, r"line 3: it has 3 columns, and the names are 2: date, y"),
        ("date,y,y\n2020-01-01,1,2\n", {}, r"line 1: two columns have the name 'y'"),
        (
            "date,y\n2020-01-01,1\n\n2020-01-02,\n2020-01-03,\n",
            {},
            r"line 4: .*no value, and 1 more .*missing=.interpolate",
        ),
        ("date,y\n2020-01-01,1\n2020-01-02,much\n", {}, r"line 3: .*'y' has the text 'much'"),
        ("date;y\n2020-01-01;1\n2020-01-02;1,5\n", {}, r"line 3: .*'1,5'.*decimal="),
        ("date,y\n2020-01-01,1\n2020-01-02,inf\n", {}, r"line 3: .*infinite"),
        ("date,y\n2020-01-01,1_0\n", {}, r"line 2: .*'1_0'"),
        (
            "date,y\n2020-01-01,1\n2020-01-03,2\n2020-01-02,2\n",
            {},
            r"line 4: the time 2020-01-02 comes after 2020-01-03.*sort=True",
        ),
        (
            "date,y\n2020-01-01,1\n2020-01-02,2\n2020-01-02,2\n",
            {},
            r"line 4: the time 2020-01-02 .*second time.*duplicates=",
        ),
        (
            "date,y\n2020-01-01,1\n2020-01-02,2\n2020-01-03,2\n2020-01-05,2\n",
            {},
            r"line 5: rows are missing: 2020-01-03 is followed by 2020-01-05, and the step is day",
        ),
        (
            "date,y\n2020-01-01T00:00,1\n2020-01-01T01:00,2\n2020-01-01T02:00,2\n2020-01-01T02:30,2\n",
            {"missing": "interpolate"},
            r"line 5: the times aren't even",
        ),
        ("date,y\n01/02/2020,1\n02/02/2020,2\n", {}, r"line 2: has '01/02/2020' in the column 'date'.*time_format="),
        ("date,y\n2020-01-01,1\n,2\n", {}, r"line 3: has no time"),
        ("date,y\n2020-01-01,1\n2020-13-01,2\n", {}, r"line 3: has '2020-13-01'"),
        ("date,y\n2020-01-01,1\n2020-01-02,2\n", {"time_format": "%d"}, r"a time_format that fits, not '%d'"),
        ("date,y\n2020-01-01,?\n2020-01-02,NA\n", {"missing": "interpolate"}, r"no value in the column 'y'"),
        ("date,y\n2020-01-01,?\n2020-01-02,NA\n", {"missing": "drop"}, r"no row without a gap"),
        ("date,y\n1900-01-01,1\n1900-01-02,1\n2020-01-02,2\n", {"missing": "interpolate"}, r"are the times right"),
        ('date,y\n2020-01-01,"1\n', {}, r"line 2: .*end of data"),
        (b"date,y\n2020-01-01,1\n2020-01-02,\xe4\n", {}, r"line 3: this isn't UTF-8"),
        (b"date,y\n2020-01-01,\x00\n", {}, r"line 2: there is a NUL"),
        ("date,y\n2020-01-01,1\n", {"past": ["y"]}, r"named twice"),
        ("date,y\n2020-01-01,1\n", {"missing": "x"}, r"missing must be one of"),
    ],
)
def test_what_isnt_a_series(text: str | bytes, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message) as error:
        csv(tmp_path, text, **options)
    assert "data.csv" in str(error.value) or not text or "must be" in str(error.value) or "twice" in str(error.value)


def test_what_isnt_a_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        Series.from_csv(tmp_path / "nowhere", target="y")
    with pytest.raises(rr.FormatError):
        csv(tmp_path, "")


def test_a_column_of_text_that_isnt_used_does_no_harm(tmp_path: Path) -> None:
    assert len(csv(tmp_path, "date,y,z\n2020-01-01,1,a\n2020-01-02,2,\n")) == 2


def test_frames_and_mappings() -> None:
    pandas = need("pandas")
    index = pandas.date_range("2020-01-31", periods=4, freq="ME")
    frame = pandas.DataFrame({"y": [1.0, 2, None, 4], "name": list("abcd")}, index=index)
    found = Series.of(frame, target="y", missing="interpolate")
    assert found.columns["y"].tolist() == [1, 2, 3, 4]
    assert str(found.step) == "month"
    ahead = found.times_after(3)
    assert ahead is not None
    assert times.written(ahead) == ["2020-05-31", "2020-06-30", "2020-07-31"]
    with pytest.raises(ValueError, match="row 0 the column 'name' has the text 'a'"):
        Series.of(frame, target="name")
    even = Series.of({"y": [1, 2, 3]}, time=[0.5, 1.0, 1.5]).times_after(2)
    assert even is not None
    assert even.tolist() == [2.0, 2.5]
    assert Series.of({"date": ["2020-01-01", "2020-01-02"], "y": [1, 2]}, target="y", time=False).times is None
    wrong = (({}, "no columns"), ({"y": [1], "z": [1, 2]}, "one length"), (np.ones((2, 2)), "must be an array"))
    for data, message in wrong:
        with pytest.raises(ValueError, match=message):
            Series.of(data, target="y")
    with pytest.raises(TypeError, match="times must be an array or a sequence of them, not 5"):
        Series.of({"y": [1.0]}, target="y", time=5)
    with pytest.raises(TypeError, match="times must be an array or a sequence of them, not datetime"):
        Series.of({"y": [1.0]}, target="y", time=datetime(2020, 1, 1))
    with pytest.raises(TypeError, match="past must be a sequence"):
        Series.of({"y": [1.0], "z": [1.0]}, target="y", past="z")
    with pytest.raises(ValueError, match="target must say"):
        Series.of({"y": [1.0], "z": [1.0]})


@pytest.mark.parametrize(
    ("texts", "step", "season", "calendar", "ahead"),
    [
        (["2000", "2001", "2002"], "year", None, (), "2003"),
        (["200011", "200012", "200101"], "month", 12, ("year",), "2001-02"),
        (["2000-01-01", "2000-04-01", "2000-07-01"], "3 months", 4, ("year",), "2000-10-01"),
        (["20011208", "20011215", "20011222"], "week", 52, ("year",), "2001-12-29"),
        (["2000-02-27", "2000-02-28", "2000-02-29"], "day", 7, ("week", "year"), "2000-03-01"),
        (
            ["2000-01-01 22:00", "2000-01-01 23:00", "2000-01-02 00:00"],
            "hour",
            24,
            ("day", "week", "year"),
            "2000-01-02T01:00",
        ),
        (
            ["2000-01-01 22:00", "2000-01-01 22:15", "2000-01-01 22:30"],
            "15 minutes",
            None,
            ("day", "week", "year"),
            "2000-01-01T22:45",
        ),
        (["3", "4.5", "6"], "1.5", None, (), "7.5"),
        (["9999", "10001", "10003"], "2", None, (), "10005"),
    ],
)
def test_steps(texts: list[str], step: str, season: int | None, calendar: tuple[str, ...], ahead: str) -> None:
    found = times.parse(texts, str, "t")
    apart = times.step_of(found)
    assert str(apart) == step
    assert apart.season == season
    assert apart.calendar == calendar
    shown = times.written(np.append(found, apart.after(found[-1], 1)))[-1]
    assert shown in (ahead, ahead.removesuffix("-01"))
    np.testing.assert_allclose(apart.positions(found), [0, 1, 2])


def test_the_calendar() -> None:
    # Two Mondays and a Sunday.
    when = np.asarray(["2024-01-01T06:00", "2024-07-01T12:00", "2023-12-31T00:00"], dtype="datetime64[us]")
    found = times.calendar(when, ("day", "week", "year"))
    shares = np.asarray([[0.25, 0.25 / 7, 0.25 / 366], [0.5, 0.5 / 7, 182.5 / 366], [0, 6 / 7, 364 / 365]])
    np.testing.assert_allclose(found[:, 0::2], np.sin(2 * np.pi * shares), atol=1e-12)
    np.testing.assert_allclose(found[:, 1::2], np.cos(2 * np.pi * shares), atol=1e-12)
