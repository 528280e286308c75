"""Cells and their options, each timed beside the plain LSTM of the same size: ``recurray bench cells``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import recurray as rr
from recurray.arrays import sigmoid, tanh
from recurray.benchmarks.contenders import Job, Own
from recurray.benchmarks.problems import Data, Problem, make_data
from recurray.benchmarks.results import Case
from recurray.benchmarks.tables import NONE, aligned, ratio, seconds
from recurray.benchmarks.timing import Budget, Spread, interleaved, ratios, spread

PLAIN = "LSTM"
SIZES = ("32x100x128x256",)
POINTWISE, NORMALISED = 1.3, 1.6  # the most that a cell is to take on NumPy, in times of the plain LSTM


@dataclass(frozen=True)
class Variant:
    """A cell, or the LSTM with an option.

    Attributes
    ----------
    name : str
    make : callable
        ``make(inputs, hidden, **options)`` returns a layer.
    limit : float
        The ratio to the plain LSTM's time that it is to stay within on NumPy.
    stacks : bool
        Whether it has several layers and directions.
    """

    name: str
    make: Callable[..., rr.Layer]
    limit: float = POINTWISE
    stacks: bool = True


class ByHand(rr.Cell):
    """An LSTM written down as users write theirs, knowing nothing of how it is run."""

    input_gates = recurrent_gates = ("i", "f", "g", "o")
    states = ("h", "c")

    def step(self, x: Any, h: Any, before: Any, params: Any) -> Any:
        """One step from h and c to h and c."""
        i, f, o = sigmoid(x.i + h.i), sigmoid(x.f + h.f), sigmoid(x.o + h.o)
        g = tanh(x.g + h.g)
        c = f * before.c + i * g
        return {"h": o * tanh(c), "c": c}, {"i": i, "f": f, "g": g, "o": o, "c": c}

    def step_backward(self, d: Any, saved: Any, before: Any, params: Any) -> rr.CellGradients:
        """Gradients of the gates' pre-activations and of c before the step."""
        i, f, g, o = saved.i, saved.f, saved.g, saved.o
        tanh_c = tanh(saved.c)
        dc = d.c + d.h * o * (1 - tanh_c**2)
        da = {
            "i": dc * g * i * (1 - i),
            "f": dc * before.c * f * (1 - f),
            "g": dc * i * (1 - g**2),
            "o": d.h * tanh_c * o * (1 - o),
        }
        return rr.CellGradients(x=da, h=da, before={"c": dc * f})


def _option(name: str, limit: float = POINTWISE, **options: Any) -> Variant:
    return Variant(f"{PLAIN}, {name}", partial(rr.LSTM, **options), limit)


def _cell(name: str, cell: rr.Cell) -> Variant:
    return Variant(name, partial(rr.Recurrent, cell))


VARIANTS = (
    _option("peepholes", peepholes=True),
    _option("coupled", coupled=True),
    _option("cell_clip", cell_clip=3.0),
    _option("gate_clip", gate_clip=3.0),
    _option("gate_clip of the gates alone", gate_clip=3.0, clip_output=False),
    _option("hard_sigmoid", gate_activation="hard_sigmoid"),
    _option("softsign", cell_activation="softsign", output_activation="softsign"),
    _option("zoneout", zoneout_h=0.1, zoneout_c=0.1),
    _option("recurrent_dropout", recurrent_dropout=0.2),
    _option("weight_dropout", weight_dropout=0.2),
    _option("learned_state", learned_state=True),
    _option("layer_norm", NORMALISED, layer_norm=True),
    _cell("LSTM written by a user", ByHand()),
    Variant("GRU", rr.GRU),
    Variant("GRU, reset before", partial(rr.GRU, reset_after=False)),
    _cell("MGU", rr.cells.MGUCell()),
    Variant("RNN", rr.RNN),
    Variant("RNN, relu", partial(rr.RNN, nonlinearity="relu")),
    _cell("IndRNN", rr.cells.IndRNNCell()),
    _cell("sLSTM", rr.cells.SLSTMCell()),
    _cell("sLSTM, exponential forget gate", rr.cells.SLSTMCell("exponential")),
    Variant("DiagonalLSTM", rr.DiagonalLSTM, stacks=False),
    Variant("DiagonalLSTM, per gate", partial(rr.DiagonalLSTM, projection="per_gate"), stacks=False),
    Variant("DiagonalLSTM, recurrent_dropout", partial(rr.DiagonalLSTM, recurrent_dropout=0.2), stacks=False),
)


