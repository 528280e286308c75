"""What is done when it is first needed: packages' names that are imported then, properties that are computed once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Generic, Self, TypeVar, overload

T = TypeVar("T")


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


class cached_property(Generic[T]):  # noqa: N801 - as the one in functools
    """A property that is computed once for an object and then kept in it; two threads may both compute it, to the same.

    Python 3.11's own holds a lock of the class meanwhile: a child that is forked then could never read the property of
    any object.

    Examples
    --------
    >>> from recurray.lazy import cached_property
    >>> class Text:
    ...     @cached_property
    ...     def length(self):
    ...         print("counts")
    ...         return 5
    >>> text = Text()
    >>> text.length, text.length
    counts
    (5, 5)
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: object | None, owner: type) -> Self | T:
        if instance is None:
            return self
        # Where Python looks first from now on. The first thread's value is everybody's.
        value: T = instance.__dict__.setdefault(self._name, self._compute(instance))
        return value
