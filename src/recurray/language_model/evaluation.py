"""How well a model predicts the held-out part of its text."""

from __future__ import annotations

import math

import numpy as np

import recurray as rr
from recurray.language_model.text import Corpus

_STREAMS = 32  # pieces of the held-out text that are read side by side
_WARM_UP = 128  # characters that are read before the first one of a piece is predicted
_CHUNK = 256  # characters at a time, which bounds the memory


def held_out_bits(model: rr.Sequential, corpus: Corpus, characters: int | None = None) -> float:
    """Bits per held-out character: the mean of -log2 of the probability that the model gave to each.

    For speed the held-out text is read as pieces side by side. State is carried through each piece, and each is begun
    `_WARM_UP` characters early (the first one in the training text), so that every character is predicted exactly
    once and with what precedes it known.

    Parameters
    ----------
    model : Sequential
        A character language model.
    corpus : Corpus
        Its text.
    characters : int, optional
        Measure on about so many characters, spread evenly over the held-out text; on all of it if omitted.

    Examples
    --------
    >>> from recurray.language_model.evaluation import held_out_bits
    >>> from recurray.language_model.model import build
    >>> from recurray.language_model.settings import Settings
    >>> from recurray.language_model.text import Corpus
    >>> corpus = Corpus.of("abcd" * 25)
    >>> model = build(Settings(hidden_size=8, embedding_size=4), vocabulary_size=4, backend="numpy")
    >>> 1.5 < held_out_bits(model, corpus) < 3  # untrained: about the 2 bits of an even guess
    True
    """
    backend = model.backend
    total = len(corpus.tokens)
    held = len(corpus.held_out)
    length = math.ceil(held / _STREAMS)  # of a piece; the last may be shorter
    streams = math.ceil(held / length)
    wanted = length if characters is None else min(length, math.ceil(characters / streams))
    starts = corpus.cut + length * np.arange(streams)[:, None]  # (B, 1) where each piece's first character stands
    warm_up = min(_WARM_UP, corpus.cut - 1)

    state = None
    if warm_up:
        _, state = model(backend.asarray(corpus.tokens[starts - 1 - np.arange(warm_up, 0, -1)]), state)
    nats, count = 0.0, 0
    for begin in range(0, wanted, _CHUNK):
        places = starts + np.arange(begin, min(begin + _CHUNK, wanted))  # (B, T)
        counts = places < total
        places = np.minimum(places, total - 1)
        logits, state = model(backend.asarray(corpus.tokens[places - 1]), state)
        value, _ = rr.losses.cross_entropy(
            logits, backend.asarray(corpus.tokens[places]), "sum", mask=backend.asarray(counts)
        )
        nats += float(value)
        count += int(counts.sum())
    return nats / count / math.log(2)
