"""Random models of ONNX's LSTM operator, run by onnxruntime, against the LSTM with the same weights and options.

onnxruntime departs from the operator's description where it doesn't clip C on its way through h(), which is said here
by ``clip_output=False``, and where a row of length 0 ends with zeros instead of its start state, so no row is of length
0. Its Softplus overflows above 88, so numbers are kept small; a batch of 0 rows ends its process. Activations are
always given their parameters, for which it has defaults of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness.needs import need
from harness.recurrent_node import ACTIVATIONS, BOUNDED, Spec, chosen, run

need("onnx")
need("onnxruntime")

INPUTS = ("X", "W", "R", "B", "lengths", "h0", "c0", "P")


@dataclass(frozen=True)
class Model:
    """One LSTM node: its attributes, and its inputs by the names of `INPUTS`; left out are those it goes without."""

    direction: str
    hidden: int
    activations: list[Spec]  # for each direction f, g and h
    clip: float | None
    input_forget: bool
    arrays: dict[str, np.ndarray]

    def run(self) -> dict[str, np.ndarray]:
        """What onnxruntime makes of it: y (T, D, B, H), h and c (D, B, H)."""
        results = run(
            "LSTM",
            self.arrays,
            INPUTS,
            ("y", "h", "c"),
            self.activations,
            direction=self.direction,
            hidden_size=self.hidden,
            input_forget=int(self.input_forget),
            clip=self.clip,
        )
        return dict(zip(("y", "h", "c"), results, strict=True))


def random_model(seed: int) -> Model:
    rng = np.random.default_rng(seed)

    def chance(p: float) -> bool:
        return bool(rng.random() < p)

    direction = ("forward", "reverse", "bidirectional")[seed % 3]
    directions = 2 if direction == "bidirectional" else 1
    clipped, steps = chance(0.4), int(rng.integers(1, 6))
    batch, features, hidden = (int(size) for size in rng.integers(1, 5, 3))

    usual: list[Spec] = [("Sigmoid",), ("Tanh",), ("Tanh",)]

    def one_direction() -> list[Spec]:
        return [chosen(rng), chosen(rng), chosen(rng)] if chance(0.75) else usual

    activations = one_direction()
    other = one_direction() if direction == "bidirectional" and chance(0.5) else activations
    tame = activations[0][0] in BOUNDED and other[0][0] in BOUNDED  # else numbers grow from step to step
    steps = steps if tame else min(steps, 3)
    spread = 2.0 if clipped else 0.7 if tame else 0.3

    def draw(*shape: int) -> np.ndarray:
        return (spread * rng.standard_normal(shape)).astype(np.float32)

    arrays = {
        "X": rng.standard_normal((steps, batch, features)).astype(np.float32),
        "W": draw(directions, 4 * hidden, features),
        "R": draw(directions, 4 * hidden, hidden),
    }
    if chance(0.8):
        arrays["B"] = draw(directions, 8 * hidden)
    if chance(0.6):
        arrays["lengths"] = rng.integers(1, steps + 1, batch).astype(np.int32)
    if chance(0.6):
        arrays["h0"] = draw(directions, batch, hidden)
    if chance(0.6):
        arrays["c0"] = rng.uniform(-0.5, 0.5, (directions, batch, hidden)).astype(np.float32)
    if chance(0.5):
        arrays["P"] = draw(directions, 3 * hidden)
    return Model(
        direction,
        hidden,
        [*activations, *other][: 3 * directions],
        clip=float(rng.choice([0.3, 0.8, 1.5])) if clipped else None,
        input_forget=chance(0.3),
        arrays=arrays,
    )


def our_layer(model: Model, dtype: str, *, clip: bool = True) -> rr.LSTM:
    """The layer for a model: gates from ONNX's order i o f c to i f g o; where f is 1 - i, its weights are left out."""
    features, hidden = model.arrays["W"].shape[2], model.hidden
    gates, peepers = ([0, 3, 1], [0, 1]) if model.input_forget else ([0, 2, 3, 1], [0, 2, 1])

    def blocks(a: np.ndarray, order: list[int]) -> np.ndarray:
        return np.concatenate([a[k * hidden : (k + 1) * hidden] for k in order])

    params = {}
    for direction in range(model.arrays["W"].shape[0]):
        suffix = "_l0" + "_reverse" * (direction == 1 or model.direction == "reverse")
        own = {name: a[direction] for name, a in model.arrays.items() if name in ("W", "R", "B", "P")}
        params[f"weight_ih{suffix}"] = blocks(own["W"], gates)
        params[f"weight_hh{suffix}"] = blocks(own["R"], gates)
        if "B" in own:
            for name, bias in zip(("ih", "hh"), np.split(own["B"], 2), strict=True):
                params[f"bias_{name}{suffix}"] = blocks(bias, gates)
        if "P" in own:
            params[f"peephole{suffix}"] = blocks(own["P"], peepers).reshape(-1, hidden)
    names = ("gate_activation", "cell_activation", "output_activation")
    options: dict[str, Any] = dict(zip(names, model.activations[:3], strict=True))
    if model.direction == "bidirectional":
        options["reverse_activations"] = dict(zip(names, model.activations[3:], strict=True))
    if clip and model.clip is not None:
        options |= {"gate_clip": model.clip, "clip_output": False}
    layer = rr.LSTM(
        features,
        hidden,
        bidirectional=model.direction != "forward",
        bias="B" in model.arrays,
        peepholes="P" in model.arrays,
        coupled=model.input_forget,
        batch_first=False,
        dtype=dtype,
        **options,
    )
    if model.direction == "reverse":  # as one of two directions: the other has the same weights, and isn't looked at
        params |= {name.removesuffix("_reverse"): value for name, value in params.items()}
    layer.load_state_dict(params)
    return layer


