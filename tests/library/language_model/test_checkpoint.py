"""Checkpoints: what comes back, what is refused, and what a failure leaves behind."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save as save_safetensors

from harness.needs import needs
from recurray import sealed
from recurray.language_model import checkpoint, model
from recurray.language_model.errors import CheckpointError
from recurray.language_model.settings import Settings
from recurray.language_model.training import Training

posix = needs("POSIX")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.safetensors"


TENSORS = {
    "plain": np.arange(6.0).reshape(2, 3),
    "single": np.arange(5, dtype=np.float32),
    "number": np.array(2.5),
    "empty": np.zeros((0, 3)),
    "transposed": np.arange(6.0).reshape(2, 3).T,
    "fortran": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "strided": np.arange(20, dtype=np.int64)[::-3],
    "big-endian": np.arange(4, dtype=">f8"),
    "flags": np.array([True, False]),
}


def files(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_arrays_of_every_memory_order_and_metadata_come_back(path):
    metadata = {"step": 3, "words": "ü\n☃", "large": 2**127, "fraction": 0.1, "nested": {"a": [None, True]}}
    checkpoint.save(path, TENSORS, metadata)
    tensors, back = checkpoint.load(path)
    assert back == metadata
    assert set(tensors) == set(TENSORS)
    for name, value in TENSORS.items():
        assert tensors[name].dtype == value.dtype.newbyteorder("=")
        assert tensors[name].shape == value.shape
        np.testing.assert_array_equal(tensors[name], value)
    assert files(path.parent) == [path.name]


def test_equal_contents_make_equal_bytes(path):
    checkpoint.save(path, TENSORS, {"b": 1, "a": 2})
    first = path.read_bytes()
    checkpoint.save(path, dict(reversed(TENSORS.items())), {"a": 2, "b": 1})
    assert path.read_bytes() == first


def test_other_safetensors_readers_can_read_it(path):
    from safetensors.numpy import load_file

    checkpoint.save(path, TENSORS, {})
    np.testing.assert_array_equal(load_file(path)["strided"], TENSORS["strided"])


@pytest.mark.parametrize("value", [np.array(["text"]), np.array([1j]), np.array([{}], dtype=object)])
def test_other_types_of_arrays_are_refused(path, value):
    with pytest.raises(TypeError, match="weight: expected an array of float32"):
        checkpoint.save(path, {"weight": value}, {})
    assert files(path.parent) == []


def test_a_symbolic_link_is_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere" / "x")
    checkpoint.save(link, TENSORS, {})
    assert link.is_symlink()
    assert files(tmp_path / "elsewhere") == ["x"]


def test_the_file_may_be_read_by_whom_the_umask_allows(path):
    former = os.umask(0o027)
    try:
        checkpoint.save(path, TENSORS, {})
    finally:
        os.umask(former)
    assert path.stat().st_mode & 0o777 == 0o640


# Failures to write


@pytest.mark.parametrize("place", ["os.fsync", "pathlib.Path.replace", "os.fdopen", "recurray.files._take_permissions"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_former_checkpoint_and_nothing_else(path, monkeypatch, place, error):
    checkpoint.save(path, TENSORS, {"step": 1})
    before = path.read_bytes()

    def fail(*_):
        raise error

    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else CheckpointError
    monkeypatch.setattr(place, fail)
    with pytest.raises(expected) as caught:
        checkpoint.save(path, TENSORS, {"step": 2})
    monkeypatch.undo()
    if expected is CheckpointError:
        assert "No space left on device; the former checkpoint is untouched" in str(caught.value)
    assert path.read_bytes() == before
    assert files(path.parent) == [path.name]


@posix
def test_a_file_beyond_the_size_limit_leaves_the_former_checkpoint(path):
    checkpoint.save(path, TENSORS, {})
    before = path.read_bytes()
    code = """
import resource, sys
import numpy as np
from recurray.language_model import checkpoint
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    checkpoint.save(sys.argv[1], {"large": np.zeros(1_000_000)}, {})
except checkpoint.CheckpointError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert "File too large; the former checkpoint is untouched" in result.stdout
    assert path.read_bytes() == before
    assert files(path.parent) == [path.name]


