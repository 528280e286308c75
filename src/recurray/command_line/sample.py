"""``recurray sample``: text written by a trained model."""

from __future__ import annotations

import argparse
import sys

import numpy as np

from recurray.command_line import options
from recurray.command_line.failure import Failure
from recurray.language_model import model
from recurray.language_model.sampling import sample
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
    options.need("safetensors", "train", "reading a checkpoint")
    trained, vocabulary = model.load(args.checkpoint, options.backend(args.backend))
    rng = np.random.default_rng(args.seed)
    try:
        text = sample(trained, vocabulary, args.prompt, args.length, args.temperature, rng)
    except ValueError as error:
        raise Failure(f"--prompt: {error}", code=2) from None
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # for what the terminal's encoding lacks
    sys.stdout.write(args.prompt)
    for character in text:
        sys.stdout.write(character)
        sys.stdout.flush()
    sys.stdout.write("\n")
    return 0
