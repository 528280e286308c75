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
from typing import Any

import numpy as np

import recurray as rr
from recurray.language_model import checkpoint
from recurray.language_model.errors import CheckpointError, TrainingError
from recurray.language_model.evaluation import held_out_bits
from recurray.language_model.model import FORMAT, MODEL, build, restore
from recurray.language_model.settings import Settings
from recurray.language_model.text import Corpus, Streams

_OPTIMIZER = "optimizer."
_STATE = "state."
_DEFAULT_READ = 10_000_000  # characters, by which the number of epochs is chosen where the user doesn't
_WINDOW = 100  # steps over which the training bits and the speed are averaged
_EVALUATED_SHARE = 0.1  # characters measured on, of those trained on in between, which bounds what measuring costs


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

    Parameters
    ----------
    corpus : Corpus
        The text.
    settings : Settings, optional
        What decides the course of the run.
    backend : optional
        See `recurray.get_backend`.

    Attributes
    ----------
    model : Sequential
        The model being trained.
    settings : Settings
        The settings, with the number of epochs that was chosen.
    step, steps : int
        Updates done, and in the whole run.

    Raises
    ------
    TextError
        The training text is shorter than one chunk.

    Examples
    --------
    >>> from recurray.language_model.settings import Settings
    >>> from recurray.language_model.text import Corpus
    >>> from recurray.language_model.training import Training
    >>> corpus = Corpus.of("to be or not to be, that is the question. " * 40)
    >>> settings = Settings(hidden_size=16, embedding_size=8, batch_size=4, steps=20, epochs=3, dropout=0.0)
    >>> training = Training(corpus, settings, backend="numpy")
    >>> for progress in training.run():
    ...     pass
    >>> progress.step, progress.step == training.steps
    (54, True)
    >>> progress.training_bits < 4
    True
    """

    def __init__(self, corpus: Corpus, settings: Settings | None = None, backend: Any = None) -> None:
        settings = _with_epochs(settings or Settings(), corpus)
        self._prepare(corpus, settings, build(settings, len(corpus.vocabulary), backend))

    def _prepare(self, corpus: Corpus, settings: Settings, model: rr.Sequential) -> None:
        self.corpus, self.settings, self.model = corpus, settings, model
        self._streams = Streams(corpus.training, settings.batch_size, settings.steps)
        assert settings.epochs is not None
        self.step, self.steps = 0, max(1, round(settings.epochs * self._streams.chunks))
        self._optimizer = rr.optim.Adam(model.params, lr=settings.lr)
        self._schedule = rr.schedules.Cosine(settings.lr, self.steps)
        self._rng = np.random.default_rng(settings.seed)
        self._offset = 0
        self._state: Any = None

    def run(self, measure_every: int = 100) -> Iterator[Progress]:
        """Train to the end of the run, yielding after every step; what was yielded last can be saved and resumed.

        Parameters
        ----------
        measure_every : int
            How many steps lie between two measurements on held-out text. A measurement reads at most a tenth of
            the characters that were trained on in between, and doesn't influence the training.

        Raises
        ------
        TrainingError
            The loss isn't finite any more.
        """
        characters = self.settings.batch_size * self.settings.steps
        begin, first = time.perf_counter(), self.step
        window: deque[tuple[float, float]] = deque(maxlen=_WINDOW)  # bits and seconds of the last steps
        held_out = None
        while self.step < self.steps:
            start = time.perf_counter()
            bits = self._train_step() / math.log(2)
            window.append((bits, time.perf_counter() - start))
            measured = self.step % measure_every == 0 or self.step == self.steps
            if measured:
                held_out = self.measure(math.ceil(measure_every * characters * _EVALUATED_SHARE))
            all_bits, all_seconds = zip(*window, strict=True)
            yield Progress(
                step=self.step,
                steps=self.steps,
                epoch=self.step / self._streams.chunks,
                training_bits=sum(all_bits) / len(window),
                held_out_bits=held_out,
                measured=measured,
                characters_per_second=len(window) * characters / sum(all_seconds),
                seconds_left=(time.perf_counter() - begin) / (self.step - first) * (self.steps - self.step),
            )

    def measure(self, characters: int | None = None) -> float:
        """Return the bits per held-out character, of about so many characters or of all.

        Raises
        ------
        TrainingError
            The model's output isn't finite any more.
        """
        bits = held_out_bits(self.model, self.corpus, characters)
        self._check_finite(bits, "loss on held-out text")
        return bits

    def save(self, path: str | Path) -> None:
        """Write everything that resuming needs, atomically; see `recurray.language_model.checkpoint.save`.

        Raises
        ------
        CheckpointError
            The file can't be written; a former one is untouched.
        """
        tensors = {MODEL + name: value for name, value in self.model.state_dict().items()}
        optimizer = self._optimizer.state_dict()
        ...
        to_numpy = self.model.backend.to_numpy
        for number, state in enumerate(self._state or ()):
            for part, value in state._asdict().items() if state is not None else ():
                tensors[f"{_STATE}{number}.{part}"] = to_numpy(value)
        checkpoint.save(
            path,
            tensors,
            {
                "format": FORMAT,
                "settings": self.settings.as_dict(),
                "vocabulary": self.corpus.vocabulary.characters,
                "text_sha256": self.corpus.digest,
                "step": self.step,
                "offset": self._offset,
                "generator": self._rng.bit_generator.state,
            },
        )
