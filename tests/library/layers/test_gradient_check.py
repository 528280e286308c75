"""`check_gradients`: it passes what is right, finds what is wrong, and leaves what it checks as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import Case, assert_all_same, here, obtain
from harness.cases import CASES
from recurray.backend import Backend
from recurray.cells import Cell, CellGradients, DiagonalLSTMCell, LSTMCell

QUICK = [case for case in CASES if case.name != "lstm of everything"]


@pytest.mark.parametrize("platform", here("numpy"))
@pytest.mark.parametrize("case", QUICK, ids=str)
def test_every_layer_passes(case: Case, platform: str) -> None:
    layer = case.make(backend=obtain(platform), dtype="float32")
    report = rr.check_gradients(layer, batch=case.batch, samples=4, **case.which)
    assert report.ok, f"\n{report}"
    checked = {row.name for row in report.rows}
    assert checked >= set(layer.params)
    assert all(row.checked for row in report.rows)


@pytest.mark.parametrize("cell", [LSTMCell(), DiagonalLSTMCell(True), DiagonalLSTMCell(False)], ids=repr)
def test_every_cell_passes(cell: Cell, backend: Backend) -> None:
    report = rr.check_gradients(cell, backend=backend)
    assert report.ok, f"\n{report}"
    names = {row.name for row in report.rows}
    assert names == (
        {f"x.{gate}" for gate in cell.input_gates}
        | {f"h.{gate}" for gate in cell.recurrent_gates}
        | {"before.h", "before.c"}
        | {f"params.{name}.{row}" for name, rows in cell.pointwise.items() for row in rows}
    )


def test_each_array_of_a_layer_is_checked() -> None:
    names = [row.name for row in rr.check_gradients(rr.LSTM(2, 3, proj_size=2, seed=0)).rows]
    params = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0", "weight_hr_l0"]
    assert sorted(names) == sorted([*params, "x", "start.h", "start.c"])


# Faults that it must find ---------------------------------------------------------------------------------------------


class Faulty(rr.LSTM):
    """An LSTM whose backward is spoilt afterwards."""

    def __init__(self, spoil: Any) -> None:
        super().__init__(2, 3, seed=0)
        self.spoil = spoil

    def backward(self, cache: Any, dy: Any, dstate: Any = None) -> Any:
        dx, dstart, grads = super().backward(cache, dy, dstate)
        found = {"x": dx, "start.h": dstart.h, "start.c": dstart.c} | grads
        self.spoil(found)
        return found["x"], rr.State(found["start.h"], found["start.c"]), {name: found[name] for name in grads}


ARRAYS = ["x", "start.h", "start.c", "weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]


def wrong(report: rr.GradientReport) -> list[str]:
    return [row.name for row in report.rows if not row.ok]


@pytest.mark.parametrize("name", ARRAYS)
def test_one_element_that_is_off(name: str) -> None:
    """By a thousandth of the largest."""

    def spoil(found: dict[str, Any]) -> None:
        a = found[name] = found[name].copy()
        a.flat[-1] += 1e-3 * np.abs(a).max()

    report = rr.check_gradients(Faulty(spoil), samples=1000)
    assert not report.ok
    assert wrong(report) == [name]


@pytest.mark.parametrize("filling", [np.nan, np.inf])
@pytest.mark.parametrize("name", ARRAYS)
def test_an_element_that_is_no_number(name: str, filling: float) -> None:
    """Found wherever it is, even if few elements are compared."""

    def spoil(found: dict[str, Any]) -> None:
        a = found[name] = found[name].copy()
        a.flat[0] = filling

    with np.errstate(invalid="ignore"):
        report = rr.check_gradients(Faulty(spoil), samples=2)
    assert wrong(report) == [name]


@pytest.mark.parametrize("name", ARRAYS)
def test_a_gradient_of_another_shape(name: str) -> None:
    def spoil(found: dict[str, Any]) -> None:
        found[name] = found[name].T.copy() if found[name].ndim == 2 else np.concatenate([found[name], found[name]])

    assert name in wrong(rr.check_gradients(Faulty(spoil)))


def test_a_gradient_of_zeros() -> None:
    report = rr.check_gradients(Faulty(lambda found: found.update(x=0 * found["x"])))
    assert wrong(report) == ["x"]
    assert "WRONG" in str(report)


class Doubler(Cell):
    """h = 2 x + h before: the simplest cell, with a gradient that may be wrong."""

    input_gates, recurrent_gates, states = ("x",), (), ("h",)
    pointwise = {"k": ("k",)}  # noqa: RUF012

    def __init__(self, fault: str = "") -> None:
        self.fault = fault

    def step(self, x: Any, h: Any, before: Any, params: Any) -> Any:
        return {"h": 2 * x.x * params.k.k + before.h}, {"x": x.x}

    def step_backward(self, d: Any, saved: Any, before: Any, params: Any) -> CellGradients:
        k = params.k.k
        return CellGradients(
            x={"x": (3 if self.fault == "x.x" else 2) * d.h * k},
            h={},
            before={} if self.fault == "before.h" else {"h": d.h},
            params={"k": {"k": (1 if self.fault == "params.k.k" else 2) * d.h * saved.x}},
        )


@pytest.mark.parametrize("fault", ["", "x.x", "before.h", "params.k.k"])
def test_ones_own_cell(fault: str, backend: Backend) -> None:
    """A gradient that is left out counts as zero."""
    assert wrong(rr.check_gradients(Doubler(fault), backend=backend)) == [fault] * bool(fault)


# The report and the side effects --------------------------------------------------------------------------------------


def test_the_report_is_a_table() -> None:
    report = rr.check_gradients(rr.Linear(2, 3, seed=0), samples=5)
    lines = str(report).splitlines()
    assert lines[0].split() == ["gradient", "of", "shape", "checked", "error", "scale"]
    assert [line.split()[0] for line in lines[1:]] == ["weight", "bias", "x"]
    assert lines[1].startswith("weight       (3, 2)     5")
    assert all(line.endswith("ok") for line in lines[1:])
    assert len({len(line) for line in lines[1:]}) == 1
    assert [row.checked for row in report.rows] == [5, 3, 5]


def test_the_layer_stays_as_it_was() -> None:
    """Its params, its precision, and its generator."""
    lstm = rr.LSTM(2, 3, 2, dropout=0.5, seed=0)
    params, draws = lstm.state_dict(), lstm.rng.bit_generator.state
    assert rr.check_gradients(lstm).ok
    assert_all_same(lstm.state_dict(), params)
    assert lstm.rng.bit_generator.state == draws
    assert lstm.dtype == "float32"


def test_dropout_drops_the_same_each_time_or_not_at_all() -> None:
    model = rr.Sequential(rr.Dropout(0.5, seed=0), rr.LSTM(3, 2, 3, dropout=0.5, seed=1))
    assert rr.check_gradients(model, batch=3).ok
    assert rr.check_gradients(model, batch=3, training=False).ok


def test_an_input_of_ones_own() -> None:
    """Of any library and precision; it isn't written to."""
    x = np.random.default_rng(0).standard_normal((2, 7, 2)).astype(np.float32)
    x.flags.writeable = False
    rows = {row.name: row for row in rr.check_gradients(rr.LSTM(2, 3, seed=0), x, lengths=[7, 0]).rows}
    assert rows["x"].shape == (2, 7, 2)
    assert all(row.ok for row in rows.values())
    numbers = np.array([[1, 2, 0]])
    report = rr.check_gradients(rr.Sequential(rr.Embedding(3, 2, seed=0), rr.LSTM(2, 2, seed=0)), numbers)
    assert report.ok
    assert "x" not in [row.name for row in report.rows]


