"""Every built-in cell: its derivative, the NumPy backend's code for it, extreme numbers; and what is a cell's own.

`test_every_layer` has the layers made of them, with formulas of their own. The second half is about cells that users
write, with mistakes in them.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import recurray as rr
from cells import CELLS
from harness import here, host, leaves, obtain
from recurray.arrays import mean_over_units, sigmoid, tanh
from recurray.backend import Backend
from recurray.cells import (
    Cell,
    CellGradients,
    DiagonalLSTMCell,
    GRUCell,
    IndRNNCell,
    LSTMCell,
    MGUCell,
    RNNCell,
    SLSTMCell,
    ZoneoutCell,
)
from recurray.cells.cell import named
from recurray.recording import record
from test_numpy_backend import SIZES, both_ways, problem

EVERY_CELL = pytest.mark.parametrize("cell", CELLS, ids=repr)


@EVERY_CELL
def test_the_derivative_of_a_step(cell: Cell, backend: Backend) -> None:
    for seed in range(3 if backend.name == "numpy" else 1):
        report = rr.check_gradients(cell, backend=backend, samples=6 if backend.name == "numpy" else 2, seed=seed)
        assert report.ok, f"\n{report}"


@pytest.mark.parametrize("platform", here("numpy", "reference"))
@EVERY_CELL
def test_the_gradients_of_a_layer(cell: Cell, platform: str) -> None:
    layer = rr.Recurrent(cell, 2, 3, 2, bidirectional=True, backend=obtain(platform), seed=0)
    report = rr.check_gradients(layer, lengths=[4, 0, 3], batch=3, steps=4, samples=2)
    assert report.ok, f"\n{report}"


@pytest.mark.parametrize("reverse", [False, True])
@EVERY_CELL
def test_the_numpy_backend_equals_the_reference(cell: Cell, reverse: bool) -> None:
    """For batches of one row, of none, sequences of no steps, ragged rows; with and without recurrent dropout."""
    rng = np.random.default_rng(7)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it says so where it leaves a cell to the reference
        for number, (batch, steps) in enumerate(SIZES):
            arguments = problem(cell, rng, batch=batch, steps=steps, ragged=number % 2 == 0, bias=number % 3 > 0)
            both_ways(cell, *arguments, reverse=reverse, rng=rng, masked=bool(cell.outer_gates) and number % 2 == 1)


@EVERY_CELL
def test_cells_compare_by_value(cell: Cell) -> None:
    """So that equal layers share what a backend makes of them."""
    again = replace(cell)  # type: ignore[type-var]
    assert again == cell
    assert hash(again) == hash(cell)
    assert record(again) is record(cell)
    assert sum(other == cell for other in CELLS) == 1


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("platform", here("numpy", "reference"))
@EVERY_CELL
def test_large_numbers_overflow_nowhere(cell: Cell, platform: str, dtype: str) -> None:
    """Inputs and states of 10,000 and of next to nothing side by side, and their gradients, without a warning."""
    backend, rng = obtain(platform), np.random.default_rng(0)
    sizes = np.array([1e4, 100.0, 50.0, 1.0, 1e-4, 0.0])

    def draw(*shape: int) -> Any:
        return backend.asarray(rng.choice(sizes, shape) * rng.choice([-1.0, 1.0], shape), dtype)

    layer = rr.Recurrent(cell, 3, 16, backend=backend, dtype=dtype, seed=0)
    x, state = draw(4, 6, 3), layer.state_type(*(draw(1, 4, 16) for _ in layer.state_type._fields))
    if layer.state_type is rr.State and "c" not in cell.states:
        state = rr.State(state.h)
    with np.errstate(all="raise"):
        for start in (None, state):
            y, end, cache = layer.forward(x, start)
            dx, dstart, grads = layer.backward(cache, y, None)
            found = host(backend, {"y": y, "dx": dx, **leaves(end), **leaves(dstart), **grads})
            assert all(np.isfinite(value).all() for value in found.values())


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@EVERY_CELL
def test_streaming(cell: Cell, dtype: str) -> None:
    """States beside h and c are carried too."""
    layer = rr.Recurrent(cell, 3, 4, 2, dtype=dtype, seed=0)
    x = np.random.default_rng(0).standard_normal((2, 9, 3)).astype(dtype)
    stream = rr.Streaming(layer)
    ys = [stream(x[:, first:last]) for first, last in ((0, 1), (1, 4), (4, 4), (4, 9))]
    allowed = {"float64": 1e-12, "float32": 1e-6}[dtype]
    y, end = layer(x)
    np.testing.assert_allclose(np.concatenate(ys, axis=1), y, rtol=0, atol=allowed)
    for name, value in leaves(end).items():
        np.testing.assert_allclose(leaves(stream.state)[name], value, rtol=0, atol=allowed, err_msg=name)


@pytest.mark.parametrize("cell", [GRUCell(), GRUCell(False), MGUCell(), IndRNNCell(), DiagonalLSTMCell(shared=True)])
def test_a_cell_that_reads_its_output_cannot_be_projected(cell: Cell) -> None:
    with pytest.raises(ValueError, match="computes with the output before, element by element"):
        rr.Recurrent(cell, 3, 4, proj_size=2)


@pytest.mark.parametrize("cell", [RNNCell(), SLSTMCell()], ids=repr)
def test_others_can(cell: Cell) -> None:
    assert rr.check_gradients(rr.Recurrent(cell, 3, 4, 2, proj_size=2, seed=0)).ok


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: RNNCell("sinus"), "nonlinearity must be one of 'tanh', .*, not 'sinus'"),
        (lambda: IndRNNCell("sinus"), "nonlinearity must be one of 'tanh', .*, not 'sinus'"),
        (lambda: SLSTMCell("relu"), "forget_gate must be one of 'sigmoid', 'exponential', not 'relu'"),
        (lambda: ZoneoutCell(GRUCell(), zoneout_c=0.1), "GRUCell has no state 'c' for zoneout_c=0.1"),
    ],
)
def test_what_is_refused(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


# The sLSTM ------------------------------------------------------------------------------------------------------------


def slstm_step(cell: Cell, before: dict[str, Any], a: dict[str, Any]) -> dict[str, Any]:
    """One step of one unit from pre-activations and states that are numbers, in float64."""
    before = named(cell.states)(*(np.array([[before[name]]], float) for name in cell.states))
    x = named(cell.input_gates)(*(np.array([[a[gate]]], float) for gate in cell.input_gates))
    h = named(cell.input_gates)(*(np.zeros((1, 1)) for _ in cell.input_gates))
    with np.errstate(all="raise"):
        after, _ = cell.step(x, h, before, ())
    return {name: float(value[0, 0]) for name, value in after.items()}


EMPTY = {"h": 0.0, "c": 0.0, "n": 0.0, "m": 0.0}
SLSTM = pytest.mark.parametrize("cell", [SLSTMCell(), SLSTMCell("exponential")], ids=repr)


@SLSTM
@pytest.mark.parametrize("a_i", [-1e4, -700.0, -1.0, 0.0, 3.0, 1e4])
@pytest.mark.parametrize("a_f", [-1e4, 0.0, 1e4])
def test_the_first_step_takes_what_comes_in(cell: Cell, a_i: float, a_f: float) -> None:
    """Whatever the gates are, nothing being there to weigh it against: h = o z."""
    after = slstm_step(cell, EMPTY, {"i": a_i, "f": a_f, "z": 0.5, "o": 0.2})
    z, o = np.tanh(0.5), 1 / (1 + np.exp(-0.2))
    assert after == pytest.approx({"h": o * z, "c": z, "n": 1.0, "m": a_i})


@SLSTM
def test_the_normaliser_stays_above_zero(cell: Cell) -> None:
    """At least 1 for a row that started from zeros, however its gates go."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        now = EMPTY
        for _ in range(30):
            size = 10 ** rng.uniform(-3, 4, 4)
            now = slstm_step(cell, now, dict(zip("ifzo", size * rng.choice([-1, 1], 4), strict=True)))
            assert now["n"] >= 1
            assert abs(now["c"]) <= now["n"]
            assert abs(now["h"]) <= 1


