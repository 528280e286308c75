"""Layers from PyTorch's files, read without PyTorch."""

from __future__ import annotations

import io
import os
import pickle
import random
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import assert_close
from harness.needs import need, needs
from recurray import convert
from recurray.files import FormatError

NUMPY = rr.get_backend("numpy")
BATCH, STEPS, INPUTS, HIDDEN = 3, 6, 4, 5
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "lstm": ("LSTM", {}),
    "deep both ways": ("LSTM", {"num_layers": 3, "bidirectional": True}),
    "projected": ("LSTM", {"num_layers": 2, "proj_size": 2, "bidirectional": True}),
    "without bias": ("LSTM", {"bias": False}),
    "gru": ("GRU", {"num_layers": 2, "bidirectional": True}),
    "tanh": ("RNN", {"num_layers": 2, "nonlinearity": "tanh"}),
    "relu": ("RNN", {"nonlinearity": "relu", "bidirectional": True}),
}
DTYPES = ("float32", "float64", "float16", "bfloat16")


def module(kind: str, options: dict[str, Any], seed: int = 0) -> Any:
    torch = need("torch")
    torch.manual_seed(seed)
    return getattr(torch.nn, kind)(INPUTS, HIDDEN, batch_first=True, **options)


def saved(content: Any, path: Path, *, old: bool = False) -> Path:
    need("torch").save(content, path, _use_new_zipfile_serialization=not old)
    return path


def state_of(model: Any) -> dict[str, Any]:
    """A model's params within a training's other things."""
    torch = need("torch")
    optimizer = {
        "state": {0: {"exp_avg": torch.ones(2), "step": 3}},
        "param_groups": [{"lr": 0.1, "betas": (0.9, None)}],
    }
    return {
        "epoch": 7,
        "optimizer": optimizer,
        "model": {f"rnn.{key}": value for key, value in model.state_dict().items()},
    }


@needs("torch")
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("old", [False, True], ids=["zip", "old"])
@pytest.mark.parametrize("form", FORMS)
def test_equals_torch(form: str, old: bool, tmp_path: Path) -> None:
    torch = need("torch")
    kind, options = FORMS[form]
    net = module(kind, options)
    path = saved(state_of(net), tmp_path / "model.pt", old=old)
    converted = convert.from_torch(path, nonlinearity=options.get("nonlinearity"))
    assert set(converted.before) == {"optimizer.state.0.exp_avg"}
    assert not converted.after
    rng = np.random.default_rng(1)
    x = rng.standard_normal((BATCH, STEPS, INPUTS)).astype("float32")
    places = options.get("num_layers", 1) * (1 + options.get("bidirectional", False))
    h = rng.standard_normal((places, BATCH, options.get("proj_size", 0) or HIDDEN)).astype("float32")
    c = rng.standard_normal((places, BATCH, HIDDEN)).astype("float32")
    is_lstm = kind == "LSTM"
    with torch.no_grad():
        start = (torch.from_numpy(h), torch.from_numpy(c)) if is_lstm else torch.from_numpy(h)
        expected, end = net(torch.from_numpy(x), start)
    y, state = converted.model(x, rr.State(h, c if is_lstm else None))
    assert_close(NUMPY, y, expected.numpy(), dtype="float32", tolerance=2e-6)
    assert_close(NUMPY, state.h, (end[0] if is_lstm else end).numpy(), dtype="float32", tolerance=2e-6)


