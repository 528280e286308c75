"""What the estimators share: training through `recurray.fit`, and what the network gives for sequences.

N rows, T steps, F features, K outputs.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_is_fitted

from recurray import checks, optim
from recurray.arrays import Array, namespace_of
from recurray.messages import in_words
from recurray.selector import get_backend
from recurray.sklearn import network
from recurray.sklearn.scaler import SequenceScaler
from recurray.sklearn.sequences import Sequences, check_rows, numbers, read, shape_of
from recurray.training import fit

Loss = Callable[..., tuple[Array, Array]]
LARGEST_SEED = 2**31 - 1
ROWS_AT_ONCE = 256  # in inference, at least


def parameters(given: dict[str, Any]) -> dict[str, Any]:
    """What a constructor was given, of its ``locals()``."""
    return {name: value for name, value in given.items() if name not in ("self", "__class__")}


class Estimator(BaseEstimator):  # type: ignore[misc]
    """A recurrent network with scikit-learn's methods; subclasses say what targets are, and what is made of outputs."""

    layer: Any
    hidden_size: int
    num_layers: int
    bidirectional: bool
    dropout: float
    pooling: str
    layer_options: Any
    scale: bool
    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    clip_norm: float | None
    validation: float | None
    patience: int | None
    random_state: Any
    backend: Any
    dtype: Any
    verbose: bool

    @abstractmethod
    def _loss(self) -> Loss:
        """The loss, of `recurray.losses` or like these."""

    def _start(self, sequences: Sequences, outputs: int, *, by_step: bool) -> None:
        """Make everything anew: the scaling, the network, the optimizer."""
        checks.flag("scale", self.scale)
        seeds = check_random_state(self.random_state).randint(LARGEST_SEED, size=5).tolist()
        model = network.make(self, sequences.features, outputs, by_step=by_step, seeds=seeds[:3])
        optimizer = optim.AdamW(model.params, lr=self.lr, weight_decay=self.weight_decay)
        self.scaler_ = SequenceScaler().fit(sequences.rows) if self.scale else None
        self._by_step, self._reads = by_step, sequences.features
        self._split_seed = seeds[3]
        self._orders = np.random.default_rng(seeds[4])  # a seed for each call of fit
        self.model_, self.optimizer_ = model, optimizer

    def _train(
        self, sequences: Sequences, target: Any, weights: Any, *, classes: Any = None, once: bool = False
    ) -> None:
        """Train for all epochs, or ``once``.

        Parameters
        ----------
        sequences : Sequences
        target : array or list of arrays
            One for each row.
        weights : array, shape (N,), or None
        classes : array, shape (N,), optional
            What the share for validation is stratified by.
        once : bool
            For one epoch over all rows.
        """
        loss = self._loss()
        if weights is not None:
            loss, target = _weighted(loss), _with_weights(target, weights / weights.mean())
        rows, held = np.arange(len(sequences)), None
        if self.validation is not None and not once:
            share = checks.number("validation", self.validation)
            if not 0 < share < 1:
                raise ValueError(f"validation must be None or a share of the rows between 0 and 1, not {share!r}")
            try:
                rows, own = train_test_split(rows, test_size=share, random_state=self._split_seed, stratify=classes)
            except ValueError as error:
                raise ValueError(f"validation={share!r} can't be held out of {len(rows)} rows: {error}") from error
            held = self._data(sequences, target, own)
        self.history_ = fit(
            self.model_,
            loss,
            self.optimizer_,
            self._data(sequences, target, rows),
            epochs=1 if once else checks.size("epochs", self.epochs),
            batch_size=checks.size("batch_size", self.batch_size),
            validation=held,
            clip_norm=self.clip_norm,
            patience=None if once else self.patience,
            seed=int(self._orders.integers(LARGEST_SEED)),
            progress=checks.flag("verbose", self.verbose),
        )

    def _data(self, sequences: Sequences, target: Any, rows: Any) -> tuple[Any, Any]:
        return self._input(sequences.take(rows)), [target[row] for row in rows] if isinstance(target, list) else target[
            rows
        ]

    def _input(self, sequences: Sequences) -> Any:
        """What the network takes: scaled, in its precision."""
        if sequences.features != self._reads:  # noted by a call of fit that failed
            raise ValueError(
                f"X has {sequences.features} features a step, but the network was trained with {self._reads}: call fit"
            )
        if sequences.ragged:
            return [self._converted(row) for row in sequences.rows]
        return self._converted(sequences.rows)

    def _converted(self, rows: Any) -> Any:
        rows = rows if self.scaler_ is None else self.scaler_._scaled(rows)
        if rows.dtype.name == "float64" and self.model_.dtype == "float32":
            largest = np.abs(rows).max(initial=0.0)
            if largest > checks.FLOAT32_MAX:
                raise ValueError(f"X has {largest:g}, which is too large for float32: scale X, or say dtype='float64'")
        return rows.astype(self.model_.dtype, copy=False)

    def _outputs(self, X: Any) -> Any:
        """What the network gives: (N, K), or with an output for each step (N, T, K) or a list of (T, K); float64."""
        check_is_fitted(self, "model_")
        sequences = read(self, X, reset=False)
        size = max(self.batch_size, ROWS_AT_ONCE)
        order = np.argsort(sequences.lengths, kind="stable")  # so that little is padded
        found: list[Any] = [None] * len(order)
        backend = self.model_.backend
        for begin in range(0, len(order), size):
            rows = order[begin : begin + size]
            x, lengths = self._input(sequences.take(rows)), None
            if sequences.ragged:
                lengths = [len(row) for row in x]
                padded = np.zeros((len(x), max(lengths), sequences.features), x[0].dtype)
                for place, row in enumerate(x):
                    padded[place, : len(row)] = row
                x = padded
            y, _ = self.model_(backend.asarray(x), lengths=lengths)
            for place, row, output in zip(range(len(rows)), rows, backend.to_numpy(y), strict=True):
                found[row] = output[: lengths[place]] if self._by_step and lengths is not None else output
        return (
            [row.astype("float64") for row in found]
            if self._by_step and sequences.ragged
            else np.stack(found).astype("float64")
        )

    def __getstate__(self) -> Any:
        state = super().__getstate__()
        if isinstance(state["backend"], ModuleType):  # an array library, which can't be pickled
            return state | {"backend": get_backend(state["backend"])}
        return state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


