"""The params of a frozen layer: a mapping that can only be read."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any, NoReturn

from recurray.arrays import Array, namespace_of

REFUSED = "a frozen layer's params can't be changed: change the layer that it was made of, and freeze that again"


class FixedParams(MutableMapping[str, Array]):
    """Params by name, which refuse to be replaced.

    Arrays that can be write-protected are, by `read_only`; of others copies are given out.
    """

    def __init__(self, params: dict[str, Array]) -> None:
        self._params = params

    def __getitem__(self, name: str) -> Array:
        value = self._params[name]
        return value if _can_be_protected(value) else namespace_of(value).astype(value, value.dtype)

    def __setitem__(self, name: str, value: Any) -> NoReturn:
        raise TypeError(REFUSED)

    def __delitem__(self, name: str) -> NoReturn:
        raise TypeError(REFUSED)

    def __iter__(self) -> Iterator[str]:
        return iter(self._params)

    def __len__(self) -> int:
        return len(self._params)

    def __repr__(self) -> str:
        return repr(dict(self))


def read_only(params: dict[str, Array]) -> dict[str, Array]:
    """Write-protect arrays, where the library can."""
    for value in params.values():
        if _can_be_protected(value):
            value.setflags(write=False)
    return params


def _can_be_protected(value: Array) -> bool:
    return hasattr(value, "setflags")
