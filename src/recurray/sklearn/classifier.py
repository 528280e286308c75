"""A classifier of sequences."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils import assert_all_finite
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from recurray import losses
from recurray.arrays import Array, namespace_of
from recurray.messages import in_words, shown
from recurray.sklearn.estimator import Estimator, Loss, check_weights, parameters
from recurray.sklearn.sequences import Sequences, check_rows, read, shape_of


class LSTMClassifier(ClassifierMixin, Estimator):  # type: ignore[misc]
    """A recurrent network that gives each sequence a label.

    Recurrent layers read a row, what they have at its end goes through a linear layer to a score for each class, and
    all is trained by Adam [1]_ on the cross entropy.

    Sequences are given as ``X`` in one of three forms:

    - an array (rows, steps, features),
    - a list of arrays (steps, features), or (steps,) for one feature: rows of lengths of their own,
    - an array (rows, steps) or a table of numbers: one feature a step.

    Parameters
    ----------
    layer : str, class or Cell
        The recurrent layer: "LSTM", "GRU", "RNN", "DiagonalLSTM"; "IndRNN", "MGU" or "SLSTM", for `Recurrent` with that
        cell; a cell or a class of layers of your own.
    hidden_size : int
        Hidden units.
    num_layers : int
        Layers, each fed with the output of the one below.
    bidirectional : bool
        Whether each layer also runs from the end to the start.
    dropout : float
        The probability that an element is dropped, in training, between recurrent layers and before the linear one.
    pooling : {"final", "last", "mean", "max"}
        What is read of a row: the final output of each direction, the last step, or the mean or the largest over steps.
    layer_options : mapping of str to object, optional
        More arguments of the layer: ``{"layer_norm": True}``.
    scale : bool
        Whether features are standardised within, as `SequenceScaler` does it.
    epochs : int
        How often all rows are gone through.
    batch_size : int
        Rows to an update.
    lr, weight_decay : float
        Of `recurray.optim.AdamW`, which without weight decay is Adam.
    clip_norm : float, optional
        What the gradient's norm is clipped to.
    validation : float, optional
        The share of rows that is held out of training, stratified by class, to measure the loss on.
    patience : int, optional
        After how many epochs without a lower loss, of the rows held out if there are any, training ends early; the best
        params are put back.
    class_weight : mapping of label to float, or "balanced", optional
        Weights of the classes; "balanced" makes all count alike, however many rows they have.
    random_state : int, numpy.random.RandomState or None
        Decides the params' start, the order of rows and dropout's draws.
    backend : str, Backend or None
        See `recurray.get_backend`. Arrays go in and come out as NumPy's.
    dtype : {"float32", "float64"}
        The precision of params and computation.
    verbose : bool
        Whether a terminal shows how far it is (with rich installed).

    Attributes
    ----------
    classes_ : numpy.ndarray
        The labels, sorted.
    model_ : Sequential
        The network, which gives a score for each class. `recurray.save` writes it to a file.
    scaler_ : SequenceScaler or None
        What its input goes through.
    optimizer_ : AdamW
        What has trained it, and goes on in `partial_fit`.
    history_ : History
        The table of the last training.
    n_features_in_ : int
        Features of a step; of an array (rows, steps), its columns.

    Raises
    ------
    ImportError
        scikit-learn isn't installed.

    References
    ----------
    .. [1] D. P. Kingma and J. Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, arXiv:1412.6980.

    Examples
    --------
    Which rows rise, of 5 to 12 noisy steps:

    >>> import numpy as np
    >>> from recurray.sklearn import LSTMClassifier
    >>> rng = np.random.default_rng(0)
    >>> y = rng.choice(["falls", "rises"], 60)
    >>> X = [np.linspace(0, 1 if label == "rises" else -1, n) + rng.normal(0, 0.3, n)
    ...      for label, n in zip(y, rng.integers(5, 13, 60))]
    >>> classifier = LSTMClassifier("GRU", 8, epochs=20, random_state=0).fit(X[:40], y[:40])
    >>> classifier.score(X[40:], y[40:]) > 0.8
    True
    >>> classifier.classes_, classifier.predict_proba(X[40:]).shape
    (array(['falls', 'rises'], dtype='<U5'), (20, 2))
    """

    def __init__(
        self,
        layer: Any = "LSTM",
        hidden_size: int = 64,
        *,
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
        class_weight: Any = None,
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
        y : array, shape (rows,)
            Their labels: numbers or texts.
        sample_weight : array, shape (rows,), optional
            How much each row counts; their ratios matter alone.

        Raises
        ------
        ValueError, TypeError
            A parameter is of the wrong kind, X or y isn't of a form that is known, they don't have the same number of
            rows, or X has NaN: the text says where.
        TrainingError
            The loss became NaN or infinite.
        """
        sequences, labels = self._checked(X, y, reset=True)
        self.classes_ = np.unique(labels)
        self._start(sequences, len(self.classes_), by_step=False)
        self._learn(sequences, labels, sample_weight)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train for one epoch, going on from where the last call ended.

        Scaling stays as the first call has it; ``epochs``, ``validation`` and ``patience`` don't matter here.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.
        classes : array, optional
            All labels there will ever be: the first call needs it.

        Raises
        ------
        ValueError, TypeError
            As in `fit`, or a label isn't one of the classes.
        """
        first = not hasattr(self, "model_")
        sequences, labels = self._checked(X, y, reset=first)
        if first:
            if classes is None:
                raise ValueError("the first call of partial_fit needs classes, all labels there will ever be")
            shape_of(classes)  # which says where it is no array
            self.classes_ = np.unique(classes)
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(f"classes must be those of the first call, {shown(self.classes_.tolist())}")
        if (unknown := ~np.isin(labels, self.classes_)).any():
            row = int(unknown.argmax())
            raise ValueError(f"y has {labels.tolist()[row]!r} in row {row}, which isn't one of classes")
        if first:
            self._start(sequences, len(self.classes_), by_step=False)
        self._learn(sequences, labels, sample_weight, once=True)
        return self

    def _checked(self, X: Any, y: Any, *, reset: bool) -> tuple[Sequences, Any]:
        sequences = read(self, X, reset=reset)
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        if len(shape_of(y)) == 2 and shape_of(y)[1] > 1:
            raise ValueError(
                f"y should be a 1d array, a label for each row, not {in_words(shape_of(y))}: where it is one-hot, "
                "y.argmax(axis=1) gives the labels"
            )
        labels = column_or_1d(y, warn=True)
        if labels.dtype.kind == "V":
            raise TypeError(f"y must be labels, numbers or texts, not {labels.dtype}")
        assert_all_finite(labels, input_name="y")
        check_classification_targets(labels)
        check_rows(sequences, "y", len(labels))
        return sequences, labels

    def _learn(self, sequences: Sequences, labels: Any, sample_weight: Any, *, once: bool = False) -> None:
        weights = check_weights(sample_weight, sequences)
        if self.class_weight is not None:
            own = compute_sample_weight(self.class_weight, labels)
            weights = own if weights is None else weights * own
        numbers = np.searchsorted(self.classes_, labels).astype("int32")
        self._train(sequences, numbers, weights, classes=labels, once=once)

    def _loss(self) -> Loss:
        return _cross_entropy

    def predict(self, X: Any) -> Any:
        """Return the most probable label of each row, shape (rows,)."""
        best = self._outputs(X).argmax(axis=1)
        return self.classes_[best]

    def predict_proba(self, X: Any) -> Any:
        """Return the probabilities of the classes, shape (rows, classes), in the order of ``classes_``."""
        return np.exp(self.predict_log_proba(X))

    def predict_log_proba(self, X: Any) -> Any:
        """Return the logarithms of `predict_proba`, precise however small a probability is."""
        scores = self._outputs(X)
        scores -= scores.max(axis=1, keepdims=True)
        return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))


def _cross_entropy(
    prediction: Array, target: Array, reduction: Any = "mean", *, mask: Any = None
) -> tuple[Array, Array]:
    """Cross entropy of classes (N,), or of such in a column of floats, (N, 1), as they come beside weights."""
    if target.ndim == prediction.ndim:
        xp = namespace_of(target)
        target = xp.astype(target[..., 0], xp.int32)
    return losses.cross_entropy(prediction, target, reduction, mask=mask)
