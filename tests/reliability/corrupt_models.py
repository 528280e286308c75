"""Damage model files of PyTorch, ONNX and RTNeural, and see that each is refused by recurray.FormatError, or read.

python tests/reliability/corrupt_models.py --count 3000

Half of each have bytes changed, lost, added or moved; of the others the structure is whole and what stands in it is
changed: the instructions of a pickle within its archive, fields of an ONNX model, values in JSON. Memory and time are
bounded, and nothing may run: a file that appears where hostile pickles would make one is a failure.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import pickletools
import random
import struct
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import recurray as rr
from recurray import convert
from recurray.files import FormatError
from reliability import damage
from reliability.damage import damaged, megabytes

ASKED = ("give prefix=", "give node=")  # a ValueError: which of the layers that there are by now


@dataclass
class Figures(damage.Figures):
    """What was done and found."""

    most_megabytes = 128
    read: int = 0
    asked: int = 0


def corrupt(kind: str, count: int, seed: int, folder: Path) -> Figures:
    """Damage a file of a kind ``count`` times."""
    make, read, change = KINDS[kind]
    figures, rng, path = Figures(), random.Random(f"{kind} {seed}"), folder / f"model.{kind}"
    make(path)
    whole = path.read_bytes()
    read(path)
    before = megabytes()
    for number in range(count):
        how, data = damaged(rng, whole) if number % 2 else ("changed", change(rng, whole))
        path.write_bytes(data)
        with figures.reading(f"{how} {number}", FormatError):
            try:
                read(path)
                figures.read += 1
            except ValueError as error:
                if isinstance(error, FormatError) or not any(words in str(error) for words in ASKED):
                    raise
                figures.asked += 1
    figures.megabytes = megabytes() - before
    return figures


# PyTorch --------------------------------------------------------------------------------------------------------------


def make_torch(path: Path) -> None:
    """Write a state dict as PyTorch does, without it: a pickle of text instructions, and a storage for each tensor."""
    state = rr.LSTM(3, 4, 2, bidirectional=True, seed=0).state_dict()
    pickled, members = [b"\x80\x02}q\x00("], {}
    for number, (name, value) in enumerate(state.items()):
        size = b"".join(b"K" + bytes([axis]) for axis in value.shape)
        stride = b"".join(b"K" + bytes([step // 4]) for step in value.strides)
        pickled.append(
            text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + b"ctorch\nFloatStorage\n"
            + text(str(number)) + text("cpu") + b"J" + struct.pack("<i", value.size) + b"tQK\x00(" + size + b"t("
            + stride + b"t\x89ccollections\nOrderedDict\n)RtR"
        )  # fmt: skip
        members[f"data/{number}"] = value.tobytes()
    write_archive(path, b"".join([*pickled, b"u."]), members)


def text(value: str) -> bytes:
    """A text, as a pickle has it."""
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def write_archive(path: Path | io.BytesIO, pickled: bytes, members: dict[str, bytes]) -> None:
    """Write a zip archive as PyTorch has it."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {"data.pkl": pickled, "byteorder": b"little", **members}.items():
            archive.writestr(f"model/{name}", data)


def change_torch(rng: random.Random, whole: bytes) -> bytes:
    """Change instructions of the pickle, or storages, within a whole archive."""
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        members = {name.removeprefix("model/"): archive.read(name) for name in archive.namelist()}
    pickled = members.pop("data.pkl")
    places = [place for _, _, place in pickletools.genops(pickled)]
    for _ in range(rng.choice((1, 1, 2, 4))):
        how = rng.randrange(6)
        begin = rng.choice(places)
        end = min([place for place in places if place > begin], default=begin + 1)
        if how == 0:
            pickled = pickled[:begin] + pickled[end:]
        elif how == 1:
            pickled = pickled[:begin] + pickled[begin:end] * rng.choice((2, 50)) + pickled[begin:]
        elif how == 2:
            pickled = pickled[:begin] + rng.choice(INSTRUCTIONS) + pickled[end:]
        elif how == 3:
            pickled = pickled[:begin] + rng.choice(INSTRUCTIONS) + pickled[begin:]
        elif how == 4:
            pickled = damaged(rng, pickled)[1]
        else:
            name = rng.choice(sorted(members))
            members[name] = rng.choice((b"", members[name] * 2, members[name][:-1], rng.randbytes(8)))
    file = io.BytesIO()
    write_archive(file, pickled, members)
    return file.getvalue()


INSTRUCTIONS = (
    b"cos\nsystem\n", b"cbuiltins\neval\n", b"ctorch\nFloatStorage\n", b"ctorch\nBFloat16Storage\n", b"(", b")", b"}",
    b"]", b"N", b"\x88", b"t", b"R", b"b", b"s", b"u", b"0", b"2", b"Q", b"q\x01", b"h\x01", b"h\x00", b"K\x01", b".",
    b"J\xff\xff\xff\x7f", b"J\xff\xff\xff\xff", b"\x8a\x09" + b"\xff" * 8 + b"\x00", b"G" + bytes(8), b"a", b"e", b"l",
    b"I" + b"9" * 5000 + b"\n", b"X\xff\xff\xff\x7f", b"\x8e" + b"\xff" * 8, b"\x81", b"\x93", b"\x94", b"\x82\x01",
    b"(ctorch._utils\n_rebuild_tensor_v2\n", b"Vtouch recurray-was-here\n\x85R",
)  # fmt: skip


