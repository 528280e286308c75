"""The mistakes that hand-written LSTMs are known to make: a test for each, that would catch it.

That they do catch them is shown by `plant_mistakes`, which makes each mistake on purpose and runs its test; the last
test here runs that script.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import (
    Case,
    assert_all_close,
    assert_same,
    formulas,
    give,
    host,
    layer_for,
    on_host,
    problem,
    results,
)
from harness.oracles import by_formula
from mutation.more_mistakes import ANEW, SURVIVORS
from mutation.plant_mistakes import MISTAKES, ROOT
from recurray.arrays import sigmoid
from recurray.backend import Backend

B, T, I, H = 4, 5, 2, 3  # noqa: E741 - four rows, as many as gates, so that a batch could be split by mistake

BOTH = pytest.mark.parametrize(
    "case",
    [
        Case("lstm", partial(rr.LSTM, I, H, seed=0), formulas.lstm, batch=B, steps=T),
        Case("diagonal", partial(rr.DiagonalLSTM, I, H, seed=0), formulas.diagonal_lstm, batch=B, steps=T),
    ],
    ids=str,
)


def run(case: Case, backend: Backend, **changed: np.ndarray) -> dict[str, np.ndarray]:
    """What forward and backward give, as NumPy arrays. ``changed``: x, dy, or a name of a start or end: h, dc."""
    given = problem(case)
    for name, value in changed.items():
        if name in ("x", "dy"):
            given = replace(given, **{name: value})
        else:
            group = "dend" if name in ("dh", "dc") else "start"
            given = replace(given, **{group: getattr(given, group) | {name[-1]: value}})
    return host(backend, results(layer_for(case, given, backend), given))


def moved(a: np.ndarray, *place: Any) -> np.ndarray:
    """A copy with something added at a place."""
    a = a.copy()
    a[place] += 1.0
    return a


@BOTH
def test_gates_split_along_the_batch(case: Case, backend: Backend) -> None:
    """A row's output would be made of other rows' gates."""
    before, after = (run(case, backend, x=x)["y"] for x in (problem(case).x, moved(problem(case).x, 0)))
    assert (after[0] != before[0]).all()
    np.testing.assert_allclose(after[1:], before[1:], rtol=0, atol=1e-14)


@BOTH
def test_a_step_reads_its_own_state_instead_of_the_one_before(case: Case, backend: Backend) -> None:
    """There would be no recurrence: a step's output depends on each step before it, and on the start state."""
    before = run(case, backend)["y"]
    for t in range(T):
        after = run(case, backend, x=moved(problem(case).x, slice(None), t))["y"]
        assert_same(after[:, :t], before[:, :t])
        assert (after[:, t:] != before[:, t:]).any(axis=2).all()
    for name in "hc":
        after = run(case, backend, **{name: problem(case).start[name] + 1})["y"]
        assert (after != before).any(axis=2).all()


@BOTH
def test_the_output_is_never_written(case: Case, backend: Backend) -> None:
    """The output at each step is the state that a run up to it ends with."""
    y = run(case, backend)["y"]
    layer = layer_for(case, problem(case), backend)
    given = give(layer, problem(case))
    for t in range(T):
        _, end = layer(backend.asarray(problem(case).x[:, : t + 1].copy()), given.state)
        np.testing.assert_allclose(y[:, t], backend.to_numpy(end.h)[0], rtol=0, atol=1e-14)
    assert y.all()


@BOTH
def test_the_callers_state_is_written_to(case: Case, backend: Backend) -> None:
    layer = layer_for(case, problem(case), backend)
    given = give(layer, problem(case))
    results(layer, given)
    layer(given.x, given.state)
    for name, expected in problem(case).start.items():
        assert_same(backend.to_numpy(getattr(given.state, name)), expected)


@BOTH
def test_backward_takes_the_incoming_gradient_for_the_gates(case: Case, backend: Backend) -> None:
    """It would not be linear in the gradient that comes in."""
    given = problem(case)
    once = run(case, backend)
    twice = run(case, backend, dy=2 * given.dy, dh=2 * given.dend["h"], dc=2 * given.dend["c"])
    for name, value in once.items():
        if name.startswith("d"):
            np.testing.assert_allclose(twice[name], 2 * value, rtol=0, atol=1e-12, err_msg=name)


