"""Cells: the pointwise mathematics of one time step, and its derivative.

`recurray.Recurrent` makes a layer of any of them.
"""

from recurray.cells.cell import Cell, CellGradients, Weights
from recurray.cells.diagonal_lstm import DiagonalLSTMCell
from recurray.cells.elman import RNNCell
from recurray.cells.gru import GRUCell
from recurray.cells.independent import IndRNNCell
from recurray.cells.lstm import LSTMCell
from recurray.cells.minimal_gated import MGUCell
from recurray.cells.recurrent_dropout import RecurrentDropoutCell
from recurray.cells.slstm import SLSTMCell
from recurray.cells.zoneout import ZoneoutCell

__all__ = [
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
