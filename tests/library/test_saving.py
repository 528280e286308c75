"""Models in files: every layer with every option comes back, and what can't is refused."""

from __future__ import annotations

import errno
import json
import os
import re
import struct
import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness.cases import CASES
from harness.needs import needs
from harness.saved_models import FOLDER, OWN, LeakyCell, Shift, Shrink, own_model
from recurray import activations, architecture, cells, layers, saving, sealed
from recurray.architecture import arguments_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def comes_back(model: rr.Layer, path: Path, **options: Any) -> Any:
    """Save and load a model; what comes back is the same in its words, params, outputs and states."""
    rr.save(model, path)
    other = rr.load(path, **{"backend": model.backend, **options})
    assert type(other) is type(model)
    assert repr(other) == repr(model)
    assert architecture.described(other) == architecture.described(model)
    values, again = model.state_dict(), other.state_dict()
    assert list(values) == list(again)
    for name, value in values.items():
        np.testing.assert_array_equal(again[name], value, strict=True)
    x = model.backend.asarray(model.random_input(np.random.default_rng(0), 3, 6))
    x = x if x.dtype.kind in "iu" else model.backend.xp.astype(x, getattr(model.backend.xp, model.dtype))
    given = {"static": np.ones((3, model.static_size), model.dtype)} if model.static_size else {}
    (y, state), (y_again, state_again) = model(x, **given), other(x, **given)
    np.testing.assert_array_equal(y_again, y, strict=True)
    np.testing.assert_array_equal(flat(state_again), flat(state))
    return other


def flat(state: Any) -> Any:
    if state is None:
        return np.zeros(0)
    if isinstance(state, tuple):
        return np.concatenate([flat(part) for part in state])
    return np.asarray(state).ravel()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_layer_comes_back(case: Any, path: Path) -> None:
    comes_back(case.make(backend="numpy", dtype="float64"), path)


# Every option -------------------------------------------------------------------------------------------------------

# What an option is set to. One that isn't here is negated where it is a flag, and 0.25 where it is a number.
VALUES: dict[str, tuple[Any, ...]] = {
    "num_layers": (2,),
    "dropout": (0.25,),
    "proj_size": (2,),
    "cell_clip": (0.5,),
    "gate_clip": (0.75,),
    "gate_activation": (
        "hard_sigmoid",
        ("leaky_relu", 0.2),
        {"name": "elu", "alpha": 0.5},
        activations.HardSigmoid(0.2),
    ),
    "cell_activation": (("scaled_tanh", 1.5, 0.5),),
    "output_activation": ("relu",),
    "nonlinearity": ("relu", ("leaky_relu", 0.3)),
    "recurrent_init": ("orthogonal",),
    "recompute": (3, "sqrt"),
    "projection": ("per_gate",),
    "eps": (0.1,),
    "p": (0.3,),
    "dtype": ("float64",),
    "alpha": (0.3,),
    "beta": (0.1,),
    "static_size": (2,),
    "padding_idx": (1,),
    "reverse_cell": (cells.MGUCell(),),
    "reverse_activations": ({"gate_activation": "hard_sigmoid"},),
    "RNN.reverse_activations": ({"nonlinearity": ("elu", 0.5)},),
}
WITH: dict[str, dict[str, Any]] = {  # what an option needs beside it
    "dropout": {"num_layers": 2},
    "alpha": {"name": "hard_sigmoid"},
    "beta": {"name": "hard_sigmoid"},
    "reverse_cell": {"bidirectional": True},
    "reverse_activations": {"bidirectional": True},
    "clip_output": {"gate_clip": 0.5},
}
REQUIRED: dict[str, Any] = {"name": "tanh", "mode": "ave", "cell": cells.MGUCell()}
NOT_TOLD = {"backend", *architecture.START}
ANOTHER = "another word"


