"""Forecasting: how a series goes on, with quantiles, measured beside simple forecasts.

===============  =======================================================================
``series``       a target at even times with its columns, of arrays, frames and files
``csv_file``     columns of text from a CSV file
``times``        what times say: read, steps, how they go on, the calendar
``scaling``      columns scaled and back, by two numbers
``windows``      what a model is shown, and origins split in the order of time
``ridge``        the regression that a model corrects, and is compared with
``correction``   windows of which a regression says what comes, and a model by how much that is wrong
``learning``     the model and its training
``calibration``  quantiles moved by what windows say that weren't learned from
``fitted``       what is learned, and its file
``forecaster``   `Forecaster`
``backtest``     the comparison
``result``       `Forecast`
===============  =======================================================================
"""

from recurray.forecast.backtest import Backtest
from recurray.forecast.forecaster import Forecaster
from recurray.forecast.result import Forecast
from recurray.forecast.series import Series

__all__ = ["Backtest", "Forecast", "Forecaster", "Series"]
