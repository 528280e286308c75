"""``recurray forecast``: how a column of a CSV file goes on."""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

from recurray import TrainingError, plot
from recurray.command_line import blas_threads, options
from recurray.command_line.failure import Failure
from recurray.command_line.output import say
from recurray.files import Destination
from recurray.forecast import Forecast, Forecaster, Series
from recurray.forecast.learning import LAYERS
from recurray.forecast.scaling import NAMES
from recurray.forecast.series import DUPLICATES, MISSING
from recurray.forecast.times import written
from recurray.forecast.windows import RELATIVE

_LEAST_WIDTH, _NO_END = 20, 1000  # columns

# The options of Forecaster that the command has by the same names.
_MODEL = {
    "window": (int, "steps that are read (default: two seasons, or 24 and two horizons)"),
    "season": (int, "steps after which the series is as it was, 0 for none (default: what is usual for the times)"),
    "hidden_size": (int, "units of the recurrent layer"),
    "num_layers": (int, "recurrent layers"),
    "dropout": (float, "between layers"),
    "epochs": (int, "most passes over the windows"),
    "batch_size": (int, "windows to an update"),
    "lr": (float, "learning rate"),
    "validation": (float, "share of the steps, the last ones, that tell when to stop"),
    "patience": (int, "epochs without a better validation after which training ends"),
    "seed": (int, "the same seed gives the same forecast"),
}
# Those that it can do without.
_WITHOUT = {
    "ridge": "a network that says all by itself, instead of one that corrects Ridge regression",
    "calibrate": "quantiles as the network says them, not moved by what it said of windows for validation",
}
_OTHERS = ("layer", "quantiles", "scaler", "log", "relative_to", *_WITHOUT)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("data", metavar="DATA.csv", type=options.path, help="the series; - for standard input")
    parser.add_argument("--target", metavar="COLUMN", help="the column that is forecast")
    parser.add_argument("--horizon", metavar="N", type=int, help="how many steps are forecast")
    group = parser.add_argument_group("columns")
    group.add_argument("--past", nargs="+", default=[], metavar="COLUMN", help="inputs that are known up to now")
    group.add_argument("--known", nargs="+", default=[], metavar="COLUMN", help="inputs that are known in advance")
    group.add_argument(
        "--future", metavar="FILE", type=options.path, help="a CSV file with the known columns of the steps to come"
    )
    group.add_argument(
        "--time", metavar="COLUMN", help="the column with the times (default: the first, if it has such)"
    )
    group.add_argument("--no-time", action="store_true", help="there are no times")
    group.add_argument("--time-format", metavar="FORM", help="how they are written, as %%d/%%m/%%Y")
    group = parser.add_argument_group("what isn't as it should be")
    group.add_argument(
        "--missing", choices=MISSING, default="error", help="gaps in values and in times (default: error)"
    )
    group.add_argument(
        "--duplicates", choices=DUPLICATES, default="error", help="rows of the same time (default: error)"
    )
    group.add_argument("--sort", action="store_true", help="bring rows into the order of their times")
    group.add_argument("--names", nargs="+", metavar="NAME", help="the names of the columns of a file without a header")
    group.add_argument(
        "--delimiter", metavar="SIGN", help="what stands between columns (default: told from the first line)"
    )
    group.add_argument("--decimal", choices=[".", ","], default=".", help="what stands before decimals")
    group = parser.add_argument_group("model")
    group.add_argument("--layer", choices=LAYERS, help="the recurrent layer (default: LSTM)")
    for name, (kind, text) in _MODEL.items():
        group.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar="N" if kind is int else "X", help=text)
    group.add_argument("--quantiles", nargs="+", type=float, metavar="Q", help="levels (default: 0.1 0.5 0.9)")
    group.add_argument("--scaler", choices=NAMES, help="how columns are scaled (default: standard)")
    group.add_argument("--log", action="store_true", default=None, help="learn the target's logarithm")
    group.add_argument(
        "--relative-to", choices=RELATIVE, help="what the target is told relative to (default: the season)"
    )
    for name, text in _WITHOUT.items():
        group.add_argument(f"--no-{name}", dest=name, action="store_false", default=None, help=text)
    options.add_backend(group)
    group = parser.add_argument_group("back-test")
    group.add_argument(
        "--folds", type=int, default=5, metavar="N", help="origins to forecast from, 0 for none (default: 5)"
    )
    group.add_argument("--every", type=int, metavar="N", help="steps between them (default: the horizon)")
    group.add_argument("--refit", action="store_true", help="train before each origin, not before the first alone")
    group = parser.add_argument_group("files")
    group.add_argument("--out", metavar="FILE", type=options.path, help="write the forecast there, as CSV")
    group.add_argument("--plot", metavar="FILE", type=options.path, help="draw it there, as .png, .svg or .pdf")
    group.add_argument("--save", metavar="FILE", type=options.path, help="write the trained model there")
    group.add_argument(
        "--model", metavar="FILE", type=options.path, help="forecast with a model of --save: no training"
    )
    group.add_argument("--force", action="store_true", help="replace files that are there")
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def run(args: argparse.Namespace) -> int:
    """Read, measure, train, forecast, and return the exit code."""
    _check(args)
    try:
        forecaster = _forecaster(args)
        fitted = forecaster.fitted_to if args.model else None
        series = Series.from_csv(
            args.data,
            target=fitted.target if fitted else args.target,
            past=fitted.past if fitted else args.past,
            known=fitted.known if fitted else args.known,
            **_reading(args),
            missing=args.missing,
            duplicates=args.duplicates,
            sort=args.sort,
        )
        future = _future(args, series)
        say(_filled(repr(series)))
        with blas_threads.limited(blas_threads.by_default()):
            if not args.model:
                if args.folds:
                    measured = forecaster.backtest(
                        series, folds=args.folds, every=args.every, refit=args.refit, progress=not args.quiet
                    )
                    say("\n" + "".join(map(_filled, str(measured).splitlines())))
                forecaster.fit(series, progress=not args.quiet)
            forecast = forecaster.predict(series, future)
    except ImportError as error:
        raise Failure(str(error), code=2) from None
    except TrainingError as error:
        raise Failure(str(error)) from None
    except (ValueError, TypeError) as error:
        raise Failure(_as_options(str(error))) from None
    say(f"\n{_table(forecast)}")
    _write(args, forecaster, forecast)
    return 0