def classes() -> list[type[rr.Layer]]:
    kinds = [getattr(layers, name) for name in layers.__all__]
    return [
        kind for kind in kinds if kind not in (layers.Layer, layers.StatelessLayer, layers.Sequential, layers.Model)
    ]


def required(kind: type, name: str) -> dict[str, Any]:
    if kind is rr.Final:
        return {"direction": "forward"}
    if name == "proj_size" and kind is rr.Recurrent:
        return {"cell": cells.LSTMCell(), "input_size": 3, "hidden_size": 5}
    return {each: REQUIRED.get(each, 3 + place) for place, each in enumerate(arguments_of(kind).required)}


def variants() -> list[Any]:
    found = []
    for kind in classes():
        for name, argument in list(signature(kind.__init__).parameters.items())[1:]:
            if argument.default is Parameter.empty or name in NOT_TOLD:
                continue
            values: tuple[Any, ...] = VALUES.get(f"{kind.__name__}.{name}", VALUES.get(name, ()))
            if not values and isinstance(argument.default, bool):
                values = (not argument.default,)
            elif not values and isinstance(argument.default, float):
                values = (0.25,)
            elif not values:  # a word, whose choices the error names that a wrong one gets
                values = (ANOTHER,)
            found += [pytest.param(kind, name, value, id=f"{kind.__name__}-{name}-{value}") for value in values]
    return found


def another(kind: type[rr.Layer], name: str) -> str:
    with pytest.raises(ValueError, match=rf"{name} must be one of ") as caught:
        kind(**{**required(kind, name), **WITH.get(name, {}), name: "?"})
    choices = re.findall(r"'(\w+)'", str(caught.value).partition("not ")[0])
    return next(word for word in choices if word != signature(kind.__init__).parameters[name].default)


@pytest.mark.parametrize(("kind", "name", "value"), variants())
def test_every_option_comes_back(kind: type[rr.Layer], name: str, value: Any, path: Path) -> None:
    value = another(kind, name) if value == ANOTHER else value
    model = kind(**{**required(kind, name), "backend": "numpy", **WITH.get(name, {}), name: value})
    other = comes_back(model, path)
    assert other.argument(name) == model.argument(name)


def test_options_together_come_back(path: Path) -> None:
    comes_back(
        rr.LSTM(
            3,
            5,
            2,
            bidirectional=True,
            dropout=0.1,
            recurrent_dropout=0.2,
            weight_dropout=0.3,
            zoneout_h=0.1,
            zoneout_c=0.2,
            peepholes=True,
            coupled=True,
            layer_norm=True,
            cell_clip=3,
            gate_activation={"i": ("leaky_relu", 0.1), "o": "hard_sigmoid"},
            learned_state=True,
            recompute="sqrt",
            batch_first=False,
            dtype="float64",
            seed=0,
            backend="numpy",
        ),
        path,
    )


def test_nested_models_come_back(path: Path) -> None:
    inner = rr.Sequential(rr.GRU(4, 5, seed=1), rr.Dropout(0.2), rr.LayerNorm(5))
    comes_back(rr.Sequential(rr.Embedding(7, 4, seed=0), inner, rr.Activation("softmax")), path)


def test_cells_of_recurray_come_back(path: Path) -> None:
    own = cells.LSTMCell(activations=cells.Activations(i=activations.HardSigmoid(0.2, 0.5)), peepholes=True)
    layer = rr.Recurrent(cells.ZoneoutCell(own, 0.1, 0.2), 3, 5, recurrent_dropout=0.1, seed=0)
    other = comes_back(layer, path)
    assert other.cell == layer.cell


def test_what_a_loaded_model_draws_is_new(path: Path) -> None:
    model = rr.Sequential(rr.Linear(3, 200, seed=0), rr.Dropout(0.5, seed=0))
    rr.save(model, path)
    x = np.ones((4, 3), dtype="float32")
    drawn = [rr.load(path).forward(x)[0] for _ in range(2)]
    assert not np.array_equal(*drawn)


