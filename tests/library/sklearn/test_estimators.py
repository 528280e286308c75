"""What the estimators take and give, on every backend, in scikit-learn's company."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness.needs import need

need("sklearn")

from sklearn.base import clone  # noqa: E402 - where it is here
from sklearn.compose import TransformedTargetRegressor  # noqa: E402
from sklearn.exceptions import NotFittedError  # noqa: E402
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score, train_test_split  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.class_weight import compute_sample_weight  # noqa: E402

from recurray import cells, layers  # noqa: E402
from recurray.backend import Backend  # noqa: E402
from recurray.sklearn import LSTMClassifier, LSTMRegressor, SequenceScaler, network  # noqa: E402
from recurray.sklearn.estimator import _weighted, _with_weights  # noqa: E402

N, F = 24, 3
rng = np.random.default_rng(0)
LENGTHS = rng.integers(5, 10, N)
RAGGED = [2 + 3 * rng.standard_normal((steps, F)) for steps in LENGTHS]
EVEN = np.stack([row[:5] for row in RAGGED])  # (N, 5, F)
LABELS = np.array(["up" if row[0, 0] > 2 else "down" for row in RAGGED])
SUMS = np.array([row.sum() for row in RAGGED])
SMALL: dict[str, Any] = {"hidden_size": 4, "epochs": 2, "random_state": 0}


def same(model: Any, other: Any) -> bool:
    return all(
        np.array_equal(value, other.model_.state_dict()[name]) for name, value in model.model_.state_dict().items()
    )


# Forms of X -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [list, tuple, "object", "nested"])
def test_rows_of_one_length_are_the_same_however_they_are_given(form: Any) -> None:
    objects = np.empty(N, dtype=object)
    objects[:] = list(EVEN)
    given = {"object": objects, "nested": EVEN.tolist()}[form] if isinstance(form, str) else form(EVEN)
    expected = LSTMRegressor(**SMALL, dtype="float64").fit(EVEN, SUMS)
    found = LSTMRegressor(**SMALL, dtype="float64").fit(given, SUMS)
    assert found.n_features_in_ == expected.n_features_in_ == F
    np.testing.assert_allclose(found.predict(given), expected.predict(EVEN), rtol=0.05)  # other batches
    np.testing.assert_allclose(expected.predict(given), expected.predict(EVEN), rtol=0, atol=1e-10)


def test_columns_are_steps_of_one_feature() -> None:
    table = EVEN[:, :, 0]
    by_columns = LSTMRegressor(**SMALL).fit(table, SUMS)
    by_steps = LSTMRegressor(**SMALL).fit(table[:, :, None], SUMS)
    assert same(by_columns, by_steps)
    assert (by_columns.n_features_in_, by_steps.n_features_in_) == (5, 1)
    np.testing.assert_array_equal(by_columns.predict(table), by_steps.predict(table))
    with pytest.raises(ValueError, match="X has 4 features, but LSTMRegressor is expecting 5"):
        by_columns.predict(table[:, :4])
    assert by_steps.predict(table[:, :4]).shape == (N,)
    one_feature = [row[:, 0] for row in RAGGED]  # (steps,)
    assert by_columns.predict(one_feature).shape == (N,)


def test_a_prediction_is_of_the_row_alone() -> None:
    """However long the others are, and in whichever order they come."""
    many = RAGGED * 30  # several times what is run at once
    classifier = LSTMClassifier(**SMALL, dtype="float64", bidirectional=True).fit(RAGGED, LABELS)
    found = classifier.predict_proba(many)
    alone = np.concatenate([classifier.predict_proba([row]) for row in RAGGED])
    np.testing.assert_allclose(found, np.tile(alone, (30, 1)), rtol=0, atol=1e-12)
    padded = classifier.model_(np.stack([classifier.scaler_.transform([row[:5]])[0] for row in RAGGED]))[0]
    np.testing.assert_allclose(
        classifier.predict_log_proba(EVEN), padded - np.logaddexp.reduce(padded, 1, keepdims=True)
    )


# Targets --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("X", "y", "shape"),
    [
        (RAGGED, SUMS, (N,)),
        (RAGGED, SUMS[:, None], (N, 1)),
        (EVEN, EVEN[:, 0, :2], (N, 2)),
        (EVEN, EVEN[:, :, :2], (N, 5, 2)),
        (EVEN, list(EVEN[:, :, 0]), (N, 5)),
        (list(EVEN), EVEN[:, :, :2], [(5, 2)] * N),
        (RAGGED, [row[:, :2] for row in RAGGED], [(steps, 2) for steps in LENGTHS]),
        (RAGGED, [row[:, 0] for row in RAGGED], [(steps,) for steps in LENGTHS]),
        ([row[:, 0] for row in RAGGED], [row[:, 0].tolist() for row in RAGGED], [(steps,) for steps in LENGTHS]),
    ],
)
def test_predictions_have_the_form_of_targets(X: Any, y: Any, shape: Any) -> None:
    regressor = LSTMRegressor(**SMALL | {"epochs": 1}).fit(X, y)
    found = regressor.predict(X)
    assert (found.shape if isinstance(shape, tuple) else [row.shape for row in found]) == shape
    assert np.isfinite(regressor.score(X, y))


def test_answers_to_steps_know_the_steps_before_and_no_others() -> None:
    regressor = LSTMRegressor(**SMALL).fit(EVEN, EVEN.cumsum(axis=1))
    changed = EVEN.copy()
    changed[:, 3:] += 1
    before, after = regressor.predict(EVEN), regressor.predict(changed)
    np.testing.assert_array_equal(before[:, :3], after[:, :3])
    assert (before[:, 3:] != after[:, 3:]).all()


@pytest.mark.parametrize("labels", [LABELS, LABELS == "up", np.where(LABELS == "up", 7, -2), LABELS.astype(object)])
def test_labels_of_any_kind_come_back(labels: Any) -> None:
    classifier = LSTMClassifier(**SMALL | {"epochs": 40, "hidden_size": 16}).fit(RAGGED, labels)
    assert classifier.predict(RAGGED).dtype == labels.dtype
    assert (classifier.predict(RAGGED) == labels).mean() > 0.9
    probabilities = classifier.predict_proba(RAGGED)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(classifier.classes_[probabilities.argmax(axis=1)], classifier.predict(RAGGED))


# Options --------------------------------------------------------------------------------------------------------------


def test_the_table_of_layers_has_them_all() -> None:
    recurrent = {
        name
        for name in layers.__all__
        if name != "Recurrent"
        and isinstance(kind := getattr(layers, name), type)
        and issubclass(kind, layers.Recurrent)
    }
    assert set(network.LAYERS) == recurrent
    of_cells = {name.removesuffix("Cell") for name in cells.__all__ if name.endswith("Cell")}
    wrappers = {"", "RecurrentDropout", "Zoneout"}
    assert set(network.CELLS) == of_cells - recurrent - wrappers


@pytest.mark.parametrize("pooling", network.POOLINGS)
@pytest.mark.parametrize("layer", [*network.LAYERS, *network.CELLS, rr.GRU, cells.IndRNNCell("tanh")], ids=str)
def test_every_layer_learns(layer: Any, pooling: str) -> None:
    classifier = LSTMClassifier(layer, 6, num_layers=2, pooling=pooling, epochs=12, random_state=0)
    losses = classifier.fit(RAGGED, LABELS).history_["loss"]
    assert losses[-1] < losses[0]
    assert set(classifier.predict(RAGGED)) <= {"up", "down"}


def test_options_reach_the_network() -> None:
    options = {"layer_norm": True, "forget_bias": 1.0, "proj_size": 3}
    classifier = LSTMClassifier(
        "LSTM",
        5,
        num_layers=2,
        bidirectional=True,
        dropout=0.25,
        layer_options=options,
        dtype="float64",
        random_state=0,
    )
    made = classifier.set_params(epochs=1).fit(EVEN, LABELS).model_
    lstm = made.layers[0]
    assert (lstm.num_layers, lstm.bidirectional, lstm.dropout, lstm.proj_size) == (2, True, 0.25, 3)
    assert (lstm.layer_norm, lstm.dtype) == (True, "float64")
    assert [type(layer).__name__ for layer in made.layers] == ["LSTM", "Final", "Dropout", "Linear"]
    assert made.layers[3].in_features == 6
    stacked = LSTMRegressor("DiagonalLSTM", 5, num_layers=2, dropout=0.25, epochs=1).fit(EVEN, SUMS).model_
    kinds = [type(layer).__name__ for layer in stacked.layers]
    assert kinds == ["DiagonalLSTM", "Dropout", "DiagonalLSTM", "Final", "Dropout", "Linear"]


def test_scaling_is_a_pipelines_scaler() -> None:
    """By the training's rows alone, and what is far off comes back to where it was."""
    within = LSTMRegressor(**SMALL).fit(RAGGED, SUMS)
    before = make_pipeline(SequenceScaler(), LSTMRegressor(**SMALL, scale=False)).fit(RAGGED, SUMS)
    np.testing.assert_array_equal(within.predict(RAGGED), before.predict(RAGGED))
    steps = np.concatenate(RAGGED)
    np.testing.assert_allclose(within.scaler_.mean_, steps.mean(axis=0))
    np.testing.assert_allclose(within.scaler_.scale_, StandardScaler().fit(steps).scale_)
    far = LSTMRegressor(**SMALL, dtype="float64").fit([1e6 + 1e4 * row for row in RAGGED], 1e6 + 1e4 * SUMS)
    near = LSTMRegressor(**SMALL, dtype="float64").fit(RAGGED, SUMS)
    np.testing.assert_allclose(
        (far.predict([1e6 + 1e4 * row for row in RAGGED]) - 1e6) / 1e4, near.predict(RAGGED), atol=1e-6
    )


