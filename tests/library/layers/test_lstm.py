"""The LSTM layer's own: params and how they start, lengths, dropout between layers, and the scan under its cells."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import assert_all_close, assert_all_same, assert_close, assert_same, formulas, host, named
from harness.needs import need
from recurray.backend import Backend
from recurray.cells import DiagonalLSTMCell, LSTMCell, Weights

B, T, I, H = 4, 5, 2, 3  # noqa: E741


def test_params_have_the_names_shapes_and_order_of_pytorch() -> None:
    lstm = rr.LSTM(I, H, 2, bidirectional=True, proj_size=1, seed=0)
    assert [(name, value.shape) for name, value in lstm.params.items()] == [
        (name + suffix, shape)
        for suffix, features in (("_l0", 2), ("_l0_reverse", 2), ("_l1", 2), ("_l1_reverse", 2))
        for name, shape in (
            ("weight_ih", (12, features)),
            ("weight_hh", (12, 1)),
            ("bias_ih", (12,)),
            ("bias_hh", (12,)),
            ("weight_hr", (1, 3)),
        )
    ]
    assert list(rr.LSTM(I, H, bias=False).params) == ["weight_ih_l0", "weight_hh_l0"]
    assert rr.LSTM(I, H, 2, bidirectional=True).params["weight_ih_l1"].shape == (12, 6)


def test_params_start_from_the_seed_on_every_backend(backend: Backend) -> None:
    """Drawn from the uniform distribution within 1/sqrt(H); a float32 layer's are the float64 layer's, rounded."""
    drawn = rr.LSTM(I, 100, backend=backend, dtype="float64", seed=5)
    expected = rr.LSTM(I, 100, dtype="float64", seed=5)
    assert_all_same(drawn.state_dict(), expected.state_dict())
    rounded = rr.LSTM(I, 100, backend=backend, seed=5)
    for name, value in expected.state_dict().items():
        assert_close(backend, rounded.params[name], value.astype(np.float32), dtype="float32", tolerance=0)
    for value in expected.state_dict().values():
        assert np.abs(value).max() < 0.1
        assert abs(value.mean()) < 0.01
        assert np.std(value) == pytest.approx(0.2 / np.sqrt(12), rel=0.1)


def test_seeds_differ_and_none_is_drawn_anew() -> None:
    params = [rr.LSTM(I, H, seed=seed).state_dict()["weight_ih_l0"] for seed in (0, 1, [0, 1], None, None)]
    for k, one in enumerate(params):
        for other in params[:k]:
            assert not np.array_equal(one, other)


def test_directions_and_layers_start_apart() -> None:
    params = rr.LSTM(3, 3, 2, bidirectional=True, seed=0).state_dict()
    values = [value for name, value in params.items() if name.startswith("weight_hh")]
    assert len({value.tobytes() for value in values}) == 4


@pytest.mark.parametrize("bidirectional", [False, True])
def test_forget_bias(bidirectional: bool, backend: Backend) -> None:
    """The forget gates' two biases add up to it; nothing else differs."""
    options: dict[str, Any] = {"num_layers": 2, "bidirectional": bidirectional, "backend": backend, "seed": 0}
    params = rr.LSTM(I, H, forget_bias=2.5, **options).state_dict()
    plain = rr.LSTM(I, H, **options).state_dict()
    for name, value in params.items():
        if name.startswith("bias"):
            blocks = value.reshape(4, H)
            assert (blocks[1] == (2.5 if name.startswith("bias_ih") else 0.0)).all()
            assert_same(blocks[[0, 2, 3]], plain[name].reshape(4, H)[[0, 2, 3]])
        else:
            assert_same(value, plain[name])


def test_params_given_to_the_constructor(backend: Backend) -> None:
    params = rr.LSTM(I, H, seed=1).state_dict()
    assert_all_same(rr.LSTM(I, H, backend=backend, seed=2, params=params).state_dict(), params)


def test_dtypes_are_taken_from_any_library() -> None:
    strict = need("array_api_strict")
    for dtype in ("float64", np.float64, np.dtype("float64"), strict.float64):
        assert rr.LSTM(I, H, dtype=dtype).dtype == "float64"


def test_repr_tells_sizes_and_options() -> None:
    lstm = rr.LSTM(2, 3, 2, bidirectional=True, proj_size=1, batch_first=False, dtype="float64")
    assert repr(lstm) == (
        "LSTM(2, 3, num_layers=2, bidirectional=True, proj_size=1, batch_first=False, backend='numpy', dtype='float64')"
        f"  # {lstm.param_count():,} params"
    )
    assert lstm.param_count() == 4 * (12 * 2 + 12 * 1 + 12 + 12 + 3)


