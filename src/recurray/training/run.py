"""The course of a training: epochs of batches, updates, rows of the history, checkpoints on the way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from recurray import saving
from recurray.signals import StopRequest
from recurray.training import checkpoint, resuming
from recurray.training.checkpoint import Arrays, Files
from recurray.training.divergence import diverged
from recurray.training.errors import TrainingError
from recurray.training.evaluation import evaluated
from recurray.training.history import History
from recurray.training.pieces import Piece
from recurray.training.position import Position
from recurray.training.progress import Progress
from recurray.training.setup import Setup
from recurray.training.sums import Sums
from recurray.training.update import Learned, clipped, joined, known_at_once

_LOOK_EVERY = 32  # updates after which a device's losses are looked at, which waits for it


class Run:
    """A training: what callbacks are given.

    Attributes
    ----------
    model, optimizer
        As they were given to `fit`.
    history : History
        The rows so far.
    epoch : int
        Epochs begun; the first is 1.
    step : int
        Updates done.
    loss : float or None
        The loss of the last update that has been looked at: on a GPU, some updates ago.
    grads : mapping of str to array
        The gradients of the last update before they were clipped, while ``on_step`` of a callback is called; else
        none.
    """

    def __init__(self, setup: Setup, callbacks: Sequence[Any] = (), progress: Progress | None = None) -> None:
        self.model, self.optimizer, self.history = setup.model.model, setup.optimizer, History()
        self.loss: float | None = None
        self.grads: Mapping[str, Any] = {}
        self._setup, self._position, self._progress = setup, Position(setup.seed), progress or Progress()
        self._on_step = _methods(callbacks, "on_step")
        self._on_epoch = _methods(callbacks, "on_epoch")
        schedule: Any = setup.plan.schedule
        self._schedule_sees_rows = hasattr(schedule, "observe")
        self._lr_at: Callable[[int], float] | None = None if self._schedule_sees_rows else schedule
        self._unseen: list[tuple[int, Piece, Any, Any, Learned]] = []
        self._stopping = False
        self._seconds, self._began = 0.0, 0.0  # of earlier parts of the training; when this one began
        self._files: Files | None = None
        self._write_every: int | None = None
        self._written: int | None = None  # after which update the checkpoint was written

    @property
    def epoch(self) -> int:
        """Epochs begun."""
        return self._position.epoch

    @property
    def step(self) -> int:
        """Updates done."""
        return self._position.step

    @property
    def lr(self) -> float:
        """The learning rate."""
        return float(self.optimizer.lr)

    @property
    def seconds(self) -> float:
        """How long the training has taken, what was done before it was resumed included."""
        return self._seconds + (time.perf_counter() - self._began if self._began else 0.0)

    def last_loss(self) -> float:
        """The loss of the last update, for which a device is waited for."""
        self._look()
        return math.nan if self.loss is None else self.loss

    def stop(self) -> None:
        """End the training after this update."""
        self._stopping = True

    def write_to(self, files: Files, every: int | None) -> None:
        """Write checkpoints into files: at each row of the history, every so many updates, and at the end."""
        self._files, self._write_every = files, every

    def restore(self, path: Any) -> None:
        """Go on from where a checkpoint ends; see `resuming.restore`."""
        self._seconds = resuming.restore(path, self._setup, self._position, self.history)
        self._written = self.step

    def stand(self) -> tuple[Arrays, dict[str, Any]]:
        """Return where the training stands; see `resuming.stand_of`."""
        self._look()
        return resuming.stand_of(self._setup, self._position)

    def take_stand(self, arrays: Arrays, training: Mapping[str, Any]) -> None:
        """Take over what `stand` returned."""
        resuming.take_stand(self._setup, self._position, arrays, training)

    def train(self) -> History:
        """Go on to the end."""
        self._check_ranks()
        if self._files is None:
            return self._train()
        contents = self._contents()
        if not self._setup.ranks.leads:
            return self._train()
        with self._files:
            self._files.check(checkpoint.serialized(self.model, *contents))
            return self._train()

    def _check_ranks(self) -> None:
        """Refuse ranks that wouldn't do the same."""
        if not self._setup.ranks.alone:
            stand = {"epoch": self.epoch, "step": self.step}
            files = {"checkpoint": self._files is not None, "checkpoint_every": self._write_every}
            self._setup.ranks.check_same({"where the training stands": stand, **files, **self._setup.facts()})

    def _train(self) -> History:
        self._began = time.perf_counter()
        self.history.stopped = None
        ranks = self._setup.ranks
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"), StopRequest(ranks.signals) as stop:
            with self._progress:
                for _ in self.updates():
                    if ranks.any(stop.received):
                        break
            if ranks.any(stop.received):
                self._look()
                self.history.stopped = "interrupted"
            self._write()
        if self.history.stopped == "interrupted":
            kept = f"; {self._files.path} goes on from there, by resume" if self._files is not None else ""
            raise KeyboardInterrupt(f"training was interrupted after {self.step:,} updates{kept}")
        self.history.stopped = self.history.stopped or "finished"
        self._setup.best.restore(self.model.params)
        return self.history

    def updates(self) -> Iterator[None]:
        """Go on to the end, and yield after each update."""
        self._began = self._began or time.perf_counter()
        while not self._over():
            yield from self._epoch()

    def _over(self) -> bool:
        plan, position = self._setup.plan, self._position
        if self._stopping:
            self.history.stopped = "callback"
        elif self._setup.best.over:
            self.history.stopped = "patience"
        else:
            at_end = position.pieces == 0 and plan.epochs is not None and position.epoch >= plan.epochs
            return at_end or (plan.steps is not None and position.step >= plan.steps)
        return True

    def _epoch(self) -> Iterator[None]:
        """Train for an epoch, or what is left of one."""
        setup, position = self._setup, self._position
        model, ranks, accumulate = setup.model, setup.ranks, setup.plan.accumulate
        batches = setup.source.epoch(position.begin_epoch())
        done = position.pieces
        group: list[Learned] = []
        piece = None
        for piece, last in _with_last(islice(setup.cut.pieces(batches), done, None)):
            done += 1
            state = None if piece.fresh else position.state
            rng = ranks.draws(position.dropout)
            if piece.warm_up:
                position.state = None if piece.idle else model.carried(piece, state)
                continue
            learned = model.nothing(state) if piece.idle else model.learned(piece, state, rng)
            position.state = learned.state
            group.append(learned)
            if len(group) < accumulate and not last:
                continue
            self._update(piece, group, last)
            group = []
            position.pieces = 0 if last else done
            over = self._after_update(last)
            yield
            if over:
                return
        if piece is None:
            raise ValueError("data must have at least one batch, but its iterator yields none")
        if position.pieces:  # the last pieces only warmed up
            position.pieces = 0
            self._row()

    def _update(self, piece: Piece, group: list[Learned], last: bool) -> None:
        """Change the params by what some pieces say."""
        plan = self._setup.plan
        learned = self._setup.ranks.joined(joined(group), piece, last=last)
        grads, norm = clipped(learned.grads, self._setup.model.backend, plan.clip_norm, plan.clip_value)
        value = learned.value
        now = known_at_once(value) and known_at_once(norm)
        if now:
            self._see(self.epoch, piece, float(value), float(norm), learned, grads)
        if self._lr_at is not None:
            self.optimizer.lr = self._lr_at(self.step)
        self.optimizer.step(grads)
        self._position.step += 1
        if self._on_step:
            self.grads = learned.grads
        if not now:
            self._unseen.append((self.epoch, piece, value, norm, learned._replace(grads={}, state=None)))
            if len(self._unseen) >= _LOOK_EVERY:
                self._look()

    def _see(
        self, epoch: int, piece: Piece, value: float, norm: float, learned: Learned, arrays: Mapping[str, Any]
    ) -> None:
        """Take the loss and the norm of an update into account, of which ``arrays`` tell more if they aren't finite."""
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise diverged(self._setup, epoch, piece, self.step, value, norm, arrays)
        self.loss = value
        self._position.sums.add(value, norm, learned.weight, learned.metrics)

    def _look(self) -> None:
        """Look at what a device has computed since the last time."""
        unseen, self._unseen = self._unseen, []
        for epoch, piece, value, norm, learned in unseen:
            self._see(epoch, piece, float(value), float(norm), learned, self.model.params)

    def _after_update(self, epoch_ends: bool) -> bool:
        """Tell whoever is to know; tell whether the training ends here."""
        plan, step = self._setup.plan, self.step
        for call in self._on_step:
            call(self)
        self.grads = {}
        self._stopping = self._setup.ranks.any(self._stopping)
        if self._progress.shows:
            self._progress.step(self._share(), self.epoch, self.loss)
        ends = self._stopping or (plan.steps is not None and step >= plan.steps)
        if ends or (epoch_ends if plan.every is None else step % plan.every == 0):
            self._row()
        if self._write_every and step % self._write_every == 0:
            self._write()
        return self._over() and not epoch_ends

    def _row(self) -> None:
        """Add a row to the history."""
        self._look()
        setup, position = self._setup, self._position
        row: dict[str, Any] = {"epoch": self.epoch, "step": self.step, **position.sums.means()}
        if setup.validation is not None:
            rng = np.random.default_rng(position.validation)
            found = evaluated(setup.model, setup.validation, setup.cut, rng, setup.ranks)
            if not math.isfinite(found["loss"]):
                raise TrainingError(
                    f"the validation's loss became {found['loss']} in epoch {self.epoch}, step {self.step}"
                )
            row |= {f"validation_{name}": value for name, value in found.items()}
        row |= {"lr": self.lr, "grad_norm": position.sums.mean_norm(), "seconds": setup.ranks.first(self.seconds)}
        position.sums = Sums()
        self.history.rows.append(row)
        is_best = setup.best.look(self.history, self.model.params)
        if self._schedule_sees_rows:
            self.optimizer.lr = setup.plan.schedule.observe(setup.best.value(row))
        self._progress.row(row)
        for call in self._on_epoch:
            call(self)
        self._stopping = setup.ranks.any(self._stopping)
        setup.ranks.check_same(setup.params())
        if self._files is not None:
            if is_best and setup.validation is not None and setup.ranks.leads:
                saving.save(self.model, self._files.beside("best"))
            self._write()

    def _write(self) -> None:
        """Write a checkpoint, if there is to be one and none of this update is there."""
        if self._files is not None and self._written != self.step:
            contents = self._contents()
            if self._setup.ranks.leads:
                self._files.write(checkpoint.serialized(self.model, *contents), self.step)
            self._written = self.step

    def _contents(self) -> tuple[Arrays, dict[str, Any]]:
        self._look()
        return resuming.contents(self._setup, self._position, self.history, self.seconds)

    def _share(self) -> float:
        """Which share of the training is done, as far as that is known."""
        plan, pieces = self._setup.plan, self._position.pieces
        if plan.steps is not None:
            return self.step / plan.steps
        batches = self._setup.source.batches
        within = pieces / batches if batches and pieces else 0.0
        return (self.epoch - (1 if pieces else 0) + min(1.0, within)) / (plan.epochs or 1)


def _methods(callbacks: Sequence[Any], name: str) -> list[Callable[[Run], Any]]:
    found = [getattr(callback, name) for callback in callbacks if hasattr(callback, name)]
    if name == "on_epoch":
        plain = [c for c in callbacks if not hasattr(c, "on_step") and not hasattr(c, "on_epoch")]
        found += plain
    return found


def _with_last(pieces: Iterator[Piece]) -> Iterator[tuple[Piece, bool]]:
    """Each piece, and whether it is the epoch's last."""
    before = next(pieces, None)
    for piece in pieces:
        if before is not None:
            yield before, False
        before = piece
    if before is not None:
        yield before, True
