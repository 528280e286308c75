"""The problems that are timed, as data: sizes, and what of a recurrent layer each exercises.

T time, B batch, I input, H hidden units, D directions. Arrays are time-major, (T, B, features), for every
library: it is the layout in which none of them has to move anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import recurray as rr
from recurray.benchmarks.kinds import KINDS

MODES = ("forward", "training")
GAPS = ("holes", "left", "resets")
HOLES, CUT_EVERY = 0.3, 40  # how much of the steps holes are, and how many steps are between two cuts, on average
HALVES = ("float16", "bfloat16")
DTYPES = ("float32", "float64", *HALVES)


@dataclass(frozen=True)
class Problem:
    """A layer and what it is fed with.

    Attributes
    ----------
    batch, steps, inputs, hidden : int
        B, T, I, H.
    layers : int
    bidirectional : bool
    ragged : bool
        Whether rows end early, so that half of all steps are padding.
    gaps : str
        Empty; or "holes", so that three in ten steps, anywhere, aren't valid; "left", so that rows begin late, half of
        all steps being padding; "resets", so that rows are cut every 40 steps on average.
    carried : bool
        Whether each call starts with the state that the one before ended with.
    dtype : str
        One of `DTYPES`. In half precision recurray's arrays are float32, and the operands of its products are rounded;
        PyTorch's are of that precision altogether.
    layer : str
        The kind of layer, a name in `KINDS`.
    linear : int
        If not 0, a `Linear` of so many features comes after it; in inference alone.

    Examples
    --------
    >>> from recurray.benchmarks.problems import Problem
    >>> problem = Problem(32, 100, 128, 256, layers=2, bidirectional=True)
    >>> problem.name
    '32x100x128x256 2 layers both directions'
    >>> problem.flops("training") == 3 * problem.flops("forward")
    True
    """

    batch: int
    steps: int
    inputs: int
    hidden: int
    layers: int = 1
    bidirectional: bool = False
    ragged: bool = False
    gaps: str = ""
    carried: bool = False
    dtype: str = "float32"
    layer: str = "lstm"
    linear: int = 0

    @property
    def name(self) -> str:
        """What tables call it."""
        words = [f"{self.batch}x{self.steps}x{self.inputs}x{self.hidden}"]
        if self.layers > 1:
            words.append(f"{self.layers} layers")
        words += ["both directions"] if self.bidirectional else []
        words += ["ragged"] if self.ragged else []
        words += [self.gaps] if self.gaps else []
        words += ["state carried"] if self.carried else []
        words += [self.dtype] if self.dtype != "float32" else []
        words += [self.layer] if self.layer != "lstm" else []
        words += [f"and linear {self.linear}"] if self.linear else []
        return " ".join(words)

    @property
    def array_dtype(self) -> str:
        """The precision of recurray's arrays."""
        return "float32" if self.dtype in HALVES else self.dtype

    @property
    def compute_dtype(self) -> str | None:
        """What recurray's products round their operands to, if they do."""
        return self.dtype if self.dtype in HALVES else None

    @property
    def directions(self) -> int:
        """1, or 2 where bidirectional."""
        return 2 if self.bidirectional else 1

    @property
    def modes(self) -> tuple[str, ...]:
        """The modes that make sense: a state carried from call to call is a matter of inference."""
        return MODES[:1] if self.carried or self.linear else MODES

    @property
    def outputs(self) -> int:
        """Features of the output."""
        return self.linear or self.directions * self.hidden

    def lengths(self) -> list[int] | None:
        """How many steps of each row are valid, longest row first (PyTorch's quick case); None where all are.

        Examples
        --------
        >>> from recurray.benchmarks.problems import Problem
        >>> Problem(3, 9, 4, 4, ragged=True).lengths()
        [9, 5, 1]
        """
        return self._falling() if self.ragged else None

    def _falling(self) -> list[int]:
        return [round(float(length)) for length in np.linspace(self.steps, 1, self.batch)]

    def mask(self) -> Any:
        """Which steps are valid, (T, B), where that isn't said by lengths; None where it is.

        Examples
        --------
        >>> from recurray.benchmarks.problems import Problem
        >>> Problem(3, 5, 4, 4, gaps="left").mask().astype(int).T.tolist()
        [[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [0, 0, 0, 0, 1]]
        """
        if self.gaps == "left":
            return np.arange(self.steps)[:, None] >= self.steps - np.array(self._falling())
        if self.gaps == "holes":
            return np.random.default_rng(1).random((self.steps, self.batch)) >= HOLES
        return None

    def resets(self) -> Any:
        """Before which steps rows are cut, (T, B); None where they aren't."""
        if self.gaps != "resets":
            return None
        return np.random.default_rng(2).random((self.steps, self.batch)) < 1 / CUT_EVERY

    def valid(self) -> int:
        """How many steps are valid, of all rows together."""
        lengths, mask = self.lengths(), self.mask()
        if mask is not None:
            return int(mask.sum())
        return self.batch * self.steps if lengths is None else sum(lengths)

    def without_gaps(self) -> Problem:
        """The problem of as many valid steps whose rows have no gaps: with "left" the padding is at the end.

        Examples
        --------
        >>> from recurray.benchmarks.problems import Problem
        >>> [Problem(3, 50, 4, 4, gaps=gaps).without_gaps().name for gaps in ("holes", "left", "resets")]
        ['3x35x4x4', '3x50x4x4 ragged', '3x50x4x4']
        """
        steps = max(1, round(self.valid() / self.batch)) if self.gaps == "holes" else self.steps
        return replace(self, gaps="", steps=steps, ragged=self.ragged or self.gaps == "left")

    def make_layer(self, backend: Any, **options: Any) -> rr.Layer:
        """Make recurray's layer, time-major."""
        kind = KINDS[self.layer]
        if kind.stacks:
            options |= {"num_layers": self.layers, "bidirectional": self.bidirectional}
        options |= {"batch_first": False, "dtype": self.array_dtype, "backend": backend}
        layer = kind.layer(self.inputs, self.hidden, **options)
        if not self.linear:
            return layer
        given = {"backend": backend, "dtype": self.array_dtype}
        return rr.Sequential(
            layer, rr.Linear(self.directions * self.hidden, self.linear, seed=options.get("seed"), **given)
        )

    def flops(self, mode: str) -> int:
        """Floating-point operations of the matrix products over valid steps; 3 times the forward's for training.

        Examples
        --------
        >>> from recurray.benchmarks.problems import Problem
        >>> Problem(2, 3, 5, 7).flops("forward") == 2 * 3 * 2 * 4 * 7 * (5 + 7)
        True
        """
        rows, count, features = self.valid(), 0, self.inputs
        for _ in range(self.layers):
            count += self.directions * rows * KINDS[self.layer].flops(features, self.hidden)
            features = self.directions * self.hidden
        count += 2 * rows * features * self.linear
        return count * (3 if mode == "training" else 1)


