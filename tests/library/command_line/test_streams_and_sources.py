"""What the commands read, and what they write to: pipes, devices, folders, closed and ASCII streams, terminals."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import recurray as rr
from harness.needs import needs
from harness.processes import read_terminal
from harness.small_run import SMALL_RUN, write_text
from recurray.benchmarks import record
from recurray.command_line import display, main
from recurray.command_line.output import printable
from recurray.language_model import checkpoint
from recurray.language_model.errors import CheckpointError, TextError
from recurray.language_model.model import build, shapes
from recurray.language_model.sampling import repeated
from recurray.language_model.settings import Settings
from recurray.language_model.text import Source, read_text
from recurray.language_model.training import Progress, Training

posix = needs("POSIX")
SMALL = ["--overwrite", *SMALL_RUN, "--epochs", "0.1"]
COMMAND = [sys.executable, "-m", "recurray.command_line"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where each test runs, with a short English text in it."""
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path)
    return tmp_path


def started(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, which has to end."""
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False, **options)


def through_shell(script: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of shell in which $recurray is the command."""
    program = f'recurray() {{ {sys.executable} -m recurray.command_line "$@"; }}\n{script}'
    return subprocess.run(
        ["bash", "-c", program], env=os.environ | environment, capture_output=True, timeout=60, check=False
    )


@pytest.fixture
def in_time() -> Iterator[None]:
    """Fail where something is waited for, or read, for ever."""

    def late(*_: object) -> None:
        raise AssertionError("it doesn't end")

    former = signal.signal(signal.SIGALRM, late)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, former)


# What is read


@posix
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sample", "pipe"], "can't read the checkpoint pipe: it is a pipe, not a file"),
        (["train", "text.txt", "--resume", "pipe"], "can't write the checkpoint pipe: it is a pipe, not a file"),
        (["train", "text.txt", "--resume", "pipe", "--out", "x"], "can't read the checkpoint pipe: it is a pipe"),
        (["train", "pipe"], "pipe is empty"),
        (["train", "/dev/zero"], "can't read /dev/zero: it is a device, not a file"),
        (["train", "/dev/null"], "can't read /dev/null: it is a device, not a file"),
        (["sample", "/dev/zero"], "can't read the checkpoint /dev/zero: it is a device, not a file"),
        (["sample", "."], "can't read the checkpoint .: Is a directory"),
    ],
)
def test_nothing_is_waited_for_or_read_for_ever(arguments, message, capsys, in_time):
    os.mkfifo("pipe")
    assert main(arguments) in (1, 2)
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


@posix
def test_a_report_is_not_waited_for_either(in_time):
    os.mkfifo("pipe")
    with pytest.raises(ValueError, match="pipe is not a report"):
        record.load(Path("pipe"))
    with pytest.raises(OSError, match="it is a device, not a file"):
        record.load(Path("/dev/zero"))


@posix
@pytest.mark.parametrize(
    ("arguments", "file", "message"),
    [
        (["-"], "/dev/zero", "can't read standard input: it is a device, not a file"),
        (["-"], "/dev/null", "can't read standard input: it is a device, not a file"),
        (["-"], None, "can't read standard input: it is a device, not a file"),
        (["-", "text.txt", "-"], "text.txt", "standard input can be read only once"),
        (["-"], "empty", "standard input is empty"),
    ],
)
def test_standard_input_that_is_no_text(arguments, file, message, capsys, monkeypatch, in_time):
    Path("empty").touch()
    with Path(file or "empty").open() as stream:
        monkeypatch.setattr(sys, "stdin", stream if file else None)
        assert main(["train", *arguments]) == 1
        assert message in capsys.readouterr().err


@posix
@pytest.mark.parametrize("text", ["- < text.txt", "<(cat text.txt)"])
def test_a_text_may_come_through_a_pipe(folder, text):
    assert main(["train", "text.txt", *SMALL, "--out", "expected"]) == 0
    result = through_shell(f"recurray train {text} {' '.join(SMALL)}")
    assert (result.returncode, result.stderr) == (0, b"")
    assert (folder / "model.safetensors").read_bytes() == (folder / "expected").read_bytes()


@pytest.fixture
def several(folder: Path) -> str:
    """Files and folders, and the text that they make up."""
    (folder / "a.txt").write_text("aaa", encoding="utf-8")
    (folder / "b.text").write_bytes(b"bb\r\n")
    (folder / "c" / "e").mkdir(parents=True)
    (folder / "c" / "2.txt").write_text("two\n", encoding="utf-8")
    (folder / "c" / "1.txt").write_text("\ufeffone", encoding="utf-8")
    (folder / "c" / "e" / "3.txt").write_text("three", encoding="utf-8")
    (folder / "c" / "not.md").write_text("four", encoding="utf-8")
    return "aaa\nbb\none\ntwo\nthree\naaa"


