"""Compiled engines: subclasses of the NumPy backend with scans of their own, found where they are installed."""

from __future__ import annotations

from functools import cache
from typing import Any

from recurray import environment, install
from recurray.backend import BackendUnavailableError
from recurray.messages import shown

GROUP = "recurray.engines"  # the entry points that packages announce their engines by
OWN = "numpy"


def engine_class(name: str | None) -> type[Any] | None:
    """Return the class of the engine to use, None for NumPy itself.

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
            f"no engine {shown(name)} is installed, only {', '.join((OWN, *engine_names()))}; "
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
        _loaded(name)().description  # noqa: B018 - reading it is the test
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        return str(error)
    return None


@cache
def _loaded(name: str) -> type[Any]:
    from importlib.metadata import entry_points

    kind: type[Any] = entry_points(group=GROUP)[name].load()
    return kind