def check(where: str | Path) -> None:
    with checkpoint.Writer(where) as writer:
        writer.check(b"x" * 3_000_000)


def save(where: str | Path) -> None:
    checkpoint.save(where, TENSORS, {})


@pytest.mark.parametrize("name", ["missing/x", ".", "n" * 300, "n" * 250, "loop/x", "nul\0", "file/x"])
def test_places_that_cannot_be_written_are_found_before_any_work(tmp_path, name):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").write_bytes(b"")
    before = files(tmp_path)
    for attempt in (check, save):
        with pytest.raises(CheckpointError, match="can't write the checkpoint"):
            attempt(f"{tmp_path}/{name}")
    assert files(tmp_path) == before


@posix
def test_what_is_no_file_is_not_replaced_by_one(path):
    """A pipe stands for /dev/null, which a run by root would turn into a checkpoint."""
    os.mkfifo(path)
    (path.parent / "link").symlink_to(path)
    for where in (path, path.parent / "link"):
        for attempt in (check, save):
            with pytest.raises(CheckpointError, match=r"can't write the checkpoint .*: it is a pipe, not a file"):
                attempt(where)
    assert path.is_fifo()
    assert files(path.parent) == sorted([path.name, "link"])


@pytest.mark.parametrize("there", [True, False])
def test_checking_changes_nothing(path, there):
    if there:
        path.write_bytes(b"precious")
        path.chmod(0o640)
        os.utime(path, (1, 2))
    check(path)
    if there:
        assert path.read_bytes() == b"precious"
        assert (path.stat().st_mode & 0o777, path.stat().st_mtime) == (0o640, 2)
    assert files(path.parent) == [path.name] * there


@posix
@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=pytest.mark.slow)])
def test_a_killed_writer_always_leaves_a_whole_checkpoint(path, kills):
    code = """
import sys
import numpy as np
from recurray.language_model import checkpoint
step = 0
while True:
    step += 1
    tensors = {name: np.full(300_000, step, dtype=np.float32) for name in "ab"}
    checkpoint.save(sys.argv[1], tensors, {"step": step})
    print(step, flush=True)
"""
    rng = np.random.default_rng(0)
    for _ in range(kills):
        with subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE) as writer:
            writer.stdout.readline()
            time.sleep(rng.uniform(0, 0.1))
            writer.send_signal(signal.SIGKILL)
        tensors, metadata = checkpoint.load(path)
        assert {float(value) for tensor in tensors.values() for value in tensor} == {float(metadata["step"])}


# Files that aren't what they should be


def parts(data: bytes) -> tuple[dict, bytes]:
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def assembled(header: str | dict, tensors: bytes) -> bytes:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(text)) + text + tensors


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("written") / "x"
    checkpoint.save(path, {"a": np.arange(4.0), "b": np.ones((2, 2), dtype=np.float32)}, {"step": 1})
    return path.read_bytes()


def test_missing_files_directories_and_devices_are_refused(tmp_path):
    for name in ("missing", "nul\0"):
        with pytest.raises(CheckpointError, match="can't read the checkpoint"):
            checkpoint.load(tmp_path / name)
    with pytest.raises(CheckpointError, match="can't read the checkpoint"):
        checkpoint.load(tmp_path)
    if os.name == "posix":
        with pytest.raises(CheckpointError, match="it is a device, not a file"):
            checkpoint.load("/dev/zero")


def test_every_truncation_is_refused(path, written):
    for length in range(len(written)):
        path.write_bytes(written[:length])
        with pytest.raises(CheckpointError):
            checkpoint.load(path)


def test_every_flipped_bit_is_refused(path, written):
    for place in range(len(written)):
        damaged = bytearray(written)
        damaged[place] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError):
            checkpoint.load(path)


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_damage_never_raises_anything_else(path, written, data):
    damaged = bytearray(written)
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        piece = data.draw(
            st.binary(max_size=6) | st.sampled_from([b'"a"', b"[0,32]", b"null", b"-1", b"{}", b"F8", b"["])
        )
        damaged[place : place + data.draw(st.integers(0, 6))] = piece
        if not damaged:
            break
    path.write_bytes(damaged)
    try:
        tensors, metadata = checkpoint.load(path)
    except CheckpointError:
        return
    assert metadata == {"step": 1}
    np.testing.assert_array_equal(tensors["a"], np.arange(4.0), strict=True)