@SLSTM
@pytest.mark.parametrize("shift", [-3.0, 5.0, 15.0])
def test_the_output_does_not_depend_on_the_scale_of_the_state(cell: Cell, shift: float) -> None:
    """(c, n, m) and (c exp(-s), n exp(-s), m + s) hold the same."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        a = dict(zip("ifzo", 3 * rng.standard_normal(4), strict=True))
        before = {"h": 0.0, "c": rng.standard_normal(), "n": rng.uniform(0.1, 3), "m": rng.standard_normal()}
        moved = before | {name: before[name] * np.exp(-shift) for name in "cn"} | {"m": before["m"] + shift}
        assert slstm_step(cell, moved, a)["h"] == pytest.approx(slstm_step(cell, before, a)["h"], rel=1e-11)


def test_the_exponential_input_gate_overrules_what_is_there() -> None:
    """What the sigmoid gate can't do: one step with a large enough gate replaces the memory."""
    before = {"h": 0.0, "c": 30.0, "n": 40.0, "m": 2.0}
    after = slstm_step(SLSTMCell(), before, {"i": 45.0, "f": 10.0, "z": -2.0, "o": 50.0})
    assert after["h"] == pytest.approx(np.tanh(-2.0), rel=1e-12)


# Zoneout --------------------------------------------------------------------------------------------------------------