def test_a_model_goes_to_another_backend(path: Path, backend: Any) -> None:
    model = rr.Sequential(rr.LSTM(3, 5, seed=0, backend="numpy"), rr.Last(), rr.Linear(5, 2, seed=0))
    rr.save(model, path)
    there = rr.load(path, backend)
    assert there.backend is backend
    x = np.ones((2, 4, 3), dtype="float32")
    y = there.backend.to_numpy(there(backend.asarray(x, "float32"))[0])
    np.testing.assert_allclose(y, model(x)[0], rtol=0, atol=1e-6)
    rr.save(there, path)
    np.testing.assert_array_equal(rr.load(path, "numpy")(x)[0], model(x)[0])


# Classes of the user's ----------------------------------------------------------------------------------------------


def test_classes_of_ones_own_are_handed_in(path: Path) -> None:
    rr.save(own_model(), path)
    for given in (OWN, {kind.__name__: kind for kind in OWN}, iter(OWN)):
        other = rr.load(path, cells=given)
        assert repr(other).replace("0x", "") != ""
        x = np.ones((2, 4, 3), dtype="float32")
        np.testing.assert_array_equal(other(x)[0], own_model()(x)[0])
    assert (other.layers[0].argument("cell").rate, other.layers[0].argument("cell").power) == (0.25, 2)
    rr.save(rr.Recurrent(LeakyCell(0.5), 3, 5), path)
    assert rr.load(path, cells=LeakyCell).argument("cell").rate == 0.5


def test_classes_that_nobody_hands_in_are_named(path: Path) -> None:
    rr.save(own_model(), path)
    with pytest.raises(rr.FormatError, match=r"a cell 'LeakyCell' that isn't recurray's: hand in its class, cells=\["):
        rr.load(path)
    with pytest.raises(rr.FormatError, match="'Shift'"):
        rr.load(path, cells=[LeakyCell, Shrink])
    with pytest.raises(rr.FormatError, match="is no cell"):
        rr.load(path, cells={"LeakyCell": Shift, "Shift": Shift, "Shrink": Shrink})
    for cells_given in (3, "LeakyCell", [LeakyCell(0.1)], {"a": int}, [int]):
        with pytest.raises(TypeError, match="cells must be classes"):
            rr.load(path, cells=cells_given)


def test_installed_packages_announce_classes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rr.save(own_model(), path)
    points = [EntryPoint(kind.__name__, f"{kind.__module__}:{kind.__name__}", "recurray.cells") for kind in OWN]

    def entry_points(*, group: str, name: str) -> EntryPoints:
        return EntryPoints(points).select(group=group, name=name)

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
    assert isinstance(rr.load(path).layers[0].argument("cell"), LeakyCell)


def test_a_class_with_the_name_of_one_of_recurrays_is_not_taken_for_it(path: Path) -> None:
    other = type("MGUCell", (LeakyCell,), {})
    rr.save(rr.Recurrent(other(0.5), 3, 5), path)
    with pytest.raises(rr.FormatError, match="'MGUCell' that isn't recurray's"):
        rr.load(path)
    assert type(rr.load(path, cells=other).argument("cell")) is other


