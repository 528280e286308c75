"""The model of a forecaster, and its training."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurray import layers, losses, optim
from recurray.arrays import to_numpy
from recurray.backend import Backend
from recurray.forecast.windows import Batches
from recurray.training import History, fit

LAYERS = ("LSTM", "GRU", "RNN", "DiagonalLSTM")


def made(
    layer: str,
    features: int,
    hidden_size: int,
    num_layers: int,
    dropout: float,
    outputs: int,
    backend: Backend,
    seed: int,
) -> Any:
    """A recurrent layer over window and horizon, and a value for each quantile at every step, 0 before training."""
    options: dict[str, Any] = {"backend": backend, "seed": seed}
    if layer != "DiagonalLSTM":
        options |= {"num_layers": num_layers, "dropout": dropout}
    recurrent = getattr(layers, layer)(features, hidden_size, **options)
    zeros = {"weight": np.zeros((outputs, hidden_size), "float32"), "bias": np.zeros(outputs, "float32")}
    return layers.Sequential(recurrent, layers.Linear(hidden_size, outputs, backend=backend, params=zeros))


def learn(
    model: Any,
    levels: Sequence[float],
    training: Batches,
    validation: Batches,
    *,
    epochs: int,
    lr: float,
    patience: int | None,
    clip_norm: float | None,
    seed: int,
    progress: bool,
) -> History:
    """Train on windows, until others are forecast no better; without such for all epochs."""
    watched = len(validation) > 0
    return fit(
        model,
        partial(losses.quantile, quantiles=tuple(levels)),
        optim.Adam(model.params, lr=lr),
        training.shuffled,
        epochs=epochs,
        validation=validation if watched else None,
        patience=patience if watched else None,
        restore_best=watched,
        clip_norm=clip_norm,
        seed=seed,
        progress=progress,
    )


def say(model: Any, x: NDArray[Any], window: int) -> NDArray[np.float64]:
    """What the model says of the steps after the window: (rows, N, quantiles), none of them crossing."""
    y, _ = model(model.backend.asarray(x, "float32"))
    return np.sort(to_numpy(y)[:, window:].astype(np.float64), axis=-1)
