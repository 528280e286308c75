"""One update: forward, loss, backward, clipping, and the optimizer's step.

B rows, T steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from recurray import losses, optim
from recurray.arrays import Array, is_tracer, namespace_of, on_host, to_numpy
from recurray.backend import Backend
from recurray.messages import in_words
from recurray.training.batch import BY_STEP, Batch
from recurray.training.pieces import Piece

Loss = Callable[..., tuple[Any, Any]]
Grads = dict[str, Array]


class Learned(NamedTuple):
    """What a piece, or several as one, say of the params."""

    value: Any  # the loss, a mean over what counts
    grads: Grads
    weight: float  # how many rows or steps count
    metrics: Mapping[str, Any]  # means too
    state: Any = None  # to go on with


class Model:
    """A model as training sees it: called, run forward and backward, with what batches have."""

    def __init__(self, model: Any, loss: Loss, metrics: Mapping[str, Callable[..., Any]]) -> None:
        self.model, self.loss, self.metrics = model, loss, metrics
        self.batch_first = getattr(model, "batch_first", True) is not False
        self.backend, self._dtype = model.backend, getattr(model, "dtype", None)
        known = self._dtype in ("float32", "float64") and self.backend.owns(np.empty(0, self._dtype))
        self._taken_as_is = (np.dtype(self._dtype),) if known else ()  # dtypes of arrays of NumPy

    def carried(self, piece: Piece, state: Any) -> Any:
        """The state after a piece that only warms up."""
        x, options, _ = self._input(piece.batch)
        return self.model(x, state, piece.batch.lengths, **options)[1]

    def evaluated(self, piece: Piece, state: Any) -> tuple[Any, dict[str, Any], float, Any]:
        """The loss, the metrics, how much counts, and the state after a piece, without training."""
        batch = piece.batch
        x, options, valid = self._input(batch)
        prediction, state = self.model(x, state, batch.lengths, **options)
        target, mask, weight = self._target(batch, prediction, valid)
        value, _ = self._loss(prediction, target, mask)
        return value, self._metrics(prediction, target, mask), weight, state

    def learned(self, piece: Piece, state: Any, rng: Any) -> Learned:
        """The loss and its gradients."""
        batch = piece.batch
        x, options, valid = self._input(batch)
        prediction, state, cache = self.model.forward(x, state, batch.lengths, rng=rng, **options)
        target, mask, weight = self._target(batch, prediction, valid)
        value, dy = self._loss(prediction, target, mask)
        _, _, grads = self.model.backward(cache, dy)
        return Learned(value, grads, weight, self._metrics(prediction, target, mask), state)

    def nothing(self, state: Any) -> Learned:
        """What no rows say of the params."""
        params = self.model.params.items()
        grads = {name: namespace_of(value).zeros_like(value) for name, value in params}
        return Learned(0.0, grads, 0.0, dict.fromkeys(self.metrics, 0.0), state)

    def _input(self, batch: Batch) -> tuple[Array, dict[str, Any], Any]:
        options: dict[str, Any] = {name: getattr(batch, name) for name in BY_STEP if getattr(batch, name) is not None}
        if batch.static is not None:
            options["static"] = self._floats(batch.static)
        valid = batch.mask
        if batch.lengths is not None:
            steps = batch.x.shape[1 if self.batch_first else 0]
            valid = np.arange(steps) < batch.lengths[:, None]
            valid = valid if self.batch_first else valid.T
        return self._floats(batch.x), options, valid

    def _floats(self, value: Any) -> Array:
        """On the model's backend; floats of the host in its precision, so that no one copies them twice."""
        if isinstance(value, np.ndarray):
            if value.dtype in self._taken_as_is:
                return value
            return self.backend.asarray(value, self._dtype if value.dtype.kind == "f" else None)
        return value if self.backend.owns(value) else self.backend.asarray(to_numpy(value))

    def _target(self, batch: Batch, prediction: Array, valid: Any) -> tuple[Array, Any, float]:
        """The target, which elements of the loss count, and how many rows or steps that are."""
        target, mask = self._floats(batch.target), batch.target_mask
        shape = prediction.shape
        by_step = len(shape) > 2 and target.shape[:2] == shape[:2] == batch.x.shape[:2]
        if by_step and valid is not None:
            mask = valid if mask is None else mask & valid.reshape(valid.shape + (1,) * (mask.ndim - valid.ndim))
        if mask is None:
            return target, None, float(math.prod(shape[: 2 if by_step else 1]))
        weight = float(mask.sum()) / math.prod(mask.shape[2 if by_step else 1 :])
        return target, self.backend.asarray(np.ascontiguousarray(mask)), weight

    def _loss(self, prediction: Array, target: Array, mask: Any) -> tuple[Any, Any]:
        try:
            return self.loss(prediction, target) if mask is None else self.loss(prediction, target, mask=mask)
        except (TypeError, ValueError) as error:
            hint = _hint(self.loss, prediction, target)
            raise type(error)(
                f"the loss refuses a prediction {in_words(prediction.shape)} with a target {in_words(target.shape)} of "
                f"{target.dtype}{hint}: {error}"
            ) from error

    def _metrics(self, prediction: Array, target: Array, mask: Any) -> dict[str, Any]:
        if not self.metrics:
            return {}
        which = {} if mask is None else {"mask": mask}
        return {name: metric(prediction, target, **which) for name, metric in self.metrics.items()}


