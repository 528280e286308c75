"""`plot.history`: what is drawn of a training's table, and what is marked."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness.needs import need

need("matplotlib")

NAN = math.nan


def rows(count: int = 20) -> list[dict[str, Any]]:
    return [
        {
            "epoch": k,
            "step": 7 * k,
            "loss": 2 * 0.7**k,
            "validation_loss": 2 * 0.75**k + 0.01 * k,
            "accuracy": 1 - 0.7**k,
            "validation_accuracy": 1 - 0.75**k,
            "lr": 0.01 if k < 9 else 0.001,
            "grad_norm": 1.0,
            "seconds": 0.1 * k,
        }
        for k in range(1, count + 1)
    ]


def panels(figure: Any) -> dict[str, Any]:
    return {axis.get_ylabel(): axis for axis in figure.axes}


def lines(axis: Any) -> dict[str, Any]:
    return {line.get_label(): line.get_xydata() for line in axis.get_lines() if not line.get_label().startswith("_")}


def test_training_and_validation_side_by_side() -> None:
    """What never changes, here the gradients' norm, is left out."""
    figure = rr.plot.history(rows())
    assert list(panels(figure)) == ["loss", "accuracy", "learning rate"]
    for name in ("loss", "accuracy"):
        drawn = lines(panels(figure)[name])
        for label, column in (("training", name), ("validation", f"validation_{name}")):
            np.testing.assert_array_equal(drawn[label], [(row["epoch"], row[column]) for row in rows()])
    assert list(lines(panels(figure)["learning rate"])) == ["training"]
    assert panels(figure)["loss"].get_yscale() == "log"
    assert panels(figure)["accuracy"].get_yscale() == "linear"
    assert figure.axes[-1].get_xlabel() == "epoch"
    figure.canvas.draw()


def test_the_best_row_is_marked() -> None:
    """By the training's own word, else by the loss of the validation; without either none is."""
    table = rows()
    least = min(table, key=lambda row: row["validation_loss"])["epoch"]
    assert least not in (1, 20)

    class Known(list[Any]):
        best: Any = 4

    for given, place, words in (
        (table, least, f"least validation_loss: epoch {least}"),
        (Known(table), 5, "best: epoch 5"),
    ):
        figure = rr.plot.history(given)
        assert figure.axes[0].get_title(loc="right") == words
        for axis in figure.axes:
            assert axis.get_lines()[-1].get_xdata()[0] == place
    plain = rr.plot.history([{"loss": 2.0}, {"loss": 1.0}])
    assert len(plain.axes[0].get_lines()) == 1
    assert plain.axes[0].get_xlabel() == "row"


def test_gaps() -> None:
    """What wasn't measured is left out; NaN is a gap, and never the best."""
    figure = rr.plot.history(
        [
            {"step": 10, "epoch": 1, "loss": 3.0, "validation_loss": NAN},
            {"step": 20, "epoch": 1, "loss": NAN, "validation_loss": None},
            {"step": 30, "epoch": 2, "loss": 1.0, "validation_loss": 2.0},
            {"step": 40, "epoch": 2, "loss": math.inf},
        ]
    )
    drawn = lines(figure.axes[0])
    np.testing.assert_array_equal(drawn["training"], [(10, 3), (20, NAN), (30, 1), (40, math.inf)])
    np.testing.assert_array_equal(drawn["validation"], [(10, NAN), (30, 2)])
    assert figure.axes[0].get_title(loc="right") == "least validation_loss: step 30"
    assert figure.axes[0].get_yscale() == "linear"
    figure.canvas.draw()


def test_epochs_from_0() -> None:
    figure = rr.plot.history([{"epoch": k, "loss": 1.0} for k in range(3)])
    np.testing.assert_array_equal(lines(figure.axes[0])["training"], [(0, 1), (1, 1), (2, 1)])


def test_one_row_and_chosen_columns() -> None:
    figure = rr.plot.history(rows(1))
    assert list(panels(figure)) == ["loss"]
    figure = rr.plot.history(rows(), columns=["grad_norm", "seconds"])
    assert list(panels(figure)) == ["gradient norm", "seconds"]
    figure.canvas.draw()


@pytest.mark.parametrize(
    ("given", "options", "error", "words"),
    [
        ([], {}, ValueError, "nothing to draw"),
        ([{"epoch": 1}], {}, ValueError, "nothing to draw"),
        (rows(), {"columns": []}, ValueError, "nothing to draw"),
        (rows(2), {"columns": ["f1"]}, ValueError, "the history has no column 'f1'; its columns: 'epoch', 'step'"),
        (rows(), {"columns": "loss"}, TypeError, "columns must be a sequence, not the text 'loss'"),
        (3, {}, TypeError, "rows must be a sequence, not int 3"),
        ([3], {}, TypeError, "a row must be a mapping of names to numbers, not int 3"),
        ([{"loss": "low"}], {}, TypeError, "loss must be a number or None, not str 'low'"),
    ],
)
def test_what_is_not_drawn(given: Any, options: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        rr.plot.history(given, **options)
