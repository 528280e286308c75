"""Every built-in cell: its derivative, the NumPy backend's code for it, extreme numbers; and what is a cell's own.

`test_every_layer` has the layers made of them, with formulas of their own. The second half is about cells that users
write, with mistakes in them.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import assert_all_close, assert_all_same, here, host, layer_for, leaves, obtain, problem, results
from harness import named as named_leaves
from harness.cells import CELLS, at_random
from harness.compare_scans import SIZES, both_ways, scan_arguments
from harness.oracles import finite_differences
from recurray.arrays import Array, mean_over_units, namespace_of, sigmoid, tanh
from recurray.backend import Backend
from recurray.cells import (
    Cell,
    CellGradients,
    DiagonalLSTMCell,
    GRUCell,
    IndRNNCell,
    LSTMCell,
    MGUCell,
    RecurrentDropoutCell,
    RNNCell,
    SLSTMCell,
    ZoneoutCell,
)
from recurray.cells.cell import named
from recurray.layers.draws import Noise
from recurray.program import record

EVERY_CELL = pytest.mark.parametrize("cell", CELLS, ids=repr)


@EVERY_CELL
def test_the_derivative_of_a_step(cell: Cell, backend: Backend) -> None:
    thorough = backend is obtain("numpy")
    for seed in range(3 if thorough else 1):
        report = rr.check_gradients(cell, backend=backend, samples=6 if thorough else 2, seed=seed)
        assert report.ok, f"\n{report}"


@EVERY_CELL
def test_the_gradients_of_a_layer(cell: Cell) -> None:
    layer = rr.Recurrent(cell, 2, 3, 2, bidirectional=True, backend=obtain("numpy"), seed=0)
    report = rr.check_gradients(layer, lengths=[4, 0, 3], batch=3, steps=4, samples=2)
    assert report.ok, f"\n{report}"


@pytest.mark.parametrize("reverse", [False, True])
@EVERY_CELL
def test_the_numpy_backend_equals_the_reference(cell: Cell, reverse: bool) -> None:
    """For batches of one row, of none, sequences of no steps, ragged rows; with and without recurrent dropout."""
    rng, backend = np.random.default_rng(7), rr.get_backend("numpy", engine="numpy")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it says so where it leaves a cell to the reference
        for number, (batch, steps) in enumerate(SIZES):
            arguments = scan_arguments(cell, rng, batch=batch, steps=steps, ragged=number % 2 == 0, bias=number % 3 > 0)
            masked = bool(cell.outer_gates) and number % 2 == 1
            both_ways(backend.scan_forward, cell, *arguments, reverse=reverse, rng=rng, masked=masked)


@EVERY_CELL
def test_a_bias_of_each_row_in_the_numpy_backend(cell: Cell) -> None:
    rng, backend = np.random.default_rng(8), rr.get_backend("numpy", engine="numpy")
    for number, (batch, steps) in enumerate([(4, 7), *SIZES]):
        arguments = scan_arguments(cell, rng, batch=batch, steps=steps, ragged=number % 3 == 0, bias="by row")
        masked = bool(cell.outer_gates) and number % 2 == 1
        both_ways(backend.scan_forward, cell, *arguments, reverse=number % 4 > 1, rng=rng, masked=masked)


@EVERY_CELL
def test_cells_compare_by_value(cell: Cell) -> None:
    """So that equal layers share what a backend makes of them."""
    again = replace(cell)  # type: ignore[type-var]
    assert again == cell
    assert hash(again) == hash(cell)
    assert record(again) is record(cell)
    assert sum(other == cell for other in CELLS) == 1


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("platform", here("numpy", "reference", "cupy"))
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
    with np.errstate(all="raise", under="ignore"):  # a closed gate is 0
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


@pytest.mark.parametrize("platform", here("numpy", "device1"))
@pytest.mark.parametrize("seed", range(36))
def test_options_of_a_layer_together(seed: int, platform: str) -> None:
    """Any cell with any options of `Recurrent`: in training and inference every backend gives the same numbers."""
    case, reference, backend = at_random(seed), obtain("reference"), obtain(platform)
    given = problem(case)
    for training in (True, False):
        expected = host(reference, results(layer_for(case, given, reference), given, training))
        assert_all_close(backend, results(layer_for(case, given, backend), given, training), expected)


@pytest.mark.parametrize("seed", range(36))
def test_gradients_of_options_of_a_layer_together(seed: int) -> None:
    for name, (expected, found) in finite_differences(at_random(seed), obtain("numpy"), directions=1).items():
        assert found == pytest.approx(expected, rel=1e-7, abs=1e-8), name


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
        (lambda: ZoneoutCell(GRUCell(), 1.0), "zoneout_h must be at least 0 and below 1, not 1.0"),
        (lambda: ZoneoutCell(LSTMCell(), zoneout_c=-0.1), "zoneout_c must be at least 0 and below 1, not -0.1"),
        (lambda: RecurrentDropoutCell(IndRNNCell(), 1), "p must be at least 0 and below 1, not 1"),
        (lambda: RecurrentDropoutCell(GRUCell(), 0.1), "GRUCell has a recurrent product, which a layer's recurrent_"),
        (
            lambda: RecurrentDropoutCell(ZoneoutCell(IndRNNCell(), 0.1), 0.1),
            "recurrent dropout goes inside ZoneoutCell, around IndRNNCell",
        ),
        (
            lambda: rr.Recurrent(RecurrentDropoutCell(IndRNNCell(), 0.1), 2, 3, recurrent_dropout=0.1),
            "recurrent dropout goes inside RecurrentDropoutCell, around IndRNNCell",
        ),
        (
            lambda: rr.Recurrent(Forgetful(), 2, 3, recurrent_dropout=0.1),
            "Forgetful doesn't read the output before, so there is nothing for recurrent_dropout to drop",
        ),
    ],
)
def test_what_is_refused(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


class Forgetful(Cell):
    """A cell without a recurrence."""

    input_gates = ("a",)

    def step(self, x: Any, h: Any, before: Any, params: Any) -> Any:
        return {"h": tanh(x.a)}, {}

    def step_backward(self, d: Any, saved: Any, before: Any, params: Any) -> CellGradients:
        return CellGradients(x={"a": d.h}, h={}, before={})


@pytest.mark.parametrize("name", ["input", "weight_hh", "start_h"])
def test_a_param_that_the_layer_has_already(name: str) -> None:
    class Greedy(Forgetful):
        pointwise = {name: ("a",)}  # noqa: RUF012

        def step_backward(self, d: Any, saved: Any, before: Any, params: Any) -> CellGradients:
            return replace(super().step_backward(d, saved, before, params), params={name: {"a": d.h}})

    with pytest.raises(ValueError, match=f"Greedy can't have a param named '{name}': the layer has one"):
        rr.Recurrent(Greedy(), 2, 3, learned_state=True)


def test_a_name_that_python_reads_as_another() -> None:
    """In a program's text the ligature is the two letters, in a text it isn't."""

    class Typographic(Forgetful):
        pointwise = {"\ufb01": ("a",)}  # noqa: RUF012

    for use in (lambda cell: rr.Recurrent(cell, 2, 3), rr.check_gradients):
        with pytest.raises(ValueError, match="the name '\ufb01' must be a text that Unicode's NFKC leaves as it is"):
            use(Typographic())


@pytest.mark.parametrize("value", ["0.1", True, None])
def test_probabilities_are_numbers(value: Any) -> None:
    for make in (partial(ZoneoutCell, GRUCell()), partial(RecurrentDropoutCell, IndRNNCell())):
        with pytest.raises(TypeError, match=f"must be a number, not {type(value).__name__}"):
            make(value)


# The sLSTM ------------------------------------------------------------------------------------------------------------


def slstm_step(cell: Cell, before: dict[str, Any], a: dict[str, Any]) -> dict[str, Any]:
    """One step of one unit from pre-activations and states that are numbers, in float64."""
    before = named(cell.states)(*(np.array([[before[name]]], float) for name in cell.states))
    x = named(cell.input_gates)(*(np.array([[a[gate]]], float) for gate in cell.input_gates))
    h = named(cell.input_gates)(*(np.zeros((1, 1)) for _ in cell.input_gates))
    with np.errstate(all="raise", under="ignore"):  # a closed gate is 0
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
        is_old, is_new = found == old, found == taken
        assert (is_old | is_new).all()
        assert is_old.mean() == pytest.approx(probability, abs=0.02)


def test_zoneout_in_inference_takes_the_mean() -> None:
    layer = rr.GRU(3, 5, zoneout_h=0.3, dtype="float64", seed=0)
    plain = rr.GRU(3, 5, dtype="float64", params=layer.params)
    x, h = np.ones((2, 1, 3)), np.full((1, 2, 5), 0.5)
    y, _ = layer(x, rr.State(h))
    np.testing.assert_allclose(y[:, 0], 0.3 * h[0] + 0.7 * plain(x, rr.State(h))[0][:, 0], rtol=0, atol=1e-14)


# Recurrent dropout ----------------------------------------------------------------------------------------------------


WITHOUT_A_PRODUCT = pytest.mark.parametrize(
    "cell", [IndRNNCell(), DiagonalLSTMCell(shared=True), DiagonalLSTMCell(shared=False, coupled=True)], ids=repr
)


def test_recurrent_dropout_drops_the_same_elements_at_each_step(backend: Backend) -> None:
    """Where h = h_prev, an element that is dropped is 0 from the first step on; the others grow by 1 / (1 - p)."""
    rows, units, steps, p = 30, 40, 4, 0.3
    layer = rr.Recurrent(
        IndRNNCell("identity"), 1, units, bias=False, recurrent_dropout=p, backend=backend, dtype="float64", seed=0
    )
    layer.load_state_dict({"weight_ih_l0": np.zeros((units, 1)), "u_l0": np.ones((1, units))})
    x, start = (backend.asarray(a) for a in (np.zeros((rows, steps, 1)), np.ones((1, rows, units))))
    y, _, cache = layer.forward(x, rr.State(start))
    dstart = backend.to_numpy(layer.backward(cache, backend.xp.zeros_like(y), rr.State(start))[1].h)[0]
    y = backend.to_numpy(y)
    kept = y[:, 0] != 0
    assert kept.mean() == pytest.approx(1 - p, abs=0.05)
    assert not (kept == kept[0]).all()
    assert not (kept == kept[:, :1]).all()
    for t in range(steps):
        np.testing.assert_allclose(y[:, t], kept / (1 - p) ** (t + 1), rtol=1e-14)
    np.testing.assert_allclose(dstart, kept / (1 - p) ** steps, rtol=1e-14)


@WITHOUT_A_PRODUCT
def test_recurrent_dropout_that_drops_nothing_is_the_plain_cell(cell: Cell, backend: Backend) -> None:
    """To the last bit: in inference, and in training with a probability of 0."""
    options: dict[str, Any] = {"backend": backend, "dtype": "float32", "seed": 0}
    x = backend.asarray(np.random.default_rng(0).standard_normal((4, 5, 2)), "float32")
    plain = rr.Recurrent(cell, 2, 3, **options)

    def run(layer: rr.Layer, training: bool) -> dict[str, np.ndarray]:
        y, end, cache = layer.forward(x, lengths=[5, 0, 2, 4], training=training)
        dx, dstart, grads = layer.backward(cache, y, end)
        return host(backend, {"y": y, **named_leaves("end", end), "dx": dx, **named_leaves("d", dstart), **grads})

    expected = run(plain, training=True)
    dropping = rr.Recurrent(cell, 2, 3, recurrent_dropout=0.3, **options)
    assert_all_same(run(dropping, training=False), expected)
    assert_all_same(run(rr.Recurrent(RecurrentDropoutCell(cell, 0.0), 2, 3, **options), training=True), expected)
    assert rr.Recurrent(cell, 2, 3, recurrent_dropout=0.0).cell == cell
    assert any((value != expected[name]).any() for name, value in run(dropping, training=True).items())


def test_zoneout_keeps_what_recurrent_dropout_does_not_see(backend: Backend) -> None:
    """A unit that is kept has the old output itself, also where that was dropped on its way into the step."""
    layer = rr.DiagonalLSTM(2, 40, recurrent_dropout=0.5, zoneout_h=0.5, backend=backend, dtype="float64", seed=0)
    h, c = (backend.asarray(a) for a in np.random.default_rng(0).standard_normal((2, 1, 8, 40)))
    end = layer.forward(backend.xp.zeros((8, 1, 2), dtype=h.dtype, device=backend.device), rr.State(h, c))[1]
    same = backend.to_numpy(end.h) == backend.to_numpy(h)
    assert same.mean() == pytest.approx(0.5, abs=0.1)
    assert layer.cell == ZoneoutCell(RecurrentDropoutCell(DiagonalLSTMCell(shared=True), 0.5), zoneout_h=0.5)


def test_a_sequences_draw_is_made_once_and_not_copied() -> None:
    cell = ZoneoutCell(RecurrentDropoutCell(IndRNNCell(), 0.3), 0.2)
    found = Noise(rr.get_backend("numpy"), "float32").cell_draws(np.random.default_rng(0), (9, 4, 3), cell)
    assert {name: (a.shape, a.strides[0] == 0) for name, a in found.items()} == {
        "recurrent_dropout": ((9, 4, 3), True),
        "zoneout_h": ((9, 4, 3), False),
    }


class InnerAlone(Cell):
    """A cell whose one product is amid the step, with what it makes of the output before."""

    input_gates = recurrent_gates = inner_gates = ("n",)
    pointwise = {"p": ("p",)}  # noqa: RUF012

    def inner(self, x: Any, h: Any, before: Any, params: Any) -> Any:
        return params.p.p * before.h

    def step(self, x: Any, h: Any, before: Any, params: Any) -> Any:
        n = tanh(x.n + h.n)
        return {"h": n + 0.5 * before.h}, {"n": n}

    def step_backward(self, d: Any, saved: Any, before: Any, params: Any) -> CellGradients:
        da = d.h * (1 - saved.n * saved.n)
        return CellGradients(x={"n": da}, h={"n": da}, before={"h": 0.5 * d.h}, params={"p": {"p": 0 * d.h}})

    def inner_backward(self, d: Any, saved: Any, before: Any, params: Any) -> CellGradients:
        return CellGradients(x={}, h={}, before={"h": d * params.p.p}, params={"p": {"p": d * before.h}})


@pytest.mark.parametrize("platform", here("numpy", "reference", "cupy"))
def test_recurrent_dropout_of_a_users_cell(platform: str) -> None:
    """Into the step and into what is amid it."""
    layer = rr.Recurrent(InnerAlone(), 2, 3, 2, recurrent_dropout=0.4, backend=obtain(platform), seed=0)
    report = rr.check_gradients(layer, lengths=[4, 0, 5], batch=3)
    assert report.ok, f"\n{report}"
    assert rr.check_gradients(layer.cell, backend=obtain(platform)).ok


def test_recurrent_dropout_of_a_cell_that_cannot_be_recorded() -> None:
    class Cumulative(IndRNNCell):
        def step(self, x: Any, h: Any, before: Any, params: Any) -> Any:
            return super().step(x, h, before, params) if before.h.shape else ({}, {})

    with pytest.warns(UserWarning, match="RecurrentDropoutCell runs slowly, .*: in Cumulative, a step is"):
        assert rr.check_gradients(rr.Recurrent(Cumulative(), 2, 3, recurrent_dropout=0.4, seed=0)).ok


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
        rr.Recurrent(ZoneoutCell(cell, 0.1), 2, 3)
    with pytest.raises(ValueError, match=words):
        rr.check_gradients(cell)


def widened(a: Array) -> Array:
    return namespace_of(a).astype(a, namespace_of(a).float64)


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
        ("step", lambda r: ({"h": widened(r[0]["h"])}, r[1]), "'h': it is float64 where all else is float32"),
        ("step", lambda r: ({"h": 0.0}, r[1]), "wrong state 'h': it is of the type float, not an array"),
        ("inner", lambda a: a.T, "Gated.inner returned a wrong result: its shape is (3, 2), not (2, 3)"),
        (
            "h_n",
            lambda a: a[:1, ...],
            "Gated.step_backward returned a wrong gradient of the recurrent gate 'n': its shape",
        ),
    ],
)
def test_what_cannot_be_gone_on_with_is_refused(mistake: str, spoil: Any, words: str, backend: Backend) -> None:
    """By the check, and when a layer is made."""
    with pytest.raises(ValueError, match=re.escape(words)):
        rr.check_gradients(Gated(**{mistake: spoil}))
    with pytest.raises(ValueError, match=re.escape(words)):
        rr.Recurrent(Gated(**{mistake: spoil}), 2, 3, backend=backend)


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (mean_over_units, "its shape is (2, 1), not (2, 3)"),
        (lambda a: 0.0, "it is of the type float, not an array of the backend "),
        (widened, "it is float64 where all else is float32"),
    ],
)
def test_a_layer_of_a_cell_with_a_gradient_of_the_wrong_kind(spoil: Any, fault: str, backend: Backend) -> None:
    words = re.escape(f"Gated.step_backward returned a wrong gradient of x.n: {fault}")
    with pytest.raises(ValueError, match=words):
        rr.Recurrent(Gated(x_n=spoil), 2, 3, backend=backend)


def test_a_numpy_number_in_a_cell_makes_numpys_arrays_float64() -> None:
    with pytest.raises(ValueError, match=r"gradient of x\.n: it is float64 where all else is float32"):
        rr.Recurrent(Gated(x_n=lambda a: a * np.float64(1.0)), 2, 3, backend="numpy")


@pytest.mark.parametrize(
    ("mistake", "spoil", "words"),
    [
        ("step", lambda r: r[0], "step must return two dicts, of the states .*, not dict"),
        ("step", lambda r: (*r, 1), "step must return two dicts, .*, not a tuple of 3"),
        ("step", lambda r: (r[0], None), "step must return two dicts, .*, not a tuple of 2"),
        ("step_backward", lambda g: None, "step_backward must return CellGradients, not NoneType"),
        ("step_backward", lambda g: (g.x, g.h), "step_backward must return CellGradients, not tuple"),
    ],
)
def test_what_is_no_result_at_all(mistake: str, spoil: Any, words: str) -> None:
    cell = Gated(**{mistake: spoil})
    for use in (rr.check_gradients, partial(rr.Recurrent, input_size=2, hidden_size=3)):
        with pytest.raises(TypeError, match=f"Gated.{words}"):
            use(cell)


def test_a_cell_that_cannot_be_hashed_says_what_to_do() -> None:
    @dataclass
    class Loose(Gated):
        rate: float = 0.1

    with pytest.raises(TypeError, match="Loose can't be hashed: a cell with options is a frozen dataclass of them"):
        rr.Recurrent(Loose(), 2, 3)


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