def test_crafted_headers_are_refused(path, written):
    header, tensors = parts(written)
    entry = header["a"]
    text = json.dumps(header)
    cases: dict[str, Any] = {
        "a name stands twice": text[:-1] + f', "a": {json.dumps(entry)}}}',
        "its arrays aren't the ones": {**header, "c": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}},
        "its arrays aren't": {name: value for name, value in header.items() if name != "b"} | {"z": header["b"]},
        "bytes of another shape": {**header, "a": {**entry, "data_offsets": [0, 2**60]}},
        "other entries than": {**header, "a": 5},
        "has no offsets": {**header, "a": {**entry, "data_offsets": [0.0, 32.0]}},
        "is damaged: ": {**header, "a": {**entry, "shape": [2**62, 2**62]}},
        "unknown type, 'F8_E4M3'": {**header, "a": {**entry, "dtype": "F8_E4M3", "shape": [32]}},
        "begins at 8, not at 0": {
            **header,
            "a": {**entry, "data_offsets": [8, 40]},
            "b": {**header["b"], "data_offsets": [40, 56]},
        },
        "beyond all memory": {**header, "a": {**entry, "shape": [0, 2**60], "data_offsets": [0, 0]}},
        "has changed since": {**header, "a": {**entry, "dtype": "I64"}},
        "the array 'a' has changed": {**header, "a": {**entry, "shape": [2, 2]}},
        "isn't a checkpoint": "[" * 100_000,
        "isn't an object": "[]",
        "no checkpoint of recurray": {name: value for name, value in header.items() if name != "__metadata__"},
        "its metadata can't be read": {**header, "__metadata__": {"recurray": "{}"}},
    }
    for message, crafted in cases.items():
        path.write_bytes(assembled(crafted, tensors))
        with pytest.raises(CheckpointError, match=message):
            checkpoint.load(path)
    for changed in (tensors + b"x", tensors[:-1]):
        path.write_bytes(assembled(header, changed))
        with pytest.raises(CheckpointError, match="its size isn't what its header says"):
            checkpoint.load(path)


def test_a_header_that_is_only_written_otherwise_is_refused(path, written):
    """With a space more than it was written with, which no digest covers."""
    header, tensors = parts(written)
    path.write_bytes(assembled(json.dumps(header), tensors))
    with pytest.raises(CheckpointError, match="its header has changed since it was written"):
        checkpoint.load(path)


def test_a_header_length_beyond_the_file_takes_no_memory(path):
    path.write_bytes(struct.pack("<Q", 2**63) + b"{}")
    with pytest.raises(CheckpointError, match="cut short"):
        checkpoint.load(path)


def test_changed_metadata_and_other_versions_are_refused(path, written):
    header, tensors = parts(written)
    document = header["__metadata__"]["recurray"]
    for changed, message in (
        (document.replace('"step":1', '"step":2'), "its metadata has changed"),
        (document.replace('"version":1', '"version":2'), "its metadata has changed"),
    ):
        assert changed != document
        path.write_bytes(assembled({**header, "__metadata__": {"recurray": changed}}, tensors))
        with pytest.raises(CheckpointError, match=message):
            checkpoint.load(path)
    content = {**json.loads(document)["content"], "version": 2}
    newer = sealed._canonical({"content": content, "sha256": sealed._json_digest(content)})
    path.write_bytes(assembled({**header, "__metadata__": {"recurray": newer}}, tensors))
    with pytest.raises(CheckpointError, match="another version"):
        checkpoint.load(path)


def test_other_safetensors_files_and_pickles_are_refused(path):
    path.write_bytes(save_safetensors({"a": np.zeros(3)}, metadata={"format": "pt"}))
    with pytest.raises(CheckpointError, match="no checkpoint of recurray"):
        checkpoint.load(path)
    path.write_bytes(b"\x80\x04\x95" + b"x" * 100)
    with pytest.raises(CheckpointError):
        checkpoint.load(path)


