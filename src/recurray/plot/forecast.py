"""A forecast after what it was made from."""

from __future__ import annotations

from typing import Any

import numpy as np

from recurray.arrays import to_numpy
from recurray.messages import in_words
from recurray.plot.drawing import COLOURS, new_figure


def forecast(result: Any, *, actual: Any = None) -> Any:
    """Draw a forecast with its intervals, after the values that were read last.

    Parameters
    ----------
    result : Forecast
        What `recurray.forecast.Forecaster.predict` returned.
    actual : array (horizon,), optional
        What came, where it is known by now; NaN is left out.

    Returns
    -------
    matplotlib.figure.Figure
        Its ``savefig`` writes it to a file.

    Raises
    ------
    ImportError
        matplotlib isn't installed.
    ValueError, TypeError
        ``result`` is no forecast, or ``actual`` isn't as long.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> series = np.sin(np.arange(80) / 3)
    >>> forecaster = rr.forecast.Forecaster(horizon=12, window=20, epochs=2).fit(series)
    >>> rr.plot.forecast(forecaster.predict(series)).savefig("forecast.png")  # doctest: +SKIP
    """
    for name in ("median", "intervals", "past", "target"):
        if not hasattr(result, name):
            raise TypeError(f"expected what Forecaster.predict returned, a Forecast, not {type(result).__name__}")
    if actual is not None:
        actual = to_numpy(actual, "actual")
        if actual.shape != result.median.shape:
            raise ValueError(
                f"actual must be {in_words(result.median.shape)}, a value for each step, not {in_words(actual.shape)}"
            )
    figure = new_figure("forecast", 8.0, 4.0)
    axis = figure.subplots()
    past = np.arange(1 - len(result.past), 1) if result.past_times is None else result.past_times
    ahead = np.arange(1, len(result.median) + 1) if result.times is None else result.times
    axis.plot(past, result.past, color="black", linewidth=1.0, label="past")
    # From the last value on, so that no gap is between them.
    begun = np.concatenate([past[-1:], ahead])
    for number, (percent, (low, high)) in enumerate(result.intervals.items()):
        ends = [np.concatenate([result.past[-1:], end]) for end in (low, high)]
        shade = 0.18 + 0.14 * number
        axis.fill_between(begun, *ends, color=COLOURS[0], alpha=shade, linewidth=0, label=f"{percent:g} % interval")
    axis.plot(
        begun,
        np.concatenate([result.past[-1:], result.median]),
        color=COLOURS[0],
        linewidth=1.6,
        marker="." if len(ahead) <= 3 else None,
        label="forecast",
    )
    if actual is not None:
        axis.plot(
            ahead, actual, color=COLOURS[1], linewidth=1.2, marker="." if len(ahead) <= 3 else None, label="actual"
        )
    axis.set_ylabel(result.target)
    if result.times is None:
        axis.set_xlabel("steps from now")
    axis.legend(fontsize="small", loc="best")
    axis.margins(x=0.01)
    axis.grid(alpha=0.25)
    axis.tick_params(labelsize="small")
    return figure
