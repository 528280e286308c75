"""A network that corrects a line: what it is shown, and what it is to say.

G. P. Zhang, Time Series Forecasting Using a Hybrid ARIMA and Neural Network Model (2003): a linear model first, and a
network for what that leaves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from recurray.forecast.ridge import Ridge
from recurray.forecast.windows import Origins, Scaled, Split, Windows

Floats = NDArray[np.float64]

MOST_WINDOWS = 5000  # that Ridge is fitted to, evenly taken from more


@dataclass(frozen=True)
class Correction:
    """Windows of which Ridge says what comes, and the network by how much that is wrong.

    Attributes
    ----------
    windows : Windows
    line : Ridge
        From all inputs of a window to all steps of its horizon.
    spread : float
        A divisor that brings what the line leaves to the size of 1.
    """

    windows: Windows
    line: Ridge
    spread: float = 1.0

    @classmethod
    def fitted(cls, windows: Windows, line: Ridge, scaled: Scaled, origins: Origins) -> Self:
        """With the spread by which what the line leaves of these windows has a mean square of 1."""
        left = cls(windows, line).targets(scaled, origins)
        return cls(windows, line, float(np.sqrt(np.mean(np.square(left)))) or 1.0)

    @property
    def window(self) -> int:
        """The steps of a window."""
        return self.windows.window

    def inputs(self, scaled: Scaled, origins: Origins) -> Floats:
        """`Windows.inputs`, but that in steps to come the line stands for the target."""
        x = self.windows.inputs(scaled, origins)
        x[:, self.window :, 0] += self.line(flat(x)) * (self.windows.target_spread / self.windows.spread)
        return x

    def targets(self, scaled: Scaled, origins: Origins) -> Floats:
        """What the line leaves of the steps to come: (origins, N)."""
        line = self.line(flat(self.windows.inputs(scaled, origins)))
        return (self.windows.targets(scaled, origins) - line) / self.spread

    def back(self, scaled: Scaled, origins: Origins, said: Any) -> Any:
        """What the network says, (origins, N, ...), and the line, as values of the scaled target."""
        line = self.line(flat(self.windows.inputs(scaled, origins)))
        return self.windows.back(
            scaled, origins, line.reshape(line.shape + (1,) * (said.ndim - 2)) + said * self.spread
        )


def regression(windows: Windows, scaled: Scaled, parts: Split) -> tuple[Ridge, Ridge]:
    """Ridge of what `Windows` says, its alpha chosen on the windows for validation: without these and with them."""
    rows = []
    for origins in parts:
        some = origins[:: -(-len(origins) // MOST_WINDOWS) or 1]
        rows += [flat(windows.inputs(scaled, some)), windows.targets(scaled, some)]
    return Ridge.chosen(*rows)


def flat(x: Floats) -> Floats:
    """Windows as rows of a matrix."""
    return x.reshape(len(x), x.shape[1] * x.shape[2])
