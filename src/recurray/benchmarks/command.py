"""The command ``recurray bench``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from types import ModuleType
from typing import Any, TypeVar

import recurray as rr
from recurray import blas, files, install, processors
from recurray.benchmarks import (
    busy,
    cells,
    compare,
    imports,
    loop,
    machine,
    memory,
    optimizers,
    record,
    summary,
    tables,
)
from recurray.benchmarks.arguments import AGAINST, STRATEGIES, add_arguments
from recurray.benchmarks.contenders import Contender, LiteRT, OnnxRuntime, Own, PyTorch, Reference, on_device
from recurray.benchmarks.measure import measure
from recurray.benchmarks.problems import MODES, Problem, select
from recurray.benchmarks.results import Case, Report
from recurray.benchmarks.timing import Budget
from recurray.command_line import options
from recurray.command_line.failure import Failure
from recurray.plot import bench, drawing

__all__ = ["add_arguments", "run"]

T = TypeVar("T")

_INTERRUPTED = 130
_UNFIT = {  # options that make no sense, by what is measured
    "layers": ("recompute",),
    "cells": ("against", "json", "plot", "compare", "layer", "recompute", "frozen"),
    "memory": ("against", "json", "plot", "compare", "mode", "strategy", "frozen"),
    "loop": ("against", "json", "plot", "compare", "mode", "layer", "recompute", "dtype", "frozen"),
    "optimizers": ("against", "json", "plot", "compare", "mode", "layer", "recompute", "dtype", "strategy", "frozen"),
    "import": (
        "against",
        "json",
        "plot",
        "compare",
        "mode",
        "layer",
        "recompute",
        "sizes",
        "threads",
        "dtype",
        "strategy",
        "frozen",
    ),
}


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
    unfit = [option for option in _UNFIT[args.what] if getattr(args, option) is not None]
    if unfit:
        raise Failure(f"bench {args.what} has no --{unfit[0]}", code=2)
    if args.what == "import":
        with busy.processes(args.busy or 0):
            return _run_import(args)
    backend = options.backend(args.backend, engine=args.engine, strategy=args.strategy)
    own = Own(backend, frozen=bool(args.frozen))
    on_gpu = own.backend.name == "cupy"
    own_sizes = {"cells": cells.SIZES, "memory": memory.SIZES, "loop": loop.SIZES, "optimizers": optimizers.SIZES}
    sizes = args.sizes or own_sizes.get(args.what, ["gpu" if on_gpu else "all"])
    try:
        problems = select(sizes, "lstm" if args.what == "cells" else args.layer, args.dtype)
    except ValueError as error:
        raise Failure(f"--sizes: {error}", code=2) from None
    if not on_gpu and any(problem.compute_dtype for problem in problems):
        raise Failure("--dtype: float16 and bfloat16 are for a GPU: use them with --backend cupy", code=2)
    for name in args.against or ():
        if name in STRATEGIES and not on_gpu:
            raise Failure(f"--against {name}: a strategy is for a GPU: use it with --backend cupy", code=2)
    options.need("threadpoolctl", "bench", "fixing the number of threads")
    repeats, pause = args.repeats or Budget().repeats, 0.0 if on_gpu else Budget().pause  # only hosts' threads spin
    budget = Budget(repeats=repeats, seconds=args.seconds, pause=pause, clock=args.clock)
    what = {
        "layers": _run_layers,
        "cells": _run_cells,
        "memory": _run_memory,
        "loop": _run_loop,
        "optimizers": _run_optimizers,
    }
    with busy.processes(args.busy or 0):
        return what[args.what](args, own, problems, budget)


def _run_layers(args: argparse.Namespace, own: Own, problems: Sequence[Problem], budget: Budget) -> int:
    """Measure layers against other libraries', print the table and write the files."""
    others, missing = _others(args.against, own.backend)
    if args.plot is not None and not others:
        raise Failure("--plot: there is nobody to compare with", code=2)
    old = _check_files(args)
    cases = _cases(args, problems, own.backend)
    report = Report(_facts(own, others, args), [])
    sys.stdout.write(tables.heading(report) + "".join(f"- {line}\n" for line in missing) + "\n")
    sys.stdout.flush()
    interrupted = False
    try:
        for case in _announced(cases):
            report.results.append(measure(case, own, others, budget))
    except KeyboardInterrupt:
        interrupted = True
    finally:  # after any error too, the table so far
        _show(report, args, old)
    if interrupted:
        sys.stderr.write(f"interrupted after {len(report.results)} of {len(cases)}\n")
        return _INTERRUPTED
    return 1 if any(result.differs for result in report.results) else 0


