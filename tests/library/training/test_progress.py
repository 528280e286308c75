"""What a terminal shows of a training, narrow ones too."""

from __future__ import annotations

import io

import pytest

from harness.needs import needs
from recurray.training.progress import Bar

pytestmark = needs("rich")
FIGURES = {"epoch": 12, "step": 99, "loss": 0.90361, "mean_error": 0.63531, "validation_loss": 1.14612}


def drawn(width: int) -> list[str]:
    """The lines that stay when it is done."""
    from rich.console import Console

    file = io.StringIO()
    with Bar(epochs=12, console=Console(file=file, width=width, force_terminal=False)) as bar:
        bar.row(FIGURES)
    return file.getvalue().splitlines()


def test_a_wide_terminal_has_one_line() -> None:
    assert drawn(100) == ["epoch 12/12  loss 0.9036  mean error 0.6353  val loss 1.146"]


@pytest.mark.parametrize("width", [30, 40])
def test_a_narrow_terminal_breaks_lines_between_figures(width: int) -> None:
    lines = drawn(width)
    assert max(map(len, lines)) <= width
    assert [word.strip() for line in lines for word in line.split("  ") if word] == [
        "epoch 12/12",
        "loss 0.9036",
        "mean error 0.6353",
        "val loss 1.146",
    ]


def test_the_line_on_the_way_holds_what_fits() -> None:
    from rich.console import Console

    file = io.StringIO()
    bar = Bar(epochs=12, console=Console(file=file, width=40))
    assert str(bar._line(0.5, FIGURES, bar._began)) == "epoch 12/12  loss 0.9036  val loss 1.146"
