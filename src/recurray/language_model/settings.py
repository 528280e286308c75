"""The settings of a training run: what each may be, its default, and what it means, written once."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True)
class Number:
    """What a numeric setting may be.

    Examples
    --------
    >>> from recurray.language_model.settings import Number
    >>> rate = Number(float, above=0)
    >>> rate.expected
    'a number above 0'
    >>> rate.parse("0.5")
    0.5
    >>> rate.parse("-1")
    Traceback (most recent call last):
    ...
    ValueError: expected a number above 0, got -1
    """

    kind: type[int | float]
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None

    @property
    def expected(self) -> str:
        """The values that are allowed, in words."""
        limits = {"of at least": self.at_least, "above": self.above, "of at most": self.at_most, "below": self.below}
        words = " and ".join(f"{name} {limit:,}" for name, limit in limits.items() if limit is not None)
        return f"{'a whole number' if self.kind is int else 'a number'} {words}".rstrip()

    def parse(self, text: str) -> Any:
        """Read the number from text.

        Raises
        ------
        ValueError
            It isn't a number, or isn't one that is allowed.
        """
        try:
            value = self.kind(text)
        except ValueError:
            value = math.nan
        if not self._allows(value):
            raise ValueError(f"expected {self.expected}, got {text}")
        return value

    def check(self, name: str, value: Any) -> None:
        """Refuse a value of another type or out of range.

        Raises
        ------
        ValueError
            Naming the setting, the value and what was expected.
        """
        right_type = isinstance(value, (int, float) if self.kind is float else int) and not isinstance(value, bool)
        if not right_type or not self._allows(value):
            raise ValueError(f"{name}: expected {self.expected}, got {value!r}")

    def _allows(self, value: float) -> bool:
        return (
            abs(value) < math.inf  # math.isfinite can't take every int, and not every int can be a float
            and (self.kind is int or abs(value) <= sys.float_info.max)
            and (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )


@dataclass(frozen=True)
class Choice:
    """What a setting may be that has one of a few names."""

    names: tuple[str, ...]

    def check(self, name: str, value: Any) -> None:
        """Refuse any other value.

        Raises
        ------
        ValueError
            Naming the setting, the value and what was expected.
        """
        if value not in self.names:
            raise ValueError(f"{name}: expected {' or '.join(self.names)}, got {value!r}")


def _setting(default: Any, allowed: Number | Choice, meaning: str) -> Any:
    return field(default=default, metadata={"allowed": allowed, "meaning": meaning})


_SIZE = Number(int, at_least=1, at_most=2**20)


@dataclass(frozen=True)
class Settings:
    """What, beside the text, decides the course of a training run: the same settings and text give the same model.

    Raises
    ------
    ValueError
        A value isn't allowed; the message names it and what was expected.

    Examples
    --------
    >>> from recurray.language_model.settings import Settings
    >>> Settings(hidden_size=512).hidden_size
    512
    >>> Settings(hidden_size=0)
    Traceback (most recent call last):
    ...
    ValueError: hidden_size: expected a whole number of at least 1 and of at most 1,048,576, got 0
    """

    layers: int = _setting(1, Number(int, at_least=1, at_most=100), "LSTM layers")
    hidden_size: int = _setting(256, _SIZE, "units in each layer")
    embedding_size: int = _setting(64, _SIZE, "numbers that stand for a character at the input")
    dropout: float = _setting(
        0.3, Number(float, at_least=0, below=1), "share of the layers' outputs dropped in training"
    )
    dtype: str = _setting("float32", Choice(("float32", "float64")), "precision of the arithmetic")
    batch_size: int = _setting(32, _SIZE, "streams of text read side by side")
    steps: int = _setting(64, _SIZE, "characters that gradients flow back through")
    epochs: float | None = _setting(
        None,
        Number(float, above=0, at_most=1_000_000),
        "times the text is read, fractions allowed (default: so many that about 6 million characters are read)",
    )
    lr: float = _setting(0.01, Number(float, above=0), "Adam's learning rate, which falls to 0 along a cosine")
    clip: float = _setting(1.0, Number(float, above=0), "largest norm of the gradient")
    seed: int = _setting(0, Number(int, at_least=0), "seed of the start values and of dropout")
    held_out: float = _setting(0.1, Number(float, above=0, below=1), "share of the text, at its end, to measure on")

    def __post_init__(self) -> None:
        for setting in dataclasses.fields(self):
            value = getattr(self, setting.name)
            if value is not None or setting.default is not None:
                setting.metadata["allowed"].check(setting.name, value)

    def as_dict(self) -> dict[str, Any]:
        """Return the settings by name."""
        return dataclasses.asdict(self)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """Make settings from what `as_dict` returned.

        Raises
        ------
        ValueError
            A setting is missing or unknown, or its value isn't allowed.
        """
        names = {setting.name for setting in dataclasses.fields(cls)}
        if not isinstance(mapping, Mapping) or set(mapping) != names:
            raise ValueError(f"expected the settings {', '.join(sorted(names))}, got {mapping!r}")
        return cls(**mapping)