def _hint(loss: Loss, prediction: Array, target: Array) -> str:
    """What may be meant by integers that a loss of recurray's refuses."""
    name = getattr(loss, "__name__", "")
    if "int" not in str(target.dtype) or loss is not getattr(losses, name, None):
        return ""
    if loss not in (losses.cross_entropy, losses.nll):
        return f" ({name} wants numbers of the prediction's shape and dtype; classes are for cross_entropy)"
    one_hot = tuple(prediction.shape) == tuple(target.shape)
    return " (where it is one-hot, give the classes themselves, target.argmax(-1))" if one_hot else ""


def accuracy(prediction: Array, target: Array, mask: Any = None) -> float:
    """The share of rows or steps whose largest value is that of their class."""
    prediction, target = to_numpy(prediction), to_numpy(target)
    classes = target if target.ndim < prediction.ndim else target.argmax(-1)
    if prediction.shape == target.shape and prediction.shape[-1] == 1:
        right = ((prediction > 0) == (target > 0.5))[..., 0]
    else:
        right = prediction.argmax(-1) == classes
    if mask is not None:
        right = right[to_numpy(mask)]
    return float(right.mean()) if right.size else 0.0


def joined(parts: Sequence[Learned]) -> Learned:
    """What several pieces say, as one: means by what counts in each."""
    if len(parts) == 1:
        return parts[0]
    total = sum(part.weight for part in parts)
    shares = [part.weight / total if total else 0.0 for part in parts]
    value = sum(part.value * share for part, share in zip(parts, shares, strict=True))
    metrics = {
        name: sum(part.metrics[name] * share for part, share in zip(parts, shares, strict=True))
        for name in parts[0].metrics
    }
    grads = {name: grad * shares[0] for name, grad in parts[0].grads.items()}
    for part, share in zip(parts[1:], shares[1:], strict=True):
        for name, grad in part.grads.items():
            grads[name] = grads[name] + grad * share
    return Learned(value, grads, total, metrics)


def clipped(grads: Grads, backend: Backend, clip_norm: float | None, clip_value: float | None) -> tuple[Grads, Any]:
    """Gradients within the limits, and their norm before."""
    if clip_norm is not None and clip_value is None:
        return optim.clip_grad_norm(grads, clip_norm)
    norm = backend.norm(list(grads.values()))
    if clip_value is not None:
        grads = optim.clip_grad_value(grads, clip_value)
    return (grads if clip_norm is None else optim.clip_grad_norm(grads, clip_norm)[0]), norm


def not_finite(grads: Mapping[str, Array]) -> str | None:
    """The name of a gradient or param that holds NaN or infinity; None if all are finite."""
    for name, value in grads.items():
        if not np.isfinite(to_numpy(value)).all():
            return name
    return None


def known_at_once(value: Any) -> bool:
    """Whether looking at a number makes nobody wait for a device."""
    return isinstance(value, (float, np.generic, np.ndarray)) or (on_host(value) and not is_tracer(value))
