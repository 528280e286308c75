"""Rows with gaps and cuts: against a loop over steps, rows cut by hand in PyTorch, and by properties."""

from __future__ import annotations

import warnings
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import recurray as rr
from harness import assert_all_close, assert_all_same, host, leaves, named
from harness.needs import need
from recurray.backend import Backend
from recurray.cells import SLSTMCell
from recurray.layers.pieces import Pieces, Steps

I, H = 3, 4  # noqa: E741
LAYERS: dict[str, Any] = {
    "lstm": lambda **options: rr.LSTM(I, H, **options),
    "gru": lambda **options: rr.GRU(I, H, reset_after=False, **options),
    "rnn": lambda **options: rr.RNN(I, H, **options),
    "diagonal": lambda **options: rr.DiagonalLSTM(I, H, **options),
    "own cell": lambda **options: rr.Recurrent(SLSTMCell(), I, H, **options),
}
BOTH = {
    "lstm": lambda **options: rr.LSTM(I, H, 2, bidirectional=True, **options),
    "gru": lambda **options: rr.GRU(I, H, 2, bidirectional=True, **options),
}


def random_problem(
    layer: rr.Layer, rng: np.random.Generator, batch: int, steps: int, holes: float, cuts: float
) -> dict[str, Any]:
    """Random x, mask, resets and start state."""
    x = rng.standard_normal((batch, steps, I))
    _, end = layer(layer.backend.asarray(x, layer.dtype))
    start = {name: rng.standard_normal(tuple(value.shape)) for name, value in leaves(end).items()}
    return {
        "x": x,
        "mask": rng.random((batch, steps)) >= holes,
        "resets": rng.random((batch, steps)) < cuts,
        "state": type(end)(**start, **dict.fromkeys(set(end._fields) - set(start))),
    }


def loop(layer: Any, x: Any, mask: Any, resets: Any, state: Any) -> tuple[np.ndarray, Any]:
    """One layer of one direction as the documentation has it: at each step the cut, then the step if it is valid."""
    own = layer(x[:, :0])[1]
    y = np.zeros((*mask.shape, layer.output_size))

    def where(rows: Any, a: Any, b: Any) -> Any:
        pairs = [None if u is None else np.where(rows[None, :, None], u, v) for u, v in zip(a, b, strict=True)]
        return type(a)(*pairs)

    for t in range(mask.shape[1])[:: -1 if layer.reverse else 1]:
        if not layer.reverse:
            state = where(resets[:, t], own, state)
        output, after = layer(x[:, t : t + 1].copy(), state)
        state = where(mask[:, t], after, state)
        y[:, t] = np.where(mask[:, t, None], output[:, 0], 0)
        if layer.reverse:
            state = where(resets[:, t], own, state)
    return y, state


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_it_is_the_loop(name: str, reverse: bool) -> None:
    """Of few holes and many, few cuts and many; also where a row is long and its pieces short."""
    rng = np.random.default_rng(0)
    layer = LAYERS[name](reverse=reverse, learned_state=True, dtype="float64", seed=0)
    for param, value in layer.params.items():
        layer.params[param] = rng.standard_normal(value.shape)
    for batch, steps, holes, cuts in ((3, 7, 0.3, 0.2), (4, 9, 0.8, 0.5), (2, 90, 0.0, 0.02), (5, 40, 0.2, 0.9)):
        given = random_problem(layer, rng, batch, steps, holes, cuts)
        expected, end = loop(layer, **given)
        given["x"] = np.where(given["mask"][:, :, None], given["x"], np.nan)
        y, state = layer(**given)
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)
        for field, value in leaves(state).items():
            np.testing.assert_allclose(value, leaves(end)[field], rtol=0, atol=1e-12)


