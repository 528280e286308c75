"""A transformer that standardises sequences."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from recurray.sklearn.sequences import read


class SequenceScaler(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Standardise sequences: each feature to mean 0 and variance 1 over all steps of all rows.

    What `sklearn.preprocessing.StandardScaler` is for tables. `LSTMClassifier` and `LSTMRegressor` do it by themselves,
    unless told ``scale=False``.

    Attributes
    ----------
    mean_, scale_ : numpy.ndarray, shape (features,)
        Each feature's mean and standard deviation, 1 where that is 0.
    n_features_in_ : int
        Features of a step; of an array (rows, steps), its columns.

    Raises
    ------
    ValueError, TypeError
        By all methods: X isn't of one of the forms, holds something that isn't a finite number, or has other features
        than in fit.

    Examples
    --------
    >>> import numpy as np
    >>> from recurray.sklearn import SequenceScaler
    >>> X = [np.array([[0.0, 5.0], [2.0, 5.0]]), np.array([[4.0, 5.0]])]
    >>> scaler = SequenceScaler().fit(X)
    >>> scaler.mean_, scaler.scale_
    (array([2., 5.]), array([1.63299316, 1.        ]))
    >>> scaler.transform(X)[1]
    array([[1.22474487, 0.        ]])
    """

    def fit(self, X: Any, y: Any = None) -> Self:
        """Measure the features.

        Parameters
        ----------
        X : array (rows, steps, features), list of arrays (steps, features), or array (rows, steps)
            The sequences; of the last form each step is one feature, and all steps are scaled alike.
        y : ignored
        """
        steps = read(self, X, reset=True).all_steps()
        self.mean_ = steps.mean(axis=0, dtype="float64")
        deviation = steps.std(axis=0, dtype="float64")
        largest = np.abs(steps).max(axis=0)
        same = deviation <= 10 * np.finfo(steps.dtype).eps * largest  # what rounding makes of equal numbers
        self.scale_ = np.where(same, 1.0, deviation)
        return self

    def transform(self, X: Any) -> Any:
        """Return the sequences standardised, in the form that they were given in."""
        return self._each(X, self._scaled)

    def inverse_transform(self, X: Any) -> Any:
        """Return standardised sequences as they were before."""
        return self._each(X, lambda row: (row * self.scale_ + self.mean_).astype(row.dtype))

    def _scaled(self, row: Any) -> Any:
        return ((row - self.mean_) / self.scale_).astype(row.dtype)

    def _each(self, X: Any, change: Any) -> Any:
        check_is_fitted(self)
        sequences = read(self, X, reset=False)
        if sequences.ragged:
            return [change(row) for row in sequences.rows]
        rows = change(sequences.rows)
        return rows[:, :, 0] if sequences.columns else rows

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
