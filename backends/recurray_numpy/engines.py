"""Compiled engines that run recurrences in this backend's place, found where their packages are installed."""

from __future__ import annotations

from functools import cache
from typing import Any

from recurray import environment, install
from recurray.backend import BackendUnavailableError

GROUP = "recurray.engines"  # the entry points that packages announce their engines by
OWN = "numpy"


def find_engine(name: str | None) -> Any:
    """Return the engine to use, None for NumPy itself.

    An engine has the methods ``scan_forward`` and ``scan_backward`` of a backend; ``refuses(cell, weights, x)``, which
    returns why it can't run a cell on these arrays, or None; ``owns(cache)``, whether a cache is its own;
    ``threads(count)``, a context with that many threads; ``release_memory()``; a ``name``;
    and a ``description``, whose reading raises an error that says why, if the engine can't run on this machine.

    Parameters
    ----------
    name : str or None
        "numpy" for NumPy itself; an engine's name for that one; None for one that is installed and runs here, if there
        is any and the environment variable ``RECURRAY_NATIVE`` doesn't say 0, off, no or false.

    Raises
    ------
    BackendUnavailableError
        The engine named isn't installed, or can't run here.
    """
    if name is None:
        usable = [known for known in engine_names() if not why_unusable(known)] if environment.native() else []
        return _loaded(usable[0]) if usable else None
    if name == OWN:
        return None
    if name not in engine_names():
        raise BackendUnavailableError(
            f"no engine {name!r} is installed, only {', '.join((OWN, *engine_names()))}; "
            f"for the engine native: {install.NATIVE}"
        )
    if (reason := why_unusable(name)) is not None:
        raise BackendUnavailableError(f"the engine {name!r} can't run here: {reason}")
    return _loaded(name)


@cache
def engine_names() -> tuple[str, ...]:
    """Return the names of the engines that are installed, whether or not they run here."""
    from importlib.metadata import entry_points

    return tuple(sorted(entry_points(group=GROUP).names))


@cache
def why_unusable(name: str) -> str | None:
    """Return what keeps an installed engine from running on this machine, None if nothing does."""
    try:
        _loaded(name).description  # noqa: B018 - reading it is the test
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        return str(error)
    return None


@cache
def _loaded(name: str) -> Any:
    from importlib.metadata import entry_points

    return entry_points(group=GROUP)[name].load()()
