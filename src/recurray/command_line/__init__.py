"""The command ``recurray``: train, sample, forecast, info, inspect, convert, bench.

Exit codes: 0 done, 1 failed, 2 wrong usage or something to install first, 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module

import recurray
from recurray.command_line.failure import Failure
from recurray.command_line.output import say, standard_streams
from recurray.language_model.errors import LanguageModelError

# name: (the module that has add_arguments(parser) and run(args) -> exit code, what the command does)
_COMMANDS = {
    "train": ("recurray.command_line.train", "train a character language model on a text"),
    "sample": ("recurray.command_line.sample", "write text with a trained model"),
    "forecast": ("recurray.command_line.forecast", "forecast a column of a CSV file, measured beside simple forecasts"),
    "info": ("recurray.command_line.info", "show versions, backends and devices, and what is missing"),
    "inspect": ("recurray.command_line.inspect", "show what a model file holds, and what of it would load"),
    "convert": ("recurray.command_line.convert", "convert a model file of another library, or to one"),
    "bench": ("recurray.benchmarks.command", "measure speed"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments after the program's name; those of the process if omitted.

    Returns
    -------
    int
        The exit code.
    """
    with standard_streams(), warnings.catch_warnings():
        return _run(list(sys.argv[1:] if argv is None else argv))


def _run(arguments: list[str]) -> int:
    try:
        args = _parse(arguments)
    except SystemExit as stop:  # argparse has printed the help or what is wrong
        return stop.code if isinstance(stop.code, int) else 2
    warnings.showwarning = lambda message, *_, **__: say(f"recurray {args.command}: warning: {message}\n", sys.stderr)
    try:
        code = int(args.run(args))
        sys.stdout.flush()  # here, where a broken pipe is dealt with
        return code
    except Failure as failure:
        if isinstance(failure.__cause__, OSError):
            _drop_output()
        return _fail(args.command, str(failure), failure.code)
    except LanguageModelError as error:
        return _fail(args.command, str(error), 1)
    except recurray.BackendUnavailableError as error:  # the message says what to install
        return _fail(args.command, str(error), 2)
    except MemoryError as error:
        return _fail(args.command, f"out of memory: {error}" if str(error) else "out of memory", 1)
    except KeyboardInterrupt:
        return _fail(args.command, "interrupted", 130)
    except BrokenPipeError:  # whoever read the output has had enough
        _drop_output()
        return 1
    except OSError as error:  # the output can't be written: to a full disk, say
        _drop_output()
        return _fail(args.command, str(error), 1)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="recurray", description=recurray.__doc__)
    parser.add_argument("--version", action="version", version=f"recurray {recurray.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    # Only the command that is asked for is imported: the others may need what isn't installed, and take time.
    wanted = next((argument for argument in arguments if not argument.startswith("-")), None)
    for name, (module_name, summary) in _COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        if name == wanted:
            module = import_module(module_name)
            module.add_arguments(command)
            command.set_defaults(run=module.run, words=arguments)
    return parser.parse_args(arguments)


def _drop_output() -> None:
    """Send what is left in stdout's buffer nowhere, or Python would fail once more when it flushes it at its end."""
    with contextlib.suppress(OSError):  # a stdout that isn't a file has no number
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(command: str, message: str, code: int) -> int:
    say(f"recurray {command}: {message}\n", sys.stderr)
    return code