def test_several_files_and_folders_are_read_one_after_the_other(several):
    assert Source.of(["a.txt", "b.text", "c", "a.txt"]).read() == several


def test_a_model_is_trained_on_several(several, folder, capsys):
    (folder / "whole.txt").write_text(several * 40, encoding="utf-8")
    (folder / "c" / "1.txt").write_text(several * 20 + "\n", encoding="utf-8")
    for names in (["a.txt", "c"], ["c/1.txt", "c/2.txt"]):
        assert main(["train", *names, *SMALL, "--quiet"]) == 0
        capsys.readouterr()
        assert main(["train", *names, "--resume", "model.safetensors"]) == 0
        assert f"Text: {' '.join(names)}," in capsys.readouterr().out
    assert main(["train", "c", "--resume", "model.safetensors"]) == 1
    assert "is of another text" in capsys.readouterr().err


def test_none_of_several_texts_is_overwritten(several, folder, capsys):
    for out in ("b.text", "c/e/3.txt"):
        before = (folder / out).read_bytes()
        assert main(["train", "a.txt", "b.text", "c", "--out", out]) == 2
        assert f"{out} is the text itself" in capsys.readouterr().err
        assert (folder / out).read_bytes() == before


def test_a_text_that_is_too_large_is_refused_before_it_is_read(folder, monkeypatch):
    with (folder / "large.txt").open("wb") as file:
        file.truncate(2**30 + 1)  # a hole, which takes no space
    with pytest.raises(TextError, match=r"can't read large\.txt: it has more than 1,073,741,824 bytes"):
        read_text("large.txt")


# Checkpoints that ask for more memory than they have


@pytest.mark.parametrize(
    "settings", [Settings(), Settings(layers=3, hidden_size=5, embedding_size=7, dtype="float64", dropout=0.0)]
)
def test_the_shapes_are_those_of_the_model(settings):
    params = build(settings, 11, "numpy").params
    assert shapes(settings, 11) == {name: value.shape for name, value in params.items()}


@pytest.fixture
def small(folder: Path) -> tuple[dict, dict]:
    training = Training((folder / "text.txt").read_text(encoding="utf-8"), Settings(**TINY))
    next(training.run())
    training.save("small")
    return checkpoint.load("small")


TINY = {"hidden_size": 4, "embedding_size": 1, "batch_size": 2, "steps": 5, "epochs": 1}
WIDE = {
    "0.weight": lambda v, n: (v, 1),
    "1.weight_ih_l0": lambda v, n: (4 * n, 1),
    "1.bias_ih_l0": lambda v, n: (4 * n,),
    "1.bias_hh_l0": lambda v, n: (4 * n,),
    "3.bias": lambda v, n: (v,),
    "3.weight": lambda v, n: (v, n),
}


