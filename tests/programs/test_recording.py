"""What a recorded cell may do, and the errors for what it may not."""

from __future__ import annotations

import numpy as np
import pytest

from harness.programs import evaluate
from recurray.arrays import namespace_of
from recurray.cells import Cell, CellGradients, DiagonalLSTMCell, LSTMCell
from recurray.program import RecordingError, record


class Elman(Cell):
    """A cell whose step the tests replace."""

    input_gates = recurrent_gates = ("a",)

    def __init__(self, step=None, step_backward=None):
        self._step = step
        self._step_backward = step_backward

    def step(self, x, h, before, params):
        if self._step is not None:
            return self._step(x, h, before, params)
        y = namespace_of(x.a).tanh(x.a + h.a)
        return {"h": y}, {"y": y}

    def step_backward(self, d, saved, before, params):
        if self._step_backward is not None:
            return self._step_backward(d, saved, before, params)
        da = {"a": d.h * (1 - saved.y * saved.y)}
        return CellGradients(x=da, h=da, before={})


@pytest.mark.parametrize(
    "cell",
    [LSTMCell(), DiagonalLSTMCell(True), DiagonalLSTMCell(False), Elman()],
    ids=["lstm", "shared diagonal", "per-gate diagonal", "elman"],
)
def test_a_program_computes_what_the_cell_computes(cell):
    from recurray.cells.cell import named

    rng = np.random.default_rng(0)

    def draw(names):
        return named(names)(*(rng.standard_normal((2, 3)) for _ in names))

    x, h, before, d = (draw(names) for names in (cell.input_gates, cell.recurrent_gates, cell.states, cell.states))
    params = named(tuple(cell.pointwise))(*(draw(rows) for rows in cell.pointwise.values()))
    after, saved = cell.step(x, h, before, params)
    grads = cell.step_backward(d, named(tuple(saved))(**saved), before, params)

    inputs = {
        f"{group}.{name}": value
        for group, values in {"x": x, "h": h, "before": before, "d": d}.items()
        for name, value in values._asdict().items()
    }
    inputs |= {f"saved.{name}": value for name, value in saved.items()}
    for name, rows in params._asdict().items():
        inputs |= {f"params.{name}.{row}": value for row, value in rows._asdict().items()}
    recording = record(cell)
    found = evaluate(recording.step, inputs) | evaluate(recording.step_backward, inputs)
    expected = {f"after.{name}": value for name, value in after.items()}
    expected |= {f"saved.{name}": value for name, value in saved.items()}
    expected |= {f"x.{name}": value for name, value in grads.x.items()}
    expected |= {f"h.{name}": value for name, value in grads.h.items()}
    expected |= {f"before.{name}": value for name, value in grads.before.items()}
    for name, rows in grads.params.items():
        expected |= {f"params.{name}.{row}": value for row, value in rows.items()}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_equal_operations_are_one_value():
    cell = Elman(lambda x, h, before, params: ({"h": (x.a + h.a) * (x.a + h.a)}, {"y": x.a + h.a}))
    assert [value.operation for value in record(cell).step.values].count("add") == 1


def test_a_constant_is_not_taken_for_a_place():
    cell = Elman(lambda x, h, before, params: ({"h": before.h * 1.0 + before.h * x.a}, {"y": h.a}))
    operands = [value.operands for value in record(cell).step.values if value.operation == "multiply"]
    assert len(set(operands)) == 2


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (lambda x, h, b, p: ({"h": namespace_of(x.a).sum(x.a)}, {}), "can't call 'sum'"),
        (lambda x, h, b, p: ({"h": x.a if x.a > 0 else h.a}, {}), "can't branch on values"),
        (lambda x, h, b, p: ({"h": x.a[0]}, {}), "can't index"),
        (lambda x, h, b, p: ({"h": x.a.T}, {}), "can't use an array's 'T'"),
        (lambda x, h, b, p: ({"h": x.a**3}, {}), r"\*\* 2 alone"),
        (lambda x, h, b, p: ({"h": x.a + np.ones(3)}, {}), "not with ndarray"),
    ],
)
def test_what_is_not_elementwise_is_refused(step, words):
    with pytest.raises(RecordingError, match=words):
        record(Elman(step))


@pytest.mark.parametrize(
    ("step", "backward", "words"),
    [
        (lambda x, h, b, p: ({"c": x.a}, {"y": x.a}), None, r"Elman.step must return the states.*\['h'\].*\['c'\]"),
        (None, lambda d, s, b, p: CellGradients(x={}, h={"a": d.h}, before={}), "gradients by input gate"),
        (None, lambda d, s, b, p: CellGradients(x={"a": d.h}, h={"b": d.h}, before={}), "gradients by recurrent gate"),
        (None, lambda d, s, b, p: CellGradients(x={"a": d.h}, h={"a": d.h}, before={"c": d.h}), "gradients by state"),
    ],
)
def test_wrong_names_are_refused(step, backward, words):
    with pytest.raises(ValueError, match=words):
        record(Elman(step, backward))
