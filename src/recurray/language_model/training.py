"""Training a character language model: truncated backpropagation through time that can be stopped and resumed exactly.

Nothing here writes to a terminal or decides when to save: `Training.run` yields a record after every step, and
whoever iterates shows it, saves, or stops.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

import recurray as rr
from recurray.language_model import checkpoint
from recurray.language_model.errors import CheckpointError, TrainingError
from recurray.language_model.evaluation import held_out_bits
from recurray.language_model.model import FORMAT, LSTM, MODEL, Description, build, not_finite
from recurray.language_model.settings import Number, Settings
from recurray.language_model.text import Corpus, Streams, digest
from recurray.training.best import Best
from recurray.training.checkpoint import STATE
from recurray.training.pieces import Cut
from recurray.training.run import Run
from recurray.training.setup import Plan, Setup
from recurray.training.update import Model

_DEFAULT_READ = 6_000_000  # characters, by which the number of epochs is chosen where the user doesn't
_MOST_EPOCHS = 50  # which a short text is read by default: more would only learn it by heart
_WINDOW = 100  # steps over which the training bits and the speed are averaged
_DIVERGED = 10  # times the bits of an even guess: a model that predicts so much worse doesn't come back
_SURE = 20  # steps after which the training bits are compared with that
_MEASURED_SHARE = 0.1  # characters measured on, of those trained on in between, which bounds what measuring costs


@dataclass(frozen=True)
class Progress:
    """Where a run stands after a step.

    Attributes
    ----------
    step, steps : int
        Updates done, and in the whole run.
    epoch : float
        How many times the training text has been read.
    training_bits : float
        Bits per character on the text of the last steps, before the updates by it (with dropout, where there is any).
    held_out_bits : float or None
        Bits per character on held-out text, as measured last; None before the first time.
    measured : bool
        Whether ``held_out_bits`` was measured after this very step.
    characters_per_second : float
        Training speed over the last steps.
    seconds_left : float
        Until the end of the run, at the mean speed so far.
    """

    step: int
    steps: int
    epoch: float
    training_bits: float
    held_out_bits: float | None
    measured: bool
    characters_per_second: float
    seconds_left: float


class Training:
    """A training run: the model, its optimizer, and the place in the text.

    Each step reads the next chunk of every stream, carries the model's state on from the last chunk (at an epoch's
    beginning it is zero), and lets gradients flow back to the chunk's first character.

    Parameters
    ----------
    text : str
        The text; its last part is held out.
    settings : Settings, optional
        What decides the course of the run.
    backend : optional
        See `recurray.get_backend`.

    Attributes
    ----------
    corpus : Corpus
        The text, prepared.
    model : Sequential
        The model being trained.
    settings : Settings
        The settings, with the number of epochs that was chosen.
    steps : int
        Updates in the whole run.

    Raises
    ------
    TextError
        The text is too short.

    Examples
    --------
    >>> from recurray.language_model.settings import Settings
    >>> from recurray.language_model.training import Training
    >>> settings = Settings(hidden_size=16, embedding_size=8, batch_size=4, steps=20, epochs=3, dropout=0.0)
    >>> training = Training("to be or not to be, that is the question. " * 40, settings, backend="numpy")
    >>> for progress in training.run():
    ...     pass
    >>> progress.step, progress.steps
    (54, 54)
    >>> progress.training_bits < 4
    True
    """

    def __init__(self, text: str, settings: Settings | None = None, backend: Any = None) -> None:
        settings = settings or Settings()
        self.corpus = Corpus.of(text, settings.held_out)
        self._streams = Streams(self.corpus.training, settings.batch_size, settings.steps)
        epochs = settings.epochs if settings.epochs is not None else _default_epochs(len(self.corpus.training))
        self.settings = settings = dataclasses.replace(settings, epochs=epochs)
        self.steps = max(1, round(epochs * self._streams.chunks))
        self.model = build(settings, len(self.corpus.vocabulary), backend)
        self._optimizer = rr.optim.Adam(self.model.params, lr=settings.lr)
        setup = Setup(
            Model(self.model, rr.losses.cross_entropy, {}),
            self._optimizer,
            self._streams,
            None,
            Cut(chunk=None, burn_in=0, carry=True, batch_first=True),
            Plan(steps=self.steps, clip_norm=settings.clip, schedule=rr.schedules.Cosine(settings.lr, self.steps)),
            Best("loss", "min", None, keep_params=False),
            settings.seed,
        )
        self._run = Run(setup)
        self._recent: deque[float] = deque(maxlen=_WINDOW)  # bits of the last steps

    @property
    def step(self) -> int:
        """Updates done."""
        return self._run.step

    @property
    def even_guess(self) -> float:
        """Bits per character of a model that holds every character of the vocabulary for equally likely."""
        return math.log2(len(self.corpus.vocabulary))

    @classmethod
    def resume(cls, path: str | Path, text: str, backend: Any = None) -> Self:
        """Go on from a checkpoint.

        On the same machine, with as many threads, the run ends in the same numbers as if it hadn't been interrupted.

        Parameters
        ----------
        path : path-like
            The checkpoint that `save` wrote.
        text : str
            The text that the run began with.
        backend : optional
            See `recurray.get_backend`.

        Raises
        ------
        CheckpointError
            The checkpoint can't be read, is damaged, holds something else, or is of another text.
        """
        tensors, metadata = checkpoint.load(path)
        description = Description.of(path, tensors, metadata)
        if metadata.get("text_sha256") != digest(text):
            raise CheckpointError(f"{path} is of another text; to go on it needs the text it began with")
        try:
            training = cls(text, description.settings, backend)
            training.model.load_state_dict(description.values)
            training._load_position(tensors, metadata)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise CheckpointError(f"{path} isn't a state to go on from: {error}") from error
        return training

    def save(self, path: str | Path) -> None:
        """Write all that resuming needs into one file; see `recurray.language_model.checkpoint.save`.

        To be called between steps: before `run`, while it has yielded, or after it.

        Raises
        ------
        CheckpointError
            The file can't be written; a former one is untouched.
        TrainingError
            The training has diverged, so that this wouldn't be a state to go on from; a former file is untouched.
        """
        checkpoint.save(path, *self.contents())

    def contents(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the arrays and metadata that `save` writes.

        Raises
        ------
        TrainingError
            The training has diverged.
        """
        self._check_sane()
        arrays, position = self._run.stand()
        metadata = {
            "format": FORMAT,
            "settings": self.settings.as_dict(),
            "vocabulary": self.corpus.vocabulary.characters,
            "text_sha256": self.corpus.digest,
            **position,
        }
        tensors = {MODEL + name: value for name, value in self.model.state_dict().items()} | arrays
        if (name := not_finite(tensors)) is not None:
            named = f"the param {name.removeprefix(MODEL)}" if name.startswith(MODEL) else name
            raise self._stopped(f"{named} isn't finite any more")
        return tensors, metadata

    def run(self, measure_every: int = 100) -> Iterator[Progress]:
        """Train to the end of the run, yielding after every step.

        Parameters
        ----------
        measure_every : int
            How many steps lie between two measurements on held-out text. A measurement reads a tenth of the
            characters that were trained on in between, or all held-out text if that is less; it doesn't influence
            the training.

        Raises
        ------
        TrainingError
            The training has diverged: the loss or the gradient isn't finite any more, or the model predicts far worse
            than an even guess.
        """
        characters = self.settings.batch_size * self.settings.steps
        begin, first = time.perf_counter(), self.step
        seconds: deque[float] = deque(maxlen=_WINDOW)  # of the last steps
        self._recent.clear()
        held_out = None
        updates = self._run.updates()
        while self.step < self.steps:
            start = time.perf_counter()
            self._recent.append(self._train_step(updates) / math.log(2))
            seconds.append(time.perf_counter() - start)
            if len(self._recent) >= _SURE:
                self._check_sane()
            measured = self.step % measure_every == 0 or self.step == self.steps
            if measured:
                self.contents()  # whose params have to be finite
                held_out = self.measure(math.ceil(measure_every * characters * _MEASURED_SHARE))
            yield Progress(
                step=self.step,
                steps=self.steps,
                epoch=self.step / self._streams.chunks,
                training_bits=sum(self._recent) / len(self._recent),
                held_out_bits=held_out,
                measured=measured,
                characters_per_second=len(seconds) * characters / sum(seconds),
                seconds_left=(time.perf_counter() - begin) / (self.step - first) * (self.steps - self.step),
            )

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")
    def measure(self, characters: int | None = None) -> float:
        """Return the bits per held-out character, of about so many characters or of all.

        Raises
        ------
        TrainingError
            The model's output isn't finite any more.
        """
        return self._finite("loss", held_out_bits(self.model, self.corpus, characters))

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")  # what overflows ends in a loss that isn't finite
    def _train_step(self, updates: Iterator[None]) -> float:
        """Learn from one chunk; return its loss in nats per character."""
        try:
            next(updates)
        except rr.TrainingError as error:
            raise TrainingError(str(error)) from error
        return float(self._run.last_loss())

    def _finite(self, name: str, value: float) -> float:
        if not math.isfinite(value):
            raise self._diverged(f"the {name} became {value}")
        return value

    def _check_sane(self) -> None:
        bits = sum(self._recent) / max(1, len(self._recent))
        if bits > _DIVERGED * max(1.0, self.even_guess):
            raise self._diverged(
                "the model predicts far worse than an even guess, "
                f"{bits:,.0f} bits per character against {self.even_guess:.1f}"
            )

    def _diverged(self, what: str) -> TrainingError:
        """An error that names a param that isn't finite, or the largest one."""
        params = self.model.state_dict()
        name = not_finite(params)
        if name is None:
            largest = {name: float(abs(value).max()) for name, value in params.items()}
            name = max(largest, key=lambda name: largest[name])
            what += f" (the largest param is in {name}, {largest[name]:.3g})"
        else:
            what += f" (the param {name} isn't finite)"
        return self._stopped(what)

    def _stopped(self, what: str) -> TrainingError:
        return TrainingError(f"{what} after {self.step:,} steps; a lower learning rate may help")

    def _load_position(self, tensors: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        """Take over everything but the model's params."""
        step, chunks = metadata["step"], self._streams.chunks
        Number(int, at_least=0, at_most=self.steps).check("step", step)
        Number(int, at_least=0, below=chunks).check("position", metadata["position"])
        if metadata["position"] != step % chunks or metadata["epoch"] != math.ceil(step / chunks):
            raise ValueError(f"after {step} steps it can't be at {metadata['position']} of epoch {metadata['epoch']}")
        if (name := not_finite(tensors)) is not None:
            raise ValueError(f"{name} isn't finite")
        arrays = {name: value for name, value in tensors.items() if not name.startswith(MODEL)}
        for name, value in arrays.items():
            if value.dtype.name != self.settings.dtype:
                raise ValueError(f"expected {name} in {self.settings.dtype}, got {value.dtype}")
        self._run.take_stand(arrays, metadata)
        if step > 0:
            size = (self.settings.layers, self.settings.batch_size, self.settings.hidden_size)
            for part in ("h", "c"):
                found = tensors[f"{STATE}{LSTM}.{part}"].shape
                if found != size:
                    raise ValueError(f"expected a state of shape {size}, got {found}")


def _default_epochs(characters: int) -> float:
    """So many that a training text of this length is read ``_DEFAULT_READ`` characters long, but not too often."""
    return float(min(_MOST_EPOCHS, max(1, round(_DEFAULT_READ / characters))))
