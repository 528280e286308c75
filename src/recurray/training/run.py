"""Where a training stands, and how it goes on: epochs of batches, updates, rows of the history."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from recurray import saving
from recurray.arrays import to_numpy
from recurray.files import FormatError
from recurray.parallel import Serial
from recurray.signals import StopRequest
from recurray.training import checkpoint, data
from recurray.training.best import Best
from recurray.training.checkpoint import Arrays, Files, as_json, from_json
from recurray.training.data import Source
from recurray.training.errors import TrainingError
from recurray.training.evaluation import evaluated
from recurray.training.history import History
from recurray.training.pieces import Cut, Piece
from recurray.training.progress import Progress
from recurray.training.ranks import Ranks
from recurray.training.update import Learned, Model, clipped, joined, known_at_once, not_finite

_LOOK_EVERY = 32  # updates after which a device's losses are looked at, which waits for it


@dataclass(frozen=True)
class Plan:
    """What decides the course of a training.

    Attributes
    ----------
    epochs, steps : int or None
        The end: after so many epochs, or updates.
    every : int or None
        Updates between two rows of the history; None for a row after each epoch.
    accumulate : int
        Pieces to an update.
    clip_norm, clip_value : float or None
        Limit of the gradients' norm.
    schedule : callable or None
        From the number of updates done to the learning rate; or what is told the monitored value by ``observe``.
    """

    epochs: int | None = None
    steps: int | None = None
    every: int | None = None
    accumulate: int = 1
    clip_norm: float | None = None
    clip_value: float | None = None
    schedule: Any = None


@dataclass
class Sums:
    """What has been added up since the last row of the history."""

    weight: float = 0.0
    updates: int = 0
    norm: float = 0.0
    totals: dict[str, float] = field(default_factory=dict)

    def add(self, value: float, norm: float, weight: float, metrics: dict[str, float]) -> None:
        """Take an update into account."""
        self.weight += weight
        self.updates += 1
        self.norm += norm
        for name, number in {"loss": value, **metrics}.items():
            self.totals[name] = self.totals.get(name, 0.0) + number * weight

    def means(self) -> dict[str, float]:
        """The means, of the loss first."""
        return {name: total / self.weight if self.weight else 0.0 for name, total in self.totals.items()}


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
    """

    def __init__(
        self,
        model: Model,
        optimizer: Any,
        source: Source,
        validation: Source | None,
        cut: Cut,
        plan: Plan,
        best: Best,
        seed: Any,
        callbacks: Sequence[Any] = (),
        progress: Progress | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.model, self.optimizer, self.history = model.model, optimizer, History()
        self.epoch, self.step = 0, 0
        self.loss: float | None = None
        self._model, self._source, self._validation = model, source, validation
        self._cut, self._plan, self._best, self._progress = cut, plan, best, progress or Progress()
        self._ranks, self._seed = ranks or Ranks(Serial(), batch_first=cut.batch_first), seed
        order, dropout, valid = np.random.SeedSequence(seed).spawn(3)
        self._order, self._dropout = np.random.default_rng(order), np.random.default_rng(dropout)
        self._valid_seed = valid
        self._on_step = _methods(callbacks, "on_step")
        self._on_epoch = _methods(callbacks, "on_epoch")
        self._position = 0  # pieces of this epoch done; 0 too where it is at its end
        self._epoch_order = self._order.bit_generator.state  # as the epoch began
        self._state: Any = None  # carried from piece to piece
        self._sums = Sums()
        self._unseen: list[tuple[int, Piece, Any, Any, Learned]] = []
        self._stopping = False
        self._seconds, self._began = 0.0, 0.0  # of earlier parts of the training; when this one began
        self._files: Files | None = None
        self._write_every: int | None = None
        self._written: int | None = None  # after which update the checkpoint was written

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

    def contents(self) -> tuple[Arrays, dict[str, Any]]:
        """Return all that going on needs beside the model: arrays, and what JSON can hold."""
        arrays, training = self.position()
        training |= {
            "history": [_json(row) for row in self.history.rows],
            "best": self.history.best,
            "waited": self._best.waited,
            "seconds": self.seconds,
        }
        for name, value in (self._best.params or {}).items():
            arrays[checkpoint.BEST + name] = to_numpy(value)
        return arrays, training

    def position(self) -> tuple[Arrays, dict[str, Any]]:
        """Return what the next updates depend on beside the model: arrays, and what JSON can hold."""
        self._look()
        own = dict(self.optimizer.state_dict())
        training: dict[str, Any] = {
            "epoch": self.epoch,
            "step": self.step,
            "position": self._position,
            "order": self._epoch_order if self._position else self._order.bit_generator.state,
            "dropout": self._dropout.bit_generator.state,
            "sums": _json(dataclasses.asdict(self._sums)),
            "optimizer": _json(own.pop("settings")),
            "schedule": _json(self._schedule_state()),
            "options": self._options(),
        }
        arrays = {checkpoint.OPTIMIZER + name: value for name, value in own.items()}
        training["state"] = self._ranks.flat(self._state, arrays)
        return arrays, training

    def restore(self, path: Any) -> None:
        """Go on from where a checkpoint ends.

        Raises
        ------
        ValueError
            It is of another model, optimizer, or training.
        FormatError
            It is damaged.
        """
        params, arrays, training = checkpoint.read(path)
        checkpoint.check_params(path, params, self.model.params)
        checkpoint.check_options(path, training.get("options", {}), self._options())
        backend = self.model.backend
        try:
            self.take(arrays, training)
            self.history.rows = [_unjson(row) for row in training["history"]]
            self.history.best, self._best.waited = training["best"], training["waited"]
            best = _within(arrays, checkpoint.BEST)
            self._best.params = {name: backend.asarray(value) for name, value in best.items()} or None
            self._seconds = training["seconds"]
        except (KeyError, AttributeError, TypeError) as error:
            raise FormatError(f"{path} holds no training that can be gone on with here: {error}") from error
        self.model.load_state_dict(params)
        self._written = self.step

    def take(self, arrays: Arrays, training: Mapping[str, Any]) -> None:
        """Take over what `position` returned."""
        moments = _within(arrays, checkpoint.OPTIMIZER)
        self.optimizer.load_state_dict({"settings": _unjson(training["optimizer"]), **moments})
        if training["schedule"] is not None:
            if not hasattr(self._plan.schedule, "load_state_dict"):
                raise ValueError("it holds the state of a schedule, and this one has none")
            self._plan.schedule.load_state_dict(_unjson(training["schedule"]))
        checkpoint.generator_state(self._order, training["order"])
        self._epoch_order = training["order"]
        checkpoint.generator_state(self._dropout, training["dropout"])
        goes_on = training["position"] > 0 and self._cut.carries
        self._state = self._ranks.unflat(training["state"], arrays, self.model.backend.asarray, goes_on)
        self._sums = Sums(**_unjson(training["sums"]))
        self.epoch, self.step, self._position = training["epoch"], training["step"], training["position"]

    def _options(self) -> dict[str, Any]:
        """What decides the course and has to be as it was: not when it ends, nor what looks on."""
        return {
            "accumulate": self._plan.accumulate,
            "every": self._plan.every,
            "clip_norm": self._plan.clip_norm,
            "clip_value": self._plan.clip_value,
            "chunk": self._cut.chunk,
            "burn_in": self._cut.burn_in,
            "carry": self._cut.carry,
            "monitor": self._best.monitor,
            "mode": self._best.mode,
            "validation": self._validation is not None,
            "data": self._source.facts(),
        }

    def _schedule_state(self) -> Any:
        schedule = self._plan.schedule
        return schedule.state_dict() if hasattr(schedule, "state_dict") else None

    def _write(self) -> None:
        """Write a checkpoint, if there is to be one and none of this update is there."""
        if self._files is not None and self._written != self.step:
            contents = self.contents()
            if self._ranks.leads:
                self._files.write(checkpoint.serialized(self.model, *contents), self.step)
            self._written = self.step

    def train(self) -> History:
        """Go on to the end."""
        self._check_ranks()
        if self._files is None:
            return self._train()
        contents = self.contents()
        if not self._ranks.leads:
            return self._train()
        with self._files:
            self._files.check(checkpoint.serialized(self.model, *contents))
            return self._train()

    def _check_ranks(self) -> None:
        """Refuse ranks that wouldn't do the same."""
        if self._ranks.alone:
            return
        self._ranks.check_same(
            {
                "where the training stands": {"epoch": self.epoch, "step": self.step},
                "epochs": self._plan.epochs,
                "steps": self._plan.steps,
                "schedule": self._plan.schedule,
                "patience": self._best.patience,
                "restore_best": self._best.keep_params,
                "seed": self._seed,
                "checkpoint": self._files is not None,
                "checkpoint_every": self._write_every,
                "loss": self._model.loss,
                "metrics": self._model.metrics,
                "validation": None if self._validation is None else self._validation.facts(),
                **self._options(),
                **{f"the optimizer's {name}": value for name, value in self.optimizer.state_dict().items()},
                **{f"the param {name!r}": value for name, value in self.model.params.items()},
            }
        )

    def _train(self) -> History:
        self._began = time.perf_counter()
        self.history.stopped = None
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"), StopRequest(self._ranks.signals) as stop:
            with self._progress:
                for _ in self.updates():
                    if self._ranks.any(stop.received):
                        break
            if self._ranks.any(stop.received):
                self._look()
                self.history.stopped = "interrupted"
            self._write()
        if self.history.stopped == "interrupted":
            kept = f"; {self._files.path} goes on from there, by resume" if self._files is not None else ""
            raise KeyboardInterrupt(f"training was interrupted after {self.step:,} updates{kept}")
        self.history.stopped = self.history.stopped or "finished"
        self._best.restore(self.model.params)
        return self.history

    def updates(self) -> Iterator[None]:
        """Go on to the end, and yield after each update."""
        self._began = self._began or time.perf_counter()
        while not self._over():
            yield from self._epoch()

    def _over(self) -> bool:
        plan = self._plan
        if self._stopping:
            self.history.stopped = "callback"
        elif self._best.over:
            self.history.stopped = "patience"
        else:
            at_end = self._position == 0 and plan.epochs is not None and self.epoch >= plan.epochs
            return at_end or (plan.steps is not None and self.step >= plan.steps)
        return True

    def _epoch(self) -> Iterator[None]:
        """Train for an epoch, or what is left of one."""
        if self._position == 0:
            self.epoch += 1
            self._epoch_order = self._order.bit_generator.state
        else:
            self._order.bit_generator.state = self._epoch_order
        pieces = islice(self._cut.pieces(self._source.epoch(self._order)), self._position, None)
        group: list[Learned] = []
        done = self._position
        piece = None
        for piece, last in _with_last(pieces):
            done += 1
            if piece.fresh:
                self._state = None
            own, rng = self._ranks.own(piece), self._ranks.draws(self._dropout)
            if piece.warm_up:
                self._state = None if own is None else self._model.carried(own, self._state)
                continue
            learned = self._model.nothing(self._state) if own is None else self._model.learned(own, self._state, rng)
            self._state = learned.state
            group.append(learned)
            if len(group) < self._plan.accumulate and not last:
                continue
            self._update(piece, group, last)
            group = []
            self._position = 0 if last else done
            over = self._after_update(last)
            yield
            if over:
                return
        if piece is None:
            raise ValueError("data must have at least one batch, but its iterator yields none")
        if self._position:  # the last pieces only warmed up
            self._position = 0
            self._row()

    def _update(self, piece: Piece, group: list[Learned], last: bool) -> None:
        """Change the params by what some pieces say."""
        value, grads, weight = joined(group)
        metrics = _mean_metrics(group, weight)
        value, grads, weight, metrics = self._ranks.joined(value, grads, weight, metrics, piece, last=last)
        grads, norm = clipped(grads, self._plan.clip_norm, self._plan.clip_value)
        now = known_at_once(value) and known_at_once(norm)
        if now and not (math.isfinite(value) and math.isfinite(norm)):
            raise self._diverged(self.epoch, piece, float(value), float(norm), grads)
        schedule = self._plan.schedule
        if schedule is not None and not hasattr(schedule, "observe"):
            self.optimizer.lr = schedule(self.step)
        self.optimizer.step(grads)
        self.step += 1
        kept = Learned(None, {}, weight, None, metrics)
        if now:
            self._see(float(value), float(norm), kept)
        else:
            self._unseen.append((self.epoch, piece, value, norm, kept))
            if len(self._unseen) >= _LOOK_EVERY:
                self._look()

    def _see(self, value: float, norm: float, learned: Learned) -> None:
        self.loss = value
        self._sums.add(value, norm, learned.weight, learned.metrics)

    def _look(self) -> None:
        """Look at what a device has computed since the last time."""
        unseen, self._unseen = self._unseen, []
        for epoch, piece, value, norm, learned in unseen:
            if not (math.isfinite(value) and math.isfinite(norm)):
                raise self._diverged(epoch, piece, float(value), float(norm), self.model.params)
            self._see(float(value), float(norm), learned)

    def _after_update(self, epoch_ends: bool) -> bool:
        """Tell whoever is to know; tell whether the training ends here."""
        for call in self._on_step:
            call(self)
        self._stopping = self._ranks.any(self._stopping)
        if self._progress.shows:
            self._progress.step(self._share(), self.epoch, self.loss)
        plan = self._plan
        ends = self._stopping or (plan.steps is not None and self.step >= plan.steps)
        if ends or (epoch_ends if plan.every is None else self.step % plan.every == 0):
            self._row()
        if self._write_every and self.step % self._write_every == 0:
            self._write()
        return self._over() and not epoch_ends

    def _row(self) -> None:
        """Add a row to the history."""
        self._look()
        means = self._sums.means()
        row: dict[str, Any] = {"epoch": self.epoch, "step": self.step, **means}
        if self._validation is not None:
            rng = np.random.default_rng(self._valid_seed)
            found = evaluated(self._model, self._validation, self._cut, rng, self._ranks)
            for name, value in found.items():
                if name == "loss" and not math.isfinite(value):
                    raise TrainingError(f"the validation's loss became {value} in epoch {self.epoch}, step {self.step}")
            row |= {f"validation_{name}": value for name, value in found.items()}
        seconds = self._ranks.first(self.seconds)
        row |= {"lr": self.lr, "grad_norm": self._sums.norm / max(1, self._sums.updates), "seconds": seconds}
        self._sums = Sums()
        self.history.rows.append(row)
        is_best = self._best.look(self.history, self.model.params)
        if hasattr(self._plan.schedule, "observe"):
            self.optimizer.lr = self._plan.schedule.observe(self._best.value(row))
        self._progress.row(row)
        for call in self._on_epoch:
            call(self)
        self._stopping = self._ranks.any(self._stopping)
        self._ranks.check_same({f"the param {name!r}": value for name, value in self.model.params.items()})
        if self._files is not None:
            if is_best and self._validation is not None and self._ranks.leads:
                saving.save(self.model, self._files.beside("best"))
            self._write()

    def _share(self) -> float:
        """Which share of the training is done, as far as that is known."""
        plan = self._plan
        if plan.steps is not None:
            return self.step / plan.steps
        batches = self._source.batches
        within = self._position / batches if batches and self._position else 0.0
        return (self.epoch - (1 if self._position else 0) + min(1.0, within)) / (plan.epochs or 1)

    def _diverged(self, epoch: int, piece: Piece, value: float, norm: float, arrays: Any) -> TrainingError:
        what = f"the loss became {value}" if not math.isfinite(value) else f"the gradients' norm became {norm}"
        own = self._ranks.own(piece)
        held = None
        if own is not None:
            batch = own.batch
            held = data.not_finite(batch.x, batch.lengths, batch.mask, self._cut.batch_first)
        held = self._ranks.found(held)
        if held is not None:
            what += f": x holds {held} of the batch"
        else:
            name = not_finite(self.model.params) or not_finite(arrays)
            what += f" (first seen in the param {name})" if name else ""
        return TrainingError(
            f"{what}, in epoch {epoch}, batch {piece.number}, after {self.step:,} updates; a lower learning rate or "
            "clip_norm may help"
        )


def _json(value: Any) -> Any:
    """Numbers, in dicts and lists, as JSON can hold them."""
    if isinstance(value, dict):
        return {name: _json(part) for name, part in value.items()}
    return [_json(part) for part in value] if isinstance(value, (list, tuple)) else as_json(value)


def _unjson(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: part if name == "optimizer" else _unjson(part) for name, part in value.items()}
    return [_unjson(part) for part in value] if isinstance(value, list) else from_json(value)


def _within(arrays: Arrays, prefix: str) -> Arrays:
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def _methods(callbacks: Sequence[Any], name: str) -> list[Callable[[Run], Any]]:
    found = [getattr(callback, name) for callback in callbacks if hasattr(callback, name)]
    if name == "on_epoch":
        plain = [c for c in callbacks if not hasattr(c, "on_step") and not hasattr(c, "on_epoch")]
        found += plain
    return found


def _mean_metrics(group: list[Learned], weight: float) -> dict[str, float]:
    names = group[0].metrics
    return {
        name: sum(float(part.metrics[name]) * part.weight for part in group) / weight if weight else 0.0
        for name in names
    }


def _with_last(pieces: Iterator[Piece]) -> Iterator[tuple[Piece, bool]]:
    """Each piece, and whether it is the epoch's last."""
    before = next(pieces, None)
    for piece in pieces:
        if before is not None:
            yield before, False
        before = piece
    if before is not None:
        yield before, True