def test_pieces_of_unlike_lengths_take_little_memory() -> None:
    """One of 200 steps beside 300 of one: a row for each would be 60,000 steps for 500."""
    resets = np.zeros((2, 300), dtype=bool)
    resets[0, 200:] = resets[1] = True
    steps = Steps.of(2, 300, None, None, resets)
    pieces = Pieces.of(steps, rr.get_backend("numpy"), batch_first=True)
    assert pieces is not None
    assert len(pieces.groups) > 1
    assert sum(group.shape[0] * group.shape[1] for group in pieces.groups) <= 2 * 600


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_it_is_pytorch_on_rows_cut_by_hand(kind: str, backend: Backend) -> None:
    """All gradients too; two layers, both directions, left padding and cuts; each piece is a call of PyTorch's."""
    torch = need("torch")
    rng, batch, steps = np.random.default_rng(1), 3, 8
    layer = getattr(rr, kind)(I, H, 2, bidirectional=True, backend=backend, dtype="float64", seed=0)
    other = getattr(torch.nn, kind)(I, H, 2, bidirectional=True, batch_first=True, dtype=torch.float64)
    other.load_state_dict({name: torch.tensor(value) for name, value in layer.state_dict().items()})
    mask = np.arange(steps)[None, :] >= np.array([0, 3, 5])[:, None]
    resets = np.zeros_like(mask)
    resets[[0, 0, 1, 2], [2, 6, 5, 6]] = True
    x, dy = rng.standard_normal((batch, steps, I)), rng.standard_normal((batch, steps, 2 * H))
    fields = "hc" if kind == "LSTM" else "h"
    start, dend = ({field: rng.standard_normal((4, batch, H)) for field in fields} for _ in range(2))

    def state(arrays: dict[str, np.ndarray]) -> rr.State:
        return rr.State(*(backend.asarray(arrays[field].copy()) for field in fields))

    y, end, cache = layer.forward(backend.asarray(x), state(start), mask=backend.asarray(mask), resets=resets)
    dx, dstart, grads = layer.backward(cache, backend.asarray(dy), state(dend))
    found = {"y": y, "dx": dx} | named("end", end) | named("dstart", dstart) | dict(grads)

    tx, tstart = torch.tensor(x, requires_grad=True), {k: torch.tensor(v, requires_grad=True) for k, v in start.items()}
    outputs, loss = np.zeros((batch, steps, 2 * H)), torch.zeros((), dtype=torch.float64)
    ends = {field: np.zeros((4, batch, H)) for field in fields}
    forward, reverse = [0, 2], [1, 3]
    for row in range(batch):
        cuts = [int(np.flatnonzero(mask[row])[0]), *np.flatnonzero(resets[row]), steps]
        for k, (first, stop) in enumerate(pairwise(cuts)):
            is_first, is_last = k == 0, k == len(cuts) - 2
            given_to = [(forward, is_first), (reverse, is_last)]
            begin = []
            for field in fields:
                zero = [torch.zeros(H, dtype=torch.float64)] * 4
                for places, joined in given_to:
                    for place in places if joined else []:
                        zero[place] = tstart[field][place, row]
                begin.append(torch.stack(zero)[:, None])
            output, final = other(tx[row : row + 1, first:stop], tuple(begin) if len(begin) > 1 else begin[0])
            outputs[row, first:stop] = output[0].detach()
            loss = loss + (output[0] * torch.tensor(dy[row, first:stop])).sum()
            for field, value in zip(fields, final if isinstance(final, tuple) else (final,), strict=True):
                for places, joined in [(forward, is_last), (reverse, is_first)]:
                    for place in places if joined else []:
                        ends[field][place, row] = value[place, 0].detach()
                        loss = loss + (value[place, 0] * torch.tensor(dend[field][place, row])).sum()
    loss.backward()
    expected = {"y": outputs, "dx": tx.grad.numpy()} | {f"end.{k}": v for k, v in ends.items()}
    expected |= {f"dstart.{field}": tstart[field].grad.numpy() for field in fields}
    expected |= {name: value.grad.numpy() for name, value in other.named_parameters()}
    assert_all_close(backend, found, {name: expected[name] for name in found})


# Properties -----------------------------------------------------------------------------------------------------------

SIZES = st.tuples(
    st.integers(1, 5), st.integers(1, 12), st.sampled_from([0.0, 0.3, 0.8]), st.sampled_from([0, 0.1, 0.6])
)
PROPERTY = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