@pytest.mark.parametrize("size", [10_000, 30_000])
@pytest.mark.parametrize("what", ["missing", "small", "empty"])
def test_sizes_are_compared_before_a_model_is_made(small, size, what):
    """All but the recurrent weights, whose size grows with the square, are as the settings say."""
    tensors, metadata = small
    v = len(metadata["vocabulary"])
    wide = {f"model.{name}": np.zeros(shape(v, size), np.float32) for name, shape in WIDE.items()}
    weight = {
        "missing": {},
        "small": {"model.1.weight_hh_l0": np.zeros((16, 4), np.float32)},
        "empty": {"model.1.weight_hh_l0": np.zeros((4 * size, 0), np.float32)},
    }[what]
    settings = {**metadata["settings"], "hidden_size": size}
    others = {name: value for name, value in tensors.items() if not name.startswith("model.")}
    checkpoint.save("wide", {**others, **wide, **weight}, {**metadata, "settings": settings})
    code = """
import resource, sys
from pathlib import Path
from recurray.language_model.errors import CheckpointError
from recurray.language_model.model import load
from recurray.language_model.training import Training
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for attempt in (load, lambda path: Training.resume(path, Path("text.txt").read_text(encoding="utf-8"))):
    try:
        attempt("wide")
    except CheckpointError as error:
        print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *errors, megabytes = result.stdout.splitlines()
    assert len(errors) == 2
    for error in errors:
        assert "1.weight_hh_l0" in error
        assert ("it has other params than its settings say" in error) == (what == "missing")
    assert int(megabytes) < 20 + 4 * Path("wide").stat().st_size / 2**20


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 1e300},
        {"epochs": 10**400},
        {"lr": 10**400},
        {"batch_size": 2**20},
        {"steps": 2**20},
        {"layers": 100},
        {"dtype": "float64"},
        {"held_out": 1e-300},
    ],
)
def test_absurd_settings_are_refused(small, folder, change):
    tensors, metadata = small
    checkpoint.save("absurd", tensors, {**metadata, "settings": {**metadata["settings"], **change}})
    with pytest.raises(CheckpointError):
        Training.resume("absurd", (folder / "text.txt").read_text(encoding="utf-8"))


def test_a_long_header_is_refused_before_it_is_read(folder):
    length = 9 * 2**20
    (folder / "long").write_bytes(length.to_bytes(8, "little") + b"[" * length)
    with pytest.raises(CheckpointError, match="cut short"):
        checkpoint.load("long")


def test_what_would_make_a_header_too_long_is_not_written(folder):
    with pytest.raises(CheckpointError, match="too long"):
        checkpoint.save("x", {}, {"vocabulary": "ü" * 2**21})
    assert not (folder / "x").exists()


# Standard output


@pytest.fixture
def trained(folder: Path, capsys) -> Path:
    """A model that knows letters which ASCII lacks, and control characters."""
    text = "the ünïcödé ☃ of \x1b[31m and \x07, \x85 \u202e back. " * 60
    (folder / "odd.txt").write_text(text, encoding="utf-8")
    assert main(["train", "odd.txt", *SMALL, "--quiet"]) == 0
    capsys.readouterr()
    return folder / "model.safetensors"


@posix
@pytest.mark.parametrize(
    ("command", "closed"),
    [(command, "<&- >&- 2>&-") for command in ("info", "--version", "train --help")]
    + [(command, closed) for command in ("sample model.safetensors", "train") for closed in (">&-", "<&- >&- 2>&-")],
)
def test_closed_streams(trained, command, closed):
    if command == "train":
        command = f"train text.txt {' '.join(SMALL)} --out other"
    result = through_shell(f"recurray {command} {closed}")
    assert result.stderr == b""
    assert result.returncode == 0
    if "other" in command:
        assert checkpoint.load("other")


SLOW = pytest.mark.slow


@posix
@pytest.mark.parametrize("encoding", ["ascii", pytest.param("latin-1", marks=SLOW), pytest.param("utf-8", marks=SLOW)])
def test_any_encoding_of_standard_output(trained, encoding):
    options = ["--length", "300", "--temperature", "2", "--seed", "3", "--prompt", "☃"]
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    result = subprocess.run(
        [*COMMAND, "sample", trained, *options], env=environment, capture_output=True, timeout=60, check=True
    )
    text = result.stdout.decode(encoding)
    assert result.stderr == b""
    assert text.startswith("☃" if encoding == "utf-8" else "\\u2603")
    assert "\x1b" in text  # as it is, where it goes to a file
    Path("odd.txt").rename("öd☃.txt")
    for arguments in (["train", "öd☃.txt", *SMALL], ["train", "öd☃.txtt"]):
        result = subprocess.run([*COMMAND, *arguments], env=environment, capture_output=True, timeout=60, check=False)
        assert b"Traceback" not in result.stderr
        assert b"txt" in result.stdout + result.stderr


@needs("Linux")
def test_a_name_that_is_no_text(folder):
    name = os.fsdecode(b"b\xff.txt")
    (folder / "text.txt").rename(folder / name)
    result = started("train", name, *SMALL)
    assert result.returncode == 0
    assert "Text: b\\udcff.txt" in result.stdout


@contextmanager
def terminal(columns: int, *arguments: str, environment: dict[str, str] | None = None) -> Iterator[list[bytes]]:
    """Run the command in a terminal; its output, once it has ended."""
    import fcntl
    import struct
    import termios

    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    unset = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    with subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=unset | {"TERM": "xterm-256color"} | (environment or {}),
    ) as process:
        os.close(theirs)
        output = read_terminal(ours, seconds=60)
        assert process.wait(30) == 0
    yield [output]


@posix
def test_a_terminal_is_sent_no_control_characters_of_a_model(trained):
    options = ["--length", "600", "--temperature", "2", "--seed", "3", "--prompt", "\x1b"]
    with terminal(80, "sample", str(trained), *options) as (output,):
        text = output.decode()
    assert re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202e]", text) is None
    assert text.startswith("\\x1b")
    assert "\\x07" in text
    assert "\\x85" in text
    assert "\\u202e" in text


@posix
def test_a_terminal_is_sent_no_control_characters_of_a_name(folder):
    name = "te\x1b[31mxt.txt"
    (folder / "text.txt").rename(folder / name)
    with terminal(80, "train", name, *SMALL) as (output,):
        assert "te\\x1b[31mxt.txt" in output.decode()


def test_all_but_line_ends_and_tabs_is_escaped():
    for code in (*range(32), *range(127, 160)):
        assert (printable(chr(code)) == chr(code)) == (chr(code) in "\t\n")
    assert printable("naïve ☃ \U0001f600\n\t") == "naïve ☃ \U0001f600\n\t"


# The display where it is narrow


SHOWN = Progress(
    step=12_345,
    steps=120_000,
    epoch=1.5,
    training_bits=2.5,
    held_out_bits=2.25,
    measured=True,
    characters_per_second=1_234_567,
    seconds_left=86_399,
)


@pytest.mark.parametrize("columns", [24, 30, 40, 60, 80, 120])
def test_no_word_of_the_display_is_broken(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm-256color")
    live = display.LiveDisplay({3: 2.345, 5: 2.125})
    live._live.console._force_terminal = True
    with live:
        live.update(SHOWN)
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().out)
    lines = [line.rstrip() for line in plain.replace("\r", "\n").split("\n")]
    assert "…" not in plain
    assert max(map(len, lines)) <= columns
    text = " ".join(" ".join(lines).split())
    words = ("training", "2.500", "held out", "2.250", "3-gram", "2.345", "5-gram", "2.125", "1,234,567 characters/s")
    for words_together in (*words, "step 12,345 of 120,000", "23:59:59 left", "bits per character"):
        assert words_together in text


@posix
@pytest.mark.parametrize("columns", [30, pytest.param(40, marks=SLOW)])
def test_a_narrow_terminal(columns):
    with terminal(columns, "train", "text.txt", *SMALL[:-1], "4") as (output,):
        shown = output.decode()
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    panels = plain[: plain.index("Bits per character on all")]
    assert "…" not in panels
    assert "step 268 of 268" in panels
    assert max(len(line) for line in panels.replace("\r", "\n").split("\n")) <= columns


def test_a_terminal_that_becomes_narrower_is_drawn_anew(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(display, "_DRAW_EVERY", 0)
    live = display.LiveDisplay({})
    live._live.console._force_terminal = True
    with live:
        live.note("a note")
        live.update(SHOWN)
        assert "\x1b[2J" not in capsys.readouterr().out
        live._live.console.width = 40
        live.update(SHOWN)
        out = capsys.readouterr().out
        assert "\x1b[2J" in out
        assert "a note" in out
        live.update(SHOWN)
        assert "\x1b[2J" not in capsys.readouterr().out


# What is said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" " * 100, " "),
        ("The " + "the the " * 20, "the the "[:4]),
        ("abc" * 7, "abc"),
        ("x" * 19, None),
        ("abcdefghij" * 3, None),
        ("", None),
        ("now comes the end.", None),
        ("12345" * 3 + "x", None),
    ],
)
def test_repetition_is_found(text, expected):
    found = repeated(text)
    if expected is None:
        assert found is None
    else:
        assert text.endswith(found * 4)
        assert len(found) == len(expected)


def test_a_text_at_temperature_0_that_goes_in_circles_is_explained(trained, capsys):
    options = ["--length", "400", "--seed", "1"]
    assert main(["sample", str(trained), *options, "--temperature", "0"]) == 0
    out, err = capsys.readouterr()
    assert len(out) == 401
    assert repeated(out[:-1]) is not None
    assert "again and again: at temperature 0 the likeliest character is always taken" in err
    assert "try --temperature 0.5" in err
    assert main(["sample", str(trained), *options, "--temperature", "1"]) == 0
    assert capsys.readouterr().err == ""


def test_nothing_tells_to_install_recurray_from_an_index():
    """It isn't on any; and an extra of it would not be found."""
    root = Path(rr.__file__).parents[2]
    places = [*root.glob("src/**/*.py"), *root.glob("backends/**/*.py"), *root.glob("docs/*.md"), root / "README.md"]
    assert len(places) > 100
    for place in places:
        assert not re.search(r"pip install [\"']?recurray", place.read_text(encoding="utf-8")), place


def test_a_warning_is_a_line_of_its_own(monkeypatch):
    environment = os.environ | {"RECURRAY_NUM_THREAD": "2", "PYTHONWARNINGS": "default"}
    result = started("info", env=environment)
    assert result.returncode == 0
    assert re.fullmatch(r"recurray info: warning: RECURRAY_NUM_THREAD='2': expected .*\n", result.stderr)
