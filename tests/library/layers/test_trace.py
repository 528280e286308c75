"""`layer.trace`: every gate and state over time, and the picture of them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import Case, forward, give, here, host, layer_for, leaves, obtain, problem
from harness.cases import RECURRENT
from harness.cells import CELLS
from harness.needs import need
from recurray.backend import Backend
from recurray.cells import Cell
from recurray.trace import trace

B, T, I, H = 3, 6, 2, 4  # noqa: E741


def lstm(**options: Any) -> rr.LSTM:
    return rr.LSTM(I, H, dtype="float64", seed=0, **options)


def given(steps: int = T, batch: int = B) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((batch, steps, I))


def start(count: int = 1) -> rr.State:
    return rr.State(*np.random.default_rng(1).standard_normal((2, count, B, H)))


# What it returns ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", RECURRENT, ids=str)
def test_it_is_what_the_layer_computes(case: Case, backend: Backend) -> None:
    """The outputs and the final states of all layers and directions; ragged rows, start states, either layout."""
    layer = layer_for(case, problem(case), backend)
    handed = give(layer, problem(case))
    y, end, _ = forward(layer, handed, training=False)
    seen = layer.trace(handed.x, handed.state, **handed.which)
    assert len(seen) == layer.num_layers * layer.directions
    assert [(part.layer, part.reverse) for part in seen] == [
        (number, reverse)
        for number in range(layer.num_layers)
        for reverse in ([False, True][: layer.directions] if not layer.reverse else [True])
    ]
    for part in seen:
        for value in part.values():
            assert backend.owns(value)
            assert backend.on_device(value)
            assert str(value.dtype) == str(y.dtype)
            assert tuple(value.shape[:2]) == tuple(y.shape[:2])

    last = [backend.to_numpy(part["h"]) for part in seen[-layer.directions :]]
    np.testing.assert_allclose(np.concatenate(last, axis=-1), backend.to_numpy(y), rtol=0, atol=1e-12)
    ends, starts = host(backend, leaves(end)), host(backend, leaves(handed.state))
    for place, part in enumerate(seen):
        assert set(part.states) == set(ends)
        for name in part.states:
            over_time = backend.to_numpy(part[name])
            over_time = over_time.swapaxes(0, 1) if case.batch_axis else over_time
            for row in range(case.batch):
                valid = np.flatnonzero(case.valid[row])
                assert not over_time[row, ~case.valid[row]].any()
                if case.resets is None and (len(valid) or case.state_given):
                    expected = (
                        over_time[row, valid[0 if part.reverse else -1]] if len(valid) else starts[name][place, row]
                    )
                    np.testing.assert_allclose(ends[name][place, row], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("cell", CELLS, ids=repr)
def test_every_gate_of_every_cell_is_there(cell: Cell) -> None:
    """The gates first, in the cell's order, and then the states."""
    layer = rr.Recurrent(cell, I, H, dtype="float64", seed=0)
    seen = layer.trace(given())
    y, _ = layer(given())
    np.testing.assert_allclose(seen["h"], y, rtol=0, atol=1e-12)
    part = seen[0]
    # An RNN's sum is no gate, nor is what the gates of a diagonal LSTM share.
    others = {("a",): [], ("z",): ["i", "f", "g", "o"]}
    assert list(part.gates) == others.get(cell.input_gates, list(cell.input_gates))
    assert part.states == cell.states
    assert list(part)[: len(part.gates) + len(part.states)] == [*part.gates, *part.states]
    assert all(value.shape == (B, T, H) for value in part.values())