def test_a_feature_or_target_that_never_changes_is_no_trouble() -> None:
    X = np.concatenate([EVEN, np.full((N, 5, 1), 0.1)], axis=2)
    regressor = LSTMRegressor(**SMALL).fit(X, np.stack([np.full(N, 7.0), SUMS], axis=1))
    assert regressor.scaler_.scale_[3] == regressor.target_scale_[0] == 1
    assert np.isfinite(regressor.predict(X)).all()


def test_scaled_sequences_come_back() -> None:
    for X in (RAGGED, EVEN, EVEN[:, :, 0]):
        scaler = SequenceScaler()
        there = scaler.fit_transform(X)
        assert isinstance(there, type(X))
        rows = np.concatenate(there) if isinstance(there, list) else there.reshape(-1, scaler.mean_.size)
        np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-12)
        np.testing.assert_allclose(rows.std(axis=0), 1)
        for row, back in zip(X, scaler.inverse_transform(there), strict=True):
            np.testing.assert_allclose(back, row)


def test_random_state_decides_everything() -> None:
    options = SMALL | {"dropout": 0.3, "validation": 0.25}
    one, again = (LSTMClassifier(**options).fit(RAGGED, LABELS) for _ in range(2))
    assert same(one, again)
    assert not same(one, LSTMClassifier(**options | {"random_state": 1}).fit(RAGGED, LABELS))
    state = np.random.RandomState(0)
    assert same(one, LSTMClassifier(**options | {"random_state": state}).fit(RAGGED, LABELS))
    assert not same(one, LSTMClassifier(**options | {"random_state": state}).fit(RAGGED, LABELS))


