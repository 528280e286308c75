"""An EA-LSTM: one model for many rivers, told apart by what doesn't change over time.

The input gate of the entity-aware LSTM sees a catchment's static features alone, once a row; the other gates see the
weather. It is a cell of its own, 15 lines: the gate's value is a state that no step changes, and begins as what a
Linear layer makes of the features. A plain LSTM that isn't told which river it is stands beside it.

The rivers are made: a store of snow, which melts, and a store of water, which drains fast where the catchment is steep.

F. Kratzert et al., "Towards learning universal, regional, and local hydrological behaviors via machine learning applied
to large-sample datasets", 2019.

    python examples/ea_lstm.py [--seed 0] [--backend numpy] [--figure ea_lstm.png]
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

import recurray as rr
from recurray.arrays import sigmoid, tanh

RIVERS, HELD_OUT, DAYS, WARM_UP, HIDDEN, EPOCHS = 80, 20, 365, 60, 16, 150


class EACell(rr.Cell):
    """An LSTM's cell whose input gate i is a state: what it was before the first step it stays."""

    input_gates = recurrent_gates = ("f", "g", "o")
    states = ("h", "c", "i")

    def step(self, x: Any, h: Any, before: Any, params: Any) -> Any:
        f, g, o = sigmoid(x.f + h.f), tanh(x.g + h.g), sigmoid(x.o + h.o)
        c = f * before.c + before.i * g
        out = tanh(c)
        return {"h": o * out, "c": c, "i": before.i}, {"f": f, "g": g, "o": o, "out": out}

    def step_backward(self, d: Any, saved: Any, before: Any, params: Any) -> rr.CellGradients:
        f, g, o, out = saved.f, saved.g, saved.o, saved.out
        dc = d.c + d.h * (o * (1 - out * out))
        da = {
            "f": dc * (before.c * (f * (1 - f))),
            "g": dc * (before.i * (1 - g * g)),
            "o": d.h * (out * (o * (1 - o))),
        }
        return rr.CellGradients(x=da, h=da, before={"c": dc * f, "i": d.i + dc * g})


class EALSTM(rr.Model):
    """The cell, what makes its input gate of the static features, and what makes runoff of its output."""

    def __init__(self, inputs: int, static_size: int, hidden: int, seed: int = 0, backend: Any = None) -> None:
        super().__init__(
            gate=rr.Linear(static_size, hidden, seed=[seed, 0]),
            lstm=rr.Recurrent(EACell(), inputs, hidden, seed=[seed, 1]),
            output=rr.Linear(hidden, 1, seed=[seed, 2]),
            backend=backend,
        )
        self.inputs, self.hidden, self.seed = inputs, hidden, seed
        self.static_size = static_size

    def forward(
        self, x: Any, state: Any = None, lengths: Any = None, training: bool = True, rng: Any = None, *, static: Any
    ) -> Any:
        a, _, of_gate = self.gate.forward(static)
        i = sigmoid(a)
        start = self.lstm.state_type(h=0 * i[None, ...], c=0 * i[None, ...], i=i[None, ...])
        h, end, of_recurrent = self.lstm.forward(x, start, lengths)
        y, _, of_output = self.output.forward(h)
        return y, end, (of_gate, i, of_recurrent, of_output)

    def backward(self, cache: Any, dy: Any, dstate: Any = None) -> Any:
        of_gate, i, of_recurrent, of_output = cache
        dh, _, output = self.output.backward(of_output, dy)
        dx, dstart, recurrent = self.lstm.backward(of_recurrent, dh, dstate)
        dstatic, _, gate = self.gate.backward(of_gate, dstart.i[0, ...] * (i * (1 - i)))
        grads = self.joined(gate=gate, lstm=recurrent, output=output)
        return rr.InputGradients(dx, dstatic), None, grads


