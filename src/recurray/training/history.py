"""The table of a training: a row for each epoch."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from recurray import files
from recurray.files import FormatError
from recurray.messages import shown

Row = dict[str, float | int | None]


class History(Sequence[Row]):
    """What a training did: a table with a row for each epoch, or every so many updates.

    Parameters
    ----------
    rows : iterable of mappings, optional
        Rows to begin with.

    Attributes
    ----------
    rows : list of dict
        The rows. ``epoch`` (the number of epochs begun) and ``step`` (updates done) say when; ``loss`` and the metrics
        are means over what was trained on since the row before; ``validation_loss`` and so on are those of the
        validation's data; ``lr`` is the learning rate of the last update, ``grad_norm`` the mean norm of the
        gradients before clipping, ``seconds`` the time since the training began.
    best : int or None
        The place of the best row by the monitored column; None where there is no row.
    stopped : str or None
        What ended the training: "finished", "patience", "callback" or "interrupted"; None before the end.

    Examples
    --------
    >>> import recurray as rr
    >>> history = rr.History([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}])
    >>> history["loss"], history[-1]
    ([0.5, 0.25], {'epoch': 2, 'loss': 0.25})
    >>> print(history.to_csv())
    epoch,loss
    1,0.5
    2,0.25
    <BLANKLINE>
    """

    def __init__(self, rows: Any = ()) -> None:
        self.rows: list[Row] = [dict(row) for row in rows]
        self.best: int | None = None
        self.stopped: str | None = None

    @property
    def columns(self) -> list[str]:
        """The names of the columns, in the order in which they first appear."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def __getitem__(self, which: Any) -> Any:
        """A column by its name, a list with None where a row lacks it; or a row by its place."""
        if not isinstance(which, str):
            return self.rows[which]
        if which not in self.columns:
            known = ", ".join(map(repr, self.columns)) or "none yet"
            raise KeyError(f"the history has no column {shown(which)}; its columns: {known}")
        return [row.get(which) for row in self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def to_csv(self, path: str | Path | None = None) -> str:
        """Return the table as CSV, with a header; write it to ``path`` where one is given, whole or not at all."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        columns = self.columns
        writer.writerow(columns)
        writer.writerows(["" if row.get(name) is None else row[name] for name in columns] for row in self.rows)
        return _written(out.getvalue(), path)

    def to_jsonl(self, path: str | Path | None = None) -> str:
        """Return the table as JSON lines, an object for each row; write it to ``path`` where one is given."""
        return _written("".join(json.dumps(row) + "\n" for row in self.rows), path)

    @classmethod
    def from_jsonl(cls, path: str | Path) -> History:
        """Read what `to_jsonl` wrote.

        Raises
        ------
        FormatError
            A line isn't an object of numbers.
        OSError
            The file can't be read.
        """
        with files.reading(path, "the history"):
            text = Path(path).read_bytes().decode("utf-8", "replace")
        rows = []
        for number, line in enumerate(text.splitlines(), 1):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if not isinstance(row, Mapping) or not all(
                value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
                for value in row.values()
            ):
                raise FormatError(f"{path}, line {number}: expected an object of numbers, not {shown(line)}")
            rows.append(row)
        return cls(rows)

    def __repr__(self) -> str:
        last = ", ".join(
            f"{name} {value:.4g}" for name, value in (self.rows[-1] if self.rows else {}).items() if value is not None
        )
        return f"History({len(self)} rows{': ' + last if last else ''})"


def _written(text: str, path: str | Path | None) -> str:
    if path is not None:
        with files.Destination(path) as destination:
            destination.replace(text.encode())
    return text
