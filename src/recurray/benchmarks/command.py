"""The command ``recurray bench``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import recurray as rr
from recurray.benchmarks import cells, compare, machine, plot, record, tables
from recurray.benchmarks.contenders import Contender, OnnxRuntime, Own, PyTorch, Reference
from recurray.benchmarks.kinds import KINDS
from recurray.benchmarks.measure import measure
from recurray.benchmarks.problems import MODES, PROBLEMS, Problem, select
from recurray.benchmarks.results import Case, Report
from recurray.benchmarks.timing import CLOCKS, Budget
from recurray.command_line import options
from recurray.command_line.failure import Failure

_AGAINST = ("torch", "onnxruntime", "reference")
_SIZE_OF_CELLS = "32x100x128x256"
_INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    budget = Budget()
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Time recurray's LSTM side by side with other libraries', in one process, on the same numbers.\n"
        "Results are compared first, and only those that agree are timed. Training is a forward pass and\n"
        "the gradients of the input and of all params. All sizes take about ten minutes.\n"
        "\n"
        "bench cells times every cell and every option of the LSTM beside the plain LSTM instead, at one size\n"
        "if no other is asked for; that takes about two minutes."
    )
    parser.epilog = "sizes, as B x T x I x H (batch, steps, input, hidden):\n" + "".join(
        f"  {number:2} {name:17} {problem.name}\n" for number, (name, problem) in enumerate(PROBLEMS.items(), start=1)
    )
    parser.add_argument(
        "what",
        nargs="?",
        choices=["layers", "cells"],
        default="layers",
        help="layers: a layer against other libraries' (default); cells: recurray's cells against its plain LSTM",
    )
    parser.add_argument(
        "--sizes",
        nargs="+",
        metavar="SIZE",
        help=f"names or numbers from the list below, quick, all, or B,T,I,H (default: all; for cells {_SIZE_OF_CELLS})",
    )
    parser.add_argument("--mode", choices=[*MODES, "both"], default="both", help="what to time (default: %(default)s)")
    parser.add_argument(
        "--threads",
        nargs="+",
        type=_positive_integer,
        metavar="N",
        help="the numbers of threads that all have alike (default: 1, and 2 where there are 2 cores)",
    )
    parser.add_argument(
        "--dtype", choices=["float32", "float64"], help="the precision (default: each size's own, mostly float32)"
    )
    parser.add_argument("--layer", choices=list(KINDS), default="lstm", help="the layer (default: %(default)s)")
    options.add_backend(parser)
    parser.add_argument(
        "--engine",
        metavar="NAME",
        help="what runs recurrences on the numpy backend: numpy, or native, the compiled engine (default: the engine, "
        "where it is installed)",
    )
    parser.add_argument(
        "--against",
        nargs="+",
        choices=_AGAINST,
        metavar="NAME",
        help="whom to compare with: torch, onnxruntime, reference (recurray's own path for any array library); "
        "default: torch and onnxruntime, where they are installed",
    )
    parser.add_argument(
        "--repeats",
        type=_positive_integer,
        default=budget.repeats,
        metavar="N",
        help="turns that each has on a size (default: %(default)s)",
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
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all times to a JSON file")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the ratios to a picture (needs matplotlib)")
    parser.add_argument(
        "--compare",
        type=Path,
        metavar="FILE",
        help="show the change since a run that was saved by --json, marked where it is beyond the spread",
    )


def run(args: argparse.Namespace) -> int:
    """Measure, and print the table.

    Returns
    -------
    int
        0; 1 where a contender's numbers differ from recurray's; 130 where it was interrupted, after the table so far.

    Raises
    ------
    Failure
        An option can't be followed, or a package is missing.
    """
    sizes = args.sizes or ([_SIZE_OF_CELLS] if args.what == "cells" else ["all"])
    try:
        problems = select(sizes, args.layer, args.dtype)
    except ValueError as error:
        raise Failure(f"--sizes: {error}", code=2) from None
    options.need("threadpoolctl", "bench", "fixing the number of threads")
    backend = options.backend(args.backend, args.engine)
    own = Own(backend)
    if args.what == "cells":
        return _run_cells(args, own, problems)
    others, missing = _others(args.against, backend)
    if args.plot is not None and not others:
        raise Failure("--plot: there is nobody to compare with", code=2)
    old = _check_files(args)
    cases = _cases(args, problems, backend)
    report = Report(_facts(own, others, args.clock), [])
    sys.stdout.write(tables.heading(report) + "".join(f"{line}\n" for line in missing) + "\n")
    sys.stdout.flush()
    budget = Budget(repeats=args.repeats, seconds=args.seconds, clock=args.clock)
    interrupted = False
    try:
        for number, case in enumerate(cases, start=1):
            sys.stderr.write(f"{number}/{len(cases)} {case}\n")
            sys.stderr.flush()
            report.results.append(measure(case, own, others, budget))
    except KeyboardInterrupt:
        interrupted = True
    finally:  # after any error too, the table so far
        _show(report, args, old)
    if interrupted:
        sys.stderr.write(f"interrupted after {len(report.results)} of {len(cases)}\n")
        return _INTERRUPTED
    return 1 if any(result.differs for result in report.results) else 0


def _run_cells(args: argparse.Namespace, own: Own, problems: Sequence[Problem]) -> int:
    """Measure recurray's cells, and print the table."""
    unfit = [option for option in ("against", "json", "plot", "compare") if getattr(args, option) is not None]
    unfit += ["layer"] if args.layer != "lstm" else []
    if unfit:
        raise Failure(f"bench cells has no --{unfit[0]}", code=2)
    cases = _cases(args, problems, own.backend, default_threads=[1])
    sys.stdout.write(tables.heading(Report(_facts(own, [], args.clock), [])) + "\n")
    sys.stdout.flush()
    budget = Budget(repeats=args.repeats, seconds=args.seconds, clock=args.clock)
    results: list[cells.Measured] = []
    interrupted = False
    try:
        for case in cases:
            for number, variant in enumerate(cells.VARIANTS, start=1):
                sys.stderr.write(f"{number}/{len(cells.VARIANTS)} {variant.name}: {case}\n")
                sys.stderr.flush()
                result = cells.measure(case, variant, own, budget)
                results += [] if result is None else [result]
    except KeyboardInterrupt:
        interrupted = True
    finally:
        sys.stdout.write(f"{cells.table(results)}\n{cells.NOTES}")
    return _INTERRUPTED if interrupted else 0


