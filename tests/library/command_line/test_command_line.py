"""The command line: what it prints, its exit codes, and being interrupted."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

import recurray
from harness.needs import need, needs
from harness.processes import read_terminal
from harness.small_run import SMALL_RUN, write_text
from recurray import blas, command_line, signals
from recurray.command_line import display, main
from recurray.language_model import checkpoint
from recurray.language_model.ngram import WittenBell
from recurray.language_model.text import Corpus
from recurray.language_model.training import Progress, Training
from recurray.signals import StopRequest

pytestmark = pytest.mark.usefixtures("signals_arrive")
posix = needs("POSIX")

SMALL = ["--overwrite", *SMALL_RUN]
COMMAND = [sys.executable, "-m", "recurray.command_line"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where each test runs, with a short English text in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RECURRAY_BACKEND", raising=False)
    write_text(tmp_path)
    return tmp_path


def files(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if not re.search(r"\.(best|history)\b", entry.name))


# The whole way


def test_train_and_sample(folder, capsys):
    assert main(["train", "text.txt", *SMALL, "--epochs", "2"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "Text: text.txt, 2,700 characters to train on, 300 held out" in out
    figures = dict(re.findall(r"^    (this|3-gram|5-gram) model +(\d\.\d{3})$", out, flags=re.M))
    assert set(figures) == {"this", "3-gram", "5-gram"}
    assert 2 < float(figures["this"]) < 7
    corpus = Corpus.of((folder / "text.txt").read_text(encoding="utf-8"))
    for order in (3, 5):
        ngram = WittenBell(corpus.training, len(corpus.vocabulary), order)
        assert figures[f"{order}-gram"] == f"{ngram.bits(corpus.held_out, before=corpus.training):.3f}"
    assert f"3-gram model {figures['3-gram']}, 5-gram model {figures['5-gram']}" in out
    assert re.search(r"step 134 of 134  epoch 2\.00  bits per character: training \d", out)
    assert "\x1b" not in out
    assert "\r" not in out
    assert files(folder) == ["model.safetensors", "text.txt"]

    texts = []
    for seed in ("1", "1", "2"):
        assert main(["sample", "model.safetensors", "--prompt", "The ", "--length", "50", "--seed", seed]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]
    assert texts[0].startswith("The ")
    assert len(texts[0]) == 4 + 50 + 1


def test_quiet_shows_only_the_result(capsys):
    assert main(["train", "text.txt", *SMALL, "--epochs", "0.1", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Bits per character on all 300 held-out characters:")
    assert "step" not in out


def test_an_interrupted_and_resumed_run_writes_the_same_checkpoint(folder, capsys, monkeypatch):
    settings = [*SMALL, "--epochs", "2", "--dropout", "0.3"]
    assert main(["train", "text.txt", *settings, "--out", "whole"]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(display.PlainDisplay, "update", lambda _, progress: interrupt_at(progress, 31))
        assert main(["train", "text.txt", *settings, "--out", "part"]) == 130
    command = re.search(r"stopped after step 31 of 134.*\n +recurray (.*)\n", capsys.readouterr().err)[1]
    assert command == "train text.txt --resume part"
    assert main(command.split()) == 0
    assert "resumed after step 31" in capsys.readouterr().out
    assert (folder / "part").read_bytes() == (folder / "whole").read_bytes()

    assert main(command.split()) == 0  # once more, with nothing left to do
    assert (folder / "part").read_bytes() == (folder / "whole").read_bytes()


def interrupt_at(progress: Progress, step: int) -> None:
    if progress.step == step:
        signal.raise_signal(signal.SIGINT)


def test_resuming_into_another_file_keeps_the_old_one(folder, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(display.PlainDisplay, "update", lambda _, progress: interrupt_at(progress, 3))
        assert main(["train", "text.txt", *SMALL, "--epochs", "1"]) == 130
    before = (folder / "model.safetensors").read_bytes()
    assert main(["train", "text.txt", "--resume", "model.safetensors", "--out", "b", "--backend", "numpy"]) == 0
    assert (folder / "model.safetensors").read_bytes() == before


def test_checkpoints_are_written_on_the_way(folder, monkeypatch):
    saved = []
    write = checkpoint.Writer.write

    def spied(self: checkpoint.Writer, data: bytes) -> None:
        write(self, data)
        if self.path == "model.safetensors":  # not the best model, which lies beside it
            saved.append(checkpoint.load("model.safetensors")[1]["step"])

    monkeypatch.setattr(checkpoint.Writer, "write", spied)
    assert main(["train", "text.txt", *SMALL, "--epochs", "0.2", "--checkpoint-every", "1e-9"]) == 0
    assert saved == [*range(1, 14), 13]


def test_what_lies_beside_a_checkpoint(folder):
    settings = [*SMALL, "--epochs", "12"]
    assert main(["train", "text.txt", *settings]) == 0
    history = recurray.History.from_jsonl("model.history.jsonl")
    assert history["step"][-1] == Training.resume("model.safetensors", (folder / "text.txt").read_text()).steps
    best = Training.resume("model.best.safetensors", (folder / "text.txt").read_text())
    assert best.step == history["step"][history["validation_bits"].index(min(history["validation_bits"]))]
    before = (folder / "model.history.jsonl").read_bytes()
    assert main(["train", "text.txt", "--resume", "model.safetensors"]) == 0  # nothing is left to do
    assert (folder / "model.history.jsonl").read_bytes() == before


def test_files_are_replaced_only_where_that_is_said(folder, capsys):
    (folder / "model.safetensors").write_text("precious")
    assert main(["train", "text.txt", *SMALL[1:], "--epochs", "0.1"]) == 2
    assert "--resume goes on from it, --overwrite replaces it" in capsys.readouterr().err
    assert (folder / "model.safetensors").read_text() == "precious"
    assert main(["train", "text.txt", *SMALL, "--epochs", "0.1"]) == 0
    assert "model.safetensors exists, and is replaced" in capsys.readouterr().out


@pytest.mark.slow
def test_the_default_run_beats_the_3_gram_within_its_first_epochs(capsys):
    """A run of two epochs, less than a minute on two idle cores."""
    assert main(["train", "--epochs", "2"]) == 0
    figures = dict(re.findall(r"^    (this|3-gram) model +(\d\.\d{3})$", capsys.readouterr().out, flags=re.M))
    assert float(figures["this"]) < float(figures["3-gram"]) - 0.1


# What users get wrong


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: COMMAND"),
        (["tarin"], "invalid choice: 'tarin'"),
        (["train", "--no-such-option"], "unrecognized arguments"),
        (["train", "--hidden-size", "-3"], "--hidden-size: expected a whole number of at least 1 and of at most"),
        (
            ["train", "--hidden-size", "many"],
            "expected a whole number of at least 1 and of at most 1,048,576, got many",
        ),
        (["train", "--steps", "0"], "--steps: expected a whole number"),
        (["train", "--batch-size", "1.5"], "--batch-size: expected a whole number"),
        (["train", "--epochs", "nan"], "--epochs: expected a number above 0 and of at most 1,000,000, got nan"),
        (["train", "--lr", "0"], "--lr: expected a number above 0"),
        (["train", "--dropout", "1"], "--dropout: expected a number of at least 0 and below 1"),
        (["train", "--dtype", "float16"], "--dtype: invalid choice"),
        (["train", "--backend", "abacus"], "--backend: invalid choice"),
        (["train", "--checkpoint-every", "0"], "--checkpoint-every: expected a number above 0"),
        (["train", "--resume", "x", "--lr", "1", "--hidden-size", "3"], "leave out --hidden-size, --lr"),
        (["train", "no such text", "--resume", ""], "argument --resume: expected a path, got an empty text"),
        (["train", "no such text", "--out", ""], "argument --out: expected a path, got an empty text"),
        (["train", ""], "argument TEXT: expected a path, got an empty text"),
        (["sample", ""], "argument CHECKPOINT: expected a path, got an empty text"),
        (["sample"], "required: CHECKPOINT"),
        (["sample", "x", "--length", "-1"], "--length: expected a whole number of at least 0"),
        (["sample", "x", "--temperature", "-1"], "--temperature: expected a number of at least 0"),
    ],
)
def test_wrong_usage_is_explained(arguments, message, capsys):
    assert main(arguments) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def write(name: str, content: bytes) -> None:
    Path(name).write_bytes(content)


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (b"", ["bad.txt"], "bad.txt is empty"),
        (b"abc", ["bad.txt"], "the text has 3 characters: too short"),
        (b"abc" * 500, ["bad.txt"], "the text to train on has 1350 characters, one chunk needs 2048"),
        (b"\xff\xfe", ["bad.txt"], "bad.txt isn't UTF-8 text"),
        (b"", ["missing.txt"], "can't read missing.txt: No such file or directory"),
        (b"", ["empty"], "the folder empty has no .txt files, in it or below"),
        (b"", ["text.txt", "--resume", "missing"], "can't read the checkpoint missing: No such file or directory"),
        (b"abc", ["text.txt", "--resume", "bad.txt"], "bad.txt isn't a checkpoint"),
        (b"", ["text.txt", *SMALL, "--out", "missing/x"], "missing/x: No such file or directory"),
        (b"", ["text.txt", *SMALL, "--out", "."], "Is a directory"),
        (b"", ["text.txt", *SMALL[5:], "--embedding-size", "1", "--hidden-size", "1048576"], "out of memory"),
    ],
)
def test_files_that_cannot_be_used_are_explained(content, arguments, message, capsys, folder):
    write("bad.txt", content)
    (folder / "empty").mkdir()
    before = files(folder)
    assert main(["train", *arguments]) == 1
    out, err = capsys.readouterr()
    assert err.startswith("recurray train: ")
    assert message in err
    assert out == ""
    assert files(folder) == before


def test_the_text_itself_is_not_overwritten(capsys, folder):
    before = (folder / "text.txt").read_bytes()
    assert main(["train", "text.txt", *SMALL, "--out", str(folder / "text.txt")]) == 2
    assert "is the text itself" in capsys.readouterr().err
    assert (folder / "text.txt").read_bytes() == before


def test_a_text_that_is_not_there_is_named(capsys, folder):
    (folder / "model.safetensors").write_bytes(b"of an earlier run")
    assert main(["train", "nowhere.txt", "--out", "model.safetensors"]) == 1
    assert capsys.readouterr().err == "recurray train: can't read nowhere.txt: No such file or directory\n"


def test_resuming_with_another_text_is_refused(capsys):
    assert main(["train", "text.txt", *SMALL, "--epochs", "0.1", "--out", "a"]) == 0
    capsys.readouterr()
    assert main(["train", "--resume", "a"]) == 1
    assert "a is of another text" in capsys.readouterr().err


def test_a_learning_rate_that_explodes_is_explained(capsys, folder):
    assert main(["train", "text.txt", *SMALL, "--lr", "1e38", "--epochs", "3"]) == 1
    err = capsys.readouterr().err
    what = r"the (loss|gradients' norm) became \S+( \(first seen in the param .*\))?, in epoch 1, batch \d+"
    assert re.match(rf"recurray train: {what}, after \d+ updates; a lower learning rate .* no checkpoint was", err)
    assert err.count("\n") == 1
    assert files(folder) == ["text.txt"]


def test_sampling_explains_what_it_cannot_use(capsys, folder):
    assert main(["train", "text.txt", *SMALL, "--epochs", "0.1"]) == 0
    capsys.readouterr()
    assert main(["sample", "model.safetensors", "--prompt", "naïve ☃"]) == 2
    assert "--prompt: not in the model's vocabulary: 'ï' (U+00EF), '☃' (U+2603)" in capsys.readouterr().err
    for name, message in (("missing", "No such file"), ("text.txt", "isn't a checkpoint"), (".", "Is a directory")):
        assert main(["sample", name]) == 1
        assert message in capsys.readouterr().err
    assert main(["sample", "model.safetensors", "--length", "0"]) == 0
    assert capsys.readouterr().out == "\n"


@pytest.mark.parametrize("package", ["safetensors", "rich"])
def test_training_needs_no_other_package(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["train", "text.txt", *SMALL, "--epochs", "0.1"]) == 0
    assert main(["sample", "model.safetensors", "--length", "1"]) == 0


def test_a_backend_that_cannot_run_says_what_is_missing(monkeypatch, capsys):
    def unavailable(name: str | None) -> None:
        raise recurray.BackendUnavailableError("the backend 'cupy' needs CuPy: pip install ...")

    monkeypatch.setattr(recurray, "get_backend", unavailable)
    assert main(["train", "text.txt", "--backend", "cupy"]) == 2
    assert capsys.readouterr().err == "recurray train: the backend 'cupy' needs CuPy: pip install ...\n"


def test_a_wrong_environment_variable_is_explained(monkeypatch, capsys):
    monkeypatch.setenv("RECURRAY_BACKEND", "abacus")
    assert main(["train", "text.txt"]) == 2
    assert "RECURRAY_BACKEND: there is no backend 'abacus'" in capsys.readouterr().err


@pytest.mark.parametrize("when", ["soon", "at the end"])
def test_a_full_disk_leaves_the_former_checkpoint(folder, when):
    """The limit on the size of files stands for the full disk: writing fails half way."""
    need("POSIX")
    assert main(["train", "text.txt", *SMALL, "--epochs", "0.1"]) == 0
    before = (folder / "model.safetensors").read_bytes()
    code = """
