"""``recurray train``: a character language model from a text."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recurray.command_line import blas_threads, display, options
from recurray.command_line.display import Baselines, Display
from recurray.command_line.failure import Failure
from recurray.command_line.output import say
from recurray.command_line.records import Records
from recurray.command_line.saving import Saver, at_start
from recurray.language_model import checkpoint
from recurray.language_model.errors import CheckpointError, TrainingError
from recurray.language_model.ngram import WittenBell
from recurray.language_model.settings import Choice, Number, Settings
from recurray.language_model.text import DEFAULT_TEXT, Corpus, Source, default_text
from recurray.language_model.training import Training
from recurray.signals import StopRequest

_DEFAULT_OUT = "model.safetensors"
_EVERY = 60.0  # seconds between checkpoints
_WORSE = 1.0  # bits by which even an untrained model isn't worse than an even guess
_ORDERS = (3, 5)  # of the n-gram models to compare with
_MOST_COUNTED = 20_000_000  # characters of training text up to which n-grams are counted in seconds and little memory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument(
        "text",
        nargs="*",
        metavar="TEXT",
        type=options.path,
        help="UTF-8 text files, read one after the other; a folder stands for the .txt files in it and below, - for "
        f"standard input (default: Python's help topics, {DEFAULT_TEXT})",
    )
    parser.add_argument(
        "--out",
        metavar="PATH",
        type=options.path,
        help=f"the checkpoint to write (default: {_DEFAULT_OUT}, or the one resumed)",
    )
    parser.add_argument(
        "--resume",
        metavar="PATH",
        type=options.path,
        help="go on from this checkpoint, with its settings; to be given with the TEXT that it began with",
    )
    parser.add_argument(
        "--checkpoint-every",
        metavar="SECONDS",
        type=options.number(Number(float, above=0)),
        default=_EVERY,
        help=f"seconds between checkpoints (default: {_EVERY:g})",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace the checkpoint, and what lies beside it, if there is one already",
    )
    parser.add_argument("--quiet", action="store_true", help="show only the result")
    options.add_backend(parser)
    blas_threads.add_argument(parser)
    course = parser.add_argument_group("settings that decide the course of the training")
    for setting in dataclasses.fields(Settings):
        allowed = setting.metadata["allowed"]
        meaning = setting.metadata["meaning"]
        if setting.default is not None:
            meaning += f" (default: {setting.default})"
        kind: dict[str, Any] = (
            {"choices": allowed.names}
            if isinstance(allowed, Choice)
            else {"type": options.number(allowed), "metavar": "N" if allowed.kind is int else "X"}
        )
        # Suppressed defaults leave only what the user gave, which can't be changed when resuming.
        course.add_argument(_option(setting.name), default=argparse.SUPPRESS, help=meaning, **kind)


def run(args: argparse.Namespace) -> int:
    """Train, and return the exit code."""
    given = {
        setting.name: getattr(args, setting.name) for setting in dataclasses.fields(Settings) if setting.name in args
    }
    if args.resume and given:
        names = ", ".join(_option(name) for name in given)
        raise Failure(f"a resumed run keeps the settings it began with: leave out {names}", code=2)
    backend = options.backend(args.backend)
    out = args.out or args.resume or _DEFAULT_OUT
    source = Source.of(args.text) if args.text else None
    if source is not None and source.reads(out):
        raise Failure(f"--out: {out} is the text itself, and would be overwritten", code=2)
    text = default_text() if source is None else source.read()
    if Path(out).is_file() and not args.overwrite and not (args.resume and Path(out).samefile(args.resume)):
        raise Failure(
            f"{out} is there already: --resume goes on from it, --overwrite replaces it, --out names another", 2
        )
    with checkpoint.Writer(out) as writer:  # from here on nobody else writes there
        training = (
            Training.resume(args.resume, text, backend) if args.resume else Training(text, Settings(**given), backend)
        )
        args.threads, note = blas_threads.chosen(args.threads, text, training.settings, backend)
        baselines = _baselines(training.corpus)
        view = display.choose(args.quiet, baselines)
        records = Records(training, out, resumed=out == args.resume)
        saver = Saver(training, out, writer, args.checkpoint_every, _command(args), view.warn)
        if out == args.resume:
            saver.step = training.step
        saver.check()
        for line in [*_header(args, out, training, baselines), *([note] if note else [])]:
            view.note(line)
        try:
            with blas_threads.limited(args.threads):
                ended = _train(training, saver, records, view)
                bits = training.measure() if ended else None
        except (TrainingError, MemoryError, OSError, KeyboardInterrupt) as error:
            raise _stopped(error, saver) from error
    if bits is None:
        raise Failure(f"stopped after step {training.step:,} of {training.steps:,}. {saver.how_to_go_on()}", code=130)
    for line in _result(bits, baselines, training, saver.path):
        say(line + "\n")
    if bits > training.even_guess + _WORSE:
        raise Failure(
            f"after {training.steps:,} steps the model predicts worse than an even guess, {bits:.3f} bits per "
            f"character against {training.even_guess:.3f}; a lower learning rate may help"
        )
    return 0 if saver.path == out else 1


def _train(training: Training, saver: Saver, records: Records, view: Display) -> bool:
    """Train to the end, or to the end of the step in which a signal comes; save, and tell whether it was the end."""
    with StopRequest() as stop, view:
        for progress in training.run():
            try:
                view.update(progress)
            except BrokenPipeError:  # nobody looks on any more
                stop.received = True
            except OSError:  # what is shown goes to a full disk, say, which isn't the checkpoint's
                saver.finally_()
                raise
            records.update(progress)
            if stop.received and progress.step < progress.steps:
                saver.finally_()
                _record(records, view)
                return False
            if saver.now_and_then():
                _record(records, view, draw=False)
        saver.finally_()  # while a signal still waits for it
        _record(records, view)
    return True


def _record(records: Records, view: Display, *, draw: bool = True) -> None:
    """Write what lies beside the checkpoint; that it can't be ends nothing."""
    try:
        records.write()
        if draw:
            records.draw()
    except (CheckpointError, OSError) as error:
        view.warn(str(error))


