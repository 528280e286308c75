"""What a contender is: a library that can be given a problem and timed on it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from recurray.benchmarks.problems import Data, Problem


def nothing() -> None:
    """Do nothing: a CPU library's calls are done when they return."""


@dataclass(frozen=True)
class Job:
    """Work that is ready to be timed.

    Attributes
    ----------
    call : callable
        Does the work once and returns its results, on whatever device. Where state is carried, the first call
        starts with the problem's.
    numbers : callable
        Turns what ``call`` returned into NumPy arrays by name: y, h and c in mode forward; y, dx and the params'
        gradients in mode training.
    around : callable
        Makes a context in which ``call`` runs (PyTorch's inference mode).
    synchronize : callable
        Waits until the device has done what it was given.
    """

    call: Callable[[], Any]
    numbers: Callable[[Any], dict[str, Any]]
    around: Callable[[], AbstractContextManager[Any]] = nullcontext
    synchronize: Callable[[], None] = nothing


class Contender(ABC):
    """A library that can be timed on a problem.

    Attributes
    ----------
    name : str
        What tables and ``--against`` call it.
    """

    name: str

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages to install for it, by the names they are imported by; it is used only where all are there."""
        return ()

    def unavailable(self) -> str | None:
        """Return why it can't be used on this machine though its packages are there; None if it can."""
        return None

    def describe(self) -> str:
        """Return its version and what else its speed depends on; empty where the header says it already."""
        return ""

    def refuses(self, problem: Problem, mode: str) -> str | None:
        """Return why it can't be given a problem, None if it can."""
        return None

    def threads(self, count: int) -> AbstractContextManager[Any]:
        """Return a context in which its work uses ``count`` threads."""
        return nullcontext()

    @abstractmethod
    def prepare(self, problem: Problem, mode: str, data: Data, threads: int) -> Job:
        """Move the numbers to where it works and make everything ready that isn't to be timed."""