def _check(args: argparse.Namespace) -> None:
    """Refuse what doesn't go together, and files that are there, before any work."""
    if args.model:
        given = [
            f"no-{name}" if name in _WITHOUT else name
            for name in (*_MODEL, *_OTHERS)
            if getattr(args, name) is not None
        ]
        given += [
            name for name in ("target", "horizon", "past", "known", "save", "refit", "every") if getattr(args, name)
        ]
        if given:
            raise Failure(f"--model has what --{given[0].replace('_', '-')} says: leave that out", code=2)
    else:
        for name in ("target", "horizon"):
            if getattr(args, name) is None:
                raise Failure(f"--{name} is missing", code=2)
    if args.folds < 0:
        raise Failure("--folds must be at least 0", code=2)
    if args.time and args.no_time:
        raise Failure("--time and --no-time are given both", code=2)
    if args.plot:
        options.need("matplotlib", "plot", "--plot")
        if Path(args.plot).suffix.lower() not in (".png", ".svg", ".pdf"):
            raise Failure(f"--plot must end with .png, .svg or .pdf, not {args.plot}", code=2)
    files = [Path(path).resolve() for path in (args.out, args.plot, args.save) if path]
    if len(set(files)) < len(files):
        raise Failure("--out, --plot and --save must be files that differ", code=2)
    read = [Path(path).resolve() for path in (args.data, args.future, args.model) if path and path != "-"]
    for file in files:
        if file in read:
            raise Failure(f"{file} is read: give another file to write", code=2)
        if file.exists() and not args.force:
            raise Failure(f"{file} exists: give another name, or --force to replace it", code=2)
        with Destination(file) as destination:  # an OSError says which can't be written
            destination.check(size=1)


