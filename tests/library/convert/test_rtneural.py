"""RTNeural's JSON: read, refused where it is malformed, and written."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import assert_close
from recurray import convert
from recurray.files import FormatError

NUMPY = rr.get_backend("numpy")


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def drawn(*shape: int, seed: int = 0) -> list[Any]:
    return np.random.default_rng(seed).standard_normal(shape).tolist()


def own_form() -> dict[str, Any]:
    """A model as RTNeural's Python script writes it: dense with a function, lstm, gru, activation, dense."""
    return {
        "in_shape": [None, None, 2],
        "layers": [
            {"type": "time-distributed-dense", "activation": "tanh", "shape": [None, None, 3],
             "weights": [drawn(2, 3), drawn(3, seed=1)]},
            {"type": "lstm", "activation": "tanh", "shape": [None, None, 4],
             "weights": [drawn(3, 16, seed=2), drawn(4, 16, seed=3), drawn(16, seed=4)]},
            {"type": "gru", "activation": "tanh", "shape": [None, None, 5],
             "weights": [drawn(4, 15, seed=5), drawn(5, 15, seed=6), drawn(2, 15, seed=7)]},
            {"type": "activation", "activation": "relu", "shape": [None, None, 5]},
            {"type": "dense", "activation": "", "shape": [None, None, 1],
             "weights": [drawn(5, 1, seed=8), drawn(1, seed=9)]},
        ],
    }  # fmt: skip


