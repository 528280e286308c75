"""``recurray inspect``: what it says of each kind of file, in few columns too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import recurray as rr
from harness.needs import need, needs
from harness.saved_models import own_model
from recurray import cells
from recurray.command_line import main
from recurray.language_model import checkpoint


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert main(["inspect", *arguments]) == code
    out, err = capsys.readouterr()
    assert (out == "") == (code != 0)
    assert (err == "") == (code == 0)
    return out + err


def test_a_model_of_recurrays(capsys: Any) -> None:
    model = rr.Sequential(
        rr.LSTM(3, 5, gate_activation={"i": ("leaky_relu", 0.2)}, seed=0),
        rr.Recurrent(cells.ZoneoutCell(cells.MGUCell(), 0.1), 5, 4),
        rr.Last(),
    )
    rr.save(model, "m", {"classes": ["up", "ü"]})
    out = told(capsys, "m")
    assert out.startswith("m: recurray\n  a model, which recurray.load reads; written by recurray ")
    for text in (
        "Sequential()",
        '    0: LSTM(3, 5, gate_activation=[["i", ["leaky_relu", 0.2]]])\n',
        "    1: Recurrent(ZoneoutCell(MGUCell(), zoneout_h=0.1), 5, 4)\n",
        '    2: Last(dtype="float32")\n',
        'metadata: {"classes": ["up", "ü"]}',
        "  intact: every digest is right\n",
        "    0.weight_ih_l0 (20, 3) float32\n",
    ):
        assert text in out, text


def test_a_model_with_classes_of_ones_own_needs_none_of_them(capsys: Any) -> None:
    rr.save(own_model(), "m")
    assert "Shift(" in (out := told(capsys, "m"))
    assert "(a class of the writer's own, to be handed in)" in " ".join(out.split())
    assert "LeakyCell(power=2, rate=0.25)" in " ".join(out.split())


def test_a_checkpoint(capsys: Any) -> None:
    content = {"format": "character language model", "step": 7, "settings": {"hidden_size": 4}}
    checkpoint.save("c", {"a": np.ones((2, 3))}, content)
    out = told(capsys, "c")
    assert "which recurray sample and recurray train --resume read" in " ".join(out.split())
    assert "step: 7" in out
    assert "1 arrays, 6 numbers, 48 bytes" in out


def test_a_safetensors_file_of_pytorchs(capsys: Any) -> None:
    lstm = rr.LSTM(3, 5, seed=0)
    save_file(lstm.state_dict(), "m")
    out = told(capsys, "m")
    assert out.startswith("m: PyTorch or safetensors\n  4 arrays, 200 numbers, 800 bytes\n")
    assert "convert.from_torch loads:\n    LSTM(3, 5, backend='numpy', dtype='float32')  # 200 params\n" in out
    save_file({f"{name}.{key}": value for name in "ab" for key, value in lstm.state_dict().items()}, "two")
    assert "doesn't load it as it is: there are several recurrent layers: give prefix=, one of 'a', 'b'" in " ".join(
        told(capsys, "two").split()
    )
    save_file({f"x{number}": np.ones(2) for number in range(60)}, "many")
    assert "and 20 more; --all shows them" in told(capsys, "many")
    assert "x59" in told(capsys, "many", "--all")


@needs("torch")
def test_a_file_of_torch_save(capsys: Any) -> None:
    torch = need("torch")
    torch.save(torch.nn.GRU(3, 5).state_dict(), "m.pt")
    out = told(capsys, "m.pt")
    assert "weight_ih_l0 (15, 3) float32" in out
    assert "GRU(3, 5, " in out


@needs("onnx")
def test_a_file_of_onnx(capsys: Any) -> None:
    need("onnx")
    rr.convert.to_onnx(rr.LSTM(3, 5, seed=0), "m.onnx")
    assert "convert.from_onnx loads:\n    LSTM(3, 5" in told(capsys, "m.onnx")


def test_a_file_of_rtneurals(capsys: Any) -> None:
    rr.convert.to_rtneural(rr.Sequential(rr.LSTM(1, 5, seed=0), rr.Linear(5, 1)), "m.json")
    assert "convert.from_rtneural loads:" in told(capsys, "m.json")
    assert json.loads(Path("m.json").read_text())


@pytest.mark.parametrize("columns", [40, 80])
def test_it_fits_the_terminal(columns: int, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    rr.save(
        rr.Sequential(rr.Sequential(rr.LSTM(3, 5, seed=0)), rr.Linear(5, 2)), "m", {"text": "word " * 50, "x": "y" * 90}
    )
    lstm = rr.LSTM(3, 5, seed=0).state_dict()
    save_file({f"a.rather.long.name.of.a.module.within.{name}": value for name, value in lstm.items()}, "long")
    for name in ("m", "long"):
        for line in told(capsys, name).splitlines():
            assert len(line) <= columns, line


def test_what_goes_wrong_is_said_in_a_line(folder: Path, capsys: Any) -> None:
    for name, content, message in (
        ("nothing", None, "No such file or directory"),
        (".", None, "Is a directory"),
        ("short", b"\x10\x00\x00\x00\x00\x00\x00\x00{", "isn't a safetensors file, or is cut short"),
        ("json", b"{}", "json"),
        ("zip", b"PK\x03\x04", "zip"),
    ):
        if content is not None:
            (folder / name).write_bytes(content)
        err = told(capsys, name, code=1)
        assert err.startswith("recurray inspect: ")
        assert message in err
    rr.save(rr.LSTM(3, 5, seed=0), "m")
    data = bytearray(Path("m").read_bytes())
    data[-1] ^= 1
    Path("m").write_bytes(data)
    assert "is damaged" in told(capsys, "m", code=1)
    assert main(["inspect"]) == 2