def results(layer: rr.Layer, problem: dict[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    y, end, cache = layer.forward(**problem, training=False)
    dy = rng.standard_normal(y.shape)
    dend = type(end)(*[None if a is None else rng.standard_normal(a.shape) for a in end])
    dx, dstart, grads = layer.backward(cache, dy, dend)
    return {"y": y, "dx": dx} | named("end", end) | named("dstart", dstart) | dict(grads)


@pytest.mark.parametrize("name", BOTH)
@PROPERTY
@given(sizes=SIZES, seed=st.integers(0, 1000))
def test_the_order_of_rows_does_not_matter(name: str, sizes: Any, seed: int) -> None:
    layer = BOTH[name](dtype="float64", seed=0)
    rng = np.random.default_rng(seed)
    problem = random_problem(layer, rng, *sizes)
    order = rng.permutation(sizes[0])
    other = {key: value[order] for key, value in problem.items() if key != "state"}
    other["state"] = type(problem["state"])(*[None if a is None else a[:, order] for a in problem["state"]])
    (y, end), (y_other, end_other) = layer(**problem), layer(**other)
    np.testing.assert_allclose(y_other, y[order], rtol=0, atol=1e-12)
    np.testing.assert_allclose(end_other.h, end.h[:, order], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", BOTH)
@PROPERTY
@given(steps=st.integers(2, 12), at=st.integers(1, 11), seed=st.integers(0, 1000))
def test_a_cut_makes_two_rows(name: str, steps: int, at: int, seed: int) -> None:
    at = min(at, steps - 1)
    layer = BOTH[name](dtype="float64", seed=0)
    x = np.random.default_rng(seed).standard_normal((2, steps, I))
    resets = np.zeros((2, steps), dtype=bool)
    resets[:, at] = True
    y, end = layer(x, resets=resets)
    (first, first_end), (second, second_end) = layer(x[:, :at].copy()), layer(x[:, at:].copy())
    np.testing.assert_allclose(y, np.concatenate([first, second], axis=1), rtol=0, atol=1e-12)
    np.testing.assert_allclose(end.h[[0, 2]], second_end.h[[0, 2]], rtol=0, atol=1e-12)
    np.testing.assert_allclose(end.h[[1, 3]], first_end.h[[1, 3]], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", BOTH)
@PROPERTY
@given(sizes=SIZES, seed=st.integers(0, 1000))
def test_what_is_in_a_gap_changes_no_bit(name: str, sizes: Any, seed: int) -> None:
    layer = BOTH[name](seed=0)
    problem = random_problem(layer, np.random.default_rng(seed), *sizes)
    gap = ~problem["mask"][:, :, None]
    fillings = [results(layer, problem | {"x": np.where(gap, number, problem["x"])}) for number in (np.nan, 7.0)]
    assert_all_same(*fillings)
    assert not np.where(gap, fillings[0]["y"], 0).any()
    assert not np.where(gap, fillings[0]["dx"], 0).any()


@pytest.mark.parametrize("name", BOTH)
def test_a_gap_is_zero_where_all_pieces_are_as_long(name: str, backend: Backend) -> None:
    layer = BOTH[name](backend=backend, seed=0)
    mask = np.array([[False, True, True, False, True], [True, True, False, False, True]])
    y, end, cache = layer.forward(backend.asarray(np.ones((2, 5, I), dtype=np.float32)), mask=mask)
    dx, _, _ = layer.backward(cache, y, end)
    for found in (y, dx):
        assert np.array_equal(backend.to_numpy(found).any(axis=2), mask)


@pytest.mark.parametrize("name", BOTH)
def test_masks_that_say_what_lengths_do(name: str, backend: Backend) -> None:
    """All valid, the first steps valid, none valid: the same bits as without, or with lengths."""
    layer = BOTH[name](backend=backend, seed=0)
    rng = np.random.default_rng(0)
    x = backend.asarray(rng.standard_normal((3, 6, I)), "float32")
    state = layer(x[:, :2, ...])[1]

    def called(**which: Any) -> dict[str, np.ndarray]:
        y, end, cache = layer.forward(x, state, **which)
        dx, dstart, grads = layer.backward(cache, y)
        return host(backend, {"y": y, "dx": dx} | named("end", end) | named("dstart", dstart) | dict(grads))

    ones = np.ones((3, 6), dtype=bool)
    assert_all_same(called(mask=backend.asarray(ones)), called())
    assert_all_same(called(resets=backend.asarray(~ones)), called())
    ragged = np.arange(6) < np.array([4, 0, 6])[:, None]
    assert_all_same(called(mask=backend.asarray(ragged)), called(lengths=[4, 0, 6]))
    nothing = called(mask=backend.asarray(~ones))
    assert not nothing["y"].any()
    np.testing.assert_array_equal(nothing["end.h"], backend.to_numpy(state.h))


@pytest.mark.parametrize("name", ["lstm", "gru", "own cell"])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_chunks_give_what_the_whole_gives(name: str, size: int, backend: Backend) -> None:
    """Cuts at the chunks' edges and within, gaps, two layers; the state goes from chunk to chunk."""
    layer = LAYERS[name](num_layers=2, learned_state=True, backend=backend, dtype="float64", seed=0)
    rng = np.random.default_rng(0)
    for param, value in layer.params.items():
        layer.params[param] = backend.asarray(rng.standard_normal(tuple(value.shape)))
    x, mask = rng.standard_normal((3, 10, I)), rng.random((3, 10)) < 0.7
    resets = np.zeros((3, 10), dtype=bool)
    resets[[0, 0, 1, 2, 2], [0, 5, 3, 6, 9]] = True
    model = rr.Sequential(layer, rr.Linear(H, 2, backend=backend, dtype="float64", seed=1))
    stream = rr.Streaming(model)
    chunks = [
        stream(backend.asarray(x[:, t : t + size].copy()), mask=mask[:, t : t + size], resets=resets[:, t : t + size])
        for t in range(0, 10, size)
    ]
    y, end = model(backend.asarray(x), mask=mask, resets=resets)
    found = np.concatenate([backend.to_numpy(chunk) for chunk in chunks], axis=1)
    np.testing.assert_allclose(found, backend.to_numpy(y), rtol=0, atol=1e-12)
    for field, value in leaves(end).items():
        np.testing.assert_allclose(
            backend.to_numpy(leaves(stream.state)[field]), backend.to_numpy(value), rtol=0, atol=1e-12
        )


@pytest.mark.parametrize("pooling", ["Last", "Mean", "Max"])
def test_pooling_in_chunks(pooling: str, backend: Backend) -> None:
    rng = np.random.default_rng(0)
    x, mask = rng.standard_normal((3, 7, I)), rng.random((3, 7)) < 0.6
    mask[1] = False
    model = getattr(rr, pooling)(backend=backend, dtype="float64")
    stream = rr.Streaming(model)
    for first, stop in ((0, 2), (2, 2), (2, 3), (3, 7)):
        y = stream(backend.asarray(x[:, first:stop].copy()), mask=mask[:, first:stop])
    whole, _ = model(backend.asarray(x), mask=mask)
    np.testing.assert_allclose(backend.to_numpy(y), backend.to_numpy(whole), rtol=0, atol=1e-12)


@pytest.mark.parametrize("recompute", [4, "sqrt"])
def test_states_may_be_computed_again(recompute: Any, backend: Backend) -> None:
    """In chunks of the pieces' steps, on every backend; dropout's draws are kept."""
    options: dict[str, Any] = {"dropout": 0.3, "num_layers": 2, "backend": backend, "dtype": "float64", "seed": 0}
    rng = np.random.default_rng(0)
    x, mask = backend.asarray(rng.standard_normal((2, 150, I))), rng.random((2, 150)) < 0.9
    resets = rng.random((2, 150)) < 0.02
    found = []
    for again in (None, recompute):
        layer = rr.GRU(I, H, recompute=again, **options)
        y, end, cache = layer.forward(x, mask=mask, resets=resets, rng=np.random.default_rng(3))
        dx, dstart, grads = layer.backward(cache, y, end)
        found.append({"y": y, "dx": dx, "dh": dstart.h, **grads})
    assert_all_close(backend, found[1], host(backend, found[0]), tolerance=1e-12)


def test_the_mask_may_be_written_to_after_the_call() -> None:
    layer, rng = rr.LSTM(3, 4, backend="numpy", dtype="float64", seed=0), np.random.default_rng(0)
    mask = np.ones((2, 5), dtype=bool)
    mask[:, 2] = False
    y, _, cache = layer.forward(rng.standard_normal((2, 5, 3)), mask=mask)
    expected = layer.backward(cache, np.ones_like(y))[0]
    mask[...] = True
    np.testing.assert_array_equal(layer.backward(cache, np.ones_like(y))[0], expected)


def test_weights_are_dropped_once_a_call() -> None:
    """Where pieces are run in several groups, all have the same weights."""
    resets = np.zeros((1, 100), dtype=bool)
    resets[0, 40::2] = True
    x = np.random.default_rng(0).standard_normal((1, 100, I))
    layer = rr.LSTM(I, H, weight_dropout=0.5, dtype="float64", seed=0)
    y, _, cache = layer.forward(x, resets=resets, rng=np.random.default_rng(3))
    assert len(cache.groups) > 1
    for first, stop in ((0, 40), (98, 100)):
        alone, _, _ = layer.forward(x[:, first:stop].copy(), rng=np.random.default_rng(3))
        np.testing.assert_allclose(y[:, first:stop], alone, rtol=0, atol=1e-12)
    report = rr.check_gradients(layer, resets=resets, samples=10)
    assert report.ok, f"\n{report}"


# One direction that runs from the end ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYERS)
def test_reverse_is_the_reversed_sequence(name: str, backend: Backend) -> None:
    options: dict[str, Any] = {"backend": backend, "dtype": "float64", "seed": 0}
    forward, reverse = LAYERS[name](**options), LAYERS[name](reverse=True, **options)
    assert list(forward.params) == list(reverse.params)
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 6, I)), rng.standard_normal((2, 6, H))
    found = []
    for layer, order in ((forward, -1), (reverse, 1)):
        _, state = layer(backend.asarray(x[:, :2].copy()))
        y, end, cache = layer.forward(backend.asarray(x[:, ::order].copy()), layer.as_state(forward_state(state)))
        dx, dstart, grads = layer.backward(cache, backend.asarray(dy[:, ::order].copy()), end)
        arrays = host(backend, {"y": y, "dx": dx} | named("end", end) | named("dstart", dstart) | dict(grads))
        found.append(arrays | {"y": arrays["y"][:, ::order], "dx": arrays["dx"][:, ::order]})
    for key, expected in found[0].items():
        np.testing.assert_allclose(found[1][key], expected, rtol=0, atol=1e-12, err_msg=key)


def forward_state(state: Any) -> Any:
    """Some state of the layer's kind, the same for equal kinds."""
    rng = np.random.default_rng(5)
    return type(state)(*[None if a is None else rng.standard_normal(tuple(a.shape)) for a in state])


# What is read at the end ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"reverse": True}], ids=str)
def test_final_is_the_final_state(options: dict[str, bool], backend: Backend) -> None:
    """That of the last layer, whatever of the layers in between keeps features in their places."""
    lstm = rr.LSTM(I, H, 2, backend=backend, dtype="float64", seed=0, **options)
    x, mask = np.random.default_rng(0).standard_normal((3, 6, I)), np.random.default_rng(1).random((3, 6)) < 0.6
    y, _ = rr.Sequential(lstm, rr.Dropout(0.5), rr.Final())(backend.asarray(x), mask=mask)
    _, end = lstm(backend.asarray(x), mask=mask)
    last = backend.to_numpy(end.h)[-lstm.directions :]
    np.testing.assert_array_equal(backend.to_numpy(y), np.concatenate(list(last), axis=1))


def test_last_after_a_reverse_direction_is_warned_of() -> None:
    for options in ({"bidirectional": True}, {"reverse": True}):
        with pytest.warns(UserWarning, match="layer 1, Last, takes the last step.*Final takes the final output"):
            rr.Sequential(rr.LSTM(I, H, seed=0, **options), rr.Last())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rr.Sequential(rr.LSTM(I, H, seed=0), rr.Last())


def test_final_knows_what_it_follows() -> None:
    both = rr.LSTM(I, H, bidirectional=True, seed=0)
    with pytest.raises(ValueError, match=r"layer 1, Final: Final must follow a recurrent layer.*direction="):
        rr.Sequential(rr.Linear(I, H, seed=0), rr.Final())
    with pytest.raises(ValueError, match=r"layer 2, Final: Final must follow a recurrent layer"):
        rr.Sequential(both, rr.Linear(2 * H, 2, seed=0), rr.Final())
    with pytest.raises(
        ValueError, match=r"direction must be 'bidirectional', as the recurrent layer before it, not 'fo"
    ):
        rr.Sequential(both, rr.Final("forward"))
    with pytest.raises(ValueError, match=r"direction must be one of 'forward', 'reverse', 'bidirectional', not 'both'"):
        rr.Final("both")
    with pytest.raises(ValueError, match=r"Final doesn't know which way its input runs: give direction="):
        rr.Final()(np.ones((2, 5, 4), dtype="float32"))
    with pytest.raises(ValueError, match=r"x must have an even number of features, half for each direction, not 3"):
        rr.Final("bidirectional")(np.ones((2, 5, 3), dtype="float32"))
    nested = rr.Sequential(rr.Sequential(both, rr.Dropout(0.1)), rr.Final())
    assert nested(np.ones((2, 5, I), dtype="float32"))[0].shape == (2, 2 * H)


# Bad input ------------------------------------------------------------------------------------------------------------

X = np.ones((2, 5, I), dtype="float32")
FLAGS = np.ones((2, 5), dtype=bool)
REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "numbers": (
        {"mask": FLAGS * 1.0},
        TypeError,
        "mask must be booleans, not float64: mask != 0 makes them of numbers",
    ),
    "resets of numbers": ({"resets": FLAGS * 1}, TypeError, "resets must be booleans, not int64"),
    "transposed": (
        {"mask": FLAGS.T},
        ValueError,
        r"mask must have the shape \(2, 5\), which is \(batch, time\) of x, not",
    ),
    "another shape": ({"resets": FLAGS[:, :4]}, ValueError, r"resets must have the shape \(2, 5\)"),
    "for features": ({"mask": FLAGS[:, :, None]}, ValueError, r"mask must have the shape \(2, 5\)"),
    "text": ({"mask": "all"}, (TypeError, ValueError), "mask must "),
    "both": ({"mask": FLAGS, "lengths": [5, 5]}, ValueError, "lengths and mask both say which steps are valid"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("model", ["layer", "sequential", "last"])
def test_bad_masks_are_refused(case: str, model: str) -> None:
    which, kind, message = REFUSED[case]
    if model == "last" and "resets" in which:
        return
    made = {
        "layer": lambda: rr.LSTM(I, H, seed=0),
        "sequential": lambda: rr.Sequential(rr.LSTM(I, H, seed=0), rr.Last()),
        "last": rr.Last,
    }[model]()
    for call in (made, made.forward):
        with pytest.raises(kind, match=message):
            call(X, **which)


def test_resets_are_for_recurrent_layers() -> None:
    for layer in (rr.Linear(I, 2, seed=0), rr.Last(), rr.Mean(), rr.Max(), rr.Final("forward"), rr.Dropout(0.1)):
        with pytest.raises(ValueError, match=f"resets must be None: {type(layer).__name__} isn't recurrent"):
            layer(X, resets=FLAGS)
    with pytest.raises(ValueError, match="resets are for recurrent layers, and there is none"):
        rr.Sequential(rr.Linear(I, 2, seed=0), rr.Last())(X, resets=FLAGS)


def test_reverse_beside_bidirectional_is_refused() -> None:
    with pytest.raises(ValueError, match="give one of reverse and bidirectional"):
        rr.LSTM(I, H, reverse=True, bidirectional=True)
    with pytest.raises(ValueError, match="a model that runs in reverse can't be streamed"):
        rr.Streaming(rr.LSTM(I, H, reverse=True, seed=0))
