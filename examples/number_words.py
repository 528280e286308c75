"""From "742" to "seven hundred forty two": an encoder reads the digits, a decoder writes the words.

The encoder's final state is the decoder's start. In training the decoder is given the right word at each step; then it
goes on from its own. A quarter of the numbers is never seen in training.

I. Sutskever, O. Vinyals & Q. V. Le, "Sequence to sequence learning with neural networks", 2014.

    python examples/number_words.py [--seed 0] [--backend numpy] [--figure number_words.png]
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

import recurray as rr

ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
WORDS = ["<end>", *ONES, *TENS, "hundred"]
NONE = 10  # stands for a digit that isn't there
MOST = 1000  # numbers are below
DIGITS, STEPS, HIDDEN = 3, 5, 48


def words_of(number: int) -> list[str]:
    """Return a number below 1,000 in words."""
    hundreds, rest = divmod(number, 100)
    words = [ONES[hundreds], "hundred"] if hundreds else []
    if rest >= 20:
        words += [TENS[rest // 10 - 2], *([ONES[rest % 10]] if rest % 10 else [])]
    elif rest or not hundreds:
        words.append(ONES[rest])
    return words


class Writer(rr.Model):
    """An encoder of digits and a decoder of words. x is both of its inputs, side by side: digits, and words so far."""

    def __init__(self, seed: int, backend: Any = None) -> None:
        super().__init__(
            digits=rr.Embedding(NONE + 1, 8, seed=[seed, 0]),
            encoder=rr.LSTM(8, HIDDEN, seed=[seed, 1]),
            words=rr.Embedding(len(WORDS), 16, seed=[seed, 2]),
            decoder=rr.LSTM(16, HIDDEN, seed=[seed, 3]),
            output=rr.Linear(HIDDEN, len(WORDS), seed=[seed, 4]),
            backend=backend,
        )
        self.seed = seed

    def forward(self, x: Any, state: Any = None, lengths: Any = None, training: bool = True, rng: Any = None) -> Any:
        read, _, of_digits = self.digits.forward(x[:, :DIGITS])
        encoded, state, of_encoder = self.encoder.forward(read)
        written, _, of_words = self.words.forward(x[:, DIGITS:])
        decoded, state, of_decoder = self.decoder.forward(written, state)
        y, _, of_output = self.output.forward(decoded)
        return y, state, (of_digits, encoded, of_encoder, of_words, of_decoder, of_output)

    def backward(self, cache: Any, dy: Any, dstate: Any = None) -> Any:
        of_digits, encoded, of_encoder, of_words, of_decoder, of_output = cache
        d, _, output = self.output.backward(of_output, dy)
        d, dstate, decoder = self.decoder.backward(of_decoder, d, dstate)
        _, _, words = self.words.backward(of_words, d)
        d, _, encoder = self.encoder.backward(of_encoder, encoded * 0, dstate)
        _, _, digits = self.digits.backward(of_digits, d)
        return None, None, self.joined(output=output, decoder=decoder, words=words, encoder=encoder, digits=digits)

    def write(self, digits: np.ndarray) -> np.ndarray:
        """Return the likeliest word after word, (batch, steps), from digits (batch, 3)."""
        backend = self.backend
        read, _ = self.digits(backend.asarray(digits))
        _, state = self.encoder(read)
        word = np.zeros((len(digits), 1), dtype=int)
        written = []
        for _ in range(STEPS):
            embedded, _ = self.words(backend.asarray(word))
            decoded, state = self.decoder(embedded, state)
            scores, _ = self.output(decoded)
            word = backend.to_numpy(scores).argmax(axis=-1)
            written.append(word)
        return np.concatenate(written, axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description="Numbers in words.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backend", default=None)
    parser.add_argument("--figure", help="a file for the picture")
    args = parser.parse_args()

    digits = np.full((MOST, DIGITS), NONE)
    target = np.zeros((MOST, STEPS), dtype=int)  # 0 is the end
    counts = np.ones((MOST, STEPS), dtype=bool)
    for number in range(MOST):
        for place, digit in enumerate(str(number)[::-1], 1):
            digits[number, -place] = int(digit)
        words = [WORDS.index(word) for word in words_of(number)]
        target[number, : len(words)] = words
        counts[number, len(words) + 1 :] = False
    before = np.concatenate([np.zeros((MOST, 1), dtype=int), target[:, :-1]], axis=1)
    order = np.random.default_rng(args.seed).permutation(MOST)
    trained, tested = order[: 3 * MOST // 4], order[3 * MOST // 4 :]

    model = Writer(args.seed, args.backend)
    data = [
        {
            "x": np.concatenate([digits[which], before[which]], axis=1),
            "target": target[which],
            "target_mask": counts[which],
        }
        for which in (trained, tested)
    ]
    history = rr.fit(
        model,
        "cross_entropy",
        rr.optim.Adam(model.params, lr=0.01),
        data[0],
        validation=data[1],
        epochs=60,
        schedule=rr.schedules.Cosine(lr=0.01, steps=60 * 24),
        clip_norm=1.0,
        seed=args.seed,
    )

    written = model.write(digits[tested])
    right = [
        [WORDS[k] for k in row[: np.flatnonzero(np.append(row, 0) == 0)[0]]] == words_of(number)
        for row, number in zip(written, tested, strict=True)
    ]
    print(f"{len(trained)} numbers to learn from, {len(tested)} new")
    print(f"of the new {np.mean(right):.1%} are right")
    for number, row in zip(tested[:4], written, strict=False):
        print(f"{number}: {' '.join(WORDS[k] for k in row if k)}")
    if args.figure:
        rr.plot.history(history).savefig(args.figure, dpi=100)


if __name__ == "__main__":
    main()
