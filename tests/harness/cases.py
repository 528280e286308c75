"""Every layer, in the forms that differ: what `test_every_layer` and others run through.

To have a new layer tested, add a `Case`: its constructor, and a formula if there is an independent one. B, T, I and H
differ in all of them, so that no axis can stand in for another.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import recurray as rr
from harness import Case, cells, formulas, lstm_formulas
from harness.cut import by_hand
from recurray.cells import LSTMCell

RAGGED = (3, 0, 5, 1)  # neither sorted nor all above zero
GAPS = ("01101", "00000", "11011", "00010")  # on the left, within, everywhere; some are after the last valid step
CUTS = ("00100", "01000", "11001", "00001")  # at a valid step, in a gap, at the first step, after the last valid step
# Options that a GRU and an RNN have, all together.
EVERYTHING: dict[str, Any] = {
    "num_layers": 2,
    "bidirectional": True,
    "dropout": 0.3,
    "recurrent_dropout": 0.2,
    "weight_dropout": 0.2,
    "zoneout_h": 0.3,
    "learned_state": True,
    "recurrent_init": "orthogonal",
}


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


def gappy(
    name: str,
    make: Any,
    formula: Any = None,
    *,
    gaps: bool = True,
    cuts: bool = True,
    kind: str = "",
    state_given: bool = True,
    **options: Any,
) -> Case:
    """A layer whose rows have gaps, or are cut; its formula is that of rows without, run piece by piece."""
    mask, resets = GAPS if gaps else None, CUTS if cuts else None
    time_first = not options.get("batch_first", True)
    if formula:
        formula = by_hand(formula, mask, resets, kind)
    return Case(
        name,
        partial(make, seed=0, **options),
        formulas.time_first(formula) if time_first and formula else formula,
        batch=4,
        batch_axis=1 if time_first else 0,
        mask=mask,
        resets=resets,
        state_given=state_given,
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
    gappy("lstm with gaps", partial(rr.LSTM, 2, 3), formulas.lstm, cuts=False, num_layers=2, bidirectional=True),
    gappy("lstm cut", partial(rr.LSTM, 2, 3), formulas.lstm, gaps=False, proj_size=2, batch_first=False),
    gappy("lstm with gaps, cut, reverse", partial(rr.LSTM, 2, 3), formulas.lstm, kind="reverse", reverse=True),
    gappy(
        "lstm with gaps, cut, of everything",
        partial(rr.LSTM, 2, 3, num_layers=2, bidirectional=True),
        formulas.lstm,
        proj_size=1,
        learned_state=True,
    ),
    gappy("diagonal with gaps, cut", partial(rr.DiagonalLSTM, 2, 3), formulas.diagonal_lstm, learned_state=True),
    gappy("gru that learns its start, cut", partial(rr.GRU, 2, 3), gaps=False, learned_state=True, state_given=False),
    gappy(
        "recurrent with gaps, cut, every dropout",
        partial(rr.Recurrent, LSTMCell(), 2, 3, num_layers=2, bidirectional=True),
        dropout=0.3,
        recurrent_dropout=0.3,
        weight_dropout=0.3,
    ),
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
    Case("last with gaps", rr.Last, formulas.final(GAPS, False), batch=4, mask=GAPS),
    Case("final", partial(rr.Final, "bidirectional"), formulas.final(GAPS, False, True), batch=4, mask=GAPS),
    Case(
        "final of the reverse, time first",
        partial(rr.Final, "reverse", batch_first=False),
        formulas.time_first(formulas.final(GAPS, True)),
        batch=4,
        batch_axis=1,
        mask=GAPS,
    ),
    Case("mean", rr.Mean, formulas.mean(GAPS), batch=4, mask=GAPS),
    Case("max", rr.Max, formulas.largest(GAPS), batch=4, mask=GAPS),
    Case(
        "sequential with gaps, cut",
        stack(
            partial(rr.Linear, 2, 2, seed=0),
            partial(rr.GRU, 2, 3, bidirectional=True, seed=1),
            partial(rr.Dropout, 0.3, seed=2),
            rr.Final,
            partial(rr.Linear, 6, 2, seed=3),
        ),
        batch=4,
        mask=GAPS,
        resets=CUTS,
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
