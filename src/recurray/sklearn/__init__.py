"""Estimators for scikit-learn: sequences in, labels or numbers out.

They need scikit-learn, which is imported when one of the names here is first used.
"""

from typing import TYPE_CHECKING

from recurray import install
from recurray.lazy import lazy

if TYPE_CHECKING:
    from recurray.sklearn.classifier import LSTMClassifier
    from recurray.sklearn.regressor import LSTMRegressor
    from recurray.sklearn.scaler import SequenceScaler

__all__ = ["LSTMClassifier", "LSTMRegressor", "SequenceScaler"]

if not TYPE_CHECKING:
    _get, __dir__ = lazy(
        __name__,
        {"LSTMClassifier": "classifier", "LSTMRegressor": "regressor", "SequenceScaler": "scaler"},
    )

    def __getattr__(name: str) -> object:
        try:
            return _get(name)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "sklearn":
                raise
            missing = f"recurray.sklearn needs scikit-learn, which is missing: {install.with_extra('sklearn')}"
            raise ImportError(missing) from error
