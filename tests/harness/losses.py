"""The losses with their options, and what they are given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from recurray import losses

OF_TORCH = {"class_weights": "weight", "positive_weight": "pos_weight"}
WEIGHTS = ("weight", "pos_weight")


@dataclass(frozen=True)
class Loss:
    """A loss, how to draw inputs for it, and its name in torch.nn.functional, or a function of tensors."""

    loss: Callable[..., Any]
    torch_name: str | Callable[..., Any]
    kind: str  # of the inputs
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def by_class(self) -> bool:
        return self.kind in ("classes", "class probabilities", "log-probabilities")

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Return a prediction and a target; where there are classes, 4 of them on a further axis."""
        if self.by_class:
            prediction = 3 * rng.standard_normal((*shape, 4))
            if self.kind == "log-probabilities":
                prediction -= np.log(np.sum(np.exp(prediction), axis=-1, keepdims=True))
            if self.kind == "class probabilities":
                target = rng.random((*shape, 4))
                return prediction, target / target.sum(axis=-1, keepdims=True)
            return prediction, rng.integers(0, 4, shape)
        if self.kind == "probability":
            return rng.uniform(0.05, 0.95, shape), rng.random(shape)
        if self.kind == "logit":
            return 3 * rng.standard_normal(shape), rng.random(shape)
        return 3 * rng.standard_normal(shape), rng.standard_normal(shape)

    def __call__(self, prediction: Any, target: Any, reduction: str = "mean", **more: Any) -> tuple[Any, Any]:
        return self.loss(prediction, target, reduction, **dict(self.options), **more)

    def torch(self, prediction: Any, target: Any, reduction: str) -> Any:
        import torch

        options = {OF_TORCH.get(name, name): value for name, value in self.options if name != "from_logits"}
        if callable(self.torch_name):
            value = self.torch_name(prediction, target, **options)
            return value if reduction == "none" else getattr(value, reduction)()
        options = {k: torch.asarray(v, dtype=torch.float64) if k in WEIGHTS else v for k, v in options.items()}
        return getattr(torch.nn.functional, self.torch_name)(prediction, target, reduction=reduction, **options)


def pinball(prediction: Any, target: Any, quantiles: float) -> Any:
    """The formula, on tensors."""
    error = target - prediction
    return quantiles * error.clamp(min=0) + (1 - quantiles) * (-error).clamp(min=0)


LOSSES = {
    "mse": Loss(losses.mse, "mse_loss", "number"),
    "mae": Loss(losses.mae, "l1_loss", "number"),
    "huber": Loss(losses.huber, "huber_loss", "number"),
    "huber 0.3": Loss(losses.huber, "huber_loss", "number", (("delta", 0.3),)),
    "huber 5": Loss(losses.huber, "huber_loss", "number", (("delta", 5.0),)),
    "bce": Loss(losses.binary_cross_entropy, "binary_cross_entropy", "probability"),
    "bce logits": Loss(
        losses.binary_cross_entropy, "binary_cross_entropy_with_logits", "logit", (("from_logits", True),)
    ),
    "cross entropy": Loss(losses.cross_entropy, "cross_entropy", "classes"),
    "cross entropy soft": Loss(losses.cross_entropy, "cross_entropy", "class probabilities"),
    "nll": Loss(losses.nll, "nll_loss", "log-probabilities"),
    "quantile 0.9": Loss(losses.quantile, pinball, "number", (("quantiles", 0.9),)),
    "bce logits 3": Loss(
        losses.binary_cross_entropy,
        "binary_cross_entropy_with_logits",
        "logit",
        (("from_logits", True), ("positive_weight", 3.0)),
    ),
    "cross entropy smooth": Loss(losses.cross_entropy, "cross_entropy", "classes", (("label_smoothing", 0.3),)),
    "cross entropy weights": Loss(
        losses.cross_entropy, "cross_entropy", "classes", (("class_weights", (0.5, 2.0, 0.3, 1.0)),)
    ),
    "cross entropy both": Loss(
        losses.cross_entropy,
        "cross_entropy",
        "classes",
        (("class_weights", (0.5, 2.0, 0.3, 1.0)), ("label_smoothing", 0.3)),
    ),
    "cross entropy soft both": Loss(
        losses.cross_entropy,
        "cross_entropy",
        "class probabilities",
        (("class_weights", (0.5, 2.0, 0.3, 1.0)), ("label_smoothing", 0.3)),
    ),
    "nll weights": Loss(losses.nll, "nll_loss", "log-probabilities", (("class_weights", (0.5, 2.0, 0.3, 1.0)),)),
}
