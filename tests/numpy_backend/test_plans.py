"""Small calls, whose arrangements are kept for a shape: the numbers of the long way, of the params as they are."""

from __future__ import annotations

import copy
import gc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import here, leaves, obtain
from harness.cells import CELLS
from harness.compare_scans import scan_arguments
from harness.named_cell import CELLS as NAMED_CELLS
from recurray import kept
from recurray.cells import Cell, CellGradients
from recurray_numpy.backend import NumpyBackend
from recurray_numpy.step import StackStep, step_of

PLATFORMS = here("numpy", "native")
SHAPES = [(1, 1), (1, 7), (3, 1), (4, 6)]  # rows and steps


def random_state(layer: rr.Recurrent, rng: np.random.Generator) -> Any:
    start = [value.shape for value in layer(np.zeros((1, 1, layer.input_size), layer.dtype))[1] if value is not None]
    return layer.state_type(*(rng.standard_normal(shape).astype(layer.dtype) for shape in start))


def long_way(layer: rr.Recurrent, x: Any, state: Any) -> dict[str, Any]:
    """The step as `forward` takes it."""
    y, end, _ = layer.forward(x, state, training=False)
    return {"y": y, **leaves(end)}


def assert_same_step(layer: rr.Recurrent, x: Any, state: Any) -> None:
    before = copy.deepcopy((x, state))
    first, _ = layer(x, state)
    y, end = layer(x, state)
    np.testing.assert_array_equal(y, first)
    expected = long_way(layer, x, state)
    for name, value in {"y": y, **leaves(end)}.items():
        assert value.dtype == layer.dtype
        np.testing.assert_allclose(value, expected[name], rtol=0, atol=3e-6 if layer.dtype == "float32" else 1e-13)
    np.testing.assert_equal(before, (x, state))


def is_short(layer: rr.Recurrent) -> bool:
    """Whether the layer has made a plan."""
    return bool(layer._plans._kept)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cell", CELLS, ids=repr)
def test_it_gives_the_numbers_of_the_long_way(cell: Cell, dtype: str) -> None:
    rng = np.random.default_rng(0)
    for number, (layers, bias, learned) in enumerate([(1, True, False), (2, False, True), (3, True, True)]):
        layer = rr.Recurrent(
            cell, 3, 5, layers, bias=bias, learned_state=learned, backend="numpy", dtype=dtype, seed=number
        )
        assert_same_step(layer, rng.standard_normal((1, 1, 3)).astype(dtype), random_state(layer, rng))
        assert is_short(layer)
        assert_same_step(layer, rng.standard_normal((1, 1, 3)).astype(dtype), None)


def reference(layer: rr.Recurrent) -> rr.Recurrent:
    """The same layer on the reference path."""
    return layer.to(np)


