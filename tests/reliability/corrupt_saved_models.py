"""Damage files of models at random, and see that each loads as what it says, or is refused by FormatError.

python tests/reliability/corrupt_saved_models.py --count 50000

A third of them have bytes changed, lost, added or moved. A third are written with another description of the model, or
other arrays, so that every digest is right: layers, options and sizes that don't belong together, names of anything,
any JSON. A third are plain safetensors files with other headers, read by `recurray.convert.read_tensors`. Memory and
time are bounded, and nothing that a file names may be imported or run.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import sys
import tempfile
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import recurray as rr
from recurray import cells, sealed, tensor_files
from reliability import damage
from reliability.damage import WORDS, damaged, ends_of_safetensors, megabytes

JSON = Any


@dataclass
class Figures(damage.Figures):
    """What was done and found. The last must be empty too."""

    as_written: int = 0  # loaded, as what the file says
    imported: list[str] = field(default_factory=list)  # modules that weren't there before

    def good(self) -> bool:
        """Whether nothing is wrong."""
        return super().good() and not self.imported


def model() -> rr.Sequential:
    """A model with something of everything."""
    options: dict[str, Any] = {"backend": "numpy", "seed": 0}
    return rr.Sequential(
        rr.LSTM(3, 4, 2, bidirectional=True, gate_activation={"i": ("leaky_relu", 0.2)}, cell_clip=2.0, **options),
        rr.Sequential(rr.GRU(8, 4, reset_after=False, **options), rr.Dropout(0.2), rr.LayerNorm(4)),
        rr.Recurrent(cells.ZoneoutCell(cells.MGUCell(), 0.1), 4, 3, **options),
        rr.Last(),
        rr.Linear(3, 2, **options),
    )


def corrupt_saved_models(count: int, seed: int = 0) -> Figures:
    """Do it ``count`` times."""
    figures, rng = Figures(), random.Random(seed)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of options that do nothing
        path = Path(folder) / "model.safetensors"
        rr.save(model(), path, {"words": "as they were"})
        whole, contents = path.read_bytes(), sealed.load(path)
        values = model().state_dict()
        rr.load(path), rr.convert.read_tensors(path)
        before, modules = megabytes(), set(sys.modules)
        for number in range(count):
            kind = ("bytes", "contents", "header")[number % 3]
            how, data = _made(rng, kind, whole, contents)
            path.unlink()  # truncating a file is slower
            path.write_bytes(data)
            with figures.reading(how, rr.FormatError):
                if kind == "header":
                    found = rr.convert.read_tensors(path)
                    right = all(isinstance(array, np.ndarray) for array in found.values())
                else:
                    found = rr.load(path).state_dict()
                    right = kind == "contents" or _same(found, values)
                figures.as_written += right
                if not right:
                    figures.wrong.append(how)
        figures.megabytes = megabytes() - before
        figures.imported = sorted(name for name in set(sys.modules) - modules if not name.startswith("recurray"))
    return figures


def _same(some: dict[str, Any], others: dict[str, Any]) -> bool:
    return some.keys() == others.keys() and all(np.array_equal(value, others[name]) for name, value in some.items())


def _made(rng: random.Random, kind: str, whole: bytes, contents: Any) -> tuple[str, bytes]:
    if kind == "bytes":
        return damaged(rng, whole, ends_of_safetensors(whole), WORDS)
    if kind == "header":
        return _other_header(rng, whole)
    tensors, content = dict(contents[0]), copy.deepcopy(contents[1])
    how = []
    try:
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            change = rng.choice(CHANGES)
            how.append(change.__name__)
            change(rng, tensors, content)
        return " and ".join(how), sealed.serialized(tensors, content)
    except (ValueError, TypeError, RecursionError):  # JSON or the file can't hold it
        return "nothing", b""


def _other_header(rng: random.Random, whole: bytes) -> tuple[str, bytes]:
    """A safetensors file with some entries changed."""
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    if rng.random() < 0.7:
        del header["__metadata__"]
    for _ in range(rng.choice((1, 1, 2, 5))):
        name = rng.choice(list(header))
        what = rng.choice(("dtype", "shape", "data_offsets", "more", "all", "gone"))
        if what == "all":
            header[name] = _any_json(rng)
        elif what == "gone" and len(header) > 1:
            del header[name]
        elif isinstance(header[name], dict):
            values: list[JSON] = [
                *tensor_files.DTYPES,
                "F8_E4M3",
                [2**62, 2**62],
                [0, 2**63],
                [0, 2**70],
                [2**40],
                [-1],
            ]
            values += [[0, 0], [True, False], [1.0, 2.0], [[]] * 2, [1] * 100, _any_json(rng)]
            header[name][what] = rng.choice(values)
    text = json.dumps(header).encode()
    if rng.random() < 0.2:
        place = rng.randrange(len(text))
        text = text[:place] + rng.choice(WORDS) + text[place:]
    return "header", len(text).to_bytes(8, "little") + text + whole[8 + length :]


# Contents


def _any_json(rng: random.Random) -> JSON:
    keys = ("a", "layer", "cell", "function", "mapping", "activations", "options", "layers", "own")
    return damage.any_json(rng, ("LSTM", "os.system"), keys)


def _nodes(value: JSON, what: type) -> list[Any]:
    """All dicts, or lists, in a description."""
    found, waiting = [], [value]
    while waiting:
        node = waiting.pop()
        if isinstance(node, what):
            found.append(node)
        waiting += node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return found


def _option(rng: random.Random, tensors: Any, content: JSON) -> None:
    nodes = [node for node in _nodes(content.get("model"), dict) if node]
    if nodes:
        node = rng.choice(nodes)
        node[rng.choice(sorted(node))] = _any_json(rng)


def _new_option(rng: random.Random, tensors: Any, content: JSON) -> None:
    nodes = _nodes(content.get("model"), dict)
    if nodes:
        names = ("own", "layers", "options", "cell", "seed", "params", "backend", "forget_bias", "__class__", "cells")
        rng.choice(nodes)[rng.choice(names)] = _any_json(rng)


def _no_option(rng: random.Random, tensors: Any, content: JSON) -> None:
    nodes = [node for node in _nodes(content.get("model"), dict) if node]
    if nodes:
        node = rng.choice(nodes)
        del node[rng.choice(sorted(node))]


def _large(rng: random.Random, tensors: Any, content: JSON) -> None:
    nodes = [node["options"] for node in _nodes(content.get("model"), dict) if isinstance(node.get("options"), dict)]
    if nodes:
        names = ("hidden_size", "input_size", "num_layers", "in_features", "out_features", "size", "proj_size")
        rng.choice(nodes)[rng.choice(names)] = rng.choice((64, 4096, 2**16, 2**20, 2**31, 2**40, 10**30))


def _class(rng: random.Random, tensors: Any, content: JSON) -> None:
    nodes = [(node, what) for node in _nodes(content.get("model"), dict) for what in ("layer", "cell") if what in node]
    if nodes:
        node, what = rng.choice(nodes)
        names = (
            "LSTM",
            "GRU",
            "Layer",
            "StatelessLayer",
            "Sequential",
            "Recurrent",
            "Cell",
            "Weights",
            "lazy",
            "os.system",
        )
        node[what] = rng.choice(
            (*names, "ZoneoutCell", "RecurrentDropoutCell", "__import__", "subprocess:Popen", "Embedding")
        )


def _moved(rng: random.Random, tensors: Any, content: JSON) -> None:
    lists = [node for node in _nodes(content.get("model"), list) if node]
    if lists:
        one, other = rng.choice(lists), rng.choice(lists)
        other.append(copy.deepcopy(rng.choice(one)))


def _deep(rng: random.Random, tensors: Any, content: JSON) -> None:
    for _ in range(rng.choice((3, 100, 300))):
        content["model"] = {"layer": "Sequential", "options": {}, "layers": [content.get("model")]}


def _entry(rng: random.Random, tensors: Any, content: JSON) -> None:
    content[rng.choice([*sorted(content), "more"])] = _any_json(rng)


def _tensor(rng: random.Random, tensors: Any, content: JSON) -> None:
    if tensors:
        name = rng.choice(sorted(tensors))
        value = tensors.pop(name)
        how = rng.randrange(5)
        if how == 0:
            tensors[rng.choice(("", "x", "0.", "0.0.x", "9.weight", "__metadata", *tensors))] = value
        elif how == 1:
            tensors[name] = value.reshape(rng.choice(((-1,), (1, -1), value.shape[::-1], (*value.shape, 1))))
        elif how == 2:
            with np.errstate(invalid="ignore"):
                tensors[name] = value.astype(rng.choice(("float64", "int32", "uint8", "bool")))
        elif how == 3:
            tensors[name] = np.full(value.shape, rng.choice((np.nan, np.inf, 1e30, 0.0)), value.dtype)


CHANGES = (_option, _option, _new_option, _no_option, _large, _class, _moved, _deep, _entry, _tensor)


if __name__ == "__main__":
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=50000)
    parser.add_argument("--seed", type=int, default=0)
    found = corrupt_saved_models(**vars(parser.parse_args()))
    print(json.dumps(asdict(found)))
    sys.exit(not found.good())