def _run_cells(args: argparse.Namespace, own: Own, problems: Sequence[Problem], budget: Budget) -> int:
    """Measure recurray's cells, and print the table."""
    cases = _cases(args, problems, own.backend, default_threads=[1])
    _head(args, own)
    pairs = [(case, variant) for case in cases for variant in cells.VARIANTS]
    names = [f"{variant.name}: {case}" for case, variant in pairs]
    found = (cells.measure(case, variant, own, budget) for case, variant in _announced(pairs, names))
    return _collected(([] if result is None else [result] for result in found), cells)


def _run_memory(args: argparse.Namespace, own: Own, problems: Sequence[Problem], budget: Budget) -> int:
    """Measure the memory and the time of training, and print the table."""
    if own.backend.name != "numpy" or args.engine not in (None, "numpy"):
        raise Failure("bench memory measures NumPy alone: use it with --backend numpy and --engine numpy", code=2)
    recomputes = args.recompute or []
    cases = _cases(args, problems, own.backend, modes=("training",), default_threads=[1])
    for case in cases:
        for recompute in recomputes:
            try:
                memory.layer(case.problem, recompute)
            except (TypeError, ValueError) as error:
                raise Failure(f"--recompute: {error}", code=2) from None
    _head(args, memory.contender(None))
    return _collected((memory.measure(case, recomputes, budget) for case in _announced(cases)), memory)


def _run_loop(args: argparse.Namespace, own: Own, problems: Sequence[Problem], budget: Budget) -> int:
    """Measure the training loop beside a bare one, and print the table."""
    cases = _cases(args, problems, own.backend, modes=("training",), default_threads=[1])
    _head(args, own)
    return _collected(([loop.measure(case, own, budget)] for case in _announced(cases)), loop)


def _run_optimizers(args: argparse.Namespace, own: Own, problems: Sequence[Problem], budget: Budget) -> int:
    """Measure the steps of optimizers, and print the table."""
    cases = _cases(args, problems, own.backend, modes=("training",), default_threads=[1])
    _head(args, own)
    return _collected((optimizers.measure(case, own, budget, _progress) for case in cases), optimizers)


def _collected(measured: Iterable[Sequence[Any]], what: ModuleType) -> int:
    """Measure, and print the table of what there is, after an interruption or an error too; return the exit code."""
    results: list[Any] = []
    try:
        for some in measured:
            results += some
    except KeyboardInterrupt:
        return _INTERRUPTED
    finally:
        sys.stdout.write(f"{what.table(results)}\n{what.NOTES}" if results else "")
    return 1 if any(getattr(result, "differs", None) for result in results) else 0


def _run_import(args: argparse.Namespace) -> int:
    """Measure imports, and print the table."""
    _head(args, Own("numpy"))
    repeats = args.repeats or imports.REPEATS
    times = imports.measure(repeats, args.clock, lambda turn: _progress(f"{turn}/{repeats}"))
    sys.stdout.write(f"{imports.table(times)}\n{imports.NOTES}")
    return 0


def _head(args: argparse.Namespace, own: Own) -> None:
    sys.stdout.write(tables.heading(Report(_facts(own, [], args), [])) + "\n")
    sys.stdout.flush()


def _announced(jobs: Sequence[T], names: Sequence[Any] | None = None) -> Iterator[T]:
    """Say of each job, before it is done, which it is."""
    for number, (job, name) in enumerate(zip(jobs, names or jobs, strict=True), start=1):
        _progress(f"{number}/{len(jobs)} {name}")
        yield job


