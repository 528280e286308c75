r"""Character n-gram models with Witten-Bell smoothing: what a recurrent model has to beat.

With n(h) the number of characters that followed the context h in training and t(h) the number of different ones,

    p(c | h) = (count(h c) + t(h) p(c | h')) / (n(h) + t(h)),

where h' is h without its oldest character; below the unigrams stands 1/V for a vocabulary of V characters. A context
that was never followed by anything passes p(c | h') through. This is the interpolated form, in which each context
gives the shorter ones as much weight as it has seen new characters, so that probabilities sum to 1.

Witten, Bell: The zero-frequency problem: estimating the probabilities of novel events in adaptive text compression.
IEEE Transactions on Information Theory 37(4), 1991 (method C).
Chen, Goodman: An empirical study of smoothing techniques for language modeling. Computer Speech & Language 13(4),
1999.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurray.language_model.text import Tokens

Probabilities = NDArray[np.float64]

_UNSEEN = -1


@dataclass(frozen=True)
class _Level:
    """The k-grams of the training text; a k-gram's number is its place in ``keys``."""

    keys: NDArray[np.int64]  # context's number * V + last character, sorted; the context is a (k-1)-gram
    counts: NDArray[np.int64]  # how often each k-gram occurs
    context_total: NDArray[np.int64]  # n(h) by the context's number
    context_distinct: NDArray[np.int64]  # t(h)

    def numbers(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """Each key's number, _UNSEEN where the training text lacks it."""
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[place] == keys, place, _UNSEEN)


class WittenBell:
    """An n-gram model over the numbers 0 to V-1, trained when it is made.

    Parameters
    ----------
    tokens : array of int, shape (N,)
        The training text, at least ``order`` long.
    vocabulary_size : int
        V.
    order : int
        n: a character is predicted from the n-1 before it.

    Raises
    ------
    ValueError
        The order isn't positive, or the text is shorter than the order.

    Examples
    --------
    >>> import numpy as np
    >>> from recurray.language_model.ngram import WittenBell
    >>> model = WittenBell(np.array([0, 1, 0, 1, 0, 1, 2]), vocabulary_size=3, order=2)
    >>> model.probabilities([0]).round(3).tolist()  # 0 was followed by 1, three times of three
    [0.1, 0.85, 0.05]
    >>> float(model.probabilities([0]).sum())
    1.0
    """

    def __init__(self, tokens: Tokens, vocabulary_size: int, order: int) -> None:
        if order < 1 or len(tokens) < order:
            raise ValueError(f"an n-gram model needs an order of 1 to the text's length {len(tokens)}, got {order}")
        self.vocabulary_size, self.order = vocabulary_size, order
        self._levels: list[_Level] = []
        contexts = np.zeros(len(tokens), dtype=np.int64)  # the number of the (k-1)-gram before each character
        context_count = 1
        last = np.asarray(tokens, dtype=np.int64)
        for _ in range(order):
            keys, numbers, counts = np.unique(
                contexts * vocabulary_size + last, return_inverse=True, return_counts=True
            )
            followed = keys // vocabulary_size
            total = np.bincount(followed, weights=counts, minlength=context_count).astype(np.int64)
            distinct = np.bincount(followed, minlength=context_count)
            self._levels.append(_Level(keys, counts, total, distinct))
            # One character on, the k-gram that ended here is the context.
            contexts, last, context_count = numbers[:-1], last[1:], len(keys)

    def probabilities(self, context: Any) -> Probabilities:
        """Return the probability of each of the V numbers after ``context`` (any length; its end is used)."""
        context = list(context)
        followers = np.arange(self.vocabulary_size)
        p = np.full(self.vocabulary_size, 1.0 / self.vocabulary_size)
        for k, level in enumerate(self._levels):
            if k > len(context):
                break
            number = self._number(context[len(context) - k :])
            if number != _UNSEEN:
                found = level.numbers(number * self.vocabulary_size + followers)
                p = _interpolate(level, np.full_like(found, number), found, p)
        return p

    def bits(self, tokens: Tokens, before: Tokens | None = None) -> float:
        """Mean of -log2 p over ``tokens``, each predicted from what precedes it.

        Parameters
        ----------
        tokens : array of int, shape (N,)
            What is predicted.
        before : array of int, optional
            The text that ``tokens`` continues, as context of the first ones.
        """
        lead = np.zeros(0, dtype=np.int64) if before is None else np.asarray(before)[-self.order :]
        last = np.concatenate([lead, np.asarray(tokens, dtype=np.int64)])
        p = np.full(len(last), 1.0 / self.vocabulary_size)
        contexts = np.zeros(len(last), dtype=np.int64)
        for level in self._levels:
            seen = contexts != _UNSEEN
            found = np.where(seen, level.numbers(contexts * self.vocabulary_size + last), _UNSEEN)
            p[seen] = _interpolate(level, contexts[seen], found[seen], p[seen])
            contexts = np.concatenate([[_UNSEEN], found[:-1]])
        return float(-np.log2(p[len(lead) :]).mean())

    def _number(self, gram: list[int]) -> int:
        """The number of a k-gram, k = len(gram), _UNSEEN where the training text lacks it."""
        number = 0
        for level, token in zip(self._levels, gram, strict=False):
            number = int(level.numbers(np.asarray([number * self.vocabulary_size + token]))[0])
            if number == _UNSEEN:
                break
        return number


def _interpolate(
    level: _Level, contexts: NDArray[np.int64], found: NDArray[np.int64], shorter: Probabilities
) -> Probabilities:
    """The formula above, for one length of context, where ``shorter`` is p(c | h')."""
    count = np.where(found == _UNSEEN, 0, level.counts[found])
    total, distinct = level.context_total[contexts], level.context_distinct[contexts]
    followed = total > 0  # the end of the training text may never have been followed by anything
    return np.where(followed, (count + distinct * shorter) / np.maximum(1, total + distinct), shorter)
