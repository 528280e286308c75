"""The character language model: embedding, LSTM layers, and a score for every character that may come next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import recurray as rr
from recurray.language_model import checkpoint
from recurray.language_model.errors import CheckpointError
from recurray.language_model.settings import Settings
from recurray.language_model.text import Vocabulary

FORMAT = "character language model"
MODEL = "model."  # what the names of the model's arrays in a checkpoint begin with
LSTM = 1  # the place of the recurrent layers in the model


def build(settings: Settings, vocabulary_size: int, backend: Any = None) -> rr.Sequential:
    """Make the model with its start values: characters (B, T) to scores (B, T, V).

    Examples
    --------
    >>> from recurray.language_model.model import build
    >>> from recurray.language_model.settings import Settings
    >>> model = build(Settings(hidden_size=8, embedding_size=4), vocabulary_size=10, backend="numpy")
    >>> model.params["1.weight_hh_l0"].shape
    (32, 8)
    """
    backend = rr.get_backend(backend)
    seeds = [int(seed) for seed in np.random.SeedSequence(settings.seed).generate_state(4)]
    common: dict[str, Any] = {"backend": backend, "dtype": settings.dtype}
    size, hidden = settings.embedding_size, settings.hidden_size
    # Forget gates that begin open let the cell state, and its gradient, last from the first update on.
    between = settings.dropout if settings.layers > 1 else 0.0
    return rr.Sequential(
        rr.Embedding(vocabulary_size, size, seed=seeds[0], **common),
        rr.LSTM(size, hidden, settings.layers, dropout=between, forget_bias=1.0, seed=seeds[1], **common),
        rr.Dropout(settings.dropout, seed=seeds[2], **common),
        rr.Linear(hidden, vocabulary_size, seed=seeds[3], **common),
    )


@dataclass(frozen=True)
class Description:
    """What a checkpoint says of its model: enough to make the model again."""

    settings: Settings
    vocabulary: Vocabulary
    values: dict[str, Any]

    @classmethod
    def of(cls, path: str | Path, tensors: Mapping[str, Any], metadata: Mapping[str, Any]) -> Description:
        """Take the description out of a checkpoint's contents; ``path`` is for messages.

        Raises
        ------
        CheckpointError
            The contents aren't those of a character language model, don't fit each other, or aren't finite.
        """
        if metadata.get("format") != FORMAT:
            raise CheckpointError(f"{path} isn't a checkpoint of a {FORMAT}")
        try:
            settings = Settings.from_mapping(metadata["settings"])
            vocabulary = Vocabulary(metadata["vocabulary"])
            values = {name.removeprefix(MODEL): value for name, value in tensors.items() if name.startswith(MODEL)}
            _check_params(settings, len(vocabulary), values)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} doesn't describe a model: {error}") from error
        return cls(settings, vocabulary, values)


def load(path: str | Path, backend: Any = None) -> tuple[rr.Sequential, Vocabulary]:
    """Read a trained model and its vocabulary from the checkpoint ``path``.

    Raises
    ------
    CheckpointError
        The file can't be read, is damaged, or holds something else.
    """
    description = Description.of(path, *checkpoint.load(path))
    model = build(description.settings, len(description.vocabulary), backend)
    try:
        model.load_state_dict(description.values)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path} doesn't hold the model it describes: {error}") from error
    return model, description.vocabulary


def shapes(settings: Settings, vocabulary_size: int) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of the params that `build` would make, without making them.

    Examples
    --------
    >>> from recurray.language_model.model import shapes
    >>> from recurray.language_model.settings import Settings
    >>> shapes(Settings(hidden_size=8, embedding_size=4), vocabulary_size=10)["1.weight_ih_l0"]
    (32, 4)
    """
    size, hidden = settings.embedding_size, settings.hidden_size
    found: dict[str, tuple[int, ...]] = {"0.weight": (vocabulary_size, size)}
    for layer in range(settings.layers):
        found[f"1.weight_ih_l{layer}"] = (4 * hidden, size if layer == 0 else hidden)
        found[f"1.weight_hh_l{layer}"] = (4 * hidden, hidden)
        found[f"1.bias_ih_l{layer}"] = found[f"1.bias_hh_l{layer}"] = (4 * hidden,)
    return found | {"3.weight": (vocabulary_size, hidden), "3.bias": (vocabulary_size,)}


def not_finite(arrays: Mapping[str, Any]) -> str | None:
    """Return the name of the first array that has an infinity or NaN, None if there is none."""
    return next((name for name, value in arrays.items() if not np.isfinite(value).all()), None)


def _check_params(settings: Settings, vocabulary_size: int, values: Mapping[str, Any]) -> None:
    """Compare the settings with the arrays in the file, before a model is made that may take any amount of memory."""
    expected = shapes(settings, vocabulary_size)
    if set(values) != set(expected):
        raise ValueError(f"it has other params than its settings say: {', '.join(sorted(set(values) ^ set(expected)))}")
    for name, shape in expected.items():
        value = values[name]
        if value.shape != shape or value.dtype.name != settings.dtype:
            raise ValueError(
                f"{name}: the settings say {shape}, {settings.dtype}; the file has {value.shape}, {value.dtype}"
            )
    if (name_not_finite := not_finite(values)) is not None:
        raise ValueError(f"the param {name_not_finite} isn't finite")