def _progress(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _cases(
    args: argparse.Namespace,
    problems: Sequence[Problem],
    backend: rr.Backend,
    modes: Sequence[str] | None = None,
    default_threads: Sequence[int] | None = None,
) -> list[Case]:
    """Return every problem in every mode and with every number of threads that it is wanted in."""
    modes = modes or (MODES if args.mode in (None, "both") else (args.mode,))
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
        raise Failure(f"--sizes: none of {names} has the mode {' or '.join(modes)}", code=2)
    return cases


def _others(wanted: Sequence[str] | None, backend: rr.Backend) -> tuple[list[Contender], list[str]]:
    """Whom to compare with, and a line for each that is missing."""
    on_gpu = backend.name == "cupy"
    known: dict[str, Contender] = {
        contender.name: contender
        for contender in (PyTorch("cuda" if on_gpu else "cpu"), OnnxRuntime(), LiteRT(), Reference(backend))
    }
    if on_gpu:
        known |= {strategy: Own(on_device(backend, strategy=strategy), strategy) for strategy in STRATEGIES}
    others, missing = [], []
    for name in dict.fromkeys(wanted or (AGAINST[:1] if on_gpu else AGAINST[:2])):
        contender = known[name]
        absent = [package for package in contender.packages if find_spec(package) is None]
        if absent and wanted:
            options.need(absent[0], "bench", f"--against {name}")
        if absent:
            missing.append(f"{' and '.join(absent)} missing: no times of {name}; {install.with_extra('bench')}")
        elif (why := contender.unavailable()) is not None:
            if wanted:
                raise Failure(f"--against {name}: {why}", code=2)
            missing.append(f"no times of {name}: {why}")
        else:
            others.append(contender)
    return others, missing


def _threads(args: argparse.Namespace, backend: rr.Backend, default: Sequence[int] | None = None) -> list[int]:
    """The numbers of threads; on a device one is enough, for what the host does."""
    on_host = backend.name == "numpy"
    several = on_host and args.clock == "wall" and processors.usable() > 1
    counts = list(dict.fromkeys(args.threads or default or ([1, 2] if several else [1])))
    if args.clock == "cpu" and (counts != [1] or not on_host):
        raise Failure("--clock cpu measures one thread on the CPU: use it with --threads 1 --backend numpy", code=2)
    return counts


def _check_files(args: argparse.Namespace) -> Report | None:
    """Find out before the measurement whether the files can be read and written; return the report to compare with."""
    for option, path in (("--json", args.json), ("--plot", args.plot)):
        if path is not None:
            try:
                with files.Destination(path) as destination:
                    destination.check(size=2**20)
            except OSError as error:
                raise Failure(f"{option}: {path} can't be written: {files.reason(error)}", code=2) from None
    if args.plot is not None:
        options.need("matplotlib", "bench", "--plot")
        if args.plot.suffix[1:].lower() not in drawing.formats():
            raise Failure(f"--plot: expected a name that ends in one of {', '.join(drawing.formats())}", code=2)
    if args.compare is None:
        return None
    try:
        return record.load(args.compare)
    except (OSError, ValueError) as error:
        raise Failure(f"--compare: {error}", code=2) from None


def _facts(own: Own, others: Sequence[Contender], args: argparse.Namespace) -> dict[str, str]:
    facts = {"command": machine.command(args.words)} | machine.facts()
    if blas.in_use().threads is None:
        facts["threads"] = "of NumPy's BLAS can't be set here: it has its own number"
    if args.busy:
        facts["busy"] = f"{args.busy} process{'es' * (args.busy > 1)} spin{'s' * (args.busy == 1)} beside"
    facts["clock"] = {"wall": "wall time", "cpu": "the process's CPU time"}[args.clock]
    on_gpu = own.backend.name == "cupy"
    facts["backend"] = f"{own.backend.name} on {own.backend.describe() if on_gpu else own.backend.device}"
    engine = getattr(own.backend, "engine", "numpy")
    if engine != "numpy":
        facts["engine"] = f"{engine}, {getattr(own.backend, 'description', '')}"
    return facts | {contender.name: says for contender in others if (says := contender.describe())}


def _show(report: Report, args: argparse.Namespace, old: Report | None) -> None:
    """Print the results and write the files."""
    if not report.results:
        return
    parts = [tables.results_table(report), summary.summary_table(report), tables.notes(report)]
    sys.stdout.write("\n".join(part for part in parts if part))
    if old is not None:
        lines = "".join(f"{line}\n" for line in compare.differences(old, report))
        sys.stdout.write(f"\nSince {args.compare} of {old.facts.get('date', 'an unknown date')}:\n{lines}\n")
        sys.stdout.write(compare.comparison_table(old, report))
    sys.stdout.flush()
    try:
        if args.json is not None:
            record.save(report, args.json)
        if args.plot is not None:
            drawing.save(bench(report), args.plot)
    except OSError as error:
        raise Failure(f"the results above couldn't be saved: {error}") from None