@dataclass(frozen=True)
class Measured:
    """A variant's times beside the plain LSTM's.

    Attributes
    ----------
    variant : Variant
    case : Case
        The size, the mode, the number of threads.
    times, plain : list of float
        The variant's and the plain LSTM's seconds of one call in each turn; equal places belong to one turn.
    gates : float
        How many products with the input and with the output before it has, two being one gate.
    """

    variant: Variant
    case: Case
    times: Sequence[float]
    plain: Sequence[float]
    gates: float

    @property
    def ratio(self) -> Spread:
        """The variant's time over the plain LSTM's, turn by turn."""
        return ratios(self.times, self.plain)

    @property
    def is_over(self) -> bool:
        """Whether it takes more than it is to."""
        return self.ratio.median > self.variant.limit


def measure(case: Case, variant: Variant, own: Own, budget: Budget) -> Measured | None:
    """Time a variant and the plain LSTM in turns; None if the variant doesn't come in that form."""
    problem = case.problem
    if not variant.stacks and (problem.layers > 1 or problem.bidirectional):
        return None
    data = make_data(problem)
    layer = _layer(variant.make, problem, own.backend)
    plain = _layer(rr.LSTM, problem, own.backend)
    with own.threads(case.threads):
        jobs = {name: _job(made, case, data) for name, made in (("plain", plain), ("variant", layer))}
        times = interleaved(jobs, budget)
    gates = (len(layer.cell.input_gates) + len(layer.cell.recurrent_gates)) / 2
    return Measured(variant, case, times["variant"], times["plain"], gates)


def _layer(make: Callable[..., rr.Layer], problem: Problem, backend: rr.Backend) -> Any:
    options: dict[str, Any] = {"batch_first": False, "dtype": problem.array_dtype, "backend": backend, "seed": 0}
    if problem.layers > 1:
        options["num_layers"] = problem.layers
    if problem.bidirectional:
        options["bidirectional"] = True
    return make(problem.inputs, problem.hidden, **options)


def _job(layer: rr.Layer, case: Case, data: Data) -> Job:
    backend, problem = layer.backend, case.problem
    x, dy = backend.asarray(data.x, problem.array_dtype), backend.asarray(data.dy, problem.array_dtype)
    state = None

    def forward() -> Any:
        nonlocal state
        y, end = layer(x, state, data.lengths, **data.gaps)
        if problem.carried:
            state = end
        return y

    def training() -> Any:
        _, _, cache = layer.forward(x, None, data.lengths, **data.gaps)
        return layer.backward(cache, dy)

    def numbers(results: Any) -> dict[str, Any]:
        return {}  # nothing to compare with

    return Job({"forward": forward, "training": training}[case.mode], numbers, synchronize=backend.synchronize)


def table(results: Sequence[Measured]) -> str:
    """Return the table of the results, the plain LSTM's time at the head of each size, mode and number of threads."""
    header = ["cell", "time", f"/ {PLAIN}", "at most", "gates", "/ LSTM per gate"]
    parts = []
    for case in dict.fromkeys(result.case for result in results):
        own = [result for result in results if result.case == case]
        plain = spread([second for result in own for second in result.plain])
        rows = [[PLAIN, seconds(plain.median), "1", NONE, "4", "1"]]
        for result in own:
            per_gate = result.ratio.median * 4 / result.gates
            rows.append(
                [
                    result.variant.name,
                    seconds(spread(result.times).median),
                    ratio(result.ratio),
                    f"{result.variant.limit:g}{': over' if result.is_over else ''}",
                    f"{result.gates:g}",
                    f"{per_gate:.2f}",
                ]
            )
        parts.append(f"{case}\n\n{aligned(header, rows)}")
    return "\n".join(parts)


NOTES = (
    f"Medians; in brackets the quartiles of ratios to the plain {PLAIN}'s time, taken turn by turn.\n"
    "Gates are products of size H with the input and with the output before, one without the other counting half;\n"
    "per gate is the ratio times 4 over the gates. What a cell is to stay within, on NumPy, is the ratio itself.\n"
)