def given(layer: rr.Recurrent, rows: int, steps: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """An input and a state."""
    x = rng.standard_normal((rows, steps, layer.input_size)).astype(layer.dtype)
    x = x if layer.batch_first else np.ascontiguousarray(x.transpose(1, 0, 2))
    shapes = [value.shape for value in layer.forward(x)[1] if value is not None]
    return x, layer.state_type(*(rng.standard_normal(shape).astype(layer.dtype) for shape in shapes))


def assert_is(layer: rr.Recurrent, x: Any, state: Any) -> None:
    """Two calls have the same bits, and the numbers of the reference path."""
    before = copy.deepcopy((x, state))
    (y, end), (again, end_again) = layer(x, state), layer(x, state)
    np.testing.assert_array_equal(y, again)
    np.testing.assert_equal(tuple(end), tuple(end_again))
    expected, expected_end = reference(layer)(x, state)
    atol = 3e-6 if layer.dtype == "float32" else 1e-13
    for found, wanted in zip((y, *leaves(end).values()), (expected, *leaves(expected_end).values()), strict=True):
        assert found.dtype == layer.dtype
        np.testing.assert_allclose(found, wanted, rtol=0, atol=atol)
    np.testing.assert_equal(before, (x, state))


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("cell", CELLS, ids=repr)
def test_every_cell_over_steps_and_rows(platform: str, cell: Cell) -> None:
    rng = np.random.default_rng(0)
    for number, (rows, steps) in enumerate(SHAPES):
        options: dict[str, Any] = {"bidirectional": True} if number % 2 else {"reverse": number > 0}
        options |= {"num_layers": 1 + number % 3, "bias": number != 3, "dtype": ("float64", "float32")[number % 2]}
        layer = rr.Recurrent(cell, 3, 5, backend=obtain(platform), seed=number, **options)
        for _ in range(2):
            assert_is(layer, *given(layer, rows, steps, rng))
        assert_is(layer, given(layer, rows, steps, rng)[0], None)
        assert is_short(layer)


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    "options",
    [{"proj_size": 2}, {"proj_size": 2, "bidirectional": True}, {"batch_first": False, "bidirectional": True}],
    ids=str,
)
def test_options_over_steps_and_rows(platform: str, shape: tuple[int, int], options: dict[str, Any]) -> None:
    rng = np.random.default_rng(1)
    layer = rr.LSTM(3, 5, 2, backend=obtain(platform), dtype="float64", seed=0, **options)
    assert_is(layer, *given(layer, *shape, rng))
    assert is_short(layer)


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_arrays_of_other_forms(platform: str, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(2)
    layer = rr.GRU(3, 5, 2, backend=obtain(platform), seed=0)
    x, state = given(layer, *shape, rng)
    expected, _ = layer(x, state)
    wide = np.zeros((*x.shape[:2], 6), x.dtype)
    wide[:, :, ::2] = x
    read_only = x.copy()
    read_only.flags.writeable = False
    other = rr.State(np.asfortranarray(state.h))
    for form in (x.astype("float64"), np.asfortranarray(x), wide[:, :, ::2], read_only, x.astype(">f4")):
        np.testing.assert_array_equal(layer(form, other)[0], expected)
    np.testing.assert_array_equal(layer(x, rr.State(state.h.astype("float64")))[0], expected)
    layer.params["weight_hh_l0"] = np.asfortranarray(layer.params["weight_hh_l0"])
    layer.params["weight_ih_l1"] = np.repeat(layer.params["weight_ih_l1"], 2, axis=1)[:, ::2]
    for _ in range(2):
        assert_is(layer, x, state)
        layer.params["weight_hh_l0"][...] *= 1.5
        layer.params["weight_ih_l1"][...] += 0.5


@pytest.mark.parametrize("platform", PLATFORMS)
def test_shapes_take_turns(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()
    kept.release()
    monkeypatch.setattr(kept, "MOST", kept.total.nbytes + 25_000)
    rng = np.random.default_rng(3)
    layer = rr.LSTM(3, 5, backend=obtain(platform), seed=0)
    problems = [given(layer, rows, steps, rng) for rows, steps in [*SHAPES, (2, 120), (0, 3), (2, 0)] * 2]
    for x, state in problems:
        assert_is(layer, x, state)
        assert kept.total.nbytes <= kept.MOST


@pytest.mark.parametrize("platform", PLATFORMS)
def test_errors_are_those_of_forward(platform: str) -> None:
    layer = rr.LSTM(3, 5, backend=obtain(platform), seed=0)
    x, state = given(layer, 2, 4, np.random.default_rng(4))
    layer(x, state)
    bad_state = rr.State(state.h[:, :1], state.c)
    for wrong in (
        (x[:, :, :2], state),
        (x.astype(int), state),
        (x, bad_state),
        (x, rr.State(state.h)),
        (x, tuple(state)),
    ):
        with pytest.raises((TypeError, ValueError)) as of_forward:
            layer.forward(*wrong)
        with pytest.raises(of_forward.type) as of_call:
            layer(*wrong)
        assert str(of_call.value) == str(of_forward.value)
    layer.params["bias_hh_l0"] = layer.params["bias_hh_l0"][:3]
    with pytest.raises(ValueError, match="the param 'bias_hh_l0' must have the shape"):
        layer(x, state)
    del layer.params["bias_hh_l0"]
    with pytest.raises(ValueError, match="missing 'bias_hh_l0'"):
        layer(x, state)


def test_a_backend_that_runs_scans_in_its_own_way_has_no_plans() -> None:
    class Counting(NumpyBackend):
        scans = 0

        def scan_forward(self, *given: Any, **options: Any) -> Any:
            self.scans += 1
            return super().scan_forward(*given, **options)

    layer = rr.LSTM(3, 5, backend=Counting(), seed=0)
    for count in (1, 2):
        layer(np.zeros((1, 4, 3), "float32"))
        assert layer.backend.scans == count  # type: ignore[attr-defined]


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_model_and_a_stream_of_it_take_its_layers_steps(platform: str) -> None:
    rng = np.random.default_rng(5)
    layers = rr.LSTM(3, 5, backend=obtain(platform), seed=0), rr.Linear(5, 2, backend=obtain(platform), seed=1)
    model = rr.Sequential(*layers)
    stream, state = rr.Streaming(model), None
    for x in rng.standard_normal((4, 1, 1, 3)).astype("float32"):
        y, state = layers[0](x, state)
        found = stream(x)
        np.testing.assert_array_equal(found, layers[1](y)[0])
        np.testing.assert_equal(tuple(stream.state[0]), tuple(state))
    assert len(layers[0]._plans._kept) == 1


@pytest.mark.parametrize("cell", NAMED_CELLS)
def test_a_cells_names_are_kept_apart_from_the_backends(cell: Cell) -> None:
    rng = np.random.default_rng(0)
    weights, x, before, _ = scan_arguments(
        cell, rng, batch=1, steps=1, ragged=False, projection=2 if cell.projectable else 0
    )
    step = step_of(cell, weights)
    after = tuple(np.empty_like(state[0]) for state in before)
    step(x[0, 0], tuple(state[0] for state in before), after)
    _, expected, _ = rr.get_backend(np).scan_forward(cell, weights, x, before, keep=False, draws=cell.draws)
    for found, state in zip(after, expected, strict=True):
        np.testing.assert_allclose(found, state[0], rtol=0, atol=1e-13)


@pytest.mark.parametrize("learned", [False, True])
def test_a_start_state_need_not_be_given(learned: bool) -> None:
    rng = np.random.default_rng(0)
    layer = rr.LSTM(3, 5, 2, learned_state=learned, backend="numpy", dtype="float64", seed=0)
    if learned:
        for name in ("start_h_l0", "start_c_l0", "start_h_l1", "start_c_l1"):
            layer.params[name] += rng.standard_normal(5)
    assert_same_step(layer, rng.standard_normal((1, 1, 3)), None)
    assert is_short(layer) != learned
    _, end = layer(np.ones((1, 1, 3)))
    end.h[...] = end.c[...] = 9.0  # the caller's own
    assert_same_step(layer, rng.standard_normal((1, 1, 3)), None)


@pytest.mark.parametrize(
    "options", [{"proj_size": 2}, {"proj_size": 2, "layer_norm": True}, {"batch_first": False}], ids=str
)
def test_it_has_the_layers_options(options: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    layer = rr.LSTM(3, 5, 2, backend="numpy", dtype="float64", seed=0, **options)
    assert_same_step(layer, rng.standard_normal((1, 1, 3)), random_state(layer, rng))
    assert is_short(layer)


def writes(layer: rr.LSTM) -> dict[str, Any]:
    """Ways to change the params."""

    def optimizer() -> None:
        rr.optim.SGD(layer.params, lr=1.0).step({name: np.ones_like(value) for name, value in layer.params.items()})

    def in_place() -> None:
        for value in layer.params.values():
            value[...] += 1

    def into_a_view() -> None:
        layer.params["weight_hh_l0"].reshape(-1)[3:9] = 2

    def replaced() -> None:
        layer.params["bias_hh_l0"] = layer.params["bias_hh_l0"] + 1

    def loaded() -> None:
        layer.load_state_dict({name: value + 1 for name, value in layer.state_dict().items()})

    return {f.__name__: f for f in (optimizer, in_place, into_a_view, replaced, loaded)}


@pytest.mark.parametrize("way", list(writes(rr.LSTM(1, 1))))
@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("platform", PLATFORMS)
def test_it_never_serves_params_as_they_were(platform: str, shape: tuple[int, int], way: str, copied: bool) -> None:
    rng = np.random.default_rng(0)
    layer = rr.LSTM(3, 5, 2, backend=obtain(platform), dtype="float64", seed=0)
    x, state = given(layer, *shape, rng)
    assert_is(layer, x, state)
    first = layer(x, state)[0]
    if copied:
        original, layer = layer, copy.deepcopy(layer)
    writes(layer)[way]()
    assert_is(layer, x, state)
    assert np.abs(layer(x, state)[0] - first).max() > 1e-3
    if copied:
        np.testing.assert_array_equal(original(x, state)[0], first)


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize(("name", "value"), [("batch_first", False), ("reverse", True)])
def test_an_option_that_changes_is_seen(platform: str, name: str, value: bool) -> None:
    rng = np.random.default_rng(0)
    layer = rr.GRU(3, 5, backend=obtain(platform), seed=0)
    x = rng.standard_normal((4, 4, 3)).astype("float32")
    assert_same_step(layer, x, None)
    setattr(layer, name, value)
    assert_same_step(layer, x, None)
    assert is_short(layer)


def test_results_are_the_callers_own() -> None:
    rng = np.random.default_rng(0)
    layer = rr.LSTM(3, 5, backend="numpy", seed=0)
    x, state = rng.standard_normal((1, 1, 3)).astype("float32"), random_state(layer, rng)
    y, end = layer(x, state)
    kept = y.copy(), end.h.copy()
    layer(x + 1, end)
    np.testing.assert_equal((y, end.h), kept)
    y[...] = 7
    np.testing.assert_array_equal(end.h, kept[1])


def test_arguments_of_another_kind_go_the_long_way() -> None:
    layer = rr.LSTM(3, 5, backend="numpy", seed=0)
    x, state = np.zeros((1, 1, 3), "float32"), random_state(layer, np.random.default_rng(0))
    assert layer(x.astype("float64"), state)[0].dtype == "float32"
    assert layer(x, rr.State(state.h.astype("float64"), state.c))[0].dtype == "float32"
    assert layer(np.asfortranarray(np.zeros((1, 1, 6), "float32"))[:, :, ::2], state)[0].shape == (1, 1, 5)
    for wrong in (x[:, :, :2], x[0], x.astype(int), x.tolist()):
        with pytest.raises((TypeError, ValueError), match="x must"):
            layer(wrong, state)
    with pytest.raises(ValueError, match=r"state\.h must have the shape"):
        layer(x, rr.State(state.h[:, :, :2], state.c))
    with pytest.raises(TypeError, match="state must be"):
        layer(x, tuple(state))
    with pytest.raises(ValueError, match=r"dstate|state\.c must be None"):
        rr.GRU(3, 5, backend="numpy", seed=0)(x, state)


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("platform", PLATFORMS)
def test_many_threads_share_a_layer(platform: str, rows: int) -> None:
    rng = np.random.default_rng(0)
    layer = rr.LSTM(8, 32, 2, backend=obtain(platform), seed=0)
    inputs = rng.standard_normal((8, 100, rows, 1, 8)).astype("float32")

    def run(steps: Any) -> Any:
        state = rr.State(*np.zeros((2, 2, rows, 32), "float32"))
        for x in steps:
            y, state = layer(x, state)
        return y

    alone = [run(steps) for steps in inputs]
    with ThreadPoolExecutor(8) as pool:
        np.testing.assert_array_equal(list(pool.map(run, inputs)), alone)


def test_a_cell_that_is_not_recorded_goes_the_long_way() -> None:
    class Unrecorded(Cell):
        input_gates = ("a",)

        def step(self, x: Any, h: Any, before: Any, params: Any) -> Any:
            return {"h": x.a if float(x.a[0, 0]) > 0 else 2 * x.a}, {}

        def step_backward(self, d: Any, saved: Any, before: Any, params: Any) -> CellGradients:
            return CellGradients(x={"a": d.h}, h={}, before={})

    layer = rr.Recurrent(Unrecorded(), 2, 3, backend="numpy", seed=0)
    x, state = np.ones((1, 1, 2), "float32"), rr.State(np.zeros((1, 1, 3), "float32"))
    with pytest.warns(UserWarning, match="runs slowly"):
        y, _ = layer(x, state)
    assert y.shape == (1, 1, 3)


def test_another_backend_has_no_short_way() -> None:
    layer = rr.LSTM(3, 5, backend=np, seed=0)
    x = np.zeros((1, 1, 3), "float32")
    _, state = layer(x)
    layer(x, state)
    assert not is_short(layer)
    plan = NumpyBackend(engine="numpy").plan(layer.cells, layer.weights(), (1, 1, 3), reverse=False)
    assert isinstance(plan, StackStep)