def _stopped(error: BaseException, saver: Saver) -> Failure:
    """What to tell the user of an error in the midst of training: what is there, and how to go on."""
    what, code = str(error), 1
    if isinstance(error, TrainingError):  # to go on would end in the same
        kept = "no checkpoint was written" if saver.step is None else f"the one of step {saver.step:,} is {saver.path}"
        return Failure(f"{what}. As the training has diverged, {kept}")
    if isinstance(error, MemoryError):
        what = f"out of memory: {error}" if str(error) else "out of memory"
    elif isinstance(error, KeyboardInterrupt):
        what, code = "interrupted", 130
    return Failure(f"{what}. {saver.how_to_go_on()}", code)


def _baselines(corpus: Corpus) -> Baselines:
    """Bits per held-out character of n-gram models, in the same split and vocabulary."""
    if len(corpus.training) > _MOST_COUNTED:
        return {}
    return {
        order: WittenBell(corpus.training, len(corpus.vocabulary), order).bits(corpus.held_out, before=corpus.training)
        for order in _ORDERS
        if order <= len(corpus.training)
    }


def _header(args: argparse.Namespace, out: str, training: Training, baselines: Baselines) -> Iterator[str]:
    corpus, settings, model = training.corpus, training.settings, training.model
    yield (
        f"Text: {' '.join(args.text) or DEFAULT_TEXT}, {len(corpus.training):,} characters to train on, "
        f"{len(corpus.held_out):,} held out, {len(corpus.vocabulary)} different ones"
    )
    yield (
        f"Model: {settings.layers} LSTM layer{'s' * (settings.layers > 1)} of {settings.hidden_size} units, "
        f"{model.param_count():,} params, {settings.dtype}, backend {model.backend.name} on {model.backend.device}"
    )
    yield f"Run: {settings.epochs:g} epoch{'s' * (settings.epochs != 1)}, {training.steps:,} steps" + (
        f", resumed after step {training.step:,}" if args.resume else ""
    )
    if baselines:
        yield "Held out, bits per character: " + ", ".join(
            f"{order}-gram model {bits:.3f}" for order, bits in baselines.items()
        )
    if Path(out).exists() and out != args.resume:
        yield f"Note: {out} exists, and is replaced by this run's first checkpoint"


def _result(bits: float, baselines: Baselines, training: Training, path: str) -> Iterator[str]:
    yield f"Bits per character on all {len(training.corpus.held_out):,} held-out characters:"
    rows = {"this model": bits} | {f"{order}-gram model": value for order, value in baselines.items()}
    for name, value in rows.items():
        yield f"    {name:<13} {value:.3f}"
    if not baselines:
        yield f"    (n-gram models are left out for more than {_MOST_COUNTED:,} characters)"
    yield f"The checkpoint is {path}. To write text with it:"
    yield f"    recurray sample {shlex.quote(at_start(path))} --length 500"


def _command(args: argparse.Namespace) -> list[str]:
    """The words of the command that goes on with this run, but for the checkpoint."""
    words = ["recurray", "train", *map(at_start, args.text)]
    if args.backend:
        words += ["--backend", args.backend]
    if args.threads not in (None, blas_threads.by_default()):
        words += ["--threads", str(args.threads)]
    if args.checkpoint_every != _EVERY:
        words += ["--checkpoint-every", f"{args.checkpoint_every:g}"]
    return words + ["--quiet"] * args.quiet


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
