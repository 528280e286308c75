"""Cells: the pointwise mathematics of one time step, and its derivative.

`recurray.Recurrent` makes a layer of any of them.
"""

from typing import TYPE_CHECKING

from recurray.lazy import lazy

if TYPE_CHECKING:
    from recurray.cells.cell import Cell, CellGradients, Weights
    from recurray.cells.diagonal_lstm import DiagonalLSTMCell
    from recurray.cells.elman import RNNCell
    from recurray.cells.gru import GRUCell
    from recurray.cells.independent import IndRNNCell
    from recurray.cells.lstm import LSTMCell
    from recurray.cells.lstm_update import Activations
    from recurray.cells.minimal_gated import MGUCell
    from recurray.cells.recurrent_dropout import RecurrentDropoutCell
    from recurray.cells.slstm import SLSTMCell
    from recurray.cells.zoneout import ZoneoutCell

__all__ = [
    "Activations",
    "Cell",
    "CellGradients",
    "DiagonalLSTMCell",
    "GRUCell",
    "IndRNNCell",
    "LSTMCell",
    "MGUCell",
    "RNNCell",
    "RecurrentDropoutCell",
    "SLSTMCell",
    "Weights",
    "ZoneoutCell",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "Activations": "lstm_update",
            "Cell": "cell",
            "CellGradients": "cell",
            "DiagonalLSTMCell": "diagonal_lstm",
            "GRUCell": "gru",
            "IndRNNCell": "independent",
            "LSTMCell": "lstm",
            "MGUCell": "minimal_gated",
            "RNNCell": "elman",
            "RecurrentDropoutCell": "recurrent_dropout",
            "SLSTMCell": "slstm",
            "Weights": "cell",
            "ZoneoutCell": "zoneout",
        },
    )
