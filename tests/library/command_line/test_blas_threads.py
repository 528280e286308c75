"""``recurray train --threads``: one by default, as many as asked for, or the fastest number."""

from __future__ import annotations

import pytest

from harness.needs import need
from harness.small_run import write_text
from recurray import blas, environment
from recurray.command_line import blas_threads, main, train
from recurray.language_model.settings import Settings
from recurray.language_model.text import default_text

TRAIN = ["train", "text.txt", "--hidden-size", "12", "--embedding-size", "6", "--batch-size", "4", "--epochs", "0.1"]


@pytest.fixture(autouse=True)
def seen(tmp_path, monkeypatch):
    """The numbers of threads that a training had, in a folder with a text and without variables that set them."""
    need("threadpoolctl")
    for name in environment._OF_BLAS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path)
    seen, run = [], train._train
    monkeypatch.setattr(train, "_train", lambda *given: (seen.append(blas.in_use().threads), run(*given))[1])
    with blas.limited(3):
        yield seen


def test_one_by_default_and_as_many_as_asked_for(seen, monkeypatch):
    assert main(TRAIN) == 0
    assert main([*TRAIN, "--overwrite", "--threads", "2"]) == 0
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")  # which NumPy has seen already
    assert main([*TRAIN, "--overwrite"]) == 0
    assert seen == [1, 2, 3]
    assert blas.in_use().threads == 3


def test_the_fastest_is_measured_and_said(seen, monkeypatch, capsys):
    monkeypatch.setattr(blas_threads.processors, "usable", lambda: 3)
    monkeypatch.setattr(blas_threads, "measure", lambda *given: {n: abs(n - 2.1) for n in given[-1]})
    assert main([*TRAIN, "--threads", "auto"]) == 0
    assert seen == [2]
    said = "Threads of NumPy's matrix products: 2. An update takes with 1 1100.0 ms, 2 100.0 ms, 3 900.0 ms"
    assert said in capsys.readouterr().out


def test_a_measurement_trains_with_each_number_in_turn(monkeypatch):
    had, run = [], blas_threads.Training.run

    def watched(self, **options):
        for progress in run(self, **options):
            had.append(blas.in_use().threads)
            yield progress

    monkeypatch.setattr(blas_threads.Training, "run", watched)
    monkeypatch.setattr(blas_threads, "_TURNS", 3)
    settings = Settings(hidden_size=8, embedding_size=4, batch_size=2, steps=5, lr=1e9)
    times = blas_threads.measure(default_text()[:500], settings, "numpy", [1, 2])
    assert had[1:] == [1, 1, 2, 2] * 3
    assert all(seconds > 0 for seconds in times.values())


def test_what_goes_on_repeats_the_number(monkeypatch, capsys):
    run = train._train

    def stopped(*given):
        run(*given)
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "_train", stopped)
    for options, repeated in ((["--threads", "2"], True), (["--threads", "1"], False), ([], False)):
        assert main([*TRAIN, "--overwrite", *options]) == 130
        assert ("--threads 2" in capsys.readouterr().err) == repeated
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "4")
    assert main([*TRAIN, "--overwrite", "--threads", "1"]) == 130
    assert "--threads 1" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", ["0", "-1", "1.5", "many", ""])
def test_anything_else_is_refused(wrong, capsys):
    assert main([*TRAIN, f"--threads={wrong}"]) == 2
    assert "argument --threads: expected auto or a whole number of at least 1" in capsys.readouterr().err


def test_without_threadpoolctl(seen, monkeypatch, capsys):
    monkeypatch.setattr(blas_threads, "find_spec", lambda name: None)
    assert main(TRAIN) == 0
    assert "Note: NumPy's matrix products have as many threads as they like" in capsys.readouterr().out
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    assert main([*TRAIN, "--overwrite"]) == 0
    assert "Note: NumPy" not in capsys.readouterr().out
    monkeypatch.setattr(blas_threads.options, "find_spec", lambda name: None)
    assert main([*TRAIN, "--overwrite", "--threads", "2"]) == 2
    assert "--threads needs threadpoolctl, which is missing" in capsys.readouterr().err
