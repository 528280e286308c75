"""Every built-in cell, for tests that go through them all, and the cases of `test_every_layer` made of them.

A new cell is added to `CELLS`, and to `CASES` with a formula.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import numpy as np

import recurray as rr
from harness import Case, cell_formulas, formulas
from recurray.activations import Gelu, HardTanh, Silu
from recurray.cells import (
    Activations,
    Cell,
    DiagonalLSTMCell,
    GRUCell,
    IndRNNCell,
    LSTMCell,
    MGUCell,
    RecurrentDropoutCell,
    RNNCell,
    SLSTMCell,
    ZoneoutCell,
)

CELLS: list[Cell] = [
    LSTMCell(),
    LSTMCell(peepholes=True),
    LSTMCell(coupled=True),
    LSTMCell(cell_clip=0.5, gate_clip=0.7),
    LSTMCell(layer_norm=True),
    LSTMCell(peepholes=True, coupled=True, cell_clip=0.5, gate_clip=0.7, layer_norm=True),
    LSTMCell(activations=Activations(i=HardTanh(), g=Silu(), out=Gelu()), gate_clip=0.7, clip_output=False),
    DiagonalLSTMCell(shared=True),
    DiagonalLSTMCell(shared=False),
    GRUCell(),
    GRUCell(reset_after=False),
    GRUCell(gate_activation=("hard_sigmoid", 0.2), cell_activation="silu", gate_clip=0.7),
    GRUCell(False, "silu", "gelu", gate_clip=0.7),
    RNNCell(),
    RNNCell("relu"),
    RNNCell(("leaky_relu", 0.1)),
    RNNCell("mish", gate_clip=0.7),
    IndRNNCell(),
    IndRNNCell("tanh"),
    IndRNNCell("gelu_tanh"),
    MGUCell(),
    SLSTMCell(),
    SLSTMCell("exponential"),
    ZoneoutCell(LSTMCell(), 0.3, 0.2),
    ZoneoutCell(GRUCell(), 0.3),
    ZoneoutCell(GRUCell(reset_after=False), 0.3),
    ZoneoutCell(SLSTMCell(), zoneout_c=0.2),
    RecurrentDropoutCell(IndRNNCell(), 0.3),
    RecurrentDropoutCell(DiagonalLSTMCell(shared=False, peepholes=True), 0.3),
    ZoneoutCell(RecurrentDropoutCell(DiagonalLSTMCell(shared=True), 0.3), 0.3, 0.2),
]

RAGGED = (3, 0, 5, 1)


def case(name: str, make: Any, formula: Any, *, ragged: bool = True, **options: Any) -> Case:
    """A layer of 2 features and 3 units."""
    time_first = not options.get("batch_first", True)
    return Case(
        name,
        partial(make, seed=0, **options),
        formulas.time_first(formula) if time_first and formula else formula,
        lengths=RAGGED if ragged else None,
        batch=4 if ragged else 3,
        batch_axis=1 if time_first else 0,
    )


def of_cell(name: str, cell: Cell, formula: Any, **options: Any) -> Case:
    """A layer of a cell."""
    return case(name, partial(rr.Recurrent, cell, 2, 3), formula, **options)


CASES = [
    case("gru", partial(rr.GRU, 2, 3), cell_formulas.gru, num_layers=2, bidirectional=True),
    case(
        "gru reset before",
        partial(rr.GRU, 2, 3, reset_after=False),
        cell_formulas.gru_reset_before,
        bidirectional=True,
        batch_first=False,
    ),
    case(
        "gru with recurrent dropout and zoneout",
        partial(rr.GRU, 2, 3, recurrent_dropout=0.3, zoneout_h=0.2),
        cell_formulas.gru_noisy,
        bidirectional=True,
    ),
    case(
        "gru of other activations",
        partial(rr.GRU, 2, 3, gate_activation="HardSigmoid", cell_activation="relu", gate_clip=0.9),
        cell_formulas.gru_of_others,
        num_layers=2,
        bidirectional=True,
        reverse_activations={"cell_activation": "mish"},
    ),
    case(
        "gru reset before of other activations",
        partial(rr.GRU, 2, 3, reset_after=False, gate_activation="softsign", cell_activation="gelu"),
        cell_formulas.gru_reset_before_of_others,
        bidirectional=True,
        reverse_activations={"gate_activation": "tanh", "cell_activation": "gelu_tanh"},
    ),
    case(
        "rnn of other activations",
        partial(rr.RNN, 2, 3, 2, nonlinearity="silu", gate_clip=0.8),
        cell_formulas.rnn_of_others,
        bidirectional=True,
        reverse_activations={"nonlinearity": ("elu", -0.5)},
    ),
    case("rnn", partial(rr.RNN, 2, 3), cell_formulas.rnn, bias=False),
    case("rnn relu", partial(rr.RNN, 2, 3, 2, nonlinearity="relu"), cell_formulas.rnn_relu, ragged=False),
    of_cell("indrnn", IndRNNCell(), cell_formulas.indrnn, num_layers=2),
    of_cell(
        "indrnn with recurrent dropout and zoneout",
        ZoneoutCell(IndRNNCell("tanh"), zoneout_h=0.2),
        cell_formulas.indrnn_noisy,
        num_layers=2,
        bidirectional=True,
        recurrent_dropout=0.3,
    ),
    of_cell(
        "indrnn with another cell in reverse",
        IndRNNCell(),
        cell_formulas.indrnn_of_two_kinds,
        num_layers=2,
        bidirectional=True,
        reverse_cell=IndRNNCell("tanh"),
    ),
    of_cell("mgu", MGUCell(), cell_formulas.mgu, bidirectional=True),
    of_cell("slstm", SLSTMCell(), cell_formulas.slstm, bidirectional=True),
    of_cell("slstm exponential", SLSTMCell("exponential"), cell_formulas.slstm_exponential, num_layers=2),
]


@cache
def at_random(seed: int) -> Case:
    """A layer of any cell, perhaps with zoneout, with any of the options that it can have."""
    rng = np.random.default_rng(seed)

    def perhaps(value: Any, other: Any) -> Any:
        return value if rng.random() < 0.5 else other

    plain = [cell for cell in CELLS if not isinstance(cell, (ZoneoutCell, RecurrentDropoutCell))]
    cell = plain[seed % len(plain)]
    projected = isinstance(cell, (LSTMCell, RNNCell, SLSTMCell)) and perhaps(True, False)  # not what reads its output
    c = perhaps(0.2, 0.0) if "c" in cell.states else 0.0
    cell = perhaps(ZoneoutCell(cell, 0.0 if projected else 0.3, c), cell)
    time_first = perhaps(True, False)
    options = {
        "num_layers": perhaps(2, 1),
        "bidirectional": perhaps(True, False),
        "bias": perhaps(True, False),
        "dropout": perhaps(0.2, 0.0),
        "recurrent_dropout": perhaps(0.3, 0.0),
        "weight_dropout": perhaps(0.4, 0.0),
        "proj_size": 2 if projected else 0,
        "learned_state": perhaps(True, False),
        "recurrent_init": perhaps("orthogonal", "uniform"),
        "batch_first": not time_first,
    }
    if options["num_layers"] == 1:
        options["dropout"] = 0.0  # there is nothing for it to drop
    if options["bidirectional"]:
        form = ("input_gates", "inner_gates", "states", "pointwise", "recurrent_gates", "recurrent_params")
        alike = [other for other in plain if all(getattr(other, name) == getattr(cell, name) for name in form)]
        options["reverse_cell"] = perhaps(alike[rng.integers(len(alike))], None)
    make = partial(rr.Recurrent, cell, 2, 3, **options, seed=0)
    lengths, batch = perhaps((RAGGED, 4), (None, 3))
    return Case(
        f"{seed}: {cell}", make, None, lengths, batch, batch_axis=int(time_first), state_given=perhaps(True, False)
    )
