"""What a user sees of a training run: a live panel in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from importlib.util import find_spec
from typing import Any, Self

from recurray import install
from recurray.command_line.output import printable, say
from recurray.language_model.training import Progress

_LINE_EVERY = 2.0  # seconds between plain lines, at least
_DRAW_EVERY = 0.1  # seconds between two states of the live panel, at least

Baselines = dict[int, float]  # order of an n-gram model: its bits per held-out character


class Display:
    """Shows nothing: what the others build on, and ``--quiet``."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def note(self, text: str) -> None:
        """Show a line of text."""

    def warn(self, text: str) -> None:
        """Show a warning, whatever else isn't shown."""
        say(f"recurray train: warning: {text}\n", sys.stderr)

    def update(self, progress: Progress) -> None:
        """Show where the run stands."""


class PlainDisplay(Display):
    """A line now and then, without control codes: for files, pipes and simple terminals."""

    def __init__(self) -> None:
        self._last: float | None = None

    def note(self, text: str) -> None:
        """Print a line of text."""
        say(text + "\n")
        sys.stdout.flush()

    def update(self, progress: Progress) -> None:
        """Print a line if something was measured, the last line is some time ago, or the run ends here."""
        now = time.monotonic()
        ends = progress.step == progress.steps
        if ends or (progress.measured and (self._last is None or now - self._last >= _LINE_EVERY)):
            self._last = now
            self.note(
                f"step {progress.step:,} of {progress.steps:,}  epoch {progress.epoch:.2f}  "
                f"bits per character: training {progress.training_bits:.3f}, held out {_bits(progress.held_out_bits)}  "
                f"{progress.characters_per_second:,.0f} characters/s  {duration(progress.seconds_left)} left"
            )


class LiveDisplay(Display):
    """A table and a bar that stay in their place in the terminal, one below the other where it is narrow.

    Parameters
    ----------
    baselines : dict of int to float
        What n-gram models reach on the held-out text, to show beside the model's figures.
    """

    def __init__(self, baselines: Baselines) -> None:
        from rich.console import Console
        from rich.live import Live

        self._baselines = baselines
        self._drawn = 0.0
        self._width = 0  # of what is drawn
        self._notes: list[str] = []
        self._live = Live(console=Console(highlight=False), auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def note(self, text: str) -> None:
        """Print a line of text above the panel."""
        self._notes.append(printable(text))
        self._live.console.print(self._notes[-1], markup=False)

    def warn(self, text: str) -> None:
        """Print a warning above the panel."""
        self.note(f"Warning: {text}")

    def update(self, progress: Progress) -> None:
        """Draw the panel anew, if the last time is some time ago or the run ends here."""
        now = time.monotonic()
        if now - self._drawn >= _DRAW_EVERY or progress.step == progress.steps:
            self._drawn = now
            console = self._live.console
            if console.width < self._width:  # the terminal has broken the panel's lines: where it begins isn't known
                console.clear()
                for note in self._notes:
                    console.print(note, markup=False)
            panel = self._panel(progress)
            if _width(console, panel) > console.width:
                panel = self._narrow_panel(progress)
            self._width = _width(console, panel)
            self._live.update(panel, refresh=True)

    def _figures(self, progress: Progress) -> dict[str, Any]:
        """The bits per character, by name."""
        from rich.text import Text

        held_out = progress.held_out_bits
        beaten = sum(held_out < bits for bits in self._baselines.values()) if held_out is not None else 0
        colour = "bold green" if beaten and beaten == len(self._baselines) else "yellow" if beaten else "bold"
        figures = {
            "training": Text(f"{progress.training_bits:.3f}"),
            "held out": Text(_bits(held_out), style=colour),
        }
        return figures | {f"{order}-gram": Text(f"{bits:.3f}", style="dim") for order, bits in self._baselines.items()}

    def _panel(self, progress: Progress) -> Any:
        """A row of figures, and a row with the bar."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        columns = {"bits per character": ""} | self._figures(progress)
        figures = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
        for name in columns:
            figures.add_column(name, justify="right")
        figures.add_row(*columns.values())

        bar = Table.grid(padding=(0, 3, 0, 0))
        bar.add_row(
            ProgressBar(total=progress.steps, completed=progress.step, width=20),
            f"step {progress.step:,} of {progress.steps:,}",
            f"{progress.characters_per_second:,.0f} characters/s",
            f"{duration(progress.seconds_left)} left",
        )
        return Group(figures, bar)

    def _narrow_panel(self, progress: Progress) -> Any:
        """A line for each figure, and a bar under them."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        figures = Table.grid(padding=(0, 3, 0, 0))
        figures.add_column(style="bold")
        figures.add_column(justify="right")
        for name, value in self._figures(progress).items():
            figures.add_row(name, value)
        return Group(
            "bits per character",
            figures,
            f"step {progress.step:,} of {progress.steps:,}",
            f"{progress.characters_per_second:,.0f} characters/s",
            f"{duration(progress.seconds_left)} left",
            ProgressBar(total=progress.steps, completed=progress.step, width=20),
        )


def _width(console: Any, panel: Any) -> int:
    """How many columns a panel takes where there are enough."""
    return int(console.measure(panel, options=console.options.update(max_width=1000)).maximum)


def choose(quiet: bool, baselines: Baselines) -> Display:
    """Return the display for this terminal, file or pipe."""
    if quiet:
        return Display()
    if not sys.stdout.isatty():
        return PlainDisplay()
    if find_spec("rich") is None:
        plain = PlainDisplay()
        plain.note(f"For a live display: {install.with_extra('train')}")
        return plain
    from rich.console import Console

    return PlainDisplay() if Console().is_dumb_terminal else LiveDisplay(baselines)


def duration(seconds: float) -> str:
    """Return a duration as minutes and seconds, with hours where there are any.

    Examples
    --------
    >>> from recurray.command_line.display import duration
    >>> duration(61.4), duration(3723)
    ('1:01', '1:02:03')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _bits(bits: float | None) -> str:
    return "-" if bits is None else f"{bits:.3f}"
