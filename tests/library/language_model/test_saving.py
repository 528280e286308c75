"""A training run and its checkpoint, where the checkpoint can't be written, another run wants it, or training fails."""

from __future__ import annotations

import errno
import os
import re
import shlex
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harness.small_run import SMALL_RUN, write_text
from recurray import files
from recurray.command_line import display, main, saving
from recurray.language_model import checkpoint
from recurray.language_model.errors import CheckpointError
from recurray.language_model.training import Progress, Training

pytestmark = pytest.mark.usefixtures("signals_arrive")
SMALL = ["--overwrite", *SMALL_RUN, "--epochs", "0.5"]
STEPS = 34


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where each test runs, with a short English text in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(saving.tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    write_text(tmp_path)
    return tmp_path


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch):
    """Return a function that has writing ``model.safetensors``, or all files, fail from the nth time on, or n times."""
    replace = files.Destination.replace
    count = 0

    def start(first: int, last: int = 10**9, everywhere: bool = False) -> None:
        def fail(self: files.Destination, data: bytes) -> None:
            nonlocal count
            count += 1
            if first <= count <= last and (everywhere or self.path.name == "model.safetensors"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            replace(self, data)

        monkeypatch.setattr(files.Destination, "replace", fail)

    return start


def names(folder: Path) -> list[str]:
    others = re.compile(r"text\.txt|tmp|.*\.(best|history)\b.*")
    return sorted(entry.name for entry in folder.iterdir() if not others.fullmatch(entry.name))


def step_of(path: str | Path) -> int:
    return checkpoint.load(path)[1]["step"]


def command_in(err: str) -> list[str]:
    return shlex.split(re.search(r"To go on:\n    recurray (.*)\n", err)[1])


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int, action=lambda: signal.raise_signal(signal.SIGTERM)) -> None:
    def update(_: display.Display, progress: Progress) -> None:
        if progress.step == step:
            action()

    monkeypatch.setattr(display.PlainDisplay, "update", update)
    monkeypatch.setattr(display.Display, "update", update)


# A checkpoint that can't be written


def test_a_failure_on_the_way_is_warned_of_and_tried_again(folder, capsys, failing):
    failing(2, 4)
    assert main(["train", "text.txt", *SMALL, "--checkpoint-every", "1e-9", "--quiet"]) == 0
    err = capsys.readouterr().err
    warning = (
        "recurray train: warning: can't write the checkpoint model.safetensors: No space left on device; the former "
        "checkpoint is untouched. Training goes on, and the next attempt comes after 1e-09 seconds\n"
    )
    assert err == warning * 3
    assert step_of("model.safetensors") == STEPS
    assert names(folder) == ["model.safetensors"]


def test_a_failure_at_the_end_loses_nothing(folder, capsys, failing):
    (folder / "model-1.safetensors").write_bytes(b"somebody else's")
    failing(1)
    assert main(["train", "text.txt", *SMALL]) == 1
    out, err = capsys.readouterr()
    assert re.fullmatch(
        r"recurray train: warning: can't write the checkpoint model\.safetensors: No space left on device\. "
        r"It is written to model-2\.safetensors instead\n",
        err,
    )
    assert (
        "The checkpoint is model-2.safetensors. To write text with it:\n    recurray sample model-2.safetensors" in out
    )
    assert step_of("model-2.safetensors") == STEPS
    assert names(folder) == ["model-1.safetensors", "model-2.safetensors"]


def test_a_failure_after_a_signal_loses_nothing(folder, capsys, failing, monkeypatch):
    failing(1)
    with monkeypatch.context() as patch:
        stop_at(patch, 11)
        assert main(["train", "text.txt", *SMALL]) == 130
    err = capsys.readouterr().err
    assert "It is written to model-1.safetensors instead" in err
    assert "stopped after step 11 of 34. The checkpoint of step 11 is model-1.safetensors. To go on:" in err
    assert command_in(err) == ["train", "text.txt", "--resume", "model-1.safetensors"]
    assert main(command_in(err)) == 0
    assert step_of("model-1.safetensors") == STEPS


def test_where_the_folder_is_full_it_goes_to_another(folder, capsys, monkeypatch):
    (folder / "full").mkdir()
    replace = files.Destination.replace

    def fail(self: files.Destination, data: bytes) -> None:
        if self.path.parent.name == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(self, data)

    monkeypatch.setattr(files.Destination, "replace", fail)
    assert main(["train", "text.txt", *SMALL, "--out", "full/x"]) == 1
    assert step_of("x-1") == STEPS
    assert f"It is written to {folder}/x-1 instead" in capsys.readouterr().err
    assert names(folder / "full") == []


def test_where_the_folder_is_gone_it_goes_to_another(folder, capsys, monkeypatch):
    (folder / "gone").mkdir()
    monkeypatch.chdir(folder / "gone")
    (folder / "text.txt").rename(folder / "gone" / "text.txt")

    def remove() -> None:
        for entry in (folder / "gone").iterdir():
            entry.unlink()
        (folder / "gone").rmdir()

    stop_at(monkeypatch, 11, remove)
    assert main(["train", "text.txt", *SMALL]) == 1
    assert step_of(folder / "tmp" / "model-1.safetensors") == STEPS
    assert f"It is written to {folder}/tmp/model-1.safetensors instead" in capsys.readouterr().err


