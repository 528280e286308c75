"""[1, 2, 3] -> 4: a first sequence, and how far what was learned reaches.

Numbers are scaled to 0 ... 1 by the least and the largest of the training's, as scikit-learn's MinMaxScaler does. An
LSTM then tells the next of three numbers well, within that range. Beyond it the units saturate, and the answer falls
behind: the network has learned a curve, not to count. What is the same everywhere, the step from the last number to
the next, it can tell everywhere: take each window relative to its last number, and ask for the difference. (Here
that makes all windows equal: there is nothing left to learn. That is the point of a good scaling.)

    python examples/number_sequence.py [--seed 0] [--backend numpy] [--figure number_sequence.png]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

import recurray as rr

TRAINED, LAST, WINDOW = 60, 240, 3  # trained on numbers up to the first, tested on numbers up to the second


def main() -> None:
    parser = argparse.ArgumentParser(description="[1, 2, 3] -> 4.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backend", default=None)
    parser.add_argument("--figure", help="a file for the picture")
    args = parser.parse_args()

    numbers = np.arange(1, LAST + 1, dtype="float32")
    windows = np.lib.stride_tricks.sliding_window_view(numbers[:-1], WINDOW)  # (N, 3): [1, 2, 3], [2, 3, 4], ...
    answers = numbers[WINDOW:]
    inside = answers <= TRAINED
    low, high = numbers[0], np.float32(TRAINED)

    def learn(windows: np.ndarray, answers: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """Train on the windows (N, 3) and answers (N,); return what the model says to windows."""
        model = rr.Sequential(
            rr.LSTM(1, 16, seed=args.seed), rr.Final(), rr.Linear(16, 1, seed=args.seed + 1), backend=args.backend
        )
        optimizer = rr.optim.Adam(model.params, lr=0.02)
        schedule = rr.schedules.Cosine(lr=0.02, steps=1000)
        data = (windows[..., None], answers[..., None])
        rr.fit(model, "mse", optimizer, data, epochs=1000, batch_size=TRAINED, schedule=schedule, seed=args.seed)

        def answer(windows: np.ndarray) -> np.ndarray:
            y, _ = model(model.backend.asarray(windows[..., None]))
            return model.backend.to_numpy(y)[:, 0]

        return answer

    scaled = (windows - low) / (high - low)
    model = learn(scaled[inside], (answers[inside] - low) / (high - low))
    plain = model(scaled) * (high - low) + low

    last = windows[:, -1]
    differences = (windows - last[:, None]) / WINDOW
    model = learn(differences[inside], (answers - last)[inside] / WINDOW)
    relative = last + model(differences) * WINDOW

    print(f"trained on 1 to {TRAINED}")
    print(f"{'':>17} {'scaled':>9} {'relative':>9}")
    for first in (1, 40, TRAINED + 1, 2 * TRAINED, LAST - WINDOW):
        window = ", ".join(str(first + k) for k in range(WINDOW))
        print(f"{f'[{window}]':>17} {plain[first - 1]:9.2f} {relative[first - 1]:9.2f}")

    if args.figure:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 4), layout="constrained")
        axis = figure.subplots()
        axis.axvspan(1, TRAINED, color="0.9", label="trained on")
        axis.plot(answers, answers, color="black", linewidth=0.8, linestyle="--", label="right")
        axis.plot(answers, plain, label="scaled to 0 ... 1")
        axis.plot(answers, relative, label="relative to the last number")
        axis.set(xlabel="the next number", ylabel="the answer")
        axis.legend()
        figure.savefig(args.figure, dpi=100)


if __name__ == "__main__":
    main()