import resource, sys
from recurray.command_line import main
resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
sys.exit(main())
"""
    every = "1e-9" if when == "soon" else "1000"
    result = subprocess.run(
        [sys.executable, "-c", code, "train", "text.txt", *SMALL, "--epochs", "0.1", "--checkpoint-every", every],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert re.fullmatch(
        r"recurray train: can't write the checkpoint .*model\.safetensors: "
        r"File too large; the former checkpoint is untouched\n",
        result.stderr,
    )
    assert (folder / "model.safetensors").read_bytes() == before
    assert files(folder) == ["model.safetensors", "text.txt"]


# Being interrupted


@contextlib.contextmanager
def started(*arguments: str, **kwargs: object) -> Iterator[subprocess.Popen[str]]:
    """Start the command."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | kwargs
    process = subprocess.Popen([*COMMAND, *arguments], **pipes)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_leaves_a_checkpoint_to_go_on_from(folder, name, capsys):
    with started("train", "text.txt", *SMALL, "--epochs", "100000") as process:
        for line in process.stdout:
            if line.startswith("step"):
                break
        process.send_signal(getattr(signal, name))
        _, err = process.communicate(timeout=30)
        assert process.returncode == 130
    step = int(re.match(r"recurray train: stopped after step ([\d,]+) of", err)[1].replace(",", ""))
    assert "recurray train text.txt --resume model.safetensors" in err
    _, metadata = checkpoint.load("model.safetensors")
    assert metadata["step"] == step
    assert files(folder) == ["model.safetensors", "text.txt"]