@needs("torch")
@pytest.mark.parametrize("old", [False, True], ids=["zip", "old"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_precision(dtype: str, old: bool, tmp_path: Path) -> None:
    torch = need("torch")
    net = module("LSTM", {}).to(getattr(torch, dtype))
    model = convert.from_torch(saved(net.state_dict(), tmp_path / "m.pt", old=old)).model
    assert model.dtype == ("float64" if dtype == "float64" else "float32")
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(model.params[name], value.double().numpy())


@needs("torch")
def test_layers_in_the_order_that_is_said(tmp_path: Path) -> None:
    torch = need("torch")
    torch.manual_seed(0)
    parts = {"head": torch.nn.Linear(HIDDEN, 2), "norm": torch.nn.LayerNorm(HIDDEN, eps=1e-3)}
    parts["rnn"] = torch.nn.GRU(INPUTS, HIDDEN, batch_first=True)
    torch.nn.init.normal_(parts["norm"].weight)
    path = saved(torch.nn.ModuleDict(parts).state_dict(), tmp_path / "m.pt")
    model = convert.from_torch(path, prefix=["rnn", "norm", "head"], eps=1e-3).model
    x = np.random.default_rng(0).standard_normal((BATCH, STEPS, INPUTS)).astype("float32")
    with torch.no_grad():
        expected = parts["head"](parts["norm"](parts["rnn"](torch.from_numpy(x))[0]))
    assert_close(NUMPY, model(x)[0], expected.numpy(), dtype="float32", tolerance=2e-6)


@needs("torch")
def test_a_cell_is_one_layer() -> None:
    torch = need("torch")
    torch.manual_seed(0)
    cell = torch.nn.GRUCell(INPUTS, HIDDEN)
    x = np.random.default_rng(0).standard_normal((BATCH, 1, INPUTS)).astype("float32")
    h = np.random.default_rng(1).standard_normal((BATCH, HIDDEN)).astype("float32")
    tensors = {name: value.numpy() for name, value in cell.state_dict().items()}
    y, _ = convert.from_torch(tensors).model(x, rr.State(h[None]))
    with torch.no_grad():
        assert_close(
            NUMPY,
            y[:, 0],
            cell(torch.from_numpy(x[:, 0]), torch.from_numpy(h)).numpy(),
            dtype="float32",
            tolerance=2e-6,
        )


@needs("torch")
@pytest.mark.parametrize("old", [False, True], ids=["zip", "old"])
def test_views_and_shared_storages(old: bool, tmp_path: Path) -> None:
    torch = need("torch")
    whole = torch.arange(24.0).reshape(4, 6)
    tensors = {
        "transposed": whole.t(),
        "part": whole[1:, 1::2],
        "number": torch.tensor(3.0),
        "none": torch.ones(0, 3),
        "true": torch.tensor([True, False]),
        "parameter": torch.nn.Parameter(torch.ones(2, dtype=torch.float64)),
        **{str(kind): torch.tensor([1, 2], dtype=kind) for kind in (torch.int8, torch.uint8, torch.int16, torch.int64)},
    }
    read = convert.read_tensors(saved({"list": [tensors]}, tmp_path / "m.pt", old=old))
    assert list(read) == [f"list.0.{name}" for name in tensors]
    for name, tensor in tensors.items():
        value, expected = read[f"list.0.{name}"], tensor.detach().numpy()
        assert value.dtype == expected.dtype
        np.testing.assert_array_equal(value, expected)
    assert np.shares_memory(read["list.0.transposed"], read["list.0.part"])


@needs("torch")
def test_a_torchscript_archives_weights_are_read_and_its_program_is_not(tmp_path: Path) -> None:
    torch = need("torch")
    net = torch.nn.Sequential(torch.nn.Embedding(7, INPUTS), module("LSTM", {"bidirectional": True}))
    with pytest.warns(DeprecationWarning, match="jit"):
        torch.jit.script(net.half()).save(str(tmp_path / "m.pt"))
    model = convert.from_torch(tmp_path / "m.pt").model
    for name, value in net[1].state_dict().items():
        np.testing.assert_array_equal(model.params[name], value.numpy())


def test_what_a_layer_takes_is_a_copy() -> None:
    state = rr.LSTM(INPUTS, HIDDEN, seed=0).state_dict()
    model = convert.from_torch(state).model
    assert not any(np.shares_memory(state[name], model.params[name]) for name in state)


LSTM = rr.LSTM(INPUTS, HIDDEN, num_layers=2, seed=0).state_dict()
GRU = rr.GRU(INPUTS, HIDDEN, seed=0).state_dict()
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "none": ({"head.weight": np.ones((2, 3))}, {}, "no recurrent layer"),
    "several": (
        {f"{prefix}.{name}": value for prefix in "ab" for name, value in GRU.items()},
        {},
        "several recurrent layers: give prefix=, one of 'a', 'b'",
    ),
    "no such prefix": (LSTM, {"prefix": "rnn"}, "no names begin so"),
    "prefix": (LSTM, {"prefix": 3}, "prefix must be a text or a list"),
    "nonlinearity": (rr.RNN(INPUTS, HIDDEN, seed=0).state_dict(), {}, "give nonlinearity="),
    "a layer is missing": ({name: value for name, value in LSTM.items() if "l0" not in name}, {}, "no weight_ih_l0"),
    "a bias is missing": ({name: value for name, value in LSTM.items() if name != "bias_hh_l1"}, {}, "no bias_hh_l1"),
    "a layer too many": ({**GRU, "weight_ih_l9999": np.ones((15, 5))}, {}, "no weight_ih_l1"),
    "a shape": ({**LSTM, "weight_hh_l1": np.ones((20, 4))}, {}, r"weight_hh_l1 must have the shape \(20, 5\)"),
    "two gates": ({"weight_ih_l0": np.ones((10, 4)), "weight_hh_l0": np.ones((10, 5))}, {}, "10 rows of input weights"),
    "weight_norm": (
        {**{name: value for name, value in GRU.items() if name != "weight_hh_l0"}, "weight_hh_l0_g": np.ones((15, 1))},
        {},
        "remove_weight_norm",
    ),
    "parametrized": ({**GRU, "parametrizations.weight_hh_l0.original0": np.ones(3)}, {}, "remove_parametrizations"),
    "embedding": ({"e.weight": np.ones((3, 2)), **GRU}, {"prefix": ["e"]}, "look alike"),
    "batch norm": (
        {"n.weight": np.ones(3), "n.bias": np.ones(3), "n.running_mean": np.ones(3)},
        {"prefix": "n"},
        "neither",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    tensors, arguments, message = REFUSED[case]
    with pytest.raises((ValueError, TypeError), match=message):
        convert.from_torch(tensors, **arguments)


# Hostile files --------------------------------------------------------------------------------------------------------


def archive(pickled: bytes, compression: int = zipfile.ZIP_STORED, **members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as written:
        written.writestr("m/data.pkl", pickled)
        for name, data in members.items():
            written.writestr(f"m/data/{name.removeprefix('_')}", data)
    return file.getvalue()


def tensor(size: str, stride: str, offset: str = "I0\n", count: str = "I4\n", key: str = "V0\n") -> bytes:
    """The pickle of {"w": a tensor}, as a program in text."""
    storage = f"(Vstorage\nctorch\nFloatStorage\n{key}Vcpu\n{count}tQ"
    return f"(dVw\nctorch._utils\n_rebuild_tensor_v2\n({storage}{offset}{size}{stride}I00\n)tRs.".encode()


class Runs:
    def __reduce__(self) -> Any:
        return os.system, ("touch /tmp/recurray-was-here",)


def nested(depth: int) -> bytes:
    return b"(l" + b"".join(b"p%d\n0(lg%d\nag%d\na" % (n, n, n) for n in range(depth)) + b"."


DATA = np.arange(4.0, dtype="float32").tobytes()
HOSTILE: dict[str, tuple[bytes, str]] = {
    "a program": (archive(pickle.dumps(Runs())), "isn't a plain tensor"),
    "a class": (archive(pickle.dumps(random.Random())), "isn't a plain tensor"),
    "getattr": (archive(b"cbuiltins\ngetattr\n(ctorch\nFloatStorage\nV__class__\ntR."), "builtins.getattr"),
    "INST": (archive(b"(ios\nsystem\n."), "INST"),
    "an extension": (archive(b"\x82\x01."), "EXT1"),
    "size": (archive(tensor("(I5\nt", "(I1\nt"), _0=DATA), "doesn't fit its storage"),
    "offset": (archive(tensor("(I2\nt", "(I1\nt", "I3\n"), _0=DATA), "doesn't fit its storage"),
    "stride": (archive(tensor("(I2\nt", "(I9\nt"), _0=DATA), "doesn't fit its storage"),
    "negative stride": (archive(tensor("(I2\nt", "(I-1\nt"), _0=DATA), "described wrongly"),
    "negative offset": (archive(tensor("(I2\nt", "(I1\nt", "I-1\n"), _0=DATA), "described wrongly"),
    "expanded": (archive(tensor("(L1000000000000L\nt", "(I0\nt"), _0=DATA), "doesn't fit its storage"),
    "empty but absurd": (
        archive(tensor("(I0\nL9999999999999999999999L\nt", "(I1\nI1\nt"), _0=DATA),
        "described wrongly",
    ),
    "axes": (archive(tensor("(I1\nI1\nt", "(I1\nt"), _0=DATA), "described wrongly"),
    "size isn't a number": (archive(tensor("(F1\nt", "(I1\nt"), _0=DATA), "described wrongly"),
    "storage's size": (archive(tensor("(I2\nt", "(I1\nt", count="L999999999999L\n"), _0=DATA), "has 16 bytes"),
    "no storage": (archive(tensor("(I2\nt", "(I1\nt")), "has no 'm/data/0'"),
    "another folder": (archive(tensor("(I2\nt", "(I1\nt", key="V../../x\n"), _0=DATA), "has no"),
    "a bomb": (archive(tensor("(I2\nt", "(I1\nt"), zipfile.ZIP_DEFLATED, _0=bytes(10**7)), "compressed"),
    "in circles": (archive(b"}p0\nVa\ng0\ns."), "goes deeper"),
    "lists of lists": (archive(nested(200)), "goes deeper"),
    "a list as a key": (archive(b"}(lI1\ns."), "keys aren't texts"),
    "empty": (b"", "isn't a file that torch.save writes"),
    "another file": (b"GIF89a", "isn't a file that torch.save writes"),
    "no zip": (b"PK\x03\x04" + bytes(100), "zip archive is damaged"),
    "no pickle": (archive(b"\x80\x02"), "damaged"),
    "no data.pkl": (archive(b"N.").replace(b"data.pkl", b"date.pkl"), "0 files named data.pkl"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused_and_nothing_runs(case: str, tmp_path: Path) -> None:
    data, message = HOSTILE[case]
    path = tmp_path / "m.pt"
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match=message):
            convert.read_tensors(path)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 10 * len(data) + 2_000_000
    assert not Path("/tmp/recurray-was-here").exists()


def test_the_tensor_that_those_change_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(archive(tensor("(I2\nt", "(I2\nt", "I1\n"), _0=DATA))
    assert convert.read_tensors(path)["w"].tolist() == [1.0, 3.0]


def test_torch_is_not_imported(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(archive(tensor("(I2\nt", "(I1\nt"), _0=DATA))
    code = f"import sys, recurray; recurray.convert.read_tensors({str(path)!r}); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError):
        convert.from_torch("/nowhere/model.pt")
