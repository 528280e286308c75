"""What the defaults reach on data that people know."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.needs import need, needs

need("sklearn")

from sklearn.datasets import load_digits  # noqa: E402 - where it is here
from sklearn.model_selection import train_test_split  # noqa: E402

from recurray.sklearn import LSTMClassifier  # noqa: E402

pytestmark = pytest.mark.slow


def japanese_vowels(part: str) -> tuple[list[Any], Any]:
    """Utterances (steps, 12) and their speakers, as the package aeon has them."""
    spec = find_spec("aeon")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "datasets" / "data" / "JapaneseVowels" / f"JapaneseVowels_{part}.ts"
    utterances, speakers = [], []
    for line in path.read_text(encoding="utf-8").partition("@data\n")[2].splitlines():
        *channels, speaker = line.split(":")
        utterances.append(np.array([channel.split(",") for channel in channels], dtype="float64").T)
        speakers.append(speaker)
    return utterances, np.array(speakers)


@needs("aeon")
def test_japanese_vowels() -> None:
    """270 utterances of nine speakers, 7 to 26 steps, to learn from, 370 to be told who speaks."""
    X, y = japanese_vowels("TRAIN")
    X_test, y_test = japanese_vowels("TEST")
    assert (len(X), len(X_test)) == (270, 370)
    assert len({len(row) for row in X}) > 10
    scores = [LSTMClassifier(random_state=seed).fit(X, y).score(X_test, y_test) for seed in range(5)]
    assert np.mean(scores) >= 0.96, scores


def test_digits_read_row_by_row() -> None:
    """8 steps of 8 pixels."""
    digits = load_digits()
    X, X_test, y, y_test = train_test_split(digits.images, digits.target, stratify=digits.target, random_state=0)
    assert LSTMClassifier(epochs=25, random_state=0).fit(X, y).score(X_test, y_test) >= 0.96
