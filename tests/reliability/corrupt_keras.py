"""Damage Keras's files at random, and see that each is read, or refused by recurray's own error.

python tests/reliability/corrupt_keras.py --count 3000

A third has bytes changed, lost or added; a third has that in the HDF5 file inside a zip that is in order; a third has
any JSON in the place of something in the architecture. Memory and time are bounded.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import random
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import recurray as rr
from harness import keras_files
from recurray import convert
from reliability.damage import Figures, damaged, megabytes

MODEL = Path(__file__).resolve().parents[1] / "library" / "convert" / "model.keras"
PARTS = ("metadata.json", "config.json", "model.weights.h5")
ODD = (
    None,
    True,
    -1,
    0,
    3,
    10**12,
    10**400,
    0.5,
    float("inf"),
    "",
    "relu",
    "hard_sigmoid",
    [],
    {},
    [[]],
    {"config": 3},
)


def corrupt_keras(count: int, seed: int = 0) -> Figures:
    """Do it ``count`` times."""
    figures, rng = Figures(), random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        with zipfile.ZipFile(MODEL) as archive:
            parts = {name: archive.read(name) for name in PARTS}
        wholes = (MODEL.read_bytes(), _older(path).read_bytes())
        for whole in wholes:
            path.write_bytes(whole)
            convert.from_keras(path)
        before = megabytes()
        for number in range(count):
            if number % 3 == 0:
                how, data = damaged(rng, wholes[number // 3 % 2])
            elif number % 3 == 1:
                how, part = damaged(rng, parts[PARTS[2]])
                data = _zipped(parts | {PARTS[2]: part})
            else:
                how, data = "changed", _zipped(parts | {PARTS[1]: _changed(rng, parts[PARTS[1]])})
            path.write_bytes(data)
            with figures.reading(how, rr.FormatError):
                convert.from_keras(path)
        figures.megabytes = megabytes() - before
    return figures


def _older(path: Path) -> Path:
    """A file as Keras 2 wrote it."""
    rng = np.random.default_rng(0)
    options = {"name": "rnn", "units": 3, "recurrent_activation": "hard_sigmoid", "return_sequences": True}
    shapes = {"kernel": (2, 12), "recurrent_kernel": (3, 12), "bias": (12,)}
    arrays = {f"rnn/{name}:0": rng.standard_normal(shape).astype("float32") for name, shape in shapes.items()}
    dense = {"d/kernel:0": np.ones((3, 2), "float32"), "d/bias:0": np.ones(2, "float32")}
    return keras_files.write(
        path, [("LSTM", options, arrays), ("Dense", {"name": "d", "units": 2, "activation": "softmax"}, dense)]
    )


def _changed(rng: random.Random, text: bytes) -> bytes:
    """Put anything in the place of one to three things in a JSON document."""
    document: Any = json.loads(text)
    for _ in range(rng.randrange(1, 4)):
        at, parent, key = document, None, None
        while isinstance(at, (dict, list)) and at and (parent is None or rng.random() < 0.9):
            parent, key = at, rng.choice(list(at)) if isinstance(at, dict) else rng.randrange(len(at))
            at = at[key]
        if parent is None:
            break
        if rng.random() < 0.2:
            del parent[key]
        else:
            parent[key] = copy.deepcopy(rng.choice(ODD))
    return json.dumps(document).encode()


def _zipped(parts: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return file.getvalue()


def main() -> int:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    figures = corrupt_keras(arguments.count, arguments.seed)
    print(
        f"{figures.count} damaged files: {figures.refused} refused by FormatError, the others read; at most "
        f"{figures.megabytes} MiB beyond before, and {figures.slowest:.2f} s"
    )
    for error, times in figures.raw_errors.items():
        print(f"{times} times {error}")
    return not figures.good()


if __name__ == "__main__":
    sys.exit(main())
