"""A regressor of sequences."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score

from recurray import checks, losses
from recurray.sklearn.estimator import Estimator, Loss, check_weights, parameters
from recurray.sklearn.sequences import Sequences, numbers, read
from recurray.sklearn.targets import Targets, read_targets

LOSSES = ("mse", "mae", "huber")


class LSTMRegressor(RegressorMixin, Estimator):  # type: ignore[misc]
    """A recurrent network that gives each sequence, or each of its steps, one or more numbers.

    What targets are is seen from their form:

    - (rows,) or (rows, outputs): numbers for each row;
    - (rows, steps, outputs), or a list of arrays (steps,) or (steps, outputs): numbers for each step, from that step
      and those before (with ``bidirectional=True`` those after it too).

    Targets are standardised within, and predictions brought back.

    Parameters
    ----------
    loss : {"mse", "mae", "huber"}
        Of `recurray.losses`, of standardised targets.
    layer, hidden_size, num_layers, bidirectional, dropout, layer_options, scale
        As in `LSTMClassifier`.
    pooling
        As there; with numbers for each step it doesn't matter.
    epochs, batch_size, lr, weight_decay, clip_norm, validation, patience
        As there, but that rows held out aren't stratified.
    random_state, backend, dtype, verbose
        As there.

    Attributes
    ----------
    model_, scaler_, optimizer_, history_, n_features_in_
        As in `LSTMClassifier`.
    target_mean_, target_scale_ : numpy.ndarray, shape (outputs,)
        Predictions are the network's outputs times ``target_scale_`` plus ``target_mean_``.

    Raises
    ------
    ImportError
        scikit-learn isn't installed.

    See Also
    --------
    LSTMClassifier : The forms of X, with references.

    Examples
    --------
    The sum of a row's steps, and the sum so far at each step:

    >>> import numpy as np
    >>> from recurray.sklearn import LSTMRegressor
    >>> X = np.random.default_rng(0).uniform(size=(80, 6, 1))
    >>> regressor = LSTMRegressor(hidden_size=16, random_state=0).fit(X[:60], X[:60].sum(axis=(1, 2)))
    >>> regressor.predict(X[60:]).shape, regressor.score(X[60:], X[60:].sum(axis=(1, 2))) > 0.9
    ((20,), True)
    >>> by_step = LSTMRegressor(hidden_size=16, random_state=0).fit(X[:60], X[:60].cumsum(axis=1))
    >>> by_step.predict(X[60:]).shape, by_step.score(X[60:], X[60:].cumsum(axis=1)) > 0.9
    ((20, 6, 1), True)
    """

    def __init__(
        self,
        layer: Any = "LSTM",
        hidden_size: int = 64,
        *,
        loss: str = "mse",
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        pooling: str = "final",
        layer_options: Any = None,
        scale: bool = True,
        epochs: int = 50,
        batch_size: int = 32,
        lr: float = 0.01,
        weight_decay: float = 0.0,
        clip_norm: float | None = 1.0,
        validation: float | None = None,
        patience: int | None = None,
        random_state: Any = None,
        backend: Any = None,
        dtype: Any = "float32",
        verbose: bool = False,
    ) -> None:
        self.__dict__.update(parameters(locals()))

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train from the start.

        Parameters
        ----------
        X : array (rows, steps, features), list of arrays (steps, features), or array (rows, steps)
            The sequences.
        y : array or list of arrays
            Their targets, of one of the forms above.
        sample_weight : array, shape (rows,), optional
            How much each row counts; their ratios matter alone.

        Raises
        ------
        ValueError, TypeError
            A parameter is of the wrong kind, X or y isn't of a form that is known, they don't have the same number of
            rows or steps, or one has NaN: the text says where.
        TrainingError
            The loss became NaN or infinite.
        """
        sequences, target = self._checked(X, y, reset=True)
        self._begin(sequences, target)
        self._learn(sequences, target, sample_weight)
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one epoch, going on from where the last call ended.

        Scaling, of targets too, stays as the first call has it; ``epochs``, ``validation`` and ``patience`` don't
        matter here.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.

        Raises
        ------
        ValueError, TypeError
            As in `fit`, or targets aren't of the form of the first call.
        """
        first = not hasattr(self, "model_")
        sequences, target = self._checked(X, y, reset=first)
        if first:
            self._begin(sequences, target)
        self._learn(sequences, target, sample_weight, once=True)
        return self

    def _checked(self, X: Any, y: Any, *, reset: bool) -> tuple[Sequences, Targets]:
        sequences = read(self, X, reset=reset)
        return sequences, read_targets(sequences, y)

    def _begin(self, sequences: Sequences, target: Targets) -> None:
        answers = target.all_rows()
        self.target_mean_, deviation = answers.mean(axis=0), answers.std(axis=0)
        self.target_scale_ = np.where(deviation > 0, deviation, 1.0)
        self._flat, self._form = target.flat, target.form
        self._start(sequences, answers.shape[1], by_step=target.by_step)

    def _learn(self, sequences: Sequences, target: Targets, sample_weight: Any, *, once: bool = False) -> None:
        if target.form != self._form:
            raise ValueError(f"y has outputs {target.form}, but in the first call there were {self._form}")
        self._train(sequences, self._scaled(target.rows), check_weights(sample_weight, sequences), once=once)

    def _scaled(self, rows: Any) -> Any:
        if isinstance(rows, list):
            return [self._scaled(row) for row in rows]
        return ((rows - self.target_mean_) / self.target_scale_).astype(self.model_.dtype)

    def _loss(self) -> Loss:
        found: Loss = getattr(losses, checks.choice("loss", self.loss, LOSSES))
        return found

    def predict(self, X: Any) -> Any:
        """Return the predictions, of the form that targets had: (rows,), (rows, outputs), or for each step as well.

        For each step of ragged rows, it is a list of arrays.
        """
        outputs = self._outputs(X)
        return [self._restored(row) for row in outputs] if isinstance(outputs, list) else self._restored(outputs)

    def _restored(self, outputs: Any) -> Any:
        found = outputs * self.target_scale_ + self.target_mean_
        return found[..., 0] if self._flat else found

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return R^2, the coefficient of determination, of the predictions; over all steps where targets have these.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.
        """
        outputs = self._outputs(X)
        if not self._by_step:
            with numbers():
                return float(r2_score(y, self._restored(outputs), sample_weight=sample_weight))
        sequences = read(self, X, reset=False)
        target = read_targets(sequences, y)
        weights = check_weights(sample_weight, sequences)
        found = Targets(outputs, by_step=True, flat=False).all_rows() * self.target_scale_ + self.target_mean_
        each = None if weights is None else np.repeat(weights, sequences.lengths)
        return float(r2_score(target.all_rows(), found, sample_weight=each))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
