"""What it costs to import recurray, beside NumPy and other libraries: ``recurray bench import``."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec

from recurray.benchmarks.tables import NONE, aligned, seconds
from recurray.benchmarks.timing import CLOCKS, spread

REPEATS = 20
BASE = "numpy"
STATEMENTS = {
    BASE: "import numpy",
    "recurray": "import numpy, recurray",
    "recurray.LSTM": "import numpy, recurray; recurray.LSTM",
    "recurray.LSTM(1, 1)": "import numpy, recurray; recurray.LSTM(1, 1)",
    "all of recurray": "from recurray import *",
    "onnxruntime": "import onnxruntime",
    "torch": "import torch",
}


def statements() -> dict[str, str]:
    """Return what is imported, by the names that the table has for it; of other libraries, those that are installed."""
    others = ("onnxruntime", "torch")
    return {name: code for name, code in STATEMENTS.items() if name not in others or find_spec(name) is not None}


def measure(
    repeats: int = REPEATS, clock: str = "wall", progress: Callable[[int], object] = lambda turn: None
) -> dict[str, list[float]]:
    """Import in turns, each time in a new process, from compiled files that the system has just read.

    Returns
    -------
    dict of str to list of float
        Seconds in each turn, without those that Python takes to start: equal places belong to one turn.
    """
    codes = statements()
    times: dict[str, list[float]] = {name: [] for name in codes}
    with tempfile.TemporaryDirectory() as folder:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = folder
        for turn in range(repeats + 1):
            progress(turn)
            for name, code in codes.items():
                value = _seconds(code, clock, environment)
                if turn:  # the first one compiles
                    times[name].append(value)
    return times


def _seconds(code: str, clock: str, environment: Mapping[str, str]) -> float:
    now = f"time.{CLOCKS[clock].__name__}()"
    script = f"import time; began = {now}; {code}; print({now} - began)"
    done = subprocess.run(  # noqa: S603 - our own
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def table(times: Mapping[str, Sequence[float]]) -> str:
    """Return the table of the times, with the differences to NumPy's, turn by turn."""
    rows = []
    for name, values in times.items():
        more = spread([1e3 * (value - base) for value, base in zip(values, times[BASE], strict=True)])
        beyond = NONE if name == BASE else f"{more.median:.0f} ms ({more.low:.0f} to {more.high:.0f})"
        rows.append([name, STATEMENTS[name], seconds(spread(values).median), beyond])
    return aligned(["what", "statement", "time", f"beyond {BASE}"], rows, left=2)


NOTES = (
    "- Medians; in brackets the quartiles of differences taken turn by turn. Each import is in a process of its own,\n"
    "  from compiled files; the time that Python takes to start isn't in it.\n"
)
