"""Gates whose two products are one, and such as look alike but whose products must stay apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness import obtain
from harness.compare_scans import both_ways, scan_arguments
from recurray.arrays import namespace_of, tanh
from recurray.cells import Cell, CellGradients
from recurray.program import merged_gates, record


class Plain(Cell):
    """One gate, whose products are only added up."""

    input_gates = recurrent_gates = ("a",)

    def step(self, x: Any, h: Any, before: Any, params: Any) -> Any:
        y = tanh(x.a + h.a)
        return {"h": y}, {"y": y}

    def step_backward(self, d: Any, saved: Any, before: Any, params: Any) -> CellGradients:
        da = {"a": d.h * (1 - saved.y * saved.y)}
        return CellGradients(x=da, h=da, before={})


class ReadsInput(Plain):
    """The product with the input is used once more by itself."""

    def step(self, x: Any, h: Any, before: Any, params: Any) -> Any:
        y = tanh(x.a + h.a)
        return {"h": y * x.a}, {"y": y, "x": x.a}

    def step_backward(self, d: Any, saved: Any, before: Any, params: Any) -> CellGradients:
        da = d.h * saved.x * (1 - saved.y * saved.y)
        return CellGradients(x={"a": da + d.h * saved.y}, h={"a": da}, before={})


class ReadsOutput(Plain):
    """The product with the output before is used once more by itself."""

    def step(self, x: Any, h: Any, before: Any, params: Any) -> Any:
        y = tanh(x.a + h.a)
        return {"h": y * h.a}, {"y": y, "h_a": h.a}

    def step_backward(self, d: Any, saved: Any, before: Any, params: Any) -> CellGradients:
        da = d.h * saved.h_a * (1 - saved.y * saved.y)
        return CellGradients(x={"a": da}, h={"a": da + d.h * saved.y}, before={})


class SavesInput(Plain):
    """The product with the input is kept for backward."""

    def step(self, x: Any, h: Any, before: Any, params: Any) -> Any:
        y = tanh(x.a + h.a)
        return {"h": y}, {"y": y, "x": x.a}

    def step_backward(self, d: Any, saved: Any, before: Any, params: Any) -> CellGradients:
        da = {"a": d.h * ((1 - saved.y * saved.y) + 0.1 * saved.x)}
        return CellGradients(x=da, h=da, before={})


class Switched(Plain):
    """The product with the input decides by itself what becomes of the sum; that has no gradient."""

    def step(self, x: Any, h: Any, before: Any, params: Any) -> Any:
        y = tanh(x.a + h.a)
        factor = namespace_of(y).where(x.a > 0, y * 0 + 1, y * 0 + 0.5)
        return {"h": y * factor}, {"y": y, "factor": factor}

    def step_backward(self, d: Any, saved: Any, before: Any, params: Any) -> CellGradients:
        da = {"a": d.h * saved.factor * (1 - saved.y * saved.y)}
        return CellGradients(x=da, h=da, before={})


class Damped(Plain):
    """A cell that lets half of the gradient through to the step before."""

    def step_backward(self, d: Any, saved: Any, before: Any, params: Any) -> CellGradients:
        da = d.h * (1 - saved.y * saved.y)
        return CellGradients(x={"a": da}, h={"a": 0.5 * da}, before={})


CELLS = [Plain(), ReadsInput(), ReadsOutput(), SavesInput(), Switched(), Damped()]


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: type(cell).__name__)
def test_products_are_one_where_they_may_be(cell: Cell) -> None:
    assert merged_gates(cell, record(cell)) == (("a",) if type(cell) is Plain else ())


@pytest.mark.parametrize("engine", ["numpy", "native"])
@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: type(cell).__name__)
def test_such_cells_equal_the_reference(cell: Cell, engine: str) -> None:
    backend = obtain(engine)
    rng = np.random.default_rng(0)
    for batch in (1, 3):
        weights, x, start, lengths = scan_arguments(cell, rng, batch=batch, steps=6)
        both_ways(backend.scan_forward, cell, weights, x, start, lengths, rng=rng)
