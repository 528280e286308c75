"""The adding problem: what was seen long ago counts at the end.

A row is a sequence of random numbers, two of which are marked; the answer is their sum. Who always says 1 has a mean
squared error of 1/6. A plain recurrent network forgets what an LSTM keeps.

S. Hochreiter & J. Schmidhuber, "Long short-term memory", 1997.

    python examples/adding_problem.py [--steps 50] [--seed 0] [--backend numpy] [--figure adding_problem.png]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np

import recurray as rr

BATCH, HIDDEN, UPDATES, EVERY = 64, 24, 800, 40


def rows(rng: np.random.Generator, count: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw x (count, steps, 2), numbers and marks, and the sums (count, 1). A mark stands in each half."""
    x = np.zeros((count, steps, 2), dtype="float32")
    x[..., 0] = rng.random((count, steps))
    half = steps // 2
    for low, high in ((0, half), (half, steps)):
        x[np.arange(count), rng.integers(low, high, count), 1] = 1
    return x, (x[..., 0] * x[..., 1]).sum(axis=1, keepdims=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="The adding problem.")
    parser.add_argument("--steps", type=int, default=50, help="of a row")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backend", default=None)
    parser.add_argument("--figure", help="a file for the picture")
    args = parser.parse_args()

    def batches(rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return (rows(rng, BATCH, args.steps) for _ in range(UPDATES))

    tested = rows(np.random.default_rng(args.seed + 1), 500, args.steps)
    print(f"two of {args.steps} numbers to be added\nalways 1: error {np.mean((tested[1] - 1) ** 2):.4f}")
    histories = {}
    for kind in (rr.RNN, rr.LSTM):
        model = rr.Sequential(
            kind(2, HIDDEN, seed=args.seed), rr.Final(), rr.Linear(HIDDEN, 1, seed=args.seed + 1), backend=args.backend
        )
        optimizer = rr.optim.Adam(model.params, lr=0.02)
        histories[kind.__name__] = history = rr.fit(
            model,
            "mse",
            optimizer,
            batches,
            steps=UPDATES,
            every=EVERY,
            validation=tested,
            clip_norm=1.0,
            seed=args.seed,
        )
        print(f"{kind.__name__}: error {history['validation_loss'][-1]:.4f}")

    if args.figure:
        draw(histories, model, tested[0][:1]).savefig(args.figure, dpi=100)


def draw(histories: dict[str, rr.History], model: rr.Sequential, x: np.ndarray) -> object:
    """Draw both trainings, and what the LSTM's units hold of one row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 6), layout="constrained")
    above, below = figure.subplots(2, 1)
    for name, history in histories.items():
        above.plot(history["step"], history["validation_loss"], label=name)
    above.axhline(1 / 6, color="black", linewidth=0.6, linestyle=":")
    above.set(xlabel="update", ylabel="mean squared error", yscale="log")
    above.legend()
    layer = model.layers[0]
    held = layer.backend.to_numpy(layer.trace(layer.backend.asarray(x))["h"])[0]
    order = np.argsort(np.abs(held[-1]))
    largest = np.abs(held).max()
    below.imshow(held[:, order].T, aspect="auto", cmap="RdBu_r", vmin=-largest, vmax=largest, interpolation="nearest")
    for step in np.flatnonzero(x[0, :, 1]):
        below.axvline(step, color="black", linewidth=1, linestyle=":")
    below.set(
        xlabel="step (dotted: a marked number)", ylabel="unit of the LSTM", title="what its units put out, for one row"
    )
    return figure


if __name__ == "__main__":
    main()
