"""A layer of a file, and its options, none of which is trusted to be of the right kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recurray.checks import MOST
from recurray.files import FormatError
from recurray.messages import shown

MISSING: Any = object()
KERAS_1 = {"units": "output_dim", "recurrent_activation": "inner_activation", "use_bias": "bias", "rate": "p"}


@dataclass(frozen=True)
class Node:
    """A layer of a file.

    Attributes
    ----------
    kind : str
        Its class in Keras.
    name : str
        Its own name.
    options : mapping
        What the file says of it.
    within : tuple of str
        The names of the models and the wrapper that it stands in, outermost first.
    place : str
        Where its arrays are, in a file that keeps them by the layers' places.
    """

    kind: str
    name: str
    options: Mapping[str, Any]
    within: tuple[str, ...] = ()
    place: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {shown(self.name)}"

    def refuse(self, reason: str) -> FormatError:
        """The error that says why this layer can't be said here."""
        return FormatError(f"{self}: {reason}")

    def option(self, name: str, default: Any = MISSING) -> Any:
        """An option, by its name of today."""
        for known_as in (name, KERAS_1.get(name, name)):
            if known_as in self.options:
                return self.options[known_as]
        if default is MISSING:
            raise self.refuse(f"it doesn't say its {name}")
        return default

    def flag(self, name: str, default: Any = MISSING) -> bool:
        """An option that is true or false."""
        value = self.option(name, default)
        if not isinstance(value, bool):
            raise self.refuse(f"{name} must be true or false, not {shown(value)}")
        return value

    def size(self, name: str) -> int:
        """An option that is a size."""
        value = self.option(name)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MOST:
            raise self.refuse(f"{name} must be a size, not {shown(value)}")
        return value

    def number(self, name: str, default: Any = MISSING) -> float:
        """An option that is a number."""
        value = self.option(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < float("inf"):
            raise self.refuse(f"{name} must be a number, not {shown(value)}")
        return float(value)

    def needs(self, **wanted: Any) -> None:
        """Refuse an option that is said and isn't the one that can be said here."""
        for name, value in wanted.items():
            given = self.option(name, value)
            if given != value:
                raise self.refuse(f"{name}={shown(given)} can't be said here: {shown(value)} alone can")

    def inner(self, option: str) -> Node:
        """The layer that this one wraps."""
        kind, name, options = described(self.option(option))
        return Node(kind, name, options, (*self.within, self.name), f"{self.place}/{option}")


def described(entry: Any) -> tuple[str, str, Mapping[str, Any]]:
    """The class, name and options of a layer in Keras's JSON."""
    if not isinstance(entry, Mapping):
        raise FormatError(f"a layer must be an object of class_name and config, not {shown(entry)}")
    kind, options = entry.get("class_name"), entry.get("config")
    if isinstance(options, list) and kind == "Sequential":  # Keras 1
        options = {"layers": options}
    if not isinstance(kind, str) or not isinstance(options, Mapping):
        raise FormatError(f"a layer must have a class_name and a config, not {shown(entry)}")
    name = options.get("name", entry.get("name", kind))
    if not isinstance(name, str):
        raise FormatError(f"a layer's name must be text, not {shown(name)}")
    return kind, name, options