def _forecaster(args: argparse.Namespace) -> Forecaster:
    backend = options.backend(args.backend)
    if args.model:
        return Forecaster.load(args.model, backend)
    given = {name: getattr(args, name) for name in (*_MODEL, *_OTHERS) if getattr(args, name) is not None}
    return Forecaster(args.horizon, backend=backend, **given)


def _reading(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "delimiter": args.delimiter,
        "decimal": args.decimal,
        "names": args.names,
        "time": False if args.no_time else args.time,
        "time_format": args.time_format,
    }


def _future(args: argparse.Namespace, series: Series) -> dict[str, Any] | None:
    """The known columns of the steps to come."""
    if not series.known:
        if args.future:
            raise Failure("--future is for columns that are known in advance: name them with --known", code=2)
        return None
    if not args.future:
        raise Failure(
            f"--future FILE is missing: the columns {', '.join(series.known)} are known in advance, so say what they "
            "will be",
            code=2,
        )
    first, *others = series.known
    ahead = Series.from_csv(args.future, target=first, known=others, **_reading(args))
    expected = series.times_after(1)
    if expected is not None and ahead.times is not None and ahead.times[0] != expected[0]:
        texts = written(np.append(expected, ahead.times[:1]))
        raise Failure(f"{args.future}: its first time must be {texts[0]}, the next one of {args.data}, not {texts[1]}")
    return dict(ahead.columns)


def _table(forecast: Forecast) -> str:
    """The forecast in columns; where the terminal is too narrow without the innermost quantiles."""
    rows = forecast.rows()
    names = [name for name in rows[0] if name != "q0.5"]
    numbers = np.asarray([[row[name] for name in names[1:]] for row in rows])
    largest = float(np.abs(numbers).max(initial=0.0)) or 1.0
    digits = int(min(6, max(0, 4 - np.floor(np.log10(largest))))) if np.isfinite(largest) else 2
    table = [names, *([row[names[0]], *(f"{row[name]:.{digits}f}" for name in names[1:])] for row in rows)]
    widths: list[Any] = [max(map(len, column)) for column in zip(*table, strict=True)]
    while len(widths) > 2 and sum(widths) + 2 * (len(widths) - 1) > _columns():
        inner = 2 + (len(widths) - 2) // 2 if len(widths) > 3 else 2
        for row in (*table, widths):
            del row[inner]
    lines = []
    for first, *rest in table:
        cells = [first.ljust(widths[0]), *(text.rjust(width) for text, width in zip(rest, widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines) + "\n"


def _filled(text: str) -> str:
    """Text that is cut into lines where the terminal is too narrow for it."""
    return (text if len(text) <= _columns() else fill(text, _columns(), subsequent_indent="  ")) + "\n"


def _columns() -> int:
    """How many columns there are to write in."""
    return max(_LEAST_WIDTH, shutil.get_terminal_size().columns) if sys.stdout.isatty() else _NO_END


def _write(args: argparse.Namespace, forecaster: Forecaster, forecast: Forecast) -> None:
    writers: dict[str, Callable[[str], object]] = {
        "out": forecast.to_csv,
        "plot": lambda path: _draw(forecast, path),
        "save": forecaster.save,
    }
    for name, write in writers.items():
        if path := getattr(args, name):
            write(path)
            say(f"written: {path}\n")


def _draw(forecast: Forecast, path: str) -> None:
    from recurray.plot.drawing import save

    save(plot.forecast(forecast), Path(path))


def _as_options(text: str) -> str:
    """An error's text with the command's options in the place of arguments."""
    text = re.sub(r'\b(missing|duplicates|decimal|names|delimiter|relative_to|time_format)=("[^"]*")', _option, text)
    return re.sub(r"\b(season|sort)=(\w+)", _option, text)


def _option(found: re.Match[str]) -> str:
    value = found[2].strip('"')
    value = "" if value == "True" else f" {value}"
    return f"--{found[1].replace('_', '-')}{value if value.isascii() and '%' not in value else f' {found[2]}'}"