_MIDDLE = Problem(32, 100, 128, 256)

# By the names that --sizes takes.
PROBLEMS: dict[str, Problem] = {
    "step": Problem(1, 1, 64, 128),
    "stream": Problem(1, 1, 64, 128, carried=True),
    "1x100x64x128": Problem(1, 100, 64, 128),
    "1x512x64x256": Problem(1, 512, 64, 256),
    "32x50x128x128": Problem(32, 50, 128, 128),
    "32x100x128x256": _MIDDLE,
    "64x100x256x512": Problem(64, 100, 256, 512),
    "128x50x512x1024": Problem(128, 50, 512, 1024),
    "bidirectional": replace(_MIDDLE, layers=2, bidirectional=True),
    "stack": replace(_MIDDLE, layers=4),
    "ragged": replace(_MIDDLE, ragged=True),
    "float64": replace(_MIDDLE, dtype="float64"),
    "gru": replace(_MIDDLE, layer="gru"),
    "diagonal": replace(_MIDDLE, layer="diagonal"),
    "diagonal-row": Problem(1, 512, 64, 256, layer="diagonal"),
    "ragged-small": Problem(32, 200, 10, 20, ragged=True),
    "ragged-long": Problem(16, 1000, 64, 128, ragged=True),
    **{gaps: replace(_MIDDLE, gaps=gaps) for gaps in GAPS},
    "rollout": Problem(8, 128, 64, 256, gaps="resets"),  # as reinforcement learning has them
}
QUICK = ("stream", "1x100x64x128", "32x50x128x128", "32x100x128x256")


def _gpu(batch: int, hidden: int, **options: Any) -> Problem:
    return Problem(batch, 512, hidden, hidden, **options)


# What a GPU is measured by, the most telling sizes first: rows from 1 to 256, units from 128 to 2,048.
GPU = (
    _gpu(64, 512),
    _gpu(1, 512),
    _gpu(64, 1024),
    _gpu(1, 1024),
    _gpu(64, 512, layers=4),
    _gpu(64, 512, bidirectional=True),
    _gpu(1, 512, layers=4),
    _gpu(1, 512, bidirectional=True),
    _gpu(64, 128),
    _gpu(1, 128),
    _gpu(1, 2048),
    _gpu(64, 2048),
    _gpu(16, 256),
    _gpu(256, 512),
    _gpu(256, 1024),
)
GPU_LAYERS = (_gpu(16, 256, layers=4), _gpu(1, 128, layers=4))  # small enough to run at the same time
GPU_DIAGONAL = tuple(
    Problem(batch, steps, inputs, hidden, layer="diagonal")
    for batch, steps, inputs, hidden in [(32, 1024, 256, 1024), (32, 4096, 256, 1024), (8, 65536, 64, 512)]
)
SMALL = (
    Problem(1, 1, 20, 20),
    Problem(1, 2, 8, 20),
    Problem(1, 5, 50, 50),
    Problem(1, 5, 50, 50, bidirectional=True),
    Problem(1, 32, 1, 20),
    Problem(4, 16, 16, 32),
    Problem(1, 1, 20, 20, linear=10),
)

