"""The model of a forecaster, its loss and its training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from recurray import layers, optim
from recurray.arrays import Array, device_of, namespace_of
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
    """A recurrent layer over window and horizon, and a value for each quantile at every step."""
    options: dict[str, Any] = {"backend": backend, "seed": seed}
    if layer != "DiagonalLSTM":
        options |= {"num_layers": num_layers, "dropout": dropout}
    recurrent = getattr(layers, layer)(features, hidden_size, **options)
    return layers.Sequential(recurrent, layers.Linear(hidden_size, outputs, backend=backend, seed=seed + 1))


def pinball(levels: Sequence[float]) -> Callable[..., tuple[Array, Array]]:
    """Return the pinball loss of a column for each level, as training takes it.

    Koenker and Bassett, Regression Quantiles (1978): max(q d, (q - 1) d) with d = target - prediction, which is least
    in mean where the prediction is the quantile of the level q.
    """

    def loss(prediction: Array, target: Array, mask: Array | None = None) -> tuple[Array, Array]:
        """Loss and gradient of (B, T, levels), of a target (B, T, 1) and of the steps that count (B, T)."""
        xp = namespace_of(prediction)
        q = xp.asarray(list(levels), dtype=prediction.dtype, device=device_of(prediction))
        counts = xp.ones_like(prediction)
        if mask is not None:
            counts = counts * xp.astype(mask, prediction.dtype)[..., None]
        share = counts / xp.maximum(xp.sum(counts), xp.ones_like(xp.sum(counts)))
        d = target - prediction
        slope = xp.where(d > 0, -q, 1 - q)
        return xp.sum(-slope * d * share), slope * share

    return loss


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
        pinball(levels),
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