def test_validation_is_stratified_and_ends_training() -> None:
    labels = np.array(["rare"] * 4 + ["common"] * 20)  # nothing to be learned
    classifier = LSTMClassifier("GRU", 16, validation=0.25, patience=3, epochs=200, random_state=0)
    history = classifier.fit(RAGGED, labels).history_
    found = history["validation_loss"]
    assert len(history) == int(np.argmin(found)) + 1 + 3 < 200
    assert history.stopped == "patience"
    labels[1:4] = "common"
    with pytest.raises(ValueError, match="least populated class"):
        classifier.fit(RAGGED, labels)
    assert "validation_loss" not in LSTMClassifier(**SMALL).fit(RAGGED, labels).history_.columns


def test_the_best_params_are_put_back() -> None:
    y = np.random.default_rng(5).standard_normal(N)  # nothing to be learned
    options = {"hidden_size": 16, "validation": 0.25, "random_state": 0}
    stopped = LSTMRegressor(**options, patience=5, epochs=200).fit(RAGGED, y)
    best = int(np.argmin(stopped.history_["validation_loss"])) + 1
    assert same(stopped, LSTMRegressor(**options, epochs=best).fit(RAGGED, y))


def test_class_weights_are_weights_of_rows() -> None:
    labels = np.where(np.arange(N) < 5, "up", "down")
    by_class = LSTMClassifier(**SMALL, class_weight="balanced").fit(RAGGED, labels)
    by_row = LSTMClassifier(**SMALL).fit(RAGGED, labels, compute_sample_weight("balanced", labels))
    assert same(by_class, by_row)
    assert not same(by_class, LSTMClassifier(**SMALL).fit(RAGGED, labels))
    weights = np.where(labels == "up", 3.0, 1.0) * np.arange(1, N + 1)
    both = LSTMClassifier(**SMALL, class_weight={"up": 3.0}).fit(RAGGED, labels, np.arange(1, N + 1))
    assert same(both, LSTMClassifier(**SMALL).fit(RAGGED, labels, weights))
    tenfold = LSTMClassifier(**SMALL, dtype="float64").fit(RAGGED, labels, 10 * weights)
    onefold = LSTMClassifier(**SMALL, dtype="float64").fit(RAGGED, labels, weights)
    np.testing.assert_allclose(tenfold.predict_proba(RAGGED), onefold.predict_proba(RAGGED), rtol=1e-9)