@pytest.mark.parametrize("lengths", [[5, 0, 3, 4], np.array([2]), (1, 2)], ids=str)
def test_there_are_as_many_rows_as_lengths(lengths: Any) -> None:
    rows = {row.name: row for row in rr.check_gradients(rr.LSTM(2, 3, seed=0), lengths=lengths).rows}
    assert rows["x"].shape == (len(lengths), 5, 2)
    assert all(row.ok for row in rows.values())


def test_equal_checks_are_equal() -> None:
    first, second, other = (str(rr.check_gradients(rr.LSTM(2, 3, seed=0), seed=seed)) for seed in (1, 1, 2))
    assert first == second
    assert first != other


def test_what_it_refuses() -> None:
    with pytest.raises(TypeError, match="expected a recurray layer or cell, not int"):
        rr.check_gradients(3)  # type: ignore[arg-type]
    for name in ("batch", "steps", "samples"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, not 0"):
            rr.check_gradients(rr.LSTM(2, 3), **{name: 0})
    with pytest.raises(TypeError, match="tolerance must be a number, not str 'small'"):
        rr.check_gradients(rr.LSTM(2, 3), tolerance="small")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"lengths must have the shape \(2,\), one for each row, not \(3,\)"):
        rr.check_gradients(rr.LSTM(2, 3), lengths=[1, 2, 3], batch=2)