def test_zoneout_keeps_units_as_they_were() -> None:
    """In training a unit's h, and c, is that of the step before or the new one; so often as asked for."""
    cell = ZoneoutCell(LSTMCell(), zoneout_h=0.3, zoneout_c=0.6)
    layer = rr.Recurrent(cell, 3, 200, dtype="float64", seed=0)
    plain = rr.Recurrent(LSTMCell(), 3, 200, dtype="float64", params=layer.params)
    x = np.random.default_rng(0).standard_normal((40, 1, 3))
    start = rr.State(*np.random.default_rng(1).standard_normal((2, 1, 40, 200)))
    _, end, _ = layer.forward(x, start)
    _, new = plain(x, start)
    for name, probability in (("h", 0.3), ("c", 0.6)):
        found, old, taken = (leaves(state)[name] for state in (end, start, new))
        is_old, is_new = (np.isclose(found, other, rtol=0, atol=1e-14) for other in (old, taken))
        assert (is_old | is_new).all()
        assert is_old.mean() == pytest.approx(probability, abs=0.02)


def test_zoneout_in_inference_takes_the_mean() -> None:
    layer = rr.GRU(3, 5, zoneout_h=0.3, dtype="float64", seed=0)
    plain = rr.GRU(3, 5, dtype="float64", params=layer.params)
    x, h = np.ones((2, 1, 3)), np.full((1, 2, 5), 0.5)
    y, _ = layer(x, rr.State(h))
    np.testing.assert_allclose(y[:, 0], 0.3 * h[0] + 0.7 * plain(x, rr.State(h))[0][:, 0], rtol=0, atol=1e-14)


# Cells with mistakes --------------------------------------------------------------------------------------------------


class Gated(Cell):
    """A cell that is right: a gate, an inner product and a param, h = p f n + (1 - f) h_prev. It may be spoilt."""

    input_gates = recurrent_gates = ("f", "n")
    inner_gates = ("n",)
    pointwise = {"p": ("p",)}  # noqa: RUF012

    def __init__(self, **spoilt: Any) -> None:
        self.spoilt = spoilt  # by method, or by the name of a gradient: what is done to the result

    def spoil(self, what: str, value: Any) -> Any:
        return self.spoilt.get(what, lambda value: value)(value)

    def inner(self, x: Any, h: Any, before: Any, params: Any) -> Any:
        return self.spoil("inner", sigmoid(x.f + h.f) * before.h)

    def step(self, x: Any, h: Any, before: Any, params: Any) -> Any:
        f, n = sigmoid(x.f + h.f), tanh(x.n + h.n)
        return self.spoil("step", ({"h": params.p.p * f * n + (1 - f) * before.h}, {"f": f, "n": n}))

    def step_backward(self, d: Any, saved: Any, before: Any, params: Any) -> CellGradients:
        f, n, p = saved.f, saved.n, params.p.p
        found = {
            "x_f": d.h * (p * n - before.h) * (f * (1 - f)),
            "x_n": d.h * p * f * (1 - n * n),
            "before_h": d.h * (1 - f),
            "p": d.h * f * n,
        }
        found |= {"h_f": found["x_f"], "h_n": found["x_n"]}
        found = {name: self.spoil(name, value) for name, value in found.items()}
        return self.spoil(
            "step_backward",
            CellGradients(
                x={"f": found["x_f"], "n": found["x_n"]},
                h={"f": found["h_f"], "n": found["h_n"]},
                before={"h": found["before_h"]},
                params={"p": {"p": found["p"]}},
            ),
        )

    def inner_backward(self, d: Any, saved: Any, before: Any, params: Any) -> CellGradients:
        da = self.spoil("inner_f", d * before.h * (saved.f * (1 - saved.f)))
        return CellGradients(x={"f": da}, h={"f": da}, before={"h": self.spoil("inner_h", d * saved.f)})