# Checkpoints whose bytes are in order, but that don't describe a model or a run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[str, dict, dict]:
    text = "the quick brown fox jumps over the lazy dog. " * 8
    training = Training(text, Settings(hidden_size=4, embedding_size=3, batch_size=2, steps=5, epochs=1))
    next(training.run())
    path = tmp_path_factory.mktemp("run") / "x"
    training.save(path)
    return text, *checkpoint.load(path)


def without(mapping: dict, name: str) -> dict:
    return {key: value for key, value in mapping.items() if key != name}


CHANGES = {
    "format": lambda t, m: (t, {**m, "format": "something else"}),
    "no settings": lambda t, m: (t, without(m, "settings")),
    "settings of another type": lambda t, m: (t, {**m, "settings": [1]}),
    "absurd size": lambda t, m: (t, {**m, "settings": {**m["settings"], "hidden_size": 2**20}}),
    "layers that aren't there": lambda t, m: (t, {**m, "settings": {**m["settings"], "layers": 2}}),
    "vocabulary of another size": lambda t, m: (t, {**m, "vocabulary": m["vocabulary"][:-1]}),
    "vocabulary of another type": lambda t, m: (t, {**m, "vocabulary": 7}),
    "missing param": lambda t, m: (without(t, "model.3.bias"), m),
    "unknown param": lambda t, m: ({**t, "model.9.bias": np.zeros(3)}, m),
    "param of another shape": lambda t, m: ({**t, "model.1.bias_hh_l0": np.zeros(3, dtype=np.float32)}, m),
}
POSITION_CHANGES = {
    "no step": lambda t, m: (t, without(m, "step")),
    "step beyond the end": lambda t, m: (t, {**m, "step": 10**6}),
    "step of another type": lambda t, m: (t, {**m, "step": "1"}),
    "position": lambda t, m: (t, {**m, "position": -1}),
    "generator": lambda t, m: (t, {**m, "order": {"bit_generator": "MT19937"}}),
    "generator of another type": lambda t, m: (t, {**m, "dropout": 3}),
    "optimizer": lambda t, m: (t, {**m, "optimizer": {"optimizer": "SGD"}}),
    "no state": lambda t, m: (without(t, ":state.1.h"), m),
    "state of another shape": lambda t, m: ({**t, ":state.1.c": np.zeros((1, 3, 4), dtype=np.float32)}, m),
    "state of another precision": lambda t, m: ({**t, ":state.1.c": t[":state.1.c"].astype(float)}, m),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_checkpoint_that_does_not_describe_a_model_is_refused(path, run, change):
    text, tensors, metadata = run
    checkpoint.save(path, *CHANGES[change](tensors, metadata))
    with pytest.raises(CheckpointError):
        model.load(path)
    with pytest.raises(CheckpointError):
        Training.resume(path, text)


@pytest.mark.parametrize("change", POSITION_CHANGES)
def test_a_checkpoint_that_is_no_state_to_go_on_from_is_refused(path, run, change):
    text, tensors, metadata = run
    checkpoint.save(path, *POSITION_CHANGES[change](tensors, metadata))
    with pytest.raises(CheckpointError, match="isn't a state to go on from"):
        Training.resume(path, text)
    model.load(path)  # the model itself is in order


def test_a_lost_moment_of_the_optimizer_is_noticed(path, run):
    text, tensors, metadata = run
    moments = [name for name in tensors if name.startswith(":optimizer.")]
    assert len(moments) == 2 * sum(name.startswith("model.") for name in tensors)
    checkpoint.save(path, without(tensors, moments[0]), metadata)
    with pytest.raises(CheckpointError, match="isn't a state to go on from"):
        Training.resume(path, text)


def test_settings_of_a_checkpoint_are_those_of_the_run(path, run):
    text, tensors, metadata = run
    checkpoint.save(path, tensors, metadata)
    resumed = Training.resume(path, text)
    assert resumed.settings == dataclasses.replace(Settings.from_mapping(metadata["settings"]))