def test_the_lstms_gates_make_its_states() -> None:
    layer = lstm(bidirectional=True)
    for part in layer.trace(given(), start(2)):
        before = {name: value[int(part.reverse)] for name, value in leaves(start(2)).items()}
        order = slice(None, None, -1) if part.reverse else slice(None)
        i, f, g, o, h, c = (part[name][:, order] for name in ("i", "f", "g", "o", "h", "c"))
        c_prev = np.concatenate([before["c"][:, None], c[:, :-1]], axis=1)
        h_prev = np.concatenate([before["h"][:, None], h[:, :-1]], axis=1)
        np.testing.assert_allclose(c, f * c_prev + i * g, rtol=0, atol=1e-14)
        np.testing.assert_allclose(h, o * np.tanh(c), rtol=0, atol=1e-14)
        suffix = "_l0_reverse" if part.reverse else "_l0"
        w_ih, w_hh, b_ih, b_hh = (
            layer.params[name + suffix] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        a = given()[:, order] @ w_ih.T + b_ih + h_prev @ w_hh.T + b_hh
        gates = [
            np.tanh(part_of) if k == 2 else 1 / (1 + np.exp(-part_of)) for k, part_of in enumerate(np.split(a, 4, -1))
        ]
        for found, expected in zip((i, f, g, o), gates, strict=True):
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("reset_after", [True, False])
def test_the_grus_gates_make_its_output(reset_after: bool) -> None:
    layer = rr.GRU(I, H, reset_after=reset_after, dtype="float64", seed=0)
    h0 = start().h
    seen = layer.trace(given(), rr.State(h0))
    assert seen[0].gates == ("r", "z", "n")
    h, z, n = seen["h"], seen["z"], seen["n"]
    h_prev = np.concatenate([h0[0][:, None], h[:, :-1]], axis=1)
    np.testing.assert_allclose(h, (1 - z) * n + z * h_prev, rtol=0, atol=1e-14)


@pytest.mark.parametrize("sizes", [{"steps": 0}, {"batch": 0}, {"steps": 0, "batch": 0}])
def test_nothing_to_trace(sizes: dict[str, int], backend: Backend) -> None:
    """The names are there all the same."""
    for batch_first in (True, False):
        layer = rr.LSTM(I, H, 2, batch_first=batch_first, backend=backend, dtype="float64", seed=0)
        x = given(**sizes)
        seen = layer.trace(backend.asarray(x if batch_first else x.swapaxes(0, 1)), lengths=[0] * len(x))
        assert set(seen[1]) >= {"i", "f", "g", "o", "h", "c"}
        shape = (*x.shape[:2], H) if batch_first else (x.shape[1], x.shape[0], H)
        assert all(tuple(value.shape) == shape for value in seen[1].values())


def test_it_leaves_the_layer_as_it_was() -> None:
    """No draws are taken, dropout is off, and the layer's own backend is back at work."""
    layer = lstm(num_layers=2, dropout=0.5, recurrent_dropout=0.3, zoneout_c=0.2)
    before, draws = dict(vars(layer)), layer.rng.bit_generator.state
    seen = layer.trace(given())
    np.testing.assert_allclose(seen[1]["h"], layer(given())[0], rtol=0, atol=1e-13)
    layer.trace(given(steps=0))
    assert layer.rng.bit_generator.state == draws
    assert all(vars(layer)[name] is value for name, value in before.items())
    assert layer.backend.name == "numpy"


def test_learned_start_states() -> None:
    layer = lstm(learned_state=True)
    layer.params["start_c_l0"] = np.ones(H)
    seen = layer.trace(given())
    np.testing.assert_allclose(seen["c"][:, 0], seen["f"][:, 0] + seen["i"][:, 0] * seen["g"][:, 0], rtol=0, atol=1e-14)


def test_a_cell_that_cannot_be_recorded() -> None:
    class Averaging(Cell):
        input_gates = ("a",)

        def step(self, x: Any, h: Any, before: Any, params: Any) -> Any:
            centred = x.a - np.mean(x.a, axis=-1, keepdims=True)
            return {"h": before.h + centred}, {"a": centred}

        def step_backward(self, d: Any, saved: Any, before: Any, params: Any) -> Any:
            return rr.CellGradients(x={"a": d.h - np.mean(d.h, axis=-1, keepdims=True)}, h={}, before={"h": d.h})

    seen = rr.Recurrent(Averaging(), I, H, dtype="float64", seed=0).trace(given())
    np.testing.assert_allclose(seen["h"], np.cumsum(seen["a"], axis=1), rtol=0, atol=1e-13)


# How it is asked ------------------------------------------------------------------------------------------------------


def test_parts_and_names() -> None:
    one, several = lstm().trace(given()), lstm(num_layers=2).trace(given())
    assert one["f"] is one[0]["f"]
    with pytest.raises(KeyError, match=r"there are 2 layers and directions: say which, trace\[0\]\['f'\]"):
        several["f"]
    with pytest.raises(KeyError, match="q"):
        one["q"]
    with pytest.raises(IndexError):
        one[1]
    assert [part.layer for part in several[0:2]] == [0, 1]
    assert "f" in one[0]
    assert repr(one) == "<trace of layer 0: i, f, g, o, h, c, out>"
    assert "layer 1 in reverse" in repr(lstm(num_layers=2, bidirectional=True).trace(given()))


def test_what_is_refused() -> None:
    with pytest.raises(TypeError, match="only a recurrent layer has gates to trace, not Linear"):
        trace(rr.Linear(2, 3), given())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"x must have the shape \(batch, time, 2\)"):
        lstm().trace(given()[0])
    with pytest.raises(ValueError, match="lengths must be between 0 and the 6 time steps"):
        lstm().trace(given(), lengths=[7, 1, 1])


# The picture ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def figures(tmp_path: Any) -> Any:
    """Draws a trace, and looks at the picture in a file."""
    need("matplotlib")
    from matplotlib.image import imread

    def draw(seen: rr.Trace, **options: Any) -> Any:
        figure = rr.plot.gates(seen, **options)
        figure.savefig(tmp_path / "gates.png", dpi=60)
        pixels = imread(tmp_path / "gates.png")
        assert len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) > 20
        return figure

    return draw