SQUARE = Case("square", partial(rr.LSTM, 3, 3, seed=0), formulas.lstm)


def test_input_and_state_are_stacked_in_one_order_forward_and_another_backward(backend: Backend) -> None:
    """No shape would show it where there are as many inputs as units."""
    found = results(layer_for(SQUARE, problem(SQUARE), backend), problem(SQUARE))
    assert_all_close(backend, found, by_formula(SQUARE))


@BOTH
def test_index_minus_1_at_the_first_step(case: Case, backend: Backend) -> None:
    """The first step would read the last one's state in place of the start state, forward or backward."""
    given = problem(case)
    before, after = run(case, backend), run(case, backend, x=moved(given.x, slice(None), T - 1))
    assert_same(after["y"][:, :1], before["y"][:, :1])
    first_only = np.where(np.arange(T)[:, None] == 0, given.dy, 0)
    no_end = {"dh": np.zeros((1, B, H)), "dc": np.zeros((1, B, H))}
    gradients = [
        run(case, backend, dy=first_only, x=x, **no_end) for x in (given.x, moved(given.x, slice(None), T - 1))
    ]
    for name, value in gradients[0].items():
        if name.startswith("d"):
            assert value.any(), name
            np.testing.assert_allclose(gradients[1][name], value, rtol=0, atol=1e-14, err_msg=name)


@pytest.mark.parametrize("through", ["dy", "dh", "dc"])
@BOTH
def test_the_gradient_of_the_next_step_is_dropped(case: Case, through: str, backend: Backend) -> None:
    """From the last output or the final state back to the first input and the start state, by finite differences."""
    given = problem(case)
    zero = {"dy": np.zeros_like(given.dy), "dh": np.zeros((1, B, H)), "dc": np.zeros((1, B, H))}
    weight = given.dy * (np.arange(T)[:, None] == T - 1) if through == "dy" else given.dend[through[1]]
    found = run(case, backend, **zero | {through: weight})
    output = {"dy": "y", "dh": "end.h", "dc": "end.c"}[through]

    def loss(**changed: np.ndarray) -> float:
        return float(np.sum(weight * run(case, backend, **changed)[output]))

    step = 1e-5
    for name, gradient in (("x", "dx"), ("h", "dstart.h"), ("c", "dstart.c")):
        value = given.x if name == "x" else given.start[name]
        direction = np.random.default_rng(0).standard_normal(value.shape)
        if name == "x":
            direction[:, 1:] = 0.0
        slope = (loss(**{name: value + step * direction}) - loss(**{name: value - step * direction})) / (2 * step)
        assert np.sum(direction * found[gradient]) == pytest.approx(slope, rel=1e-7, abs=1e-9), name
        assert abs(slope) > 1e-4


@BOTH
def test_a_bias_gets_anothers_gradient(case: Case, backend: Backend) -> None:
    """Each gate's bias of each unit has its own."""
    found, expected = run(case, backend), by_formula(case)
    for name, value in expected.items():
        if name.startswith(("dparam.bias", "dparam.b")):
            assert len(np.unique(value)) == value.size == 4 * H
            np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-12, err_msg=name)


@BOTH
def test_rows_are_taken_for_time(case: Case, backend: Backend) -> None:
    """Turning the batch round turns the output round, and nothing else."""
    layer = layer_for(case, problem(case), backend)
    x = problem(case).x
    y, turned = (backend.to_numpy(layer(backend.asarray(rows.copy()))[0]) for rows in (x, x[::-1]))
    np.testing.assert_allclose(turned[::-1], y, rtol=0, atol=1e-14)


@BOTH
def test_state_leaks_from_call_to_call(case: Case, backend: Backend) -> None:
    layer = layer_for(case, problem(case), backend)
    x = give(layer, problem(case)).x
    first, second = (backend.to_numpy(layer(x)[0]) for _ in range(2))
    third = backend.to_numpy(layer.forward(x)[0])
    assert_same(first, second)
    np.testing.assert_allclose(third, first, rtol=0, atol=1e-14)