def test_an_interruption_of_the_last_measurement_loses_nothing(folder, capsys, monkeypatch):
    assert main(["train", "text.txt", *SMALL, "--epochs", "1", "--out", "whole"]) == 0

    def measure(self: Training, characters: int | None = None) -> float:
        if characters is None:
            raise KeyboardInterrupt
        return 1.0

    monkeypatch.setattr(Training, "measure", measure)
    assert main(["train", "text.txt", *SMALL, "--epochs", "1", "--out", "interrupted"]) == 130
    assert (folder / "interrupted").read_bytes() == (folder / "whole").read_bytes()


def test_a_signal_does_not_interrupt_the_last_checkpoint(folder, monkeypatch):
    write = checkpoint.Writer.write

    def write_with_a_signal(self: checkpoint.Writer, data: bytes) -> None:
        if self.path == "model.safetensors":  # not the best model, which is written after it
            signal.raise_signal(signal.SIGINT)
        write(self, data)

    monkeypatch.setattr(checkpoint.Writer, "write", write_with_a_signal)
    assert main(["train", "text.txt", *SMALL, "--epochs", "1"]) == 0
    assert checkpoint.load("model.safetensors")[1]["step"] == 67


def test_output_that_fails_on_the_way_leaves_a_checkpoint_of_that_step(folder, capsys, monkeypatch):
    def update(self: display.Display, progress: Progress) -> None:
        if progress.step == 31:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(display.PlainDisplay, "update", update)
    monkeypatch.setattr(command_line, "_drop_output", lambda: None)  # pytest still wants its own
    assert main(["train", "text.txt", *SMALL, "--epochs", "1"]) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert checkpoint.load("model.safetensors")[1]["step"] == 31