def test_a_row_of_weight_zero_teaches_nothing() -> None:
    weights = np.where(np.arange(N) < 5, 1.0, 0.0)
    other_labels = np.where(weights > 0, LABELS, np.where(LABELS == "up", "down", "up"))
    one, other = (LSTMClassifier(**SMALL).fit(RAGGED, labels, weights) for labels in (LABELS, other_labels))
    assert same(one, other)


# More data, and other processes ---------------------------------------------------------------------------------------


def test_partial_fit_goes_on() -> None:
    classifier = LSTMClassifier(**SMALL | {"epochs": 1})
    whole = clone(classifier).fit(RAGGED, LABELS)
    parts = clone(classifier).partial_fit(RAGGED, LABELS, classes=["up", "down"])
    assert same(whole, parts)
    copied = pickle.loads(pickle.dumps(parts))
    for estimator in (parts, copied):
        estimator.partial_fit(RAGGED[:9], LABELS[:9])
    assert same(parts, copied)
    assert not same(whole, parts)
    losses = [parts.partial_fit(RAGGED, LABELS).history_["loss"][0] for _ in range(60)]
    assert losses[-1] < 0.6 * losses[0]
    assert parts.optimizer_.step_count == 2 + 60  # one batch an epoch
    only_one_class = LSTMClassifier(**SMALL).partial_fit(RAGGED[:1], LABELS[:1], classes=np.unique(LABELS))
    assert only_one_class.predict_proba(RAGGED).shape == (N, 2)
    regressor = LSTMRegressor(**SMALL).partial_fit(RAGGED, SUMS)
    assert len(regressor.partial_fit(RAGGED[:5], SUMS[:5]).history_) == 1


def test_a_pickle_and_a_clone() -> None:
    fitted = LSTMClassifier("GRU", 4, epochs=1, random_state=0, layer_options={"zoneout_h": 0.1}).fit(RAGGED, LABELS)
    copied = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copied.predict_proba(RAGGED), fitted.predict_proba(RAGGED))
    fresh = clone(fitted)
    assert not hasattr(fresh, "model_")
    assert fresh.get_params() == fitted.get_params()
    assert same(fresh.fit(RAGGED, LABELS), fitted)


