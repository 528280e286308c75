"""Files as Keras 1 and 2 wrote them, which Keras 3 can't write: made by h5py from what is to be in them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.needs import need

Entry = tuple[str, dict[str, Any], dict[str, np.ndarray]]  # class, options, and arrays by Keras's full names


def write(
    path: Path, entries: Sequence[Entry], version: str | None = "2.2.4", *, architecture: Any = None, whole: bool = True
) -> Path:
    """Write a model, or its weights alone: attributes and names as in ``keras/engine/saving.py`` of Keras 2."""
    h5py = need("h5py")
    config = {
        "class_name": "Sequential",
        "config": {"layers": [{"class_name": kind, "config": options} for kind, options, _ in entries]},
    }
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if whole else file
        if whole:
            file.attrs["model_config"] = json.dumps(architecture or config).encode()
        for at in {file, root} if version else ():
            at.attrs["keras_version"] = version.encode()
            at.attrs["backend"] = b"tensorflow"
        root.attrs["layer_names"] = [options["name"].encode() for _, options, _ in entries]
        for _, options, arrays in sorted(entries, key=lambda entry: str(entry[1]["name"])):
            group = root.create_group(options["name"])
            group.attrs["weight_names"] = [name.encode() for name in arrays]
            for name, array in arrays.items():
                group.create_dataset(name, data=array)
    return path


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def hard_sigmoid(slope: float) -> Any:
    return lambda x: np.clip(slope * x + 0.5, 0, 1)


def lstm(x: np.ndarray, kernel: np.ndarray, recurrent: np.ndarray, bias: np.ndarray, gate: Any = sigmoid) -> np.ndarray:
    """An LSTM as Keras documents it, step by step, gates i f c o; all outputs."""
    h = c = np.zeros((len(x), len(recurrent)))
    outputs = []
    for step in range(x.shape[1]):
        i, f, g, o = np.split(x[:, step] @ kernel + h @ recurrent + bias, 4, axis=1)
        c = gate(f) * c + gate(i) * np.tanh(g)
        h = gate(o) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs, axis=1)


def gru(
    x: np.ndarray, kernel: np.ndarray, recurrent: np.ndarray, bias: np.ndarray, gate: Any = sigmoid, after: bool = False
) -> np.ndarray:
    """A GRU as Keras documents it, step by step, gates z r h, the reset before or after the product; all outputs."""
    size = len(recurrent)
    h = np.zeros((len(x), size))
    outputs = []
    b, c = bias if after else (bias, np.zeros_like(bias))
    for step in range(x.shape[1]):
        xz, xr, xh = np.split(x[:, step] @ kernel + b, 3, axis=1)
        z = gate(xz + h @ recurrent[:, :size] + c[:size])
        r = gate(xr + h @ recurrent[:, size : 2 * size] + c[size : 2 * size])
        last = recurrent[:, 2 * size :]
        n = np.tanh(xh + (r * (h @ last + c[2 * size :]) if after else (r * h) @ last + c[2 * size :]))
        h = z * h + (1 - z) * n
        outputs.append(h)
    return np.stack(outputs, axis=1)
