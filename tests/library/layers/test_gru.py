"""The GRU: against onnxruntime, which shares no line with it, and what is its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import assert_all_close, assert_all_same, assert_close, here, obtain
from harness.cases import EVERYTHING
from harness.recurrent_node import ACTIVATIONS, BOUNDED, Spec, chosen, run
from recurray.backend import Backend
from recurray.cells import GRUCell, ZoneoutCell

PLATFORMS = pytest.mark.parametrize("platform", here("numpy", "reference", "cupy"))


# onnxruntime ----------------------------------------------------------------------------------------------------------

I, H, B, T = 3, 4, 5, 7  # noqa: E741


def to_onnx(blocks: np.ndarray) -> np.ndarray:
    """From the gate order r z n to ONNX's, z r h."""
    r, z, n = np.split(blocks, 3)
    return np.concatenate([z, r, n])


def by_onnxruntime(
    layer: rr.GRU, x: np.ndarray, h: np.ndarray, lengths: np.ndarray | None, activations: list[Spec]
) -> tuple[np.ndarray, np.ndarray]:
    """A model of the single node GRU with the layer's params, run by onnxruntime."""
    params = layer.state_dict()
    suffixes = ["_l0", "_l0_reverse"][: 1 + layer.bidirectional]
    arrays = {
        "X": x.swapaxes(0, 1),
        "W": np.stack([to_onnx(params[f"weight_ih{s}"]) for s in suffixes]),
        "R": np.stack([to_onnx(params[f"weight_hh{s}"]) for s in suffixes]),
    }
    if layer.bias:
        arrays["B"] = np.stack(
            [np.concatenate([to_onnx(params[f"bias_{k}{s}"]) for k in ("ih", "hh")]) for s in suffixes]
        )
    if lengths is not None:
        arrays["sequence_lens"] = lengths.astype(np.int32)
    arrays["initial_h"] = h
    y, end = run(
        "GRU",
        arrays,
        ("X", "W", "R", "B", "sequence_lens", "initial_h"),
        ("Y", "Y_h"),
        activations,
        hidden_size=layer.hidden_size,
        direction="bidirectional" if layer.bidirectional else "forward",
        linear_before_reset=int(layer.reset_after),
        clip=layer.gate_clip,
    )
    return y.transpose(2, 0, 1, 3).reshape(x.shape[0], x.shape[1], -1), end  # from (T, D, B, H)


@PLATFORMS
@pytest.mark.parametrize("seed", range(40))
def test_random_models_of_onnxruntime(seed: int, platform: str) -> None:
    """Both places of the reset gate, both directions, ragged rows, start states, any activations, a clip."""
    backend, rng = obtain(platform), np.random.default_rng(seed)
    bidirectional, bias, reset_after, ragged = (bool(rng.integers(2)) for _ in range(4))
    activations: list[Spec] = [("Sigmoid",), ("Tanh",)] * (1 + bidirectional)
    options: dict[str, Any] = {"bidirectional": bidirectional, "bias": bias, "reset_after": reset_after}
    if seed % 2:
        activations = [chosen(rng, names) for names in (tuple(BOUNDED), tuple(ACTIVATIONS))] * (1 + bidirectional)
        options["gate_clip"] = float(rng.choice([0.5, 1.5]))
        options |= dict(zip(("gate_activation", "cell_activation"), activations, strict=False))
        if bidirectional:
            activations[3] = chosen(rng)
            options["reverse_activations"] = {"cell_activation": activations[3]}
    layer = rr.GRU(I, H, backend=backend, seed=seed, **options)
    layer.load_state_dict({name: 3 * value for name, value in layer.state_dict().items()})
    batch, steps = int(rng.integers(1, B)), int(rng.integers(1, T))
    x = rng.standard_normal((batch, steps, I)).astype(np.float32)
    h = rng.standard_normal((1 + bidirectional, batch, H)).astype(np.float32)
    lengths = rng.integers(1, steps + 1, batch) if ragged else None
    y, end = layer(backend.asarray(x), rr.State(backend.asarray(h)), lengths)
    expected = dict(zip(("y", "h"), by_onnxruntime(layer, x, h, lengths, activations), strict=True))
    assert_all_close(backend, {"y": y, "h": end.h}, expected, dtype="float32", tolerance=2e-6)


def test_the_place_of_the_reset_gate_matters(backend: Backend) -> None:
    x = backend.asarray(np.random.default_rng(0).standard_normal((B, T, I)), "float64")
    after = rr.GRU(I, H, backend=backend, dtype="float64", seed=0)
    before = rr.GRU(I, H, reset_after=False, backend=backend, dtype="float64", params=after.params)
    difference = backend.to_numpy(after(x)[0]) - backend.to_numpy(before(x)[0])
    assert np.abs(difference).max() > 1e-2


# What is its own ------------------------------------------------------------------------------------------------------


def test_params_are_pytorchs() -> None:
    shapes = {name: value.shape for name, value in rr.GRU(I, H, 2, bidirectional=True, seed=0).params.items()}
    assert shapes["weight_ih_l0"] == (3 * H, I)
    assert shapes["weight_ih_l1_reverse"] == (3 * H, 2 * H)
    assert shapes["weight_hh_l1"] == (3 * H, H)
    assert shapes["bias_hh_l0_reverse"] == (3 * H,)
    assert len(shapes) == 2 * 2 * 4


