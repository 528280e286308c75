"""What a training run leaves beside its checkpoint: the best model, the history as a table, and its curve."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from recurray import History, files
from recurray.language_model import checkpoint
from recurray.language_model.training import Progress, Training


class Records:
    """The best model by held-out bits, and a row for each time that these were measured.

    They lie beside ``model.safetensors`` as ``model.best.safetensors``, ``model.history.jsonl`` and
    ``model.history.png``, the curve, which needs matplotlib.

    Parameters
    ----------
    training : Training
        The run.
    path : str
        Its checkpoint.
    resumed : bool
        Whether it goes on from that checkpoint, so that its records are gone on with.
    """

    def __init__(self, training: Training, path: str, *, resumed: bool) -> None:
        self._training, self._path = training, Path(path)
        self._best: bytes | None = None  # not written yet
        self.history = History()
        if resumed and self.beside("history", ".jsonl").is_file():
            rows = History.from_jsonl(self.beside("history", ".jsonl")).rows
            self.history.rows = [row for row in rows if (row.get("step") or 0) <= training.step]
        least: list[Any] = [row.get("validation_bits") for row in self.history.rows]
        self.history.best = least.index(min(least)) if least else None

    def beside(self, word: str, suffix: str | None = None) -> Path:
        """A file beside the checkpoint."""
        return self._path.with_name(f"{self._path.stem}.{word}{self._path.suffix if suffix is None else suffix}")

    def paths(self) -> list[Path]:
        """The files that may be written."""
        return [self.beside("best"), self.beside("history", ".jsonl"), self.beside("history", ".png")]

    def update(self, progress: Progress) -> None:
        """Take what was measured into account."""
        if not progress.measured or progress.held_out_bits is None:
            return
        bits = progress.held_out_bits
        self.history.rows.append(
            {"epoch": progress.epoch, "step": progress.step, "bits": progress.training_bits, "validation_bits": bits}
        )
        best = self.history.best
        if best is None or bits < (self.history.rows[best]["validation_bits"] or 0.0):
            self.history.best = len(self.history) - 1
            self._best = checkpoint.serialized(*self._training.contents())

    def write(self) -> None:
        """Write what is new.

        Raises
        ------
        OSError, CheckpointError
            A file can't be written; a former one is untouched.
        """
        if self._best is not None:
            checkpoint.write(self.beside("best"), self._best)
            self._best = None
        if self.history.rows:
            self.history.to_jsonl(self.beside("history", ".jsonl"))

    def draw(self) -> bool:
        """Draw the curve, where matplotlib is there; tell whether."""
        if find_spec("matplotlib") is None or len(self.history) < 2:
            return False
        from io import BytesIO

        from recurray import plot

        picture = BytesIO()
        figure: Any = plot.history(self.history)
        figure.savefig(picture, format="png")
        with files.Destination(self.beside("history", ".png")) as destination:
            destination.replace(picture.getvalue())
        return True