def test_what_cannot_be_told_is_refused(path: Path) -> None:
    class Forgetful(LeakyCell):
        def __init__(self, speed: float = 0.5) -> None:
            super().__init__(speed)

    class Anything(LeakyCell):
        def __init__(self, **given: Any) -> None:
            super().__init__(0.5)

    for cell, message in (
        (Forgetful(), "Forgetful can't be told in a file: its constructor takes 'speed', which it must keep as"),
        (Anything(), r"Anything can't be told in a file: its constructor takes any arguments, \*\*"),
        (LeakyCell(0.5, power=1j), "power of LeakyCell can't be told in a file: it is complex 1j"),
    ):
        with pytest.raises(TypeError, match=message):
            rr.save(rr.Recurrent(cell, 3, 5), path)
    with pytest.raises(ValueError, match="power of LeakyCell can't be told in a file: it is inf"):
        rr.save(rr.Recurrent(LeakyCell(0.5, power=float("inf")), 3, 5), path)
    with pytest.raises(TypeError, match="model must be a recurray layer, not Streaming"):
        rr.save(rr.Streaming(rr.LSTM(3, 5)), path)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="metadata must be a mapping, not list"):
        rr.save(rr.LSTM(3, 5), path, [1])  # type: ignore[arg-type]
    for metadata in ({"a": {1, 2}}, {"a": float("nan")}, {"a": np.ones(2)}):
        with pytest.raises((TypeError, ValueError), match="this can't be written to a model file"):
            rr.save(rr.LSTM(3, 5), path, metadata)
    assert list(path.parent.iterdir()) == []


def test_params_that_no_layer_has_are_refused(path: Path) -> None:
    rr.save(rr.Sequential(rr.Sequential(rr.Last(), rr.Linear(3, 2))), path)
    for name in ("0.0.more", "0.2.more", "1.more", "more"):
        rewritten(path, lambda t, c, name=name: t.update({name: np.ones(2)}))
        with pytest.raises(rr.FormatError, match=f"no layer has the params {name}"):
            rr.load(path)
        rewritten(path, lambda t, c, name=name: t.pop(name))
    rr.load(path)


def test_params_that_are_one_array_are_refused(path: Path) -> None:
    model = rr.Sequential(rr.Embedding(7, 4, seed=0), rr.GRU(4, 4, seed=0), rr.Linear(4, 7, seed=0))
    model.params["2.weight"] = model.params["0.weight"]
    with pytest.raises(ValueError, match=r"the params '0\.weight' and '2\.weight' are one array"):
        rr.save(model, path)
    model.params["2.weight"] = model.params["0.weight"][:]
    with pytest.raises(ValueError, match="are one array"):
        rr.save(model, path)
    model.params["2.weight"] = model.params["0.weight"].copy()
    rr.save(model, path)


# The file -----------------------------------------------------------------------------------------------------------


def test_it_is_a_safetensors_file_with_the_params_as_they_are(path: Path) -> None:
    from safetensors.numpy import load_file

    lstm = rr.LSTM(3, 5, seed=0)
    lstm.params["weight_ih_l0"] = np.asfortranarray(lstm.params["weight_ih_l0"])  # what no scan minds
    lstm.params["weight_hh_l0"] = lstm.params["weight_hh_l0"].T.copy().T
    rr.save(lstm, path)
    read = load_file(path)
    for name, value in lstm.state_dict().items():
        assert value.flags.c_contiguous
        np.testing.assert_array_equal(read[name], value, strict=True)
        np.testing.assert_array_equal(lstm.params[name], value, strict=True)


def test_equal_models_make_equal_bytes(path: Path) -> None:
    rr.save(rr.LSTM(3, 5, seed=0), path, {"b": 1, "a": 2})
    first = path.read_bytes()
    rr.save(rr.LSTM(3, 5, seed=0), path, {"a": 2, "b": 1})
    assert path.read_bytes() == first


def test_metadata_comes_back(path: Path) -> None:
    metadata = {"classes": ["ü", "☃"], "nested": {"a": [None, True, 1e-300, 2**80]}}
    rr.save(rr.LSTM(3, 5, seed=0), path, metadata)
    told = saving.describe(path)
    assert told.metadata == metadata
    assert told.written_by == f"recurray {rr.__version__}"
    assert told.shapes["weight_ih_l0"] == (20, 3)
    assert set(told.dtypes.values()) == {"F32"}
    assert told.model["layer"] == "LSTM"


