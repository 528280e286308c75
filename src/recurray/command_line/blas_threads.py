"""``--threads`` of ``recurray train``: how many threads NumPy's matrix products have."""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec

from recurray import Backend, blas, environment, install, processors
from recurray.command_line import options
from recurray.language_model.settings import Number, Settings
from recurray.language_model.training import Training

AUTO = "auto"
_COUNT = Number(int, at_least=1, at_most=1024)
_TURNS, _UPDATES, _SECONDS = 7, 2, 6.0  # of the measurement: no turn begins later

_NOTE = (
    "Note: NumPy's matrix products have as many threads as they like, which is slow where other programs run: set "
    f"OPENBLAS_NUM_THREADS=1 beforehand, or install threadpoolctl: {install.with_extra('train')}"
)


def add_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--threads``."""
    parser.add_argument(
        "--threads",
        metavar="N",
        type=_count,
        help="threads of NumPy's matrix products, on which their last bits depend; auto: as many as a few updates are "
        "fastest with (default: one, unless a variable such as OPENBLAS_NUM_THREADS says how many: several wait for "
        "the slowest of them thousands of times a second, and other programs may keep it from running. The compiled "
        "engine has threads of its own, and its bits don't depend on them)",
    )


def _count(text: str) -> int | str:
    if text == AUTO:
        return text
    try:
        return int(_COUNT.parse(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected {AUTO} or {_COUNT.expected}, got {text}") from None


def by_default() -> int | None:
    """Return how many threads they have where nobody says: 1; None where a variable does, or they can't be set."""
    return None if environment.blas_threads() or find_spec("threadpoolctl") is None else 1


def limited(count: int | None) -> AbstractContextManager[None]:
    """Return a context in which NumPy's matrix products have so many threads, with None as many as they have."""
    return nullcontext() if count is None else blas.limited(count)


def chosen(wanted: int | str | None, text: str, settings: Settings, backend: Backend) -> tuple[int | None, str | None]:
    """Return how many threads to use, see `limited`, and what the user should know of that, if anything."""
    if wanted is None:
        return by_default(), None if find_spec("threadpoolctl") or environment.blas_threads() else _NOTE
    options.need("threadpoolctl", "train", "--threads")
    if isinstance(wanted, int):
        return wanted, None
    times = measure(text, settings, backend, list(_candidates()))
    count = min(times, key=lambda count: times[count])
    told = ", ".join(f"{count} {1e3 * seconds:.1f} ms" for count, seconds in times.items())
    return count, f"Threads of NumPy's matrix products: {count}. An update takes with {told}"


def measure(text: str, settings: Settings, backend: Backend, counts: list[int]) -> Mapping[int, float]:
    """Return the seconds of an update by the number of threads, the medians of some that are made in turn.

    They train a model of their own, which is then dropped.
    """
    trial = dataclasses.replace(settings, epochs=1e6, lr=1e-9)  # one that doesn't end and doesn't diverge
    updates = Training(text, trial, backend).run(measure_every=2**62)
    times: dict[int, list[float]] = {count: [] for count in counts}
    next(updates)
    began = time.perf_counter()
    for turn in range(_TURNS):
        if turn and time.perf_counter() - began > _SECONDS:
            break
        for count in counts:
            with limited(count):
                start = time.perf_counter()
                for _ in range(_UPDATES):
                    next(updates)
                times[count].append((time.perf_counter() - start) / _UPDATES)
    return {count: statistics.median(values) for count, values in times.items()}


def _candidates() -> Iterator[int]:
    """1, 2, 4, ... and all processors."""
    most, count = processors.usable(), 1
    while count < most:
        yield count
        count *= 2
    yield most