def test_the_network_is_a_model_that_can_be_saved(tmp_path: Any) -> None:
    fitted = LSTMClassifier(**SMALL).fit(EVEN, LABELS)
    rr.save(fitted.model_, tmp_path / "model.safetensors", {"classes": fitted.classes_.tolist()})
    scores, _ = rr.load(tmp_path / "model.safetensors")(fitted.scaler_.transform(EVEN).astype("float32"))
    np.testing.assert_array_equal(fitted.classes_[scores.argmax(axis=1)], fitted.predict(EVEN))


@pytest.mark.parametrize("X", [RAGGED, EVEN, EVEN[:, :, 0]], ids=["ragged", "even", "columns"])
def test_in_pipelines_searches_and_cross_validation(X: Any) -> None:
    pipeline = make_pipeline(SequenceScaler(), LSTMClassifier(**SMALL, scale=False))
    search = GridSearchCV(
        pipeline,
        {"lstmclassifier__hidden_size": [2, 3], "lstmclassifier__layer": ["GRU", "LSTM"]},
        cv=2,
        error_score="raise",
    )
    search.fit(X, LABELS)
    assert len(search.cv_results_["params"]) == 4
    assert set(search.predict(X)) <= set(LABELS)
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    scores = cross_val_score(LSTMClassifier(**SMALL), X, LABELS, cv=folds, error_score="raise")
    assert scores.shape == (3,)
    train, test, y_train, y_test = train_test_split(X, SUMS, random_state=0)
    logarithms = TransformedTargetRegressor(LSTMRegressor(**SMALL), func=np.arcsinh, inverse_func=np.sinh)
    assert logarithms.fit(train, y_train).predict(test).shape == y_test.shape


def test_a_table_with_names_has_them_checked() -> None:
    pandas = need("pandas")
    table = pandas.DataFrame(EVEN[:, :, 0], columns=list("abcde"))
    regressor = LSTMRegressor(**SMALL).fit(table, SUMS)
    assert list(regressor.feature_names_in_) == list("abcde")
    with pytest.raises(ValueError, match="feature names should match"):
        regressor.predict(table[list("edcba")])


# Backends -------------------------------------------------------------------------------------------------------------


def test_on_every_backend(backend: Backend) -> None:
    """The same numbers, NumPy's arrays in and out; weights, both directions and dropout included."""
    options = SMALL | {"epochs": 1, "bidirectional": True, "dropout": 0.2, "dtype": "float64", "batch_size": 16}
    weights = np.arange(1.0, N + 1)
    found, expected = [], []
    for on, results in ((backend, found), (rr.get_backend(np), expected)):
        classifier = LSTMClassifier(**options, backend=on).fit(RAGGED, LABELS, weights)
        by_step = LSTMRegressor(**options, backend=on).fit(RAGGED, [row[:, :2] for row in RAGGED], weights)
        plain = LSTMRegressor("GRU", **options, backend=on).fit(EVEN, SUMS)
        results += [classifier.predict_proba(RAGGED), np.concatenate(by_step.predict(RAGGED)), plain.predict(EVEN)]
        assert classifier.model_.backend is on
    for one, other in zip(found, expected, strict=True):
        assert type(one) is np.ndarray
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-8)


# Bad input ------------------------------------------------------------------------------------------------------------


def with_value(value: float, row: int, step: int) -> list[Any]:
    changed = [own.copy() for own in RAGGED]
    changed[row][step, 1] = value
    return changed


