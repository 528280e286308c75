"""NumPy as a backend."""

from __future__ import annotations

from typing import Any

import numpy as np

from recurray.backend import Backend


class NumpyBackend(Backend):
    """NumPy on the CPU.

    Parameters
    ----------
    device : "cpu" or None
        NumPy has one device.
    """

    def __init__(self, device: Any = None) -> None:
        if device not in (None, "cpu"):
            raise ValueError(f"NumPy's only device is 'cpu', not {device!r}")
        super().__init__(np)
        self.name = "numpy"