# Of which the first two save more than the output of r and z, of n; the last also saves what goes in.
OTHERS: dict[str, dict[str, Any]] = {
    "gates by their input": {"gate_activation": "silu"},
    "the new state by its input": {"cell_activation": "gelu"},
    "clipped": {"gate_activation": "mish", "cell_activation": "relu", "gate_clip": 0.4},
    "in reverse": {"cell_activation": "relu", "reverse_activations": {"gate_activation": "silu"}},
}


@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize("others", OTHERS)
def test_gradients_with_every_option(others: str, reset_after: bool) -> None:
    options = EVERYTHING | OTHERS[others]
    layer = rr.GRU(I, H, reset_after=reset_after, backend=obtain("numpy"), seed=0, **options)
    report = rr.check_gradients(layer, batch=3, lengths=[5, 0, 2], samples=6)
    assert report.ok, f"\n{report}"


@pytest.mark.parametrize("reset_after", [True, False])
def test_every_option_gives_the_same_on_every_backend(reset_after: bool, backend: Backend) -> None:
    x = np.random.default_rng(0).standard_normal((B, T, I))

    def run(backend: Backend) -> dict[str, Any]:
        layer = rr.GRU(I, H, reset_after=reset_after, backend=backend, dtype="float64", seed=0, **EVERYTHING)
        y, end, cache = layer.forward(backend.asarray(x), lengths=[7, 0, 2, 5, 1])
        dx, _, grads = layer.backward(cache, y)
        return {"y": y, "end": end.h, "dx": dx, **grads}

    reference = run(rr.get_backend(np))  # type: ignore[arg-type]
    assert_all_close(backend, run(backend), reference)


def test_every_option_arrives() -> None:
    layer = rr.GRU(I, H, bias=False, reset_after=False, batch_first=False, dtype="float64", seed=0, **EVERYTHING)
    for name, value in {"bias": False, "reset_after": False, "batch_first": False, **EVERYTHING}.items():
        assert f" {name}={value!r}," in repr(layer)
    assert layer.cell == ZoneoutCell(GRUCell(reset_after=False), zoneout_h=0.3)
    other = rr.GRU(I, H, bias=False, reset_after=False, params=layer.params, **EVERYTHING)
    assert_all_same(other.astype("float64").state_dict(), layer.astype("float32").astype("float64").state_dict())


def test_streaming() -> None:
    for reset_after in (True, False):
        gru = rr.GRU(I, H, 2, reset_after=reset_after, dtype="float64", seed=0)
        x = np.random.default_rng(0).standard_normal((B, T, I))
        stream = rr.Streaming(gru)
        ys = [stream(x[:, first:last]) for first, last in ((0, 1), (1, 1), (1, 5), (5, 7))]
        np.testing.assert_allclose(np.concatenate(ys, axis=1), gru(x)[0], rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"reset_after": 1}, TypeError, "reset_after must be True or False, not int 1"),
        ({"zoneout_h": 1.0}, ValueError, "zoneout_h must be at least 0 and below 1, not 1.0"),
        ({"gate_activation": "sinus"}, ValueError, "gate_activation must be one of 'tanh', .*, not 'sinus'"),
        ({"cell_activation": "softmax"}, ValueError, "cell_activation must be one of .*, not 'softmax'"),
        ({"gate_clip": 0}, ValueError, "gate_clip must be None or a number above 0, not 0"),
        ({"proj_size": 2}, TypeError, "proj_size"),
        ({"hidden_size": 0}, ValueError, "hidden_size must be at least 1, not 0"),
    ],
)
def test_what_is_refused(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        rr.GRU(**{"input_size": I, "hidden_size": H, **options})


def test_a_state_with_c_is_refused() -> None:
    gru, h = rr.GRU(I, H, seed=0), np.zeros((1, B, H), np.float32)
    with pytest.raises(ValueError, match=r"state.c must be None"):
        gru(np.zeros((B, T, I), np.float32), rr.State(h, h))


@pytest.mark.parametrize("cell", [rr.cells.GRUCell(reset_after=False), rr.cells.MGUCell()], ids=repr)
def test_recurrent_dropout_reaches_the_product_amid_the_step(cell: Any, backend: Backend) -> None:
    """The candidate sees what the gates see: of an output that is dropped, nothing."""
    rng = np.random.default_rng(0)
    layer = rr.Recurrent(cell, I, H, recurrent_dropout=0.5, backend=backend, dtype="float64", seed=0)
    x, start = rng.standard_normal((B, T, I)), rng.standard_normal((1, B, H))
    drawn = np.random.default_rng(5).random((B, H), dtype=np.float32) >= 0.5
    y, _, _ = layer.forward(backend.asarray(x), rr.State(backend.asarray(start)), rng=np.random.default_rng(5))

    params = {name: backend.to_numpy(value) for name, value in layer.params.items()}
    gates, h = len(cell.input_gates), start[0]
    for t in range(T):
        seen = h * drawn / 0.5
        into = (x[:, t] @ params["weight_ih_l0"].T + params["bias_ih_l0"]).reshape(B, gates, H)
        *others, u_n = np.split(params["weight_hh_l0"], gates)
        *biases, b_n = np.split(params["bias_hh_l0"], gates)
        open_gates = [
            1 / (1 + np.exp(-(into[:, k] + seen @ u.T + b)))
            for k, (u, b) in enumerate(zip(others, biases, strict=True))
        ]
        new = np.tanh(into[:, -1] + (open_gates[0] * seen) @ u_n.T + b_n)
        update = open_gates[-1]
        h = (1 - update) * new + update * h if gates == 3 else (1 - update) * h + update * new
        assert_close(backend, y[:, t, :], h)
