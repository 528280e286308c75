"""Reports as JSON files."""

from __future__ import annotations

import json
import os
from pathlib import Path

from recurray.benchmarks.results import Report, Result

_FORMAT = 1


def save(report: Report, path: Path) -> None:
    """Write a report, in place of the file if there is one, and whole or not at all; a symbolic link is followed."""
    content = {
        "format": _FORMAT,
        "facts": dict(report.facts),
        "results": [result.as_json() for result in report.results],
    }
    path = Path(os.path.realpath(path))
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


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
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            raise ValueError(f"{path} has the format {content['format']!r}, expected {_FORMAT}")
        return Report(dict(content["facts"]), [Result.from_json(result) for result in content["results"]])
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a report that `recurray bench --json` wrote ({error!r})") from error