@posix
def test_an_early_interruption_says_so(folder):
    with started("train", *SMALL) as process:
        process.stdout.readline()  # the header is being printed
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err


def test_a_second_signal_does_not_wait():
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.received
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_signals_are_handled_as_before_afterwards():
    before = signal.getsignal(signal.SIGINT)
    with StopRequest():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before


def test_what_a_program_around_python_does_about_signals_stays(monkeypatch):
    """Of a handler that isn't Python's `signal.getsignal` says None, and nothing can put it back."""

    def set_handler(number, handler):
        raise TypeError("signal handler must be signal.SIG_IGN, signal.SIG_DFL, or a callable object")

    with monkeypatch.context() as patch:
        for module in (signal, signals._signal):
            patch.setattr(module, "getsignal", lambda number: None)
            patch.setattr(module, "signal", set_handler)
        with StopRequest() as stop, signals.held_back():
            assert not stop.received


@posix
def test_a_closed_pipe_ends_sampling_quietly(folder):
    assert main(["train", "text.txt", *SMALL, "--epochs", "0.1"]) == 0
    with started("sample", "model.safetensors", "--length", "1000000") as process:
        assert len(process.stdout.read(10)) == 10
        process.stdout.close()
        assert process.wait(timeout=30) == 1
        assert process.stderr.read() == ""


