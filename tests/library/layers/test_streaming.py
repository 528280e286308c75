"""Streaming: a sequence in chunks gives what the uncut one gives, however it is cut."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import assert_all_close, assert_same, host, leaves
from recurray.backend import Backend

B, T = 3, 5
ROUNDING = {"float64": 1e-12, "float32": 1e-6}


def every_cutting(steps: int) -> list[tuple[int, ...]]:
    """All ways of cutting a sequence into chunks of at least one step."""
    cuttings = []
    for cuts in itertools.product([False, True], repeat=steps - 1):
        ends = [place + 1 for place, cut in enumerate(cuts) if cut] + [steps]
        cuttings.append(tuple(end - start for start, end in zip([0, *ends], ends, strict=False)))
    return cuttings


def with_empty_chunks(cutting: tuple[int, ...]) -> tuple[int, ...]:
    """Chunks of no steps before, after and between the others."""
    return (0, *(size for chunk in cutting for size in (chunk, 0)))


CUTTINGS = every_cutting(T)
CUTTINGS += [with_empty_chunks(cutting) for cutting in CUTTINGS]

MODELS: dict[str, Any] = {
    "lstm": lambda **options: rr.LSTM(2, 3, seed=0, **options),
    "stack": lambda **options: rr.LSTM(2, 3, 2, proj_size=2, dropout=0.5, seed=0, **options),
    "diagonal": lambda **options: rr.DiagonalLSTM(2, 3, seed=0, **options),
    "per gate": lambda **options: rr.DiagonalLSTM(2, 3, projection="per_gate", seed=0, **options),
    "sequential": lambda **options: rr.Sequential(
        rr.Linear(2, 4, seed=0, **options),
        rr.DiagonalLSTM(4, 3, seed=1, **options),
        rr.Dropout(0.5, **options),
        rr.LayerNorm(3, **options),
        rr.LSTM(3, 2, seed=2, **options),
        rr.Activation("relu", **options),
    ),
}


def uncut(model: rr.Layer, x: np.ndarray, lengths: Any = None) -> dict[str, np.ndarray]:
    y, end = model(model.backend.asarray(x), lengths=lengths)
    return host(model.backend, {"y": y} | leaves(end))


def in_chunks(
    stream: rr.Streaming, x: np.ndarray, cutting: tuple[int, ...], lengths: Any = None
) -> tuple[dict[str, Any], list[Any]]:
    """The final state, and the outputs, which are of the chunks' sizes."""
    backend, place, ys = stream.model.backend, 0, []
    for size in cutting:
        own = None if lengths is None else np.clip(np.asarray(lengths) - place, 0, size)
        ys.append(stream(backend.asarray(x[:, place : place + size].copy()), own))
        assert ys[-1].shape[1] == size
        place += size
    assert place == x.shape[1]
    return leaves(stream.state), ys


