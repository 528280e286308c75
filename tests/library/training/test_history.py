"""The table that training returns."""

from __future__ import annotations

import csv
import io

import pytest

import recurray as rr

ROWS = [{"epoch": 1, "loss": 0.5, "seconds": 0.25}, {"epoch": 2, "loss": 1e-17, "validation_loss": 0.1}]


def test_tables_come_back_from_their_files(tmp_path) -> None:
    history = rr.History(ROWS)
    history.to_jsonl(tmp_path / "h.jsonl")
    assert rr.History.from_jsonl(tmp_path / "h.jsonl").rows == ROWS
    text = history.to_csv(tmp_path / "h.csv")
    assert (tmp_path / "h.csv").read_text() == text
    read = list(csv.DictReader(io.StringIO(text)))
    assert [float(row["loss"]) for row in read] == [0.5, 1e-17]
    assert read[0]["validation_loss"] == ""


def test_columns_rows_and_what_there_is_not() -> None:
    history = rr.History(ROWS)
    assert history["validation_loss"] == [None, 0.1]
    assert history.columns == ["epoch", "loss", "seconds", "validation_loss"]
    assert [row["epoch"] for row in history] == [1, 2]
    with pytest.raises(KeyError, match="no column 'val'"):
        history["val"]


@pytest.mark.parametrize("line", ["[1]", "{", '{"a": "x"}', '{"a": true}'])
def test_files_that_are_no_history_are_refused(tmp_path, line: str) -> None:
    path = tmp_path / "h.jsonl"
    path.write_text('{"epoch": 1}\n' + line + "\n")
    with pytest.raises(rr.FormatError, match="line 2"):
        rr.History.from_jsonl(path)