def check_weights(sample_weight: Any, sequences: Sequences) -> Any:
    """Check the rows' weights; None if there are none."""
    if sample_weight is None:
        return None
    if not shape_of(sample_weight):
        return np.full(len(sequences), checks.finite("sample_weight", sample_weight))
    with numbers():
        weights = check_array(sample_weight, ensure_2d=False, dtype="float64", input_name="sample_weight", copy=True)
    if weights.ndim != 1:
        raise ValueError(
            f"sample_weight must be 1D array or scalar, a weight for each row, not {in_words(weights.shape)}"
        )
    check_rows(sequences, "sample_weight", len(weights))
    if weights.min() < 0 or not weights.any():
        raise ValueError("Sample weights must not be negative, and not all be zero")
    return weights


# A loss of weighted rows ----------------------------------------------------------------------------------------------


def _with_weights(target: Any, weights: Any) -> Any:
    """Targets with the rows' weights as one more column, floating-point numbers."""
    if isinstance(target, list):
        return [_with_weights(row, np.full(len(row), weight)) for row, weight in zip(target, weights, strict=True)]
    target = target[..., None] if target.ndim == 1 else target
    shape = target.shape[:-1]
    column = np.broadcast_to(weights.reshape(weights.shape + (1,) * (len(shape) - 1)), shape)
    return np.concatenate([target, column[..., None]], axis=-1)


def _weighted(loss: Loss) -> Loss:
    """A loss whose targets end with their row's weight: the mean of weight times loss."""

    def mean(prediction: Array, target: Array, mask: Array | None = None) -> tuple[Array, Array]:
        xp = namespace_of(prediction)
        weight = xp.astype(target[..., -1], prediction.dtype)
        target = target[..., :-1]
        values, gradient = loss(prediction, target, "none", mask=mask)
        count = (
            math.prod(values.shape)
            if mask is None
            else xp.sum(xp.astype(mask, values.dtype)) * math.prod(values.shape[2:])
        )
        spread = [xp.reshape(weight, tuple(weight.shape) + (1,) * (a.ndim - weight.ndim)) for a in (values, gradient)]
        return xp.sum(values * spread[0]) / count, gradient * spread[1] / count

    return mean
