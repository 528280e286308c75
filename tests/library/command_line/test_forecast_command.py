"""recurray forecast: a table, a forecast, files; what is wrong is told in one line, and nothing is half written."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

import recurray as rr
from harness.needs import need
from recurray.command_line import forecast as command
from recurray.command_line import main

QUICK = ["--epochs", "1", "--hidden-size", "4", "--quiet"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RECURRAY_BACKEND", raising=False)
    months = np.arange("2010-01", "2016-01", dtype="datetime64[M]")
    lines = [f"{month},{50 + 20 * np.sin(k * np.pi / 6) + k},{k % 3}" for k, month in enumerate(months)]
    Path("data.csv").write_text("\n".join(["month,sold,plan", *lines]))
    Path("future.csv").write_text("month,plan\n2016-01,0\n2016-02,1\n2016-03,2\n")
    return tmp_path


def test_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    need("matplotlib")
    files = ["--out", "out.csv", "--plot", "out.png", "--save", "model.safetensors"]
    words = ["forecast", "data.csv", "--target", "sold", "--horizon", "3", "--folds", "2", *QUICK]
    assert main([*words, *files]) == 0
    out = capsys.readouterr().out
    assert "Series(72 rows of 'sold', 2010-01 to 2015-12, step month)" in out
    for text in ("2 origins, 3 steps each", "from 2015-07 to 2015-10", "seasonal naive", "Ridge", "80 % interval"):
        assert text in out
    assert any(f"LSTM {verdict}" in out for verdict in ("loses to", "beats", "is as good as"))
    rows = list(csv.DictReader(Path("out.csv").read_text().splitlines()))
    assert [row["time"] for row in rows] == ["2016-01", "2016-02", "2016-03"]
    assert Path("out.png").read_bytes().startswith(b"\x89PNG")
    # Again, with the model alone: the same.
    assert main(["forecast", "data.csv", "--model", "model.safetensors", "--out", "again.csv"]) == 0
    assert Path("again.csv").read_bytes() == Path("out.csv").read_bytes()
    assert sorted(path.name for path in Path().iterdir()) == [
        "again.csv", "data.csv", "future.csv", "model.safetensors", "out.csv", "out.png",
    ]  # fmt: skip


def test_what_is_known_in_advance(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["forecast", "data.csv", "--target", "sold", "--horizon", "3", "--known", "plan", "--folds", "0", *QUICK]
    assert main([*words, "--future", "future.csv", "--save", "model"]) == 0
    first = capsys.readouterr().out
    assert "known: plan" in first
    assert main(["forecast", "data.csv", "--model", "model", "--future", "future.csv"]) == 0
    assert capsys.readouterr().out == first.replace("written: model\n", "")
    assert main(words) == 2
    assert "--future FILE is missing" in capsys.readouterr().err
    Path("future.csv").write_text("month,plan\n2016-02,1\n2016-03,2\n2016-04,2\n")
    assert main([*words, "--future", "future.csv"]) == 1
    assert "its first time must be 2016-01, the next one" in capsys.readouterr().err


def test_a_network_alone_with_quantiles_as_it_says_them() -> None:
    words = ["forecast", "data.csv", "--target", "sold", "--horizon", "3", "--folds", "0", *QUICK]
    assert main([*words, "--no-ridge", "--no-calibrate", "--save", "model"]) == 0
    found = rr.forecast.Forecaster.load("model")
    assert (found.ridge, found.calibrate) == (False, False)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--target", "sold"], 2, "--horizon is missing"),
        (["--horizon", "3"], 2, "--target is missing"),
        (["--target", "other", "--horizon", "3"], 1, "no column 'other'; it has 'month', 'sold', 'plan'"),
        (["--target", "month", "--horizon", "3"], 1, "line 2: the column 'month' has the text '2010-01'"),
        (["--target", "sold", "--horizon", "40"], 1, "72 rows, too few"),
        (["--target", "sold", "--horizon", "3", "--folds", "30"], 1, "give fewer folds"),
        (["--target", "sold", "--horizon", "0"], 1, "horizon must be at least 1"),
        (["--target", "sold", "--horizon", "3", "--out", "data.csv", "--force"], 2, "is read"),
        (["--target", "sold", "--horizon", "3", "--out", "there"], 2, "--force"),
        (["--target", "sold", "--horizon", "3", "--save", "nowhere/model"], 1, "No such file"),
        (["--target", "sold", "--horizon", "3", "--save", "a", "--out", "a"], 2, "differ"),
        (["--model", "there"], 1, "there"),
        (["--model", "there", "--no-ridge"], 2, "--model has what --no-ridge says"),
        (["--model", "there", "--target", "sold"], 2, "--model has what --target says"),
        (["--target", "sold", "--horizon", "3", "--lr", "1e38"], 1, "epoch 1"),
        (["--target", "sold", "--horizon", "3", "--no-time", "--time", "month"], 2, "both"),
    ],
)
def test_refused(words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("there").write_text("mine")
    assert main(["forecast", "data.csv", *words, *([] if "--model" in words else QUICK)]) == code
    assert message in capsys.readouterr().err
    assert Path("there").read_text() == "mine"
    assert sorted(path.name for path in Path().iterdir()) == ["data.csv", "future.csv", "there"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "month,sold\n2010-01,1\n2010-02,\n2010-03,3\n",
            "line 3: the column 'sold' has no value: give --missing interp",
        ),
        (
            "month,sold\n2010-02,1\n2010-01,2\n",
            "line 3: the time 2010-01 comes after 2010-02: sort the rows, or give --s",
        ),
        ("month,sold\n2010-01,1\n2010-01,2\n", "or give --duplicates mean (or"),
        ("2010-01,1\n2010-02,2\n", "or give --names"),
        ("month;sold\n2010-01;1,5\n", "give --decimal ,"),
        ("month,sold\n01/2010,1\n", 'give --time-format "%Y-%m-%d"'),
    ],
)
def test_ways_out_are_options(text: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("data.csv").write_text(text)
    assert main(["forecast", "data.csv", "--target", "sold", "--horizon", "3"]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("columns", [40, 80])
def test_a_terminal_of_few_columns(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_columns", lambda: columns)
    words = ["forecast", "data.csv", "--target", "sold", "--horizon", "3", "--folds", "2", *QUICK]
    assert main([*words, "--quantiles", "0.025", "0.1", "0.25", "0.75", "0.9", "0.975"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    quantiles = "q0.025 q0.1 q0.25 q0.75 q0.9 q0.975" if columns == 80 else "q0.025 q0.975"
    assert lines[-4].split() == ["time", "forecast", *quantiles.split()]