@pytest.mark.parametrize(
    ("X", "y", "said"),
    [
        (
            with_value(np.nan, 4, 2),
            SUMS,
            r"X has NaN in row 4, step 2, feature 1: fill such steps in .* list of arrays",
        ),
        (with_value(np.inf, 4, 2), SUMS, "X has infinity in row 4, step 2, feature 1"),
        (np.where(EVEN[3, 1, 2] == EVEN, np.nan, EVEN), SUMS, "X has NaN in row 3, step 1, feature 2"),
        (np.where(EVEN[3, 1, 0] == EVEN, np.nan, EVEN)[:, :, 0], SUMS, "X has NaN in row 3, step 1:"),
        (RAGGED, SUMS[:-1], "X has 24 rows, but y has 23"),
        (RAGGED, [*SUMS[:-1], np.nan], "y has NaN in row 23"),
        (EVEN, np.where(EVEN[3, 1, 2] == EVEN, np.inf, EVEN), "y has infinity in row 3, step 1, output 2"),
        (RAGGED, with_value(np.nan, 4, 2), "row 4 of y has NaN in step 2, output 1"),
        (RAGGED, [row[: len(row) - (number == 5)] for number, row in enumerate(RAGGED)], "row 5 of y has . steps, but"),
        (EVEN, EVEN[:, :4], "row 0 of y has 4 steps, but that of X has 5"),
        (RAGGED, [row[:, : 1 + (number == 5)] for number, row in enumerate(RAGGED)], "row 5 of y must be .* not"),
        (EVEN, EVEN[:, :, :, None], r"y must be \(rows,\), .*, not \(24, 5, 3, 1\)"),
        (RAGGED, None, "requires y to be passed"),
        (
            [row.T for row in RAGGED],
            SUMS,
            "row 1 of X has . features a step, but row 0 has .: each row is .steps, feat",
        ),
        ([*RAGGED[:-1], np.zeros((0, F))], SUMS, r"row 23 of X must be .* of at least one step, not \(0, 3\)"),
        ([*RAGGED[:-1], np.zeros((2, 2, F))], SUMS, r"row 23 of X must be .*, not \(2, 2, 3\)"),
        ([*RAGGED[:-1], np.array(["a", "b"])], SUMS, "row 23 of X must be numbers, not <U1"),
        (EVEN[:, :0], SUMS, r"X must be .* of at least one row, step and feature, not \(24, 0, 3\)"),
        (EVEN[..., None], SUMS, r"X must be .*, not \(24, 5, 3, 1\)"),
        ([[1.0, 2.0], [1.0, [2.0]]], SUMS[:2], "X must be an array .rows, steps, features., a list"),
        (EVEN[0, 0], SUMS[:3], "Expected 2D array, got 1D array instead"),
        ([], SUMS[:0], "X has no rows: it must be an array"),
        (np.full((N, 5), "a"), SUMS, r"could not convert string to float: .*'a'"),
    ],
)
def test_wrong_data_are_named(X: Any, y: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LSTMRegressor(**SMALL).fit(X, y)


@pytest.mark.parametrize(
    ("y", "said"),
    [
        (np.eye(2)[np.arange(N) % 2], r"y should be a 1d array.*\(24, 2\): where it is one-hot, y.argmax\(axis=1\)"),
        (np.where(SUMS > 0, np.nan, 1.0), "y contains NaN"),
        (SUMS, "Unknown label type: continuous"),
        (LABELS[:-2], "X has 24 rows, but y has 22"),
    ],
)
def test_wrong_labels_are_named(y: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LSTMClassifier(**SMALL).fit(RAGGED, y)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"layer": "LSMT"}, ValueError, "layer must be one of 'LSTM', 'GRU', .*'SLSTM', a class .* not 'LSMT'"),
        ({"layer": rr.Linear}, ValueError, "layer must be one of"),
        ({"layer": "DiagonalLSTM", "bidirectional": True}, ValueError, "a DiagonalLSTM runs in one direction"),
        ({"layer_options": {"peephole": True}}, ValueError, "layer_options has 'peephole'; a LSTM has .*peepholes"),
        ({"layer_options": {"dropout": 0.5}}, ValueError, "'dropout', which is a parameter of the estimator"),
        ({"layer_options": [1]}, TypeError, "layer_options must be a mapping"),
        ({"hidden_size": 0}, ValueError, "hidden_size must be at least 1"),
        ({"num_layers": 0}, ValueError, "num_layers must be at least 1"),
        ({"pooling": "sum"}, ValueError, "pooling must be one of 'final', 'last', 'mean', 'max'"),
        ({"dropout": 1.5}, ValueError, "dropout must be at least 0 and below 1"),
        ({"loss": "cross_entropy"}, ValueError, "loss must be one of 'mse', 'mae', 'huber'"),
        ({"scale": 1}, TypeError, "scale must be True or False"),
        ({"epochs": 0}, ValueError, "epochs must be at least 1"),
        ({"batch_size": 0.5}, TypeError, "batch_size must be an integer"),
        ({"lr": -1.0}, ValueError, "lr"),
        ({"validation": 1.0}, ValueError, "validation must be None or a share of the rows"),
        ({"patience": 0}, ValueError, "patience must be at least 1"),
        ({"clip_norm": -1.0}, ValueError, "clip_norm"),
        ({"dtype": "float16"}, ValueError, "dtype must be one of"),
        ({"backend": "nunpy"}, ValueError, "nunpy"),
    ],
)
def test_wrong_parameters_are_named(options: dict[str, Any], error: type[Exception], said: str) -> None:
    regressor = LSTMRegressor(**SMALL | options)  # which checks nothing, as scikit-learn wants it
    with pytest.raises(error, match=said):
        regressor.fit(RAGGED, SUMS)
    assert not hasattr(regressor, "history_")