def _cases(
    args: argparse.Namespace,
    problems: Sequence[Problem],
    backend: rr.Backend,
    default_threads: Sequence[int] | None = None,
) -> list[Case]:
    """Return every problem in every mode and with every number of threads that it is wanted in."""
    modes = MODES if args.mode == "both" else (args.mode,)
    counts = _threads(args, backend, default_threads)
    cases = [
        Case(problem, mode, threads)
        for problem in problems
        for mode in modes
        if mode in problem.modes
        for threads in counts
    ]
    if not cases:
        names = ", ".join(problem.name for problem in problems)
        raise Failure(f"--sizes: none of {names} has the mode {args.mode}", code=2)
    return cases


def _others(wanted: Sequence[str] | None, backend: rr.Backend) -> tuple[list[Contender], list[str]]:
    """Whom to compare with, and a line for each that is missing."""
    known: dict[str, Contender] = {
        contender.name: contender for contender in (PyTorch(), OnnxRuntime(), Reference(backend))
    }
    others, missing = [], []
    for name in dict.fromkeys(wanted or _AGAINST[:2]):
        contender = known[name]
        absent = [package for package in contender.packages if find_spec(package) is None]
        if absent and wanted:
            options.need(absent[0], "bench", f"--against {name}")
        if absent:
            missing.append(f'{" and ".join(absent)} missing: no times of {name}; pip install "recurray[bench]"')
        else:
            others.append(contender)
    return others, missing


def _threads(args: argparse.Namespace, backend: rr.Backend, default: Sequence[int] | None = None) -> list[int]:
    """The numbers of threads; on a device one is enough, for what the host does."""
    on_host = backend.name == "numpy"
    several = on_host and args.clock == "wall" and machine.usable_cores() > 1
    counts = list(dict.fromkeys(args.threads or default or ([1, 2] if several else [1])))
    if args.clock == "cpu" and (counts != [1] or not on_host):
        raise Failure("--clock cpu measures one thread on the CPU: use it with --threads 1 --backend numpy", code=2)
    return counts


def _check_files(args: argparse.Namespace) -> Report | None:
    """Find out before the measurement whether the files can be read and written; return the report to compare with."""
    for option, path in (("--json", args.json), ("--plot", args.plot)):
        if path is not None and not path.absolute().parent.is_dir():
            raise Failure(f"{option}: there is no folder {path.absolute().parent}", code=2)
        if path is not None and (path.is_dir() or not os.access(path.absolute().parent, os.W_OK)):
            raise Failure(f"{option}: {path} can't be written", code=2)
    if args.plot is not None:
        options.need("matplotlib", "bench", "--plot")
        if args.plot.suffix[1:].lower() not in plot.formats():
            raise Failure(f"--plot: expected a name that ends in one of {', '.join(plot.formats())}", code=2)
    if args.compare is None:
        return None
    try:
        return record.load(args.compare)
    except (OSError, ValueError) as error:
        raise Failure(f"--compare: {error}", code=2) from None


def _facts(own: Own, others: Sequence[Contender], clock: str) -> dict[str, str]:
    facts = machine.facts()
    advice = machine.kernel_advice()
    if advice is not None:
        facts["advice"] = advice
    if machine.blas().threads is None:
        facts["threads"] = "of NumPy's BLAS can't be set here: it has its own number"
    facts["clock"] = {"wall": "wall time", "cpu": "the process's CPU time"}[clock]
    facts["backend"] = f"{own.backend.name} on {own.backend.device}"
    engine = getattr(own.backend, "engine", None)
    if engine is not None:
        facts["engine"] = f"{engine.name}, {engine.description}"
    return facts | {contender.name: says for contender in others if (says := contender.describe())}


def _show(report: Report, args: argparse.Namespace, old: Report | None) -> None:
    """Print the results and write the files."""
    if not report.results:
        return
    sys.stdout.write(tables.results_table(report) + "\n" + tables.notes(report))
    if old is not None:
        lines = "".join(f"{line}\n" for line in compare.differences(old, report))
        sys.stdout.write(f"\nSince {args.compare} of {old.facts.get('date', 'an unknown date')}:\n{lines}\n")
        sys.stdout.write(compare.comparison_table(old, report))
    sys.stdout.flush()
    try:
        if args.json is not None:
            record.save(report, args.json)
        if args.plot is not None:
            plot.draw(report, args.plot)
    except OSError as error:
        raise Failure(f"the results above couldn't be saved: {error}") from None


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
