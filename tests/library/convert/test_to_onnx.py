"""ONNX files of recurray's models: onnxruntime gives what the model gives, and so does what is read from the file."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness.needs import need, needs
from recurray import cells, convert

pytestmark = [needs("onnx"), needs("onnxruntime")]

BATCH, STEPS, LENGTHS = 3, 6, (6, 1, 4)
TOLERANCE = 1e-6


def session(path: Path) -> Any:
    return need("onnxruntime").InferenceSession(str(path), providers=["CPUExecutionProvider"])


def fed(path: Path, tokens: int = 0) -> dict[str, np.ndarray]:
    """Random arrays for a file's inputs."""
    rng = np.random.default_rng(0)
    found = {}
    for value in session(path).get_inputs():
        shape = [{"batch": BATCH, "time": STEPS}.get(size, size) for size in value.shape]
        if value.name == "lengths":
            found["lengths"] = np.array(LENGTHS, "int32")
        elif value.name == "x" and tokens:
            found["x"] = rng.integers(0, tokens, shape)
        else:
            found[value.name] = rng.standard_normal(shape).astype("float32")
    return found


def state_of(model: Any, feed: dict[str, np.ndarray]) -> Any:
    if isinstance(model, rr.Sequential):
        return tuple(state_of(None, own) for own in by_place(feed, len(model.layers)))
    return rr.State(feed["h"], feed.get("c")) if "h" in feed else None


def by_place(feed: dict[str, np.ndarray], count: int) -> list[dict[str, np.ndarray]]:
    return [
        {name.removeprefix(f"{place}."): v for name, v in feed.items() if name.startswith(f"{place}.")}
        for place in range(count)
    ]


def ends_of(model: Any, end: Any) -> dict[str, np.ndarray]:
    """The final states, by the names that the file has them under."""
    if isinstance(model, rr.Sequential):
        parts = [ends_of(layer, own) for layer, own in zip(model.layers, end, strict=True)]
        return {f"{place}.{name}": value for place, part in enumerate(parts) for name, value in part.items()}
    if not isinstance(model, rr.Recurrent):
        return {}
    return {f"{name}_end": value for name, value in zip("hc", (end.h, end.c), strict=True) if value is not None}


def check(model: Any, path: Path, *, state: bool, lengths: bool, tokens: int = 0) -> None:
    convert.to_onnx(model, path, state=state, lengths=lengths)
    feed = fed(path, tokens)
    y, end = model(feed["x"], state_of(model, feed) if state else None, lengths=feed.get("lengths"))
    names = [value.name for value in session(path).get_outputs()]
    found = dict(zip(names, session(path).run(None, feed), strict=True))
    expected = {"y": y} | (ends_of(model, end) if state else {})
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_allclose(found[name], value, rtol=0, atol=TOLERANCE, err_msg=name)
    if isinstance(model, rr.Recurrent) and not state:
        again = convert.from_onnx(path).model
        np.testing.assert_allclose(again(feed["x"], lengths=feed.get("lengths"))[0], y, rtol=0, atol=TOLERANCE)


