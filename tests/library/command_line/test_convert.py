"""recurray convert: what a file is, is told from its content, and nothing is replaced unasked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness.needs import need, needs
from recurray import convert
from recurray.command_line import main

X = np.random.default_rng(0).standard_normal((2, 5, 3)).astype("float32")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RECURRAY_BACKEND", raising=False)
    return tmp_path


def model() -> Any:
    return rr.Sequential(rr.LSTM(3, 4, seed=0), rr.Linear(4, 2, seed=1))


def state_dict() -> dict[str, Any]:
    names = {"0.": "encoder.lstm.", "1.": "head."}
    return {names[name[:2]] + name[2:]: value for name, value in model().state_dict().items()}


def test_pytorch_s_safetensors(capsys: pytest.CaptureFixture[str]) -> None:
    save = need("safetensors.numpy").save_file
    save(state_dict(), "model.safetensors")
    assert (
        main(["convert", "model.safetensors", "out.safetensors", "--prefix", "encoder.lstm", "--prefix", "head"]) == 0
    )
    assert "encoder.lstm: LSTM(3, 4" in capsys.readouterr().out
    np.testing.assert_array_equal(rr.load("out.safetensors")(X)[0], model()(X)[0])


@needs("torch")
@pytest.mark.parametrize("old", [False, True])
def test_pytorch(old: bool) -> None:
    torch = need("torch")
    tensors = {name: torch.from_numpy(value) for name, value in state_dict().items()}
    torch.save(tensors, "model", _use_new_zipfile_serialization=not old)  # a name that tells nothing
    assert main(["convert", "model", "out.safetensors"]) == 0
    np.testing.assert_array_equal(rr.load("out.safetensors")(X)[0], model().layers[0](X)[0])


@needs("onnx")
def test_recurray_to_onnx_and_back() -> None:
    rr.save(model(), "model.safetensors")
    assert main(["convert", "model.safetensors", "model.onnx", "--lengths", "--no-state"]) == 0
    assert main(["convert", "model.onnx", "out.safetensors"]) == 0
    again = rr.load("out.safetensors")
    np.testing.assert_allclose(again(X, lengths=[5, 2])[0], model()(X, lengths=[5, 2])[0], atol=1e-6)
    assert main(["convert", "model.onnx", "one.safetensors", "--node", "0"]) == 0
    assert isinstance(rr.load("one.safetensors"), rr.LSTM)


def test_rtneural() -> None:
    rr.save(model(), "model.safetensors")
    assert main(["convert", "model.safetensors", "model.json"]) == 0
    assert json.loads(Path("model.json").read_text())["in_shape"] == [None, None, 3]
    assert main(["convert", "model.json", "out.safetensors"]) == 0
    np.testing.assert_allclose(rr.load("out.safetensors")(X)[0], model()(X)[0], atol=1e-6)


def test_keras() -> None:
    path = Path(__file__).parents[1] / "convert" / "model.keras"
    assert main(["convert", str(path), "out.safetensors"]) == 0
    assert repr(rr.load("out.safetensors")) == repr(convert.from_keras(path).model)


def test_nothing_is_replaced_unasked(capsys: pytest.CaptureFixture[str]) -> None:
    rr.save(model(), "model.safetensors")
    Path("out.json").write_text("mine")
    assert main(["convert", "model.safetensors", "out.json"]) == 2
    assert "--force" in capsys.readouterr().err
    assert Path("out.json").read_text() == "mine"
    assert main(["convert", "model.safetensors", "out.json", "--force"]) == 0
    assert Path("out.json").read_text() != "mine"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nowhere", "out.safetensors"], 1, "No such file"),
        (["model.safetensors", "out.txt"], 2, "OUT must end with"),
        (["model.safetensors", "out.json", "--lengths"], 2, "for an OUT that ends with .onnx"),
        (["model.safetensors", "out.onnx", "--node", "x"], 2, "--node"),
        (["damaged.pt", "out.safetensors"], 1, "zip archive is damaged"),
        (["gru.safetensors", "out.json"], 1, "RTNeural"),
    ],
)
def test_refused(words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    rr.save(model(), "model.safetensors")
    rr.save(rr.GRU(3, 4, reset_after=False), "gru.safetensors")
    Path("damaged.pt").write_bytes(b"PK\x03\x04" + bytes(50))
    assert main(["convert", *words]) == code
    assert message in capsys.readouterr().err
    assert not list(Path().glob("out.*"))
