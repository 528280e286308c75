"""Embedded Reber grammar: which letters may come next, where the last but one depends on the second.

A string is B, T or P, a string of Reber's grammar, again that T or P, and E. A network that sees it letter by letter
is to say what may come next. Almost all of that can be told from the letters just before; the last T or P can't. It is
trained on short strings and tested on longer ones.

A. S. Reber, "Implicit learning of artificial grammars", 1967; S. E. Fahlman, "The recurrent cascade-correlation
architecture", 1991; S. Hochreiter & J. Schmidhuber, "Long short-term memory", 1997.

    python examples/reber_grammar.py [--seed 0] [--backend numpy] [--figure reber_grammar.png]
"""

from __future__ import annotations

import argparse

import numpy as np

import recurray as rr

LETTERS, LONG = "BTSXPVE", 20
# What may follow at each of the inner grammar's states: a letter, and the state that it leads to.
INNER = (
    (("B", 1),),
    (("T", 2), ("P", 3)),
    (("S", 2), ("X", 4)),
    (("T", 3), ("V", 5)),
    (("X", 3), ("S", 6)),
    (("P", 4), ("V", 6)),
    (("E", 7),),
)


def string(rng: np.random.Generator) -> tuple[str, list[str]]:
    """Draw a string, and the letters that may follow each of its letters but the last."""
    branch = "TP"[rng.integers(2)]
    letters, may_follow, state = "B" + branch, ["TP", "B"], 0
    while state < len(INNER):
        letter, state = INNER[state][rng.integers(len(INNER[state]))]
        letters += letter
        may_follow.append("".join(letter for letter, _ in INNER[state]) if state < len(INNER) else branch)
    return letters + branch + "E", [*may_follow, "E"]


def as_arrays(strings: list[tuple[str, list[str]]]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return each string's letters but the last, one-hot (steps, 7), and which are to come, as integers (steps,)."""
    eye = np.eye(len(LETTERS), dtype="float32")
    numbers = [np.array([LETTERS.index(letter) for letter in letters]) for letters, _ in strings]
    return [eye[row[:-1]] for row in numbers], [row[1:] for row in numbers]


def right(model: rr.Layer, strings: list[tuple[str, list[str]]]) -> tuple[float, float]:
    """Return the share of strings all of whose next letters are told, and of those whose last but one is.

    Of as many letters as may follow, the network has to find these the likeliest.
    """
    whole = last = 0
    for x, (_, may_follow) in zip(as_arrays(strings)[0], strings, strict=True):
        scores = model.backend.to_numpy(model(model.backend.asarray(x[None]))[0])[0]
        told = [
            {LETTERS[k] for k in np.argsort(-step)[: len(letters)]} == set(letters)
            for step, letters in zip(scores, may_follow, strict=True)
        ]
        whole += all(told)
        last += told[-2]
    return whole / len(strings), last / len(strings)


def main() -> None:
    parser = argparse.ArgumentParser(description="Embedded Reber grammar.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backend", default=None)
    parser.add_argument("--figure", help="a file for the picture")
    args = parser.parse_args()

    rng = np.random.default_rng(args.seed)
    drawn = [string(rng) for _ in range(8000)]
    training = [each for each in drawn if len(each[0]) < LONG][:500]
    longer = [each for each in drawn if len(each[0]) >= LONG][:200]
    print(f"{len(training)} strings below {LONG} letters;\ntested on {len(longer)} longer ones")
    for kind in (rr.RNN, rr.LSTM):
        model = rr.Sequential(kind(7, 12, seed=args.seed), rr.Linear(12, 7, seed=args.seed + 1), backend=args.backend)
        rr.fit(
            model,
            "cross_entropy",
            rr.optim.Adam(model.params, lr=0.02),
            as_arrays(training),
            epochs=40,
            batch_size=16,
            clip_norm=1.0,
            seed=args.seed,
        )
        whole, last = right(model, longer)
        print(f"{kind.__name__}: {whole:.0%} right, the branch {last:.0%}")

    if args.figure:
        letters, _ = longer[0]
        x = as_arrays([(letters, [])])[0][0]
        trace = model.layers[0].trace(model.backend.asarray(x[None]))
        rr.plot.states(trace, name="c", sort="peak", labels=letters[:-1]).savefig(args.figure, dpi=100)


if __name__ == "__main__":
    main()