def test_half_precision_is_converted() -> None:
    x = np.random.default_rng(0).standard_normal((B, T, I)).astype(np.float16)
    lstm = rr.LSTM(I, H, seed=0)
    assert_same(lstm(x)[0], lstm(x.astype(np.float32))[0])


# Lengths --------------------------------------------------------------------------------------------------------------


def made(backend: Backend, **options: Any) -> rr.LSTM:
    return rr.LSTM(I, H, num_layers=2, bidirectional=True, backend=backend, dtype="float64", seed=0, **options)


def run(layer: rr.Layer, x: np.ndarray, state: Any, lengths: Any, dy: np.ndarray, dstate: Any) -> dict[str, np.ndarray]:
    backend = layer.backend

    def hand(pair: Any) -> rr.State:
        return rr.State(*(backend.asarray(a) for a in pair))

    y, end, cache = layer.forward(backend.asarray(x), hand(state), lengths)
    dx, dstart, grads = layer.backward(cache, backend.asarray(dy), hand(dstate))
    return host(backend, {"y": y} | named("end", end) | {"dx": dx} | named("dstart", dstart) | grads)


def numbers(seed: int = 0, batch: int = B) -> tuple[np.ndarray, Any, np.ndarray, Any]:
    """x, a start state, and gradients of the output and the final state."""
    rng = np.random.default_rng(seed)
    state, dstate = (tuple(rng.standard_normal((4, batch, H)) for _ in "hc") for _ in range(2))
    return rng.standard_normal((batch, T, I)), state, rng.standard_normal((batch, T, 2 * H)), dstate


def test_lengths_of_all_kinds(backend: Backend) -> None:
    """Lists, tuples, arrays of NumPy and of the backend, of any type of integer."""
    x, state, dy, dstate = numbers()
    lengths = [2, 0, 5, 1]
    expected = run(made(backend), x, state, lengths, dy, dstate)
    host_arrays = [np.asarray(lengths, dtype=dtype) for dtype in ("int8", "int32", "int64", "uint16")]
    for given in (tuple(lengths), *host_arrays, backend.asarray(host_arrays[2])):
        assert_all_same(run(made(backend), x, state, given, dy, dstate), expected)


def test_full_lengths_are_as_good_as_none(backend: Backend) -> None:
    x, state, dy, dstate = numbers()
    expected = run(made(backend), x, state, None, dy, dstate)
    found = run(made(backend), x, state, [T] * B, dy, dstate)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-13, err_msg=name)


def test_padding_can_be_cut_off(backend: Backend) -> None:
    """Rows that all end early give what the shorter sequence gives."""
    x, state, dy, dstate = numbers()
    lengths = [2, 0, 3, 1]
    found = run(made(backend), x, state, lengths, dy, dstate)
    short = run(made(backend), x[:, :3], state, lengths, dy[:, :3], dstate)
    for name in ("y", "dx"):
        assert not found[name][:, 3:].any()
        found[name] = found[name][:, :3]
    for name, value in short.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-13, err_msg=name)


def test_rows_of_length_0_pass_the_state_on(backend: Backend) -> None:
    """Their final state is the start state, and so with the gradients; the other rows don't notice them."""
    x, state, dy, dstate = numbers()
    lengths, there = [0, 3, 0, 5], [1, 3]
    found = run(made(backend), x, state, lengths, dy, dstate)
    for k, field in enumerate("hc"):
        assert_same(found[f"end.{field}"][:, [0, 2]], state[k][:, [0, 2]])
        assert_same(found[f"dstart.{field}"][:, [0, 2]], dstate[k][:, [0, 2]])
    others = run(
        made(backend), x[there], [a[:, there] for a in state], [3, 5], dy[there], [a[:, there] for a in dstate]
    )
    for name, value in others.items():
        axis = {"y": 0, "dx": 0}.get(name, 1 if name.startswith(("end", "dstart")) else None)
        own = found[name] if axis is None else np.take(found[name], there, axis=axis)
        np.testing.assert_allclose(own, value, rtol=0, atol=1e-13, err_msg=name)


def test_all_rows_of_length_0(backend: Backend) -> None:
    x, state, dy, dstate = numbers()
    found = run(made(backend), x, state, [0] * B, dy, dstate)
    for k, field in enumerate("hc"):
        assert_same(found[f"end.{field}"], state[k])
        assert_same(found[f"dstart.{field}"], dstate[k])
    assert not any(value.any() for name, value in found.items() if not name.startswith(("end", "dstart")))


def test_a_row_of_nan_stays_a_row(backend: Backend) -> None:
    x, state, dy, dstate = numbers()
    expected = run(made(backend), x, state, None, dy, dstate)
    x[2] = np.nan
    found = run(made(backend), x, state, None, dy, dstate)
    others = [0, 1, 3]
    assert np.isnan(found["y"][2]).all()
    for name in ("y", "dx"):
        np.testing.assert_allclose(found[name][others], expected[name][others], rtol=0, atol=1e-13)


