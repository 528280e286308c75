"""What the defaults reach on data that people know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.needs import need

need("sklearn")

from sklearn.datasets import load_digits  # noqa: E402 - where it is here
from sklearn.model_selection import train_test_split  # noqa: E402

from recurray.sklearn import LSTMClassifier  # noqa: E402

pytestmark = pytest.mark.slow
DATA = Path(__file__).resolve().parents[3] / "examples" / "data" / "japanese_vowels.npz"


def japanese_vowels(part: str) -> tuple[list[Any], Any]:
    """Utterances (steps, 12) and their speakers."""
    with np.load(DATA) as file:
        steps, lengths = file[f"{part}_frames"] / np.float32(1000), file[f"{part}_lengths"].astype(int)
        return np.split(steps, lengths.cumsum()[:-1]), file[f"{part}_speakers"]


def test_japanese_vowels() -> None:
    """270 utterances of nine speakers, 7 to 29 steps, to learn from, 370 to be told who speaks."""
    X, y = japanese_vowels("train")
    X_test, y_test = japanese_vowels("test")
    assert (len(X), len(X_test)) == (270, 370)
    assert len({len(row) for row in X}) > 10
    scores = [LSTMClassifier(random_state=seed).fit(X, y).score(X_test, y_test) for seed in range(5)]
    assert np.mean(scores) >= 0.96, scores


def test_digits_read_row_by_row() -> None:
    """8 steps of 8 pixels."""
    digits = load_digits()
    X, X_test, y, y_test = train_test_split(digits.images, digits.target, stratify=digits.target, random_state=0)
    assert LSTMClassifier(epochs=25, random_state=0).fit(X, y).score(X_test, y_test) >= 0.96
