"""A run of `recurray train` that takes a moment: its options, and its text."""

from __future__ import annotations

from pathlib import Path

from recurray.language_model.text import default_text

SMALL_RUN = ["--hidden-size", "12", "--embedding-size", "6", "--batch-size", "4", "--steps", "10"]


def write_text(folder: Path) -> None:
    """Write a short English text into ``text.txt``."""
    (folder / "text.txt").write_text(default_text()[:3000], encoding="utf-8")
