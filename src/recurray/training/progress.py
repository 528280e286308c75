"""What a terminal shows of a training: a bar and the last row's figures, in as many columns as there are."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Self

from recurray.training.history import Row

_DRAW_EVERY = 0.1  # seconds
_NARROW = 60  # columns, under which there is no bar
_BETWEEN = "  "  # figures


class Progress:
    """Shows nothing.

    Attributes
    ----------
    shows : bool
        Whether there is anything to tell it.
    """

    shows = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def step(self, done: float, epoch: int, loss: float | None) -> None:
        """Show that a share of the whole is done."""

    def row(self, row: Row) -> None:
        """Show the figures of a row of the history."""


def choose(wanted: bool, epochs: int | None) -> Progress:
    """A bar where it is wanted, standard error is a terminal, and rich is installed."""
    if not wanted or find_spec("rich") is None or sys.stderr is None or not sys.stderr.isatty():
        return Progress()
    return Bar(epochs)


class Bar(Progress):
    """A line that stays in its place.

    Parameters
    ----------
    epochs : int or None
        How many there will be, where that is known.
    console : rich.console.Console, optional
        Where to draw; standard error if omitted.
    """

    shows = True

    def __init__(self, epochs: int | None, console: Any = None) -> None:
        from rich.console import Console
        from rich.live import Live

        self._epochs = epochs
        self._live = Live(console=console or Console(stderr=True, highlight=False), auto_refresh=False, transient=True)
        self._figures: Row = {}
        self._began = self._drawn = time.monotonic()
        self._first: float | None = None  # the share done when it began, by a checkpoint

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()
        if self._figures:
            self._live.console.print(_text(_folded(self._words(self._figures), self._live.console.width)))

    def row(self, row: Row) -> None:
        """Keep the figures for the next time it is drawn."""
        self._figures = row

    def step(self, done: float, epoch: int, loss: float | None) -> None:
        """Draw the line anew, if the last time is some time ago."""
        now = time.monotonic()
        self._first = done if self._first is None else self._first
        if now - self._drawn < _DRAW_EVERY:
            return
        self._drawn = now
        figures: Row = dict(self._figures) or {"epoch": epoch, "loss": loss}
        figures["epoch"] = epoch
        self._live.update(self._line(done, figures, now), refresh=True)

    def _line(self, done: float, figures: Row, now: float) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        share = done - (self._first or 0.0)
        left = (now - self._began) / share * (1.0 - done) if share > 0 else None
        all_words = [*self._words(figures), *([f"{_duration(left)} left"] if left is not None else [])]
        words, width = _BETWEEN.join(all_words), self._live.console.width
        if width < _NARROW or width - len(words) < 12:
            return _text(_fitting(all_words, width))
        grid = Table.grid(padding=(0, 1))
        grid.add_row(ProgressBar(total=1.0, completed=min(1.0, done), width=min(30, width - len(words) - 2)), words)
        return grid

    def _words(self, figures: Row) -> list[str]:
        of = f"/{self._epochs}" if self._epochs else ""
        words = [f"epoch {figures['epoch']}{of}"]
        for name, value in figures.items():
            if value is not None and name not in ("epoch", "step", "lr", "grad_norm", "seconds"):
                words.append(f"{name.replace('validation_', 'val ').replace('_', ' ')} {value:.4g}")
        return words


def _fitting(words: Sequence[str], width: int) -> str:
    """Those of the words that fit into a line, the first ones before others."""
    line = words[0]
    for word in words[1:]:
        line = f"{line}{_BETWEEN}{word}" if len(line + _BETWEEN + word) <= width else line
    return line


def _folded(words: Sequence[str], width: int) -> str:
    """All words, in lines that end between them."""
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1] + _BETWEEN + word) <= width:
            lines[-1] += _BETWEEN + word
        else:
            lines.append(f"{_BETWEEN}{word}")
    return "\n".join(lines)


def _text(words: str) -> Any:
    from rich.text import Text

    return Text(words, no_wrap=True, overflow="ellipsis")


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