@pytest.mark.parametrize("saved", [True, False])
def test_where_nothing_can_be_written_it_says_what_there_is(folder, capsys, failing, saved):
    failing(2 if saved else 1, everywhere=True)
    assert main(["train", "text.txt", *SMALL, "--checkpoint-every", "1e-9"]) == 1
    err = capsys.readouterr().err.splitlines(keepends=True)
    last = "".join(err[-2:] if saved else err[-1:])
    assert "No space left on device" in last
    assert "nor can it be written anywhere else. " in last
    if saved:
        assert "The checkpoint of step 1 is model.safetensors. To go on:" in last
        assert command_in(last) == ["train", "text.txt", "--checkpoint-every", "1e-09", "--resume", "model.safetensors"]
    else:
        assert last.endswith("No checkpoint was written\n")


def test_a_file_that_cannot_be_replaced_is_found_before_the_first_step(folder, capsys, monkeypatch):
    (folder / "model.safetensors").write_bytes(b"somebody else's")
    rename = Path.replace

    def refuse(self: Path, target: Path) -> None:
        if target.name == "model.safetensors":  # as in a folder like /tmp, or with chattr +i
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        rename(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    monkeypatch.setattr(Training, "run", lambda _: pytest.fail("training begins"))
    assert main(["train", "text.txt", *SMALL]) == 1
    message = (
        "can't write the checkpoint model.safetensors: Operation not permitted; the former checkpoint is untouched"
    )
    assert capsys.readouterr().err == f"recurray train: {message}\n"
    assert names(folder) == ["model.safetensors"]


def test_a_read_only_checkpoint_is_refused_before_the_first_step(folder, capsys):
    path = folder / "model.safetensors"
    path.write_bytes(b"precious")
    path.chmod(0o444)
    assert main(["train", "text.txt", *SMALL]) == 1
    assert "can't write the checkpoint model.safetensors: it is read-only\n" in capsys.readouterr().err
    assert path.read_bytes() == b"precious"


def test_a_private_checkpoint_stays_private(folder):
    assert main(["train", "text.txt", *SMALL]) == 0
    path = folder / "model.safetensors"
    path.chmod(0o600)
    assert main(["train", "text.txt", *SMALL]) == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


# The command that goes on


@pytest.mark.parametrize(
    "options", [[], ["--quiet"], ["--backend", "numpy", "--checkpoint-every", "7.5"], ["--out", "-odd name.x"]]
)
def test_the_command_goes_on_as_it_began(folder, capsys, monkeypatch, options):
    options = [f"--out={options[1]}"] if options[:1] == ["--out"] else options
    with monkeypatch.context() as patch:
        stop_at(patch, 11)
        assert main(["train", "text.txt", *SMALL, *options]) == 130
    words = command_in(capsys.readouterr().err)
    out = "./-odd name.x" if "odd" in "".join(options) else "model.safetensors"
    kept = [] if "odd" in "".join(options) else options
    assert sorted(words) == sorted(["train", "text.txt", *kept, "--resume", out])
    assert main(words) == 0
    assert step_of(out) == STEPS


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "interrupted. The checkpoint of step 10 is model.safetensors. To go on:\n"),
        (MemoryError(), 1, "out of memory. The checkpoint of step 10 is model.safetensors. To go on:\n"),
        (MemoryError("3 GiB"), 1, "out of memory: 3 GiB. The checkpoint of step 10 is model.safetensors. To go on:\n"),
    ],
)
def test_whatever_stops_a_run_says_how_to_go_on(folder, capsys, monkeypatch, error, code, message):
    def fail() -> None:
        raise error

    with monkeypatch.context() as patch:
        stop_at(patch, 11, fail)
        assert main(["train", "text.txt", *SMALL, "--checkpoint-every", "1e-9"]) == code
    err = capsys.readouterr().err
    assert message in err
    assert main(command_in(err)) == 0


def test_a_run_that_is_stopped_before_its_first_checkpoint_says_so(capsys, monkeypatch):
    def fail() -> None:
        raise KeyboardInterrupt

    stop_at(monkeypatch, 11, fail)
    assert main(["train", "text.txt", *SMALL]) == 130
    assert capsys.readouterr().err == "recurray train: interrupted. No checkpoint was written\n"