def wrong(report: rr.GradientReport) -> dict[str, str]:
    return {row.name: row.fault for row in report.rows if not row.ok}


def test_the_cell_without_mistakes_passes(backend: Backend) -> None:
    report = rr.check_gradients(Gated(), backend=backend)
    assert report.ok, f"\n{report}"
    assert {row.name for row in report.rows} == {"x.f", "x.n", "h.f", "h.n", "before.h", "params.p.p"}
    assert rr.check_gradients(rr.Recurrent(Gated(), 2, 3, seed=0)).ok


@pytest.mark.parametrize(
    ("mistake", "found"),
    [
        ("x_f", {"x.f"}),
        ("x_n", {"x.n"}),
        ("h_f", {"h.f"}),
        ("h_n", {"h.n", "x.f", "h.f", "before.h"}),  # it goes on through the inner product
        ("before_h", {"before.h"}),
        ("p", {"params.p.p"}),
        ("inner_f", {"x.f", "h.f"}),
        ("inner_h", {"before.h"}),
    ],
)
def test_a_backward_that_disagrees_is_told_by_name(mistake: str, found: set[str]) -> None:
    report = rr.check_gradients(Gated(**{mistake: lambda value: 1.001 * value}))
    assert wrong(report) == dict.fromkeys(found, "")
    for row, line in zip(report.rows, str(report).splitlines()[1:], strict=True):
        assert line.startswith(row.name)
        assert line.endswith("WRONG" if row.name in found else "ok")


@pytest.mark.parametrize(
    ("mistake", "spoil", "name", "fault"),
    [
        ("p", lambda a: np.sum(a, axis=0), "params.p.p", "its shape is (3,), not (2, 3)"),
        ("x_n", lambda a: a[:1], "x.n", "its shape is (1, 3), not (2, 3)"),
        ("x_n", lambda a: 0.0, "x.n", "it is of the type float, not an array of the backend 'numpy'"),
        ("x_n", lambda a: None, "x.n", "it is missing"),
        ("x_n", lambda a: a * np.float64(1.0), "x.n", "it is float64 where all else is float32"),
        ("x_n", lambda a: a.astype("float32"), "x.n", "it is float32 where all else is float64"),
        ("p", lambda a: np.where(a == np.max(a), a.dtype.type("nan"), a), "params.p.p", "not all of it is finite"),
    ],
)
def test_a_gradient_of_the_wrong_kind_is_told_by_name(mistake: str, spoil: Any, name: str, fault: str) -> None:
    report = rr.check_gradients(Gated(**{mistake: spoil}))
    assert wrong(report) == {name: fault}
    assert f"WRONG: {fault}" in str(report)


@pytest.mark.parametrize(
    ("mistake", "spoil", "what", "names"),
    [
        ("step", lambda r: ({"c": r[0]["h"]}, r[1]), "the states after it", "['h'], not ['c']"),
        ("step", lambda r: (r[0] | {"c": r[0]["h"]}, r[1]), "the states after it", "['h'], not ['h', 'c']"),
        ("step_backward", lambda g: replace(g, x={"f": g.x["f"]}), "gradients by input gate", "['f', 'n'], not ['f']"),
        (
            "step_backward",
            lambda g: replace(g, h=g.h | {"z": g.h["n"]}),
            "gradients by recurrent gate",
            "['f', 'n'], not ['f', 'n', 'z']",
        ),
        (
            "step_backward",
            lambda g: replace(g, before={"c": g.before["h"]}),
            "gradients by state",
            "['h'], not ['c', 'h']",
        ),
        ("step_backward", lambda g: replace(g, params={}), "gradients by param", "['p'], not []"),
        (
            "step_backward",
            lambda g: replace(g, params={"p": {"q": g.params["p"]["p"]}}),
            "gradients by row of 'p'",
            "['p'], not ['q']",
        ),
    ],
)
def test_wrong_names_are_refused(mistake: str, spoil: Any, what: str, names: str) -> None:
    """When a layer is made, and by the check."""
    cell = Gated(**{mistake: spoil})
    words = re.escape(f"Gated.{mistake} must return {what} with the names {names}")
    with pytest.raises(ValueError, match=words):
        rr.Recurrent(cell, 2, 3)
    with pytest.raises(ValueError, match=words):
        rr.check_gradients(cell)