def rivers(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rain and temperature (rivers, days, 2), static features (rivers, 3), and runoff (rivers, days, 1)."""
    steep, cold, wet = rng.random((3, count))
    day = np.arange(DAYS)
    temperature = 12 - 14 * cold[:, None] - 11 * np.cos(2 * np.pi * day / 365) + 3 * rng.standard_normal((count, DAYS))
    rain = (rng.random((count, DAYS)) < 0.3) * rng.exponential(1, (count, DAYS)) * (4 + 8 * wet[:, None])
    snow, water = np.zeros(count), np.full(count, 20.0)
    drained = 0.02 + 0.3 * steep**2
    runoff = np.empty((count, DAYS))
    for t in day:
        melt = np.minimum(snow, np.maximum(0, 3 * temperature[:, t]))
        falls_as_snow = temperature[:, t] < 0
        snow += rain[:, t] * falls_as_snow - melt
        water += rain[:, t] * ~falls_as_snow + melt
        water -= np.minimum(water, np.maximum(0, 0.1 * temperature[:, t]))  # it evaporates
        runoff[:, t] = drained * water
        water -= runoff[:, t]
    x = np.stack([rain / 5, temperature / 10], axis=-1)
    return (
        x.astype("float32"),
        np.stack([steep, cold, wet], axis=1).astype("float32"),
        runoff[..., None].astype("float32"),
    )


def efficiency(predicted: np.ndarray, runoff: np.ndarray) -> np.ndarray:
    """Return each river's Nash-Sutcliffe efficiency: 1 is perfect, 0 as good as its mean."""
    error = ((predicted - runoff) ** 2).sum(axis=(1, 2))
    return 1 - error / ((runoff - runoff.mean(axis=1, keepdims=True)) ** 2).sum(axis=(1, 2))


def main() -> None:
    parser = argparse.ArgumentParser(description="An EA-LSTM for many rivers.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backend", default=None)
    parser.add_argument("--figure", help="a file for the picture")
    args = parser.parse_args()

    assert rr.check_gradients(EACell()).ok
    weather, static, runoff = rivers(np.random.default_rng(args.seed), RIVERS + HELD_OUT)
    deviation = runoff[:RIVERS, WARM_UP:].std(axis=(1, 2), keepdims=True).mean()
    known, new = slice(0, RIVERS), slice(RIVERS, None)

    def simulated(model: Any, name: str, **given: np.ndarray) -> np.ndarray:
        """Train on the known rivers, and return the runoff of the new ones."""
        rr.fit(
            model,
            "mse",
            rr.optim.Adam(model.params, lr=0.01),
            {
                "x": weather[known],
                "target": runoff[known] / deviation,
                **{key: value[known] for key, value in given.items()},
            },
            batch_size=8,
            epochs=EPOCHS,
            burn_in=WARM_UP,
            clip_norm=1.0,
            schedule=rr.schedules.Cosine(lr=0.01, steps=EPOCHS * RIVERS // 8),
            seed=args.seed,
        )
        backend = model.backend
        y = model(backend.asarray(weather[new]), **{key: backend.asarray(value[new]) for key, value in given.items()})[
            0
        ]
        found = backend.to_numpy(y) * deviation
        print(f"{name}: {np.median(efficiency(found[:, WARM_UP:], runoff[new, WARM_UP:])):.3f}")
        return found

    print(f"{RIVERS} rivers known, {HELD_OUT} new ones;\nthese' median efficiency (NSE)")
    plain = rr.Sequential(
        rr.LSTM(2, HIDDEN, seed=args.seed), rr.Linear(HIDDEN, 1, seed=args.seed), backend=args.backend
    )
    without = simulated(plain, "LSTM that isn't told the river")
    model = EALSTM(2, 3, HIDDEN, seed=args.seed, backend=args.backend)
    told = simulated(model, "EA-LSTM", static=static)

    if args.figure:
        draw(static[new], runoff[new], told, without).savefig(args.figure, dpi=100)


def draw(static: np.ndarray, runoff: np.ndarray, told: np.ndarray, without: np.ndarray) -> Any:
    """Draw the runoff of the flattest and of the steepest of the new rivers."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    order = static[:, 0].argsort()
    for axis, river, name in zip(
        figure.subplots(2, 1, sharex=True), (order[2], order[-1]), ("flat", "steep"), strict=True
    ):
        axis.plot(runoff[river, :, 0], color="black", linewidth=1, label="river")
        axis.plot(without[river, :, 0], color="tab:orange", linewidth=1, label="LSTM")
        axis.plot(told[river, :, 0], color="tab:blue", linewidth=1, linestyle="--", label="EA-LSTM")
        axis.set(ylabel="runoff", title=f"a {name} catchment that no model has seen")
        axis.legend()
    axis.set_xlabel("day")
    return figure


if __name__ == "__main__":
    main()
