"""Text from a trained model, character by character."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

import recurray as rr
from recurray.language_model.text import Vocabulary


def sample(
    model: rr.Sequential,
    vocabulary: Vocabulary,
    prompt: str,
    length: int,
    temperature: float = 1.0,
    rng: np.random.Generator | None = None,
) -> Iterator[str]:
    """Continue ``prompt`` by ``length`` characters, yielding each as it is drawn.

    Parameters
    ----------
    model : Sequential
        A character language model.
    vocabulary : Vocabulary
        Its characters.
    prompt : str
        What the model reads first. If it is empty, the model begins as if after a line end (or, where its
        vocabulary has none, after the vocabulary's first character).
    length : int
        How many characters to draw.
    temperature : float
        What the scores are divided by: below 1 the text becomes more regular, above 1 more surprising; at 0 the
        most probable character is always taken.
    rng : numpy.random.Generator, optional
        Where the draws come from; a fresh generator if omitted.

    Raises
    ------
    ValueError
        The prompt has characters that aren't in the vocabulary, or the length or temperature is negative.

    Examples
    --------
    >>> import numpy as np
    >>> from recurray.language_model.model import build
    >>> from recurray.language_model.sampling import sample
    >>> from recurray.language_model.settings import Settings
    >>> from recurray.language_model.text import Vocabulary
    >>> model = build(Settings(hidden_size=8, embedding_size=4), vocabulary_size=3, backend="numpy")
    >>> text = "".join(sample(model, Vocabulary("abc"), "ab", length=5, rng=np.random.default_rng(0)))
    >>> len(text), set(text) <= set("abc")
    (5, True)
    """
    if length < 0:
        raise ValueError(f"expected a length of at least 0, got {length}")
    if not (math.isfinite(temperature) and temperature >= 0):
        raise ValueError(f"expected a temperature of at least 0, got {temperature}")
    read = vocabulary.encode(prompt)
    if not prompt:
        read = vocabulary.encode("\n" if "\n" in vocabulary.characters else vocabulary.characters[0])
    return _continue(model, vocabulary, read, length, temperature, rng or np.random.default_rng())


def _continue(
    model: rr.Sequential,
    vocabulary: Vocabulary,
    read: Any,
    length: int,
    temperature: float,
    rng: np.random.Generator,
) -> Iterator[str]:
    state = None
    for _ in range(length):
        scores, state = model(model.backend.asarray(read[None, :]), state)  # (1, T, V)
        last = np.asarray(model.backend.to_numpy(scores[0, -1, :]), dtype=np.float64)
        number = _draw(last, temperature, rng)
        yield vocabulary.decode([number])
        read = np.asarray([number])


def _draw(scores: Any, temperature: float, rng: np.random.Generator) -> int:
    if temperature == 0:
        return int(np.argmax(scores))
    with np.errstate(over="ignore", under="ignore"):  # a tiny temperature sends all but the best to -inf: as it should
        weights = np.exp((scores - scores.max()) / temperature)
    sums = np.cumsum(weights)
    # Rounding may carry the product up to the last sum itself.
    return min(int(np.searchsorted(sums, rng.random() * sums[-1], side="right")), len(sums) - 1)


def repeated(text: str) -> str | None:
    """Return what ``text`` ends in four times or more, over at least 20 characters; None if in nothing.

    Examples
    --------
    >>> from recurray.language_model.sampling import repeated
    >>> repeated("now and the same and the same and the same and the same")
    ' and the same'
    >>> repeated("the end") is None
    True
    """
    for length in range(1, len(text) // 4 + 1):
        count = max(4, math.ceil(20 / length))
        if text.endswith(text[len(text) - length :] * count):
            return text[len(text) - length :]
    return None
