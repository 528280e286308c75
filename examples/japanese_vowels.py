"""Japanese vowels: who of nine speakers says /ae/? Rows of 7 to 29 frames of 12 features.

270 recordings to learn from, 370 others to be told. Ragged rows go in as a list; nothing is padded by hand.

M. Kudo, J. Toyama & M. Shimbo, "Multidimensional curve classification using passing-through regions", 1999. The data
stand in examples/data, rounded to 3 decimals, with their licence.

    python examples/japanese_vowels.py [--seed 0] [--backend numpy] [--figure japanese_vowels.png]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

import recurray as rr

DATA = Path(__file__).parent / "data" / "japanese_vowels.npz"
SPEAKERS, EPOCHS = 9, 60


def recordings(part: str) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the recordings, (frames, 12) each, and their speakers."""
    with np.load(DATA) as file:
        frames, lengths = file[f"{part}_frames"] / np.float32(1000), file[f"{part}_lengths"].astype(int)
        return np.split(frames, lengths.cumsum()[:-1]), file[f"{part}_speakers"].astype(int)


def main() -> None:
    parser = argparse.ArgumentParser(description="Japanese vowels.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backend", default=None)
    parser.add_argument("--figure", help="a file for the picture")
    args = parser.parse_args()

    rows, speakers = recordings("train")
    tested, theirs = recordings("test")
    every = np.concatenate(rows)
    mean, deviation = every.mean(axis=0), every.std(axis=0)
    rows, tested = ([(row - mean) / deviation for row in part] for part in (rows, tested))

    model = rr.Sequential(
        rr.LSTM(12, 48, bidirectional=True, seed=args.seed),
        rr.Mean(),
        rr.Dropout(0.3, seed=args.seed + 1),
        rr.Linear(96, SPEAKERS, seed=args.seed + 2),
        backend=args.backend,
    )
    began = time.perf_counter()
    rr.fit(
        model,
        "cross_entropy",
        rr.optim.Adam(model.params, lr=0.005),
        (rows, speakers),
        epochs=EPOCHS,
        batch_size=30,
        schedule=rr.schedules.Cosine(lr=0.005, steps=EPOCHS * len(rows) // 30),
        clip_norm=1.0,
        seed=args.seed,
    )
    seconds = time.perf_counter() - began

    lengths = [len(row) for row in tested]
    x = np.zeros((len(tested), max(lengths), 12), dtype="float32")
    for padded, row in zip(x, tested, strict=True):
        padded[: len(row)] = row
    scores, _ = model(model.backend.asarray(x), lengths=lengths)
    told = model.backend.to_numpy(scores).argmax(axis=1)
    print(f"{len(rows)} recordings learned in {seconds:.1f} s")
    print(f"of {len(tested)} others {np.mean(told == theirs):.1%} told")

    if args.figure:
        from matplotlib.figure import Figure

        counts = np.zeros((SPEAKERS, SPEAKERS), dtype=int)
        np.add.at(counts, (theirs, told), 1)
        figure = Figure(figsize=(4.5, 4), layout="constrained")
        axis = figure.subplots()
        axis.imshow(counts, cmap="Greens")
        for (speaker, said), count in np.ndenumerate(counts):
            if count:
                dark = count > counts.max() / 2
                axis.text(said, speaker, count, ha="center", va="center", color="white" if dark else "black")
        axis.set(xlabel="told", ylabel="speaker", xticks=range(SPEAKERS), yticks=range(SPEAKERS))
        figure.savefig(args.figure, dpi=100)


if __name__ == "__main__":
    main()
