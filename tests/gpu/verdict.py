"""What is asked of the CuPy backend's speed, and whether measured times keep to it: plain arithmetic.

The targets are in times of cuDNN's through ``torch.nn.LSTM`` in the same precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from recurray.benchmarks.timing import geometric_mean

NO_SLOWER, ON_THE_WHOLE, OF_THE_BEST = 1.05, 0.8, 1.25

RULE = f"""`strategy="auto"` may become the default when one report of `tests/gpu_check.py` from a GPU shows that

1. every comparison and every test has passed, and compute-sanitizer, where it can run, has found nothing;
2. at no size, in no precision, forward or in training, `auto` takes more than {NO_SLOWER} times what `default` takes;
3. `auto` takes at most {ON_THE_WHOLE} of `default`'s time in the geometric mean of all of them;
4. nowhere does `auto` take more than {OF_THE_BEST} times what the fastest strategy takes: the rule chooses well.

Besides, `default` is to take at most {OF_THE_BEST} times what the faster of `step` and `fused` takes."""


def target(batch: int, units: int, dtype: str, layers: int = 1, directions: int = 1) -> float:
    """The most that recurray is to take, in times of cuDNN.

    In float16 cuDNN has kernels that keep the weights on the chip, for one layer and direction of at most 1,024 units.

    Examples
    --------
    >>> target(16, 768, "float16"), target(16, 768, "float32"), target(1, 768, "float16")
    (1.2, 0.7, 0.5)
    """
    if batch == 1:
        return 0.5
    persistent = dtype == "float16" and layers == directions == 1 and batch <= 128 and not batch % 8
    return 1.2 if persistent and units <= 1024 and not units % 128 else 0.7


@dataclass(frozen=True)
class Timed:
    """A size, timed.

    Attributes
    ----------
    size, dtype, mode : str
    auto, default : str
        What the rule chose.
    times : dict of str to float
        Microseconds of a step by contender.
    wrong : dict of str to float
        How far those are off that aren't timed because their numbers are wrong.
    failed : dict of str to str
        Why others aren't timed.
    """

    size: str
    dtype: str
    mode: str
    auto: str
    times: dict[str, float]
    wrong: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    batch: int = 1
    units: int = 1
    layers: int = 1
    directions: int = 1
    default: str = ""

    @staticmethod
    def head(names: Sequence[str]) -> tuple[str, ...]:
        """The heads of the table's columns."""
        return ("B x T x I x H", "precision", "mode", "auto is", "default is", *names, "auto / cuDNN", "at most", "")

    def row(self, names: Sequence[str]) -> tuple[str, ...]:
        """The table's row."""
        most = target(self.batch, self.units, self.dtype, self.layers, self.directions)
        ratio = self.ratio("cuDNN")
        kept = "" if ratio is None else "kept" if ratio <= most else "MISSED"
        cells = [f"{self.times[name]:.2f}" if name in self.times else self._why(name) for name in names]
        shown = "" if ratio is None else f"{ratio:.2f}"
        return self.size, self.dtype, self.mode, self.auto, self.default, *cells, shown, f"{most:g}", kept

    def _why(self, name: str) -> str:
        return f"WRONG by {self.wrong[name]:.1e}" if name in self.wrong else self.failed.get(name, "")

    def ratio(self, other: str) -> float | None:
        """The time of auto by another's; None if one isn't there."""
        times = self.times
        return times["auto"] / times[other] if "auto" in times and other in times else None

    def of_the_best(self, name: str = "auto", among: Sequence[str] = ()) -> float:
        """The time of auto, or of what has a name, by that of the fastest strategy, or of the fastest of some."""
        others = [time for other, time in self.times.items() if other != "cuDNN" and (not among or other in among)]
        return self.times[name] / min(others)


def verdict(timed: Sequence[Timed], failed: Sequence[str]) -> list[str]:
    """Say of each point of `RULE` whether it holds.

    ``failed`` are the titles of the comparisons and tests that have failed, or haven't been run.

    Examples
    --------
    >>> one = Timed("64x512x512x512", "float32", "forward", "persistent", {"auto": 6.0, "default": 18.0})
    >>> verdict([one], [])[1]
    '2. holds: at most 0.33'
    """
    against = [(each, ratio) for each in timed if (ratio := each.ratio("default")) is not None]
    lines = [f"1. DOES NOT HOLD: {', '.join(failed)}" if failed else "1. holds"]
    if not against:
        return [*lines, *(f"{k}. NOT KNOWN: nothing was timed" for k in (2, 3, 4))]
    mean = geometric_mean([ratio for _, ratio in against])
    lines.append(_point(2, against, NO_SLOWER))
    lines.append(f"3. {'holds' if mean <= ON_THE_WHOLE else 'DOES NOT HOLD'}: {mean:.2f}")
    lines.append(_point(4, [(each, each.of_the_best()) for each, _ in against], OF_THE_BEST))
    among = "default", "step", "fused"
    lines.append("")
    lines.append(_point("default", [(each, each.of_the_best("default", among)) for each, _ in against], OF_THE_BEST))
    return lines


def _point(number: int | str, ratios: Sequence[tuple[Timed, float]], most: float) -> str:
    worst, ratio = max(ratios, key=lambda pair: pair[1])
    over, what = sum(each > most for _, each in ratios), f"{number}." if isinstance(number, int) else number
    if not over:
        return f"{what} holds: at most {ratio:.2f}"
    where = f"{worst.size} {worst.dtype} {worst.mode}"
    return f"{what} DOES NOT HOLD: {over} of {len(ratios)} above {most}, {ratio:.2f} at {where}"
