"""Packages whose names are imported when they are first used, and not with the package."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module


def lazy(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return a package's ``__getattr__`` and ``__dir__``, which Python asks for names that it doesn't find there.

    Parameters
    ----------
    package : str
        The package's ``__name__``.
    homes : mapping of str to str
        For each name, the module under the package that has it; for the name of a module, that name itself.

    Examples
    --------
    >>> from recurray.lazy import lazy
    >>> get, names = lazy("recurray", {"State": "state", "optim": "optim"})
    >>> get("State"), get("optim").__name__
    (<class 'recurray.state.State'>, 'recurray.optim')
    """

    def get(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = import_module(f"{package}.{homes[name]}")
        value = home if homes[name] == name else getattr(home, name)
        setattr(sys.modules[package], name, value)  # so that this isn't asked again
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return get, names