def test_a_resumed_run_that_is_stopped_names_the_one_that_it_began_with(capsys, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(patch, 11)
        assert main(["train", "text.txt", *SMALL]) == 130

    def fail() -> None:
        raise KeyboardInterrupt

    stop_at(monkeypatch, 20, fail)
    assert main(["train", "text.txt", "--resume", "model.safetensors"]) == 130
    assert "interrupted. The checkpoint of step 11 is model.safetensors. To go on:" in capsys.readouterr().err


# Params that aren't finite, and training that has diverged


@pytest.mark.parametrize(("step", "every", "epochs"), [(11, "1e-9", "0.5"), (STEPS, "1000", "0.5"), (50, "1000", "2")])
def test_params_that_are_not_finite_never_become_the_checkpoint(folder, capsys, monkeypatch, step, every, epochs):
    """Infinite biases saturate their gates: the loss and the gradients stay finite."""
    assert main(["train", "text.txt", *SMALL]) == 0
    before = (folder / "model.safetensors").read_bytes()
    run = Training.run

    def spoiled(self: Training):
        for progress in run(self):
            if progress.step == step:
                self.model.params["1.bias_ih_l0"] = self.model.params["1.bias_ih_l0"] * np.float32("inf")
            yield progress

    monkeypatch.setattr(Training, "run", spoiled)
    assert main(["train", "text.txt", *SMALL[:-1], epochs, "--checkpoint-every", every]) == 1
    err = capsys.readouterr().err
    seen = step if step != 50 else 100  # the next measurement's step
    saved = every == "1e-9"
    kept = "the one of step 10 is model.safetensors" if saved else "no checkpoint was written"
    assert err == (
        f"recurray train: the param 1.bias_ih_l0 isn't finite any more after {seen} steps; "
        f"a lower learning rate may help. As the training has diverged, {kept}\n"
    )
    if saved:
        assert step_of("model.safetensors") == 10
    else:
        assert (folder / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("rate", ["1e3", "1e6", "1e30"])
@pytest.mark.parametrize("epochs", ["3", "0.1"])
def test_a_run_that_diverges_stops_and_says_so(folder, capsys, rate, epochs):
    options = [*SMALL[:-1], epochs]
    assert main(["train", "text.txt", *options, "--lr", rate]) == 1
    err = capsys.readouterr().err
    assert re.search(r"(far )?worse than an even guess|became|isn't finite", err)
    assert re.search(r"after \d+ steps", err)
    assert "a lower learning rate may help" in err


@pytest.mark.parametrize(("more", "code"), [(0.5, 0), (1.5, 1)])
def test_a_model_that_is_worse_than_an_even_guess_is_no_success(folder, capsys, monkeypatch, more, code):
    monkeypatch.setattr(Training, "measure", lambda self, characters=None: self.even_guess + more)
    assert main(["train", "text.txt", *SMALL]) == code
    out, err = capsys.readouterr()
    assert "The checkpoint is model.safetensors" in out
    assert ("after 34 steps the model predicts worse than an even guess" in err) == bool(code)


def test_the_error_names_the_largest_param(capsys):
    assert main(["train", "text.txt", *SMALL, "--lr", "1e4"]) == 1
    err = capsys.readouterr().err
    assert re.search(r"\(the largest param is in \d\.\w+, \S+\) after 20 steps", err)
    assert "As the training has diverged, no checkpoint was written" in err


def test_a_checkpoint_with_params_that_are_not_finite_is_refused(folder, capsys):
    assert main(["train", "text.txt", *SMALL]) == 0
    tensors, metadata = checkpoint.load("model.safetensors")
    for name in ("model.3.bias", ":optimizer.first_moment.3.bias", ":state.1.c"):
        value = tensors[name].copy()
        value.flat[0] = np.nan
        checkpoint.save("spoiled", {**tensors, name: value}, metadata)
        capsys.readouterr()
        assert main(["train", "text.txt", "--resume", "spoiled"]) == 1
        assert re.search(rf"{name.removeprefix('model.')} isn't finite", capsys.readouterr().err)
        with pytest.raises(CheckpointError, match="isn't finite"):
            Training.resume("spoiled", (folder / "text.txt").read_text(encoding="utf-8"))
        assert main(["sample", "spoiled"]) == name.startswith("model.")


# Several runs


def test_two_runs_with_one_checkpoint_do_not_overwrite_each_other(folder):
    command = [sys.executable, "-m", "recurray.command_line", "train", "text.txt", *SMALL[:-1], "100000"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as first:
        try:
            assert first.stdout.readline().startswith("Text")
            second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            assert second.returncode == 1
            assert re.fullmatch(
                rf"recurray train: can't write the checkpoint model\.safetensors: process {first.pid} on \S+ is "
                r"writing it\n",
                second.stderr,
            )
        finally:
            first.kill()
    third = subprocess.run([*command[:-1], "0.1"], capture_output=True, text=True, timeout=60, check=False)
    assert (third.returncode, third.stderr) == (0, "")  # a killed one keeps nobody off
    assert names(folder) == ["model.safetensors"]


def test_what_a_killed_run_leaves_goes_with_the_next(folder):
    for name in (".model.safetensors.0123abcd.tmp", ".model.safetensors.4567cdef.tmp", ".model.safetensors.lock"):
        (folder / name).write_bytes(b"left")
    assert main(["train", "text.txt", *SMALL]) == 0
    assert names(folder) == ["model.safetensors"]