# ONNX -----------------------------------------------------------------------------------------------------------------


def make_onnx(path: Path) -> None:
    """Write an embedding, an LSTM both ways, a GRU and what follows."""
    convert.to_onnx(
        rr.Sequential(
            rr.Embedding(7, 3, seed=0), rr.LSTM(3, 4, bidirectional=True, peepholes=True, seed=1), rr.LayerNorm(8),
            rr.GRU(8, 3, reset_after=False, seed=2), rr.Last(), rr.Linear(3, 2, seed=3), rr.Activation("softmax"),
        ),
        path, lengths=True,
    )  # fmt: skip


def change_onnx(rng: random.Random, whole: bytes) -> bytes:
    """Change fields of the model, anywhere in it."""
    import onnx

    model = onnx.ModelProto.FromString(whole)
    for _ in range(rng.choice((1, 1, 2, 4))):
        messages: list[Any] = []
        collect(model, messages)
        change_message(rng, rng.choice(messages))
    return bytes(model.SerializeToString())


def collect(message: Any, found: list[Any]) -> None:
    """All messages within a message."""
    found.append(message)
    for described, value in message.ListFields():
        if described.message_type is not None:
            for inner in value if hasattr(value, "__len__") else [value]:
                collect(inner, found)


def change_message(rng: random.Random, message: Any) -> None:
    """Change one field of a message, or of a list in it one entry."""
    fields = message.ListFields()
    if not fields:
        return
    described, value = rng.choice(fields)
    name = described.name
    if described.message_type is not None:
        if hasattr(value, "__len__") and len(value):
            how, place = rng.randrange(3), rng.randrange(len(value))
            if how == 0:
                del value[place]
            elif how == 1:
                value.add().CopyFrom(value[place])
            else:
                value[place].CopyFrom(value[rng.randrange(len(value))])
        elif not hasattr(value, "__len__"):
            message.ClearField(name)
        return
    many = hasattr(value, "append")
    old = (value[rng.randrange(len(value))] if value else 0) if many else value
    new = odd(rng, old)
    try:
        if not many:
            setattr(message, name, new)
        elif rng.random() < 0.7 and len(value):
            value[rng.randrange(len(value))] = new
        else:
            value.append(new)
    except (TypeError, ValueError):  # protobuf can't hold it
        message.ClearField(name)


def odd(rng: random.Random, old: Any) -> Any:
    """Another value of the same type."""
    if isinstance(old, bool):
        return not old
    if isinstance(old, int):
        return rng.choice((0, 1, -1, 2, 3, 7, 16, 2**31 - 1, 2**40, 2**62, -(2**63), old + 1, old - 1))
    if isinstance(old, float):
        return rng.choice((0.0, -1.0, float("nan"), float("inf"), 1e30))
    if isinstance(old, bytes):
        return rng.choice((b"", old[:-1], old * 2, rng.randbytes(8), b"Tanh", b"reverse", b"bidirectional", b"\xff"))
    words = ("", "x", "y", "h", "LSTM", "GRU", "If", "Concat", "Transpose", "Constant", "w1", "v2", "../x", "\x00", old)
    return rng.choice(words)


# RTNeural -------------------------------------------------------------------------------------------------------------


def make_json(path: Path) -> None:
    """Write a chain of layers."""
    layers = rr.Linear(2, 3, seed=0), rr.LSTM(3, 4, seed=1), rr.GRU(4, 3, seed=2), rr.Activation("tanh")
    convert.to_rtneural(rr.Sequential(*layers, rr.Linear(3, 1, seed=3)), path)


def change_json(rng: random.Random, whole: bytes) -> bytes:
    """Change values anywhere in it."""
    content = json.loads(whole)
    for _ in range(rng.choice((1, 1, 2, 4))):
        node = content
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = rng.choice(keys)
            if not isinstance(node[key], (dict, list)) or rng.random() < 0.3:
                if rng.random() < 0.2:
                    del node[key]
                else:
                    node[key] = copy.deepcopy(rng.choice(JSON))
                break
            node = node[key]
    return json.dumps(content).encode()


JSON: tuple[Any, ...] = (
    None, True, "", "x", "lstm", "gru", "dense", "conv1d", 0, 1, -1, 3, 2**31, 2**63, 10**400, 0.5, 1e308, float("nan"),
    float("inf"), [], {}, [[]], [1.0], [[1.0, 2.0]], ["a"], [[None]], {"type": "lstm"}, [[[[1.0]]]],
)  # fmt: skip

Make, Read, Change = Callable[[Path], None], Callable[[Path], Any], Callable[[random.Random, bytes], bytes]
KINDS: dict[str, tuple[Make, Read, Change]] = {
    "pt": (make_torch, convert.from_torch, change_torch),
    "onnx": (make_onnx, convert.from_onnx, change_onnx),
    "json": (make_json, convert.from_rtneural, change_json),
}


def main() -> int:
    """Run it from the command line."""
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=3000, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=list(KINDS), action="append")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    here = Path.cwd() / "recurray-was-here"
    with tempfile.TemporaryDirectory() as folder:
        found = {kind: corrupt(kind, arguments.count, arguments.seed, Path(folder)) for kind in arguments.kind or KINDS}
    ran = here.exists()
    print(json.dumps({kind: asdict(figures) for kind, figures in found.items()} | {"ran": ran}))
    return 0 if all(figures.good() for figures in found.values()) and not ran else 1


if __name__ == "__main__":
    sys.exit(main())