def test_all_of_2000_flipped_bits_are_seen(path: Path) -> None:
    rr.save(rr.Sequential(rr.LSTM(3, 5, seed=0), rr.Linear(5, 2)), path, {"word": "é", "small": 1e-5})
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    bits = np.concatenate(
        [rng.choice(8 * header, 1000, replace=False), rng.choice(8 * len(whole), 1000, replace=False)]
    )
    with path.open("r+b", buffering=0) as file:  # in place: truncating costs a write to the disk
        for bit in bits:
            place = int(bit) // 8
            for byte in (whole[place] ^ 1 << (bit % 8), whole[place]):
                file.seek(place)
                file.write(bytes([byte]))
                if byte != whole[place]:
                    with pytest.raises(rr.FormatError):
                        rr.load(path)
    rr.load(path)


def rewritten(path: Path, change: Any) -> None:
    """Write a file whose digests are right, with other contents."""
    tensors, content = sealed.load(path)
    tensors, content = dict(tensors), json.loads(json.dumps(content))
    change(tensors, content)
    path.write_bytes(sealed.serialized(tensors, content))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, c: c.update(format="song"), "isn't a file that recurray.save wrote"),
        (lambda t, c: c.update(format="character language model"), "which `recurray sample` reads"),
        (lambda t, c: c.update(version=2), r"was written by recurray .*, in a form that .* doesn't know"),
        (lambda t, c: c.update(model=[]), "is incomplete"),
        (lambda t, c: c.pop("metadata"), "is incomplete"),
        (lambda t, c: c["model"].update(layer="Motor"), "there is no layer 'Motor' here: a later version may have it"),
        (lambda t, c: c["model"].update(layer="Layer"), "there is no layer 'Layer' here"),
        (lambda t, c: c["model"].update(layer="lazy"), "there is no layer 'lazy' here"),
        (lambda t, c: c["model"].update(layer=3), "there is no layer where one should be"),
        (lambda t, c: c["model"]["options"].update(speed=3), "LSTM has no 'speed' here: a later version may have"),
        (lambda t, c: c["model"]["options"].update(seed=3), "LSTM has no 'seed' here"),
        (lambda t, c: c["model"]["options"].update(backend="cupy"), "LSTM has no 'backend' here"),
        (lambda t, c: c["model"]["options"].update(bias=3), "LSTM: bias must be True or False"),
        (lambda t, c: c["model"]["options"].pop("input_size"), "LSTM: .*missing 1 required"),
        (lambda t, c: c["model"]["options"].update(gate_activation={"x": 1}), "an option is {'x': 1}, which this"),
        (lambda t, c: c["model"].update(layers=[]), "LSTM isn't made of layers"),
        (lambda t, c: c["model"].update(more=[]), "there is no layer where one should be"),
        (lambda t, c: c["model"]["options"].update(hidden_size=2**20), r"must have the shape \(4194304, 3\)"),
        (lambda t, c: c["model"]["options"].update(num_layers=2**16), "LSTM: there are no params for num_layers=65536"),
        (lambda t, c: c["model"]["options"].update(num_layers=2), "don't fit the layer: missing 'bias_hh_l1'"),
        (lambda t, c: c["model"]["options"].update(hidden_size=10**30), "hidden_size must be at most"),
        (lambda t, c: t.pop("weight_hh_l0"), "don't fit the layer: missing 'weight_hh_l0'"),
        (lambda t, c: t.update(more=np.ones(2)), "don't fit the layer: unknown 'more'"),
        (lambda t, c: t.update({"0.more": np.ones(2)}), r"don't fit the layer: unknown '0\.more'"),
        (lambda t, c: t.update(weight_hh_l0=np.ones((20, 5), dtype="int64")), "must be floating-point numbers"),
    ],
)
def test_other_contents_are_refused(path: Path, change: Any, message: str) -> None:
    rr.save(rr.LSTM(3, 5, seed=0), path)
    rewritten(path, change)
    with pytest.raises(rr.FormatError, match=message):
        rr.load(path)