# Part of the gradient of a final state --------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["h", "c"])
def test_half_of_the_final_states_gradient_may_be_left_out(field: str, backend: Backend) -> None:
    x, state, dy, dstate = numbers()
    lstm = made(backend)
    _, _, cache = lstm.forward(backend.asarray(x), rr.State(*(backend.asarray(a) for a in state)))
    halves = {name: backend.asarray(a) for name, a in zip("hc", dstate, strict=True)}
    zeros = halves | {field: backend.asarray(np.zeros_like(dstate[0]))}
    found = lstm.backward(cache, backend.asarray(dy), rr.State(**halves | {field: None}))
    expected = lstm.backward(cache, backend.asarray(dy), rr.State(**zeros))
    assert_same(backend.to_numpy(found[0]), backend.to_numpy(expected[0]))


# Dropout between layers -----------------------------------------------------------------------------------------------


def test_dropout_stands_between_the_layers(backend: Backend) -> None:
    """Not before the first and not after the last: the stack equals an LSTM, a Dropout and an LSTM."""
    options: dict[str, Any] = {"batch_first": False, "backend": backend, "dtype": "float64"}
    stack = rr.LSTM(I, H, 2, dropout=0.4, seed=0, **options)
    first, second = rr.LSTM(I, H, seed=1, **options), rr.LSTM(H, H, seed=2, **options)
    for own, layer in (("_l0", first), ("_l1", second)):
        layer.load_state_dict({name[:-3] + "_l0": v for name, v in stack.state_dict().items() if name.endswith(own)})
    apart = rr.Sequential(first, rr.Dropout(0.4, backend=backend, dtype="float64"), second)

    rng = np.random.default_rng(0)
    x, dy = backend.asarray(rng.standard_normal((T, B, I))), backend.asarray(rng.standard_normal((T, B, H)))
    y, end, cache = stack.forward(x, rng=np.random.default_rng(1))
    dx, _, grads = stack.backward(cache, dy)
    y_apart, ends, cache = apart.forward(x, rng=np.random.default_rng(1))
    dx_apart, _, grads_apart = apart.backward(cache, dy)
    assert_same(backend.to_numpy(y), backend.to_numpy(y_apart))
    assert_same(backend.to_numpy(dx), backend.to_numpy(dx_apart))
    assert_same(backend.to_numpy(end.c), np.concatenate([backend.to_numpy(ends[k].c) for k in (0, 2)]))
    for name, value in grads.items():
        name_apart = f"{2 * int(name[-1])}.{name[:-1]}0"
        assert_same(backend.to_numpy(value), backend.to_numpy(grads_apart[name_apart]))


def test_dropout_between_layers_draws_the_same_on_every_backend(backend: Backend) -> None:
    x = np.random.default_rng(0).standard_normal((B, T, I))
    found = rr.LSTM(I, H, 3, dropout=0.5, backend=backend, dtype="float64", seed=4).forward(backend.asarray(x))[0]
    expected = rr.LSTM(I, H, 3, dropout=0.5, dtype="float64", seed=4).forward(x)[0]
    assert_close(backend, found, expected)


def test_dropout_can_be_saved_and_resumed() -> None:
    x = np.random.default_rng(0).standard_normal((B, T, I))
    lstm = rr.LSTM(I, H, 2, dropout=0.5, dtype="float64", seed=4)
    first = lstm.forward(x)[0]
    saved = lstm.rng.bit_generator.state
    second = lstm.forward(x)[0]
    assert not np.array_equal(first, second)
    other = rr.LSTM(I, H, 2, dropout=0.5, dtype="float64", seed=4)
    other.rng.bit_generator.state = saved
    assert_same(other.forward(x)[0], second)


def test_inference_and_given_generators_leave_the_layers_own_alone() -> None:
    x = np.random.default_rng(0).standard_normal((B, T, I))
    lstm = rr.LSTM(I, H, 2, dropout=0.5, dtype="float64", seed=4)
    before = lstm.rng.bit_generator.state
    lstm(x)
    lstm.forward(x, training=False)
    lstm.forward(x, rng=np.random.default_rng(0))
    copy = lstm.astype("float64")
    copy.forward(x)
    assert lstm.rng.bit_generator.state == before


# The scan under the layers: each cell both ways, whatever layers make of it -------------------------------------------


def lstm_weights(rng: np.random.Generator, projected: bool) -> dict[str, np.ndarray]:
    size = 2 if projected else H
    shapes = {"input": (4 * H, I), "recurrent": (4 * H, size), "input_bias": (4 * H,), "recurrent_bias": (4 * H,)}
    shapes |= {"projection": (size, H)} if projected else {}
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