def ours(model: Model, dtype: str, *, clip: bool = True) -> dict[str, np.ndarray]:
    """The same results from our layer, in ONNX's layout."""
    layer = our_layer(model, dtype, clip=clip)
    steps, batch, _ = model.arrays["X"].shape
    shape = (1 if model.direction == "forward" else 2, batch, model.hidden)
    start = [np.broadcast_to(model.arrays.get(name, np.zeros(shape, "f")), shape) for name in ("h0", "c0")]
    y, end = layer(
        model.arrays["X"].astype(dtype), rr.State(*(a.astype(dtype) for a in start)), model.arrays.get("lengths")
    )
    y = y.reshape(steps, batch, -1, model.hidden).swapaxes(1, 2)
    last = slice(1 if model.direction == "reverse" else 0, None)
    return {"y": y[:, last], "h": end.h[last], "c": end.c[last]}


@pytest.mark.parametrize("seed", range(100))
def test_random_models(seed: int) -> None:
    model, dtype = random_model(seed), ("float32", "float64")[seed % 2]
    expected = model.run()
    for name, found in ours(model, dtype).items():
        assert found.shape == expected[name].shape
        scale = max(1.0, float(np.abs(expected[name]).max()))
        np.testing.assert_allclose(found, expected[name], rtol=0, atol=1e-5 * scale, err_msg=name)


def test_the_models_use_everything() -> None:
    """Every input, attribute and activation is in them, and the clip tells in the results."""
    models = [random_model(seed) for seed in range(100)]
    for name in INPUTS:
        assert sum(name in model.arrays for model in models) >= 20, name
    for place in range(3):
        used = [model.activations[place][0] for model in models]
        assert all(name in used for name in ACTIVATIONS), used
    assert sum(model.input_forget for model in models) >= 20
    assert sum("lengths" in m.arrays and len(set(m.arrays["lengths"].tolist())) > 1 for m in models) >= 20
    clipped = [model for model in models if model.clip is not None]
    assert len(clipped) >= 20
    both = [model for model in models if model.direction == "bidirectional"]
    assert sum(model.activations[:3] != model.activations[3:] for model in both) >= 10
    told = [np.abs(ours(m, "float64")["y"] - ours(m, "float64", clip=False)["y"]).max() > 1e-3 for m in clipped]
    assert np.mean(told) > 0.5


@pytest.mark.parametrize("seed", range(3))
def test_what_clip_does_is_onnxruntimes_without_the_output(seed: int) -> None:
    """The usual LSTM, with a clip that c passes: as the operator is described it is another."""
    rng = np.random.default_rng(seed)
    arrays = {"X": (6, 3, 2), "W": (1, 16, 2), "R": (1, 16, 4), "c0": (1, 3, 4)}
    given = {name: (2 * rng.standard_normal(shape)).astype(np.float32) for name, shape in arrays.items()}
    model = Model("forward", 4, [("Sigmoid",), ("Tanh",), ("Tanh",)], 0.3, False, given)
    expected = model.run()
    for name, found in ours(model, "float64").items():
        np.testing.assert_allclose(found, expected[name], rtol=0, atol=1e-6)
    described = our_layer(model, "float64")
    options = {"gate_clip": 0.3, "batch_first": False, "bias": False, "dtype": "float64"}
    other = rr.LSTM(2, 4, params=described.params, **options)
    c = given["c0"].astype(np.float64)
    y, _ = other(given["X"].astype(np.float64), rr.State(np.zeros_like(c), c))
    assert np.abs(y - expected["y"][:, 0]).max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("first", range(100, 1100, 100))
def test_many_random_models(first: int) -> None:
    for seed in range(first, first + 100):
        test_random_models(seed)
