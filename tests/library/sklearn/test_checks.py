"""scikit-learn's own checks of estimators."""

from __future__ import annotations

from typing import Any

import pytest

from harness.needs import need

need("sklearn")

from sklearn.utils.estimator_checks import check_estimator  # noqa: E402 - where it is here

from recurray.sklearn import LSTMClassifier, LSTMRegressor, SequenceScaler  # noqa: E402

NOT_MET = {
    "check_sample_weight_equivalence_on_dense_data": "a row that is there twice may be in two batches, one of "
    "twice the weight is in one: as in scikit-learn's own estimators that train by batches",
}
SKIPPED = {
    "check_array_api_input",  # runs where SciPy was told to take arrays of other libraries before it was loaded
    # these need pandas
    *("check_sample_weights_pandas_series", "check_classifier_data_not_an_array", "check_regressor_data_not_an_array"),
}


@pytest.mark.parametrize(
    ("estimator", "not_met"),
    [
        pytest.param(SequenceScaler(), {}, id="scaler"),
        # A check compares what is predicted of rows together and one by one to 1e-7, which float32 needn't hold.
        pytest.param(
            LSTMClassifier(hidden_size=16, epochs=15, dtype="float64"),
            NOT_MET,
            id="classifier",
            marks=pytest.mark.slow,
        ),
        pytest.param(LSTMRegressor(hidden_size=16, dtype="float64"), NOT_MET, id="regressor", marks=pytest.mark.slow),
    ],
)
def test_scikit_learns_own_checks_pass(estimator: Any, not_met: dict[str, str]) -> None:
    results = check_estimator(estimator, expected_failed_checks=not_met, on_fail=None, on_skip=None)
    found: dict[str, list[str]] = {}
    for result in results:
        told = (
            f"{result['check_name']}: {result['exception']!r}" if result["status"] == "failed" else result["check_name"]
        )
        found.setdefault(result["status"], []).append(told)
    assert "failed" not in found, "\n".join(found["failed"])
    assert set(found.get("xfail", [])) == set(not_met)
    assert set(found.get("skipped", [])) <= SKIPPED
    assert len(found["passed"]) > 40
