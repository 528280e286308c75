"""What all pictures have in common, and those of states, gradients and benches."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import here, obtain
from harness.needs import need
from recurray.plot import drawing
from recurray.plot.drawing import COLOURS

need("matplotlib")


def gradients(**options: Any) -> dict[str, Any]:
    layer = rr.LSTM(3, 4, dtype="float64", seed=0, **options)
    y, _, cache = layer.forward(np.random.default_rng(0).standard_normal((2, 5, 3)))
    return dict(layer.backward(cache, y)[2])


def test_pyplot_and_settings_are_left_alone() -> None:
    """In a process of its own, where nothing else has loaded pyplot."""
    code = """
import sys
import numpy as np, recurray as rr
assert not {name for name in sys.modules if name.startswith("matplotlib")}
rr.plot
assert not {name for name in sys.modules if name.startswith("matplotlib")}
import matplotlib
before = matplotlib.rcParams.copy()
layer = rr.LSTM(2, 3)
x = np.ones((1, 4, 2), dtype="float32")
y, _, cache = layer.forward(x)
grads = layer.backward(cache, y)[2]
for figure in (
    rr.plot.gates(layer.trace(x)), rr.plot.states(y), rr.plot.history([{"epoch": 1, "loss": 1.0}]),
    rr.plot.gradient_norms(grads), rr.plot.gradient_norms([grads]),
):
    figure.canvas.draw()
    assert isinstance(figure, matplotlib.figure.Figure)
assert matplotlib.rcParams.copy() == before
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_picture_goes_to_a_file_whole(tmp_path: Path) -> None:
    figure = rr.plot.states(np.zeros((3, 4)))
    for ending, begins in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        assert ending in drawing.formats()
        drawing.save(figure, tmp_path / f"a.{ending}")
        assert (tmp_path / f"a.{ending}").read_bytes().startswith(begins)


@pytest.mark.parametrize("options", [{}, {"units": [7, 3, 0]}])
def test_units_keep_their_colours_whatever_matplotlibs_are(options: dict[str, Any]) -> None:
    """The legend names the right units where the user's own cycle of colours is a short one."""
    import matplotlib as mpl
    from cycler import cycler

    trace = rr.LSTM(3, 8, dtype="float64", seed=0).trace(np.random.default_rng(0).standard_normal((1, 6, 3)))
    with mpl.rc_context({"axes.prop_cycle": cycler(color=["red", "green"])}):
        figure = rr.plot.gates(trace, names=["f"], **options)
    (legend,) = figure.legends
    lines = {line.get_color(): line.get_ydata() for line in figure.axes[0].get_lines()}
    units = options.get("units", range(8))
    assert len(lines) == len(units) + 1
    for text, handle, unit in zip(legend.get_texts(), legend.get_lines(), units, strict=True):
        assert text.get_text() == f"unit {unit}"
        np.testing.assert_array_equal(lines[handle.get_color()], trace["f"][0, :, unit])


def test_colours_differ_in_lightness_and_hue() -> None:
    """Also as those see them who lack a kind of cones (Vienot, Brettel & Mollon, 1999)."""
    from matplotlib.colors import to_rgb

    linear = np.array([to_rgb(colour) for colour in COLOURS]) ** 2.2
    protan = np.array([[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]])
    deutan = np.array([[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]])
    for seen in (np.eye(3), protan, deutan):
        colours = np.clip(linear @ seen.T, 0, 1) ** (1 / 2.2)
        apart = np.abs(colours[:, None] - colours[None]).max(axis=-1) + np.eye(len(COLOURS))
        assert apart.min() > 0.1


# States -------------------------------------------------------------------------------------------------------------


def made_states() -> np.ndarray:
    """(batch, time, units): unit k of row 1 has a peak at step 3 k % 7, up or down."""
    values = np.random.default_rng(0).uniform(-0.1, 0.1, (2, 7, 6))
    for unit in range(6):
        values[1, 3 * unit % 7, unit] = 0.9 * (-1) ** unit
    return values


def rows_of(figure: Any) -> tuple[Any, list[str]]:
    (image,) = figure.axes[0].images
    return np.asarray(image.get_array()), [label.get_text() for label in figure.axes[0].get_yticklabels()]


@pytest.mark.parametrize("platform", here("numpy", "array-api-strict", "torch"))
def test_states_of_a_row_by_number(platform: str) -> None:
    backend = obtain(platform)
    figure = rr.plot.states(backend.asarray(made_states(), "float64"), row=-1, labels="abcdefg")
    drawn, names = rows_of(figure)
    np.testing.assert_array_equal(drawn, made_states()[1].T)
    assert names == [f"unit {k}" for k in range(6)]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == [*"abcdefg"]
    assert figure.axes[0].images[0].get_clim() == (-0.9, 0.9)


def test_states_in_order() -> None:
    values = made_states()[1]
    by_peak = sorted(range(6), key=lambda unit: 3 * unit % 7)
    by_mean = sorted(range(6), key=lambda unit: -values[:, unit].mean())
    for sort, order in (("peak", by_peak), ("mean", by_mean)):
        drawn, names = rows_of(rr.plot.states(values, sort=sort))
        np.testing.assert_array_equal(drawn, values[:, order].T)
        assert names == [f"unit {unit}" for unit in order]


def test_states_that_are_alike_stand_together() -> None:
    time = np.linspace(0, 6, 40)
    first, second = np.sin(time), np.sin(2 * time)  # units 0, 2, 4 and 1, 3, 5; 0 goes against the others
    values = np.stack([-first, 0.1 * second, first, 0.12 * second, 0.9 * first, 0.11 * second], axis=1)
    _, names = rows_of(rr.plot.states(values + 5, sort="alike"))
    order = [int(name.removeprefix("unit ")) for name in names]
    assert order[0] == 0 or order[-1] == 0
    middle = order[1:4] if order[0] == 0 else order[2:5]
    assert set(middle) == {1, 3, 5}