def test_what_doesnt_fit_the_first_call_is_named() -> None:
    classifier = LSTMClassifier(**SMALL)
    with pytest.raises(ValueError, match="the first call of partial_fit needs classes"):
        classifier.partial_fit(RAGGED, LABELS)
    with pytest.raises(ValueError, match=r"y has 'up' in row \d, which isn't one of classes"):
        classifier.partial_fit(RAGGED, LABELS, classes=["down", "left"])
    classifier.partial_fit(RAGGED, LABELS, classes=["down", "up"])
    with pytest.raises(ValueError, match=r"classes must be those of the first call, \['down', 'up'\]"):
        classifier.partial_fit(RAGGED, LABELS, classes=["down", "up", "left"])
    with pytest.raises(ValueError, match="X has 2 features a step, but LSTMClassifier is expecting 3, as in fit"):
        classifier.predict([row[:, :2] for row in RAGGED])
    with pytest.raises(ValueError, match=r"X has 1 features a step, being \(rows, steps\), but"):
        classifier.predict(EVEN[:, :, 0])
    regressor = LSTMRegressor(**SMALL).partial_fit(RAGGED, SUMS)
    with pytest.raises(
        ValueError, match="y has outputs 3 for each step, but in the first call there were 1 for each row"
    ):
        regressor.partial_fit(RAGGED, RAGGED)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (np.ones(N - 1), "X has 24 rows, but sample_weight has 23"),
        (-np.ones(N), "must not be negative"),
        (np.zeros(N), "not all be zero"),
        (np.full(N, np.nan), "NaN"),
        (np.ones((N, 2)), "sample_weight must be 1D array or scalar"),
    ],
)
def test_wrong_weights_are_named(weights: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LSTMRegressor(**SMALL).fit(RAGGED, SUMS, weights)


def test_numbers_that_float32_cant_hold_are_refused() -> None:
    X = EVEN.copy()
    X[2, 3, 1] = 1e300
    with pytest.raises(ValueError, match=r"X has 1e\+300, which is too large for float32"):
        LSTMRegressor(**SMALL, scale=False).fit(X, SUMS)
    assert np.isfinite(LSTMRegressor(**SMALL, scale=False, dtype="float64").fit(X, SUMS).predict(X)).all()


def test_a_training_that_fails_says_so() -> None:
    with pytest.raises(rr.TrainingError):
        LSTMRegressor(**SMALL | {"epochs": 50}, lr=1e30, clip_norm=None).fit(RAGGED, SUMS)


def test_where_scikit_learn_is_missing_it_is_said_what_installs_it() -> None:
    code = (
        "import sys\nsys.modules['sklearn'] = None\nimport recurray as rr\nassert 'LSTMClassifier' in dir(rr.sklearn)\n"
        "try:\n    rr.sklearn.LSTMClassifier\nexcept ImportError as error:\n    print(error)"
    )
    said = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert "recurray.sklearn needs scikit-learn, which is missing: " in said
    assert '".[sklearn]"' in said


@pytest.mark.parametrize("kind", ["rows", "steps"])
def test_a_weighted_loss_is_the_mean_of_what_counts(kind: str) -> None:
    shape = (4, 2) if kind == "rows" else (4, 5, 2)
    prediction, target = np.random.default_rng(0).standard_normal((2, *shape))
    weights = np.array([0.5, 2.0, 1.0, 0.5])
    mask = None if kind == "rows" else np.arange(5) < np.array([5, 2, 3, 1])[:, None]
    counts = np.ones(shape) if mask is None else np.repeat(mask[..., None], 2, axis=2)
    each = weights.reshape((4,) + (1,) * (len(shape) - 1)) * counts

    def mean(prediction: Any) -> float:
        return float((each * (prediction - target) ** 2).sum() / counts.sum())

    given = _with_weights(target, weights)
    value, gradient = _weighted(rr.losses.mse)(prediction, given, mask=mask)
    np.testing.assert_allclose(value, mean(prediction))
    step = 1e-6
    for place in np.ndindex(shape):
        moved = np.zeros(shape)
        moved[place] = step
        slope = (mean(prediction + moved) - mean(prediction - moved)) / (2 * step)
        np.testing.assert_allclose(gradient[place], slope, rtol=1e-6, atol=1e-9)


def test_a_fit_that_fails_leaves_an_estimator_that_says_so() -> None:
    """It has noted other features than those of the network that it still has."""
    fitted = LSTMRegressor(**SMALL).fit(RAGGED, SUMS)
    wide = [np.concatenate([row, row], axis=1) for row in RAGGED]
    with pytest.raises(ValueError, match="inconsistent"):
        fitted.fit(wide, SUMS[:-1])
    with pytest.raises(ValueError, match="X has 6 features a step, but the network was trained with 3: call fit"):
        fitted.predict(wide)


def test_a_pickle_of_an_estimator_on_an_array_library() -> None:
    fitted = LSTMRegressor(**SMALL, backend=np).fit(RAGGED, SUMS)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict(RAGGED), fitted.predict(RAGGED))
    assert fitted.backend is np


