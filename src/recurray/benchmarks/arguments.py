"""The options of the command ``recurray bench``."""

from __future__ import annotations

import argparse
from pathlib import Path

from recurray.benchmarks import cells, imports, loop, memory
from recurray.benchmarks.kinds import KINDS
from recurray.benchmarks.problems import DTYPES, GROUPS, MODES, PROBLEMS
from recurray.benchmarks.timing import CLOCKS, Budget
from recurray.command_line import options

STRATEGIES = ("persistent", "step", "fused")  # of the CuPy backend
AGAINST = ("torch", "onnxruntime", "litert", "reference", *STRATEGIES)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    budget = Budget()
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Time recurray's LSTM side by side with other libraries', in one process, on the same numbers.\n"
        "Results are compared first, and only those that agree are timed. Training is a forward pass and\n"
        "the gradients of the input and of all params. All sizes take about a quarter of an hour.\n"
        "\n"
        "bench cells times every cell and every option of the LSTM beside the plain LSTM instead, at one size\n"
        "if no other is asked for; that takes about two minutes.\n"
        "\n"
        "bench memory measures the memory that training takes on NumPy, at a large size and for 1,000 to\n"
        "100,000 steps if no others are asked for; that takes about five minutes.\n"
        "\n"
        "bench loop measures what recurray.fit adds to forward, backward and step; that takes half a minute.\n"
        "\n"
        "bench optimizers times the optimizers' steps and clip_grad_norm on an LSTM's params beside PyTorch's;\n"
        "that takes about a minute.\n"
        "\n"
        "bench import measures what importing recurray costs beside NumPy; that takes about a minute."
    )
    parser.epilog = "sizes, as B x T x I x H (batch, steps, input, hidden):\n" + "".join(
        f"  {number:2} {name:17} {problem.name}\n" for number, (name, problem) in enumerate(PROBLEMS.items(), start=1)
    )
    parser.add_argument(
        "what",
        nargs="?",
        choices=["layers", "cells", "memory", "loop", "optimizers", "import"],
        default="layers",
        help="layers: a layer against other libraries' (default); cells: recurray's cells against its plain LSTM; "
        "memory: what training takes of it, and of time, as sequences grow; loop: recurray.fit against a bare loop; "
        "optimizers: their steps against PyTorch's; "
        "import: the time that importing takes",
    )
    parser.add_argument(
        "--sizes",
        nargs="+",
        metavar="SIZE",
        help=f"names or numbers from the list below, {', '.join(GROUPS)}, or B,T,I,H (default: all, on a GPU gpu; "
        f"for cells {cells.SIZES[0]}; for memory {', '.join(memory.SIZES)}; for loop "
        f"and optimizers {' and '.join(loop.SIZES)})",
    )
    parser.add_argument("--mode", choices=[*MODES, "both"], help="what to time (default: both)")
    parser.add_argument(
        "--threads",
        nargs="+",
        type=_positive_integer,
        metavar="N",
        help="the numbers of threads that all have alike (default: 1, and 2 where there are 2 cores)",
    )
    parser.add_argument(
        "--dtype",
        nargs="+",
        choices=DTYPES,
        help="the precisions (default: each size's own, mostly float32); float16 and bfloat16, on a GPU, are what "
        "recurray's products round to, and what all of PyTorch's arrays are",
    )
    parser.add_argument("--layer", choices=list(KINDS), help="the layer (default: each size's own, mostly lstm)")
    options.add_backend(parser)
    parser.add_argument(
        "--engine",
        metavar="NAME",
        help="what runs recurrences on the numpy backend: numpy, or native, the compiled engine (default: the engine, "
        "where it is installed)",
    )
    parser.add_argument(
        "--strategy",
        choices=["default", "auto", *STRATEGIES, "reference"],
        help="on the cupy backend, how recurrences run (default: step or fused, whichever is estimated to be faster)",
    )
    parser.add_argument(
        "--against",
        nargs="+",
        choices=AGAINST,
        metavar="NAME",
        help="whom to compare with: torch (on the GPU with the cupy backend, else on the CPU), onnxruntime, litert, "
        "reference (recurray's own path for any array library), and on the cupy backend recurray by another strategy, "
        "persistent, step or fused; default: torch and onnxruntime, where they are installed, and on a GPU torch",
    )
    parser.add_argument(
        "--frozen",
        action="store_true",
        default=None,
        help="in mode forward, time recurray's layers frozen, as they are for inference alone",
    )
    parser.add_argument(
        "--repeats",
        type=_positive_integer,
        metavar="N",
        help=f"turns that each has on a size (default: {budget.repeats}; for import {imports.REPEATS})",
    )
    parser.add_argument(
        "--seconds",
        type=_positive_number,
        default=budget.seconds,
        metavar="S",
        help="begin no turn later than this, after the first three (default: %(default)g)",
    )
    parser.add_argument(
        "--clock",
        choices=list(CLOCKS),
        default=budget.clock,
        help="cpu: the process's own CPU time, better on a busy machine, for one thread only (default: %(default)s)",
    )
    parser.add_argument(
        "--recompute",
        nargs="+",
        type=_number_or_sqrt,
        metavar="K",
        help="for memory: measure layers too that keep states only every K steps, or sqrt, and compute the rest again",
    )
    parser.add_argument(
        "--busy",
        type=_positive_integer,
        metavar="N",
        help="run N processes beside that keep processors busy, as on a machine that does other work",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all times to a JSON file")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the ratios to a picture (needs matplotlib)")
    parser.add_argument(
        "--compare",
        type=Path,
        metavar="FILE",
        help="show the change since a run that was saved by --json, marked where it is beyond the spread",
    )


def _positive_integer(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def _positive_number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def _number_or_sqrt(text: str) -> str | int:
    if text == "sqrt":
        return text
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected sqrt or a whole number of at least 1, got {text!r}")
    return int(text)