FORMS = list(itertools.product([False, True], [1, 2], [False, True], [False, True], [False, True]))[::3]
KINDS: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "lstm": (rr.LSTM, {"peepholes": True}),
    "coupled": (rr.LSTM, {"coupled": True, "gate_activation": ("hard_sigmoid", 0.2, 0.5), "peepholes": True}),
    "functions": (rr.LSTM, {"cell_activation": ("leaky_relu", 0.2), "output_activation": ("scaled_tanh", 1.5, 0.5)}),
    "gru": (rr.GRU, {}),
    "gru, reset before": (rr.GRU, {"reset_after": False, "bias": False}),
    "gru, functions": (rr.GRU, {"gate_activation": ("hard_sigmoid", 0.2, 0.5), "cell_activation": ("elu", 0.5)}),
    "rnn": (rr.RNN, {"nonlinearity": "relu"}),
    "clipped lstm": (rr.LSTM, {"gate_clip": 0.3, "clip_output": False}),
    "clipped gru": (rr.GRU, {"gate_clip": 0.3}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_equals_onnxruntime(kind: str, tmp_path: Path) -> None:
    make, options = KINDS[kind]
    for bidirectional, layers, batch_first, state, lengths in FORMS:
        form = {"bidirectional": bidirectional, "num_layers": layers, "batch_first": batch_first}
        model = make(4, 5, **options, **form, seed=1)
        check(model, tmp_path / "m.onnx", state=state, lengths=lengths)


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_one_direction_in_reverse(kind: str, tmp_path: Path) -> None:
    make, options = KINDS[kind]
    for lengths in (False, True):
        check(make(4, 5, reverse=True, **options, seed=1), tmp_path / "m.onnx", state=True, lengths=lengths)


def test_a_direction_with_functions_of_its_own(tmp_path: Path) -> None:
    others = {"cell_activation": ("leaky_relu", 0.2), "output_activation": "softsign"}
    model = rr.LSTM(4, 5, bidirectional=True, output_activation=("elu", 0.4), reverse_activations=others, seed=1)
    check(model, tmp_path / "m.onnx", state=False, lengths=True)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_learned_starts(bidirectional: bool, tmp_path: Path) -> None:
    model = rr.LSTM(4, 5, 2, bidirectional=bidirectional, learned_state=True, seed=1)
    rng = np.random.default_rng(0)
    for name, value in model.params.items():
        if name.startswith("start"):
            model.params[name] = rng.standard_normal(value.shape).astype("float32")
    check(model, tmp_path / "m.onnx", state=False, lengths=False)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("state", [False, True])
def test_a_model_of_many_layers(batch_first: bool, lengths: bool, state: bool, tmp_path: Path) -> None:
    layout = {"batch_first": batch_first}
    model = rr.Sequential(
        rr.Embedding(7, 4, seed=1), rr.Linear(4, 3, bias=False, seed=2), rr.Dropout(0.5),
        rr.LSTM(3, 5, bidirectional=True, seed=3, **layout), rr.LayerNorm(10, eps=1e-3), rr.Merge("ave"),
        rr.GRU(5, 6, bidirectional=True, seed=4, **layout), rr.Final(**layout), rr.Linear(12, 3, seed=5),
        rr.Activation("log_softmax"),
    )  # fmt: skip
    check(model, tmp_path / "m.onnx", state=state, lengths=lengths, tokens=7)


FUNCTIONS: dict[str, dict[str, float]] = {
    "leaky_relu": {"alpha": 0.2},
    "thresholded_relu": {"alpha": 0.1},
    "elu": {"alpha": 0.7},
    "hard_sigmoid": {},
    "scaled_tanh": {"alpha": 1.5, "beta": 0.6},
    "affine": {"alpha": 0.5, "beta": 0.1},
    **{name: {} for name in ("softplus", "softsign", "relu", "tanh", "sigmoid", "identity", "softmax", "log_softmax")},
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str, tmp_path: Path) -> None:
    model = rr.Sequential(rr.Linear(4, 6, seed=1), rr.Activation(name, **FUNCTIONS[name]))
    check(model, tmp_path / "m.onnx", state=False, lengths=False)


@pytest.mark.parametrize("lengths", [False, True])
def test_what_lies_past_a_row_s_length_is_zero(lengths: bool, tmp_path: Path) -> None:
    model = rr.Sequential(rr.LSTM(4, 5, seed=1), rr.Linear(5, 3, seed=2), rr.Activation("sigmoid"))
    check(model, tmp_path / "m.onnx", state=True, lengths=lengths)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("pooling", [rr.Mean, rr.Max])
def test_pooling(pooling: Any, lengths: bool, batch_first: bool, tmp_path: Path) -> None:
    layout = {"batch_first": batch_first}
    model = rr.Sequential(rr.GRU(4, 5, seed=1, **layout), pooling(**layout), rr.Linear(5, 3, seed=2))
    check(model, tmp_path / "m.onnx", state=False, lengths=lengths)


def test_a_row_without_steps_gives_zeros(tmp_path: Path) -> None:
    for end in (rr.Last(), rr.Final(), rr.Mean(), rr.Max()):
        model = rr.Sequential(rr.LSTM(4, 5, seed=1), rr.Activation("sigmoid"), end)
        convert.to_onnx(model, tmp_path / "m.onnx", state=False, lengths=True)
        feed = fed(tmp_path / "m.onnx") | {"lengths": np.array([3, 0, 2], "int32")}
        found = session(tmp_path / "m.onnx").run(["y"], feed)[0]
        np.testing.assert_allclose(found, model(feed["x"], lengths=[3, 0, 2])[0], atol=TOLERANCE)


def test_a_streamed_step_is_the_step_of_the_whole(tmp_path: Path) -> None:
    """The states that come out go in again."""
    model = rr.LSTM(4, 5, 2, seed=1)
    convert.to_onnx(model, tmp_path / "m.onnx")
    run = session(tmp_path / "m.onnx").run
    x = np.random.default_rng(0).standard_normal((BATCH, STEPS, 4)).astype("float32")
    h = c = np.zeros((2, BATCH, 5), "float32")
    parts = []
    for step in range(STEPS):
        y, h, c = run(["y", "h_end", "c_end"], {"x": x[:, step : step + 1], "h": h, "c": c})
        parts.append(y)
    np.testing.assert_allclose(np.concatenate(parts, axis=1), model(x)[0], atol=TOLERANCE)


@needs("torch")
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_from_pytorch_by_recurray_to_onnxruntime(kind: str, tmp_path: Path) -> None:
    torch = need("torch")
    torch.manual_seed(0)
    net = getattr(torch.nn, kind)(4, 5, 2, bidirectional=True, batch_first=True)
    torch.save(net.state_dict(), tmp_path / "m.pt")
    model = convert.from_torch(tmp_path / "m.pt", nonlinearity="tanh").model
    convert.to_onnx(model, tmp_path / "m.onnx")
    feed = fed(tmp_path / "m.onnx")
    starts = [torch.from_numpy(feed[name]) for name in "hc" if name in feed]
    with torch.no_grad():
        expected, _ = net(torch.from_numpy(feed["x"]), tuple(starts) if kind == "LSTM" else starts[0])
    found = session(tmp_path / "m.onnx").run(["y"], feed)[0]
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=TOLERANCE)


NO_WORD: dict[str, Any] = {
    "proj_size": lambda: rr.LSTM(4, 5, proj_size=3),
    "layer_norm": lambda: rr.LSTM(4, 5, layer_norm=True),
    "cell_clip": lambda: rr.LSTM(4, 5, cell_clip=10.0),
    "clip_output=False": lambda: rr.LSTM(4, 5, gate_clip=1.0),
    "static_size": lambda: rr.GRU(4, 5, static_size=2),
    "zoneout_c": lambda: rr.LSTM(4, 5, zoneout_c=0.1),
    "zoneout_h": lambda: rr.GRU(4, 5, zoneout_h=0.1),
    "one function for all gates": lambda: rr.LSTM(4, 5, gate_activation={"f": "hard_sigmoid"}),
    "DiagonalLSTM": lambda: rr.DiagonalLSTM(4, 5),
    r"layer 1 \(Recurrent\)": lambda: rr.Sequential(rr.Linear(3, 4), rr.Recurrent(cells.MGUCell(), 4, 5)),
}


@pytest.mark.parametrize("what", NO_WORD)
def test_what_onnx_has_no_word_for(what: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"ONNX .*{what}"):
        convert.to_onnx(NO_WORD[what](), tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()