@needs("/dev/full")
def test_output_that_cannot_be_written_is_explained():
    with open("/dev/full", "w") as full, started("info", stdout=full) as process:  # noqa: PTH123
        assert process.wait(timeout=30) == 1
        assert process.stderr.read() == "recurray info: [Errno 28] No space left on device\n"


@posix
def test_a_closed_pipe_leaves_a_training_run_its_checkpoint(folder):
    with started("train", "text.txt", *SMALL, "--epochs", "100000") as process:
        for line in process.stdout:
            if line.startswith("step"):
                break
        process.stdout.close()
        assert process.wait(timeout=30) == 130
        assert "To go on:" in process.stderr.read()
    assert checkpoint.load("model.safetensors")[1]["step"] > 100


# The live display


@posix
def test_a_terminal_shows_a_live_panel(folder):
    ours, theirs = os.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
    arguments = ["train", "text.txt", *SMALL, "--epochs", "4"]
    with started(*arguments, stdout=theirs, stderr=theirs, text=False, env=environment) as process:
        os.close(theirs)
        output = read_terminal(ours, seconds=30)
        assert process.wait(timeout=30) == 0
    shown = output.decode()
    assert "\x1b[" in shown
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    for expected in ("bits per character", "training", "held out", "3-gram", "5-gram", "characters/s", "left", "━"):
        assert expected in plain
    assert "step 268 of 268" in plain
    assert max(len(line) for line in plain.replace("\r", "\n").split("\n")) <= 100


def test_durations_are_readable():
    assert [display.duration(seconds) for seconds in (0, 59.6, 3599, 3600)] == ["0:00", "1:00", "59:59", "1:00:00"]


# info


def test_info_lists_what_is_here_and_what_is_missing(capsys, monkeypatch):
    version = metadata.version

    def without_torch(name: str) -> str:
        if name == "torch":
            raise metadata.PackageNotFoundError
        return version(name)

    monkeypatch.setattr(metadata, "version", without_torch)
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert re.search(rf"^recurray +{re.escape(recurray.__version__)}$", out, flags=re.M)
    assert re.search(r"^Python +\d", out, flags=re.M)
    assert re.search(r"^NumPy +\d.*BLAS", out, flags=re.M)
    assert re.search(r"^  numpy +works, on cpu$", out, flags=re.M)
    assert re.search(r"^  cupy +(works|no: )", out, flags=re.M)
    assert re.search(r"^  rich +\d", out, flags=re.M)
    assert re.search(r'^  torch +missing: in a checkout of recurray, pip install "\.\[bench\]"', out, flags=re.M)


@pytest.mark.parametrize(
    ("kernels", "advice", "shown"),
    [("Haswell", "take others", "BLAS OpenBLAS 1.2 with Haswell kernels, 2 threads"), (None, None, "kernels unknown")],
)
def test_info_names_the_kernels_and_advises(capsys, monkeypatch, kernels, advice, shown):
    monkeypatch.setattr(blas, "in_use", lambda: blas.Blas("OpenBLAS", "1.2", kernels, 2))
    monkeypatch.setattr(blas, "advice", lambda: advice)
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert shown in out
    assert ("Advice\n  BLAS          take others\n" in out) == (advice is not None)


@pytest.mark.parametrize("columns", [80, 40])
def test_info_tells_what_a_gpu_would_run_in_lines_that_fit(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["info"]) == 0
    told = re.search(r"\n(CuPy's strategies on .*?)\n\nOptional packages", capsys.readouterr().out, flags=re.S)[1]
    assert max(map(len, told.splitlines())) <= columns
    lines = re.sub(r"\s+", " ", told)
    assert "estimated" in lines
    assert re.search(r"H 512, B 16 float32: (step|fused) \d+\.\d, auto \w+ \d+\.\d; bfloat16: ", lines)
    if "cupy" not in recurray.available_backends():
        assert lines.index("on an H200") < lines.index("on an A100")


# Around it


def test_help_and_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"recurray {recurray.__version__}\n"
    assert main(["--help"]) == 0
    assert "train a character language model on a text" in capsys.readouterr().out
    for command in ("train", "sample", "info"):
        assert main([command, "--help"]) == 0
        assert f"usage: recurray {command}" in capsys.readouterr().out


def test_nothing_optional_is_imported_unasked():
    code = """
import sys
from recurray.command_line import main
main(["--help"]); main(["info"])
print(sorted({"safetensors", "rich", "torch", "recurray.benchmarks.command"} & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_it_runs_as_a_module():
    result = subprocess.run([*COMMAND, "--version"], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("recurray ")