def test_an_optimizer_step_for_each_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """One step for each batch, by the gradient of its mean loss: Adam's first moves each param by the learning rate."""
    from recurray.language_model.settings import Settings
    from recurray.language_model.training import Training

    taken: list[Any] = []
    step = rr.optim.Adam.step
    monkeypatch.setattr(rr.optim.Adam, "step", lambda self, grads: (taken.append(grads), step(self, grads))[1])
    settings = Settings(hidden_size=8, embedding_size=4, batch_size=4, steps=10, epochs=2, dropout=0.0, lr=1e-3)
    training = Training("to be or not to be, that is the question. " * 20, settings, backend="numpy")
    before = training.model.state_dict()
    updates = training.run()
    next(updates)
    after = training.model.state_dict()
    assert len(taken) == 1
    for name, value in before.items():
        assert np.abs(after[name] - value).max() <= 1.001e-3, name
    assert next(updates).step == 2
    assert len(taken) == 2


def test_the_gradient_of_a_batch_is_the_sum_of_its_rows(backend: Backend) -> None:
    """Of a mean loss, the mean: what a step for each batch rests on."""
    lstm = rr.LSTM(I, H, backend=backend, dtype="float64", seed=0)
    rng = np.random.default_rng(0)
    x, target = rng.standard_normal((B, T, I)), rng.standard_normal((B, T, H))

    def gradient(rows: slice) -> dict[str, np.ndarray]:
        y, _, cache = lstm.forward(backend.asarray(x[rows].copy()))
        _, dy = rr.losses.mse(y, backend.asarray(target[rows].copy()))
        return host(backend, lstm.backward(cache, dy)[2])

    alone = [gradient(slice(row, row + 1)) for row in range(B)]
    for name, value in gradient(slice(None)).items():
        mean = sum(own[name] for own in alone) / B
        np.testing.assert_allclose(value, mean, rtol=0, atol=1e-13, err_msg=name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_sigmoid_overflows(dtype: str, backend: Backend) -> None:
    x = backend.asarray(np.array([-1e4, -750.0, -89.0, 0.0, 89.0, 1e4]), dtype)
    with np.errstate(all="raise", under="ignore"):  # a closed gate is 0
        found = on_host(backend, sigmoid(x))
    np.testing.assert_allclose(found, [0, 0, 0, 0.5, 1, 1], rtol=0, atol=1e-30 if dtype == "float64" else 1e-7)
    lstm = rr.LSTM(1, 2, backend=backend, dtype=dtype, seed=0)
    steep = {name: 1e4 * np.sign(value) for name, value in lstm.state_dict().items()}
    lstm.load_state_dict(steep)
    given = backend.asarray(np.ones((1, T, 1)), dtype)
    with np.errstate(all="raise", under="ignore"):  # a closed gate is 0
        y, _, cache = lstm.forward(given)
        dx, _, _ = lstm.backward(cache, y)
    assert np.isfinite(backend.to_numpy(y)).all()
    assert np.isfinite(backend.to_numpy(dx)).all()


@BOTH
def test_float32_becomes_float64(case: Case, backend: Backend) -> None:
    """Not in the params and not in anything that comes out, with a state given or not, whatever came in."""
    layer = case.make(backend=backend, dtype="float32")
    given = give(layer, problem(case), "float64")
    for state in (given.state, None):
        found = results(layer, replace(given, state=state))
        for name, value in (found | dict(layer.params)).items():
            assert value.dtype == backend.xp.float32, name
        y, end = layer(given.x, state)
        assert all(a.dtype == backend.xp.float32 for a in (y, end.h, end.c))


@BOTH
def test_tests_with_zero_states_and_gradients_alone(case: Case) -> None:
    """The mistake of a test: what the tests hand in must not be zero anywhere, nor so short that it hides mistakes."""
    given = problem(case)
    for arrays in (given.start, given.dend, given.params, {"x": given.x, "dy": given.dy}):
        assert arrays
        assert all(value.all() for value in arrays.values())
    assert given.x.shape == (B, T, I)


def test_what_is_replaced_to_plant_a_mistake_stands_once_and_what_comes_of_it_is_python() -> None:
    for mistake in (*MISTAKES, *SURVIVORS, *ANEW):
        text = (ROOT / mistake.file).read_text()
        assert text.count(mistake.old) == 1, mistake
        if mistake.file.endswith(".py"):
            ast.parse(text.replace(mistake.old, mistake.new), mistake.name)


@pytest.mark.slow
def test_every_planted_mistake_is_caught() -> None:
    script = Path(__file__).with_name("plant_mistakes.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
