"""Models that are written to a file in each release, and read from it for ever; and classes as users write them.

``python -m harness.saved_models`` in the folder ``tests`` writes those of this release to ``library/saved_files``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import recurray as rr
from recurray import cells
from recurray.activations import Elementwise
from recurray.arrays import tanh
from recurray.layers import StatelessLayer

FOLDER = Path(__file__).parents[1] / "library" / "saved_files"


@dataclass(frozen=True)
class Shrink(Elementwise):
    """x / 2, by a parameter."""

    factor: float = 0.5

    name = "shrink"

    def forward(self, x: Any) -> Any:
        return self.factor * x

    def derivative(self, y: Any) -> Any:
        return 0 * y + self.factor


class LeakyCell(rr.Cell):
    """With an argument that it keeps."""

    input_gates = recurrent_gates = ("a",)

    def __init__(self, rate: float, *, power: Any = 1) -> None:
        self.rate, self.power = rate, power

    def step(self, x: Any, h: Any, before: Any, params: Any) -> Any:
        new = tanh(x.a + h.a)
        return {"h": before.h + self.rate * (new - before.h)}, {"new": new}

    def step_backward(self, d: Any, saved: Any, before: Any, params: Any) -> Any:
        da = d.h * (self.rate * (1 - saved.new * saved.new))
        return rr.CellGradients(x={"a": da}, h={"a": da}, before={"h": d.h * (1 - self.rate)})


class Shift(StatelessLayer):
    """A layer with a param and no argument for it."""

    def __init__(self, size: int, *, backend: Any = None, dtype: Any = None) -> None:
        self.size = size
        self.runs_on(backend, dtype)
        self.params = {"shift": self.backend.asarray(np.arange(1.0, size + 1), self.dtype)}

    def apply(self, x: Any, lengths: Any, training: bool, rng: Any) -> Any:
        return x + self.params["shift"], None

    def apply_backward(self, cache: Any, dy: Any) -> Any:
        return dy, {"shift": dy.reshape(-1, self.size).sum(axis=0)}

    def random_input(self, rng: Any, batch: int, steps: int) -> Any:
        return rng.standard_normal((batch, steps, self.size))


def own_model() -> rr.Sequential:
    model = rr.Sequential(
        rr.Recurrent(LeakyCell(0.25, power=2), 3, 5, seed=0, backend="numpy"),
        Shift(5),
        rr.LSTM(5, 4, cell_activation=Shrink(0.7), seed=1),
    )
    model.params["1.shift"] = np.array([5, 4, 3, 2, 1], dtype="float32")
    return model


OWN = [LeakyCell, Shrink, Shift]


def models() -> Iterator[tuple[str, rr.Layer]]:
    """The models, by the names of their files."""
    options: dict[str, Any] = {"backend": "numpy", "seed": 0}
    yield "lstm", rr.LSTM(3, 4, 2, bidirectional=True, dropout=0.1, **options)
    yield (
        "lstm_options",
        rr.LSTM(
            3,
            4,
            peepholes=True,
            coupled=True,
            cell_clip=2.0,
            gate_clip=3.0,
            layer_norm=True,
            gate_activation={"i": ("leaky_relu", 0.1), "o": "hard_sigmoid"},
            learned_state=True,
            dtype="float64",
            **options,
        ),
    )
    yield "gru", rr.GRU(3, 4, reset_after=False, batch_first=False, **options)
    yield "rnn", rr.RNN(3, 4, nonlinearity="relu", zoneout_h=0.1, **options)
    yield "diagonal_lstm", rr.DiagonalLSTM(3, 4, projection="per_gate", **options)
    yield "cells", rr.Recurrent(cells.ZoneoutCell(cells.MGUCell(), 0.1), 3, 4, recurrent_dropout=0.2, **options)
    yield "own", own_model()
    inner = rr.Sequential(rr.LSTM(4, 4, proj_size=2, **options), rr.Dropout(0.2), rr.LayerNorm(2))
    yield "sequential", rr.Sequential(rr.Embedding(7, 4, **options), inner, rr.Last(), rr.Linear(2, 3, **options))


def write() -> None:
    """Write them, each with an input and what becomes of it."""
    folder = FOLDER / rr.__version__
    folder.mkdir(parents=True, exist_ok=True)
    for name, model in models():
        x = model.random_input(np.random.default_rng(0), 2, 3)
        x = x if x.dtype.kind == "i" else x.astype(model.dtype)
        told = {"x": x.tolist(), "dtype": x.dtype.name, "y": np.asarray(model(x)[0]).tolist()}
        rr.save(model, folder / f"{name}.safetensors", told)


if __name__ == "__main__":
    write()