def test_deep_models_are_refused_and_do_not_crash(path: Path) -> None:
    rr.save(rr.LSTM(3, 5, seed=0), path)

    def deepen(_: Any, content: Any) -> None:
        for _ in range(200):
            content["model"] = {"layer": "Sequential", "options": {}, "layers": [content["model"]]}

    rewritten(path, deepen)
    with pytest.raises(rr.FormatError):
        rr.load(path)


def test_other_files_are_refused(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(rr.FormatError, match="isn't a model file, or is cut short"):
        rr.load(path)
    assert issubclass(rr.FormatError, ValueError)
    for place, error in ((path.parent, IsADirectoryError), (path.parent / "missing", FileNotFoundError)):
        with pytest.raises(error, match=r"can't read the model file .*: "):
            rr.load(place)


def test_a_backend_that_is_not_there_is_not_the_files_fault(path: Path) -> None:
    rr.save(rr.LSTM(3, 5, seed=0), path)
    with pytest.raises(ValueError, match="nowhere") as caught:
        rr.load(path, backend="nowhere")
    assert not isinstance(caught.value, rr.FormatError)


# Failures to write --------------------------------------------------------------------------------------------------


def test_a_failed_write_leaves_the_former_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rr.save(rr.LSTM(3, 5, seed=0), path)
    before = path.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left on device; the former model file is untouched") as caught:
        rr.save(rr.LSTM(3, 5, seed=1), path)
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@needs("POSIX")
def test_places_that_cannot_be_written_are_named(path: Path) -> None:
    rr.save(rr.LSTM(3, 5, seed=0), path)
    path.chmod(0o400)
    for place, kind, message in (
        (path, OSError, "it is read-only"),
        (path.parent, IsADirectoryError, "Is a directory"),
        (path.parent / "missing" / "x", FileNotFoundError, "No such file or directory"),
    ):
        with pytest.raises(kind, match=rf"can't write the model file .*: {message}"):
            rr.save(rr.LSTM(3, 5, seed=0), place)


@needs("/dev/full")
def test_a_device_is_not_written(path: Path) -> None:
    with pytest.raises(OSError, match="it is a device, not a file"):
        rr.save(rr.LSTM(3, 5, seed=0), "/dev/full")


def test_it_is_flushed_to_the_disk_before_it_is_renamed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr("os.fsync", lambda number: (done.append("flush"), fsync(number))[1])
    monkeypatch.setattr(Path, "replace", lambda one, other: (done.append("rename"), replace(one, other))[1])
    rr.save(rr.LSTM(3, 5, seed=0), path)
    assert done == (["flush", "rename", "flush"] if os.name == "posix" else ["flush", "rename"])


# Files of releases, and without anything else -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "file", sorted(FOLDER.glob("*/*.safetensors")), ids=lambda file: f"{file.parent.name}-{file.stem}"
)
def test_files_of_each_release_are_read(file: Path) -> None:
    """Each has what its model made of an input in its metadata."""
    model, told = rr.load(file, cells=OWN), saving.describe(file).metadata
    x = model.backend.asarray(np.array(told["x"], dtype=told["dtype"]))
    np.testing.assert_allclose(model(x)[0], np.array(told["y"]), rtol=0, atol=1e-6)


def test_there_are_files_of_this_release() -> None:
    assert len(list((FOLDER / rr.__version__).glob("*.safetensors"))) >= 5


def test_loading_imports_nothing_that_it_does_not_need(path: Path) -> None:
    rr.save(rr.Sequential(rr.LSTM(3, 5, seed=0), rr.Last(), rr.Linear(5, 2)), path)
    code = f"""
import sys
import numpy as np
import recurray as rr
rr.load({str(path)!r})(np.ones((1, 4, 3), dtype="float32"))
print(sorted({{"safetensors", "torch", "ml_dtypes", "array_api_compat", "h5py", "onnx", "rich"}} & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
