"""``recurray sample``: text written by a trained model."""

from __future__ import annotations

import argparse
import sys

import numpy as np

from recurray.command_line import options
from recurray.command_line.failure import Failure
from recurray.command_line.output import say
from recurray.language_model import model
from recurray.language_model.sampling import repeated, sample
from recurray.language_model.settings import Number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", type=options.path, help="the file that recurray train wrote"
    )
    parser.add_argument("--prompt", metavar="TEXT", default="", help="what the text begins with (default: nothing)")
    parser.add_argument(
        "--length",
        metavar="N",
        type=options.number(Number(int, at_least=0)),
        default=500,
        help="characters to write after the prompt (default: 500)",
    )
    parser.add_argument(
        "--temperature",
        metavar="X",
        type=options.number(Number(float, at_least=0)),
        default=0.8,
        help="0 always takes the likeliest character, 1 draws as the model expects, more is wilder (default: 0.8)",
    )
    parser.add_argument(
        "--seed",
        metavar="N",
        type=options.number(Number(int, at_least=0)),
        help="makes the text repeatable (default: another text each time)",
    )
    options.add_backend(parser)


def run(args: argparse.Namespace) -> int:
    """Write the text as it is drawn, and return the exit code."""
    trained, vocabulary = model.load(args.checkpoint, options.backend(args.backend))
    rng = np.random.default_rng(args.seed)
    try:
        text = sample(trained, vocabulary, args.prompt, args.length, args.temperature, rng)
    except ValueError as error:
        raise Failure(f"--prompt: {error}", code=2) from None
    say(args.prompt)
    written = ""
    for character in text:
        say(character)
        sys.stdout.flush()
        written += character
    say("\n")
    if args.temperature == 0 and (again := repeated(written)):
        sys.stdout.flush()
        say(
            f"recurray sample: the text ends in {again!r} again and again: at temperature 0 the likeliest character is "
            "always taken, which leads into a circle; try --temperature 0.5\n",
            sys.stderr,
        )
    return 0
