"""What was measured: block times of every contender on a problem, and the ratios that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from recurray.benchmarks.contenders.product import FLOPS
from recurray.benchmarks.kinds import KINDS
from recurray.benchmarks.problems import Problem
from recurray.benchmarks.timing import Spread, ratios, spread

OWN, PRODUCT = "recurray", "matmul"  # the two that every measurement has
WITHOUT_GAPS = "without gaps"  # recurray on rows without gaps, of as many valid steps, beside those that have gaps


@dataclass(frozen=True)
class Case:
    """A problem, whether its gradients are wanted too, and with how many threads.

    Attributes
    ----------
    problem : Problem
    mode : str
        "forward" or "training".
    threads : int
    """

    problem: Problem
    mode: str
    threads: int

    def __str__(self) -> str:
        return f"{self.problem.name}, {self.mode}, {self.threads} thread{'s' if self.threads > 1 else ''}"


@dataclass(frozen=True)
class Result:
    """The times of one case.

    Attributes
    ----------
    case : Case
    times : dict of str to list of float
        By contender, the seconds of one call in each turn; equal places belong to one turn.
    left_out : dict of str to str
        Why a contender wasn't timed.
    differs : dict of str to str
        In what a contender's numbers aren't recurray's; it wasn't timed either.
    deviation : dict of str to float
        The largest difference of the numbers of those that were, relative to the largest number of its array.

    Examples
    --------
    >>> from recurray.benchmarks.problems import Problem
    >>> from recurray.benchmarks.results import Case, Result
    >>> case = Case(Problem(8, 10, 4, 16), "forward", threads=1)
    >>> Result(case, {"recurray": [2.0, 3.0, 2.0], "torch": [4.0, 4.0, 4.0]}).ratio("torch").median
    0.5
    """

    case: Case
    times: Mapping[str, list[float]]
    left_out: Mapping[str, str] = field(default_factory=dict)
    differs: Mapping[str, str] = field(default_factory=dict)
    deviation: Mapping[str, float] = field(default_factory=dict)

    def time(self, name: str) -> Spread | None:
        """Return a contender's seconds for one call; None if it wasn't timed."""
        return spread(self.times[name]) if name in self.times else None

    def ratio(self, name: str) -> Spread | None:
        """Return recurray's time over a contender's, turn by turn: below 1 recurray is faster."""
        if name not in self.times:
            return None
        return ratios(self.times[OWN], self.times[name])

    @property
    def share(self) -> Spread | None:
        """The share of the rate of the process's own matrix product that recurray reached; None for other work."""
        if not KINDS[self.case.problem.layer].products_dominate or PRODUCT not in self.times:
            return None
        work = self.case.problem.flops(self.case.mode) / FLOPS
        pairs = zip(self.times[OWN], self.times[PRODUCT], strict=True)
        return spread([work * product / own for own, product in pairs])

    def as_json(self) -> dict[str, Any]:
        """Return the result in types that JSON has; the medians are there for readers and aren't read back."""
        return {
            "problem": asdict(self.case.problem),
            "mode": self.case.mode,
            "threads": self.case.threads,
            "seconds": {name: list(values) for name, values in self.times.items()},
            "median_seconds": {name: spread(values).median for name, values in self.times.items()},
            "left_out": dict(self.left_out),
            "differs": dict(self.differs),
            "deviation": dict(self.deviation),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Return the result that `as_json` wrote."""
        case = Case(Problem(**value["problem"]), str(value["mode"]), int(value["threads"]))
        return cls(case, value["seconds"], value["left_out"], value["differs"], value["deviation"])


@dataclass(frozen=True)
class Report:
    """A whole run.

    Attributes
    ----------
    facts : dict of str to str
        What it was measured on and with.
    results : list of Result
    """

    facts: Mapping[str, str]
    results: list[Result]

    @property
    def others(self) -> list[str]:
        """The contenders beside recurray and the product, in the order they came up."""
        names = [name for result in self.results for name in (*result.times, *result.differs, *result.left_out)]
        return [name for name in dict.fromkeys(names) if name not in (OWN, PRODUCT)]
