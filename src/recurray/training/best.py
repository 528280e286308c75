"""Which row of the history is the best, the params that it had, and when to give up waiting for a better one."""

from __future__ import annotations

import math
from typing import Any

from recurray.arrays import Array, namespace_of
from recurray.training.history import History, Row


class Best:
    """The best row so far.

    Parameters
    ----------
    monitor : str
        The column that decides.
    mode : {"min", "max"}
        Whether the smallest or the largest is the best.
    patience : int or None
        So many rows without a better one end the training.
    keep_params : bool
        Whether the params of the best row are kept.

    Attributes
    ----------
    params : dict or None
        Copies of the best row's params.
    waited : int
        Rows since the best one.
    """

    def __init__(self, monitor: str, mode: str, patience: int | None, keep_params: bool) -> None:
        self.monitor, self.mode, self.patience, self.keep_params = monitor, mode, patience, keep_params
        self.params: dict[str, Array] | None = None
        self.waited = 0

    def value(self, row: Row) -> float:
        """What a row has in the monitored column."""
        if self.monitor not in row:
            raise ValueError(
                f"monitor must be a column of the history, one of {', '.join(map(repr, row))}, not {self.monitor!r}"
            )
        number = row[self.monitor]
        return math.nan if number is None else float(number)

    def look(self, history: History, params: Any) -> bool:
        """Take the history's last row into account; tell whether it is the best."""
        new = self.value(history.rows[-1])
        old = math.nan if history.best is None else self.value(history.rows[history.best])
        better = math.isnan(old) or (new < old if self.mode == "min" else new > old)
        if not better or math.isnan(new):
            self.waited += 1
            return False
        history.best, self.waited = len(history) - 1, 0
        if self.keep_params:
            self.params = {name: namespace_of(value).asarray(value, copy=True) for name, value in params.items()}
        return True

    @property
    def over(self) -> bool:
        """Whether patience has come to its end."""
        return self.patience is not None and self.waited >= self.patience

    def restore(self, params: Any) -> None:
        """Put the best row's params back."""
        for name, value in (self.params or {}).items():
            params[name] = namespace_of(value).asarray(value, copy=True)