def panels(figure: Any) -> dict[str, Any]:
    """By name, those of the first column."""
    return {axis.get_ylabel(): axis for axis in figure.axes if axis.get_ylabel()}


def test_few_units_are_lines(figures: Any) -> None:
    seen = lstm().trace(given())
    figure = figures(seen, row=1)
    assert list(panels(figure)) == ["i", "f", "g", "o", "c", "h"]
    for name, axis in panels(figure).items():
        lines = [line for line in axis.get_lines() if len(line.get_xdata()) == T]
        np.testing.assert_array_equal(np.stack([line.get_ydata() for line in lines], axis=1), seen[name][1])
        assert axis.get_ylim()[1] >= 1
        assert (axis.get_ylim()[0] < -1) == (seen[name].min() < 0)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [f"unit {k}" for k in range(H)]


def test_many_units_are_a_map(figures: Any) -> None:
    layer = rr.LSTM(I, 20, 2, bidirectional=True, dtype="float64", seed=0)
    seen = layer.trace(given(), lengths=[6, 2, 4])
    figure = figures(seen, row=2, names=["f", "h"])
    maps = [axis for axis in figure.axes if axis.images]
    assert len(maps) == 2 * 4
    for axis, (name, part) in zip(maps, [(name, part) for name in ("f", "h") for part in seen], strict=True):
        (image,) = axis.images
        np.testing.assert_array_equal(image.get_array(), part[name][2, :4].T)
        assert image.get_clim() == ((0, 1) if name == "f" else (-1, 1))
    titles = [axis.get_title() for axis in maps[:4]]
    assert titles == ["layer 0", "layer 0, in reverse", "layer 1", "layer 1, in reverse"]


def test_some_units_and_labels(figures: Any) -> None:
    layer = rr.GRU(I, 20, batch_first=False, backend=np, dtype="float64", seed=0)
    seen = layer.trace(given().swapaxes(0, 1))
    figure = figures(seen, names=["n", "h"], units=[3, 17], labels="abcdef")
    axis = panels(figure)["n"]
    lines = [line.get_ydata() for line in axis.get_lines() if len(line.get_xdata()) == T]
    np.testing.assert_array_equal(np.stack(lines, axis=1), seen["n"][:, 0, [3, 17]])
    assert [text.get_text() for text in panels(figure)["h"].get_xticklabels()] == [*"abcdef"]


def test_larger_values_and_other_forms(figures: Any) -> None:
    """States beyond 1, a single step, a long text."""
    layer = rr.Recurrent(rr.cells.SLSTMCell(), I, 9, dtype="float64", seed=0)
    seen = layer.trace(50 * given(steps=200))
    figure = figures(seen, names=["n", "m", "h"], labels=["word"] * 200)
    low, high = panels(figure)["m"].images[0].get_clim()
    assert low == -high == -np.abs(seen["m"][0]).max() < -1
    assert panels(figure)["n"].images[0].get_clim()[0] == 0
    assert len(panels(figure)["h"].get_xticks()) <= 60
    figures(lstm().trace(given(steps=1)))


@pytest.mark.parametrize("platform", here("array-api-strict", "torch", "cupy"))
def test_arrays_of_other_libraries(platform: str, figures: Any) -> None:
    backend = obtain(platform)
    layer = rr.GRU(I, H, backend=backend, dtype="float32", seed=0)
    figures(layer.trace(backend.asarray(given(), "float32")), names=["h"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"names": ["q"]}, "the trace has no 'q', but 'i', 'f', 'g', 'o', 'h', 'c', 'out'"),
        ({"names": []}, "nothing to draw"),
        ({"row": 3}, "row must be below 3, the size of the batch, not 3"),
        ({"row": 1}, "nothing to draw"),
        ({"units": [0, 4]}, "units must be below 4"),
        ({"units": []}, "nothing to draw"),
        ({"labels": "abc"}, "labels must be 6, one for each step of row 0, not 3"),
    ],
)
def test_what_cannot_be_drawn(options: dict[str, Any], words: str) -> None:
    need("matplotlib")
    with pytest.raises(ValueError, match=words):
        rr.plot.gates(lstm().trace(given(), lengths=[6, 0, 1]), **options)


def test_what_is_no_trace() -> None:
    with pytest.raises(TypeError, match=r"expected what layer.trace returned, a Trace, not LSTM"):
        rr.plot.gates(lstm())  # type: ignore[arg-type]


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'plot.gates needs matplotlib, .* pip install ".*\[plot\]"'):
        rr.plot.gates(lstm().trace(given()))


def test_matplotlib_is_not_imported_unasked() -> None:
    code = (
        "import sys, numpy, recurray as rr; rr.LSTM(2, 3).trace(numpy.ones((1, 2, 2), 'f4'));"
        "print(sorted({'matplotlib', 'torch', 'cupy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
