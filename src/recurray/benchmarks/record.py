"""Reports as JSON files."""

from __future__ import annotations

import json
from pathlib import Path

from recurray import files
from recurray.benchmarks.results import Report, Result

_FORMAT = 1
_MOST = 2**27  # bytes of a report


def save(report: Report, path: Path) -> None:
    """Write a report, whole or not at all, in place of the file if there is one; see `recurray.files.Destination`."""
    content = {
        "format": _FORMAT,
        "facts": dict(report.facts),
        "results": [result.as_json() for result in report.results],
    }
    with files.Destination(path) as destination:
        destination.replace((json.dumps(content, indent=1) + "\n").encode())


def load(path: Path) -> Report:
    """Read a report.

    Raises
    ------
    OSError
        The file can't be read.
    ValueError
        It isn't a report, or one of another format.
    """
    try:
        content = json.loads(files.read_bytes(path, _MOST))
        if content["format"] != _FORMAT:
            raise ValueError(f"{path} has the format {content['format']!r}, expected {_FORMAT}")
        return Report(dict(content["facts"]), [Result.from_json(result) for result in content["results"]])
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a report that `recurray bench --json` wrote ({error!r})") from error
