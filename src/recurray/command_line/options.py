"""What the commands' options share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import recurray
from recurray import install
from recurray.command_line.failure import Failure
from recurray.language_model.settings import Number
from recurray.selector import backend_names


def number(allowed: Number) -> Callable[[str], Any]:
    """Return a type for argparse whose messages say what was expected."""

    def parse(text: str) -> Any:
        try:
            return allowed.parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse


def path(text: str) -> str:
    """Check a path for argparse: an empty one, of a variable that isn't set, would pass for none at all."""
    if not text:
        raise argparse.ArgumentTypeError("expected a path, got an empty text")
    return text


def add_backend(parser: argparse._ActionsContainer) -> None:
    """Add ``--backend``."""
    parser.add_argument(
        "--backend",
        choices=[*backend_names(), "auto"],
        help="where to compute; auto: on a CUDA device if there is one (default: $RECURRAY_BACKEND, else numpy)",
    )


def backend(name: str | None, **options: Any) -> recurray.Backend:
    """Return the backend that was asked for, with the options that were.

    Raises
    ------
    Failure
        The environment variable names a backend that doesn't exist, or the backend has no such option.
    recurray.BackendUnavailableError
        It can't run on this machine.
    """
    try:
        recurray.get_backend(name)
    except ValueError as error:  # argparse has checked --backend, so it is the variable
        raise Failure(f"RECURRAY_BACKEND: {error}", code=2) from None
    try:
        return recurray.get_backend(name, **options)
    except ValueError as error:
        raise Failure(str(error), code=2) from None


def need(package: str, extra: str, purpose: str) -> None:
    """Stop with what to install if ``package`` is missing.

    Raises
    ------
    Failure
        It is missing.
    """
    if find_spec(package) is None:
        raise Failure(f"{purpose} needs {package}, which is missing: {install.with_extra(extra)}", code=2)
