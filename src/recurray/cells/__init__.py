"""Cells: the pointwise mathematics of one time step, and its derivative."""

from recurray.cells.cell import Cell, CellGradients, Weights
from recurray.cells.diagonal_lstm import DiagonalLSTMCell
from recurray.cells.lstm import LSTMCell

__all__ = ["Cell", "CellGradients", "DiagonalLSTMCell", "LSTMCell", "Weights"]
