"""Japanese vowels: who of nine speakers says /ae/? Rows of 7 to 29 frames of 12 features.

270 recordings to learn from, 370 others to be told, by the classifier for scikit-learn. Ragged rows go in as a list;
nothing is padded or scaled by hand. Needs scikit-learn: pip install ".[examples]"

M. Kudo, J. Toyama & M. Shimbo, "Multidimensional curve classification using passing-through regions", 1999. The data
stand in examples/data, rounded to 3 decimals, with their licence.

    python examples/japanese_vowels.py [--seed 0] [--backend numpy] [--figure japanese_vowels.png]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from sklearn.metrics import accuracy_score, confusion_matrix

from recurray.sklearn import LSTMClassifier

DATA = Path(__file__).parent / "data" / "japanese_vowels.npz"
SPEAKERS = 9


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
    classifier = LSTMClassifier(random_state=args.seed, backend=args.backend)
    began = time.perf_counter()
    classifier.fit(rows, speakers)
    seconds = time.perf_counter() - began
    told = classifier.predict(tested)
    print(f"{len(rows)} recordings learned in {seconds:.1f} s")
    print(f"of {len(tested)} others {accuracy_score(theirs, told):.1%} told")

    if args.figure:
        from matplotlib.figure import Figure

        counts = confusion_matrix(theirs, told)
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
