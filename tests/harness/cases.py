"""Every layer, in the forms that differ: what `test_every_layer` and others run through.

To have a new layer tested, add a `Case`: its constructor, and a formula if there is an independent one. B, T, I and H
differ in all of them, so that no axis can stand in for another.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import recurray as rr
from harness import Case, cells, formulas, lstm_formulas
from recurray.cells import LSTMCell

RAGGED = (3, 0, 5, 1)  # neither sorted nor all above zero


def stack(*layers: Any) -> Any:
    """The constructor of a Sequential, from the constructors of its layers."""
    return lambda **options: rr.Sequential(*(layer(**options) for layer in layers))


def lstm(name: str, *, ragged: bool = False, **options: Any) -> Case:
    """An LSTM with a formula unless it has dropout."""
    batch_first = options.get("batch_first", True)
    formula = formulas.lstm if batch_first else formulas.time_first(formulas.lstm)
    return Case(
        name,
        partial(rr.LSTM, 2, 3, seed=0, **options),
        None if options.get("dropout") else formula,
        lengths=RAGGED if ragged else None,
        batch=4 if ragged else 3,
        batch_axis=0 if batch_first else 1,
    )


RECURRENT = [
    lstm("lstm"),
    lstm("lstm ragged", ragged=True),
    lstm("lstm without bias", bias=False),
    lstm("lstm projected", proj_size=2),
    lstm("lstm time first", ragged=True, batch_first=False),
    lstm("lstm bidirectional", bidirectional=True),
    lstm("lstm of everything", ragged=True, num_layers=2, bidirectional=True, proj_size=1),
    lstm("lstm with dropout", ragged=True, num_layers=3, dropout=0.4),
    Case(
        "recurrent with every dropout",
        partial(
            rr.Recurrent,
            LSTMCell(),
            2,
            3,
            num_layers=2,
            bidirectional=True,
            dropout=0.3,
            recurrent_dropout=0.3,
            weight_dropout=0.3,
            seed=0,
        ),
        lengths=RAGGED,
        batch=4,
    ),
    Case(
        "recurrent that learns its start",
        partial(rr.Recurrent, LSTMCell(), 2, 3, proj_size=2, learned_state=True, seed=0),
        lengths=RAGGED,
        batch=4,
        state_given=False,
    ),
    Case("diagonal", partial(rr.DiagonalLSTM, 2, 3, seed=0), formulas.diagonal_lstm),
    Case("diagonal ragged", partial(rr.DiagonalLSTM, 2, 3, seed=0), formulas.diagonal_lstm, RAGGED, batch=4),
    Case(
        "diagonal per gate",
        partial(rr.DiagonalLSTM, 2, 3, projection="per_gate", batch_first=False, seed=0),
        formulas.time_first(formulas.diagonal_lstm),
        RAGGED,
        batch=4,
        batch_axis=1,
    ),
    *cells.CASES,
]

# For tests of numbers; `test_lstm_variants` compares these with their formulas.
OPTIONS = list(lstm_formulas.every_option())

STATELESS = [
    Case("linear", partial(rr.Linear, 2, 4, seed=0), formulas.linear),
    Case("linear without bias", partial(rr.Linear, 2, 4, bias=False, seed=0), formulas.linear),
    Case("embedding", partial(rr.Embedding, 6, 2, seed=0), formulas.embedding),
    Case("dropout", partial(rr.Dropout, 0.4, seed=0)),
    Case("layer norm", partial(rr.LayerNorm, 4), formulas.layer_norm),
    *(Case(f"merge {mode}", partial(rr.Merge, mode), formulas.merge(mode)) for mode in ("sum", "ave", "mul")),
    *(
        Case(f"activation {name}", partial(rr.Activation, name), formulas.elementwise(function))
        for name, function in formulas.ACTIVATIONS.items()
    ),
]

OTHERS = [
    Case("last", rr.Last, formulas.last),
    Case("last ragged", rr.Last, formulas.last, RAGGED, batch=4),
    Case(
        "last time first",
        partial(rr.Last, batch_first=False),
        formulas.time_first(formulas.last),
        RAGGED,
        batch=4,
        batch_axis=1,
    ),
    Case(
        "sequential",
        stack(
            partial(rr.Embedding, 6, 2, seed=0),
            partial(rr.LSTM, 2, 3, seed=1),
            partial(rr.Dropout, 0.3, seed=2),
            partial(rr.LayerNorm, 3),
            partial(rr.DiagonalLSTM, 3, 4, seed=3),
            rr.Last,
            partial(rr.Activation, "tanh"),
            partial(rr.Linear, 4, 2, seed=4),
        ),
        lengths=RAGGED,
        batch=4,
    ),
    Case(
        "sequential merged",
        stack(
            partial(rr.LSTM, 2, 3, bidirectional=True, seed=0),
            partial(rr.Merge, "mul"),
            partial(rr.GRU, 3, 2, bidirectional=True, seed=1),
            partial(rr.Merge, "ave"),
        ),
        lengths=RAGGED,
        batch=4,
    ),
    Case(
        "sequential nested",
        stack(
            partial(rr.LSTM, 2, 3, bidirectional=True, seed=0),
            stack(partial(rr.Activation, "relu"), partial(rr.LSTM, 6, 2, seed=1)),
        ),
    ),
]

CASES = [*RECURRENT, *STATELESS, *OTHERS]