def test_states_of_a_trace() -> None:
    layer = rr.LSTM(3, 40, 2, bidirectional=True, dtype="float64", seed=0)
    trace = layer.trace(np.random.default_rng(0).standard_normal((2, 9, 3)), lengths=[9, 4])
    for name, wanted in ((None, "h"), ("c", "c"), ("f", "f")):
        figure = rr.plot.states(trace, row=1, name=name)
        panels = [axis for axis in figure.axes if axis.images]
        assert len(panels) == 4
        for axis, part in zip(panels, trace, strict=True):
            np.testing.assert_array_equal(axis.images[0].get_array(), part[wanted][1, :4].T)
            assert axis.get_title().startswith(f"{wanted}, layer {part.layer}")
            assert [label.get_text() for label in axis.get_yticklabels()] == ["unit 0", "unit 39"]


@pytest.mark.parametrize(
    ("values", "options", "error", "words"),
    [
        (np.ones(3), {}, ValueError, r"values must be a trace, or numbers of the shape .*, not float64 \(3,\)"),
        (np.array([["a"]]), {}, (ValueError, TypeError), "numbers"),
        (np.ones((0, 3)), {}, ValueError, "nothing to draw"),
        (np.ones((2, 3)), {"sort": "time"}, ValueError, "sort must be one of 'peak', 'mean', 'alike', not 'time'"),
        (np.ones((2, 4, 3)), {"row": 2}, ValueError, "row must be below 2, the size of the batch, not 2"),
        (np.ones((2, 3)), {"row": 0.5}, TypeError, "row must be an integer"),
        (np.ones((2, 3)), {"name": "h"}, ValueError, "name is for a trace"),
        (np.ones((2, 3)), {"labels": "abc"}, ValueError, "labels must be 2, one for each step"),
    ],
)
def test_states_that_are_not_drawn(values: Any, options: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        rr.plot.states(values, **options)


def test_a_trace_without_such_a_value() -> None:
    with pytest.raises(ValueError, match="the trace has no 'z', but 'i', 'f'"):
        rr.plot.states(rr.LSTM(2, 3, seed=0).trace(np.ones((1, 4, 2), dtype="float32")), name="z")


# Norms of gradients -------------------------------------------------------------------------------------------------


def test_norms_of_one_backward() -> None:
    given = gradients() | {"dead": np.zeros(3), "huge": np.array([3e200, 4e200]), "bad": np.array([np.nan, 1])}
    (axis,) = rr.plot.gradient_norms(given).axes
    (points,) = axis.get_lines()
    expected = [np.linalg.norm(given[name]) for name in gradients()] + [np.nan, 5e200, np.nan]
    np.testing.assert_allclose(points.get_xdata(), expected, rtol=1e-14)
    assert [label.get_text() for label in axis.get_yticklabels()] == list(given)
    assert [text.get_text() for text in axis.texts] == ["0", "nan"]
    assert axis.get_xscale() == "log"


@pytest.mark.parametrize("platform", here("array-api-strict", "torch"))
def test_norms_of_several(platform: str) -> None:
    """Lines where they are few, a map where they are many; norms in the place of arrays."""
    backend = obtain(platform)
    few = gradients()
    arrays = {name: backend.asarray(value, "float64") for name, value in few.items()}
    updates = [{name: (k + 1) * value for name, value in arrays.items()} for k in range(3)]
    updates.append({name: 0.0 if name == "bias_ih_l0" else 4.0 for name in few})
    figure = rr.plot.gradient_norms(updates)
    for line, name in zip(figure.axes[0].get_lines(), few, strict=True):
        norm = np.linalg.norm(few[name])
        last = np.nan if name == "bias_ih_l0" else 4.0
        np.testing.assert_allclose(line.get_ydata(), [norm, 2 * norm, 3 * norm, last], rtol=1e-13)
        assert line.get_label() == name
    lines = rr.plot.gradient_norms([{"a": 1, "b": 2, "same as b": 2}] * 3).axes[0].get_lines()
    assert [line.get_linestyle() for line in lines] == ["-", "-", "--"]
    many = gradients(num_layers=2, bidirectional=True)
    figure = rr.plot.gradient_norms([many, many])
    (image,) = figure.axes[0].images
    norms = [np.linalg.norm(value) for value in many.values()]
    np.testing.assert_allclose(image.get_array(), np.transpose([norms, norms]))
    figure.canvas.draw()
    some = rr.plot.gradient_norms([many], names=["weight_hh_l1"])
    assert len(some.axes[0].get_lines()) == 1


@pytest.mark.parametrize(
    ("grads", "options", "error", "words"),
    [
        ([], {}, ValueError, "nothing to draw"),
        ({}, {}, ValueError, "nothing to draw"),
        (3, {}, TypeError, "grads must be a sequence, not int 3"),
        ([3], {}, TypeError, "gradients must be a mapping of names to arrays, not int 3"),
        ([{"a": 1.0}, {"b": 1.0}], {}, ValueError, "there is no gradient of 'a', but of 'b'"),
        ({"a": 1.0}, {"names": ["b"]}, ValueError, "there is no gradient of 'b', but of 'a'"),
        ({"a": np.array(["x"])}, {}, TypeError, "the gradient of a must be numbers"),
    ],
)
def test_norms_that_are_not_drawn(grads: Any, options: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        rr.plot.gradient_norms(grads, **options)


def test_what_is_no_report() -> None:
    with pytest.raises(TypeError, match=r"expected a report, as recurray.benchmarks.record.load returns, not str"):
        rr.plot.bench("layers.json")  # type: ignore[arg-type]