def test_rows_that_cant_be_held_out() -> None:
    with pytest.raises(ValueError, match=r"validation=0\.5 can't be held out of 24 rows: .*only 1 member"):
        LSTMClassifier(**SMALL, validation=0.5).fit(RAGGED, ["one", *["other"] * (N - 1)])


def test_what_isnt_an_array() -> None:
    fitted = LSTMRegressor(**SMALL).fit(RAGGED, SUMS)
    for wrong in (np, [np.shape], b"x", 10**400):
        with pytest.raises((TypeError, ValueError)):
            fitted.predict(wrong)
    with pytest.raises(ValueError, match="an array, or what is one, is expected"):
        LSTMClassifier(**SMALL).fit(RAGGED, [[1], [1, 2]])
    with pytest.raises(TypeError, match="sample_weight must be"):
        LSTMClassifier(**SMALL).fit(RAGGED, LABELS, "auto")


def test_a_score_of_steps_weighs_each_with_its_row() -> None:
    weights = np.random.default_rng(0).uniform(0.1, 3, N)
    target = [row[:, :1] + 1 for row in RAGGED]
    fitted = LSTMRegressor(**SMALL).fit(RAGGED, target)
    said, came = np.concatenate(fitted.predict(RAGGED)), np.concatenate(target)
    each = np.concatenate([np.full((len(row), 1), weight) for row, weight in zip(RAGGED, weights, strict=True)])
    mean = (each * came).sum() / each.sum()
    expected = 1 - (each * (came - said) ** 2).sum() / (each * (came - mean) ** 2).sum()
    np.testing.assert_allclose(fitted.score(RAGGED, target, weights), expected)


def test_an_estimator_whose_first_fit_failed_isnt_fitted() -> None:
    classifier = LSTMClassifier(**SMALL | {"hidden_size": 0})
    with pytest.raises(ValueError, match="hidden_size"):
        classifier.fit(RAGGED, LABELS)
    with pytest.raises(NotFittedError):
        classifier.predict(RAGGED)
    with pytest.raises(TypeError, match="y must be labels"):
        classifier.fit(RAGGED, np.zeros(N, dtype=[("a", "f4")]))