@pytest.mark.parametrize(
    ("mistake", "spoil", "words"),
    [
        (
            "step",
            lambda r: ({"h": r[0]["h"][:, :1]}, r[1]),
            "step returned a wrong state 'h': its shape is (2, 1), not",
        ),
        (
            "step",
            lambda r: ({"h": mean_over_units(r[0]["h"])}, r[1]),
            "wrong state 'h': its shape is (2, 1), not (2, 3)",
        ),
        ("step", lambda r: ({"h": r[0]["h"] * np.float64(2)}, r[1]), "'h': it is float64 where all else is float32"),
        ("step", lambda r: ({"h": 0.0}, r[1]), "wrong state 'h': it is of the type float, not an array"),
        ("inner", lambda a: a.T, "Gated.inner returned a wrong result: its shape is (3, 2), not (2, 3)"),
        ("h_n", lambda a: a[:1], "Gated.step_backward returned a wrong gradient of the recurrent gate 'n': its shape"),
    ],
)
def test_what_cannot_be_gone_on_with_is_refused(mistake: str, spoil: Any, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        rr.check_gradients(Gated(**{mistake: spoil}))


def test_a_cell_without_its_inner_methods_says_so() -> None:
    class Forgetful(Gated):
        inner = Cell.inner

    with pytest.raises(TypeError, match=r"Forgetful has inner gates \('n',\) but no method inner"):
        rr.check_gradients(Forgetful())


# Layers with mistakes: what the check says beyond `test_gradient_check` -----------------------------------------------


class Spoilt(rr.GRU):
    """A GRU whose results are spoilt on their way out."""

    def __init__(self, forward: Any = None, backward: Any = None) -> None:
        super().__init__(2, 3, seed=0)
        self.spoil_forward = forward or (lambda *results: results)
        self.spoil_backward = backward or (lambda *results: results)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.spoil_forward(*super().forward(*args, **kwargs))

    def backward(self, *args: Any, **kwargs: Any) -> Any:
        return self.spoil_backward(*super().backward(*args, **kwargs))


@pytest.mark.parametrize(
    ("spoil", "name", "fault"),
    [
        (lambda dx, d, g: (None, d, g), "x", "it is missing"),
        (lambda dx, d, g: (dx, None, g), "start.h", "it is missing"),
        (lambda dx, d, g: (dx, d, {k: g[k] for k in g if k != "bias_hh_l0"}), "bias_hh_l0", "it is missing"),
        (lambda dx, d, g: (dx[:, 1:], d, g), "x", "its shape is (2, 4, 2), not (2, 5, 2)"),
        (lambda dx, d, g: (dx * np.float64(1), d, g), "x", "it is float64 where all else is float32"),
    ],
)
def test_a_layers_gradient_of_the_wrong_kind(spoil: Any, name: str, fault: str) -> None:
    assert wrong(rr.check_gradients(Spoilt(backward=spoil))) == {name: fault}


def test_a_layer_that_returns_the_wrong_names_or_kind() -> None:
    with pytest.raises(ValueError, match=r"Spoilt.backward must return gradients of params with the names .*'extra'"):
        rr.check_gradients(Spoilt(backward=lambda dx, d, g: (dx, d, g | {"extra": dx})))
    with pytest.raises(ValueError, match=r"Spoilt.forward returned a wrong y: it is float64 where all else is float32"):
        rr.check_gradients(Spoilt(forward=lambda y, end, cache: (y * np.float64(1), end, cache)))
