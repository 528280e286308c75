"""Kill training runs at random moments, and see that each leaves a whole checkpoint that the next goes on from.

python tests/reliability/kill_trainers.py --kills 360

Each run is a process of its own that saves after every step and is killed by SIGKILL. After each kill the checkpoint
must load and be of no earlier step than before. In the end it must hold, bit for bit, what a run that nobody killed
holds at that step, and beside it nothing may be left.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path

from recurray.command_line import main as recurray
from recurray.language_model import checkpoint
from recurray.language_model.settings import Settings
from recurray.language_model.text import default_text
from recurray.language_model.training import Training

OPTIONS = {"hidden_size": 64, "embedding_size": 16, "batch_size": 4, "steps": 8, "epochs": 1000.0}
BEGINNING = 0.5  # seconds in which a run reads, checks and takes its first step
SAVING = 0.1  # seconds of steps and saves


@dataclass
class Figures:
    """What was done and found. All but the first four must be 0."""

    kills: int = 0
    amid_a_save: int = 0  # that left an unfinished file
    before_the_first_checkpoint: int = 0
    last_step: int = 0
    lost_or_broken: int = 0  # checkpoints
    gone_back: int = 0  # to an earlier step
    ended_by_themselves: int = 0  # runs, with an error
    left_behind: int = 0  # files, after the run that follows
    other_bits: int = 0  # than a run that wasn't killed

    def good(self) -> bool:
        """Whether nothing is wrong."""
        wrong = (self.lost_or_broken, self.gone_back, self.ended_by_themselves, self.left_behind, self.other_bits)
        return not any(wrong)


def kill_trainers(kills: int, seed: int = 0) -> Figures:
    """Do it ``kills`` times."""
    figures, rng = Figures(), random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text, path = folder / "text.txt", folder / "model.safetensors"
        text.write_text(default_text()[:4000], encoding="utf-8")
        first = [option for name, value in OPTIONS.items() for option in (f"--{name.replace('_', '-')}", str(value))]
        with redirect_stdout(StringIO()):
            recurray(["train", str(text), *first, "--epochs", "0.1", "--quiet", "--out", str(folder / "imports")])
        (folder / "imports").unlink()  # children needn't import again what this one has
        while figures.kills < kills:
            resumed = path.exists()
            arguments = ["--resume", str(path)] if resumed else [*first, "--out", str(path)]
            words = ["train", str(text), *arguments, "--checkpoint-every", "1e-9", "--quiet"]
            if rng.random() < 0.3:
                status = _killed(words, path, rng.uniform(0, BEGINNING), saving=False)
            else:
                status = _killed(words, path, rng.uniform(0, SAVING), saving=True)
            if not os.WIFSIGNALED(status):
                figures.ended_by_themselves += 1
                if figures.ended_by_themselves > 10:
                    break
                continue
            figures.kills += 1
            figures.amid_a_save += any(entry.suffix == ".tmp" for entry in folder.iterdir())
            if not path.exists():
                figures.before_the_first_checkpoint += not resumed
                figures.lost_or_broken += resumed
                continue
            try:
                step = checkpoint.load(path)[1]["step"]
            except checkpoint.CheckpointError as error:
                sys.stderr.write(f"{error}\n")
                figures.lost_or_broken += 1
                path.unlink()
                continue
            figures.gone_back += step < figures.last_step
            figures.last_step = step
        beside = [path.with_name(f"model.{name}") for name in ("best.safetensors", "history.jsonl", "history.png")]
        for each in (path, *beside):  # who comes next takes away what killed ones left
            with checkpoint.Writer(each):
                pass
        if path.exists():
            figures.other_bits = int(path.read_bytes() != _uninterrupted(text, figures.last_step))
        known = {text.name, *(each.name for each in (path, *beside)), "imports.best", "imports.history.jsonl"}
        figures.left_behind = len({entry.name for entry in folder.iterdir()} - known - {"imports.history.png"})
    return figures


def _killed(words: list[str], path: Path, seconds: float, *, saving: bool) -> int:
    """Run the command in a child, kill it after so many seconds, of saving or at all, and return how it ended."""
    before = _changed(path)
    child = os.fork()
    if not child:
        code = 70
        try:
            code = recurray(words)
        finally:
            os._exit(code)
    end = time.monotonic() + seconds
    while time.monotonic() < end or (saving and _changed(path) == before):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        if saving and _changed(path) == before:
            end = time.monotonic() + seconds
        time.sleep(0.0005)
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def _changed(path: Path) -> tuple[int, int] | None:
    """What is another one after each save."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


def _uninterrupted(text: Path, step: int) -> bytes:
    """The checkpoint of a run that nobody killed."""
    training = Training(text.read_text(encoding="utf-8"), Settings(**OPTIONS))
    if step:
        for progress in training.run(measure_every=10**9):
            if progress.step == step:
                break
    return checkpoint.serialized(*training.contents())


if __name__ == "__main__":
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=360)
    parser.add_argument("--seed", type=int, default=0)
    found = kill_trainers(**vars(parser.parse_args()))
    print(json.dumps(asdict(found)))
    sys.exit(not found.good())
