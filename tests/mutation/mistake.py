"""What a planted mistake is; see `plant_mistakes`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mistake:
    """A mistake: a replacement of text in a file, and the tests that should catch it."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    backends: str = "reference"  # what the tests run on; with "native" among them the engine is compiled anew