def diagonal_weights(rng: np.random.Generator, shared: bool) -> dict[str, np.ndarray]:
    shapes = {"input": ((1 if shared else 4) * H, I), "w": (4, H), "b": (4, H)}
    shapes |= {"u": (4, H)} if shared else {}
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


SCANS: dict[str, Any] = {
    "lstm": (LSTMCell(), lambda rng: lstm_weights(rng, projected=False)),
    "lstm projected": (LSTMCell(), lambda rng: lstm_weights(rng, projected=True)),
    "diagonal shared": (DiagonalLSTMCell(shared=True), lambda rng: diagonal_weights(rng, shared=True)),
    "diagonal per gate": (DiagonalLSTMCell(shared=False), lambda rng: diagonal_weights(rng, shared=False)),
}


def scan(
    backend: Backend, kind: str, arrays: dict[str, np.ndarray], lengths: Any, reverse: bool, keep: bool = True
) -> dict[str, Any]:
    """Forward and backward of a backend's scan, by name."""
    cell, draw = SCANS[kind]
    values = {name: backend.asarray(value) for name, value in draw(np.random.default_rng(0)).items()}
    pointwise = {name: values.pop(name) for name in cell.pointwise}
    weights = Weights(**values, pointwise=pointwise)
    given = {name: backend.asarray(value) for name, value in arrays.items()}
    start, dend = (given["h"], given["c"]), (given["dh"], given["dc"])
    y, end, cache = backend.scan_forward(cell, weights, given["x"], start, lengths=lengths, reverse=reverse, keep=keep)
    found = {"y": y, "h": end[0], "c": end[1]}
    if not keep:
        return found
    dx, dstart, grads = cache.backward(given["dy"], dend)
    found |= {"dx": dx, "dh": dstart[0], "dc": dstart[1]}
    found |= {f"d{name}": getattr(grads, name) for name in values}
    return found | {f"d{name}": value for name, value in grads.pointwise.items()}


def scan_arrays(kind: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    size = 2 if kind == "lstm projected" else H
    shapes = {"x": (T, B, I), "h": (B, size), "c": (B, H), "dy": (T, B, size), "dh": (B, size), "dc": (B, H)}
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("lengths", [None, [3, 0, 5, 1]])
@pytest.mark.parametrize("kind", SCANS)
def test_backwards_in_time_is_forwards_on_turned_rows(kind: str, lengths: Any, backend: Backend) -> None:
    """Each row turned round within its length."""
    arrays = scan_arrays(kind)
    turned = arrays | {name: turn(arrays[name], lengths) for name in ("x", "dy")}
    expected = host(backend, scan(backend, kind, turned, lengths, reverse=False))
    expected |= {name: turn(expected[name], lengths) for name in ("y", "dx")}
    assert_all_close(backend, scan(backend, kind, arrays, lengths, reverse=True), expected, tolerance=1e-13)


def turn(a: np.ndarray, lengths: Any) -> np.ndarray:
    result = a.copy()
    for row, length in enumerate(lengths or [T] * B):
        result[:length, row] = a[:length, row][::-1]
    return result


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("lengths", [None, [3, 0, 5, 1]])
@pytest.mark.parametrize("kind", SCANS)
def test_a_scan_that_keeps_nothing_gives_the_same_numbers(
    kind: str, lengths: Any, reverse: bool, backend: Backend
) -> None:
    arrays = scan_arrays(kind)
    kept = host(backend, scan(backend, kind, arrays, lengths, reverse))
    found = scan(backend, kind, arrays, lengths, reverse, keep=False)
    assert_all_close(backend, found, {name: kept[name] for name in found}, tolerance=1e-13)


def test_one_step_by_hand() -> None:
    """One unit, one step, from the formula on paper."""
    lstm = rr.LSTM(1, 1, dtype="float64", params={
        "weight_ih_l0": np.array([[0.1], [0.2], [0.3], [0.4]]),
        "weight_hh_l0": np.array([[0.5], [0.6], [0.7], [0.8]]),
        "bias_ih_l0": np.array([0.01, 0.02, 0.03, 0.04]),
        "bias_hh_l0": np.array([0.05, 0.06, 0.07, 0.08]),
    })  # fmt: skip
    i, f, o = (
        formulas.sigmoid(a).real for a in (0.1 * 2 + 0.5 * 3 + 0.06, 0.2 * 2 + 0.6 * 3 + 0.08, 0.4 * 2 + 0.8 * 3 + 0.12)
    )
    c = f * -1.5 + i * np.tanh(0.3 * 2 + 0.7 * 3 + 0.1)
    y, end = lstm(np.array([[[2.0]]]), rr.State(np.array([[[3.0]]]), np.array([[[-1.5]]])))
    assert end.c.item() == pytest.approx(c, abs=1e-15)
    assert y.item() == end.h.item() == pytest.approx(o * np.tanh(c), abs=1e-15)