GROUPS: dict[str, tuple[Problem, ...]] = {
    "all": tuple(PROBLEMS.values()),
    "quick": tuple(PROBLEMS[name] for name in QUICK),
    "gaps": tuple(PROBLEMS[name] for name in (*GAPS, "rollout")),
    "small": SMALL,
    "gpu": GPU,
    "gpu-both": tuple(problem for problem in GPU if problem.bidirectional),
    "gpu-layers": (*(problem for problem in GPU if problem.layers > 1), *GPU_LAYERS),
    "gpu-diagonal": GPU_DIAGONAL,
}


def select(wanted: Sequence[str], layer: str | None = None, dtypes: Sequence[str] | None = None) -> list[Problem]:
    """Return the problems that ``--sizes`` asks for, each once.

    Parameters
    ----------
    wanted : sequence of str
        Names, their numbers from 1, groups ("quick", "all", ...), or sizes as "B,T,I,H".
    layer : str, optional
        In place of the problems' own. Problems that the layer can't be given (a stack of what doesn't stack) are
        left out.
    dtypes : sequence of str, optional
        In place of the problems' own: each problem in each of these.

    Raises
    ------
    ValueError
        Nothing is called that, or nothing is left.

    Examples
    --------
    >>> from recurray.benchmarks.problems import select
    >>> [problem.name for problem in select(["ragged", "5", "8,20,16,32"])]
    ['32x100x128x256 ragged', '32x50x128x128', '8x20x16x32']
    """
    found: list[Problem] = []
    for word in wanted:
        found += _find(word)
    result = []
    for problem in found:
        for dtype in dtypes or [problem.dtype]:
            wanted_problem = replace(problem, layer=layer or problem.layer, dtype=dtype)
            stacked = problem.layers > 1 or problem.bidirectional
            if wanted_problem not in result and (KINDS[wanted_problem.layer].stacks or not stacked):
                result.append(wanted_problem)
    if not result:
        raise ValueError(f"none of the sizes {', '.join(map(repr, wanted))} can be had with the layer {layer!r}")
    return result


def _find(word: str) -> list[Problem]:
    names = list(PROBLEMS)
    if word in GROUPS:
        return list(GROUPS[word])
    if word in PROBLEMS:
        return [PROBLEMS[word]]
    if word.isdecimal() and 1 <= int(word) <= len(names):
        return [PROBLEMS[names[int(word) - 1]]]
    parts = word.replace("x", ",").strip("()").split(",")
    if len(parts) == 4 and all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        batch, steps, inputs, hidden = (int(part) for part in parts)
        return [Problem(batch, steps, inputs, hidden)]
    known = ", ".join(f"{number} {name}" for number, name in enumerate(names, start=1))
    raise ValueError(
        f"there is no size {word!r}; there are {known}, {', '.join(GROUPS)}, and any B,T,I,H of whole numbers"
    )


@dataclass(frozen=True)
class Data:
    """A problem's numbers, as NumPy arrays.

    Attributes
    ----------
    params : dict of str to array
        Named as recurray's layers name them (PyTorch's names for an LSTM); those of a `Linear` after it "linear.weight"
        and "linear.bias".
    x, dy : array, (T, B, features)
        The input, and the gradient of the output.
    h, c : array, (layers * D, B, H), or None
        The start state where it is carried; None stands for zeros.
    lengths : list of int or None
    gaps : dict of str to array
        By the argument of a layer's call, "mask" and "resets", (T, B), where the problem has them.
    """

    params: dict[str, Any]
    x: Any
    dy: Any
    h: Any
    c: Any
    lengths: list[int] | None
    gaps: dict[str, Any]


def make_data(problem: Problem) -> Data:
    """Draw a problem's numbers."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> Any:
        return rng.standard_normal(shape).astype(problem.array_dtype)

    params = problem.make_layer("numpy", seed=0).state_dict()
    if problem.linear:
        params = {name.removeprefix("0.").replace("1.", "linear."): value for name, value in params.items()}
    places = problem.directions * problem.layers
    h, c = (
        0.5 * draw(places, problem.batch, problem.hidden) if problem.carried and wanted else None
        for wanted in (True, KINDS[problem.layer].has_c)
    )
    return Data(
        params=params,
        x=draw(problem.steps, problem.batch, problem.inputs),
        dy=draw(problem.steps, problem.batch, problem.outputs),
        h=h,
        c=c,
        lengths=problem.lengths(),
        gaps={name: a for name, a in (("mask", problem.mask()), ("resets", problem.resets())) if a is not None},
    )
