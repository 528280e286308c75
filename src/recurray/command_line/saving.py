"""Saving a training run: now and then on the way, where it may fail, and at the end, where it mustn't."""

from __future__ import annotations

import shlex
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from recurray.command_line.failure import Failure
from recurray.language_model import checkpoint
from recurray.language_model.errors import CheckpointError
from recurray.language_model.training import Training


class Saver:
    """Writes a run's checkpoints, and knows the command that goes on from the last one.

    Parameters
    ----------
    training : Training
        The run.
    path : str
        Where its checkpoint goes.
    writer : Writer
        What writes there, entered.
    every : float
        Seconds between checkpoints.
    command : list of str
        The words of the command that goes on, but for ``--resume`` and the path.
    warn : callable
        What shows a warning.

    Attributes
    ----------
    step : int or None
        After which step the last checkpoint that there is was written; None if there is none to go on from.
    """

    def __init__(
        self,
        training: Training,
        path: str,
        writer: checkpoint.Writer,
        every: float,
        command: list[str],
        warn: Callable[[str], None],
    ) -> None:
        self.path = path
        self.step: int | None = None
        self._training, self._writer, self._every, self._command = training, writer, every, command
        self._warn = warn
        self._tried = time.monotonic()

    def check(self) -> None:
        """Find out, before any work, whether the checkpoint can be written.

        Raises
        ------
        CheckpointError
            It can't.
        """
        self._writer.check(checkpoint.serialized(*self._training.contents()))

    def now_and_then(self) -> bool:
        """Save if it is time to, and tell whether it was; if that fails, warn, and leave it to the next time."""
        if time.monotonic() - self._tried < self._every:
            return False
        try:
            self._write()
        except CheckpointError as error:
            self._warn(f"{error}. Training goes on, and the next attempt comes after {self._every:g} seconds")
        self._tried = time.monotonic()
        return True

    def finally_(self) -> None:
        """Save; if that fails, warn, and write to another place, which is ``path`` from then on.

        Raises
        ------
        Failure
            No place could be written to.
        """
        try:
            self._write()
        except CheckpointError as error:
            data = checkpoint.serialized(*self._training.contents())
            for place in self._other_places():
                try:
                    checkpoint.write(place, data)
                except CheckpointError:
                    continue
                self._warn(f"{error}. It is written to {place} instead")
                self.path, self.step = str(place), self._training.step
                return
            raise Failure(f"{error}; nor can it be written anywhere else. {self.how_to_go_on()}") from error

    def how_to_go_on(self) -> str:
        """Say where the last checkpoint is, and what command goes on from it."""
        if self.step is None:
            return "No checkpoint was written"
        words = [*self._command, "--resume", at_start(self.path)]
        return f"The checkpoint of step {self.step:,} is {self.path}. To go on:\n    {shlex.join(words)}"

    def _write(self) -> None:
        self._writer.write(checkpoint.serialized(*self._training.contents()))
        self.step = self._training.step

    def _other_places(self) -> Iterator[Path]:
        """Files that aren't there yet: beside the one that can't be written, then where there may be space."""
        wanted = Path(self.path)
        folders: tuple[Callable[[], Path], ...] = (lambda: wanted.parent, Path.cwd, lambda: Path(tempfile.gettempdir()))
        for folder in folders:
            for number in range(1, 1000):
                with suppress(OSError):  # the folder is gone, or closed to this user
                    place = folder() / f"{wanted.stem[:100]}-{number}{wanted.suffix[:20]}"
                    if not place.exists():
                        yield place
                        break


def at_start(path: str) -> str:
    """Return a path that no program takes for an option."""
    return f"./{path}" if path.startswith("-") else path