def by_formula(content: dict[str, Any], x: Any) -> Any:
    """The same by Keras's formulas, a step at a time, (T, features)."""
    first, lstm, gru, _, last = ([np.array(w) for w in layer.get("weights", ())] for layer in content["layers"])
    h, c, s, found = np.zeros(4), np.zeros(4), np.zeros(5), []
    for step in x:
        a = np.tanh(step @ first[0] + first[1])
        i, f, g, o = np.split(a @ lstm[0] + h @ lstm[1] + lstm[2], 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        z, r, n = np.split(h @ gru[0] + gru[2][0], 3)
        hz, hr, hn = np.split(s @ gru[1] + gru[2][1], 3)
        z, n = sigmoid(z + hz), np.tanh(n + sigmoid(r + hr) * hn)
        s = z * s + (1 - z) * n
        found.append(np.maximum(s, 0) @ last[0] + last[1])
    return np.array(found)


def written(content: Any, tmp_path: Path) -> Path:
    path = tmp_path / "m.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_equals_the_formula(tmp_path: Path) -> None:
    content = own_form()
    converted = convert.from_rtneural(written(content, tmp_path), dtype="float64")
    x = np.random.default_rng(10).standard_normal((7, 2))
    assert_close(NUMPY, converted.model(x[None])[0][0], by_formula(content, x))
    assert (converted.before, converted.after) == ((), ())


def test_what_is_written_is_read_as_it_was(tmp_path: Path) -> None:
    model = convert.from_rtneural(written(own_form(), tmp_path)).model
    path = tmp_path / "again.json"
    convert.to_rtneural(model, path)
    again = convert.from_rtneural(path).model
    assert repr(again) == repr(model)
    for name, value in model.params.items():
        np.testing.assert_array_equal(again.params[name], value)


def test_deep_layers_and_single_biases_are_written(tmp_path: Path) -> None:
    model = rr.Sequential(
        rr.LSTM(2, 3, 2, seed=0), rr.Dropout(0.5), rr.GRU(3, 4, bias=False, seed=1), rr.Linear(4, 1, bias=False, seed=2)
    )
    convert.to_rtneural(model, tmp_path / "m.json")
    x = np.random.default_rng(0).standard_normal((2, 6, 2)).astype("float32")
    found = convert.from_rtneural(tmp_path / "m.json").model(x)[0]
    assert_close(NUMPY, found, model(x)[0], dtype="float32", tolerance=1e-6)


def test_layers_of_others_are_named(tmp_path: Path) -> None:
    content = own_form()
    content["layers"].insert(0, {"type": "conv1d", "shape": [None, None, 2]})
    content["layers"].append({"type": "prelu", "shape": [None, None, 1]})
    converted = convert.from_rtneural(written(content, tmp_path))
    assert (converted.before, converted.after) == (("layer 0 (conv1d)",), ("layer 6 (prelu)",))


def guitarml() -> dict[str, Any]:
    state = {f"rec.{name}": value.tolist() for name, value in rr.LSTM(1, 4, seed=0).state_dict().items()}
    state |= {f"lin.{name}": value.tolist() for name, value in rr.Linear(4, 1, seed=1).state_dict().items()}
    said = {"model": "SimpleRNN", "input_size": 1, "skip": 1, "unit_type": "LSTM", "num_layers": 1, "hidden_size": 4}
    return {"model_data": said, "state_dict": state}


def test_guitarml(tmp_path: Path) -> None:
    converted = convert.from_rtneural(written(guitarml(), tmp_path))
    model = rr.Sequential(rr.LSTM(1, 4, seed=0), rr.Linear(4, 1, seed=1))
    x = np.random.default_rng(0).standard_normal((2, 6, 1)).astype("float32")
    assert_close(NUMPY, converted.model(x)[0], model(x)[0], dtype="float32", tolerance=1e-7)
    assert len(converted.after) == 1
    assert "skip=1" in converted.after[0]
    assert "skip=1" in converted.report


def test_a_state_dict_alone(tmp_path: Path) -> None:
    state = guitarml()["state_dict"]
    path = written(state, tmp_path)
    assert repr(convert.from_rtneural(path, ["rec", "lin"]).model) == repr(
        rr.Sequential(rr.LSTM(1, 4), rr.Linear(4, 1))
    )
    with pytest.raises(ValueError, match="no names begin so"):
        convert.from_rtneural(path, "other")


# RTNeural's own models ------------------------------------------------------------------------------------------------

MODELS = Path(__file__).with_name("rtneural")


def numbers(name: str) -> np.ndarray:
    return np.loadtxt(MODELS / f"{name}_python.csv")


@pytest.mark.parametrize("name", ["gru", "gru_1d", "gru_torch", "lstm", "lstm_1d", "lstm_torch"])
def test_rtneural_s_own_models(name: str, tmp_path: Path) -> None:
    kind = name.partition("_")[0]
    prefix = [kind, f"{kind}2", "dense"] if "torch" in name else None
    model = convert.from_rtneural(MODELS / f"{name}.json", prefix).model
    x = numbers(f"{name}_x").astype("float32").reshape(1, -1, 1)
    y, _ = model(x)
    np.testing.assert_allclose(y.ravel(), numbers(f"{name}_y"), rtol=0, atol=1e-6)
    convert.to_rtneural(model, tmp_path / "again.json")
    np.testing.assert_array_equal(convert.from_rtneural(tmp_path / "again.json").model(x)[0], y)


def test_the_malformed_one_is_refused() -> None:
    with pytest.raises(FormatError, match=r"weights are of 1 features and 20 units, .* its shape says 16"):
        convert.from_rtneural(MODELS / "bad_lstm.json")


def change(content: dict[str, Any], *way: Any, to: Any) -> dict[str, Any]:
    content = copy.deepcopy(content)
    inner: Any = content
    for key in way[:-1]:
        inner = inner[key]
    inner[way[-1]] = to
    return content


OWN, GUITAR = own_form(), guitarml()
REFUSED: dict[str, tuple[Any, str]] = {
    "no JSON": ("{", "isn't JSON"),
    "deep": ("[" * 100_000, "isn't JSON"),
    "a list": ("[1]", "holds a list"),
    "NaN": (json.dumps(OWN).replace("null", "NaN", 1), "the number NaN"),
    "units": (change(OWN, "layers", 1, "shape", to=[None, None, 3]), "shape says 3"),
    "features": (change(OWN, "in_shape", to=[None, None, 1]), "must have the shapes"),
    "ragged": (change(OWN, "layers", 1, "weights", 0, 0, to=[1.0]), "equal lengths"),
    "text": (change(OWN, "layers", 1, "weights", 2, 0, to="1"), "must be numbers"),
    "too large": (change(OWN, "layers", 1, "weights", 2, 0, to=10**400), "must be numbers"),
    "function": (change(OWN, "layers", 0, "activation", to="swish"), "activation must be one of"),
    "lstm's function": (change(OWN, "layers", 1, "activation", to="relu"), "where RTNeural has tanh"),
    "single bias": (change(OWN, "layers", 2, "weights", 2, to=drawn(15)), "layer 2"),
    "between": (change(OWN, "layers", 2, "type", to="conv1d") | {"layers": [
        OWN["layers"][1], {"type": "conv1d"}, OWN["layers"][2]]}, "between its recurrent layers"),
    "no recurrent": ({"layers": [OWN["layers"][0]], "in_shape": [2]}, "no lstm or gru"),
    "layers": ({"layers": 3}, "must be a list"),
    "unit_type": (change(GUITAR, "model_data", "unit_type", to="GRU"), "weights are a LSTM's"),
    "hidden_size": (change(GUITAR, "model_data", "hidden_size", to=5), "hidden_size is 5"),
    "skip": (change(GUITAR, "model_data", "skip", to="1"), "skip must be"),
    "state": (change(GUITAR, "state_dict", "rec.bias_hh_l0", to=[1.0]), "bias_hh_l0 must have the shape"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, tmp_path: Path) -> None:
    content, message = REFUSED[case]
    with pytest.raises(FormatError, match=message):
        convert.from_rtneural(written(content, tmp_path))


NO_WORD = {
    "both directions": rr.LSTM(2, 3, bidirectional=True),
    "another function": rr.LSTM(2, 3, cell_activation="relu"),
    "reset before": rr.GRU(2, 3, reset_after=False),
    "rnn": rr.RNN(2, 3),
    "softplus": rr.Sequential(rr.LSTM(2, 3), rr.Activation("softplus")),
    "no size": rr.Sequential(rr.Activation("tanh"), rr.LSTM(2, 3)),
}


@pytest.mark.parametrize("case", NO_WORD)
def test_what_rtneural_has_no_word_for(case: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="RTNeural"):
        convert.to_rtneural(NO_WORD[case], tmp_path / "m.json")
    assert not (tmp_path / "m.json").exists()


def test_not_a_path() -> None:
    with pytest.raises(TypeError, match="path must be a text or a path, not NoneType"):
        convert.from_rtneural(None)
