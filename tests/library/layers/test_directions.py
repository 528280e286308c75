"""A cell for each direction: the layer is two of one direction each, side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import assert_all_close, host
from recurray.backend import Backend
from recurray.cells import LSTMCell, RNNCell, ZoneoutCell

B, T, I, H = 3, 6, 2, 4  # noqa: E741
CELLS = LSTMCell(gate_clip=0.5), LSTMCell(cell_clip=0.3)


def layer(**options: Any) -> rr.Recurrent:
    return rr.Recurrent(CELLS[0], I, H, bidirectional=True, reverse_cell=CELLS[1], dtype="float64", seed=0, **options)


def test_each_direction_has_its_cell(backend: Backend) -> None:
    """With LSTM cells, whose gradients and states are all different; the second direction is given the reversed x."""
    both, rng = layer(backend=backend), np.random.default_rng(0)
    both.load_state_dict({name: 3 * value for name, value in both.state_dict().items()})
    x, dy = rng.standard_normal((B, T, I)), rng.standard_normal((B, T, 2 * H))
    start, dend = ([rng.standard_normal((2, B, H)) for _ in "hc"] for _ in range(2))

    def state(arrays: list[np.ndarray], place: slice) -> rr.State:
        return rr.State(*(backend.asarray(a[place].copy()) for a in arrays))

    y, end, cache = both.forward(backend.asarray(x), state(start, slice(None)))
    dx, dstart, grads = both.backward(cache, backend.asarray(dy), state(dend, slice(None)))
    found = {"y": y, "h": end.h, "c": end.c, "dx": dx, "dh": dstart.h, "dc": dstart.c, **grads}

    expected: dict[str, Any] = {"dx": 0.0}
    sides: dict[str, list[np.ndarray]] = {name: [] for name in ("y", "h", "c", "dh", "dc")}
    for direction, cell in enumerate(CELLS):
        suffix = "_reverse" * direction
        params = {name: both.state_dict()[f"{name}{suffix}"] for name in rr.LSTM(I, H).params}
        one, order = rr.Recurrent(cell, I, H, dtype="float64", params=params, backend=backend), 1 - 2 * direction
        half, place = slice(direction * H, (direction + 1) * H), slice(direction, direction + 1)
        y, end, cache = one.forward(backend.asarray(x[:, ::order].copy()), state(start, place))
        dx, dstart, grads = one.backward(cache, backend.asarray(dy[:, ::order, half].copy()), state(dend, place))
        own = host(backend, {"y": y, "h": end.h, "c": end.c, "dx": dx, "dh": dstart.h, "dc": dstart.c, **grads})
        sides["y"].append(own["y"][:, ::order])
        for name in ("h", "c", "dh", "dc"):
            sides[name].append(own[name])
        expected["dx"] = expected["dx"] + own["dx"][:, ::order]
        expected |= {f"{name}{suffix}": own[name] for name in params}
    expected |= {name: np.concatenate(parts, axis=-1 if name == "y" else 0) for name, parts in sides.items()}
    assert_all_close(backend, found, {name: expected[name] for name in found})


def test_gradients() -> None:
    report = rr.check_gradients(layer(num_layers=2, learned_state=True), lengths=[5, 2, 0], samples=8)
    assert report.ok, f"\n{report}"


def test_draws_may_differ() -> None:
    """One direction has zoneout, the other has none; each is traced as what it is."""
    other = rr.Recurrent(
        RNNCell(), I, H, bidirectional=True, reverse_cell=ZoneoutCell(RNNCell("relu"), 0.4), dtype="float64", seed=0
    )
    report = rr.check_gradients(other)
    assert report.ok, f"\n{report}"
    x = np.random.default_rng(0).standard_normal((B, T, I))
    seen = other.trace(x)
    np.testing.assert_allclose(np.concatenate([part["h"] for part in seen], axis=-1), other(x)[0], rtol=0, atol=1e-13)
    assert not np.array_equal(seen[1]["h"], seen[1]["y"])
    np.testing.assert_array_equal(seen[0]["h"], seen[0]["y"])


def test_what_it_says() -> None:
    words = "bidirectional=True, reverse_cell=LSTMCell(cell_clip=0.3), backend="
    assert words in repr(layer())
    same = rr.Recurrent(CELLS[0], I, H, bidirectional=True, seed=0)
    assert same.cells == (CELLS[0], CELLS[0])
    assert "reverse_cell" not in repr(same)


# reverse_activations -------------------------------------------------------------------------------------------------

LAYERS: dict[Any, dict[str, Any]] = {  # the options that it takes, of which the first isn't given in reverse
    rr.LSTM: {"cell_activation": "relu", "gate_activation": {"i": "silu", "o": "tanh"}, "output_activation": "gelu"},
    rr.GRU: {"cell_activation": "relu", "gate_activation": "HardSigmoid"},
    rr.RNN: {"gate_clip": 0.8, "nonlinearity": ("leaky_relu", 0.2)},
}


@pytest.mark.parametrize("kind", LAYERS)
def test_activations_in_reverse_are_those_of_a_layer_with_them(kind: Any) -> None:
    """Each half of the output is that half of the layer which has its activations in both directions."""
    first, *others = LAYERS[kind]
    plain = {first: LAYERS[kind][first], "bidirectional": True, "zoneout_h": 0.2, "dtype": "float64", "seed": 0}
    different = {name: LAYERS[kind][name] for name in others}
    x = np.random.default_rng(0).standard_normal((B, T, I))
    layer = kind(I, H, reverse_activations=different, **plain)
    ahead, back = kind(I, H, **plain), kind(I, H, **plain, **different)
    np.testing.assert_array_equal(layer(x)[0], np.concatenate([ahead(x)[0][..., :H], back(x)[0][..., H:]], axis=-1))
    assert np.abs(ahead(x)[0] - back(x)[0]).max() > 0.01
    assert f"reverse_activations={different!r}" in repr(layer)
    assert "reverse_activations" not in repr(ahead)
    assert kind(I, H, reverse_activations={}, **plain).cells == ahead.cells
    report = rr.check_gradients(layer, samples=5)
    assert report.ok, f"\n{report}"


@pytest.mark.parametrize("kind", LAYERS)
def test_what_is_refused(kind: Any) -> None:
    name = next(name for name in reversed(LAYERS[kind]))
    for given, options, error, words in (
        ({name: "relu"}, {}, ValueError, "reverse_activations are .*: they need bidirectional=True"),
        ({name: "relu"}, {"bidirectional": 1}, TypeError, "bidirectional must be True or False, not int 1"),
        ("relu", {"bidirectional": True}, TypeError, "reverse_activations must be a mapping of options, .* not 'relu'"),
        ({"gate": "relu"}, {"bidirectional": True}, ValueError, "reverse_activations must have names among .*'gate'"),
        ({name: "sinus"}, {"bidirectional": True}, ValueError, rf"reverse_activations\['{name}'\] must be one of"),
        ({name: {"j": "tanh"}}, {"bidirectional": True}, ValueError, "must "),
    ):
        with pytest.raises(error, match=words):
            kind(I, H, reverse_activations=given, **options)