def input_for(steps: int = T, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((B, steps, 2))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", MODELS)
def test_every_cutting_gives_the_uncut_sequence(name: str, dtype: str, backend: Backend) -> None:
    """All 32 ways of cutting 5 steps, half of them with empty chunks: the outputs and the final state."""
    model = MODELS[name](backend=backend, dtype=dtype)
    x = input_for()
    expected = uncut(model, x)
    cuttings = CUTTINGS if backend.name == "numpy" else CUTTINGS[::5]
    for cutting in cuttings:
        state, ys = in_chunks(rr.Streaming(model), x, cutting)
        found = {"y": backend.xp.concat(ys, axis=1)} | state
        assert_all_close(backend, found, expected, dtype=dtype, tolerance=ROUNDING[dtype])


@pytest.mark.parametrize("name", MODELS)
def test_ragged_rows(name: str, backend: Backend) -> None:
    """Rows that end in one chunk have length 0 in the later ones."""
    model = MODELS[name](backend=backend, dtype="float64")
    x, lengths = input_for(), [2, 5, 0]
    expected = uncut(model, x, lengths)
    for cutting in ((5,), (1, 1, 1, 1, 1), (0, 3, 0, 2), (4, 1)):
        state, ys = in_chunks(rr.Streaming(model), x, cutting, lengths)
        found = {"y": backend.xp.concat(ys, axis=1)} | state
        assert_all_close(backend, found, expected, tolerance=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_long_sequence(dtype: str) -> None:
    """Rounding doesn't add up: 300 steps in chunks of random sizes."""
    model = MODELS["stack"](dtype=dtype)
    x, rng = input_for(300), np.random.default_rng(0)
    expected = uncut(model, x)
    for _ in range(3):
        cuts = [0, *np.sort(rng.integers(0, 301, 30)).tolist(), 300]
        state, ys = in_chunks(rr.Streaming(model), x, tuple(np.diff(cuts).tolist()))
        found = {"y": np.concatenate(ys, axis=1)} | state
        assert_all_close(model.backend, found, expected, dtype=dtype, tolerance=ROUNDING[dtype])


def test_the_last_step_of_each_chunk(backend: Backend) -> None:
    """Through `Last` each chunk gives the newest valid step, an empty chunk the one before."""
    options: dict[str, Any] = {"backend": backend, "dtype": "float64"}
    lstm = rr.LSTM(2, 3, seed=0, **options)
    stream = rr.Streaming(rr.Sequential(lstm, rr.Last(**options)))
    x = input_for()
    every_step = uncut(lstm, x)["y"]
    place = 0
    for size in (0, 2, 0, 1, 2):
        y = backend.to_numpy(stream(backend.asarray(x[:, place : place + size].copy())))
        place += size
        expected = every_step[:, place - 1] if place else np.zeros((B, 3))
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)


def test_a_language_models_way(backend: Backend) -> None:
    """Integers in, one at a time."""
    options: dict[str, Any] = {"backend": backend, "dtype": "float64"}
    model = rr.Sequential(
        rr.Embedding(7, 2, seed=0, **options), rr.LSTM(2, 3, 2, seed=1, **options), rr.Linear(3, 7, seed=2, **options)
    )
    x = np.random.default_rng(0).integers(7, size=(B, T))
    _, ys = in_chunks(rr.Streaming(model), x, (1,) * T)
    expected = backend.to_numpy(model(backend.asarray(x))[0])
    np.testing.assert_allclose(backend.to_numpy(backend.xp.concat(ys, axis=1)), expected, rtol=0, atol=1e-12)


def test_equal_calls_give_equal_bits(backend: Backend) -> None:
    model = MODELS["stack"](backend=backend, dtype="float32")
    x, cutting = input_for(), (2, 0, 3)
    first, second = rr.Streaming(model), rr.Streaming(model)
    for one, other in zip(in_chunks(first, x, cutting)[1], in_chunks(second, x, cutting)[1], strict=True):
        assert_same(backend.to_numpy(one), backend.to_numpy(other))


def test_streams_of_one_model_do_not_mix(backend: Backend) -> None:
    model = MODELS["lstm"](backend=backend, dtype="float64")
    inputs = [input_for(seed=seed) for seed in range(2)]
    streams = [rr.Streaming(model), rr.Streaming(model)]
    ys: list[list[Any]] = [[], []]
    for t in range(T):
        for own, stream, x in zip(ys, streams, inputs, strict=True):
            own.append(stream(backend.asarray(x[:, t : t + 1].copy())))
    for own, x in zip(ys, inputs, strict=True):
        found = backend.to_numpy(backend.xp.concat(own, axis=1))
        np.testing.assert_allclose(found, uncut(model, x)["y"], rtol=0, atol=1e-12)


def test_reset_starts_a_new_sequence(backend: Backend) -> None:
    model = MODELS["sequential"](backend=backend, dtype="float64")
    stream, x = rr.Streaming(model), input_for()
    assert stream.state is None
    first = backend.to_numpy(stream(backend.asarray(x)))
    carried_on = backend.to_numpy(stream(backend.asarray(x)))
    stream.reset()
    assert stream.state is None
    again = backend.to_numpy(stream(backend.asarray(x)))
    assert not np.allclose(carried_on, first)
    assert_same(again, first)
    stream.reset()
    stream(backend.asarray(x[:1].copy()))  # a batch of another size


def test_the_state_can_be_saved_and_set(backend: Backend) -> None:
    """What was returned earlier isn't changed by later calls."""
    model = MODELS["sequential"](backend=backend, dtype="float64")
    stream, x = rr.Streaming(model), input_for()
    stream(backend.asarray(x))
    saved = stream.state
    as_it_was = host(backend, leaves(saved))
    second = backend.to_numpy(stream(backend.asarray(x)))
    assert host(backend, leaves(saved)).keys() == as_it_was.keys()
    for name, value in host(backend, leaves(saved)).items():
        assert_same(value, as_it_was[name])
    other = rr.Streaming(model)
    other.state = saved
    assert_same(backend.to_numpy(other(backend.asarray(x))), second)


def test_a_refused_chunk_leaves_the_state() -> None:
    stream, x = rr.Streaming(MODELS["lstm"](dtype="float64")), input_for()
    stream(x)
    before = stream.state
    for wrong in (x[:2], x[:, :, :1], x[0], "text"):
        with pytest.raises((ValueError, TypeError)):
            stream(wrong)
        assert stream.state is before


def test_what_cannot_be_streamed_is_refused() -> None:
    both_ways = rr.LSTM(2, 3, bidirectional=True)
    for model in (both_ways, rr.Sequential(rr.Linear(2, 2), both_ways)):
        with pytest.raises(ValueError, match="a model that runs in reverse can't be streamed"):
            rr.Streaming(model)
    with pytest.raises(TypeError, match=r"model must be a recurray layer, not function"):
        rr.Streaming(input_for)  # type: ignore[arg-type]
